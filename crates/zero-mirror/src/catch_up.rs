//! The loop that brings a destination up to a log and keeps it there.
//!
//! The loop reads the destination's cursor, compares it with the log, and appends the missing
//! events batch by batch. The [`Reader`] yields verified and durable events only. The loop keeps no
//! state: the destination's cursor is the only record of progress, so the process may be killed at
//! any moment and a later run continues from the cursor.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use zero_bus::{Checksum, Event, Events, Follow, Head, LOCK, LOG, Reader};

use crate::backoff::random_wait;
use crate::error::{Error, Result};
use crate::mirror::{Mirror, Record};

/// Options of [`catch_up`].
#[derive(Clone, Debug)]
pub struct CatchUpOptions {
    /// Continue with events as they become durable, and retry an unavailable destination without
    /// limit.
    pub follow: bool,
    /// Maximum number of events in a batch.
    pub batch_events: usize,
    /// A batch ends with the line that reaches this many bytes. The memory for a batch is about
    /// three times that, plus one longest line. While a batch is written, the next one is read.
    pub batch_bytes: usize,
    /// Without `follow`: the number of consecutive failures after which an unavailable destination
    /// is given up.
    pub tries: u32,
    /// Upper bound of the wait after the first failure. It doubles with every further one.
    pub wait_min: Duration,
    /// Upper bound of every wait.
    pub wait_max: Duration,
}

impl Default for CatchUpOptions {
    /// Batches of 4,096 events or 8 MiB. Eight tries, with waits of up to 0.1, 0.2, 0.4 seconds and
    /// so on: 13 seconds at most in all. With `follow` the waits grow to 30 seconds.
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

/// The progress of a destination relative to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUpReport {
    /// The destination, without its secrets.
    pub destination: String,
    /// The bus; `None` while the log is empty.
    pub bus: Option<Checksum>,
    /// Events that are durable at the destination, as of its last answer; `None` before its first.
    pub mirrored: Option<u64>,
    /// Events in the log.
    pub events: u64,
    /// The last error, while the destination is unavailable.
    pub away: Option<String>,
    /// Why following polls instead of sleeping until a change, and what the operator can do.
    pub polling: Option<String>,
}

impl CatchUpReport {
    /// Events that the destination lacks.
    pub fn lag(&self) -> u64 {
        self.events.saturating_sub(self.mirrored.unwrap_or(0))
    }
}

/// Cancels loops from any thread. A loop that waits until it tries a destination again returns at
/// once, a loop that waits for events within a quarter of a second, and any other loop after its
/// current call. A call of a destination that does not answer ends with that destination's time
/// limit, 60 s for most. A program that must end earlier may exit meanwhile: nothing can be lost,
/// since the cursor is at the destination. Clones cancel the same loops.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<(Mutex<bool>, Condvar)>);

