//! Appending. `Writer::commit` is the commit point: what it returns has been synced.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde::Serialize;
use smallvec::SmallVec;

use crate::canonical::Json;
use crate::chain::{self, Head};
use crate::error::{Error, Result};
use crate::event::{Draft, Event, MAX_LINE_BYTES};
use crate::lines::{LOCK, LOG};
use crate::queue::{Queue, Slot};
use crate::recover::{self, End, Opening, QuarantinedTail};
use crate::snapshot::{self, Snapshot};
use crate::storage::{Access, Directory, Lock, Storage, StorageFile};
use crate::sync::{Arc, Mutex, lock};
use crate::sync_mark::SyncMark;

/// How much may be [submitted](Bus::submit) for one batch, in bytes, before more of it waits for the next one.
const SUBMITTED: usize = 1 << 20;

/// How often the lock file may be replaced while it is waited for.
const LOCK_TRIES: usize = 8;

/// A bus opened for appending. Any number of threads may share one handle, and any number of handles, in any number of
/// processes, may append to one bus. What threads append while a batch is being synced makes up the next batch, so that
/// they share its write and its sync; nobody is held back for a fuller one. Each batch takes the bus's lock for as long
/// as it writes and syncs.
///
/// Opening and appending read the tail of the log and nothing more, however long it is.
pub struct Bus {
    core: Arc<Core>,
    /// Commits what was [submitted](Bus::submit) and is not waited for; begun by the first ticket.
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What is appended together. An event that comes alone needs no memory of its own for that.
type Drafts = SmallVec<[Draft; 1]>;
type Events = SmallVec<[Event; 1]>;

struct Core {
    storage: Arc<dyn Storage>,
    writer: Mutex<Writer>,
    queue: Queue<Drafts, Result<Events>>,
    /// The writer is poisoned: for who cannot wait until a batch is committed to look at it.
    failed: AtomicBool,
}

struct Writer {
    log: Arc<dyn StorageFile>,
    lock: Arc<dyn StorageFile>,
    end: End,
    poisoned: bool,
    set_aside: Vec<QuarantinedTail>,
    /// The batch being written, then its note; kept for its memory.
    lines: String,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("log", &self.log_path()).finish_non_exhaustive()
    }
}

/// An event on its way, see [`Bus::submit`].
pub struct Ticket {
    core: Arc<Core>,
    slot: Arc<Slot<Result<Events>>>,
}

impl Ticket {
    /// Waits until the event is durable.
    ///
    /// # Errors
    /// As [`Bus::append_batch`].
    pub fn wait(self) -> Result<Event> {
        // One draft in, one event out.
        self.core.wait(&self.slot).map(|mut events| events.remove(0))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl Bus {
    /// Opens the bus in a directory for appending, making both (0700, 0600) where there is none.
    ///
    /// A torn tail, the unfinished line that a crash leaves, is set aside in a file next to the log and cut
    /// off; [`Bus::set_aside`] tells. Reads the last two lines of the log, and what a crash left unsynced.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the log does not end in a sound event, [`Error::NotABus`] where the path is
    /// no directory, [`Error::Io`] for what the system refuses.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("bus");
    /// let bus = zero_bus::Bus::open(&path)?;
    /// assert_eq!(bus.head().index, 0);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.exists() && !path.is_dir() {
            return Err(Error::NotABus {
                path: path.to_owned(),
                reason: "it is a file, not a directory".to_owned(),
            });
        }
        let directory = Directory::create(path).map_err(Error::io("open the directory", path))?;
        Self::open_in(Arc::new(directory))
    }

    /// Opens the bus in any storage, see [`Bus::open`].
    ///
    /// # Errors
    /// As [`Bus::open`].
    pub fn open_in(storage: Arc<dyn Storage>) -> Result<Self> {
        Self::open_decided(storage, None)
    }

