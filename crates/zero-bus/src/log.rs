//! Appending to a bus: the handle, its writer and the commit point.
//!
//! A [`Bus`] links, writes and syncs events in batches. [`Queue`] forms the batches from the jobs
//! of many threads and chooses the thread that commits. [`Writer::commit`] is the commit point:
//! when it returns, the batch has been synced.
//!
//! Two locks, always taken in this order:
//!
//! 1. The mutex around [`Writer`] protects what this handle knows about the log. One thread of the
//!    process holds it for one batch or one snapshot.
//! 2. The exclusive `flock` on `bus.lock` protects the files against all other handles and
//!    processes. Only [`Writer::with_lock`] takes it, so its holder also holds the mutex.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use smallvec::SmallVec;

use crate::canonical::Json;
use crate::chain::{self, Head};
use crate::error::{Error, Result};
use crate::event::{Draft, Event, MAX_LINE_BYTES, RECOVERED_TYPE};
use crate::lines::{LOCK, LOG};
use crate::lock_wait;
use crate::quarantine::{PendingRecord, QuarantinedTail, RecoveryRecord, overwrite_tail};
use crate::queue::{Queue, Slot};
use crate::recover::{self, AmbiguousTail, End, Purpose};
use crate::snapshot::{self, Snapshot};
use crate::storage::{Access, Lock, Storage, StorageFile};
use crate::sync::{Arc, Mutex, lock};
use crate::sync_mark::SyncMark;

/// Times that a writer reopens a lock file that was replaced while it waited for the lock.
const MAX_LOCK_ATTEMPTS: usize = 8;

/// A bus opened for appending.
///
/// Any number of threads can share one handle, and any number of handles, in any number of
/// processes, can append to one bus. Events that threads append while a batch is being synced form
/// the next batch and share its write and its sync. No event is delayed to fill a batch. A batch
/// holds the bus's lock while it is written and synced.
///
/// Opening and appending read only the tail of the log, so their cost does not grow with it.
pub struct Bus {
    core: Arc<Core>,
    /// The thread that commits [submitted](Bus::submit) events for which no thread waits. The first
    /// call of `submit` starts it. The mutex protects the handle only; the thread does not take it.
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// Drafts that are appended next to each other. A single draft needs no allocation.
type Drafts = SmallVec<[Draft; 1]>;
type Events = SmallVec<[Event; 1]>;

/// One call to append or submit.
struct Job {
    drafts: Drafts,
    /// The head to which the drafts must be appended. Any head if `None`.
    expected: Option<Head>,
}

/// The part of a handle that its tickets and its committer share.
struct Core {
    storage: Arc<dyn Storage>,
    writer: Mutex<Writer>,
    queue: Queue<Job, Result<Events>>,
    /// A copy of `Writer::poisoned` that can be read without waiting for the batch that holds the
    /// mutex. Set after the failed batch has given up the mutex.
    poisoned: AtomicBool,
}

/// How a handle works, as its [`OpenOptions`](crate::OpenOptions) say.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Not 0.
    pub(crate) max_pending_bytes: usize,
    pub(crate) on_ambiguous_tail: AmbiguousTail,
    pub(crate) lock_timeout: Duration,
    /// Gives the time of a recovery record.
    pub(crate) clock: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// What one handle knows about the log, protected by the mutex in [`Core`].
struct Writer {
    log: Arc<dyn StorageFile>,
    lock_file: Arc<dyn StorageFile>,
    /// The end of the log when this handle last saw it. Other handles may have appended since,
    /// unless the lock has been held from then on.
    end: End,
    /// Set while a batch is written and synced. Stays set if that fails or panics: then what the
    /// file holds is unknown.
    poisoned: bool,
    quarantined: Vec<QuarantinedTail>,
    settings: Settings,
    /// Buffer for the lines of a batch and then for its sync mark. Kept to reuse its memory.
    lines: String,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("log", &self.log_path()).finish_non_exhaustive()
    }
}

