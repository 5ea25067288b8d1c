//! Retiring: removes whole segments from the beginning of the log, while others append.
//!
//! 1. The events of the segments are verified, and the files are hashed.
//! 2. Under the bus's lock, the new record is written under a name that is not in force. It names
//!    the event that comes next, with its checksum. Then that event is appended and synced. From
//!    here on the retirement is done: the chain says so.
//! 3. The record is renamed into force: the log starts later.
//! 4. The segments are removed.
//!
//! After a crash before the event, the record names an event that the log does not have, and is
//! dropped. It is also dropped if the events were put back into the active file. After a crash
//! later, the next retirement renames the record, or removes the segments
//! that are left, which no reader uses.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::chain::{self, Head, Line};
use crate::checksum::Checksum;
use crate::chunk;
use crate::durable_log::OpenedLog;
use crate::error::{Error, Result};
use crate::event::{Draft, RETIRED_TYPE};
use crate::integrity::{Progress, find_false_record};
use crate::lines::Lines;
use crate::log::Bus;
use crate::log_file::{LOG, LogFile, VerifiedEnd};
use crate::reader::Reader;
use crate::recover::locate_damage;
use crate::retired::{RETIRED, RETIRING, Removal, Retired, RetiredPart};
use crate::seal::{SealLock, first_checksum};
use crate::segment::{SEGMENTS, Span};
use crate::storage::{Access, Storage, StorageFile, read_up_to};
use crate::sync::{Mutex, lock};
use crate::writer::{Drafts, Job, Writer, io_error};

/// What [`Bus::retire`](crate::Bus::retire) retires, and what it records about that.
#[derive(Clone, Debug, PartialEq)]
pub struct RetireOptions {
    up_to: u64,
    by: String,
    at: f64,
    kept_in: Option<String>,
}

impl RetireOptions {
    /// Retires all segments whose events are at most `up_to`. `by` names who retires them, and `at`
    /// is the time, in seconds since the Unix epoch.
    pub fn new(up_to: u64, by: impl Into<String>, at: f64) -> Self {
        Self { up_to, by: by.into(), at, kept_in: None }
    }

    /// Records where the events are kept. The library does not look there.
    #[must_use]
    pub fn kept_in(mut self, place: impl Into<String>) -> Self {
        self.kept_in = Some(place.into());
        self
    }
}

/// What a retirement would remove, see [`Reader::retirable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retirable {
    /// Index of the first event.
    pub first: u64,
    /// The last event.
    pub head: Head,
    /// Number of segments.
    pub segments: u64,
    /// Bytes that the events take in the log.
    pub bytes: u64,
    /// Bytes that the segments take.
    pub bytes_sealed: u64,
}

/// What [`Bus::retire`](crate::Bus::retire) has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retirement {
    /// What an interrupted call had begun to remove, and this one has completed.
    pub completed: Option<RetiredPart>,
    /// What this call has removed; `None` if there was nothing to remove.
    pub retired: Option<RetiredPart>,
}

impl Bus {
    /// Removes whole segments from the beginning of the log, and leaves a record of them. Returns
    /// what was removed.
    ///
    /// The events to be removed are verified first. Then an event [`bus.retired`] is appended,
    /// which says what is removed, and where it is kept; nothing is removed before it is durable.
    /// From then on the log starts at a later event, and links to the last one that was removed.
    /// The indexes of the events stay the same. Only [sealed](Bus::seal) segments are removed.
    ///
    /// Other handles append and follow meanwhile; to read what was removed is
    /// [`Error::Retired`]. A crash at any moment leaves the log as it was, or without the retired
    /// events; the next call removes what an interrupted one left. Costs one pass over the events
    /// to be removed, and a few syncs.
    ///
    /// [`bus.retired`]: crate::RETIRED_TYPE
    ///
    /// # Errors
    /// [`Error::Sealing`] if another process seals the bus or retires events, [`Error::Damaged`] if
    /// the events are not valid or the record does not match the chain, [`Error::Invalid`] if the
    /// options cannot become an event, [`Error::Io`], and errors as for an append.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Error, RetireOptions, SealOptions};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for step in 1..=100 {
    ///     bus.submit(Draft::new("step.done", 0.0, &BTreeMap::from([("step", step)]))?)?.wait()?;
    /// }
    /// bus.seal(SealOptions::default().up_to(90), &mut |_| {})?;
    /// let options = RetireOptions::new(90, "anna", 1777593600.0).kept_in("/backup/bus");
    /// let done = bus.retire(&options, &mut |_| {})?;
    /// let retired = done.retired.expect("a segment ends with event 90");
    /// assert_eq!((retired.payload.first, retired.payload.last), (1, 90));
    /// assert_eq!(bus.reader().first_index()?, 91);
    /// assert!(matches!(bus.reader().event(90), Err(Error::Retired { .. })));
    /// assert!(bus.reader().verify()?.ok());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn retire(
        &self,
        options: &RetireOptions,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Retirement> {
        retire(self.storage(), self.writer(), options, progress)
    }
}

