//! The end of a log.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use zero_bus::Checksum;

/// The end of a log: the number of events, and the checksum of the last one.
#[pyclass(frozen, eq, hash, module = "zero_bus")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Head {
    /// The index of the last event; 0 for an empty log.
    #[pyo3(get)]
    index: u64,
    checksum: Option<Checksum>,
}

impl Head {
    pub(crate) fn index(&self) -> u64 {
        self.index
    }
}

#[pymethods]
impl Head {
    #[new]
    #[pyo3(signature = (index, checksum = None))]
    fn new(index: u64, checksum: Option<String>) -> PyResult<Self> {
        let parse =
            |text: String| text.parse::<Checksum>().map_err(|error| PyValueError::new_err(error.to_string()));
        Ok(Self { index, checksum: checksum.map(parse).transpose()? })
    }

    /// The checksum of the last event; None for an empty log.
    #[getter]
    fn checksum(&self) -> Option<String> {
        self.checksum.map(|checksum| checksum.to_string())
    }

    fn __repr__(&self) -> String {
        let checksum = self.checksum.map_or("None".to_owned(), |checksum| format!("'{checksum}'"));
        format!("Head(index={}, checksum={checksum})", self.index)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyType>, (u64, Option<String>)) {
        (py.get_type::<Self>(), (self.index, self.checksum()))
    }
}

impl From<zero_bus::Head> for Head {
    fn from(head: zero_bus::Head) -> Self {
        Self { index: head.index, checksum: head.checksum }
    }
}

impl From<Head> for zero_bus::Head {
    fn from(head: Head) -> Self {
        Self { index: head.index, checksum: head.checksum }
    }
}
