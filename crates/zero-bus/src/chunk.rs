//! Verifies a log in chunks on several threads and merges the results in log order.
//!
//! A chunk is 1 MiB of the log, or a frame of a sealed segment, and owns the lines that start in
//! it. Nearly all of the work is to hash these lines and to check the links between them, which
//! needs nothing from outside the chunk; a frame is also decompressed here, straight into the
//! buffer of the thread. Each thread repeats four steps: it claims the next chunk, verifies its
//! lines, waits until all earlier chunks are merged, and merges its own. A chunk merges only if its
//! first line links to the last event merged before it.
//!
//! Only valid lines are merged. The first chunk with an invalid or unterminated line ends the pass,
//! and [`crate::integrity`] scans the rest sequentially, because only that scan names faults and
//! classifies tails.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::PoisonError;

use crate::chain::{Head, Line, NextLineMatcher};
use crate::event::MAX_LINE_BYTES;
use crate::fault::Fault;
use crate::lines::is_blank;
use crate::log_file::{LogFile, VerifiedEnd};
use crate::segment::FrameReader;
use crate::storage::read_up_to;
use crate::sync::{Condvar, Mutex, lock, wait};
use crate::sync_mark::SyncMark;

/// Large enough that merging costs nothing, small enough that one chunk per thread is little
/// memory.
const CHUNK_BYTES: u64 = 1 << 20;

/// Reads of a line that extends past its chunk start small and double up to the maximum.
const FIRST_READ_BYTES: usize = 4 << 10;
const MAX_READ_BYTES: usize = 256 << 10;

/// Below this length, starting threads costs more than they save.
const MIN_PARALLEL_BYTES: u64 = 2 << 20;

/// Bounds the memory, since each thread holds a chunk.
const MAX_THREADS: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Returns the number of threads that the machine runs in parallel, at most 16.
pub(crate) fn available_threads() -> NonZeroUsize {
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |threads| threads.min(MAX_THREADS))
}