impl Reader {
    /// Returns which events were [retired](Bus::retire); `None` if the log starts at event 1.
    /// [`Reader::verify`] checks whether that is what the chain says.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn retired(&self) -> Result<Option<Arc<Retired>>> {
        Ok(match self.durable_log()? {
            OpenedLog::Present(log) => log.file.retired().cloned(),
            OpenedLog::Missing(_) => None,
        })
    }

    /// Returns the index of the first event that the log has, or will have.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// bus.append(Draft::new("door.opened", 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    /// let reader = bus.reader();
    /// assert_eq!(reader.first_index()?, 1);
    /// assert_eq!(reader.events(reader.first_index()?)?.count(), 1);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn first_index(&self) -> Result<u64> {
        Ok(self.retired()?.map_or(1, |retired| retired.first_held()))
    }

    /// Returns the id of the bus: the checksum of its event 1. `None` if it has no event yet.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn bus_id(&self) -> Result<Option<Checksum>> {
        match self.event(1) {
            Err(Error::Retired { retired, .. }) => Ok(retired.bus()),
            event => Ok(event?.map(|event| event.checksum)),
        }
    }

    /// Returns what [`Bus::retire`](crate::Bus::retire) would remove up to an index; `None` if
    /// nothing. Verifies the last of these events, but not those before it.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a segment or the last event is not valid, [`Error::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let bus = zero_bus::Bus::open(dir.path())?;
    /// assert_eq!(bus.reader().retirable(u64::MAX)?, None);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn retirable(&self, up_to: u64) -> Result<Option<Retirable>> {
        let OpenedLog::Present(log) = self.durable_log()? else { return Ok(None) };
        let start = log.file.start();
        let spans = spans_up_to(&log.file, up_to);
        let Some(last) = spans.last() else { return Ok(None) };
        let path = self.log_path();
        let reading = || Error::io("read it", &path);
        let sizes = spans.iter().map(|span| self.storage().open(&span.path(), Access::Read)?.size());
        let bytes_sealed = sizes.sum::<io::Result<u64>>().map_err(reading())?;
        let Some(event) = self.event(last.last)? else {
            return Err(locate_damage(self.storage(), &log.file, log.sync_mark, log.end));
        };
        Ok(Some(Retirable {
            first: start.head.index + 1,
            head: event.head(),
            segments: spans.len() as u64,
            bytes: last.bytes.end - start.offset,
            bytes_sealed,
        }))
    }
}

fn spans_up_to(log: &LogFile, up_to: u64) -> &[Span] {
    let spans = log.spans();
    &spans[..spans.partition_point(|span| span.last <= up_to)]
}

