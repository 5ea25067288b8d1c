//! Errors of the library as exceptions of `zero_bus.errors`.

use std::fs;
use std::io;
use std::path::Path;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use zero_bus::{Error, Fault};

/// Creates an exception of a class in `zero_bus.errors` with these attributes.
fn exception(py: Python<'_>, class: &str, message: String, attributes: &Bound<'_, PyDict>) -> PyErr {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let create = || {
        let errors = ERRORS.get_or_try_init(py, || PyResult::Ok(py.import("zero_bus.errors")?.unbind()))?;
        let class = errors.bind(py).getattr(class)?.cast_into::<PyType>()?;
        class.call((message,), Some(attributes))
    };
    create().map_or_else(|failed| failed, PyErr::from_value)
}

macro_rules! raise {
    ($py:expr, $class:expr, $message:expr $(, $name:ident = $value:expr)* $(,)?) => {{
        let attributes = PyDict::new($py);
        // Setting an item of a new dictionary fails only if the memory is exhausted.
        $(let _ = attributes.set_item(stringify!($name), $value);)*
        exception($py, $class, $message, &attributes)
    }};
}

/// Returns the exception for an error of the library.
pub(crate) fn to_python(py: Python<'_>, error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Io { path, source, .. } => storage(py, message, &path, &source),
        Error::NotABus { path, .. } => not_a_bus(py, message, &path),
        Error::Invalid { field, .. } => raise!(py, "InvalidEventError", message, field = field),
        Error::Damaged { path, fault } => damaged(py, "DamagedError", message, &path, &fault),
        Error::Ambiguous { path, fault } => damaged(py, "AmbiguousError", message, &path, &fault),
        Error::Missing { path, events, recorded, .. } => {
            raise!(
                py,
                "MissingError",
                message,
                path = path.as_os_str(),
                index = events + 1,
                events = events,
                recorded = recorded
            )
        }
        Error::Changed { path, .. } => raise!(py, "ChangedError", message, path = path.as_os_str()),
        Error::HeadMismatch { path, expected, actual } => {
            let [expected, actual] = [expected, actual].map(crate::head::Head::from);
            raise!(
                py,
                "HeadMismatchError",
                message,
                path = path.as_os_str(),
                expected = expected,
                actual = actual
            )
        }
        Error::Locked { path, holder, waited } => {
            let process_id = holder.and_then(|holder| holder.process_id);
            raise!(
                py,
                "LockedError",
                message,
                path = path.as_os_str(),
                holder = process_id,
                waited = waited.as_secs_f64()
            )
        }
        Error::Poisoned { path } => raise!(py, "PoisonedError", message, path = path.as_os_str()),
        _ => raise!(py, "BusError", message),
    }
}

/// The path as the system sees it now decides the class, since programs that open files expect
/// `FileNotFoundError` of a missing one.
fn not_a_bus(py: Python<'_>, message: String, path: &Path) -> PyErr {
    let (class, errno) = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => ("BusNotFoundError", Some(2)),
        Ok(found) if !found.is_dir() => ("NotABusError", Some(20)),
        _ => ("NotABusError", None),
    };
    let path = path.as_os_str();
    raise!(py, class, message, path = path, filename = path, errno = errno)
}

fn damaged(py: Python<'_>, class: &str, message: String, path: &Path, fault: &Fault) -> PyErr {
    let reason = fault.to_string();
    raise!(
        py,
        class,
        message,
        path = path.as_os_str(),
        index = fault.event,
        byte_offset = fault.byte_offset,
        reason = reason
    )
}

/// Returns the exception for a payload that has no exact JSON form. `field` is the path to the
/// value at fault.
pub(crate) fn payload(py: Python<'_>, field: String, problem: &str, is_type: bool) -> PyErr {
    let class = if is_type { "PayloadTypeError" } else { "PayloadError" };
    raise!(py, class, format!("{field}: {problem}"), field = &field)
}

/// Returns the exception for a file operation that the system refused.
pub(crate) fn storage(py: Python<'_>, message: String, path: &Path, source: &io::Error) -> PyErr {
    let path = path.as_os_str();
    raise!(py, class_of(source), message, path = path, filename = path, errno = errno(source))
}

/// Returns the exception for an export that cannot go on.
pub(crate) fn export(py: Python<'_>, message: String, path: Option<&Path>) -> PyErr {
    raise!(py, "ExportError", message, path = path.map(Path::as_os_str))
}

/// Returns the exception for a proof that cannot be made, or a file about proofs that cannot be
/// read.
pub(crate) fn proof(py: Python<'_>, message: String) -> PyErr {
    raise!(py, "ProofError", message)
}

/// Returns the exception for a handle of another process.
pub(crate) fn forked(py: Python<'_>, kind: &str, path: &Path, opened_in: u32, here: u32) -> PyErr {
    let message = format!(
        "{}: process {opened_in} opened this {kind}, and process {here} is a child of it. Open the bus again in the \
         child",
        path.display()
    );
    raise!(py, "ForkError", message, path = path.as_os_str())
}

/// Returns the exception for a handle that was closed.
pub(crate) fn closed(py: Python<'_>, kind: &str, path: &Path) -> PyErr {
    raise!(py, "ClosedError", format!("{}: this {kind} is closed", path.display()), path = path.as_os_str())
}

/// The class whose base is the one that Python's own file operations raise.
fn class_of(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "StoragePermissionError",
        io::ErrorKind::NotFound => "StorageNotFoundError",
        io::ErrorKind::IsADirectory => "StorageIsADirectoryError",
        io::ErrorKind::NotADirectory => "StorageNotADirectoryError",
        _ => "StorageError",
    }
}

/// The error number. An error that several events of one batch share keeps only its kind.
fn errno(source: &io::Error) -> Option<i32> {
    source.raw_os_error().or(match source.kind() {
        io::ErrorKind::StorageFull => Some(28),
        io::ErrorKind::PermissionDenied => Some(13),
        io::ErrorKind::NotFound => Some(2),
        io::ErrorKind::FileTooLarge => Some(27),
        io::ErrorKind::ReadOnlyFilesystem => Some(30),
        _ => None,
    })
}
