//! Storages beneath a bus that leave something out, so that its cost can be told from the rest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zero_bus::storage::{Access, Directory, Lock, Storage, StorageFile, Watch};

/// A directory whose syncs do nothing: for building long logs, and for what an append costs beside its sync.
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

    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
}

/// No files at all: what is appended is counted and, but for its end, forgotten. Good for one appender, to tell what
/// an append costs without a single system call.
#[derive(Default)]
pub struct Null {
    /// Few, and opened once: by name, in the order they came.
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

/// How much of a file's end is kept, at least; twice as much at most.
const KEPT_BYTES: usize = 64 << 10;

#[derive(Clone)]
struct NullFile {
    number: u64,
    end: Arc<Mutex<End>>,
}

#[derive(Default)]
struct End {
    /// How many bytes before those that are kept.
    forgotten: u64,
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
            let Some(begin) = offset.checked_sub(end.forgotten) else {
                return Err(io::Error::other("it was not kept"));
            };
            let rest = end.kept.get(begin as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|end| {
            end.kept.extend_from_slice(bytes);
            if end.kept.len() > 2 * KEPT_BYTES {
                let over = end.kept.len() - KEPT_BYTES;
                end.kept.drain(..over);
                end.forgotten += over as u64;
            }
        });
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|end| {
            let Some(begin) = offset.checked_sub(end.forgotten) else {
                return Err(io::Error::other("it was not kept"));
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
        Ok(self.with(|end| end.forgotten + end.kept.len() as u64))
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

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }
}
