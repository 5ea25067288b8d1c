//! A log in stretches, each judged by itself on one of several threads, and put together in their order: whether the
//! lines within one are sound and linked needs nothing from outside of it, and that costs nearly all of the time.
//!
//! Only what is right is judged here. The first chunk that is not, in whatever way, is left to [`crate::integrity`].

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chain::{Head, Line, NextLineMatcher};
use crate::event::MAX_LINE_BYTES;
use crate::lines::is_blank;
use crate::storage::{StorageFile, read_up_to};
use crate::sync::{Condvar, Mutex, lock, wait};
use crate::sync_mark::SyncMark;

/// Bytes of a chunk. Large enough that handing it over costs nothing, small enough that some of them are little memory.
const CHUNK_BYTES: u64 = 1 << 20;

/// Bytes read at a time of a line that ends behind its chunk: few at first, then twice as many each time.
const FIRST_BLOCK: usize = 4 << 10;
const LARGEST_BLOCK: usize = 256 << 10;

/// Bytes of a log from which on it is faster to have several threads judge it.
const WORTH_THREADS: u64 = 4 << 20;

/// However many a machine runs at once: what each holds adds up.
const MAX_THREADS: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// As many threads as the machine runs at once, within reason.
pub(crate) fn all_threads() -> NonZeroUsize {
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |threads| threads.min(MAX_THREADS))
}

/// What the lines come to that begin in a chunk, all of them sound.
struct Chunk {
    /// What the first one says it follows; `None` where no line begins here.
    before: Option<Head>,
    head: Head,
    /// Where the line behind the last one begins.
    end: u64,
}

/// How far a log was found sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sound {
    pub(crate) head: Head,
    /// Where the next line begins.
    pub(crate) at: u64,
}

/// Judges a log from a place up to `end`, as far as whole stretches of it are sound. What `each` gathers of the lines of a
/// chunk, in a `T` of its thread's own, `merge` takes out in the order of the log, told how far it is; what is left is
/// gathered in again, for the memory it has. `merge` also gets the lines themselves, one behind the other as they stand in
/// the log, to do with them what it likes; `each` is told where in them its line begins, unless that is spelled differently.
///
/// A thread merges in its turn what it has judged, while it still has that in its caches; the caller's is one of them.
/// Memory for a chunk and its last line a thread, and for what is gathered of it.
pub(crate) fn judge<T: Default>(
    file: &dyn StorageFile,
    sound: Sound,
    end: u64,
    note: Option<SyncMark>,
    threads: NonZeroUsize,
    each: impl Fn(&mut T, Head, &Line<'_>, Option<usize>) + Sync,
    merge: impl FnMut(&mut T, Sound, &mut [u8]) -> io::Result<()> + Send,
) -> io::Result<Sound> {
    let start = sound.at;
    let length = end.saturating_sub(start);
    let threads =
        if length < WORTH_THREADS { 1 } else { length.div_ceil(CHUNK_BYTES).min(threads.get() as u64) };
    let not_begun = AtomicU64::new(start);
    let merging = Merging {
        turn: Mutex::new(Turn { of: Some(start), sound: Ok(sound), merge }),
        passed: Condvar::new(),
    };
    let source = Source { file, start, end };
    let work = || {
        let (mut text, mut gathered) = (Text::default(), T::default());
        loop {
            let begin = not_begun.fetch_add(CHUNK_BYTES, Ordering::Relaxed);
            if begin >= end {
                break;
            }
            let place = Place { merging: &merging, begin };
            let read = text.read(&source, begin);
            let judged = read.map(|whole| whole.then(|| text.judge(note, &mut gathered, &each)).flatten());
            if !place.merge(judged, &mut gathered, text.lines()) {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        // Where the system has no more threads to give, those that there are do it.
        let others: Vec<_> =
            (1..threads).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        work();
        for other in others {
            // Who called is told what the thread had to say, as if it had been its own.
            other.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    let turn = merging.turn.into_inner().unwrap_or_else(PoisonError::into_inner);
    turn.sound
}

/// Stretches that are judged in any order, and merged one behind the other.
struct Merging<M> {
    turn: Mutex<Turn<M>>,
    passed: Condvar,
}

struct Turn<M> {
    /// Where the chunk begins whose turn it is; `None` once no more is wanted.
    of: Option<u64>,
    /// How far the log is sound, or why that is not known.
    sound: io::Result<Sound>,
    merge: M,
}

/// A chunk's place among the others. Those behind it wait until it is given up.
struct Place<'a, M> {
    merging: &'a Merging<M>,
    begin: u64,
}

impl<M> Place<'_, M> {
    /// Merges what the chunk comes to when it is its turn; `false` where no more is wanted.
    fn merge<T>(self, judged: io::Result<Option<Chunk>>, gathered: &mut T, lines: &mut [u8]) -> bool
    where
        M: FnMut(&mut T, Sound, &mut [u8]) -> io::Result<()>,
    {
        let mut turn = lock(&self.merging.turn);
        while turn.of.is_some_and(|begin| begin != self.begin) {
            turn = wait(&self.merging.passed, turn);
        }
        // Until all went well nothing behind it is wanted, also if this panics.
        if turn.of.take().is_none() {
            return false;
        }
        match judged.and_then(|chunk| turn.go_on(chunk, gathered, lines)) {
            Ok(true) => turn.of = Some(self.begin + CHUNK_BYTES),
            Ok(false) => {}
            Err(error) => turn.sound = Err(error),
        }
        turn.of.is_some()
    }
}

impl<M> Drop for Place<'_, M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.merging.turn).of = None;
        }
        self.merging.passed.notify_all();
    }
}