/// A submitted event whose commit may be in progress. Returned by [`Bus::submit`].
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
        // A submitted job has one draft, so it has one event.
        self.core.wait(&self.slot).map(|mut events| events.remove(0))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl Bus {
    /// Opens the log and recovers it.
    pub(crate) fn open_with(storage: Arc<dyn Storage>, settings: Settings) -> Result<Self> {
        let open = |name, access| {
            storage.open(name, access).map_err(Error::io("open it for appending", &storage.path(name)))
        };
        let lock_file: Arc<dyn StorageFile> = Arc::from(open(LOCK, Access::ReadWrite)?);
        let log: Arc<dyn StorageFile> = Arc::from(open(LOG, Access::Append)?);
        // The names of both files must be durable before any of their content is acknowledged.
        storage.sync().map_err(Error::io("sync the directory of", &storage.path(LOG)))?;
        let queue = Queue::new(settings.max_pending_bytes);
        let (end, quarantined, lines) = (End::default(), Vec::new(), String::new());
        let mut writer = Writer { log, lock_file, end, poisoned: false, quarantined, settings, lines };
        writer.with_lock(&*storage, |writer| writer.recover(&*storage, Purpose::Open))?;
        let writer = Mutex::new(writer);
        let core = Core { storage, writer, queue, poisoned: AtomicBool::new(false) };
        Ok(Self { core: Arc::new(core), committer: Mutex::new(None) })
    }

    /// Returns the torn tails that this handle has quarantined: when it was opened, or when another
    /// handle had crashed during an append.
    pub fn quarantined(&self) -> Vec<QuarantinedTail> {
        lock(&self.core.writer).quarantined.clone()
    }

    /// Returns what the operator should know, one sentence each: quarantined tails, and permissions
    /// that let other users write to the bus.
    pub fn warnings(&self) -> Vec<String> {
        let quarantined =
            self.quarantined().into_iter().map(|tail| format!("{}: {tail}", self.log_path().display()));
        quarantined.chain(self.core.storage.warnings()).collect()
    }

    /// Returns the path of the log.
    pub fn log_path(&self) -> PathBuf {
        self.core.storage.path(LOG)
    }

    /// Returns the head of the chain when this handle last saw it. Other handles may have appended
    /// since. Waits for the batch that this handle is committing.
    pub fn head(&self) -> Head {
        lock(&self.core.writer).end.head
    }

    /// Returns whether the log still ends where this handle last saw its end. Costs one system
    /// call.
    ///
    /// A program that both appends and reacts to events of other programs can poll this: as long as
    /// it returns true, no other handle has appended, and the log need not be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_at_end(&self) -> Result<bool> {
        let writer = lock(&self.core.writer);
        let size_bytes = writer.log.size().map_err(Error::io("read the size of", &self.log_path()))?;
        Ok(size_bytes == writer.end.offset)
    }

    /// Appends one event. When this returns, the event has been synced.
    ///
    /// Costs one `write` and one `fdatasync`, however long the log is. Threads that append at the
    /// same time share them.
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
        // The job has one draft, so it has one event.
        self.append_job(Drafts::from_buf([draft]), None).map(|mut events| events.remove(0))
    }

    /// Appends events in order and next to each other, with one write and one sync. When this
    /// returns, all of them have been synced. A crash before that may leave the first few of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a draft cannot become an event: none is written. [`Error::Io`] if the
    /// write or the sync fails: none is acknowledged, and from then on this handle returns
    /// [`Error::Poisoned`]. [`Error::Changed`] if the log was moved, replaced or cut.
    /// [`Error::Damaged`], [`Error::Ambiguous`] or [`Error::Missing`] if another handle left a log
    /// that needs an operator.
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
        self.append_job(Drafts::from_vec(drafts), None).map(Events::into_vec)
    }

    /// Appends one event, but only if the head of the chain is `expected` at the commit point. When
    /// this returns the event, it has been synced.
    ///
    /// The head is compared under the bus's lock, so it includes the events of all other threads,
    /// handles and processes. Of several producers that expect the same head, exactly one appends.
    /// If `expected` has an index above 0 and no checksum, any event at that index matches.
    /// [`Head::default`] expects an empty log. Costs as much as [`Bus::append`].
    ///
    /// # Errors
    /// [`Error::HeadMismatch`] with the actual head: nothing of this event was written, and the
    /// handle accepts further events. Other errors as [`Bus::append_batch`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Error, Head};
    ///
    /// let bus = Bus::open(dir.path())?; let draft = || Draft::new("lease.taken", 1777593600.0,
    /// &BTreeMap::from([("by", "worker-1")])); let event = bus.append_expecting(Head::default(),
    /// draft()?)?;
    ///
    /// // The log is no longer empty.
    /// match bus.append_expecting(Head::default(), draft()?) {
    ///     Err(Error::HeadMismatch { actual, .. }) => assert_eq!(actual, event.head()),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn append_expecting(&self, expected: Head, draft: Draft) -> Result<Event> {
        // The job has one draft, so it has one event.
        self.append_job(Drafts::from_buf([draft]), Some(expected)).map(|mut events| events.remove(0))
    }

    fn append_job(&self, drafts: Drafts, expected: Option<Head>) -> Result<Events> {
        drafts.iter().try_for_each(Draft::check)?;
        let job = Job { drafts, expected };
        let committed = self.core.queue.submit_and_wait(job, |jobs| self.core.commit(jobs));
        self.core.resolve(committed)
    }

    /// Enqueues an event and returns without waiting for its sync. [`Ticket::wait`] returns the
    /// event once it is durable. The events of one thread keep their order, whether they are
    /// submitted or appended.
    ///
    /// A submitted event is committed even if its ticket is dropped. Dropping the handle waits for
    /// that. Blocks while [`OpenOptions::max_pending_bytes`](crate::OpenOptions::max_pending_bytes)
    /// (1 MiB by default) are pending, so that a thread that submits faster than the disk syncs
    /// cannot exhaust the memory.
    ///
    /// If the disk fails, the ticket returns the error, and so does every later call. A program
    /// that drops its tickets therefore learns of a failure from its next call, but not of a
    /// failure of its last events.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the draft cannot become an event, [`Error::Io`] if the committing
    /// thread cannot be started, [`Error::Poisoned`] if an earlier write or sync failed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let ticket = bus.submit(Draft::new("step.begun", 0.0, &BTreeMap::from([("step", 1)]))?)?;
    /// // Work on, and wait before anything depends on the event:
    /// assert_eq!(ticket.wait()?.index, 1);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn submit(&self, draft: Draft) -> Result<Ticket> {
        draft.check()?;
        if self.core.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned { path: self.log_path() });
        }
        let mut committer = lock(&self.committer);
        // A committer that has panicked commits nothing any more, so it is replaced.
        if committer.as_ref().is_none_or(JoinHandle::is_finished) {
            let core = Arc::clone(&self.core);
            let spawned = std::thread::Builder::new()
                .name("zero-bus commit".to_owned())
                .spawn(move || core.queue.run_committer(|jobs| core.commit(jobs)));
            *committer =
                Some(spawned.map_err(Error::io("start the committing thread for", &self.log_path()))?);
        }
        drop(committer);
        // Roughly the memory that the draft occupies until it is committed.
        let trace_id_bytes = draft.trace_id.as_ref().map_or(0, String::len);
        let text_bytes = draft.payload.as_str().len() + draft.event_type.len() + trace_id_bytes;
        let size_bytes = size_of::<Draft>() + text_bytes;
        let core = &self.core;
        let job = Job { drafts: Drafts::from_buf([draft]), expected: None };
        let slot = core.queue.submit(job, size_bytes, |jobs| core.commit(jobs));
        core.queue.wake();
        Ok(Ticket { core: Arc::clone(&self.core), slot })
    }

    /// Replaces the snapshot with the producer's current state, bound to the head of the chain that
    /// this handle last saw. `as_of` is in seconds since the Unix epoch. `source_event_id` names
    /// the event after which the producer had this state, if there is one.
    ///
    /// The replacement is atomic: there is a complete snapshot at any moment. A power cut may bring
    /// the previous one back, which is older but correct. Costs one sync of a file and one rename.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `as_of` is not a number, or if the state has no canonical form, nests
    /// too deep or is longer than [`MAX_LINE_BYTES`](crate::MAX_LINE_BYTES). [`Error::Io`] if the
    /// system refuses a file operation. [`Error::Poisoned`] and [`Error::Changed`] as for an
    /// append.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?; let event = bus.append(Draft::new("door.opened",
    /// 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?; bus.write_snapshot(1777593600.0,
    /// Some(&event.id()), &BTreeMap::from([("doors_open", 1)]))?;
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

    /// Calls `work` with the head that this handle last saw, under the bus's lock.
    fn with_head<T>(&self, work: impl FnOnce(&dyn Storage, Head) -> Result<T>) -> Result<T> {
        let storage = &*self.core.storage;
        lock(&self.core.writer).with_lock(storage, |writer| {
            writer.check_usable(storage)?;
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
            // It returns once every job is committed. If it has panicked, the tickets return the
            // error.
            let _ = committer.join();
        }
    }
}

