//! The sequential scan of a log, and the integrity verdict it returns.
//!
//! [`scan`] lets [`crate::chunk`] verify the log in parallel as far as every line is valid. It then
//! reads the rest line by line: it names the first fault, passes every later event to the caller,
//! and classifies the tail with the help of the sync mark.

use std::io;
use std::num::NonZeroUsize;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::bisect::find_event;
use crate::chain::{Head, Line, is_unfinished};
use crate::chunk;
use crate::fault::{Fault, FaultKind};
use crate::lines::{Lines, RawLine, last_line_before};
use crate::log_file::{LogFile, VerifiedEnd};
use crate::retired::RETIRED;
use crate::sync_mark::SyncMark;

/// How often the sequential part of a scan reports progress.
const PROGRESS_INTERVAL_BYTES: u64 = 1 << 20;

/// How far a pass over a log has come. A progress callback receives it on any thread, one call at a
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes to read in total.
    pub bytes_total: u64,
}

/// The integrity verdict of a log: its last valid event, and what follows it.
///
/// Serializes as `{"events", "last_checksum", "ok", "reason"}`. A finding with a position adds
/// `byte_offset`, and a torn tail `torn_bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// The last valid event, to which all events before it are linked.
    pub head: Head,
    /// What follows it.
    pub finding: Finding,
}

/// What follows the last valid event of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The end of the log.
    Sound,
    /// A torn tail: bytes that a crash can leave, without a valid event among them. The next open
    /// for appending quarantines it.
    Torn {
        /// Byte offset of the tail in the log.
        byte_offset: u64,
        /// Length of the tail in bytes.
        bytes: u64,
    },
    /// The beginning of the last event, although `bus.lock` records that this event was synced
    /// completely. A crash cannot leave this: the disk lost bytes, or the file was cut. The next
    /// open for appending quarantines it and reports that.
    Truncated {
        /// Byte offset of the incomplete event in the log.
        byte_offset: u64,
        /// Bytes of it that are left.
        bytes: u64,
    },
    /// An invalid line: damage or tampering.
    Fault(Fault),
    /// An ambiguous tail: an invalid line followed by valid events, none of which is known to have
    /// been synced. A crash or tampering could have left it.
    Ambiguous(Fault),
    /// The end of the log, but `bus.lock` records that this many events were synced: the tail is
    /// missing.
    Missing(u64),
}

impl Integrity {
    /// Returns whether the log is valid to its end.
    pub fn ok(&self) -> bool {
        self.finding == Finding::Sound
    }

    /// Returns `ok`, or what is wrong. Other programs read this text.
    pub fn reason(&self) -> String {
        match &self.finding {
            Finding::Sound => "ok".to_owned(),
            Finding::Torn { bytes, .. } => {
                format!(
                    "torn tail after event {}: {} of an unfinished append",
                    self.head.index,
                    byte_count(*bytes)
                )
            }
            Finding::Truncated { bytes, .. } => {
                let event = self.head.index + 1;
                format!(
                    "torn tail after event {}: {} of event {event}, which was synced whole",
                    self.head.index,
                    byte_count(*bytes)
                )
            }
            Finding::Fault(fault) => fault.to_string(),
            Finding::Ambiguous(fault) => format!("undecided: {fault}"),
            Finding::Missing(events) => {
                format!("missing tail after event {}: {events} events were synced", self.head.index)
            }
        }
    }
}

fn byte_count(bytes: u64) -> String {
    format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" })
}

impl Serialize for Integrity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.finding {
            Finding::Sound | Finding::Missing(_) => {}
            Finding::Torn { byte_offset, bytes } | Finding::Truncated { byte_offset, bytes } => {
                map.serialize_entry("byte_offset", byte_offset)?;
                map.serialize_entry("torn_bytes", bytes)?;
            }
            Finding::Fault(fault) | Finding::Ambiguous(fault) => {
                map.serialize_entry("byte_offset", &fault.byte_offset)?;
            }
        }
        map.serialize_entry("events", &self.head.index)?;
        map.serialize_entry("last_checksum", &self.head.checksum)?;
        map.serialize_entry("ok", &self.ok())?;
        map.serialize_entry("reason", &self.reason())?;
        map.end()
    }
}