impl CancelHandle {
    /// Cancels every loop that uses this handle or a clone of it.
    pub fn cancel(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn is_cancelled(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for a time, or until cancelled.
    fn sleep(&self, duration: Duration) {
        let cancelled = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.0.1.wait_timeout_while(cancelled, duration, |cancelled| !*cancelled);
    }
}

/// How long the loop waits for an event before it checks whether it was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Brings a destination up to the log in `directory`: to its present end, or with
/// [`CatchUpOptions::follow`] until cancelled. Calls `report` after every batch, and whenever the
/// destination is unavailable. Memory is independent of the length of the log.
///
/// An empty log has no bus id yet. Without `follow` nothing is done for it; with `follow` the loop
/// waits for its first event. But a log that is known to have held events is not new: it was
/// emptied or removed, and that is an error.
///
/// # Errors
/// [`Error::Fork`], [`Error::LogShorter`], [`Error::BehindRetired`] and [`Error::LogEmptied`],
/// before anything is written.
/// [`Error::LogReplaced`] if the log is emptied, removed or replaced while it is followed.
/// [`Error::Bus`] if the log is damaged, after all events before the damage were mirrored, or if it
/// is empty although its sync mark or its snapshot records events. [`Error::Unavailable`] after the
/// last try. Any other error of the destination.
pub fn catch_up(
    directory: &Path,
    mirror: &mut dyn Mirror,
    options: &CatchUpOptions,
    cancel: &CancelHandle,
    report: &mut dyn FnMut(&CatchUpReport),
) -> Result<CatchUpReport> {
    let status = CatchUpReport {
        destination: mirror.name(),
        bus: None,
        mirrored: None,
        events: 0,
        away: None,
        polling: None,
    };
    let mut run = Run { directory, mirror, options, cancel, report, status, failures: 0, moved_at: None };
    loop {
        let error = match run.attempt() {
            Ok(()) => return Ok(run.status),
            Err(error) => error,
        };
        match &error {
            // Another mirror has appended events: that is progress, so there is no wait. But a
            // destination that reports a moved cursor twice without a move is treated as
            // unavailable, or the loop would never end.
            Error::CursorMoved { .. }
                if std::mem::replace(&mut run.moved_at, run.status.mirrored) != run.status.mirrored => {}
            Error::CursorMoved { .. } | Error::Unavailable { .. } => run.back_off(error)?,
            // The log was replaced or truncated. The next attempt compares what is there now with
            // the bus that was followed and with the destination.
            Error::Bus(zero_bus::Error::Changed { .. }) if options.follow => {}
            _ => return Err(error),
        }
        if cancel.is_cancelled() {
            return Ok(run.status);
        }
    }
}

struct Run<'a> {
    directory: &'a Path,
    mirror: &'a mut dyn Mirror,
    options: &'a CatchUpOptions,
    cancel: &'a CancelHandle,
    report: &'a mut dyn FnMut(&CatchUpReport),
    status: CatchUpReport,
    /// Consecutive failures.
    failures: u32,
    /// The destination's number of events when it last reported a moved cursor.
    moved_at: Option<u64>,
}

impl Run<'_> {
    /// Reads the cursor and appends everything after it, until the end of the log, a cancellation,
    /// or an error.
    fn attempt(&mut self) -> Result<()> {
        let reader = Reader::open(self.directory)?;
        let Some(bus) = self.bus_id(&reader)? else { return Ok(()) };
        if let Some(followed) = self.status.bus.filter(|followed| *followed != bus) {
            return Err(self.log_replaced(followed, "was replaced by the log of another bus"));
        }
        self.status.bus = Some(bus);
        // The cursor is read before the end of the log. A log only grows, so a log that is shorter
        // than this cursor has lost events.
        let head = self.mirror.head(bus)?;
        check_log_continues(&reader, self.mirror, bus, head)?;
        self.status.mirrored = Some(head.index);
        let mut source = EventSource::open(&reader, head.index.saturating_add(1), self.options.follow)?;
        if let EventSource::Following(follow) = &source {
            self.status.polling = follow.warning().map(str::to_owned);
        }
        self.append_all(&reader, bus, head, &mut source)
    }

    /// The id of the bus: the checksum of the log's first event.
    fn bus_id(&mut self, reader: &Reader) -> Result<Option<Checksum>> {
        if let Some(retired) = reader.retired()? {
            return Ok(retired.bus());
        }
        let mut source = EventSource::open(reader, 1, self.options.follow)?;
        let mut first = source.next(Duration::ZERO)?;
        if first.is_none() {
            self.check_log_is_new(reader)?;
        }
        while first.is_none() && self.options.follow && !self.cancel.is_cancelled() {
            first = source.next(POLL_INTERVAL)?;
        }
        Ok(first.map(|first| first.event.checksum))
    }