impl Core {
    fn wait(&self, slot: &Slot<Result<Events>>) -> Result<Events> {
        self.resolve(self.queue.wait(slot, |jobs| self.commit(jobs)))
    }

    /// Turns a job without a result, whose leader panicked, into an error.
    fn resolve(&self, result: Option<Result<Events>>) -> Result<Events> {
        result.unwrap_or_else(|| Err(Error::Poisoned { path: self.storage.path(LOG) }))
    }

    /// Commits jobs as one batch and returns one result for each, in order. Only the leader of the
    /// queue calls this. An invalid job fails alone; any other error fails the whole batch.
    fn commit(&self, jobs: &mut impl Iterator<Item = Job>) -> Vec<Result<Events>> {
        let storage = &*self.storage;
        let mut taken = 0;
        let mut writer = lock(&self.writer);
        let committed = writer.with_lock(storage, |writer| {
            writer.refresh_end(storage)?;
            writer.commit(storage, jobs.inspect(|_| taken += 1))
        });
        let poisoned = writer.poisoned;
        drop(writer);
        committed.unwrap_or_else(|error| {
            self.poisoned.fetch_or(poisoned, Ordering::Release);
            let others = (1..taken + jobs.count()).map(|_| Err(error.duplicate())).collect::<Vec<_>>();
            std::iter::once(Err(error)).chain(others).collect()
        })
    }
}

