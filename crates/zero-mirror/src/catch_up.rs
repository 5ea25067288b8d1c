//! The one loop that brings a destination up to a log, and keeps it there.
//!
//! It asks where the destination stands, holds that against the log, and hands over what is behind it, batch by batch, as
//! the [`Reader`] gives it: checked events, and only durable ones. It keeps no state of its own: the destination's cursor
//! is all there is, so it may be killed anywhere and goes on from there.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use zero_bus::{Checksum, Event, Events, Follow, Head, Reader};

use crate::error::{Error, Result};
use crate::mirror::{Mirror, Record};

/// How to go about it.
#[derive(Clone, Debug)]
pub struct CatchUpOptions {
    /// Go on with events as they become durable, and never give up on a destination that is away.
    pub follow: bool,
    /// Most events in a batch.
    pub batch_events: usize,
    /// A batch ends with the line that reaches this many bytes. Memory for a batch is some three times that, and no more
    /// than one longest line on top; a second one is read while the first is on its way.
    pub batch_bytes: usize,
    /// Without `follow`: how often in a row a destination may be away before it is given up.
    pub tries: u32,
    /// The longest wait after the first of them; each further one may wait twice as long.
    pub wait_min: Duration,
    /// The longest wait of all.
    pub wait_max: Duration,
}

impl Default for CatchUpOptions {
    /// Batches of 4,096 events or 8 MiB. Eight tries, with waits of up to 0.1, 0.2, 0.4 and so on seconds between them: 13
    /// seconds at most in all. With `follow` the waits go up to 30 seconds.
    fn default() -> Self {
        Self {
            follow: false,
            batch_events: 4096,
            batch_bytes: 8 << 20,
            tries: 8,
            wait_min: Duration::from_millis(100),
            wait_max: Duration::from_secs(30),
        }
    }
}

impl CatchUpOptions {
    fn is_full(&self, batch: &[Record]) -> bool {
        let bytes = || batch.iter().map(|record| record.line.len()).sum::<usize>();
        batch.len() >= self.batch_events || bytes() >= self.batch_bytes
    }
}

/// Where a destination stands, beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUpReport {
    /// The destination, without its secrets.
    pub destination: String,
    /// The bus; `None` while the log is empty.
    pub bus: Option<Checksum>,
    /// Events that are durable at the destination, as far as it was asked.
    pub mirrored: u64,
    /// Events in the log.
    pub events: u64,
    /// Why nothing goes on for now, while the destination is away.
    pub away: Option<String>,
}

impl CatchUpReport {
    /// Events that the destination lacks.
    pub fn lag(&self) -> u64 {
        self.events.saturating_sub(self.mirrored)
    }
}

/// Asks a loop to end, from any thread. It ends at once where it waits for a destination, within a quarter of a second
/// where it waits for events, and behind the batch that is on its way.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<(Mutex<bool>, Condvar)>);

