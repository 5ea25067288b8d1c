//! Appending to a bus: the handle, and how threads share it.
//!
//! A [`Bus`] links, writes and syncs events in batches. [`Queue`] forms the batches from the jobs
//! of many threads and chooses the thread that commits. [`Writer::commit`] is the commit point:
//! when it returns, the batch has been synced.
//!
//! Three locks, always taken in this order:
//!
//! 1. The mutex around [`Writer`] protects what this handle knows about the log. A thread holds it
//!    for one batch, one snapshot, one step of a seal or one look at the end.
//! 2. The exclusive `flock` on `bus.lock` protects the files against all other handles and
//!    processes. A handle takes it only in [`Writer::with_lock`], so its holder also holds the
//!    mutex.
//! 3. The mutex in [`Queue`] protects the queue. The leader takes it for a moment per job while it
//!    holds the other two. All other threads take it alone.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde::Serialize;

use crate::canonical::Json;
use crate::chain::Head;
use crate::error::{Error, Result};
use crate::event::{Draft, Event};
use crate::integrity::Progress;
use crate::log_file::LOG;
use crate::quarantine::QuarantinedTail;
use crate::queue::{Queue, Slot};
use crate::seal::{self, AutomaticSeal, SealOptions, Sealed};
use crate::snapshot::{self, Snapshot};
use crate::storage::Storage;
use crate::sync::{Arc, Mutex, lock};
use crate::writer::{Drafts, Events, Job, Settings, Writer};

/// A bus opened for appending.
///
/// Any number of threads can share one handle, and any number of handles, in any number of
/// processes, can append to one bus. Events that threads append while a batch is being synced form
/// the next batch and share its write and its sync. No timer delays an event to fill a batch. The
/// bus's lock is held from before the first event of a batch is linked until the batch is synced.
///
/// Opening and appending read only the tail of the log, so their cost does not grow with it.
pub struct Bus {
    core: Arc<Core>,
    /// The thread that commits [submitted](Bus::submit) events for which no thread waits. The first
    /// call of `submit` starts it. The mutex protects only this field; the thread does not take it.
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// The part of a handle that its tickets and its committer share.
struct Core {
    storage: Arc<dyn Storage>,
    writer: Arc<Mutex<Writer>>,
    queue: Queue<Job, Result<Events>>,
    /// A copy of `Writer::poisoned` that can be read without the mutex around the writer, which a
    /// batch in progress holds. The leader of a failed batch sets it after it has released that
    /// mutex. It is never cleared.
    poisoned: AtomicBool,
    automatic_seal: Option<AutomaticSeal>,
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
        let queue = Queue::new(settings.max_pending_bytes);
        let segment_bytes = settings.segment_bytes;
        let writer = Writer::open(&storage, settings)?;
        let automatic_seal = segment_bytes.map(|bytes| AutomaticSeal::new(bytes, writer.log().base()));
        let writer = Arc::new(Mutex::new(writer));
        let core = Core { storage, writer, queue, poisoned: AtomicBool::new(false), automatic_seal };
        Ok(Self { core: Arc::new(core), committer: Mutex::new(None) })
    }

    /// Returns the torn tails that this handle has quarantined: when it was opened, or when another
    /// handle had crashed during an append.
    pub fn quarantined(&self) -> Vec<QuarantinedTail> {
        lock(&self.core.writer).quarantined.clone()
    }