/// Scans a log from its start to `end` and returns its verdict.
///
/// `visit` is called with every line that has the form of an event and its number, counted from 1.
/// That includes the lines after the first fault, which are not verified. `visit` and `merge` work
/// as in [`chunk::verify_chunks`], except that after the verified part `merge` gets one line at a
/// time and no text.
///
/// Up to the sync mark, the log was durable and no crash can have changed it. The scan needs the
/// mark to tell a torn tail from damage.
pub(crate) fn scan<T: Default>(
    file: &LogFile,
    end: u64,
    sync_mark: Option<SyncMark>,
    threads: NonZeroUsize,
    visit: impl Fn(&mut T, u64, &Line<'_>, Option<usize>) + Sync,
    mut merge: impl FnMut(&mut T, &mut [u8]) -> io::Result<()> + Send,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> io::Result<Integrity> {
    let is_sealed = !file.spans().is_empty();
    let visit_in_chunk = |(collector, latest): &mut (T, Latest), head: Head, line: &Line<'_>, line_start| {
        if is_sealed {
            latest.observe(line);
        }
        visit(collector, head.index, line, line_start);
    };
    let mut false_index = FalseIndex { head: file.start().head, fault: None };
    let merge_chunk = |(collector, latest): &mut (T, Latest), verified: VerifiedEnd, lines: &mut [u8]| {
        progress(Progress { bytes: verified.offset, bytes_total: end });
        false_index.check(file, verified, latest)?;
        merge(collector, lines)
    };
    let verified =
        chunk::verify_chunks(file, file.start(), end, sync_mark, threads, visit_in_chunk, merge_chunk)?;
    let misplaced = sync_mark.map_or(Ok(None), |mark| find_misplaced_event(file, mark, end));
    // The scan below finds a segment that cannot be read.
    let misplaced =
        misplaced.or_else(|error| if Fault::of(&error).is_some() { Ok(None) } else { Err(error) })?;
    let mut lines = Lines::new(file.clone(), verified.offset, end);
    let mut scanner = Scanner::new(verified.head, sync_mark);
    let mut number = verified.head.index;
    let mut reported = verified.offset;
    let mut collector = T::default();
    loop {
        let offset = lines.offset();
        let raw = match lines.next() {
            Ok(Some(raw)) => raw,
            Ok(None) => break,
            Err(error) => {
                // The bytes of a segment that cannot be read are no lines, so the scan ends.
                scanner.stop(Fault::of(&error).map(|fault| fault.kind.clone()).ok_or(error)?, offset);
                break;
            }
        };
        let byte_offset = raw.offset;
        scanner.check(&raw, |line| {
            number += 1;
            if byte_offset < file.base() {
                // A frame that did not hold whole lines.
                let mut latest = Latest::default();
                latest.observe(line);
                false_index.check(
                    file,
                    VerifiedEnd { head: false_index.head, offset: byte_offset + 1 },
                    &mut latest,
                )?;
            }
            visit(&mut collector, number, line, None);
            merge(&mut collector, &mut [])
        })?;
        if byte_offset - reported >= PROGRESS_INTERVAL_BYTES {
            reported = byte_offset;
            progress(Progress { bytes: byte_offset, bytes_total: end });
        }
    }
    progress(Progress { bytes: end, bytes_total: end });
    let integrity = scanner.into_integrity(end, misplaced);
    let false_record = find_false_record(file, end, integrity.head)?;
    // A fault of the chain says more.
    if matches!(integrity.finding, Finding::Fault(_) | Finding::Ambiguous(_)) {
        return Ok(integrity);
    }
    let found = |head, fault| Integrity { head, finding: Finding::Fault(fault) };
    Ok(match (false_record, false_index) {
        (Some(fault), _) => found(file.start().head, fault),
        (None, FalseIndex { head, fault: Some(fault) }) => found(head, fault),
        (None, _) => integrity,
    })
}

/// The latest time of the events of a chunk.
#[derive(Default)]
struct Latest {
    time: Option<f64>,
    /// The time of the last event, as text: those of a cycle have the same.
    text: Vec<u8>,
}

impl Latest {
    fn observe(&mut self, line: &Line<'_>) {
        let text = line.as_of_text();
        if text == self.text {
            return;
        }
        self.text.clear();
        self.text.extend_from_slice(text);
        let time = line.as_of();
        self.time = Some(self.time.map_or(time, |latest| latest.max(time)));
    }
}

/// Looks for the first index of a segment that gives an earlier time than its events have.
/// `Reader::first_index_since` relies on these times.
struct FalseIndex {
    /// The last event before the frames that were not checked yet, or before the fault.
    head: Head,
    fault: Option<Fault>,
}

impl FalseIndex {
    /// Checks the next frame, whose verified lines end at `verified`.
    fn check(&mut self, file: &LogFile, verified: VerifiedEnd, latest: &mut Latest) -> io::Result<()> {
        let time = std::mem::take(latest).time;
        if self.fault.is_none() {
            self.fault = time.map_or(Ok(None), |time| file.check_latest(verified.offset, time))?;
        }
        if self.fault.is_none() {
            self.head = verified.head;
        }
        Ok(())
    }
}

/// Compares the record of retired events with the events of the chain that record it. `head` is the
/// last valid event of the chain. Costs about twenty reads for each part of the record.
pub(crate) fn find_false_record(file: &LogFile, end: u64, head: Head) -> io::Result<Option<Fault>> {
    let Some(retired) = file.retired() else { return Ok(None) };
    let VerifiedEnd { head: start, offset: byte_offset } = file.start();
    let fault = |index: u64, problem| {
        let problem = format!("{RETIRED} does not match event {index}, {problem}");
        Some(Fault { event: start.index + 1, byte_offset, kind: FaultKind::Retired(problem) })
    };
    // Events of earlier parts may be retired themselves. That of the last part never is.
    for part in retired.parts().iter().filter(|part| part.event.index > start.index) {
        let index = part.event.index;
        if index > head.index {
            return Ok(fault(index, "which the log does not have"));
        }
        let Some((offset, before)) = find_event(file, end, index - 1)? else { continue };
        let mut lines = Lines::new(file.clone(), offset, end);
        let line = lines.next()?.and_then(|raw| raw.bytes).and_then(|bytes| Line::read(bytes).ok());
        let event = line.and_then(|line| line.event(line.verify_after(before).ok()?));
        if !event.is_some_and(|event| part.is_recorded_by(&event)) {
            return Ok(fault(index, "which should record it"));
        }
    }
    Ok(None)
}

/// Scans only the lines after `head` and returns the verdict of the log. `lines` must start right
/// after that event. Does not check that the log holds the mark's event at the mark's position.
pub(crate) fn scan_tail(mut lines: Lines, head: Head, sync_mark: Option<SyncMark>) -> io::Result<Integrity> {
    let end = lines.end();
    let mut scanner = Scanner::new(head, sync_mark);
    while let Some(raw) = lines.next()? {
        scanner.check(&raw, |_| Ok(()))?;
    }
    Ok(scanner.into_integrity(end, None))
}

/// Returns whether the log holds the mark's event at the mark's position.
pub(crate) fn matches_log(file: &LogFile, mark: SyncMark) -> io::Result<bool> {
    let last = last_line_before(file, mark.bytes)?;
    let Some(last) = last else { return Ok(mark.head == file.start().head) };
    let line = last.bytes.as_deref().and_then(|bytes| Line::read(bytes).ok());
    Ok(line.is_some_and(|line| {
        line.index() == Some(mark.head.index) && line.verify_alone(mark.head.index).ok() == mark.head.checksum
    }))
}

/// Returns the fault of a log that does not hold the mark's event at the mark's position. Recovery
/// refuses such a log even if every line is valid, so a scan has to report it too.
fn find_misplaced_event(file: &LogFile, mark: SyncMark, end: u64) -> io::Result<Option<Fault>> {
    // If only the last line break is missing, every synced event is there.
    let position = if end + 1 == mark.bytes { end } else { mark.bytes };
    if position <= end && matches_log(file, SyncMark { bytes: position, ..mark })? {
        return Ok(None);
    }
    let byte_offset = last_line_before(file, position.min(end))?.map_or(0, |line| line.offset);
    let first_line = Lines::new(file.clone(), file.start().offset, end)
        .next()?
        .and_then(|raw| raw.bytes.map(<[u8]>::to_vec));
    let crlf = first_line.is_some_and(|line| line.ends_with(b"\r"));
    Ok(Some(Fault { event: mark.head.index, byte_offset, kind: FaultKind::NotWhereSynced { crlf } }))
}

/// Verifies lines in log order up to the first fault, and then looks for valid events after it.
struct Scanner {
    /// The last valid event.
    head: Head,
    sync_mark: Option<SyncMark>,
    fault: Option<Fault>,
    /// The faulty line lacks a line break and is not a complete event: an append may have been cut
    /// off.
    fault_is_unfinished: bool,
    /// A line at or after the fault is a valid event by itself.
    valid_event_after_fault: bool,
}

impl Scanner {
    fn new(head: Head, sync_mark: Option<SyncMark>) -> Self {
        Self { head, sync_mark, fault: None, fault_is_unfinished: false, valid_event_after_fault: false }
    }

    /// Checks the next line. Calls `on_event` if it has the form of an event, valid or not.
    fn check(
        &mut self,
        raw: &RawLine<'_>,
        on_event: impl FnOnce(&Line<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let line = raw.bytes.ok_or(FaultKind::LineTooLong).and_then(Line::read);
        if let Ok(line) = &line {
            on_event(line)?;
        }
        // Costs a hash, so it is called only after a fault.
        let is_valid_event =
            |line: &Result<Line<'_>, FaultKind>| line.as_ref().is_ok_and(Line::is_valid_event);
        if self.fault.is_some() {
            self.valid_event_after_fault = self.valid_event_after_fault || is_valid_event(&line);
            return Ok(());
        }
        let next_head = match &line {
            Ok(line) => line.verify_after(self.head).and_then(|head| self.check_sync_mark(head)),
            Err(kind) => Err(kind.clone()),
        };
        match next_head {
            Ok(head) => self.head = head,
            Err(kind) => {
                let event = self.head.index.saturating_add(1);
                self.fault = Some(Fault { event, byte_offset: raw.offset, kind });
                self.fault_is_unfinished = !raw.terminated && is_unfinished(raw.bytes);
                self.valid_event_after_fault = is_valid_event(&line);
            }
        }
        Ok(())
    }

    /// Records that nothing can be read from an offset on.
    fn stop(&mut self, kind: FaultKind, byte_offset: u64) {
        if self.fault.is_none() {
            self.fault = Some(Fault { event: self.head.index.saturating_add(1), byte_offset, kind });
        }
    }

    /// Refuses a head whose index is that of the sync mark but whose checksum is another.
    fn check_sync_mark(&self, head: Head) -> Result<Head, FaultKind> {
        match self.sync_mark {
            Some(mark) if mark.contradicts(head) => Err(FaultKind::ContradictsSyncMark),
            _ => Ok(head),
        }
    }

    /// Returns the verdict of a log that ends at this offset. `misplaced` is the fault of a log
    /// that does not hold the sync mark's event at the mark's position.
    fn into_integrity(self, end: u64, misplaced: Option<Fault>) -> Integrity {
        let Self { head, sync_mark, fault, fault_is_unfinished, valid_event_after_fault } = self;
        let is_misplaced = misplaced.is_some();
        if let Some(fault) = misplaced.filter(|fault| fault.event <= head.index) {
            // The event is valid, but lies elsewhere: the bytes up to it are not those that were
            // synced.
            return Integrity { head, finding: Finding::Fault(fault) };
        }
        let Some(fault) = fault else {
            let finding = match sync_mark {
                Some(mark) if mark.head.index > head.index => Finding::Missing(mark.head.index),
                _ => Finding::Sound,
            };
            return Integrity { head, finding };
        };
        let byte_offset = fault.byte_offset;
        if let FaultKind::Segment(..) = fault.kind {
            return Integrity { head, finding: Finding::Fault(fault) };
        }
        let torn = Finding::Torn { byte_offset, bytes: end - byte_offset };
        let finding = match sync_mark {
            // Without a sync mark, only an unfinished last line counts as left by a crash.
            None if fault_is_unfinished => torn,
            None => Finding::Fault(fault),
            // The log ends within its synced part. If only the last synced event is incomplete, the
            // events before it can be built upon.
            Some(mark) if fault_is_unfinished && end < mark.bytes => {
                match mark.head.index.checked_sub(head.index) {
                    Some(1) => Finding::Truncated { byte_offset, bytes: end - byte_offset },
                    _ => Finding::Missing(mark.head.index),
                }
            }
            // No crash changes what was synced.
            Some(mark)
                if byte_offset < mark.bytes
                    || is_misplaced
                    || fault.kind == FaultKind::ContradictsSyncMark =>
            {
                Finding::Fault(fault)
            }
            // A crash can leave anything after the sync mark. But a valid event there may have been
            // acknowledged, if the mark on disk is an old one.
            Some(_) if fault_is_unfinished || !valid_event_after_fault => torn,
            Some(_) => Finding::Ambiguous(fault),
        };
        Integrity { head, finding }
    }
}
