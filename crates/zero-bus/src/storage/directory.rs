//! A directory of the file system as a [`Storage`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::interface::{Access, Lock, Storage, StorageFile, Watch};
use super::path_guard::PathGuard;
use super::watch;

/// How often, and how far apart, a lock on a directory is tried while probes hold the shared lock.
const PROBE_ATTEMPTS: u32 = 100;
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    /// Files are opened relative to this handle, so that all of them belong to one directory even
    /// if its path is moved.
    handle: File,
    path: PathBuf,
    /// Directories that [`Directory::create`] made, outermost first.
    created: Vec<PathBuf>,
    path_guard: PathGuard,
}

impl Directory {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// What the system reports, [`io::ErrorKind::NotADirectory`] for a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self { handle, path: path.to_owned(), created: Vec::new(), path_guard: PathGuard::default() })
    }

    /// Opens a directory, and creates it and its missing parents (0700, whatever the umask). Syncs
    /// the parent of each directory it creates.
    ///
    /// # Errors
    /// What the system reports. Directories created before the error are removed again.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut created = Vec::new();
        let mut ancestors: Vec<&Path> =
            path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        ancestors.reverse();
        let opened = ancestors.into_iter().try_for_each(|ancestor| {
            match fs::DirBuilder::new().mode(0o700).create(ancestor) {
                Ok(()) => {
                    created.push(ancestor.to_owned());
                    // Before the next directory is created in this one.
                    restore_directory_mode(ancestor)?;
                }
                // If it is not a directory, the next step fails.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                // A directory can exist where the system refuses to create one, as on a read-only
                // mount.
                Err(error) => return if ancestor.is_dir() { Ok(()) } else { Err(error) },
            }
            let parent = ancestor.parent().filter(|parent| !parent.as_os_str().is_empty());
            match File::open(parent.unwrap_or(Path::new("."))) {
                Ok(parent) => parent.sync_all(),
                // A parent may be writable but not readable; then it cannot be synced.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                Err(error) => Err(error),
            }
        });
        match opened.and_then(|()| Self::open(path)) {
            Ok(directory) => Ok(Self { created, ..directory }),
            Err(error) => {
                remove_if_empty(&created);
                Err(error)
            }
        }
    }

    /// Takes an exclusive lock on the directory itself (`flock`) until this value is dropped;
    /// `false` if it is held elsewhere.
    ///
    /// The lock is advisory and independent of `bus.lock`: appending does not take it. A program
    /// that must be the only one of its kind on a bus, such as a runtime, takes it at start to keep
    /// a second instance off.
    ///
    /// # Errors
    /// What the system reports.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::storage::Directory;
    ///
    /// let first = Directory::create(&dir.path().join("bus"))?;
    /// let second = Directory::open(&dir.path().join("bus"))?;
    /// assert!(first.try_lock_directory()?);
    /// assert!(!second.try_lock_directory()?);
    /// drop(first);
    /// assert!(second.try_lock_directory()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_lock_directory(&self) -> io::Result<bool> {
        for _ in 0..PROBE_ATTEMPTS {
            if try_lock(&self.handle, Lock::Exclusive)? {
                return Ok(true);
            }
            if self.is_directory_locked()? {
                return Ok(false);
            }
            // A probe, which holds the shared lock for an instant.
            thread::sleep(PROBE_INTERVAL);
        }
        Ok(false)
    }

    /// Returns whether the exclusive lock on the directory is held elsewhere, see
    /// [`Directory::try_lock_directory`]. Any number of processes can ask at once: they do not see
    /// each other.
    ///
    /// # Errors
    /// What the system reports.
    pub fn is_directory_locked(&self) -> io::Result<bool> {
        // Another open file, so that a lock that this value holds counts as well.
        let probe = File::from(rustix::fs::openat(
            &self.handle,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        // Dropping the file releases the lock.
        Ok(!try_lock(&probe, Lock::Shared)?)
    }

    /// Opens a file as [`Storage::open`] does, also one whose name is not UTF-8.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_raw_name(&self, name: &OsStr, access: Access) -> io::Result<Box<dyn StorageFile>> {
        open_at(&self.handle, name, access)
    }

    /// Opens a subdirectory. A symbolic link is an error.
    fn open_directory(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::openat(&self.handle, name, flags, Mode::empty())?))
    }

    /// Calls `work` with the directory of a file and the file's name in it.
    fn in_directory<T>(&self, name: &str, work: impl FnOnce(&File, &str) -> io::Result<T>) -> io::Result<T> {
        match name.split_once('/') {
            None => work(&self.handle, name),
            Some((directory, name)) => work(&self.open_directory(directory)?, name),
        }
    }

    /// Removes the directories that [`Directory::create`] made for this value and that are still
    /// empty.
    ///
    /// A program that fails between opening a directory and writing to it calls this to leave no
    /// trace.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::storage::Directory;
    ///
    /// let directory = Directory::create(&dir.path().join("backups/bus"))?;
    /// directory.remove_created();
    /// assert!(!dir.path().join("backups").exists());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remove_created(&self) {
        remove_if_empty(&self.created);
    }
}

