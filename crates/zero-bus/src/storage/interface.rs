//! The traits between a bus and its disk.

use std::io;
use std::path::PathBuf;
use std::task::Waker;
use std::time::Duration;

/// A directory that holds a bus. A file name is a plain name, or the name of a subdirectory, a
/// slash and a plain name.
pub trait Storage: Send + Sync {
    /// Opens a file. Never follows a symbolic link and never blocks on a pipe: anything but a
    /// regular file is an error.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if [`Access::Read`] finds no file; otherwise what the system
    /// reports.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>>;

    /// Renames a file within its directory, replacing the target atomically (`renameat`). Durable
    /// after [`Storage::sync`], or [`Storage::sync_directory`] in a subdirectory.
    ///
    /// # Errors
    /// What the system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations and renames durable (`fsync` of the directory).
    ///
    /// # Errors
    /// What the system reports.
    fn sync(&self) -> io::Result<()>;

    /// Returns the names of the files in a subdirectory, in no order. Empty if there is no such
    /// directory, which costs one system call (`openat`).
    ///
    /// # Errors
    /// What the system reports.
    fn list(&self, _directory: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Creates a subdirectory (`mkdirat`, 0700) unless it exists. Durable after [`Storage::sync`].
    ///
    /// # Errors
    /// What the system reports; [`io::ErrorKind::Unsupported`] from a storage without
    /// subdirectories.
    fn create_directory(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes creations, renames and removals in a subdirectory durable (`fsync` of it).
    ///
    /// # Errors
    /// As [`Storage::create_directory`].
    fn sync_directory(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives a file or a subdirectory the owner and the permissions of another one, `.` for the
    /// directory itself (`fchown`, `fchmod`).
    ///
    /// # Errors
    /// What the system reports.
    fn copy_permissions(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    /// Removes a file (`unlinkat`).
    ///
    /// # Errors
    /// As [`Storage::create_directory`].
    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns whether the path of `name` still leads to this open file (`lstat`; after a few
    /// calls, one `read` of an inotify descriptor).
    ///
    /// # Errors
    /// What the system reports. A missing name is `false`, not an error.
    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool>;

    /// Starts watching the files of this directory. No change after this call is missed. Falls back
    /// to polling if the system has no means left to report changes, see [`Watch::warning`].
    ///
    /// # Errors
    /// What the system reports.
    fn watch(&self) -> io::Result<Box<dyn Watch>>;

    /// Returns the path of a file, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Returns warnings for the operator, such as unsafe permissions.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An open file of a [`Storage`].
pub trait StorageFile: Send + Sync {
    /// Reads at most a buffer's length at an offset (`pread`). Returns 0 at the end of the file.
    ///
    /// # Errors
    /// What the system reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at the end (`write` on `O_APPEND`). After an error, any prefix may be
    /// written.
    ///
    /// # Errors
    /// What the system reports.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Writes all bytes at an offset (`pwrite`). The file must be open with [`Access::ReadWrite`].
    ///
    /// # Errors
    /// What the system reports.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content and the length durable (`fdatasync`). After an error, everything written
    /// since the last successful sync is in doubt, and a later success does not prove that it was
    /// written.
    ///
    /// # Errors
    /// What the system reports.
    fn sync(&self) -> io::Result<()>;

    /// Returns the length in bytes (`lseek`).
    ///
    /// # Errors
    /// What the system reports.
    fn size(&self) -> io::Result<u64>;

    /// Truncates the file to a length (`ftruncate`).
    ///
    /// # Errors
    /// What the system reports.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Returns the identity of this file: device and inode.
    ///
    /// # Errors
    /// What the system reports.
    fn identity(&self) -> io::Result<(u64, u64)>;

    /// Blocks until the lock on this file is granted (`flock`). The system releases it when its
    /// owner dies.
    ///
    /// # Errors
    /// What the system reports.
    fn lock(&self, lock: Lock) -> io::Result<()>;

    /// Takes the lock without blocking; `false` if a lock that excludes it is held elsewhere.
    ///
    /// # Errors
    /// What the system reports.
    fn try_lock(&self, lock: Lock) -> io::Result<bool>;

    /// Releases the lock.
    ///
    /// # Errors
    /// What the system reports.
    fn unlock(&self) -> io::Result<()>;
}

/// Mode in which a file is opened. Every mode but [`Access::Read`] creates a missing file (0600,
/// whatever the umask).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads an existing file.
    Read,
    /// Reads and appends.
    Append,
    /// Reads, and writes at any offset.
    ReadWrite,
    /// Appends to a new file. An existing file is an error.
    New,
    /// Appends after emptying the file.
    Truncate,
}

/// Kind of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Any number of readers hold it at once.
    Shared,
    /// One holder at a time, and no shared lock beside it.
    Exclusive,
}

/// Waits for changes to the files of a [`Storage`].
pub trait Watch: Send {
    /// Blocks until a file changed since the last call, until it is woken, or until the timeout
    /// ends. May return early.
    ///
    /// # Errors
    /// What the system reports.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// Returns a waker that ends [`Watch::wait`] from any thread. If no wait is in progress, it
    /// ends the next one. `None` if a wait cannot be ended early; [`Follow`](crate::Follow) then
    /// waits for short intervals.
    fn waker(&self) -> Option<Waker> {
        None
    }

    /// Returns why this watch polls instead of sleeping until a change, and what the operator can
    /// do about it. `None` if it works as intended.
    fn warning(&self) -> Option<&str> {
        None
    }
}

/// Fills a buffer from an offset. Fails with [`io::ErrorKind::UnexpectedEof`] if the file ends
/// before.
pub(crate) fn read_exact_at(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if read_up_to(file, buffer, offset)? == buffer.len() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"))
}

/// Fills a buffer from an offset, up to the end of the file. Returns the number of bytes read.
pub(crate) fn read_up_to(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some_at(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Reads at least one byte, unless the file ends at the offset. Returns the number of bytes read.
pub(crate) fn read_some_at(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
