//! Waiting for a lock: with a timeout, and not in silence.
//!
//! Handles hold the lock of a bus for one batch or one look at the end of the log. A wait of
//! seconds therefore means that the holder is stopped, or that its disk hangs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::storage::{Lock, LockHolder, StorageFile};

/// How long to wait for a lock by default.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// A wait that lasts longer is reported.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// A wait for a lock that has lasted for a second. [`fmt::Display`] writes one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockWait {
    /// The lock file.
    pub path: PathBuf,
    /// The process that holds the lock, if the system knows it.
    pub holder: Option<LockHolder>,
    /// When the wait ends with an error.
    pub timeout: Duration,
}

impl fmt::Display for LockWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = LockHolder::describe(self.holder.as_ref());
        let (path, timeout) = (self.path.display(), self.timeout.as_secs_f64());
        write!(f, "{path}: {holder} holds the lock; waiting for up to {timeout} s")
    }
}

static REPORT: OnceLock<fn(&LockWait)> = OnceLock::new();

/// Sets what this process does when it has waited for the lock of a bus for a second, such as
/// printing it. Without this call, waits are silent. Only the first call in a process counts.
pub fn report_lock_waits(report: fn(&LockWait)) {
    let _ = REPORT.set(report);
}

/// Takes a lock, and waits for it if it is held elsewhere.
///
/// After [`Error::Locked`], the caller must not lock this open file again: a thread still waits for
/// its lock, and releases it as soon as it gets it.
///
/// # Errors
/// [`Error::Locked`] after `timeout`, [`Error::Io`].
pub(crate) fn lock(file: &Arc<dyn StorageFile>, lock: Lock, path: &Path, timeout: Duration) -> Result<()> {
    let failed = || Error::io("lock it", path);
    if file.try_lock(lock).map_err(failed())? {
        return Ok(());
    }
    // A thread waits, because `flock` has no timeout, and polling would be unfair to this process.
    // The channel has no buffer: the thread learns whether its lock was still wanted.
    let (sender, receiver) = mpsc::sync_channel(0);
    let waiting = Arc::clone(file);
    let wait = move || {
        let locked = waiting.lock(lock);
        let is_locked = locked.is_ok();
        if sender.send(locked).is_err() && is_locked {
            let _ = waiting.unlock();
        }
    };
    if thread::Builder::new().name("zero-bus lock".to_owned()).spawn(wait).is_err() {
        // The system refuses another thread. Then this wait has no timeout.
        return file.lock(lock).map_err(failed());
    }
    let mut waited = Duration::ZERO;
    for limit in [REPORT_AFTER.min(timeout), timeout] {
        match receiver.recv_timeout(limit.saturating_sub(waited)) {
            Ok(locked) => return locked.map_err(failed()),
            Err(RecvTimeoutError::Disconnected) => return file.lock(lock).map_err(failed()),
            Err(RecvTimeoutError::Timeout) => waited = limit,
        }
        if let Some(report) = REPORT.get().filter(|_| waited < timeout) {
            report(&LockWait { path: path.to_owned(), holder: LockHolder::of(path), timeout });
        }
    }
    Err(Error::Locked { path: path.to_owned(), holder: LockHolder::of(path), waited: timeout })
}
