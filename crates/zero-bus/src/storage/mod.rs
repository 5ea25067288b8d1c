//! The few file operations a bus is made of, each with the system calls it makes. Everything above asks this
//! trait, so that a test can put a disk of its own beneath.

mod path_guard;
#[cfg_attr(target_os = "linux", path = "watch_inotify.rs")]
#[cfg_attr(not(target_os = "linux"), path = "watch_poll.rs")]
mod watch;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, SeekFrom};

use path_guard::PathGuard;

/// A directory in which a bus is kept. File names have no separators.
pub trait Storage: Send + Sync {
    /// Opens a file. Never follows a symbolic link and never waits for a pipe: what is no regular file is an
    /// error.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] with [`Access::Read`] where there is none, and what the system reports.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>>;

    /// Puts one file in the place of another, atomically (`renameat`). Durable after [`Storage::sync`].
    ///
    /// # Errors
    /// What the system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations and renames durable (`fsync` of the directory).
    ///
    /// # Errors
    /// What the system reports.
    fn sync(&self) -> io::Result<()>;

    /// Whether the path of `name` still leads to this open file (`lstat`; one `read` of an inotify, once that was asked
    /// often).
    ///
    /// # Errors
    /// What the system reports, but for a name that leads nowhere, which is `false`.
    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool>;

    /// Something to wait on for changes of the files here. Changes after this call are not missed.
    ///
    /// # Errors
    /// What the system reports.
    fn watch(&self) -> io::Result<Box<dyn Watch>>;

    /// Where a file is, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// What is unsafe about the place, for its operator.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An open file of a [`Storage`].
pub trait StorageFile: Send + Sync {
    /// Reads up to a buffer's length from a place (`pread`). 0 at the end of the file.
    ///
    /// # Errors
    /// What the system reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at the end (`write` on `O_APPEND`). After an error any part of them may be there.
    ///
    /// # Errors
    /// What the system reports.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Writes all bytes at a place (`pwrite`), for a file opened with [`Access::ReadWrite`].
    ///
    /// # Errors
    /// What the system reports.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content and length durable (`fdatasync`). After an error nothing is known of what was
    /// written since the last success, and trying again proves nothing.
    ///
    /// # Errors
    /// What the system reports.
    fn sync(&self) -> io::Result<()>;

    /// The length in bytes (`lseek`).
    ///
    /// # Errors
    /// What the system reports.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file to a length (`ftruncate`).
    ///
    /// # Errors
    /// What the system reports.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Which file this is: device and inode.
    ///
    /// # Errors
    /// What the system reports.
    fn identity(&self) -> io::Result<(u64, u64)>;

    /// Waits for the lock on this file (`flock`). The system releases it when its owner dies.
    ///
    /// # Errors
    /// What the system reports.
    fn lock(&self, lock: Lock) -> io::Result<()>;

    /// Takes the exclusive lock if it is free; `false` where somebody has it.
    ///
    /// # Errors
    /// What the system reports.
    fn try_lock(&self) -> io::Result<bool>;

    /// Releases the lock.
    ///
    /// # Errors
    /// What the system reports.
    fn unlock(&self) -> io::Result<()>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading what is there.
    Read,
    /// Reading and appending; made (0600) where there is none.
    Append,
    /// Reading and writing anywhere; made (0600) where there is none.
    ReadWrite,
    /// Appending to a file that must not have been there (0600).
    New,
    /// Appending to an emptied file; made (0600) where there is none.
    Truncate,
}

/// The two kinds of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Held by any number of readers.
    Shared,
    /// Held by one.
    Exclusive,
}

/// Waits for changes.
pub trait Watch: Send {
    /// Waits until something changed since the last call, or the time is over. May return early.
    ///
    /// # Errors
    /// What the system reports.
    fn wait(&mut self, at_most: Duration) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    /// All files are opened relative to this, so that they are of one directory whatever becomes of its path.
    handle: File,
    path: PathBuf,
    /// Directories that were made for it, outermost first.
    made: Vec<PathBuf>,
    still: PathGuard,
}