/// Retires what the options say, see [`Bus::retire`](crate::Bus::retire).
fn retire(
    storage: &Arc<dyn Storage>,
    writer: &Mutex<Writer>,
    options: &RetireOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Retirement> {
    let listed = storage.list(SEGMENTS).map_err(io_error(&**storage, SEGMENTS, "list"))?;
    if listed.is_empty() {
        return Ok(Retirement::default());
    }
    let _lock = SealLock::take(&**storage)?;
    let completed = complete_interrupted(storage, writer)?;
    let log = LogFile::open(storage, Access::Read).map_err(io_error(&**storage, LOG, "open"))?;
    let path = storage.path(LOG);
    let end = log.size().map_err(Error::io("read the size of it", &path))?;
    check_record(storage, writer, &log, end)?;
    // Only its segments are left of an interrupted one whose record is in force.
    let left = log.retired().filter(|_| !log.leftovers().is_empty());
    let completed = completed.or_else(|| left?.parts().last().cloned());
    let retired = match spans_up_to(&log, options.up_to).last().cloned() {
        None => None,
        Some(last) => {
            let removal = verify(&**storage, &log, &last, end, options, progress)?;
            let record = log.retired().cloned().map(Arc::unwrap_or_clone).unwrap_or_default();
            let part = append_event(storage, writer, &record, removal, options.at)?;
            put_in_force(&**storage)?;
            Some(part)
        }
    };
    remove_retired(storage)?;
    Ok(Retirement { completed, retired })
}

/// Completes a retirement whose event is in the log, and drops one whose event is not, or whose
/// events were put back into the active file. Returns the part that was completed.
fn complete_interrupted(storage: &Arc<dyn Storage>, writer: &Mutex<Writer>) -> Result<Option<RetiredPart>> {
    let path = storage.path(RETIRING);
    let pending = Retired::read(&**storage, RETIRING).map_err(Error::io("read it", &path))?;
    let part = match pending {
        Ok(None) => return Ok(None),
        Ok(Some(record)) => record.parts().last().cloned(),
        // It was written and synced under another name before.
        Err(problem) => {
            let source = io::Error::other(format!("{problem}. Remove it if no retirement is in progress"));
            return Err(Error::Io { action: "complete the retirement of it", path, source });
        }
    };
    // The event is durable, or not there, once the end of the log is known.
    lock(writer).with_lock(&**storage, |writer| writer.refresh_end(&**storage))?;
    let reader = Reader::open_in(Arc::clone(storage));
    let recorded = match &part {
        Some(part) => reader.event(part.event.index)?.filter(|event| part.is_recorded_by(event)),
        None => None,
    };
    let log = LogFile::open(storage, Access::Read).map_err(io_error(&**storage, LOG, "open"))?;
    let is_sealed = |part: &RetiredPart| log.first_in_active().is_none_or(|first| part.payload.last < first);
    if recorded.is_some() && part.as_ref().is_some_and(is_sealed) {
        put_in_force(&**storage)?;
        return Ok(part);
    }
    storage.remove(RETIRING).map_err(Error::io("remove it", &path))?;
    sync_segments(&**storage)?;
    Ok(None)
}

/// Refuses a record that the chain does not confirm: it must not decide what is removed.
fn check_record(storage: &Arc<dyn Storage>, writer: &Mutex<Writer>, log: &LogFile, end: u64) -> Result<()> {
    let head = lock(writer).with_lock(&**storage, |writer| {
        writer.refresh_end(&**storage)?;
        Ok(writer.end.head)
    })?;
    let path = storage.path(LOG);
    match find_false_record(log, end, head).map_err(Error::io("read it", &path))? {
        Some(fault) => Err(Error::Damaged { path, fault }),
        None => Ok(()),
    }
}

/// Verifies the events up to the end of a segment, and that the log continues from them. Hashes the
/// files of the segments.
fn verify(
    storage: &dyn Storage,
    log: &LogFile,
    last: &Span,
    end: u64,
    options: &RetireOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Removal> {
    let path = storage.path(LOG);
    let reading = || Error::io("read it", &path);
    let byte_end = last.bytes.end;
    let merge = |(): &mut (), verified: VerifiedEnd, _: &mut [u8]| {
        progress(Progress { bytes: verified.offset, bytes_total: byte_end });
        Ok(())
    };
    let threads = chunk::available_threads();
    let visit = |(): &mut (), _, _: &Line<'_>, _| {};
    let verified = chunk::verify_chunks(log, log.start(), byte_end, None, threads, visit, merge);
    let head = verified.map_err(reading())?.head;
    let mut lines = Lines::new(log.clone(), byte_end, end);
    let next = lines.next().map_err(reading())?.and_then(|raw| raw.bytes);
    let links =
        next.and_then(|line| Line::read(line).ok()).is_some_and(|line| line.verify_after(head).is_ok());
    if head.index != last.last || !links {
        return Err(locate_damage(storage, log, None, end));
    }
    let spans = spans_up_to(log, last.last);
    let (sha256, bytes_sealed) = hash_files(storage, spans).map_err(reading())?;
    let bus = match log.retired() {
        Some(retired) => retired.bus(),
        None => first_checksum(log, byte_end).map_err(reading())?,
    };
    let Some(bus) = bus else { return Err(locate_damage(storage, log, None, end)) };
    Ok(Removal {
        bus,
        by: options.by.clone(),
        kept_in: options.kept_in.clone(),
        head,
        byte_end,
        bytes_sealed,
        segments: spans.len() as u64,
        sha256,
    })
}

/// Returns the SHA-256 of the files of segments, one after the other, and their size.
fn hash_files(storage: &dyn Storage, spans: &[Span]) -> io::Result<(Checksum, u64)> {
    let mut spans = spans.iter();
    let (mut file, mut offset, mut bytes) = (None, 0, 0);
    let sha256 = Checksum::of_stream(|buffer| {
        loop {
            if file.is_none() {
                let Some(span) = spans.next() else { return Ok(0) };
                (file, offset) = (Some(storage.open(&span.path(), Access::Read)?), 0);
            }
            let read = file.as_deref().map_or(Ok(0), |file| read_up_to(file, buffer, offset))?;
            (offset, bytes) = (offset + read as u64, bytes + read as u64);
            if read > 0 {
                return Ok(read);
            }
            file = None;
        }
    })?;
    Ok((sha256, bytes))
}

/// Writes the record that is not in force yet, and appends the event that it names: the commit
/// point of a retirement.
fn append_event(
    storage: &Arc<dyn Storage>,
    writer: &Mutex<Writer>,
    record: &Retired,
    removal: Removal,
    at: f64,
) -> Result<RetiredPart> {
    let storage = &**storage;
    let failed = |action| io_error(storage, RETIRING, action);
    let payload = record.next_payload(removal).map_err(failed("make"))?;
    let draft = Draft::new(RETIRED_TYPE, at, &payload)?;
    if !at.is_finite() {
        return Err(Error::invalid("as_of", format!("{at} is not a time")));
    }
    lock(writer).with_lock(storage, |writer| {
        writer.refresh_end(storage)?;
        let head = writer.end.head;
        let event = chain::link(head, draft.clone(), &mut String::new())?.head();
        let part = RetiredPart { as_of: at, event, payload };
        record.with(part.clone()).write(storage, RETIRING).map_err(failed("write"))?;
        sync_segments(storage)?;
        let job = Job { drafts: Drafts::from_buf([draft]), expected: Some(head) };
        writer.commit(storage, std::iter::once(job))?.remove(0)?;
        Ok(part)
    })
}

/// Makes the log start after the events that the record names.
fn put_in_force(storage: &dyn Storage) -> Result<()> {
    storage.rename(RETIRING, RETIRED).map_err(io_error(storage, RETIRED, "rename the record to"))?;
    sync_segments(storage)
}

/// Removes the segments of retired events.
fn remove_retired(storage: &Arc<dyn Storage>) -> Result<()> {
    let log = LogFile::open(storage, Access::Read).map_err(io_error(&**storage, LOG, "open"))?;
    for span in log.leftovers() {
        storage.remove(&span.path()).map_err(io_error(&**storage, &span.path(), "remove"))?;
    }
    if log.leftovers().is_empty() {
        return Ok(());
    }
    sync_segments(&**storage)
}

fn sync_segments(storage: &dyn Storage) -> Result<()> {
    storage.sync_directory(SEGMENTS).map_err(io_error(storage, SEGMENTS, "sync the directory"))
}
