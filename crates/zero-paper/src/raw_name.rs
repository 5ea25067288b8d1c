//! A file whose name is not UTF-8, as a [`Storage`].
//!
//! A [`Storage`] names its files in UTF-8, as every file of a bus is named. A journal is named by
//! the operator, and Linux accepts any bytes but `/` and zero.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zero_bus::storage::{Access, Lock, Storage, StorageFile, Watch};

/// The directory of a file whose name is not UTF-8.
pub(crate) struct RawNameDirectory {
    path: PathBuf,
    /// The name in UTF-8, as callers know it. Names that extend it extend `raw_name` on the disk.
    name: String,
    raw_name: OsString,
}

impl RawNameDirectory {
    /// `name` is what callers call the file that is named `raw_name` in the directory at `path`.
    pub(crate) fn new(path: &Path, name: String, raw_name: OsString) -> Self {
        Self { path: path.to_owned(), name, raw_name }
    }
}

impl Storage for RawNameDirectory {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let path = self.path(name);
        // Before the open, because opening a pipe blocks.
        match fs::symlink_metadata(&path) {
            Ok(metadata) => check_regular(&metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match access {
            Access::Read => &mut options,
            Access::Append => options.append(true).create(true),
            Access::ReadWrite => options.write(true).create(true),
            Access::New => options.append(true).create_new(true),
            Access::Truncate => options.write(true).create(true).truncate(true),
        };
        let file = options.open(&path)?;
        let metadata = file.metadata()?;
        let opened = OpenFile { file, identity: (metadata.dev(), metadata.ino()) };
        // A link may have taken the place of the file since the check above.
        check_regular(&metadata)?;
        if !self.is_current(name, &opened)? {
            return Err(io::Error::other("it was replaced while it was opened"));
        }
        Ok(Box::new(opened))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        match fs::symlink_metadata(self.path(name)) {
            Ok(metadata) => Ok((metadata.dev(), metadata.ino()) == file.identity()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn path(&self, name: &str) -> PathBuf {
        match name.strip_prefix(&self.name) {
            Some(suffix) => {
                let mut raw_name = self.raw_name.clone();
                raw_name.push(suffix);
                self.path.join(raw_name)
            }
            None => self.path.join(name),
        }
    }
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return Err(io::Error::other("it is a symbolic link, which is not followed"));
    }
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a file"));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(())
}

/// An open file. Its identity cannot change while it is open.
struct OpenFile {
    file: File,
    identity: (u64, u64),
}

impl StorageFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
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
        let locked = match lock {
            Lock::Shared => self.file.try_lock_shared(),
            Lock::Exclusive => self.file.try_lock(),
        };
        match locked {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}
