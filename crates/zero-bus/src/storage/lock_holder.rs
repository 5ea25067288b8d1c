//! Finds the process that holds a lock, in the list that Linux keeps of all locks.

use std::fmt;
use std::fs;
use std::path::Path;

use super::interface::Lock;

/// The process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockHolder {
    /// Its id. `None` if it runs in another container.
    pub process_id: Option<u32>,
    /// Its name, cut to 15 bytes by the system.
    pub name: Option<String>,
    /// The lock that it holds.
    pub lock: Lock,
}

impl LockHolder {
    /// Returns the process that holds the exclusive lock (`flock`) on a file or directory, or else
    /// one that holds a shared lock. `None` if the file is not locked, or if the system does not
    /// list its locks.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::storage::{Directory, LockHolder};
    ///
    /// let directory = Directory::open(dir.path()).unwrap();
    /// assert!(directory.try_lock_directory().unwrap());
    /// if let Some(holder) = LockHolder::of(dir.path()) {
    ///     assert_eq!(holder.process_id, Some(std::process::id()));
    /// }
    /// ```
    pub fn of(path: &Path) -> Option<Self> {
        let stat = rustix::fs::stat(path).ok()?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let file = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let find = |mode, lock| {
            let process_id = locks.lines().find_map(|line| process_of(line, mode, &file))?;
            Some((process_id, lock))
        };
        let (process_id, lock) = find("WRITE", Lock::Exclusive).or_else(|| find("READ", Lock::Shared))?;
        let name = process_id.and_then(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok());
        Some(Self { process_id, name: name.map(|name| name.trim_end().to_owned()), lock })
    }

    /// Describes a holder that may be unknown.
    pub(crate) fn describe(holder: Option<&Self>) -> String {
        holder.map_or_else(|| "another process".to_owned(), ToString::to_string)
    }
}

/// Writes `process 4711, zero-engine-run`.
impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.process_id, &self.name) {
            (Some(id), Some(name)) => write!(f, "process {id}, {}", name.escape_debug()),
            (Some(id), None) => write!(f, "process {id}"),
            (None, _) => f.write_str("a process in another container"),
        }
    }
}

/// Returns the process of a line of `/proc/locks` if it is a granted lock of this mode and file;
/// `Some(None)` if the process runs in another container.
fn process_of(line: &str, mode: &str, file: &str) -> Option<Option<u32>> {
    // A waiting process has an arrow before the kind, and so another number of fields.
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, locked_mode, process_id, locked_file, ..] = fields[..] else { return None };
    let is_match = locked_mode == mode && locked_file == file;
    is_match.then(|| process_id.parse().ok().filter(|process_id| *process_id > 0))
}
