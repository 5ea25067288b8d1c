//! Proofs for third parties: what the commands `prove` and `check` do.

use std::path::PathBuf;

use pyo3::prelude::*;
use zero_bus::Json;
use zero_cli::proofs::{self, Problem, Request};

use crate::error;
use crate::event::from_canonical;
use crate::wait::interruptible;

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
