//! Sealing: moves the beginning of the active file to compressed segments, while others append.
//!
//! 1. Without the bus's lock, the events are verified and compressed, on a thread that leaves the
//!    processors to others. A segment is synced, read back and compared with the log before it gets
//!    its name.
//! 2. What follows the sealed events is copied to a new file, and the last bit of it under the
//!    lock. The file is synced and renamed over the active file ([`Writer::replace_active`]), and
//!    the segments are in force.
//!
//! Whatever is written is synced in small pieces. On a journaling file system, the sync of an
//! append otherwise waits until all of it is on the disk. And while others append, a seal rests
//! most of the time ([`Pace`]): their syncs wait for interrupts and threads of the kernel, which
//! need an idle processor more than a low priority of this thread.
//!
//! Before that, what the record of retired events says about events of the active file is removed:
//! they were put back, and the record would hide them once they are sealed.
//!
//! A crash before the rename leaves segments that are not in force, and the log as it was. The next
//! seal compares them with the log and removes them.

use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bisect::find_event;
use crate::chain::{Head, Line};
use crate::checksum::Checksum;
use crate::chunk;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::integrity::Progress;
use crate::lines::Lines;
use crate::log_file::{LOG, LogFile, VerifiedEnd};
use crate::recover::{End, locate_damage};
use crate::retired::{RETIRED, RETIRING, Retired};
use crate::segment::{FRAME_BYTES, FrameReader, SEGMENTS, Segment, SegmentWriter, Span};
use crate::storage::{Access, Lock, LockHolder, Storage, StorageFile, read_exact_at};
use crate::sync::{Arc, Mutex, lock};
use crate::writer::{Writer, io_error};

/// Files of a seal in progress: its lock, and the segment that is being written.
const SEAL_LOCK: &str = "segments/lock";
const UNFINISHED: &str = "segments/unfinished";

/// The nice value of a thread that seals, from -20 (first) to 19 (last).
const LOW_PRIORITY: i32 = 10;

/// While others append, a seal rests this many times as long as it works: when it uses the
/// processor, and when it writes.
const REST_AFTER_FRAME: u32 = 6;
const REST_AFTER_COPY: u32 = 20;
const MAX_REST: Duration = Duration::from_secs(1);

/// Events that stay in the active file. Recovery needs at most the last three lines, so it does not
/// depend on a segment.
const MIN_ACTIVE_EVENTS: u64 = 3;

/// Bytes copied at a time, and then synced.
const COPY_BYTES: usize = 1 << 20;

/// No more than this is copied under the lock, unless others append faster than a copy is made in
/// so many rounds.
const MAX_LOCKED_COPY_BYTES: u64 = 256 << 10;
const MAX_COPY_ROUNDS: usize = 16;

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
    let mut latest = latest_before_active(&**storage, &log).map_err(failed("read the last segment in"))?;
    in_background(&log_path, || {
        while let Some(to) = segment_end(&log, start.offset, limit, options.segment_bytes, is_last_filled)
            .map_err(Error::io("read it", &log_path))?
        {
            let (next, bytes_sealed) =
                write_segment(&**storage, &log, start, to, &mut latest, &mut |offset| {
                    progress(Progress { bytes: offset, bytes_total: limit });
                })?;
            sealed.segments += 1;
            sealed.bytes += next.offset - start.offset;
            sealed.bytes_sealed += bytes_sealed;
            start = next;
        }
        Ok(())
    })?;
    if sealed.segments == 0 {
        return Ok(Sealed::default());
    }
    sealed.last = start.head.index;
    storage.sync_directory(SEGMENTS).map_err(failed("sync the directory"))?;
    replace_active(&**storage, writer, &log, start.offset, end)?;
    Ok(sealed)
}

/// Calls `work` on a thread of low priority, so that it delays appenders as little as possible, and
/// waits for it. `path` is for messages.
fn in_background<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let work = move || {
            lower_priority();
            work()
        };
        let thread = std::thread::Builder::new().name("zero-bus seal".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(Error::io("start a thread for", path))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Leaves processor and disk to those that append: rests after each piece of work if there was an
/// append since the piece before. Without appends, it does not rest.
struct Pace<'a> {
    log: &'a LogFile,
    size: u64,
    rested_at: Instant,
}

impl<'a> Pace<'a> {
    fn new(log: &'a LogFile) -> Self {
        Self { log, size: log.size().unwrap_or_default(), rested_at: Instant::now() }
    }

    /// Called after a piece of work. Rests so many times as long as the work has taken.
    fn rest(&mut self, times: u32) -> io::Result<()> {
        let size = self.log.size()?;
        if size != self.size {
            self.size = size;
            std::thread::sleep(self.rested_at.elapsed().saturating_mul(times).min(MAX_REST));
        }
        self.rested_at = Instant::now();
        Ok(())
    }
}

/// Lowers the priority of the calling thread, and of no other.
#[cfg(target_os = "linux")]
fn lower_priority() {
    // On Linux, this is the priority of a thread. May fail: the work is then done at the usual one.
    let _ = rustix::process::setpriority_process(None, LOW_PRIORITY);
}

/// On other systems, threads of a process have one priority.
#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