    /// Opens a bus of whose end nobody can tell from the bytes whether a crash left it ([`Error::Ambiguous`]), setting
    /// aside what begins at `byte_offset`, as somebody decided who knows more. Everything else is as with [`Bus::open`].
    ///
    /// # Errors
    /// As [`Bus::open`]; still [`Error::Ambiguous`] where what is undecided begins elsewhere.
    pub fn open_quarantining(path: impl AsRef<Path>, byte_offset: u64) -> Result<Self> {
        let path = path.as_ref();
        let directory = Directory::open(path).map_err(Error::io("open the directory", path))?;
        Self::open_decided(Arc::new(directory), Some(byte_offset))
    }

    fn open_decided(storage: Arc<dyn Storage>, decided: Option<u64>) -> Result<Self> {
        let open = |name, access| {
            storage.open(name, access).map_err(Error::io("open it for appending", &storage.path(name)))
        };
        let lock: Arc<dyn StorageFile> = Arc::from(open(LOCK, Access::ReadWrite)?);
        let log: Arc<dyn StorageFile> = Arc::from(open(LOG, Access::Append)?);
        // Both files' names, before anything in them is acknowledged.
        storage.sync().map_err(Error::io("sync the directory of", &storage.path(LOG)))?;
        let (end, lines) = (End::default(), String::new());
        let mut writer = Writer { log, lock, end, poisoned: false, set_aside: Vec::new(), lines };
        writer.locked(&*storage, |writer| writer.recover(&*storage, Opening::Anew { decided }))?;
        let (writer, queue) = (Mutex::new(writer), Queue::new(SUBMITTED));
        let core = Core { storage, writer, queue, failed: AtomicBool::new(false) };
        Ok(Self { core: Arc::new(core), committer: Mutex::new(None) })
    }

    /// The torn tails that this handle has set aside: when it was opened, or when another one died in the
    /// middle of an append.
    pub fn quarantined(&self) -> Vec<QuarantinedTail> {
        lock(&self.core.writer).set_aside.clone()
    }

    /// What the operator should know: what was set aside, and who else may write here.
    pub fn warnings(&self) -> Vec<String> {
        let set_aside = self
            .quarantined()
            .into_iter()
            .map(|set_aside| format!("{}: {set_aside}", self.log_path().display()));
        set_aside.chain(self.core.storage.warnings()).collect()
    }

    /// Where the log is.
    pub fn log_path(&self) -> PathBuf {
        self.core.storage.path(LOG)
    }

    /// Where the chain stands, as far as this handle has seen: other handles may have gone on since.
    pub fn head(&self) -> Head {
        lock(&self.core.writer).end.head
    }

