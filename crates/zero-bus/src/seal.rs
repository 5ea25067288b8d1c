//! Sealing: moves the beginning of the active file to compressed segments, while others append.
//!
//! 1. Without the bus's lock, the events are verified and compressed. A segment is synced, read
//!    back and compared with the log before it gets its name.
//! 2. Under the lock, what follows the sealed events is in a new file, synced. It is renamed over
//!    the active file ([`Writer::replace_active`]), and the segments are in force.
//!
//! Before that, what the record of retired events says about events of the active file is removed:
//! they were put back, and the record would hide them once they are sealed.
//!
//! A crash before the rename leaves segments that are not in force, and the log as it was. The next
//! seal compares them with the log and removes them.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use serde::Serialize;

use crate::bisect::find_event;
use crate::chain::{Head, Line};
use crate::checksum::Checksum;
use crate::chunk;
use crate::error::{Error, Result};
use crate::integrity::Progress;
use crate::lines::Lines;
use crate::log_file::{LOG, LogFile, VerifiedEnd};
use crate::recover::{End, locate_damage};
use crate::retired::{RETIRED, RETIRING, Retired};
use crate::segment::{FRAME_BYTES, SEGMENTS, Segment, SegmentWriter, Span};
use crate::storage::{Access, Lock, LockHolder, Storage, StorageFile, read_exact_at};
use crate::sync::{Arc, Mutex, lock};
use crate::writer::{Writer, io_error};

/// Files of a seal in progress: its lock, and the segment that is being written.
const SEAL_LOCK: &str = "segments/lock";
const UNFINISHED: &str = "segments/unfinished";

/// Events that stay in the active file. Recovery needs at most the last three lines, so it does not
/// depend on a segment.
const MIN_ACTIVE_EVENTS: u64 = 3;

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// What [`Bus::seal`](crate::Bus::seal) seals.
///
/// By default, it fills as many segments of 256 MiB as it can, and leaves the rest of the events in
/// the active file.
#[derive(Clone, Copy, Debug)]
pub struct SealOptions {
    segment_bytes: u64,
    up_to: Option<u64>,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { segment_bytes: 256 << 20, up_to: None }
    }
}

impl SealOptions {
    /// Sets the size of a segment in plain bytes; its last event may exceed it. At least 1 MiB.
    pub fn segment_bytes(&mut self, bytes: u64) -> &mut Self {
        self.segment_bytes = bytes.max(FRAME_BYTES);
        self
    }

    /// Seals all events up to this index, also if they do not fill the last segment. The last three
    /// events of a log are never sealed.
    pub fn up_to(&mut self, index: u64) -> &mut Self {
        self.up_to = Some(index);
        self
    }
}

/// What [`Bus::seal`](crate::Bus::seal) has sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// Index of the first event that this call sealed; 0 if there was nothing to seal.
    pub first: u64,
    /// Index of the last one.
    pub last: u64,
    /// Number of the new segments.
    pub segments: u64,
    /// Bytes that the events took in the active file.
    pub bytes: u64,
    /// Bytes that the segments take.
    pub bytes_sealed: u64,
}