/// Opens a file in a directory as [`Storage::open`] does.
fn open_at(directory: &File, name: &OsStr, access: Access) -> io::Result<Box<dyn StorageFile>> {
    let mode_flags = match access {
        Access::Read => OFlags::RDONLY,
        Access::Append | Access::New => OFlags::RDWR | OFlags::APPEND,
        Access::ReadWrite => OFlags::RDWR,
        Access::Truncate => OFlags::RDWR | OFlags::APPEND | OFlags::TRUNC,
    };
    // NONBLOCK keeps `open` from blocking on a pipe; it has no effect on a regular file.
    let flags = mode_flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file_mode = Mode::RUSR | Mode::WUSR;
    let open_with = |flags| rustix::fs::openat(directory, name, flags, file_mode);
    let create_new = OFlags::CREATE | OFlags::EXCL;
    // Creating is a call of its own, so that it is known whether this handle created the file.
    let (opened, is_created) = match access {
        Access::Read => (open_with(flags), false),
        Access::New => (open_with(flags | create_new), true),
        Access::Append | Access::ReadWrite | Access::Truncate => match open_with(flags) {
            Err(Errno::NOENT) => match open_with(flags | create_new) {
                // Another process has created it in between.
                Err(Errno::EXIST) => (open_with(flags | OFlags::CREATE), false),
                created => (created, true),
            },
            opened => (opened, false),
        },
    };
    let handle = opened.map_err(|error| {
        if error == Errno::LOOP {
            io::Error::other("it is a symbolic link, which is not followed")
        } else {
            error.into()
        }
    })?;
    let file = File::from(handle);
    let metadata = file.metadata()?;
    let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
    if is_created && !mode.contains(file_mode) {
        // The umask took them away, and the next open would fail.
        rustix::fs::fchmod(&file, mode | file_mode)?;
    }
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a file"));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(Box::new(OpenFile { file, identity: (metadata.dev(), metadata.ino()) }))
}

/// Gives a directory that was just created the permissions of its owner which the umask took away.
/// Without them, nothing could be created in it.
fn restore_directory_mode(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() && mode & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o700))?;
    }
    Ok(())
}

/// Removes empty directories, innermost first. The system refuses to remove the others.
fn remove_if_empty(directories: &[PathBuf]) {
    directories.iter().rev().for_each(|directory| drop(fs::remove_dir(directory)));
}

impl Storage for Directory {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        self.in_directory(name, |directory, name| open_at(directory, OsStr::new(name), access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.in_directory(from, |directory, from| {
            let to = to.rsplit_once('/').map_or(to, |(_, to)| to);
            Ok(rustix::fs::renameat(directory, from, directory, to)?)
        })
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let directory = match self.open_directory(directory) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory)? {
            // All names that this crate gives are UTF-8.
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    fn create_directory(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::RWXU) {
            Ok(()) => restore_directory_mode(&self.path.join(name)),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_directory(&self, name: &str) -> io::Result<()> {
        self.open_directory(name)?.sync_all()
    }

    fn copy_permissions(&self, from: &str, to: &str) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let open =
            |directory: &File, name: &str| Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?);
        let (from, to) = (self.in_directory(from, open)?, self.in_directory(to, open)?);
        let (wanted, found) = (rustix::fs::fstat(&from)?, rustix::fs::fstat(&to)?);
        if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid) {
            let owner = Some(rustix::fs::Uid::from_raw(wanted.st_uid));
            rustix::fs::fchown(&to, owner, Some(rustix::fs::Gid::from_raw(wanted.st_gid)))?;
        }
        let mode = Mode::from_raw_mode(wanted.st_mode & 0o7777);
        if mode != Mode::from_raw_mode(found.st_mode & 0o7777) {
            rustix::fs::fchmod(&to, mode)?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.in_directory(name, |directory, name| {
            Ok(rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::empty())?)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        // Looks up the whole path, not the handle: another directory may have taken this one's
        // place.
        self.path_guard.is_current(&self.path, name, file.identity()?, || {
            match rustix::fs::lstat(self.path.join(name)) {
                Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        watch::watch_directory(&self.path)
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

/// An open file. Its identity cannot change while it is open, so it is read once.
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
        // Faster than `fstat`. Moving the file position is harmless: no other call here depends on
        // it.
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

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        try_lock(&self.file, lock)
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

fn try_lock(file: &File, lock: Lock) -> io::Result<bool> {
    let locked = match lock {
        Lock::Shared => file.try_lock_shared(),
        Lock::Exclusive => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}