    /// Whether the log ends where this handle has last seen it end, so that there is nothing to read that others appended.
    /// Costs one look at the file's size.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_at_end(&self) -> Result<bool> {
        let writer = lock(&self.core.writer);
        let size = writer.log.size().map_err(Error::io("look at it", &self.log_path()))?;
        Ok(size == writer.end.offset)
    }

    /// Appends one event. When this returns, the event has been synced.
    ///
    /// Costs one `write` and one `fdatasync`, whatever the length of the log, shared with what other threads append in
    /// the meantime.
    ///
    /// # Errors
    /// As [`Bus::append_batch`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let reading = BTreeMap::from([("celsius", 21.5)]);
    /// let event = bus.append(Draft::new("sensor.reading", 1777593600.0, &reading)?)?;
    /// assert_eq!(event.id(), "evt-000000000001");
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn append(&self, draft: Draft) -> Result<Event> {
        // One draft in, one event out.
        self.append_all(Drafts::from_buf([draft])).map(|mut events| events.remove(0))
    }

    /// Appends events in their order, next to each other, with one write and one sync for all of them. When
    /// this returns, all of them have been synced. A crash before that may leave the first few of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] where one of them cannot be an event: none is written. [`Error::Io`] where the
    /// write or the sync fails: none is acknowledged, and this handle takes no more
    /// ([`Error::Poisoned`]). [`Error::Damaged`] and [`Error::Changed`] where the log is no longer what it
    /// was.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let drafts = (1..=3).map(|n| Draft::new("step.done", 0.0, &BTreeMap::from([("step", n)])));
    /// let events = bus.append_batch(drafts.collect::<Result<_, _>>()?)?;
    /// assert_eq!(events[2].index, 3);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn append_batch(&self, drafts: Vec<Draft>) -> Result<Vec<Event>> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        self.append_all(Drafts::from_vec(drafts)).map(Events::into_vec)
    }

    fn append_all(&self, drafts: Drafts) -> Result<Events> {
        drafts.iter().try_for_each(Draft::check)?;
        let committed = self.core.queue.submit_and_wait(drafts, |jobs| self.core.commit(jobs));
        self.core.told(committed)
    }

    /// Puts an event in line and returns at once; the ticket tells when it is durable. A thread's events keep their order,
    /// whether they were submitted or appended. What was submitted is committed also if nobody waits for it; dropping
    /// the handle waits until it is. Where a mebibyte is in line already, it waits until that is committed, so that who
    /// submits faster than the disk syncs fills no memory and holds nobody up.
    ///
    /// Who drops its tickets is told of a disk that fails by the next call that is refused; of the last ones only their own
    /// tickets tell.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it cannot be an event, [`Error::Io`] where the thread that commits cannot be begun,
    /// [`Error::Poisoned`] where an earlier write or sync failed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let ticket = bus.submit(Draft::new("step.begun", 0.0, &BTreeMap::from([("step", 1)]))?)?;
    /// // Go on working, and before anything depends on it:
    /// assert_eq!(ticket.wait()?.index, 1);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn submit(&self, draft: Draft) -> Result<Ticket> {
        draft.check()?;
        if self.core.failed.load(Ordering::Acquire) {
            return Err(Error::Poisoned { path: self.log_path() });
        }
        let mut committer = lock(&self.committer);
        // One that has panicked left its batch, and attends to nothing any more.
        if committer.as_ref().is_none_or(JoinHandle::is_finished) {
            let core = Arc::clone(&self.core);
            let spawned = std::thread::Builder::new()
                .name("zero-bus commit".to_owned())
                .spawn(move || core.queue.run_committer(|jobs| core.commit(jobs)));
            *committer = Some(spawned.map_err(Error::io("begin a thread for it", &self.log_path()))?);
        }
        drop(committer);
        // About what it holds in memory until it is committed.
        let trace_id = draft.trace_id.as_ref().map_or(0, String::len);
        let size = size_of::<Draft>() + draft.payload.as_str().len() + draft.event_type.len() + trace_id;
        let core = &self.core;
        let slot = core.queue.submit(Drafts::from_buf([draft]), size, |jobs| core.commit(jobs));
        self.core.queue.wake();
        Ok(Ticket { core: Arc::clone(&self.core), slot })
    }

    /// Puts a snapshot of the producer's state, bound to where the chain stands as far as this handle has
    /// seen, in the place of the one before. At any moment there is a whole one; after a power cut it may be the one
    /// before, which knows less and says nothing wrong. `as_of` is in seconds since the Unix
    /// epoch; `source_event_id` names the event that this is the state after, if it is one in particular.
    ///
    /// Costs a file's sync and a rename.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a time that is none, or a state that has no canonical form, nests too deep or
    /// makes more than [`MAX_LINE_BYTES`](crate::MAX_LINE_BYTES); [`Error::Io`] for what the system refuses;
    /// [`Error::Poisoned`] and [`Error::Changed`] as for an append.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    /// bus.write_snapshot(1777593600.0, Some(&event.id()), &BTreeMap::from([("doors_open", 1)]))?;
    ///
    /// let snapshot = bus.reader().snapshot()?.expect("it was just written");
    /// assert_eq!((snapshot.event_count, snapshot.last_checksum), (1, Some(event.checksum)));
    /// assert_eq!(snapshot.payload.as_str(), r#"{"doors_open":1}"#);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn write_snapshot<T: Serialize + ?Sized>(
        &self,
        as_of: f64,
        source_event_id: Option<&str>,
        state: &T,
    ) -> Result<Snapshot> {
        let payload = Json::of(state)?;
        let source_event_id = source_event_id.map(str::to_owned);
        self.with_head(|storage, head| {
            let Head { index: event_count, checksum: last_checksum } = head;
            let snapshot = Snapshot { as_of, event_count, last_checksum, payload, source_event_id };
            snapshot::write(storage, &snapshot)?;
            Ok(snapshot)
        })
    }

    /// Makes something of where the chain stands as far as this handle has seen, with the bus's lock held.
    fn with_head<T>(&self, work: impl FnOnce(&dyn Storage, Head) -> Result<T>) -> Result<T> {
        let storage = &*self.core.storage;
        lock(&self.core.writer).locked(storage, |writer| {
            writer.can_go_on(storage)?;
            work(storage, writer.end.head)
        })
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.core.storage
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        if let Some(committer) = lock(&self.committer).take() {
            self.core.queue.close();
            // It ends when nothing is waiting; had it panicked, its tickets would say so.
            let _ = committer.join();
        }
    }
}