impl<M> Turn<M> {
    /// Goes on with the chunk whose turn it is, if it is sound and follows what was merged.
    fn go_on<T>(&mut self, chunk: Option<Chunk>, gathered: &mut T, lines: &mut [u8]) -> io::Result<bool>
    where
        M: FnMut(&mut T, Sound, &mut [u8]) -> io::Result<()>,
    {
        let (Some(chunk), Ok(sound)) = (chunk, &mut self.sound) else { return Ok(false) };
        if let Some(before) = chunk.before {
            if before != sound.head {
                return Ok(false);
            }
            *sound = Sound { head: chunk.head, at: chunk.end };
            (self.merge)(gathered, *sound, lines)?;
        }
        Ok(true)
    }
}

/// Where the lines of a chunk are read from.
struct Source<'a> {
    file: &'a dyn StorageFile,
    start: u64,
    end: u64,
}

/// The lines that begin in a chunk, whole. Its memory is used for one chunk after the other.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    /// Where they are among the bytes.
    lines: Range<usize>,
    /// Where they begin in the log.
    offset: u64,
}

impl Text {
    /// Reads the lines that begin in a chunk; `false` where the last one has no end, or is too long.
    fn read(&mut self, source: &Source<'_>, begin: u64) -> io::Result<bool> {
        let behind_others = begin > source.start;
        // What lies between the byte before and its line break is the rest of a line that began earlier.
        let from = begin - u64::from(behind_others);
        let mut length = (source.end.min(begin + CHUNK_BYTES) - from) as usize;
        if !self.fill(source, from, 0..length)? {
            return Ok(false);
        }
        let line_break = |bytes: &[u8]| memchr::memchr(b'\n', bytes).map(|at| at + 1);
        let first = if behind_others { line_break(&self.bytes[..length]).unwrap_or(length) } else { 0 };
        let mut block = FIRST_BLOCK;
        while length > first && self.bytes[length - 1] != b'\n' {
            // The last one ends behind the chunk.
            let more = source.end.saturating_sub(from + length as u64).min(block as u64) as usize;
            let too_long = length > first + CHUNK_BYTES as usize + MAX_LINE_BYTES;
            if more == 0 || too_long || !self.fill(source, from, length..length + more)? {
                return Ok(false);
            }
            length += line_break(&self.bytes[length..length + more]).unwrap_or(more);
            block = (block * 2).min(LARGEST_BLOCK);
        }
        self.lines = first..length;
        self.offset = from + first as u64;
        Ok(true)
    }

    /// Reads bytes to where they belong; `false` where the file was cut since its end was looked up.
    fn fill(&mut self, source: &Source<'_>, from: u64, place: Range<usize>) -> io::Result<bool> {
        if self.bytes.len() < place.end {
            self.bytes.resize(place.end, 0);
        }
        let read = read_up_to(source.file, &mut self.bytes[place.clone()], from + place.start as u64)?;
        Ok(read == place.len())
    }

    fn lines(&mut self) -> &mut [u8] {
        &mut self.bytes[self.lines.clone()]
    }

    /// Judges the lines; `None` where anything is wrong with one.
    fn judge<T>(
        &self,
        note: Option<SyncMark>,
        gathered: &mut T,
        each: &impl Fn(&mut T, Head, &Line<'_>, Option<usize>),
    ) -> Option<Chunk> {
        let lines = &self.bytes[self.lines.clone()];
        let remembered = |head| !note.is_some_and(|note| note.contradicts(head));
        let mut chunk = Chunk { before: None, head: Head::default(), end: self.offset + lines.len() as u64 };
        let mut sequel: Option<NextLineMatcher> = None;
        let mut at = 0;
        while at < lines.len() {
            // Nearly all lines are just what must come next.
            if let Some(sequel) = &mut sequel {
                let mut place = at;
                at += sequel.match_lines(&lines[at..], |head, line| {
                    if !remembered(head) {
                        return false;
                    }
                    chunk.head = head;
                    each(gathered, head, line, Some(place));
                    place += line.canonical().len() + 1;
                    true
                });
            }
            // The first one, or one that is spelled differently, or wrong.
            let Some(length) = memchr::memchr(b'\n', &lines[at..]) else { break };
            let (place, found) = (at, &lines[at..at + length]);
            at += length + 1;
            if length > MAX_LINE_BYTES {
                return None;
            }
            if is_blank(found) {
                continue;
            }
            let line = Line::read(found).ok()?;
            if chunk.before.is_none() {
                chunk.head = Head { index: line.index()? - 1, checksum: line.previous_checksum() };
                chunk.before = Some(chunk.head);
            }
            chunk.head = line.verify_after(chunk.head).ok().filter(|head| remembered(*head))?;
            each(gathered, chunk.head, &line, line.is_verbatim().then_some(place));
            match &mut sequel {
                Some(sequel) => sequel.restart_after(chunk.head),
                None => sequel = Some(NextLineMatcher::after(chunk.head)),
            }
        }
        Some(chunk)
    }
}
