//! The programs of the project, for the console scripts of the package.

use std::ffi::OsString;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Runs a program with these arguments, of which the first is its own name, and ends the process
/// with its exit code.
///
/// The process ends here rather than in Python, so that standard output is flushed as in the
/// binary, and so that no thread of the program meets an interpreter that is being finalized.
#[pyfunction]
#[pyo3(name = "_run_program")]
pub(crate) fn run_program(py: Python<'_>, name: String, arguments: Vec<OsString>) -> PyResult<()> {
    let code = py.detach(|| match name.as_str() {
        "zero-bus" => Some(zero_cli::main(arguments)),
        "zero-engine-run" => Some(zero_engine_run::main(arguments)),
        "zero-feed-hyperliquid" => Some(zero_feed_hyperliquid::program::run(arguments)),
        _ => None,
    });
    match code {
        Some(code) => std::process::exit(i32::from(code)),
        None => Err(PyValueError::new_err(format!("there is no program {name}"))),
    }
}