impl CancelHandle {
    /// Asks all loops that share this to end.
    pub fn cancel(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn is_cancelled(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody asks, or the time is over.
    fn wait(&self, at_most: Duration) {
        let asked = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.0.1.wait_timeout_while(asked, at_most, |asked| !*asked);
    }
}

/// How long one that waits for events sleeps before it looks whether it should end.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Brings a destination up to the log in a directory, as it is now, or with [`CatchUpOptions::follow`] for as long as nobody stops it.
/// `report` is called after every batch, and when the destination is away. Memory is constant in the length of the log.
///
/// An empty log has no bus yet, so nothing is done for it; with `follow` it is waited for.
///
/// # Errors
/// [`Error::Fork`] and [`Error::LogShorter`] before anything is written; [`Error::Bus`] where the log is damaged, when what is
/// before the damage has been mirrored; [`Error::Unavailable`] when the tries are used up; whatever else the destination reports.
pub fn catch_up(
    directory: &Path,
    mirror: &mut dyn Mirror,
    plan: &CatchUpOptions,
    stop: &CancelHandle,
    report: &mut dyn FnMut(&CatchUpReport),
) -> Result<CatchUpReport> {
    let now = CatchUpReport { destination: mirror.name(), bus: None, mirrored: 0, events: 0, away: None };
    let mut run = Run { directory, mirror, plan, stop, report, now, tries: 0, moved_at: None };
    loop {
        let error = match run.go() {
            Ok(()) => return Ok(run.now),
            Err(error) => error,
        };
        match &error {
            // Somebody else put something there: that is progress, so nothing has to be waited for. But a destination that
            // says so and does not move is as good as away.
            Error::CursorMoved { .. } if run.moved_at.replace(run.now.mirrored) != Some(run.now.mirrored) => {
            }
            Error::CursorMoved { .. } | Error::Unavailable { .. } => run.wait(error)?,
            // The log was replaced or shortened: what is there now is judged afresh.
            Error::Bus(zero_bus::Error::Changed { .. }) if plan.follow => {}
            _ => return Err(error),
        }
        if stop.is_cancelled() {
            return Ok(run.now);
        }
    }
}

struct Run<'a> {
    directory: &'a Path,
    mirror: &'a mut dyn Mirror,
    plan: &'a CatchUpOptions,
    stop: &'a CancelHandle,
    report: &'a mut dyn FnMut(&CatchUpReport),
    now: CatchUpReport,
    /// How often in a row it was away.
    tries: u32,
    /// Where it stood when it last said that it had moved.
    moved_at: Option<u64>,
}

impl Run<'_> {
    /// From asking where the destination stands to the end of the log, or to the first thing that is in the way.
    fn go(&mut self) -> Result<()> {
        let reader = Reader::open(self.directory)?;
        let Some(bus) = self.bus(&reader)? else { return Ok(()) };
        self.now.bus = Some(bus);
        // In this order: a log only grows, so one that is shorter than a mirror was before is too short.
        let head = self.mirror.head(bus)?;
        agree(&reader, self.mirror, bus, head)?;
        self.now.mirrored = head.index;
        let mut feed = Feed::open(&reader, head.index.saturating_add(1), self.plan.follow)?;
        self.hand_over(&reader, bus, head, &mut feed)
    }

    /// The bus that the log is, once it has a first event.
    fn bus(&self, reader: &Reader) -> Result<Option<Checksum>> {
        let mut feed = Feed::open(reader, 1, self.plan.follow)?;
        while !self.stop.is_cancelled() {
            match feed.next(POLL_INTERVAL)? {
                Some(first) => return Ok(Some(first.event.checksum)),
                None if self.plan.follow => {}
                None => break,
            }
        }
        Ok(None)
    }

    fn hand_over(&mut self, reader: &Reader, bus: Checksum, mut head: Head, feed: &mut Feed) -> Result<()> {
        let (mut batch, mut next) = (Vec::new(), Vec::new());
        let mut idle = false;
        // What became of the next batch, where it was read while one was on its way.
        let mut ahead = None;
        loop {
            let read = ahead.take().unwrap_or_else(|| gather(feed, self.plan, POLL_INTERVAL, &mut batch));
            // What was read before a fault is sound, and goes over first.
            if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
                if first.event.previous_checksum != head.checksum {
                    // Another log than the one that was held against the destination: hold this one against it.
                    return Err(changed(reader));
                }
                let behind = std::mem::replace(&mut head, last.event.head());
                let more = read.is_ok() && self.plan.is_full(&batch);
                let (plan, mirror) = (self.plan, &mut *self.mirror);
                thread::scope(|scope| {
                    let reading = more.then(|| scope.spawn(|| gather(feed, plan, Duration::ZERO, &mut next)));
                    let taken = mirror.append(bus, behind, &batch);
                    ahead =
                        reading.map(|reading| reading.join().unwrap_or_else(|panic| resume_unwind(panic)));
                    taken
                })?;
                (self.tries, self.moved_at, self.now.away) = (0, None, None);
                self.now.mirrored = head.index;
                idle = false;
            }
            read?;
            if !idle {
                self.now.events = reader.head().map_or(head.index, |end| end.index.max(head.index));
                (self.report)(&self.now);
                idle = true;
            }
            let at_the_end = batch.is_empty();
            batch.clear();
            std::mem::swap(&mut batch, &mut next);
            if self.stop.is_cancelled() || (at_the_end && !self.plan.follow) {
                return Ok(());
            }
        }
    }

    /// Waits before the next try: a random part of a time that doubles (full jitter), so that many who lost the same
    /// destination do not come back all at once.
    fn wait(&mut self, error: Error) -> Result<()> {
        self.tries = self.tries.saturating_add(1);
        if !self.plan.follow && self.tries >= self.plan.tries {
            return Err(error);
        }
        self.now.away = Some(error.to_string());
        (self.report)(&self.now);
        let doubled = self.plan.wait_min.saturating_mul(1 << (self.tries - 1).min(20));
        let longest = doubled.min(self.plan.wait_max);
        // The standard library's only source of chance: the keys of its hash maps.
        let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        self.stop.wait(longest.mul_f64(chance));
        Ok(())
    }
}

