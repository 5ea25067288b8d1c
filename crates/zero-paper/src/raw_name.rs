//! A file whose name is not UTF-8, as a [`Storage`].
//!
//! A [`Storage`] names its files in UTF-8, as every file of a bus is named. A journal is named by
//! the operator, and Linux accepts any bytes but `/` and zero.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zero_bus::storage::{Access, Directory, Storage, StorageFile, Watch};

/// The directory of a file whose name is not UTF-8.
pub(crate) struct RawNameDirectory {
    directory: Arc<Directory>,
    path: PathBuf,
    /// The name in UTF-8, as callers know it. Names that extend it extend `raw_name` on the disk.
    name: String,
    raw_name: OsString,
}

impl RawNameDirectory {
    /// `name` is what callers call the file that is named `raw_name` in the directory at `path`.
    pub(crate) fn new(directory: Arc<Directory>, path: &Path, name: String, raw_name: OsString) -> Self {
        Self { directory, path: path.to_owned(), name, raw_name }
    }

    fn raw_name_of(&self, name: &str) -> OsString {
        match name.strip_prefix(&self.name) {
            Some(suffix) => {
                let mut raw_name = self.raw_name.clone();
                raw_name.push(suffix);
                raw_name
            }
            None => name.into(),
        }
    }
}

impl Storage for RawNameDirectory {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        self.directory.open_raw_name(&self.raw_name_of(name), access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync()
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
        self.path.join(self.raw_name_of(name))
    }
}
