//! The lock that keeps two runtimes off one bus.

use std::path::Path;
use std::sync::Arc;

use zero_bus::storage::{Directory, LockHolder};

use crate::error::{Error, Result};

/// Keeps other runtimes off a bus with a lock on its directory. Programs that only append do not
/// take this lock.
///
/// On drop, removes the directory if the lock created it and it is still empty.
pub(crate) struct BusLock(pub(crate) Arc<Directory>);

impl BusLock {
    pub(crate) fn acquire(bus: &Path) -> Result<Self> {
        let directory = Directory::create(bus).map_err(Error::io("open the directory", bus))?;
        let lock = Self(Arc::new(directory));
        if lock.0.try_lock_directory().map_err(Error::io("lock the directory", bus))? {
            return Ok(lock);
        }
        let holder = LockHolder::of(bus).map(|holder| format!(" ({holder})")).unwrap_or_default();
        let problem = format!("is in use by another runtime{holder}; stop that one, or name another bus");
        Err(Error::Refused { path: bus.to_owned(), problem })
    }
}

impl Drop for BusLock {
    fn drop(&mut self) {
        self.0.remove_created();
    }
}
