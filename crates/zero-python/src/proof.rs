//! Proofs for third parties: what the commands `prove` and `check` do.

use std::path::PathBuf;

use pyo3::exceptions::{PyTypeError, PyUserWarning};
use pyo3::prelude::*;
use pyo3::types::PyString;
use zero_bus::Json;
use zero_cli::proofs::{self, Problem, Request};

use crate::error;
use crate::event::from_canonical;
use crate::wait::interruptible;

/// The argument `reveal`: names of fields.
pub(crate) struct FieldNames(pub(crate) Vec<String>);

impl<'py> FromPyObject<'_, 'py> for FieldNames {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        // A string is a collection of strings, too: its characters.
        let names = match value.is_instance_of::<PyString>() {
            true => None,
            false => value.try_iter().and_then(|items| items.map(|item| item?.extract()).collect()).ok(),
        };
        names.map(Self).ok_or_else(|| {
            PyTypeError::new_err("reveal: should be a list of field names, as in [\"payload/price\"]")
        })
    }
}

/// Warns of a proof for which the caller has named no field. An empty list is a decision.
pub(crate) fn warn_without_reveal(py: Python<'_>) -> PyResult<()> {
    let message =
        c"the proof discloses no field; name fields with reveal, or pass reveal=[] if that is meant";
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), message, 1)
}

/// Checks a proof or a track record against a policy.
#[pyfunction]
pub(crate) fn check<'py>(py: Python<'py>, file: PathBuf, policy: PathBuf) -> PyResult<Bound<'py, PyAny>> {
    answer(py, move || proofs::check(&file, &policy))
}

/// Writes a proof, and returns what it covers.
pub(crate) fn prove<'py>(py: Python<'py>, request: Request) -> PyResult<Bound<'py, PyAny>> {
    answer(py, move || proofs::prove(request))
}

fn answer<'py>(
    py: Python<'py>,
    work: impl FnOnce() -> Result<Json, Problem> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    match interruptible(py, work)? {
        Ok(json) => from_canonical(py, json.as_str()),
        Err(Problem::Bus(error)) => Err(error::to_python(py, error)),
        Err(Problem::Other(message)) => Err(error::proof(py, message)),
    }
}
