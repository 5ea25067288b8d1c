//! A directory without syncs, for generating records: a year of them is then written in minutes.
//!
//! Only the log and the decision journal are written as they grow. The small files, which a cycle
//! replaces or overwrites, are in memory until [`Unsynced::write_rest`]. The cycle journal is not
//! kept; the runtime does not need it to start.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zero_bus::LOG;
use zero_bus::storage::{Access, Directory, Lock, Storage, StorageFile, Watch};

/// The decision journal, and the cycle journal.
pub(crate) const JOURNAL: &str = "decisions.jsonl";
const DISCARDED: &str = "cycles.jsonl";

pub(crate) struct Unsynced {
    directory: Directory,
    small: Mutex<HashMap<String, Small>>,
}

impl Unsynced {
    pub(crate) fn new(directory: Directory) -> Self {
        Self { directory, small: Mutex::default() }
    }

    /// Writes the files that are in memory.
    pub(crate) fn write_rest(&self) -> io::Result<()> {
        for (name, file) in &*lock(&self.small) {
            let written = self.directory.open(name, Access::Truncate)?;
            written.append(&lock(&file.0))?;
        }
        Ok(())
    }
}

impl Storage for Unsynced {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        if name == LOG || name == JOURNAL {
            return Ok(Box::new(Large(self.directory.open(name, access)?)));
        }
        if name == DISCARDED {
            return Ok(Box::new(Discarded(Mutex::new(0))));
        }
        let mut small = lock(&self.small);
        let file = match (small.get(name), access) {
            (None, Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (Some(_), Access::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file.clone(),
            (None, _) => small.entry(name.to_owned()).or_default().clone(),
        };
        if access == Access::Truncate {
            lock(&file.0).clear();
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut small = lock(&self.small);
        let file = small.remove(from).ok_or(io::ErrorKind::NotFound)?;
        small.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.small).remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn is_current(&self, _: &str, _: &dyn StorageFile) -> io::Result<bool> {
        Ok(true)
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        self.directory.watch()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file of the directory.
struct Large(Box<dyn StorageFile>);

impl StorageFile for Large {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.0.identity()
    }

    fn lock(&self, _: Lock) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self, _: Lock) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The content of a file in memory. A clone is the same file.
#[derive(Clone, Default)]
struct Small(Arc<Mutex<Vec<u8>>>);

impl StorageFile for Small {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.0);
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = lock(&self.0);
        let range = offset as usize..offset as usize + bytes.len();
        if content.len() < range.end {
            content.resize(range.end, 0);
        }
        content[range].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        lock(&self.0).truncate(len as usize);
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, 0))
    }

    fn lock(&self, _: Lock) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self, _: Lock) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is appended.
struct Discarded(Mutex<u64>);

impl StorageFile for Discarded {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        *lock(&self.0) += bytes.len() as u64;
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(*lock(&self.0))
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, 0))
    }

    fn lock(&self, _: Lock) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self, _: Lock) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }
}