/// Verifies a log from `start` to `end`, or to the first chunk that is not entirely valid. Returns
/// how far the log is verified.
///
/// `visit` is called with each event of a chunk and records what it needs in the thread's collector
/// `T`. It also gets the position of the line in the text of the chunk, unless the line is not in
/// canonical form. `merge` is called for one chunk at a time, in log order, with the collector, the
/// end of that chunk and its text, which it may change. It must empty the collector, which the
/// thread uses again.
///
/// The calling thread verifies chunks too. A thread merges the chunk it has just verified, while
/// the text is still in its caches. Memory per thread: one chunk, the part of its last line that
/// extends past it, and the collector.
pub(crate) fn verify_chunks<T: Default>(
    file: &LogFile,
    start: VerifiedEnd,
    end: u64,
    sync_mark: Option<SyncMark>,
    threads: NonZeroUsize,
    visit: impl Fn(&mut T, Head, &Line<'_>, Option<usize>) + Sync,
    merge: impl FnMut(&mut T, VerifiedEnd, &mut [u8]) -> io::Result<()> + Send,
) -> io::Result<VerifiedEnd> {
    let range = LogRange { file, start: start.offset, end };
    let length = end.saturating_sub(start.offset);
    let threads =
        if length < MIN_PARALLEL_BYTES { 1 } else { length.div_ceil(CHUNK_BYTES).min(threads.get() as u64) };
    // Hands out chunks in log order. A thread that waits for its turn holds a later chunk than the
    // one that is merged next, so the threads cannot wait for each other in a circle.
    let next_unclaimed = Mutex::new(start.offset);
    let claim = || {
        let mut next_unclaimed = lock(&next_unclaimed);
        let begin = *next_unclaimed;
        *next_unclaimed = if begin < end { file.part_end(begin, CHUNK_BYTES) } else { begin };
        begin..*next_unclaimed
    };
    let merger = Merger {
        state: Mutex::new(MergeState { next_begin: Some(start.offset), verified: Ok(start), merge }),
        advanced: Condvar::new(),
    };
    let work = || {
        let (mut buffer, mut collector) = (ChunkBuffer::default(), T::default());
        loop {
            let chunk = claim();
            if chunk.is_empty() {
                break;
            }
            let claim = ClaimedChunk { merger: &merger, bytes: chunk.clone() };
            let is_complete = match buffer.read(&range, &chunk) {
                // A segment that cannot be read makes the chunk invalid.
                Err(error) if Fault::of(&error).is_some() => Ok(false),
                read => read,
            };
            let verified = is_complete.map(|is_complete| {
                is_complete.then(|| buffer.verify(sync_mark, &mut collector, &visit)).flatten()
            });
            if !claim.merge(verified, &mut collector, buffer.lines()) {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        // If the system refuses a thread, those already started do all of the work.
        let others: Vec<_> =
            (1..threads).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        work();
        for other in others {
            // A panic of `visit` or `merge` reaches the caller, whichever thread it happened on.
            other.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    let state = merger.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.verified
}

/// Merges chunks in log order, although threads finish them in any order.
struct Merger<M> {
    state: Mutex<MergeState<M>>,
    /// Notified whenever `next_begin` changes.
    advanced: Condvar,
}

/// Protected by the lock of [`Merger`], which is held while `merge` runs.
struct MergeState<M> {
    /// Offset of the chunk to merge next. `None` while it is merged, and for good once the pass
    /// ends.
    next_begin: Option<u64>,
    /// The end of the last merged chunk, or the error that ended the pass.
    verified: io::Result<VerifiedEnd>,
    merge: M,
}

/// The result of verifying a chunk: all of its lines are valid and linked to each other.
struct VerifiedChunk {
    /// The predecessor that the first event names; `None` if no event starts in this chunk.
    predecessor: Option<Head>,
    /// The last event.
    head: Head,
    /// Byte offset of the line after the last one.
    end: u64,
}

/// A chunk that one thread works on. Later chunks wait until it is merged or dropped.
struct ClaimedChunk<'a, M> {
    merger: &'a Merger<M>,
    bytes: Range<u64>,
}

impl<M> ClaimedChunk<'_, M> {
    /// Waits for the turn of this chunk and merges it. Returns `false` if the pass has ended.
    fn merge<T>(
        self,
        verified: io::Result<Option<VerifiedChunk>>,
        collector: &mut T,
        lines: &mut [u8],
    ) -> bool
    where
        M: FnMut(&mut T, VerifiedEnd, &mut [u8]) -> io::Result<()>,
    {
        let mut state = lock(&self.merger.state);
        while state.next_begin.is_some_and(|begin| begin != self.bytes.start) {
            state = wait(&self.merger.advanced, state);
        }
        // Taken, and restored only after success, so that an error or a panic of `merge` ends the
        // pass.
        if state.next_begin.take().is_none() {
            return false;
        }
        match verified.and_then(|chunk| state.append(chunk, collector, lines)) {
            Ok(true) => state.next_begin = Some(self.bytes.end),
            Ok(false) => {}
            Err(error) => state.verified = Err(error),
        }
        state.next_begin.is_some()
    }
}

impl<M> Drop for ClaimedChunk<'_, M> {
    fn drop(&mut self) {
        // After a panic this chunk is never merged, so the threads that wait for it must stop.
        if std::thread::panicking() {
            lock(&self.merger.state).next_begin = None;
        }
        self.merger.advanced.notify_all();
    }
}

impl<M> MergeState<M> {
    /// Appends a chunk to the verified part. Returns `false` if the chunk is not valid or does not
    /// link to the last merged event.
    fn append<T>(
        &mut self,
        chunk: Option<VerifiedChunk>,
        collector: &mut T,
        lines: &mut [u8],
    ) -> io::Result<bool>
    where
        M: FnMut(&mut T, VerifiedEnd, &mut [u8]) -> io::Result<()>,
    {
        let (Some(chunk), Ok(verified)) = (chunk, &mut self.verified) else { return Ok(false) };
        if let Some(predecessor) = chunk.predecessor {
            if predecessor != verified.head {
                return Ok(false);
            }
            *verified = VerifiedEnd { head: chunk.head, offset: chunk.end };
            (self.merge)(collector, *verified, lines)?;
        }
        Ok(true)
    }
}

/// The part of a log that one pass verifies.
struct LogRange<'a> {
    file: &'a LogFile,
    start: u64,
    end: u64,
}

/// The lines that start in one chunk, complete. A thread uses one buffer for all of its chunks.
#[derive(Default)]
struct ChunkBuffer {
    bytes: Vec<u8>,
    /// Range of the lines in `bytes`.
    lines: Range<usize>,
    /// Byte offset of the first line in the log.
    offset: u64,
    frame_reader: FrameReader,
}

impl ChunkBuffer {
    /// Reads the lines that start in a chunk. Returns `false` if the last one is unterminated or
    /// too long, or if the file was truncated meanwhile.
    fn read(&mut self, range: &LogRange<'_>, chunk: &Range<u64>) -> io::Result<bool> {
        // A frame that cannot be unpacked leaves no lines.
        self.lines = 0..0;
        if chunk.end <= range.end && range.file.read_frame(chunk, &mut self.frame_reader, &mut self.bytes)? {
            // The chunk before it ends with a frame, too, so a line starts here.
            self.lines = 0..self.bytes.len();
            self.offset = chunk.start;
            return Ok(self.bytes.ends_with(b"\n"));
        }
        // The active file begins with a line.
        let is_first = chunk.start == range.start || chunk.start == range.file.base();
        // Reads one byte before the chunk. If that is a line break, a line starts with the chunk;
        // otherwise the bytes up to the next line break belong to a line of an earlier chunk.
        let from = chunk.start - u64::from(!is_first);
        let mut length = (range.end.min(chunk.end) - from) as usize;
        if !self.fill(range, from, 0..length)? {
            return Ok(false);
        }
        let after_newline = |bytes: &[u8]| memchr::memchr(b'\n', bytes).map(|newline| newline + 1);
        let first = if is_first { 0 } else { after_newline(&self.bytes[..length]).unwrap_or(length) };
        let mut read_bytes = FIRST_READ_BYTES;
        // The last line extends past the chunk.
        while length > first && self.bytes[length - 1] != b'\n' {
            let more = range.end.saturating_sub(from + length as u64).min(read_bytes as u64) as usize;
            let too_long = length > first + CHUNK_BYTES as usize + MAX_LINE_BYTES;
            if more == 0 || too_long || !self.fill(range, from, length..length + more)? {
                return Ok(false);
            }
            length += after_newline(&self.bytes[length..length + more]).unwrap_or(more);
            read_bytes = (read_bytes * 2).min(MAX_READ_BYTES);
        }
        self.lines = first..length;
        self.offset = from + first as u64;
        Ok(true)
    }

    /// Reads the bytes of a buffer range, whose index 0 is file offset `from`. Returns `false` if
    /// the file was truncated after its end was sampled.
    fn fill(&mut self, range: &LogRange<'_>, from: u64, target: Range<usize>) -> io::Result<bool> {
        if self.bytes.len() < target.end {
            self.bytes.resize(target.end, 0);
        }
        let read = read_up_to(range.file, &mut self.bytes[target.clone()], from + target.start as u64)?;
        Ok(read == target.len())
    }

    fn lines(&mut self) -> &mut [u8] {
        &mut self.bytes[self.lines.clone()]
    }

    /// Verifies the lines. Returns `None` if one is invalid or contradicts the sync mark.
    fn verify<T>(
        &self,
        sync_mark: Option<SyncMark>,
        collector: &mut T,
        visit: &impl Fn(&mut T, Head, &Line<'_>, Option<usize>),
    ) -> Option<VerifiedChunk> {
        let lines = &self.bytes[self.lines.clone()];
        let matches_sync_mark = |head| !sync_mark.is_some_and(|mark| mark.contradicts(head));
        let end = self.offset + lines.len() as u64;
        let mut chunk = VerifiedChunk { predecessor: None, head: Head::default(), end };
        let mut matcher: Option<NextLineMatcher> = None;
        let mut at = 0;
        while at < lines.len() {
            // Fast path: nearly every line is exactly what must follow the one before it.
            if let Some(matcher) = &mut matcher {
                let mut line_start = at;
                at += matcher.match_lines(&lines[at..], |head, line| {
                    if !matches_sync_mark(head) {
                        return false;
                    }
                    chunk.head = head;
                    visit(collector, head, line, Some(line_start));
                    line_start += line.canonical().len() + 1;
                    true
                });
            }
            // Slow path: the first line of the chunk, or a line that the matcher does not expect.
            let Some(length) = memchr::memchr(b'\n', &lines[at..]) else { break };
            let (line_start, bytes) = (at, &lines[at..at + length]);
            at += length + 1;
            if length > MAX_LINE_BYTES {
                return None;
            }
            if is_blank(bytes) {
                continue;
            }
            let line = Line::read(bytes).ok()?;
            if chunk.predecessor.is_none() {
                chunk.head = Head { index: line.index()? - 1, checksum: line.previous_checksum() };
                chunk.predecessor = Some(chunk.head);
            }
            chunk.head = line.verify_after(chunk.head).ok().filter(|head| matches_sync_mark(*head))?;
            visit(collector, chunk.head, &line, line.is_verbatim().then_some(line_start));
            match &mut matcher {
                Some(matcher) => matcher.restart_after(chunk.head),
                None => matcher = Some(NextLineMatcher::after(chunk.head)),
            }
        }
        Some(chunk)
    }
}