/// Seals what the options say, see [`Bus::seal`](crate::Bus::seal).
pub(crate) fn seal(
    storage: &Arc<dyn Storage>,
    writer: &Mutex<Writer>,
    options: SealOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Sealed> {
    let failed = |action| io_error(&**storage, SEGMENTS, action);
    storage.create_directory(SEGMENTS).map_err(failed("create the directory"))?;
    storage.copy_permissions(".", SEGMENTS).map_err(failed("set the permissions of it"))?;
    // Before a segment comes into force, the name of its directory must be durable.
    storage.sync().map_err(io_error(&**storage, LOG, "sync the directory of"))?;
    let _lock = SealLock::take(&**storage)?;
    let (log, end) = lock(writer).with_lock(&**storage, |writer| {
        writer.refresh_end(&**storage)?;
        Ok((writer.log().clone(), writer.end))
    })?;
    let log_path = storage.path(LOG);
    remove_stale(&**storage, &log)?;
    remove_records_of_held_events(storage, end)?;
    let mut start = start_of_active(&log, end).map_err(Error::io("read it", &log_path))?;
    let up_to = end.head.index.saturating_sub(MIN_ACTIVE_EVENTS).min(options.up_to.unwrap_or(u64::MAX));
    if up_to <= start.head.index {
        return Ok(Sealed::default());
    }
    let last = find_event(&log, end.offset, up_to).map_err(Error::io("read it", &log_path))?;
    let Some((limit, _)) = last else { return Err(locate_damage(&**storage, &log, None, end.offset)) };
    let mut sealed = Sealed { first: start.head.index + 1, ..Sealed::default() };
    let is_last_filled = options.up_to.is_none();
    while let Some(to) = segment_end(&log, start.offset, limit, options.segment_bytes, is_last_filled)
        .map_err(Error::io("read it", &log_path))?
    {
        let (next, bytes_sealed) = write_segment(&**storage, &log, start, to, &mut |offset| {
            progress(Progress { bytes: offset, bytes_total: limit });
        })?;
        sealed.segments += 1;
        sealed.bytes += next.offset - start.offset;
        sealed.bytes_sealed += bytes_sealed;
        start = next;
    }
    if sealed.segments == 0 {
        return Ok(Sealed::default());
    }
    sealed.last = start.head.index;
    storage.sync_directory(SEGMENTS).map_err(failed("sync the directory"))?;
    replace_active(&**storage, writer, &log, start.offset, end)?;
    Ok(sealed)
}

/// Keeps other sealers off, and those that retire events. The lock lasts as long as its file is
/// open.
pub(crate) struct SealLock(
    #[expect(dead_code, reason = "the open file holds the lock")] Box<dyn StorageFile>,
);

impl SealLock {
    pub(crate) fn take(storage: &dyn Storage) -> Result<Self> {
        let path = storage.path(SEAL_LOCK);
        let file = storage.open(SEAL_LOCK, Access::ReadWrite).map_err(Error::io("open it", &path))?;
        if !file.try_lock(Lock::Exclusive).map_err(Error::io("lock it", &path))? {
            let holder = LockHolder::of(&path);
            return Err(Error::Sealing { path, holder });
        }
        Ok(Self(file))
    }
}

/// Removes the segments that an interrupted seal left, if the log still holds what they hold.
fn remove_stale(storage: &dyn Storage, log: &LogFile) -> Result<()> {
    for span in log.stale() {
        let path = storage.path(&span.path());
        let removed = Segment::open(storage, span).and_then(|segment| {
            check_equal(&segment, log)?;
            storage.remove(&span.path())
        });
        removed.map_err(|source| Error::Io {
            action: "remove it as a rest of an interrupted seal",
            path,
            source: io::Error::new(
                source.kind(),
                format!("{source}. If it does not belong to this bus, move it elsewhere"),
            ),
        })?;
    }
    if log.stale().is_empty() {
        return Ok(());
    }
    storage.sync_directory(SEGMENTS).map_err(Error::io("sync the directory", &storage.path(SEGMENTS)))
}

/// Removes what the record of retired events says about events that the active file holds: the log
/// was put back. Once these events are sealed, the record would come into force and hide them.
/// Refuses a record of another history.
fn remove_records_of_held_events(storage: &Arc<dyn Storage>, end: End) -> Result<()> {
    // The handle may be older than the last retirement.
    let log = LogFile::open(storage, Access::Read).map_err(io_error(&**storage, LOG, "open"))?;
    let Some(first) = log.first_in_active() else { return Ok(()) };
    let mut is_changed = false;
    // The one that a retirement has prepared would come into force later.
    for name in [RETIRING, RETIRED] {
        let path = storage.path(name);
        let reading = || Error::io("read it", &path);
        let refuse = |problem: &str| {
            let problem = format!("{problem}. Move that file elsewhere, then seal again");
            Error::Io {
                action: "seal the log beside it",
                path: path.clone(),
                source: io::Error::other(problem),
            }
        };
        let record = match Retired::read(&**storage, name).map_err(reading())? {
            Ok(None) => continue,
            Ok(Some(record)) => record,
            Err(problem) if !log.lacks_its_beginning() && log.retired().is_none() => {
                return Err(refuse(&format!("{problem}, and the log holds every event from 1 on")));
            }
            // Without it, the log lacks its beginning.
            Err(_) => continue,
        };
        let (head, bus) = (record.head(), record.bus());
        if head.index < first {
            continue;
        }
        let found = find_event(&log, end.offset, head.index).map_err(reading())?;
        let in_force = record.before(first);
        let starts_as_recorded = match &in_force {
            Some(earlier) => log.start().head == earlier.head(),
            None => first_checksum(&log, end.offset).map_err(reading())? == bus,
        };
        if !starts_as_recorded || found.map(|(_, head)| head) != Some(head) {
            return Err(refuse("it records retired events of another history"));
        }
        let removed = match in_force.filter(|_| name == RETIRED) {
            Some(in_force) => in_force.write(&**storage, RETIRED),
            None => storage.remove(name),
        };
        removed.map_err(Error::io("remove it, since the log holds the events", &path))?;
        is_changed = true;
    }
    if !is_changed {
        return Ok(());
    }
    // Before the events are sealed, or a power cut could bring the record back.
    storage.sync_directory(SEGMENTS).map_err(Error::io("sync the directory", &storage.path(SEGMENTS)))
}

/// Returns the checksum of the first event.
pub(crate) fn first_checksum(log: &LogFile, end: u64) -> io::Result<Option<Checksum>> {
    let mut lines = Lines::new(log.clone(), log.start().offset, end);
    let line = lines.next()?.and_then(|raw| raw.bytes).and_then(|line| Line::read(line).ok());
    Ok(line.and_then(|line| line.checksum()))
}

/// Compares a segment with what the log holds at its place.
fn check_equal(segment: &Segment, log: &LogFile) -> io::Result<()> {
    let mut plain = Vec::new();
    for (number, frame) in segment.frames.iter().enumerate() {
        let sealed = segment.read_frame(number)?;
        plain.resize(sealed.len(), 0);
        if log.size()? < frame.bytes.end {
            return Err(io::Error::other("it holds events that the log does not hold"));
        }
        read_exact_at(log, &mut plain, frame.bytes.start)?;
        if plain != sealed {
            return Err(io::Error::other("it does not hold what the log holds at its place"));
        }
    }
    Ok(())
}

/// Returns where the active file begins, and the event before it.
fn start_of_active(log: &LogFile, end: End) -> io::Result<VerifiedEnd> {
    let base = log.base();
    if base == log.start().offset {
        return Ok(log.start());
    }
    let mut lines = Lines::new(log.clone(), base, end.offset);
    let line = lines.next()?.and_then(|raw| raw.bytes);
    let head = line.and_then(|line| {
        let line = Line::read(line).ok()?;
        Some(Head { index: line.index()?.checked_sub(1)?, checksum: line.previous_checksum() })
    });
    let head = head.ok_or_else(|| io::Error::other("its first line is not an event"))?;
    Ok(VerifiedEnd { head, offset: base })
}

/// Returns where the next segment ends: at the start of a line, or at the limit. `None` if there is
/// nothing left to seal.
fn segment_end(
    log: &LogFile,
    start: u64,
    limit: u64,
    segment_bytes: u64,
    is_last_filled: bool,
) -> io::Result<Option<u64>> {
    if start >= limit {
        return Ok(None);
    }
    if limit - start <= segment_bytes {
        return Ok((!is_last_filled || limit - start == segment_bytes).then_some(limit));
    }
    Ok(Some(Lines::from_next_line(log.clone(), start + segment_bytes, limit)?.offset()))
}

/// Writes the lines between two offsets to a segment, reads it back, compares it and gives it its
/// name. Returns where it ends, and its size.
fn write_segment(
    storage: &dyn Storage,
    log: &LogFile,
    start: VerifiedEnd,
    to: u64,
    on_frame: &mut (dyn FnMut(u64) + Send),
) -> Result<(VerifiedEnd, u64)> {
    let failed = |action| io_error(storage, UNFINISHED, action);
    let file = storage.open(UNFINISHED, Access::Truncate).map_err(failed("create it"))?;
    // Whoever may read the log may read it in segments.
    storage.copy_permissions(LOG, UNFINISHED).map_err(failed("set the permissions of it"))?;
    let mut segment = SegmentWriter::new(file, start.offset).map_err(failed("write it"))?;
    let mut first = start.head.index + 1;
    let merge = |(): &mut (), verified: VerifiedEnd, lines: &mut [u8]| {
        // Chunks without an event are not merged. They are blank, and belong to the next frame.
        let blank_bytes = verified.offset - lines.len() as u64 - segment.offset();
        if blank_bytes == 0 {
            segment.append(lines, first)?;
        } else if blank_bytes <= FRAME_BYTES {
            let mut frame = vec![0; blank_bytes as usize];
            read_exact_at(log, &mut frame, segment.offset())?;
            frame.extend_from_slice(lines);
            segment.append(&frame, first)?;
        } else {
            return Err(io::Error::other(format!("{blank_bytes} bytes before event {first} are blank")));
        }
        first = verified.head.index + 1;
        on_frame(verified.offset);
        Ok(())
    };
    // One thread, which leaves the processors to those that append.
    let verified =
        chunk::verify_chunks(log, start, to, None, NonZeroUsize::MIN, |(): &mut (), _, _, _| {}, merge);
    let verified = verified.map_err(failed("seal events in it"))?;
    let mut rest = Lines::new(log.clone(), verified.offset, to);
    let has_more = rest.next().map_err(Error::io("read it", &storage.path(LOG)))?.is_some();
    if has_more || verified.head == start.head {
        return Err(locate_damage(storage, log, None, to));
    }
    let (span, bytes_sealed) = segment.finish(verified.head.index).map_err(failed("write it"))?;
    check_and_name(storage, log, &span).map_err(failed("seal events in it"))?;
    Ok((verified, bytes_sealed))
}

fn check_and_name(storage: &dyn Storage, log: &LogFile, span: &Span) -> io::Result<()> {
    check_equal(&Segment::open_as(storage, UNFINISHED, span)?, log)?;
    storage.rename(UNFINISHED, &span.path())
}

/// Puts a file with what follows `cut` in place of the active one. Most of it is copied before the
/// lock is taken.
fn replace_active(
    storage: &dyn Storage,
    writer: &Mutex<Writer>,
    log: &LogFile,
    cut: u64,
    end: End,
) -> Result<()> {
    let name = Writer::NEXT_ACTIVE;
    let failed = |action| io_error(storage, name, action);
    let next = storage.open(name, Access::Truncate).map_err(failed("create it"))?;
    storage.copy_permissions(LOG, name).map_err(failed("set the permissions of it"))?;
    copy(log, &*next, cut, end.offset).map_err(failed("write it"))?;
    next.sync().map_err(failed("sync it"))?;
    lock(writer).with_lock(storage, |writer| {
        writer.refresh_end(storage)?;
        if writer.log().base() != log.base() {
            return Err(Error::Changed { path: storage.path(LOG), reason: "was sealed by another program" });
        }
        copy(writer.log(), &*next, end.offset, writer.end.offset).map_err(failed("write it"))?;
        next.sync().map_err(failed("sync it"))?;
        writer.replace_active(storage)
    })
}

fn copy(log: &LogFile, to: &dyn StorageFile, from: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = from;
    while offset < end {
        let block = &mut buffer[..(end - offset).min(COPY_BYTES as u64) as usize];
        read_exact_at(log, block, offset)?;
        to.append(block)?;
        offset += block.len() as u64;
    }
    Ok(())
}

/// Seals the log of a handle on a thread of its own whenever its active file is large enough, see
/// [`OpenOptions::segment_bytes`](crate::OpenOptions::segment_bytes).
pub(crate) struct AutomaticSeal {
    segment_bytes: u64,
    /// Size of the log at which the next seal begins.
    next_at: AtomicU64,
    is_running: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl AutomaticSeal {
    /// Seals the log of a handle once its active file, which begins at `base`, holds
    /// `segment_bytes`.
    pub(crate) fn new(segment_bytes: u64, base: u64) -> Self {
        Self {
            segment_bytes,
            next_at: AtomicU64::new(base + segment_bytes),
            is_running: Arc::default(),
            thread: Mutex::default(),
            failure: Arc::default(),
        }
    }

    /// Called after a commit, with the size of the log. Begins a seal if it is time.
    pub(crate) fn after_commit(&self, size: u64, storage: &Arc<dyn Storage>, writer: &Arc<Mutex<Writer>>) {
        if size < self.next_at.load(Ordering::Relaxed) || self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        // Also the next attempt after a failure waits until the log has grown.
        self.next_at.store(size + self.segment_bytes, Ordering::Relaxed);
        let (storage, writer) = (Arc::clone(storage), Arc::clone(writer));
        let (is_running, failure) = (Arc::clone(&self.is_running), Arc::clone(&self.failure));
        let options = *SealOptions::default().segment_bytes(self.segment_bytes);
        let work = move || {
            let sealed = seal(&storage, &writer, options, &mut |_| {});
            *lock(&failure) = match sealed {
                // Another handle of the bus seals it.
                Ok(_) | Err(Error::Sealing { .. }) => None,
                Err(error) => Some(format!("the log was not sealed: {error}")),
            };
            is_running.store(false, Ordering::Release);
        };
        match std::thread::Builder::new().name("zero-bus seal".to_owned()).spawn(work) {
            Ok(thread) => drop(lock(&self.thread).replace(thread)),
            Err(_) => self.is_running.store(false, Ordering::Release),
        }
    }

    /// Returns why the last seal failed.
    pub(crate) fn warning(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Waits for a seal in progress.
    pub(crate) fn finish(&self) {
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}
