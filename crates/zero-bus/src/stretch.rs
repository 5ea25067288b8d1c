//! A log in stretches, each judged by itself on one of several threads, and put together in their order: whether the
//! lines within one are sound and linked needs nothing from outside of it, and that costs nearly all of the time.
//!
//! Only what is right is judged here. The first stretch that is not, in whatever way, is left to [`crate::walk`].

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::chain::{Head, Line};
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
/// stretch, in a `T` of its own, `merge` gets in the order of the log; and then how far it is.
///
/// Memory for two stretches a thread, and what is gathered of them.
pub(crate) fn judge<T: Default + Send>(
    file: &Arc<dyn StorageFile>,
    mut sound: Sound,
    end: u64,
    note: Option<Note>,
    threads: NonZeroUsize,
    each: impl Fn(&mut T, Head, &Line<'_>) + Sync,
    mut merge: impl FnMut(T, Sound) -> io::Result<()>,
) -> io::Result<Sound> {
    let start = sound.at;
    if threads.get() == 1 || end.saturating_sub(start) < WORTH_THREADS {
        return Ok(sound);
    }
    let threads = threads.get() as u64;
    std::thread::scope(|scope| {
        let mut stretches = Vec::new();
        for thread in 0..threads.min((end - start).div_ceil(STRETCH)) {
            // Each is at most one stretch ahead of what was merged, and knows by the closed channel when it is enough.
            let (done, next) = sync_channel(1);
            stretches.push(next);
            let each = &each;
            scope.spawn(move || {
                let begins = (start + thread * STRETCH..end).step_by((threads * STRETCH) as usize);
                for begin in begins {
                    let judged = judge_stretch(file, start, begin, end, note, each);
                    if done.send(judged).is_err() {
                        return;
                    }
                }
            });
        }
        for next in stretches.iter().cycle() {
            // A thread that has come to the end has closed its channel, and so have those behind it.
            let Ok(judged) = next.recv() else { break };
            let Some(stretch) = judged? else { break };
            if stretch.before.is_some_and(|before| before != sound.head) {
                break;
            }
            if stretch.before.is_some() {
                sound = Sound { head: stretch.head, at: stretch.end };
                merge(stretch.gathered, sound)?;
            }
        }
        Ok(sound)
    })
}

/// Judges the lines that begin in a stretch; `None` where anything is wrong with one.
fn judge_stretch<T: Default>(
    file: &Arc<dyn StorageFile>,
    start: u64,
    begin: u64,
    end: u64,
    note: Option<Note>,
    each: &impl Fn(&mut T, Head, &Line<'_>),
) -> io::Result<Option<Stretch<T>>> {
    let file = Arc::clone(file);
    let mut lines =
        if begin > start { Lines::behind(file, begin, end)? } else { Lines::new(file, begin, end) };
    let mut stretch =
        Stretch { before: None, head: Head::default(), end: lines.at(), gathered: T::default() };
    while lines.at() < begin + STRETCH
        && let Some(found) = lines.next()?
    {
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
    }
    Ok(Some(stretch))
}
