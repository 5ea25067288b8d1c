//! A log in stretches, each judged by itself on one of several threads, and put together in their order: whether the
//! lines within one are sound and linked needs nothing from outside of it, and that costs nearly all of the time.
//!
//! Only what is right is judged here. The first stretch that is not, in whatever way, is left to [`crate::walk`].

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};

use crate::chain::{Head, Line, Sequel};
use crate::lines::Lines;
use crate::note::Note;
use crate::storage::StorageFile;

/// Bytes of a stretch. Large enough that handing it over costs nothing, small enough that some of them are little memory.
const STRETCH: u64 = 1 << 20;

/// Bytes of a log from which on it is faster to have several threads judge it.
const WORTH_THREADS: u64 = 4 << 20;

/// As many threads as the machine runs at once.
pub(crate) fn all_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The lines that begin in a stretch, all of them sound.
struct Stretch<T> {
    /// What the first one says it follows; `None` where no line begins here.
    before: Option<Head>,
    head: Head,
    /// Where the line behind the last one begins.
    end: u64,
    gathered: T,
}

/// How far a log was found sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sound {
    pub(crate) head: Head,
    /// Where the next line begins.
    pub(crate) at: u64,
}

/// Judges a log from a place up to `end`, as far as whole stretches of it are sound. What `each` gathers of the lines of a
/// stretch, in a `T` of its own, `merge` takes out in the order of the log, told how far it is; what is left is gathered in
/// again, for the memory it has.
///
/// Memory for a block a thread, and for what is gathered of two stretches.
pub(crate) fn judge<T: Default + Send>(
    file: &Arc<dyn StorageFile>,
    mut sound: Sound,
    end: u64,
    note: Option<Note>,
    threads: NonZeroUsize,
    each: impl Fn(&mut T, Head, &Line<'_>) + Sync,
    mut merge: impl FnMut(&mut T, Sound) -> io::Result<()>,
) -> io::Result<Sound> {
    let start = sound.at;
    // Goes on with a stretch that was judged, as long as each is sound and follows the one before. Gives back what it was
    // gathered in.
    let mut take = |judged: io::Result<Option<Stretch<T>>>| {
        let Some(mut stretch) = judged? else { return Ok(None) };
        if let Some(before) = stretch.before {
            if before != sound.head {
                return Ok(None);
            }
            sound = Sound { head: stretch.head, at: stretch.end };
            merge(&mut stretch.gathered, sound)?;
        }
        io::Result::Ok(Some(stretch.gathered))
    };
    let count = end.saturating_sub(start).div_ceil(STRETCH);
    let threads = if end.saturating_sub(start) < WORTH_THREADS { 1 } else { count.min(threads.get() as u64) };
    let judge = |begin, gathered| judge_stretch(file, start, begin, end, note, gathered, &each);
    let in_turn = threads > 1
        && std::thread::scope(|scope| {
            let mut stretches = Vec::new();
            for thread in 0..threads {
                // Each is at most one stretch ahead of what was merged, and knows by the closed channel when it is enough.
                let (done, next) = sync_channel(1);
                let (give_back, given_back) = channel();
                let judge = &judge;
                let mut begins = (start + thread * STRETCH..end).step_by((threads * STRETCH) as usize);
                let work = move || {
                    // Without anybody who wants to know, it ends.
                    let judged = |begin| done.send(judge(begin, given_back.try_recv().unwrap_or_default()));
                    let _ = begins.try_for_each(judged);
                };
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    // The system has no more threads to give.
                    return Ok(false);
                }
                stretches.push((next, give_back));
            }
            for (next, give_back) in stretches.iter().cycle() {
                // A thread that has come to the end has closed its channel, and so have those behind it.
                let Ok(judged) = next.recv() else { break };
                let Some(again) = take(judged)? else { break };
                // Who has come to the end has no use for it.
                let _ = give_back.send(again);
            }
            io::Result::Ok(true)
        })?;
    if !in_turn {
        let mut gathered = T::default();
        for begin in (start..end).step_by(STRETCH as usize) {
            match take(judge(begin, gathered))? {
                Some(again) => gathered = again,
                None => break,
            }
        }
    }
    Ok(sound)
}

/// Judges the lines that begin in a stretch; `None` where anything is wrong with one.
fn judge_stretch<T>(
    file: &Arc<dyn StorageFile>,
    start: u64,
    begin: u64,
    end: u64,
    note: Option<Note>,
    gathered: T,
    each: &impl Fn(&mut T, Head, &Line<'_>),
) -> io::Result<Option<Stretch<T>>> {
    let file = Arc::clone(file);
    let limit = begin + STRETCH;
    let mut lines =
        if begin > start { Lines::behind(file, begin, limit, end)? } else { Lines::new(file, begin, end) };
    let mut stretch = Stretch { before: None, head: Head::default(), end: lines.at(), gathered };
    let mut sequel: Option<Sequel> = None;
    while lines.at() < limit {
        // Nearly all lines are just what must come next.
        if let Some(sequel) = &mut sequel {
            let whole = lines.whole(limit)?;
            let passed = sequel.judge(whole, |head, line| {
                let remembered = !note.is_some_and(|note| note.contradicts(head));
                if remembered {
                    stretch.head = head;
                    each(&mut stretch.gathered, head, line);
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
        each(&mut stretch.gathered, stretch.head, &line);
        stretch.end = lines.at();
        match &mut sequel {
            Some(sequel) => sequel.go_to(stretch.head),
            None => sequel = Some(Sequel::behind(stretch.head)),
        }
    }
    Ok(Some(stretch))
}
