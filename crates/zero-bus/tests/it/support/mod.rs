//! Helpers for the tests: a directory that counts and fails file operations, drafts, and small
//! buses.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use zero_bus::storage::{Access, Directory, Lock, Storage, StorageFile, Watch};
use zero_bus::{Bus, Draft, Event, RECOVERED_TYPE, Reader, Verdict};

/// Whether the long form of the tests was asked for (`.ci/soak`). The normal run takes a part of
/// the same cases.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1")
}

/// What a [`WatchedStorage`] counts, and the operations that a test makes it fail.
#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) bytes_read: AtomicU64,
    pub(crate) max_append_bytes: AtomicUsize,
    pub(crate) syncs: AtomicU64,
    pub(crate) fail_write: AtomicBool,
    pub(crate) fail_sync: AtomicBool,
    pub(crate) panic_sync: AtomicBool,
    /// Before each append, append a line as another program would that takes no lock.
    pub(crate) intrude: AtomicBool,
    pub(crate) sync_gate: SyncGate,
}

/// Holds syncs back while it is closed, so that a test can act during a sync.
#[derive(Default)]
pub(crate) struct SyncGate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    waiting_syncs: usize,
}

impl SyncGate {
    pub(crate) fn close(&self) {
        self.state.lock().unwrap().closed = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Returns once a sync waits at the gate.
    pub(crate) fn wait_for_sync(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.waiting_syncs == 0).unwrap());
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting_syncs += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.closed).unwrap();
        state.waiting_syncs -= 1;
    }
}

/// A real directory whose operations are counted, and fail if the test says so.
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

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.directory.list(directory)
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

fn fail_if(fails: &AtomicBool) -> io::Result<()> {
    if fails.load(SeqCst) { Err(io::Error::other("the test fails this operation")) } else { Ok(()) }
}

impl StorageFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        self.watched.bytes_read.fetch_add(read as u64, SeqCst);
        Ok(read)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.watched.max_append_bytes.fetch_max(bytes.len(), SeqCst);
        if self.watched.fail_write.load(SeqCst) {
            // A full disk takes a part of the bytes.
            self.file.append(&bytes[..bytes.len() / 2])?;
        }
        fail_if(&self.watched.fail_write)?;
        if self.watched.intrude.load(SeqCst) {
            self.file.append(b"{}\n")?;
        }
        self.file.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.watched.sync_gate.pass();
        assert!(!self.watched.panic_sync.load(SeqCst), "the test makes this sync panic");
        fail_if(&self.watched.fail_sync)?;
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

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        self.file.try_lock(lock)
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

/// Returns a draft whose payload and time hold the number.
pub(crate) fn draft(number: u64) -> Draft {
    Draft::new("test.event", 1777593600.0 + number as f64, &BTreeMap::from([("number", number)])).unwrap()
}

/// Creates a bus with the numbers 1 to `events`, closes it and returns its events.
pub(crate) fn bus_of(path: &Path, events: u64) -> Vec<Event> {
    Bus::open(path).unwrap().append_batch((1..=events).map(draft).collect()).unwrap()
}

pub(crate) fn verify(path: &Path) -> Verdict {
    Reader::open(path).unwrap().verify().unwrap()
}

/// Appends raw bytes to the log, as a crash or another program would.
pub(crate) fn add_to_log(path: &Path, bytes: &[u8]) {
    let mut log =
        std::fs::OpenOptions::new().append(true).create(true).open(path.join("events.jsonl")).unwrap();
    io::Write::write_all(&mut log, bytes).unwrap();
}

pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Returns the numbers in the payloads of a bus. Skips the records of quarantined tails.
pub(crate) fn numbers(path: &Path) -> Vec<u64> {
    let events = Reader::open(path).unwrap().events(1).unwrap().map(Result::unwrap);
    events
        .filter(|event| event.event_type != RECOVERED_TYPE)
        .map(|event| event.payload.value().get("number").unwrap().as_u64().unwrap())
        .collect()
}

/// Set in the environment of a test that [`run_again`] has started.
const CHILD: &str = "ZERO_BUS_TEST_CHILD";

/// Runs one test of this program again in another process: `command` is run with the arguments
/// `sh -c SETUP; exec TEST` after its own. In that process, [`child_argument`] returns `argument`.
/// Returns whether the test ran and passed, or `None` if `command` is missing or refused its work.
pub(crate) fn run_again(command: &[&str], setup: &str, test: &str, argument: &str) -> Option<()> {
    let program = std::env::current_exe().unwrap();
    let script = format!("{setup} || exit 77; exec \"$0\" --exact {test} --nocapture");
    let mut command = command.iter().copied().chain(["sh", "-c", &script]);
    let output = std::process::Command::new(command.next().unwrap())
        .args(command)
        .arg(program)
        .env(CHILD, argument)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(101), "{text}");
    if !output.status.success() {
        println!("not tested: {text}");
        return None;
    }
    assert!(text.contains("test result: ok. 1 passed"), "{text}");
    Some(())
}

/// Returns the argument of [`run_again`] in the process that it has started.
pub(crate) fn child_argument() -> Option<String> {
    std::env::var(CHILD).ok()
}
