//! What is looked at in the directory of a bus before the library opens it or takes its lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zero_bus::{Error, LOCK, LOG, Reader, SNAPSHOT};

/// Returns a path that leads to the same directory after a change of the working directory.
pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    // Fails for an empty path and without a working directory. Such a path leads nowhere, and the
    // open says so.
    std::path::absolute(&path).unwrap_or(path)
}

/// Opens a bus for reading.
///
/// # Errors
/// As [`Reader::open`]; [`Error::NotABus`] also for a directory without a log.
pub(crate) fn open_reader(path: &Path) -> zero_bus::Result<Reader> {
    let reader = Reader::open(path)?;
    let log = reader.log_path();
    // A log that is missing although its sync mark or its snapshot records events is lost; reading
    // says so. The second look finds a log that was created meanwhile.
    if is_missing(&log) && matches!(reader.head(), Ok(head) if head.index == 0) && is_missing(&log) {
        return Err(Error::NotABus { path: log, reason: "there is no such log".to_owned() });
    }
    Ok(reader)
}

/// Refuses a directory that holds something, but no file of a bus.
///
/// # Errors
/// [`Error::NotABus`].
pub(crate) fn check_not_foreign(path: &Path) -> zero_bus::Result<()> {
    let is_bus = [LOG, LOCK, SNAPSHOT].iter().any(|name| !is_missing(&path.join(name)));
    // If the directory cannot be read, the open says what is wrong.
    let is_empty = || fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
    if is_bus || is_empty() {
        return Ok(());
    }
    let reason = "it holds other files, and no bus; name a new or an empty directory";
    Err(Error::NotABus { path: path.to_owned(), reason: reason.to_owned() })
}

/// The lock file of a bus, to see whether the lock is free. `None` if it cannot be opened.
pub(crate) struct LockProbe(Option<File>);

impl LockProbe {
    /// Opens the lock file in the directory of a bus.
    pub(crate) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().read(true).write(true).open(path.join(LOCK)).ok())
    }

    /// Returns whether the lock is free at this moment: no process and no other thread holds it.
    /// Only one thread at a time may call this. Costs three system calls.
    pub(crate) fn is_free(&self) -> bool {
        let Some(file) = &self.0 else { return false };
        // If the lock file was replaced, this one says nothing about the lock.
        let is_linked = file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        // Unlocked explicitly: a child that another thread forks meanwhile shares the open file.
        is_linked && file.try_lock().is_ok() && file.unlock().is_ok()
    }
}

fn is_missing(path: &Path) -> bool {
    matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}
