//! The writer of one handle: what it knows about the log, and the commit point.
//!
//! [`Writer::commit`] is the commit point: when it returns, the batch has been synced. A mutex in
//! [`Bus`](crate::Bus) protects the writer. The exclusive `flock` on `bus.lock` protects the files
//! against all other handles and processes; a handle takes it only in [`Writer::with_lock`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::chain::{self, Head};
use crate::error::{Error, Result};
use crate::event::{Draft, Event, MAX_LINE_BYTES, RECOVERED_TYPE};
use crate::lines::last_line_before;
use crate::lock_wait;
use crate::log_file::{LOCK, LOG, LogFile};
use crate::quarantine::{PendingRecord, QuarantinedTail, RecoveryRecord, overwrite_tail};
use crate::recover::{self, AmbiguousTail, End, Purpose};
use crate::storage::{Access, Lock, Storage, StorageFile};
use crate::sync_mark::SyncMark;

/// Times that a writer reopens a lock file that was replaced while it waited for the lock.
const MAX_LOCK_ATTEMPTS: usize = 8;

/// Drafts that are appended next to each other. A single draft needs no allocation.
pub(crate) type Drafts = SmallVec<[Draft; 1]>;
pub(crate) type Events = SmallVec<[Event; 1]>;

/// One call to append or submit.
pub(crate) struct Job {
    pub(crate) drafts: Drafts,
    /// The head to which the drafts must be appended. Any head if `None`.
    pub(crate) expected: Option<Head>,
}

/// How a handle works, as its [`OpenOptions`](crate::OpenOptions) say.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Not 0.
    pub(crate) max_pending_bytes: usize,
    pub(crate) on_ambiguous_tail: AmbiguousTail,
    pub(crate) lock_timeout: Duration,
    /// Size of the active file at which the handle seals it.
    pub(crate) segment_bytes: Option<u64>,
    /// Gives the time of a recovery record.
    pub(crate) clock: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// What one handle knows about the log.
pub(crate) struct Writer {
    log: LogFile,
    lock_file: Arc<dyn StorageFile>,
    /// The end of the log when this handle last saw it. Other handles may have appended since,
    /// unless the lock has been held from then on.
    pub(crate) end: End,
    /// Set while a batch is written and synced. Stays set if that fails or panics: then what the
    /// file holds is unknown.
    pub(crate) poisoned: bool,
    pub(crate) quarantined: Vec<QuarantinedTail>,
    settings: Settings,
    /// Buffer for the lines of a batch and then for its sync mark. Kept to reuse its memory.
    lines: String,
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
    /// Opens the files of a bus and recovers the log.
    pub(crate) fn open(storage: &Arc<dyn Storage>, settings: Settings) -> Result<Self> {
        let failed = |name| io_error(&**storage, name, "open it for appending");
        let lock_file = storage.open(LOCK, Access::ReadWrite).map_err(failed(LOCK))?;
        let log = LogFile::open(storage, Access::Append).map_err(failed(LOG))?;
        // The names of both files must be durable before any of their content is acknowledged.
        storage.sync().map_err(Error::io("sync the directory of", &storage.path(LOG)))?;
        let (end, quarantined, lines) = (End::default(), Vec::new(), String::new());
        let lock_file = Arc::from(lock_file);
        let mut writer = Self { log, lock_file, end, poisoned: false, quarantined, settings, lines };
        writer.with_lock(&**storage, |writer| {
            // A seal may have replaced the log since it was opened above.
            writer.check_usable(&**storage)?;
            writer.recover(&**storage, Purpose::Open)
        })?;
        Ok(writer)
    }

    /// Returns whether the log still is the open file, and ends where this handle last saw its end.
    pub(crate) fn is_at_end(&self, storage: &dyn Storage) -> Result<bool> {
        let size_bytes = self.log.size().map_err(io_error(storage, LOG, "read the size of"))?;
        let is_current = storage.is_current(LOG, &self.log);
        Ok(size_bytes == self.end.offset
            && is_current.map_err(io_error(storage, LOG, "check the path of"))?)
    }

    pub(crate) fn log(&self) -> &LogFile {
        &self.log
    }

