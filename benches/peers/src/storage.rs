//! Storages without syncs or without files, to measure the cost of the rest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zero_bus::storage::{Access, Directory, Lock, Storage, StorageFile, Watch};

/// A directory whose syncs do nothing. Used to build long logs and to measure an append without its
/// sync.
pub struct NoSync(Directory);

impl NoSync {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Directory::create(path)?))
    }
}

impl Storage for NoSync {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(NoSyncFile(self.0.open(name, access)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        self.0.is_current(name, file)
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        self.0.watch()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

struct NoSyncFile(Box<dyn StorageFile>);

impl StorageFile for NoSyncFile {
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

    fn lock(&self, lock: Lock) -> io::Result<()> {
        self.0.lock(lock)
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        self.0.try_lock(lock)
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
}

/// A storage in memory that keeps only the end of each file. Used to measure an append without any
/// system call. Supports one appender.
#[derive(Default)]
pub struct Null {
    /// Files by name, in the order in which they were opened first.
    files: Mutex<Vec<(String, NullFile)>>,
}

impl Storage for Null {
    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn StorageFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = files.iter().find(|(known, _)| known == name) {
            return Ok(Box::new(file.clone()));
        }
        let file = NullFile { number: files.len() as u64, end: Arc::default() };
        files.push((name.to_owned(), file.clone()));
        Ok(Box::new(file))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_current(&self, _: &str, _: &dyn StorageFile) -> io::Result<bool> {
        Ok(true)
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
}

/// At least this much of the end of a file is kept, at most twice as much.
const KEPT_BYTES: usize = 64 << 10;

#[derive(Clone)]
struct NullFile {
    number: u64,
    end: Arc<Mutex<End>>,
}

#[derive(Default)]
struct End {
    /// Bytes of the file before `kept`.
    dropped_bytes: u64,
    kept: Vec<u8>,
}

impl NullFile {
    fn with<T>(&self, work: impl FnOnce(&mut End) -> T) -> T {
        work(&mut self.end.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StorageFile for NullFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|end| {
            let Some(begin) = offset.checked_sub(end.dropped_bytes) else {
                return Err(io::Error::other("these bytes were not kept"));
            };
            let available = end.kept.get(begin as usize..).unwrap_or_default();
            let count = available.len().min(buffer.len());
            buffer[..count].copy_from_slice(&available[..count]);
            Ok(count)
        })
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|end| {
            end.kept.extend_from_slice(bytes);
            if end.kept.len() > 2 * KEPT_BYTES {
                let excess = end.kept.len() - KEPT_BYTES;
                end.kept.drain(..excess);
                end.dropped_bytes += excess as u64;
            }
        });
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|end| {
            let Some(begin) = offset.checked_sub(end.dropped_bytes) else {
                return Err(io::Error::other("these bytes were not kept"));
            };
            let begin = begin as usize;
            if end.kept.len() < begin + bytes.len() {
                end.kept.resize(begin + bytes.len(), 0);
            }
            end.kept[begin..begin + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|end| end.dropped_bytes + end.kept.len() as u64))
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.number))
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
