//! Finds where to start reading the events since a time.
//!
//! Times may be in any order, so no bisection finds that place. For sealed events, the indexes of
//! the segments tell it. The active file is scanned: of each line, only the time at its beginning
//! is read, which takes a fraction of the time of verifying it. A line that does not begin with a
//! time, as a canonical one does, ends the scan.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chain::Line;
use crate::chunk;
use crate::durable_log::{DurableLog, OpenedLog};
use crate::error::{Error, Result};
use crate::lines::{Lines, last_line_before};
use crate::log_file::LogFile;
use crate::reader::Reader;
use crate::storage::read_up_to;
use crate::sync::{Mutex, lock};

/// Bytes that a thread scans at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// The beginning of a canonical line, and the bytes in which a time must end.
const BEGINNING: &[u8] = br#"{"as_of":"#;
const TIME_BYTES: usize = 64;

impl Reader {
    /// Returns the index of an event before which all events have times before `as_of`, to start
    /// reading there. That event itself, and others after it, can have an earlier time: events may
    /// be in any order of their times.
    ///
    /// Reads of sealed events only the indexes of those segments that may have later events, and
    /// one more. Reads the other events without verifying them. An event whose line has two times
    /// counts with the first one.
    ///
    /// # Errors
    /// [`Error::Io`]. Returns the first event of the log if an index is damaged, and the first one
    /// that is not sealed if one of these is.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, SealOptions};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for hour in 0..20 {
    ///     let door = BTreeMap::from([("by", "cat")]);
    ///     bus.append(Draft::new("door.opened", 1777593600.0 + 3600.0 * f64::from(hour), &door)?)?;
    /// }
    /// bus.seal(SealOptions::default().up_to(10), &mut |_| {})?;
    /// bus.seal(SealOptions::default().up_to(15), &mut |_| {})?;
    ///
    /// let reader = bus.reader();
    /// assert_eq!(reader.first_index_since(1777593600.0 + 3600.0 * 12.0)?, 11);
    /// assert_eq!(reader.first_index_since(1777593600.0 + 3600.0 * 18.0)?, 19);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn first_index_since(&self, as_of: f64) -> Result<u64> {
        match self.durable_log()? {
            OpenedLog::Present(DurableLog { file, end, .. }) => {
                first_since(&file, end, as_of).map_err(Error::io("read it", &self.log_path()))
            }
            OpenedLog::Missing(_) => Ok(1),
        }
    }
}

fn first_since(file: &LogFile, end: u64, time: f64) -> io::Result<u64> {
    let first = file.first_since(time)?;
    if file.spans().last().is_some_and(|span| first <= span.last) {
        return Ok(first);
    }
    let index = |line: &[u8]| Line::read(line).ok().and_then(|line| line.index());
    let found = match first_line_since(file, end, time)? {
        Some(offset) => {
            Lines::new(file.clone(), offset, end).next()?.and_then(|line| line.bytes.and_then(index))
        }
        // All are earlier. The last one is as good a place as any.
        None => last_line_before(file, end)?.and_then(|line| line.bytes.as_deref().and_then(index)),
    };
    Ok(found.map_or(first, |found| found.max(first)))
}

/// Returns the offset of the first line of the active file that is not known to be earlier than
/// `time`.
fn first_line_since(file: &LogFile, end: u64, time: f64) -> io::Result<Option<u64>> {
    let next_block = AtomicU64::new(file.base());
    let (found, failure) = (AtomicU64::new(u64::MAX), Mutex::new(None));
    let work = || {
        let mut buffer = vec![0; BLOCK_BYTES as usize + 1 + TIME_BYTES];
        loop {
            let begin = next_block.fetch_add(BLOCK_BYTES, Ordering::Relaxed);
            if begin >= end.min(found.load(Ordering::Relaxed)) {
                return;
            }
            match scan_block(file, begin, end, time, &mut buffer) {
                Ok(None) => {}
                Ok(Some(offset)) => drop(found.fetch_min(offset, Ordering::Relaxed)),
                Err(error) => {
                    *lock(&failure) = Some(error);
                    return;
                }
            }
        }
    };
    let blocks = end.saturating_sub(file.base()).div_ceil(BLOCK_BYTES);
    let threads = blocks.min(chunk::available_threads().get() as u64);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If the system refuses a thread, the others do all of the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let failure = lock(&failure).take();
    failure.map_or(Ok(()), Err)?;
    Ok(Some(found.into_inner()).filter(|offset| *offset < end))
}

/// Scans the lines that start in a block, see [`first_line_since`].
fn scan_block(file: &LogFile, begin: u64, end: u64, time: f64, buffer: &mut [u8]) -> io::Result<Option<u64>> {
    // One byte before the block, to see whether a line starts with it. The active file does.
    let from = begin.saturating_sub(1).max(file.base());
    let wanted = (end.min(begin + BLOCK_BYTES + TIME_BYTES as u64) - from) as usize;
    let filled = read_up_to(file, &mut buffer[..wanted], from)?;
    let block = &buffer[..filled];
    let owned = block.len().min((begin + BLOCK_BYTES - from) as usize);
    let first = (from == begin).then_some(0);
    let others = memchr::memchr_iter(b'\n', block).map(|newline| newline + 1);
    let mut earlier: &[u8] = &[];
    for start in first.into_iter().chain(others).take_while(|start| *start < owned) {
        let line = &block[start..];
        // The events of a cycle have the same time.
        if !earlier.is_empty() && line.starts_with(earlier) {
            continue;
        }
        match beginning_if_earlier(line, time) {
            Some(beginning) => earlier = beginning,
            None => return Ok(Some(from + start as u64)),
        }
    }
    Ok(None)
}

/// Returns the beginning of a line up to the comma after its time, if that is earlier than `time`.
fn beginning_if_earlier(line: &[u8], time: f64) -> Option<&[u8]> {
    let text = line.strip_prefix(BEGINNING)?;
    let length = memchr::memchr(b',', &text[..text.len().min(TIME_BYTES - BEGINNING.len())])?;
    let as_of: f64 = std::str::from_utf8(&text[..length]).ok()?.parse().ok()?;
    (as_of < time).then_some(&line[..BEGINNING.len() + length + 1])
}
