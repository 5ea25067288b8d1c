//! Events as tables: for libraries that read Arrow, and as Parquet files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyString};
use zero_bus::Json;
use zero_tables::export::{EVENTS_PER_FILE, ExportError, Exported, export, open_directory};
use zero_tables::{Batches, TABLES, arrow};

use crate::directory::open_reader;
use crate::error;
use crate::event::from_canonical;
use crate::wait::interruptible;

/// A table of a log, up to the end that the log had when the table was created. Any library that
/// reads Arrow takes it, as often as it likes; each reading verifies the events anew.
#[pyclass(frozen, module = "zero_bus")]
pub(crate) struct Table {
    reader: zero_bus::Reader,
    table: &'static zero_tables::Table,
    first: u64,
    last: u64,
}

impl Table {
    /// The rows of the events from index `first` up to index `last`.
    pub(crate) fn new(
        reader: zero_bus::Reader,
        table: &'static zero_tables::Table,
        first: u64,
        last: u64,
    ) -> Self {
        Self { reader, table, first, last }
    }
}

#[pymethods]
impl Table {
    /// The name of the table.
    #[getter]
    fn name(&self) -> &'static str {
        self.table.name
    }

    /// The names of the columns.
    #[getter]
    fn columns(&self) -> Vec<&'static str> {
        self.table.columns.iter().map(|column| column.name).collect()
    }

    /// The schema, as a capsule of Arrow's C data interface.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = arrow::c_schema(self.table).map_err(|error| PyValueError::new_err(error.to_string()))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    /// The rows, as a capsule of Arrow's C stream interface. The types are those of the table,
    /// whatever schema is requested.
    #[pyo3(signature = (requested_schema = None))]
    pub(crate) fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface leaves it to the producer whether it casts.
        let _ = requested_schema;
        let batches = Batches::read(&self.reader, self.table, self.first, self.last)?;
        PyCapsule::new_with_value(py, arrow::c_stream(batches), c"arrow_array_stream")
    }

    fn __repr__(&self) -> String {
        format!("<table {} of events {} to {}>", self.table.name, self.first, self.last)
    }
}

/// Returns the table with a name.
pub(crate) fn table_named(name: &str) -> PyResult<&'static zero_tables::Table> {
    zero_tables::Table::named(name).ok_or_else(|| {
        let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        PyValueError::new_err(format!("there is no table {name}; there are {}", names.join(", ")))
    })
}

/// Adds the events to a directory of Parquet files that it does not hold yet.
#[pyfunction]
#[pyo3(signature = (bus, directory, *, tables = None))]
pub(crate) fn export_parquet<'py>(
    py: Python<'py>,
    bus: PathBuf,
    directory: PathBuf,
    tables: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if directory.as_os_str().as_encoded_bytes().starts_with(b"parquet:") {
        // How the command names it.
        let problem =
            "directory: leave out `parquet:`, and write ./parquet:NAME for a directory of that name";
        return Err(PyValueError::new_err(problem));
    }
    let tables = match tables {
        None => TABLES.iter().collect(),
        Some(name) if name.is_instance_of::<PyString>() => vec![table_named(&name.extract::<String>()?)?],
        Some(names) => {
            let names = names.try_iter()?.map(|name| table_named(&name?.extract::<String>()?));
            names.collect::<PyResult<Vec<_>>>()?
        }
    };
    // Ends the export if the caller is interrupted. What is complete stays.
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::clone(&is_interrupted);
    let work = move || {
        let reader = open_reader(&bus)?;
        let directory = open_directory(&directory, &bus)?;
        export(&reader, &directory, &tables, EVENTS_PER_FILE, &mut |_, _| {
            !interrupted.load(Ordering::Relaxed)
        })
    };
    let exported: Result<Exported, ExportError> =
        interruptible(py, work).inspect_err(|_| is_interrupted.store(true, Ordering::Relaxed))?;
    let exported = exported.map_err(|error| export_error(py, error))?;
    let json = Json::of(&exported).map_err(|error| PyValueError::new_err(error.to_string()))?;
    from_canonical(py, json.as_str())
}

fn export_error(py: Python<'_>, failed: ExportError) -> PyErr {
    let message = failed.to_string();
    match failed {
        ExportError::Bus(error) => error::to_python(py, error),
        ExportError::Io { path, source, .. } => {
            error::storage(py, format!("{message}: {source}"), &path, &source)
        }
        ExportError::Parquet { path, source } => {
            error::export(py, format!("{message}: {source}"), Some(&path))
        }
        ExportError::NotExtended { path, .. }
        | ExportError::Locked { path }
        | ExportError::Invalid { path, .. } => error::export(py, message, Some(&path)),
        _ => error::export(py, message, None),
    }
}
