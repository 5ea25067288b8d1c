//! Handles that belong to one process, and that can be closed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use crate::error;

/// A value with threads or file positions of its own, which a fork would share with the child.
pub(crate) struct Handle<T: Send + Sync + 'static> {
    process_id: u32,
    path: PathBuf,
    /// What the messages call it.
    kind: &'static str,
    /// `None` after it was closed.
    value: Mutex<Option<Arc<T>>>,
}

impl<T: Send + Sync + 'static> Handle<T> {
    pub(crate) fn new(kind: &'static str, path: PathBuf, value: T) -> Self {
        Self { process_id: std::process::id(), path, kind, value: Mutex::new(Some(Arc::new(value))) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the value.
    ///
    /// # Errors
    /// `ForkError` in a child of the process that opened the handle, `ClosedError` after a close.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<Arc<T>> {
        self.check_process(py)?;
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        value.clone().ok_or_else(|| error::closed(py, self.kind, &self.path))
    }

    /// Takes the value out, and closes the handle. `None` if it is closed already.
    ///
    /// # Errors
    /// `ForkError`, as [`Handle::get`].
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<Option<Arc<T>>> {
        self.check_process(py)?;
        Ok(self.value.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        let here = std::process::id();
        if here == self.process_id {
            return Ok(());
        }
        Err(error::forked(py, self.kind, &self.path, self.process_id, here))
    }
}

impl<T: Send + Sync + 'static> Drop for Handle<T> {
    fn drop(&mut self) {
        let value = self.value.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if std::process::id() != self.process_id {
            // Its threads exist in the parent only, so a drop would wait for them forever.
            std::mem::forget(value);
        } else if value.is_some() {
            // May wait for events that were submitted.
            Python::attach(|py| py.detach(|| drop(value)));
        }
    }
}
