//! The lock that keeps two runtimes off one bus.

use std::io;
use std::path::Path;
use std::sync::Arc;

use zero_bus::storage::{Access, Directory, Lock, LockHolder, Storage};
use zero_bus::{LOCK, LOG};

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

/// Removes a bus that this process created and on which nothing was recorded. Leaves it if another
/// program has appended to it, or if the system refuses.
pub(crate) fn remove_empty_bus(storage: &dyn Storage) {
    let remove = || -> io::Result<()> {
        let lock = storage.open(LOCK, Access::ReadWrite)?;
        // A program that waits for this lock looks afterwards whether the file is still there.
        if lock.try_lock(Lock::Exclusive)? && storage.open(LOG, Access::Read)?.size()? == 0 {
            storage.remove(LOG)?;
            storage.remove(LOCK)?;
        }
        Ok(())
    };
    // Nothing depends on it: an empty bus is as good as none.
    let _ = remove();
}

impl Drop for BusLock {
    fn drop(&mut self) {
        self.0.remove_created();
    }
}