impl Core {
    fn wait(&self, slot: &Slot<Result<Events>>) -> Result<Events> {
        self.told(self.queue.wait(slot, |jobs| self.commit(jobs)))
    }

    /// What became of a job, also if who committed it panicked.
    fn told(&self, committed: Option<Result<Events>>) -> Result<Events> {
        committed.unwrap_or_else(|| Err(Error::Poisoned { path: self.storage.path(LOG) }))
    }

    /// Commits jobs as one batch. A job that cannot be committed by itself fails alone; anything else fails all.
    fn commit(&self, jobs: &mut impl Iterator<Item = Drafts>) -> Vec<Result<Events>> {
        let storage = &*self.storage;
        let mut taken = 0;
        let mut writer = lock(&self.writer);
        let committed = writer.locked(storage, |writer| {
            writer.refresh_end(storage)?;
            writer.commit(storage, jobs.inspect(|_| taken += 1))
        });
        let poisoned = writer.poisoned;
        drop(writer);
        committed.unwrap_or_else(|error| {
            self.failed.fetch_or(poisoned, Ordering::Release);
            let others = (1..taken + jobs.count()).map(|_| Err(error.again())).collect::<Vec<_>>();
            std::iter::once(Err(error)).chain(others).collect()
        })
    }
}

/// A lock that is held, and released however the work ends.
struct Held(Arc<dyn StorageFile>);