/// The exclusive lock on the lock file. Released on drop, even in a panic.
struct LockGuard(Arc<dyn StorageFile>);

impl Drop for LockGuard {
    fn drop(&mut self) {
        // A failure here undoes nothing that was written, and the next attempt to lock reports it.
        let _ = self.0.unlock();
    }
}

impl Writer {
    /// Calls `work` under the bus's lock: until it returns, no other handle or process appends.
    fn with_lock<T>(
        &mut self,
        storage: &dyn Storage,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let failed = |action| io_error(storage, LOCK, action);
        let mut guard = self.lock(storage)?;
        for _ in 0..MAX_LOCK_ATTEMPTS {
            // If the lock file was replaced, other handles lock the new one: this lock excludes
            // nobody.
            if storage.is_current(LOCK, &*self.lock_file).map_err(failed("check the path of"))? {
                break;
            }
            // If the whole bus was moved instead, this opens the same file again and `work` finds
            // out.
            drop(guard);
            self.lock_file = Arc::from(storage.open(LOCK, Access::ReadWrite).map_err(failed("open"))?);
            guard = self.lock(storage)?;
        }
        let result = work(self);
        drop(guard);
        result
    }

    fn lock(&mut self, storage: &dyn Storage) -> Result<LockGuard> {
        let path = storage.path(LOCK);
        let locked = lock_wait::lock(&self.lock_file, Lock::Exclusive, &path, self.settings.lock_timeout);
        if let Err(Error::Locked { .. }) = locked {
            // The wait for the lock of the old handle is still in progress, see `lock_wait::lock`.
            let reopened = storage.open(LOCK, Access::ReadWrite);
            self.lock_file = Arc::from(reopened.map_err(io_error(storage, LOCK, "open"))?);
        }
        locked.map(|()| LockGuard(Arc::clone(&self.lock_file)))
    }

    /// Recovers the log and takes over its end. Called under the bus's lock.
    fn recover(&mut self, storage: &dyn Storage, purpose: Purpose) -> Result<()> {
        let on_ambiguous_tail = self.settings.on_ambiguous_tail;
        let (end, tail) = recover::recover(storage, &self.log, &*self.lock_file, purpose, on_ambiguous_tail)?;
        self.end = end;
        if let Some(tail) = tail {
            self.append_recovery_record(storage, &RecoveryRecord::from(&tail))?;
            self.quarantined.push(tail);
        }
        Ok(())
    }

    /// Writes the record of a quarantine over the byte that recovery left of the tail, so that the
    /// record is the next event of the chain. Called under the bus's lock.
    fn append_recovery_record(&mut self, storage: &dyn Storage, record: &RecoveryRecord<'_>) -> Result<()> {
        let time = Some((self.settings.clock)()).filter(|time| time.is_finite());
        let draft = Draft::new(RECOVERED_TYPE, time.unwrap_or(0.0), record)?;
        let (mut line, offset) = (String::new(), self.end.offset);
        let head = chain::link(self.end.head, draft, &mut line)?.head();
        overwrite_tail(storage, LOG, &*self.log, line.as_bytes(), offset).map_err(io_error(
            storage,
            LOG,
            "record the quarantine in",
        ))?;
        self.end = End { head, offset: offset + line.len() as u64, unterminated: false };
        // Both may fail: an older mark claims less and is still correct, and the next open clears
        // the pending record.
        let _ = SyncMark { head, bytes: self.end.offset }.write(&*self.lock_file, &mut line);
        let _ = PendingRecord::clear(&*self.lock_file);
        Ok(())
    }