    /// Checks that a log without events is new: neither this run, nor a file next to the log, nor
    /// the destination has seen events of it.
    fn check_log_is_new(&mut self, reader: &Reader) -> Result<()> {
        if let Some(followed) = self.status.bus {
            return Err(self.log_replaced(followed, "was emptied or removed"));
        }
        // Appending creates the lock file before the log. An empty log without a lock file was
        // therefore emptied or copied here. No file tells which bus it was.
        let is_empty_file = self.directory.join(LOG).exists() && reader.size_bytes()? == 0;
        let is_foreign = is_empty_file && !self.directory.join(LOCK).exists();
        // An error if a file next to the log records events. Whatever was seen above, a producer
        // may have appended the first event meanwhile.
        if reader.event(1)?.is_some() {
            return Ok(());
        }
        let path = reader.log_path();
        if is_foreign && !self.mirror.buses()?.is_empty() {
            return Err(Error::LogEmptied { destination: self.mirror.name(), log: path });
        }
        Ok(())
    }

    /// The error of a log that is no longer the one that this run has followed.
    fn log_replaced(&self, bus: Checksum, change: &'static str) -> Error {
        let CatchUpReport { destination, mirrored, .. } = &self.status;
        Error::LogReplaced { destination: destination.clone(), bus, mirrored: mirrored.unwrap_or(0), change }
    }

    fn append_all(
        &mut self,
        reader: &Reader,
        bus: Checksum,
        mut head: Head,
        source: &mut EventSource,
    ) -> Result<()> {
        let (mut batch, mut next_batch) = (Vec::new(), Vec::new());
        let mut reported = false;
        // Result of reading `batch`, if it was read while the batch before it was written.
        let mut read_ahead = None;
        loop {
            let read = read_ahead
                .take()
                .unwrap_or_else(|| fill_batch(source, self.options, POLL_INTERVAL, &mut batch));
            // If reading failed, the events before the failure are verified and are written first.
            if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
                if first.event.previous_checksum != head.checksum {
                    // The log was replaced since it was compared with the destination.
                    return Err(log_replaced(reader));
                }
                let after = std::mem::replace(&mut head, last.event.head());
                let may_have_more = read.is_ok() && self.options.is_full(&batch);
                let (options, mirror) = (self.options, &mut *self.mirror);
                thread::scope(|scope| {
                    let reading = may_have_more.then(|| {
                        scope.spawn(|| fill_batch(source, options, Duration::ZERO, &mut next_batch))
                    });
                    let appended = mirror.append(bus, after, &batch);
                    read_ahead =
                        reading.map(|reading| reading.join().unwrap_or_else(|panic| resume_unwind(panic)));
                    appended
                })?;
                (self.failures, self.moved_at, self.status.away) = (0, None, None);
                self.status.mirrored = Some(head.index);
                reported = false;
            }
            read?;
            if !reported {
                self.status.events = reader.head().map_or(head.index, |end| end.index.max(head.index));
                (self.report)(&self.status);
                reported = true;
            }
            let at_end = batch.is_empty();
            batch.clear();
            std::mem::swap(&mut batch, &mut next_batch);
            if self.cancel.is_cancelled() || (at_end && !self.options.follow) {
                return Ok(());
            }
        }
    }

    /// Waits before the next try, or returns the error if there are no tries left.
    fn back_off(&mut self, error: Error) -> Result<()> {
        self.failures = self.failures.saturating_add(1);
        if !self.options.follow && self.failures >= self.options.tries {
            return Err(error);
        }
        self.status.away = Some(error.to_string());
        (self.report)(&self.status);
        self.cancel.sleep(random_wait(self.options.wait_min, self.options.wait_max, self.failures));
        Ok(())
    }
}

fn log_replaced(reader: &Reader) -> Error {
    let reason = "was replaced while it was read; mirror it again";
    Error::Bus(zero_bus::Error::Changed { path: reader.log_path(), reason })
}

/// Reads events from the log.
enum EventSource {
    /// The events up to the present end.
    Present(Events),
    /// These, and events that become durable later.
    Following(Follow),
}