    /// Calls `work` under the bus's lock: until it returns, no other handle or process appends.
    pub(crate) fn with_lock<T>(
        &mut self,
        storage: &dyn Storage,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let failed = |action| io_error(storage, LOCK, action);
        let mut guard = self.lock(storage)?;
        for _ in 0..MAX_LOCK_ATTEMPTS {
            // If the lock file was replaced, other handles lock the new one, and this lock does not
            // exclude them.
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

    /// Writes the record of a quarantine over the placeholder that recovery left in place of the
    /// tail, so that the record is the next event of the chain. Called under the bus's lock.
    fn append_recovery_record(&mut self, storage: &dyn Storage, record: &RecoveryRecord<'_>) -> Result<()> {
        let time = Some((self.settings.clock)()).filter(|time| time.is_finite());
        let draft = Draft::new(RECOVERED_TYPE, time.unwrap_or(0.0), record)?;
        let (mut line, offset) = (String::new(), self.end.offset);
        let head = chain::link(self.end.head, draft, &mut line)?.head();
        overwrite_tail(storage, LOG, &self.log, self.log.base(), line.as_bytes(), offset)
            .map_err(io_error(storage, LOG, "record the quarantine in"))?;
        self.end = End { head, offset: offset + line.len() as u64, unterminated: false };
        // Both may fail: an older mark claims less and is still correct, and the next open clears
        // the pending record.
        let _ = SyncMark { head, bytes: self.end.offset }.write(&*self.lock_file, &mut line);
        let _ = PendingRecord::clear(&*self.lock_file);
        Ok(())
    }

    /// Refuses a poisoned handle, and a log that is no longer the file that this handle opened. If
    /// a seal has replaced that file, continues in the new one. Called under the bus's lock.
    pub(crate) fn check_usable(&mut self, storage: &dyn Storage) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned { path: storage.path(LOG) });
        }
        let is_current = storage.is_current(LOG, &self.log);
        if is_current.map_err(io_error(storage, LOG, "check the path of"))? || self.follow_seal(storage)? {
            return Ok(());
        }
        Err(Error::Changed {
            path: storage.path(LOG),
            reason: "the log was moved or replaced. Open the bus again to use the log that is there now",
        })
    }

    /// Opens the file that a seal has put in place of the active one. Returns `false` if there is
    /// none, or if the log does not hold the last event of this handle at its place any more.
    fn follow_seal(&mut self, storage: &dyn Storage) -> Result<bool> {
        let reopened = self.log.reopen_sealed(Access::Append);
        let Some(log) = reopened.map_err(io_error(storage, LOG, "open again"))? else { return Ok(false) };
        let reading = || io_error(storage, LOG, "read the tail of");
        if log.size().map_err(reading())? < self.end.offset {
            return Ok(false);
        }
        let last = last_line_before(&log, self.end.offset).map_err(reading())?;
        let head = last.map_or(Some(log.start().head), |last| chain::head_of(last.bytes.as_deref()?));
        if head != Some(self.end.head) {
            return Ok(false);
        }
        // The sealer may have died before it made the new name durable. No event may be
        // acknowledged before that.
        storage.sync().map_err(io_error(storage, LOG, "sync the directory of"))?;
        self.log = log;
        Ok(true)
    }

    /// Name of the file that takes the place of the active one.
    pub(crate) const NEXT_ACTIVE: &str = "events.jsonl.next";

    /// Renames the prepared file over the active one. It holds the bytes of the log from some place
    /// up to `end`, synced; what is before them is in segments, which are durable. Called under the
    /// bus's lock, after [`Writer::refresh_end`].
    pub(crate) fn replace_active(&mut self, storage: &dyn Storage) -> Result<()> {
        let failed = |action| io_error(storage, LOG, action);
        // A mark that a power cut leaves then names an event of the new active file.
        let mark = SyncMark { head: self.end.head, bytes: self.end.offset };
        let marked = mark.write(&*self.lock_file, &mut String::new()).and_then(|()| self.lock_file.sync());
        marked.map_err(io_error(storage, LOCK, "write the sync mark to"))?;
        storage.rename(Self::NEXT_ACTIVE, LOG).map_err(failed("replace"))?;
        // If this fails, each handle syncs the directory itself before it appends to the new file.
        storage.sync().map_err(failed("sync the directory of"))?;
        let reopened = self.log.reopen_sealed(Access::Append).map_err(failed("open again"))?;
        self.log = reopened.ok_or(Error::Changed {
            path: storage.path(LOG),
            reason: "the log was replaced while it was sealed",
        })?;
        Ok(())
    }

    /// Brings `end` up to date with what other handles have appended. Called under the bus's lock,
    /// so `end` stays true until the lock is released.
    pub(crate) fn refresh_end(&mut self, storage: &dyn Storage) -> Result<()> {
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
    pub(crate) fn commit(
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
pub(crate) fn io_error(
    storage: &dyn Storage,
    name: &str,
    action: &'static str,
) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::io(action, &storage.path(name))(source)
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
