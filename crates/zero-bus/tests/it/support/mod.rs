//! A storage that counts what is read and fails what it is told to, around a real directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use zero_bus::storage::{Access, Directory, Lock, Storage, StorageFile, Watch};
use zero_bus::{Bus, Draft, Event, Reader, Verdict};

#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) bytes_read: AtomicU64,
    pub(crate) longest_append: AtomicUsize,
    pub(crate) syncs: AtomicU64,
    pub(crate) fail_write: AtomicBool,
    pub(crate) fail_sync: AtomicBool,
    pub(crate) panic_sync: AtomicBool,
    /// Somebody else appends a line before ours.
    pub(crate) intrude: AtomicBool,
    /// While it is shut, a sync waits at it.
    pub(crate) gate: Gate,
}

#[derive(Default)]
pub(crate) struct Gate {
    /// Whether it is shut, and how many wait at it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn set_shut(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    /// Returns once somebody waits at it.
    pub(crate) fn until_somebody_waits(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |(_, waiting)| *waiting == 0).unwrap());
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |(shut, _)| *shut).unwrap();
        state.1 -= 1;
    }
}

pub(crate) struct WatchedStorage {
    directory: Directory,
    pub(crate) watched: Arc<Watched>,
}

impl WatchedStorage {
    pub(crate) fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self { directory: Directory::create(path).unwrap(), watched: Arc::default() })
    }
}

struct WatchedFile {
    file: Box<dyn StorageFile>,
    watched: Arc<Watched>,
}

impl Storage for WatchedStorage {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let file = self.directory.open(name, access)?;
        Ok(Box::new(WatchedFile { file, watched: Arc::clone(&self.watched) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync()
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        self.directory.is_current(name, file)
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        self.directory.watch()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }
}

fn failure(fails: &AtomicBool) -> io::Result<()> {
    if fails.load(SeqCst) { Err(io::Error::other("the test says no")) } else { Ok(()) }
}

impl StorageFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        self.watched.bytes_read.fetch_add(read as u64, SeqCst);
        Ok(read)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.watched.longest_append.fetch_max(bytes.len(), SeqCst);
        if self.watched.fail_write.load(SeqCst) {
            // As a full disk does it: some of it arrives.
            self.file.append(&bytes[..bytes.len() / 2])?;
        }
        failure(&self.watched.fail_write)?;
        if self.watched.intrude.load(SeqCst) {
            self.file.append(b"{}\n")?;
        }
        self.file.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.watched.gate.pass();
        assert!(!self.watched.panic_sync.load(SeqCst), "the test says so");
        failure(&self.watched.fail_sync)?;
        self.watched.syncs.fetch_add(1, SeqCst);
        self.file.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.file.identity()
    }

    fn lock(&self, lock: Lock) -> io::Result<()> {
        self.file.lock(lock)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

/// A draft that says its number.
pub(crate) fn draft(number: u64) -> Draft {
    Draft::new("test.event", 1777593600.0 + number as f64, &BTreeMap::from([("number", number)])).unwrap()
}

/// A bus with this many events.
pub(crate) fn bus_of(path: &Path, events: u64) -> Vec<Event> {
    Bus::open(path).unwrap().append_batch((1..=events).map(draft).collect()).unwrap()
}

pub(crate) fn verify(path: &Path) -> Verdict {
    Reader::open(path).unwrap().verify().unwrap()
}

/// Adds raw bytes to the log, as a crash or a stranger would.
pub(crate) fn add_to_log(path: &Path, bytes: &[u8]) {
    let mut log =
        std::fs::OpenOptions::new().append(true).create(true).open(path.join("events.jsonl")).unwrap();
    io::Write::write_all(&mut log, bytes).unwrap();
}

pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The numbers that the drafts of the events on a bus said.
pub(crate) fn numbers(path: &Path) -> Vec<u64> {
    let events = Reader::open(path).unwrap().events(1).unwrap();
    events.map(|event| event.unwrap().payload.value().get("number").unwrap().as_u64().unwrap()).collect()
}