    /// Refuses a poisoned handle, and a log that is no longer the file that this handle opened.
    fn check_usable(&self, storage: &dyn Storage) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned { path: storage.path(LOG) });
        }
        let is_current = storage.is_current(LOG, &*self.log);
        if !is_current.map_err(io_error(storage, LOG, "check the path of"))? {
            return Err(Error::Changed {
                path: storage.path(LOG),
                reason: "the log was moved or replaced. Open the bus again to use the log that is there now",
            });
        }
        Ok(())
    }

    /// Brings `end` up to date with what other handles have appended. Called under the bus's lock,
    /// so `end` stays true until the lock is released.
    fn refresh_end(&mut self, storage: &dyn Storage) -> Result<()> {
        self.check_usable(storage)?;
        let length = self.log.size().map_err(io_error(storage, LOG, "read the size of"))?;
        if length < self.end.offset {
            return Err(Error::Changed {
                path: storage.path(LOG),
                reason: "the log is shorter than before. Open the bus again to recover what is left",
            });
        }
        if length > self.end.offset {
            // Another handle has appended, or crashed while it did.
            let known_index = self.end.head.index;
            self.recover(storage, Purpose::Refresh)?;
            if self.end.head.index < known_index {
                return Err(Error::Changed {
                    path: storage.path(LOG),
                    reason: "the log holds fewer events than before. Open the bus again to recover what is left",
                });
            }
        }
        Ok(())
    }

    fn write_and_sync(&self, storage: &dyn Storage, lines: &[u8]) -> Result<()> {
        let failed = |action| io_error(storage, LOG, action);
        self.log.append(lines).map_err(failed("append to"))?;
        if self.log.size().map_err(failed("read the size of"))? != self.end.offset + lines.len() as u64 {
            let reason = "another program appended at the same time without taking the lock. Stop that program, \
                          then run `zero-bus repair`";
            return Err(Error::Changed { path: storage.path(LOG), reason });
        }
        self.log.sync().map_err(failed("sync"))
    }

    /// The commit point: links the jobs' drafts to the chain, writes them with one `write` and
    /// syncs them. Called under the bus's lock, after [`Writer::refresh_end`].
    ///
    /// Before the sync, no thread has a result and no reader is given the events. After the sync,
    /// nothing can fail.
    fn commit(
        &mut self,
        storage: &dyn Storage,
        jobs: impl Iterator<Item = Job>,
    ) -> Result<Vec<Result<Events>>> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        if self.end.unterminated {
            lines.push('\n');
        }
        let mut head = self.end.head;
        let mut results = Vec::new();
        for Job { drafts, expected } in jobs {
            // Compared with the head at this place of the batch: the events of the jobs before this
            // one count, since a result is published only if the whole batch is synced.
            if let Some(expected) = expected.filter(|expected| !expected.expects(head)) {
                let path = storage.path(LOG);
                results.push(Err(Error::HeadMismatch { path, expected, actual: head }));
                continue;
            }
            let (length_before, head_before) = (lines.len(), head);
            let linked = link(&mut head, drafts, &mut lines);
            if linked.is_err() {
                lines.truncate(length_before);
                head = head_before;
            }
            results.push(linked);
        }
        if head != self.end.head {
            // Set before the write and cleared after the sync, so that a panic in between poisons
            // the handle too.
            self.poisoned = true;
            let written = self.write_and_sync(storage, lines.as_bytes());
            if written.is_err() {
                // The events are not acknowledged. Cutting them keeps readers from seeing what a
                // power cut may take back.
                let length = self.end.offset + lines.len() as u64;
                if self.log.size().is_ok_and(|size| size <= length) {
                    let _ = self.log.truncate(self.end.offset);
                }
            }
            written?;
            self.poisoned = false;
            self.end = End { head, offset: self.end.offset + lines.len() as u64, unterminated: false };
            // May fail: an older mark claims less and is still correct.
            let _ = SyncMark { head, bytes: self.end.offset }.write(&*self.lock_file, &mut lines);
        }
        self.lines = lines;
        Ok(results)
    }
}

/// Returns a function for `map_err` that adds the action and the file to a system error.
fn io_error(storage: &dyn Storage, name: &str, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: storage.path(name), source }
}

/// Links drafts to `head`, one after the other, and appends their lines. Moves `head` to the last
/// event.
fn link(head: &mut Head, drafts: Drafts, lines: &mut String) -> Result<Events> {
    let mut events = Events::with_capacity(drafts.len());
    for draft in drafts {
        let start = lines.len();
        let event = chain::link(*head, draft, lines)?;
        let line_bytes = lines.len() - start - 1;
        if line_bytes > MAX_LINE_BYTES {
            let reason = format!("makes a line of {line_bytes} bytes; at most {MAX_LINE_BYTES} are allowed");
            return Err(Error::invalid("payload", reason));
        }
        *head = Head { index: event.index, checksum: Some(event.checksum) };
        events.push(event);
    }
    Ok(events)
}
