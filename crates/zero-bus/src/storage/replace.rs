//! Atomic replacement of a whole file.

use std::io;

use super::interface::{Access, Storage};

/// Replaces a file atomically and durably: writes a temporary file next to it, syncs that, renames
/// it and syncs the directory. At any moment either the old or the new file exists, complete.
///
/// Use it for a file that a program keeps in or beside a bus directory, such as a checkpoint or a
/// report. The caller must keep other writers off the same name, because they would share the
/// temporary file.
///
/// # Errors
/// What the system reports. Until the rename, the old file stays.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use zero_bus::storage::{Directory, replace};
///
/// let directory = Directory::open(dir.path())?;
/// replace(&directory, "checkpoint", b"first")?;
/// replace(&directory, "checkpoint", b"second")?;
/// assert_eq!(std::fs::read(dir.path().join("checkpoint"))?, b"second");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn replace(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    put_in_place(storage, name, bytes)?;
    storage.sync()
}

/// Replaces a file atomically but does not sync the directory: after a power cut either the old or
/// the new file exists, complete.
pub(crate) fn put_in_place(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let file = storage.open(&temporary, Access::Truncate)?;
    file.append(bytes)?;
    file.sync()?;
    storage.rename(&temporary, name)
}
