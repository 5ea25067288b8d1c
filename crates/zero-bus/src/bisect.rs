//! Finds an event by its index, by bisection of the log file.
//!
//! Indexes are sequential, so the log is its own index. A search in a log of a million events reads
//! about twenty lines. Of the sealed part it reads one frame, which the names and the indexes of
//! the segments lead to.

use std::io;
use std::ops::Range;

use crate::chain::{Head, Line, is_unfinished};
use crate::fault::Fault;
use crate::lines::{Lines, RawLine};
use crate::log_file::LogFile;

/// A range this small is searched line by line.
const LINEAR_SEARCH_BYTES: u64 = 4 << 10;

/// Finds the event at `index`, and returns the offset of the line after it with the head that the
/// event makes. Beyond the last event it returns the last one; for the index before the first
/// event, the start of the log. An event that was retired is an error.
///
/// Verifies the checksum of that event, but not the events before it. Returns `None` if a line on
/// the way is not a valid event in its place.
pub(crate) fn find_event(file: &LogFile, end: u64, index: u64) -> io::Result<Option<(u64, Head)>> {
    let start = file.start();
    if index == start.head.index {
        return Ok(Some((start.offset, start.head)));
    }
    file.check_held(index)?;
    match file.range_of(index, end).and_then(|range| find_event_in(file, range, end, index)) {
        // A segment that cannot be read.
        Err(error) if Fault::of(&error).is_some() => Ok(None),
        found => found,
    }
}

/// Finds the event at `index` in a range that a line starts with.
fn find_event_in(file: &LogFile, range: Range<u64>, end: u64, index: u64) -> io::Result<Option<(u64, Head)>> {
    // Invariant: the line at `low` is at or before the event, every line at or after `high` is
    // after it.
    let Range { start: mut low, end: mut high } = range;
    while high - low > LINEAR_SEARCH_BYTES {
        let middle = low + (high - low) / 2;
        match probe(file, middle, high, end)? {
            Probe::Event { offset, index: probed } if probed <= index => low = offset,
            Probe::Event { .. } | Probe::NoLine => high = middle,
            Probe::Invalid => return Ok(None),
        }
    }
    let mut lines = Lines::new(file.clone(), low, end);
    let start = file.start();
    let mut last = (low == start.offset).then_some((start.offset, start.head));
    while let Some(raw) = lines.next()? {
        if is_torn(&raw) {
            break;
        }
        let Some(line) = parse(&raw) else { return Ok(None) };
        let Some(line_index) = line.index().filter(|found| *found <= index && line.has_schema()) else {
            return Ok(None);
        };
        let Ok(checksum) = line.verify_alone(line_index) else { return Ok(None) };
        last = Some((lines.offset(), Head { index: line_index, checksum: Some(checksum) }));
        if line_index == index {
            break;
        }
    }
    Ok(last)
}

/// The result of one step of the bisection.
enum Probe {
    Event {
        offset: u64,
        index: u64,
    },
    /// No line starts in the range.
    NoLine,
    /// The first line of the range is not an event.
    Invalid,
}

/// Reads the first line that starts in `from..high`.
fn probe(file: &LogFile, from: u64, high: u64, end: u64) -> io::Result<Probe> {
    let mut lines = Lines::from_next_line(file.clone(), from, end)?;
    if lines.offset() >= high {
        return Ok(Probe::NoLine);
    }
    Ok(match lines.next()? {
        Some(raw) if raw.offset < high && !is_torn(&raw) => match parse(&raw).and_then(|line| line.index()) {
            Some(index) => Probe::Event { offset: raw.offset, index },
            None => Probe::Invalid,
        },
        _ => Probe::NoLine,
    })
}

fn parse<'a>(raw: &RawLine<'a>) -> Option<Line<'a>> {
    raw.bytes.and_then(|bytes| Line::read(bytes).ok())
}

/// Whether a line is the torn tail of the log rather than an event.
fn is_torn(raw: &RawLine<'_>) -> bool {
    !raw.terminated && is_unfinished(raw.bytes)
}