fn changed(reader: &Reader) -> Error {
    let reason = "was replaced while it was read; mirror it again";
    Error::Bus(zero_bus::Error::Changed { path: reader.log_path(), reason })
}

/// Where the events come from.
enum Feed {
    /// Those that are there.
    Once(Events),
    /// And those that come.
    Following(Follow),
}

impl Feed {
    fn open(reader: &Reader, from: u64, follow: bool) -> Result<Self> {
        Ok(if follow { Self::Following(reader.follow(from)?) } else { Self::Once(reader.events(from)?) })
    }

    fn next(&mut self, at_most: Duration) -> Result<Option<Record>> {
        let next = match self {
            Self::Once(events) => events.next_with_line()?,
            Self::Following(follow) => follow.next_with_line(at_most)?,
        };
        Ok(next.map(|(event, line)| Record { event, line }))
    }
}

/// Fills a batch with what is there now, waiting only for its first event. None comes at the end of the log, or when
/// nothing came for a while.
fn gather(
    feed: &mut Feed,
    plan: &CatchUpOptions,
    mut at_most: Duration,
    batch: &mut Vec<Record>,
) -> Result<()> {
    let mut bytes = 0;
    while batch.len() < plan.batch_events.max(1) && bytes < plan.batch_bytes.max(1) {
        let Some(record) = feed.next(at_most)? else { break };
        at_most = Duration::ZERO;
        bytes += record.line.len();
        batch.push(record);
    }
    Ok(())
}

/// Whether the log goes on where the destination ends.
fn agree(reader: &Reader, mirror: &mut dyn Mirror, bus: Checksum, head: Head) -> Result<()> {
    if head.index == 0 {
        return Ok(());
    }
    if reader.event(head.index)?.is_some_and(|ours| Some(ours.checksum) == head.checksum) {
        return Ok(());
    }
    // As far as both go. From the event on in which two chains part, all their checksums differ.
    let events = reader.head()?.index;
    let both = head.index.min(events);
    let mut same_at = |index: u64| -> Result<bool> {
        let ours = reader.event(index)?.ok_or_else(|| changed(reader))?;
        Ok(event_at(mirror, bus, index)?.checksum == ours.checksum)
    };
    if both == 0 || same_at(both)? {
        let destination = mirror.name();
        if events < head.index {
            return Err(Error::LogShorter { destination, bus, mirrored: head.index, events });
        }
        let problem =
            format!("its cursor does not fit event {}, which it holds as the log has it", head.index);
        return Err(Error::Corrupt { destination, bus, index: head.index, problem });
    }
    let (mut same, mut differs) = (0, both);
    while differs - same > 1 {
        let middle = same + (differs - same) / 2;
        if same_at(middle)? {
            same = middle;
        } else {
            differs = middle;
        }
    }
    Err(Error::Fork { destination: mirror.name(), bus, index: differs })
}

/// The event that a destination holds at an index, sound by itself.
fn event_at(mirror: &mut dyn Mirror, bus: Checksum, index: u64) -> Result<Event> {
    let lines = mirror.lines(bus, index)?;
    let problem = match lines.first() {
        Some((found, line)) if *found == index => match Event::read_alone(line.as_bytes(), index) {
            Ok(event) => return Ok(event),
            Err(fault) => fault.to_string(),
        },
        _ => format!("event {index} is not there"),
    };
    Err(Error::Corrupt { destination: mirror.name(), bus, index, problem })
}
