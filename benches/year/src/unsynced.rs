//! A directory whose syncs do nothing, and whose cycle journal keeps nothing: a year of records is
//! then written in minutes.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use zero_bus::storage::{Access, Directory, Lock, Storage, StorageFile, Watch};

/// The file that is not kept. The runtime does not need it to start.
const DISCARDED: &str = "cycles.jsonl";

pub(crate) struct Unsynced(Directory);

impl Unsynced {
    pub(crate) fn new(directory: Directory) -> Self {
        Self(directory)
    }
}

impl Storage for Unsynced {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        if name == DISCARDED {
            return Ok(Box::new(Discarded(AtomicU64::new(0))));
        }
        Ok(Box::new(UnsyncedFile(self.0.open(name, access)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        if name == DISCARDED { Ok(true) } else { self.0.is_current(name, file) }
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        self.0.watch()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

struct UnsyncedFile(Box<dyn StorageFile>);

impl StorageFile for UnsyncedFile {
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

/// Counts what is appended.
struct Discarded(AtomicU64);

impl StorageFile for Discarded {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
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