/// Returns a time that no sealed event is later than; `None` if no event is sealed.
fn latest_before_active(storage: &dyn Storage, log: &LogFile) -> io::Result<Option<f64>> {
    let Some(span) = log.spans().last() else { return Ok(None) };
    match Segment::open(storage, span) {
        // A damaged segment does not keep others from being sealed.
        Err(error) if Fault::of(&error).is_some() => Ok(Some(f64::MAX)),
        segment => Ok(Some(segment?.latest())),
    }
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
    let (mut plain, mut sealed, mut reader) = (Vec::new(), Vec::new(), FrameReader::default());
    let mut pace = Pace::new(log);
    for (number, frame) in segment.frames.iter().enumerate() {
        segment.read_frame(number, &mut reader, &mut sealed)?;
        plain.resize(sealed.len(), 0);
        if log.size()? < frame.bytes.end {
            return Err(io::Error::other("it holds events that the log does not hold"));
        }
        read_exact_at(log, &mut plain, frame.bytes.start)?;
        if plain != sealed {
            return Err(io::Error::other("it does not hold what the log holds at its place"));
        }
        pace.rest(REST_AFTER_FRAME)?;
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
/// name. Returns where it ends, and its size. `latest` is the latest time of an event before it,
/// and then of an event up to its end.
fn write_segment(
    storage: &dyn Storage,
    log: &LogFile,
    start: VerifiedEnd,
    to: u64,
    latest: &mut Option<f64>,
    on_frame: &mut (dyn FnMut(u64) + Send),
) -> Result<(VerifiedEnd, u64)> {
    let failed = |action| io_error(storage, UNFINISHED, action);
    let file = storage.open(UNFINISHED, Access::Truncate).map_err(failed("create it"))?;
    // Whoever may read the log may read it in segments.
    storage.copy_permissions(LOG, UNFINISHED).map_err(failed("set the permissions of it"))?;
    let mut segment = SegmentWriter::new(file, start.offset, *latest).map_err(failed("write it"))?;
    let mut first = start.head.index + 1;
    let mut pace = Pace::new(log);
    let visit = |latest: &mut Option<f64>, _, line: &Line<'_>, _| {
        let time = line.as_of();
        *latest = Some(latest.map_or(time, |latest| latest.max(time)));
    };
    let merge = |latest: &mut Option<f64>, verified: VerifiedEnd, lines: &mut [u8]| {
        let latest = latest.take().unwrap_or(f64::MAX);
        // Chunks without an event are not merged. They are blank, and belong to the next frame.
        let blank_bytes = verified.offset - lines.len() as u64 - segment.offset();
        if blank_bytes == 0 {
            segment.append(lines, first, latest)?;
        } else if blank_bytes <= FRAME_BYTES {
            let mut frame = vec![0; blank_bytes as usize];
            read_exact_at(log, &mut frame, segment.offset())?;
            frame.extend_from_slice(lines);
            segment.append(&frame, first, latest)?;
        } else {
            return Err(io::Error::other(format!("{blank_bytes} bytes before event {first} are blank")));
        }
        first = verified.head.index + 1;
        on_frame(verified.offset);
        pace.rest(REST_AFTER_FRAME)
    };
    // One thread, which leaves the processors to those that append.
    let verified = chunk::verify_chunks(log, start, to, None, NonZeroUsize::MIN, visit, merge);
    let verified = verified.map_err(failed("seal events in it"))?;
    let mut rest = Lines::new(log.clone(), verified.offset, to);
    let has_more = rest.next().map_err(Error::io("read it", &storage.path(LOG)))?.is_some();
    if has_more || verified.head == start.head {
        return Err(locate_damage(storage, log, None, to));
    }
    *latest = segment.latest();
    let (span, bytes_sealed) = segment.finish(verified.head.index).map_err(failed("write it"))?;
    check_and_name(storage, log, &span).map_err(failed("seal events in it"))?;
    Ok((verified, bytes_sealed))
}

fn check_and_name(storage: &dyn Storage, log: &LogFile, span: &Span) -> io::Result<()> {
    check_equal(&Segment::open_as(storage, UNFINISHED, span)?, log)?;
    storage.rename(UNFINISHED, &span.path())
}

/// Puts a file with what follows `cut` in place of the active one. Nearly all of it is copied
/// before the lock is taken. `end` is an end that the log had.
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
    copy(log, &*next, cut, end.offset, Some(&mut Pace::new(log))).map_err(failed("write it"))?;
    next.sync().map_err(failed("sync it"))?;
    let mut end = end.offset;
    // What was appended meanwhile.
    for _ in 0..MAX_COPY_ROUNDS {
        let end_now = lock(writer).with_lock(storage, |writer| {
            writer.refresh_end(storage)?;
            Ok(writer.end.offset)
        })?;
        if end_now.saturating_sub(end) <= MAX_LOCKED_COPY_BYTES {
            break;
        }
        copy(log, &*next, end, end_now, None).map_err(failed("write it"))?;
        end = end_now;
    }
    lock(writer).with_lock(storage, |writer| {
        writer.refresh_end(storage)?;
        if writer.log().base() != log.base() {
            return Err(Error::Changed { path: storage.path(LOG), reason: "was sealed by another program" });
        }
        copy(writer.log(), &*next, end, writer.end.offset, None).map_err(failed("write it"))?;
        next.sync().map_err(failed("sync it"))?;
        writer.replace_active(storage)
    })
}

fn copy(
    log: &LogFile,
    to: &dyn StorageFile,
    from: u64,
    end: u64,
    mut pace: Option<&mut Pace<'_>>,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = from;
    while offset < end {
        let block = &mut buffer[..(end - offset).min(COPY_BYTES as u64) as usize];
        read_exact_at(log, block, offset)?;
        to.append(block)?;
        if block.len() == COPY_BYTES {
            to.sync()?;
            pace.as_mut().map_or(Ok(()), |pace| pace.rest(REST_AFTER_COPY))?;
        }
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
