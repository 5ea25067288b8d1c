//! A log in stretches, each judged by itself on one of several threads, and put together in their order: whether the
//! lines within one are sound and linked needs nothing from outside of it, and that costs nearly all of the time.
//!
//! Only what is right is judged here. The first stretch that is not, in whatever way, is left to [`crate::walk`].

use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chain::{Head, Line, Sequel};
use crate::lines::Lines;
use crate::note::Note;
use crate::storage::StorageFile;
use crate::sync::{Arc, Condvar, Mutex, lock, wait};

/// Bytes of a stretch. Large enough that handing it over costs nothing, small enough that some of them are little memory.
const STRETCH: u64 = 1 << 20;

/// Bytes of a log from which on it is faster to have several threads judge it.
const WORTH_THREADS: u64 = 4 << 20;

/// As many threads as the machine runs at once.
pub(crate) fn all_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// What the lines come to that begin in a stretch, all of them sound.
struct Stretch {
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
/// stretch, in a `T` of its thread's own, `merge` takes out in the order of the log, told how far it is; what is left is
/// gathered in again, for the memory it has.
///
/// A thread merges in its turn what it has judged, while it still has that in its caches; the caller's is one of them.
/// Memory for a block a thread, and for what is gathered of a stretch.
pub(crate) fn judge<T: Default>(
    file: &Arc<dyn StorageFile>,
    sound: Sound,
    end: u64,
    note: Option<Note>,
    threads: NonZeroUsize,
    each: impl Fn(&mut T, Head, &Line<'_>) + Sync,
    merge: impl FnMut(&mut T, Sound) -> io::Result<()> + Send,
) -> io::Result<Sound> {
    let start = sound.at;
    let length = end.saturating_sub(start);
    let threads = if length < WORTH_THREADS { 1 } else { length.div_ceil(STRETCH).min(threads.get() as u64) };
    let not_begun = AtomicU64::new(start);
    let merging = Merging {
        turn: Mutex::new(Turn { of: Some(start), sound: Ok(sound), merge }),
        passed: Condvar::new(),
    };
    let work = || {
        let mut gathered = T::default();
        loop {
            let begin = not_begun.fetch_add(STRETCH, Ordering::Relaxed);
            if begin >= end {
                break;
            }
            let place = Place { merging: &merging, begin };
            let judged = judge_stretch(file, start, begin, end, note, &mut gathered, &each);
            if !place.merge(judged, &mut gathered) {
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
    /// Where the stretch begins whose turn it is; `None` once no more is wanted.
    of: Option<u64>,
    /// How far the log is sound, or why that is not known.
    sound: io::Result<Sound>,
    merge: M,
}

/// A stretch's place among the others. Those behind it wait until it is given up.
struct Place<'a, M> {
    merging: &'a Merging<M>,
    begin: u64,
}

impl<M> Place<'_, M> {
    /// Merges what the stretch comes to when it is its turn; `false` where no more is wanted.
    fn merge<T>(self, judged: io::Result<Option<Stretch>>, gathered: &mut T) -> bool
    where
        M: FnMut(&mut T, Sound) -> io::Result<()>,
    {
        let mut turn = lock(&self.merging.turn);
        while turn.of.is_some_and(|begin| begin != self.begin) {
            turn = wait(&self.merging.passed, turn);
        }
        // Until all went well nothing behind it is wanted, also if this panics.
        if turn.of.take().is_none() {
            return false;
        }
        match judged.and_then(|stretch| turn.go_on(stretch, gathered)) {
            Ok(true) => turn.of = Some(self.begin + STRETCH),
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
    /// Goes on with the stretch whose turn it is, if it is sound and follows what was merged.
    fn go_on<T>(&mut self, stretch: Option<Stretch>, gathered: &mut T) -> io::Result<bool>
    where
        M: FnMut(&mut T, Sound) -> io::Result<()>,
    {
        let (Some(stretch), Ok(sound)) = (stretch, &mut self.sound) else { return Ok(false) };
        if let Some(before) = stretch.before {
            if before != sound.head {
                return Ok(false);
            }
            *sound = Sound { head: stretch.head, at: stretch.end };
            (self.merge)(gathered, *sound)?;
        }
        Ok(true)
    }
}

/// Judges the lines that begin in a stretch; `None` where anything is wrong with one.
fn judge_stretch<T>(
    file: &Arc<dyn StorageFile>,
    start: u64,
    begin: u64,
    end: u64,
    note: Option<Note>,
    gathered: &mut T,
    each: &impl Fn(&mut T, Head, &Line<'_>),
) -> io::Result<Option<Stretch>> {
    let file = Arc::clone(file);
    let limit = begin + STRETCH;
    let mut lines =
        if begin > start { Lines::behind(file, begin, limit, end)? } else { Lines::new(file, begin, end) };
    let mut stretch = Stretch { before: None, head: Head::default(), end: lines.at() };
    let mut sequel: Option<Sequel> = None;
    while lines.at() < limit {
        // Nearly all lines are just what must come next.
        if let Some(sequel) = &mut sequel {
            let whole = lines.whole(limit)?;
            let passed = sequel.judge(whole, |head, line| {
                let remembered = !note.is_some_and(|note| note.contradicts(head));
                if remembered {
                    stretch.head = head;
                    each(gathered, head, line);
                }
                remembered
            });
            let all = passed > 0 && passed == whole.len();
            lines.pass(passed);
            stretch.end = lines.at();
            if all {
                continue;
            }
        }
        // The first one, or one that is spelled differently, or wrong; or the last one was before.
        let Some(found) = lines.next_before(limit)? else { break };
        let Some(line) = found.bytes.filter(|_| found.terminated).and_then(|bytes| Line::read(bytes).ok())
        else {
            return Ok(None);
        };
        if stretch.before.is_none() {
            let Some(index) = line.index() else { return Ok(None) };
            stretch.head = Head { index: index - 1, checksum: line.previous_checksum() };
            stretch.before = Some(stretch.head);
        }
        match line.follows(stretch.head) {
            Ok(head) if !note.is_some_and(|note| note.contradicts(head)) => stretch.head = head,
            _ => return Ok(None),
        }
        each(gathered, stretch.head, &line);
        stretch.end = lines.at();
        match &mut sequel {
            Some(sequel) => sequel.go_to(stretch.head),
            None => sequel = Some(Sequel::behind(stretch.head)),
        }
    }
    Ok(Some(stretch))
}