impl Held {
    fn lock(file: &Arc<dyn StorageFile>) -> io::Result<Self> {
        file.lock(Lock::Exclusive)?;
        Ok(Self(Arc::clone(file)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What was done stays done if this fails; the next one to wait for the lock will take_changes of it.
        let _ = self.0.unlock();
    }
}

impl Writer {
    /// Does something with the bus's lock held.
    fn locked<T>(&mut self, storage: &dyn Storage, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let failed = |action| failed(storage, LOCK, action);
        let mut held = Held::lock(&self.lock).map_err(failed("lock it"))?;
        for _ in 0..LOCK_TRIES {
            // Who removes the lock file must not have two appenders hold two different ones.
            if storage.is_current(LOCK, &*self.lock).map_err(failed("look at it"))? {
                break;
            }
            // Or the whole bus was moved away, which the work will find. It may also be back, and the same file.
            drop(held);
            self.lock = Arc::from(storage.open(LOCK, Access::ReadWrite).map_err(failed("open it"))?);
            held = Held::lock(&self.lock).map_err(failed("lock it"))?;
        }
        let result = work(self);
        drop(held);
        result
    }

    /// Brings the log to an end that can be built upon, and goes there.
    fn recover(&mut self, storage: &dyn Storage, opening: Opening) -> Result<()> {
        let (end, set_aside) = recover::recover(storage, &self.log, &*self.lock, opening)?;
        self.set_aside.extend(set_aside);
        self.end = end;
        Ok(())
    }

    /// Whether what this handle knows of the log can be built upon.
    fn can_go_on(&self, storage: &dyn Storage) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned { path: storage.path(LOG) });
        }
        if !storage.is_current(LOG, &*self.log).map_err(failed(storage, LOG, "look at it"))? {
            return Err(Error::Changed {
                path: storage.path(LOG),
                reason: "was moved away or replaced; open the bus again to judge what is there now",
            });
        }
        Ok(())
    }

    /// Goes to the real end of the log, which other handles may have moved.
    fn refresh_end(&mut self, storage: &dyn Storage) -> Result<()> {
        self.can_go_on(storage)?;
        let length = self.log.size().map_err(failed(storage, LOG, "look at it"))?;
        if length < self.end.offset {
            return Err(Error::Changed {
                path: storage.path(LOG),
                reason: "is shorter than it was; open the bus again to judge it afresh",
            });
        }
        if length > self.end.offset {
            // Another handle appended, or died while it did.
            let seen = self.end.head.index;
            self.recover(storage, Opening::GoingOn)?;
            if self.end.head.index < seen {
                return Err(Error::Changed {
                    path: storage.path(LOG),
                    reason: "holds fewer events than it did; open the bus again to judge it afresh",
                });
            }
        }
        Ok(())
    }

    fn write_and_sync(&self, storage: &dyn Storage, lines: &[u8]) -> Result<()> {
        let failed = |action| failed(storage, LOG, action);
        self.log.append(lines).map_err(failed("append to it"))?;
        if self.log.size().map_err(failed("look at it"))? != self.end.offset + lines.len() as u64 {
            let reason = "was appended to at the same time by a program that takes no lock; stop that one, then repair";
            return Err(Error::Changed { path: storage.path(LOG), reason });
        }
        self.log.sync().map_err(failed("sync it"))
    }

    /// Links, writes, syncs. Nothing before the sync is known to anybody, and nothing after it can fail.
    fn commit(
        &mut self,
        storage: &dyn Storage,
        jobs: impl Iterator<Item = Drafts>,
    ) -> Result<Vec<Result<Events>>> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        if self.end.unterminated {
            lines.push('\n');
        }
        let mut head = self.end.head;
        let mut results = Vec::new();
        for drafts in jobs {
            let (begin, before) = (lines.len(), head);
            let linked = link(&mut head, drafts, &mut lines);
            if linked.is_err() {
                lines.truncate(begin);
                head = before;
            }
            results.push(linked);
        }
        if head != self.end.head {
            // Until both have succeeded, what the file holds is unknown.
            self.poisoned = true;
            let written = self.write_and_sync(storage, lines.as_bytes());
            if written.is_err() {
                // Nobody was told of any of it: better gone than read by somebody before the power goes.
                let length = self.end.offset + lines.len() as u64;
                if self.log.size().is_ok_and(|size| size <= length) {
                    let _ = self.log.truncate(self.end.offset);
                }
            }
            written?;
            self.poisoned = false;
            self.end = End { head, offset: self.end.offset + lines.len() as u64, unterminated: false };
            // An older note knows less and says nothing wrong, so this need not succeed.
            let _ = SyncMark { head, bytes: self.end.offset }.write(&*self.lock, &mut lines);
        }
        self.lines = lines;
        Ok(results)
    }
}

/// What becomes of what the system says about a file.
fn failed(storage: &dyn Storage, name: &str, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: storage.path(name), source }
}

/// Links drafts to a head one behind the other, which moves on.
fn link(head: &mut Head, drafts: Drafts, lines: &mut String) -> Result<Events> {
    let mut events = Events::with_capacity(drafts.len());
    for draft in drafts {
        let begin = lines.len();
        let event = chain::link(*head, draft, lines)?;
        let length = lines.len() - begin - 1;
        if length > MAX_LINE_BYTES {
            let reason = format!("makes a line of {length} bytes, more than {MAX_LINE_BYTES}");
            return Err(Error::invalid("payload", reason));
        }
        *head = Head { index: event.index, checksum: Some(event.checksum) };
        events.push(event);
    }
    Ok(events)
}