impl Directory {
    /// Opens a directory that is there.
    ///
    /// # Errors
    /// What the system reports, also for what is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self { handle, path: path.to_owned(), made: Vec::new(), still: PathGuard::default() })
    }

    /// Opens a directory, making it (0700, its missing parents too) where there is none; new ones are made
    /// durable in their parents.
    ///
    /// # Errors
    /// What the system reports.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut made = Vec::new();
        let mut ancestors: Vec<&Path> =
            path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        ancestors.reverse();
        let opened = ancestors.into_iter().try_for_each(|ancestor| {
            match fs::DirBuilder::new().mode(0o700).create(ancestor) {
                Ok(()) => made.push(ancestor.to_owned()),
                // Whatever it is that is there, opening what is below will tell.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                // Not ours to make, and need not be, where it is there.
                Err(error) => return if ancestor.is_dir() { Ok(()) } else { Err(error) },
            }
            let parent = ancestor.parent().filter(|parent| !parent.as_os_str().is_empty());
            match File::open(parent.unwrap_or(Path::new("."))) {
                Ok(parent) => parent.sync_all(),
                // One may be allowed to make names in a directory, and not to open it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                Err(error) => Err(error),
            }
        });
        match opened.and_then(|()| Self::open(path)) {
            Ok(directory) => Ok(Self { made, ..directory }),
            Err(error) => {
                remove(&made);
                Err(error)
            }
        }
    }

    /// Locks the directory itself (`flock`), as long as this lives; `false` where somebody has it locked.
    ///
    /// # Errors
    /// What the system reports.
    pub fn try_lock_directory(&self) -> io::Result<bool> {
        try_lock(&self.handle)
    }

    /// Takes away the directories that opening this one made, as far as they are empty.
    pub fn remove_created(&self) {
        remove(&self.made);
    }
}

fn remove(made: &[PathBuf]) {
    // Only empty ones go; where one can't, it stays.
    made.iter().rev().for_each(|directory| drop(fs::remove_dir(directory)));
}

impl Storage for Directory {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let purpose = match access {
            Access::Read => OFlags::RDONLY,
            Access::Append => OFlags::RDWR | OFlags::APPEND | OFlags::CREATE,
            Access::ReadWrite => OFlags::RDWR | OFlags::CREATE,
            Access::New => OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL,
            Access::Truncate => OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC,
        };
        // NONBLOCK keeps a pipe in a file's place from holding us up; a regular file does not mind.
        let flags = purpose | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let handle =
            rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| {
                if error == rustix::io::Errno::LOOP {
                    io::Error::other("it is a symbolic link, which is not followed")
                } else {
                    error.into()
                }
            })?;
        let file = File::from(handle);
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a file"));
        }
        if !kind.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Box::new(OpenFile { file, identity: identity(&metadata) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        // By the whole path, since the directory may have been moved away, and another stand in its place.
        self.still.leads_to(&self.path, name, file.identity()?, || {
            match rustix::fs::lstat(self.path.join(name)) {
                Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        watch::directory(&self.path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn warnings(&self) -> Vec<String> {
        let mode = self.handle.metadata().map_or(0, |metadata| metadata.mode());
        let warning =
            || format!("{}: others may write to it (mode {:04o})", self.path.display(), mode & 0o7777);
        (mode & 0o022 != 0).then(warning).into_iter().collect()
    }
}

/// A file of the file system. Which one it is does not change while it is open, so that is asked once.
struct OpenFile {
    file: File,
    identity: (u64, u64),
}

impl StorageFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &self.file, bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        // No other of our system calls minds where the file's own place is, and `fstat` takes longer.
        Ok(rustix::fs::seek(&self.file, SeekFrom::End(0))?)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok(self.identity)
    }

    fn lock(&self, lock: Lock) -> io::Result<()> {
        match lock {
            Lock::Shared => self.file.lock_shared(),
            Lock::Exclusive => self.file.lock(),
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        try_lock(&self.file)
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Writes a file anew, so that at any moment the old one or the new one is there, whole: a temporary file
/// beside it, its sync, the rename, the directory's sync. The caller keeps others from doing the same.
/// # Errors
/// What the system reports; the old file is there then.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use zero_bus::storage::{Directory, replace};
///
/// let directory = Directory::open(dir.path())?;
/// replace(&directory, "note", b"first")?;
/// replace(&directory, "note", b"second")?;
/// assert_eq!(std::fs::read(dir.path().join("note"))?, b"second");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn replace(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    put_in_place(storage, name, bytes)?;
    storage.sync()
}

/// The same without the directory's sync: after a power cut the old one may be found again, whole.
pub(crate) fn put_in_place(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let file = storage.open(&temporary, Access::Truncate)?;
    file.append(bytes)?;
    file.sync()?;
    storage.rename(&temporary, name)
}

/// Fills a buffer from a place, or tells that the file ends before.
pub(crate) fn read_exact_at(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if read_up_to(file, buffer, offset)? == buffer.len() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"))
}

/// Fills a buffer from a place as far as the file goes. Gives the bytes read.
pub(crate) fn read_up_to(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