impl EventSource {
    fn open(reader: &Reader, from: u64, follow: bool) -> Result<Self> {
        Ok(if follow { Self::Following(reader.follow(from)?) } else { Self::Present(reader.events(from)?) })
    }

    /// The next event. At the end of the log a follower waits for `max_wait`, then returns `None`.
    fn next(&mut self, max_wait: Duration) -> Result<Option<Record>> {
        let next = match self {
            Self::Present(events) => events.next_with_line()?,
            Self::Following(follow) => follow.next_line_timeout(max_wait)?,
        };
        Ok(next.map(|(event, line)| Record { event, line }))
    }
}

/// Adds events to a batch until it is full or no further event is durable. Waits only for the first
/// event, for `max_wait` at most.
fn fill_batch(
    source: &mut EventSource,
    options: &CatchUpOptions,
    mut max_wait: Duration,
    batch: &mut Vec<Record>,
) -> Result<()> {
    let mut bytes = 0;
    while batch.len() < options.batch_events.max(1) && bytes < options.batch_bytes.max(1) {
        let Some(record) = source.next(max_wait)? else { break };
        max_wait = Duration::ZERO;
        bytes += record.line.len();
        batch.push(record);
    }
    Ok(())
}

/// Checks that the log continues the destination's chain: the event at the cursor is the same in
/// both. If not, finds out why.
fn check_log_continues(reader: &Reader, mirror: &mut dyn Mirror, bus: Checksum, head: Head) -> Result<()> {
    let retired = reader.retired()?;
    // The destination may hold the retired events. The last of them is the start of what both hold.
    let start = retired.as_ref().map_or(Head::default(), |retired| retired.head());
    if let Some(retired) = retired.filter(|_| head.index < start.index) {
        return Err(Error::BehindRetired { destination: mirror.name(), bus, mirrored: head.index, retired });
    }
    if head.index == 0 || head == start {
        return Ok(());
    }
    if start.index > 0 && read_event(mirror, bus, start.index)?.head() != start {
        return Err(Error::Fork { destination: mirror.name(), bus, index: start.index });
    }
    if head.index > start.index
        && reader.event(head.index)?.is_some_and(|event| Some(event.checksum) == head.checksum)
    {
        return Ok(());
    }
    let events = reader.head()?.index;
    let common_length = head.index.min(events);
    let mut is_same_at = |index: u64| -> Result<bool> {
        let log_event = reader.event(index)?.ok_or_else(|| log_replaced(reader))?;
        Ok(read_event(mirror, bus, index)?.checksum == log_event.checksum)
    };
    if common_length == start.index || is_same_at(common_length)? {
        let destination = mirror.name();
        if events < head.index {
            return Err(Error::LogShorter { destination, bus, mirrored: head.index, events });
        }
        let problem =
            format!("its cursor does not match event {}, which it holds exactly as the log does", head.index);
        return Err(Error::Corrupt { destination, bus, index: head.index, problem });
    }
    // Bisection: each checksum covers all earlier events, so two chains differ in every event from
    // the fork on.
    let (mut same, mut differs) = (start.index, common_length);
    while differs - same > 1 {
        let middle = same + (differs - same) / 2;
        if is_same_at(middle)? {
            same = middle;
        } else {
            differs = middle;
        }
    }
    Err(Error::Fork { destination: mirror.name(), bus, index: differs })
}

/// Reads one event from a destination and verifies its own checksum, not its link to the event
/// before.
fn read_event(mirror: &mut dyn Mirror, bus: Checksum, index: u64) -> Result<Event> {
    let lines = mirror.lines(bus, index)?;
    let problem = match lines.first() {
        Some((stored_index, line)) if *stored_index == index => {
            match Event::read_alone(line.as_bytes(), index) {
                Ok(event) => return Ok(event),
                Err(fault) => fault.to_string(),
            }
        }
        _ => format!("event {index} is missing"),
    };
    Err(Error::Corrupt { destination: mirror.name(), bus, index, problem })
}