    /// Returns what the operator should know, one sentence each: quarantined tails, permissions
    /// that let other users write to the bus, and why it was not sealed.
    pub fn warnings(&self) -> Vec<String> {
        let quarantined =
            self.quarantined().into_iter().map(|tail| format!("{}: {tail}", self.log_path().display()));
        let seal = self.core.automatic_seal.as_ref().and_then(AutomaticSeal::warning);
        quarantined.chain(self.core.storage.warnings()).chain(seal).collect()
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

    /// Returns whether the log still ends where this handle last saw its end. Costs two system
    /// calls.
    ///
    /// A program that both appends and reacts to events of other programs can poll this: as long as
    /// it returns true, no other handle has appended, and the log need not be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_at_end(&self) -> Result<bool> {
        lock(&self.core.writer).is_at_end(&*self.core.storage)
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
    /// let bus = Bus::open(dir.path())?;
    /// let draft = || {
    ///     Draft::new("lease.taken", 1777593600.0, &BTreeMap::from([("by", "worker-1")]))
    /// };
    /// let event = bus.append_expecting(Head::default(), draft()?)?;
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
    /// (1 MiB by default) are submitted to the next batch, so that a thread that submits faster
    /// than the disk syncs cannot exhaust the memory.
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
    /// let bus = Bus::open(dir.path())?;
    /// let opened = BTreeMap::from([("by", "cat")]);
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &opened)?)?;
    /// let state = BTreeMap::from([("doors_open", 1)]);
    /// bus.write_snapshot(1777593600.0, Some(&event.id()), &state)?;
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

    /// Moves the beginning of the log to compressed segments, as the options say, and returns what
    /// was sealed. Nothing that reads or appends notices: the events, their lines and their places
    /// in the log stay the same. The last three events always stay in the active file.
    ///
    /// Other handles append meanwhile. They wait while the last part of the new active file is
    /// copied, and it, the lock file and the directory are synced. Costs one thread that verifies,
    /// compresses and compares the events; memory for a few mebibytes. Needs the cargo feature
    /// `seal`. A crash at any moment leaves the log as it was, or sealed.
    ///
    /// # Errors
    /// [`Error::Sealing`] if another process seals the bus, [`Error::Damaged`] if the events are
    /// not valid, [`Error::Io`], and errors as for an append. The log then is as it was.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, SealOptions};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for step in 1..=100 {
    ///     bus.submit(Draft::new("step.done", 0.0, &BTreeMap::from([("step", step)]))?)?.wait()?;
    /// }
    /// let sealed = bus.seal(SealOptions::default().up_to(90), &mut |_| {})?;
    /// assert_eq!((sealed.first, sealed.last, sealed.segments), (1, 90, 1));
    /// assert_eq!(bus.reader().events(1)?.count(), 100);
    /// assert!(bus.reader().verify()?.ok());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn seal(&self, options: &SealOptions, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Sealed> {
        seal::seal(&self.core.storage, &self.core.writer, *options, progress)
    }

    /// Calls `work` with the head that this handle last saw, under the bus's lock. Other handles
    /// may have appended since, as the head is not refreshed.
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

    pub(crate) fn writer(&self) -> &Mutex<Writer> {
        &self.core.writer
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
        if let Some(seal) = &self.core.automatic_seal {
            seal.finish();
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
    /// queue calls this. A job that is invalid or expects another head fails alone; any other error
    /// fails the whole batch.
    fn commit(&self, jobs: &mut impl Iterator<Item = Job>) -> Vec<Result<Events>> {
        let storage = &*self.storage;
        let mut taken = 0;
        let mut writer = lock(&self.writer);
        let committed = writer.with_lock(storage, |writer| {
            writer.refresh_end(storage)?;
            writer.commit(storage, jobs.inspect(|_| taken += 1))
        });
        let (poisoned, size) = (writer.poisoned, writer.end.offset);
        drop(writer);
        if let Some(seal) = self.automatic_seal.as_ref().filter(|_| committed.is_ok()) {
            seal.after_commit(size, &self.storage, &self.writer);
        }
        committed.unwrap_or_else(|error| {
            self.poisoned.fetch_or(poisoned, Ordering::Release);
            let others = (1..taken + jobs.count()).map(|_| Err(error.duplicate())).collect::<Vec<_>>();
            std::iter::once(Err(error)).chain(others).collect()
        })
    }
}
