//! A log as lines: forwards in blocks, and the last ones from the end. Never holds more than one line and
//! one block, and no line longer than the format allows.

use std::io;
use std::sync::Arc;

use crate::event::MAX_LINE_BYTES;
use crate::storage::{StorageFile, read_exact_at, read_up_to};

/// The log's file name in a bus directory.
pub const LOG: &str = "events.jsonl";

/// The lock_file file that appenders lock for one batch, and readers for one look at the end.
pub const LOCK: &str = "bus.lock";

/// Bytes read at a time: few at first, as often one line is wanted, then twice as many each time up to a block.
const FIRST: usize = 4 << 10;
const BLOCK: usize = 64 << 10;

/// A line that was found. Blank ones are passed over.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// Where it begins, in bytes from the start of the log.
    pub(crate) offset: u64,
    /// The line without its line break; `None` where it is too long to be held.
    pub(crate) bytes: Option<&'a [u8]>,
    /// Whether a line break ends it.
    pub(crate) terminated: bool,
}

/// Reads forwards from a place that begins a line, up to an end.
pub(crate) struct Lines {
    file: Arc<dyn StorageFile>,
    /// Read from the file, not handed out yet: `buffer[start..filled]`.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// How many bytes to read next.
    block: usize,
    /// Where `buffer[start]` stands in the file.
    at: u64,
    end: u64,
}

impl Lines {
    pub(crate) fn new(file: Arc<dyn StorageFile>, at: u64, end: u64) -> Self {
        Self { file, buffer: Vec::new(), start: 0, filled: 0, block: FIRST, at, end }
    }

    /// Reads forwards from the first line that begins at or behind a place, which is not the start.
    pub(crate) fn behind(file: Arc<dyn StorageFile>, place: u64, end: u64) -> io::Result<Self> {
        // What lies between the byte before and its line break is the rest of a line that began earlier.
        let mut lines = Self::new(file, place - 1, end);
        lines.pass_line()?;
        Ok(lines)
    }

    /// Where the next line begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn file(&self) -> &Arc<dyn StorageFile> {
        &self.file
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Reads on to a new end.
    pub(crate) fn extend(&mut self, end: u64) {
        self.end = end;
    }

    /// Goes to another place that begins a line.
    pub(crate) fn go_to(&mut self, at: u64) {
        (self.start, self.filled) = (0, 0);
        self.at = at;
    }

    /// The next line that is not blank.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        while let Some((length, terminated)) = self.find_end()? {
            let offset = self.at;
            if length > MAX_LINE_BYTES {
                let terminated = self.pass_line()?;
                return Ok(Some(Found { offset, bytes: None, terminated }));
            }
            let line = self.start..self.start + length;
            let taken = length + usize::from(terminated);
            self.start += taken;
            self.at += taken as u64;
            if is_blank(&self.buffer[line.clone()]) {
                continue;
            }
            return Ok(Some(Found { offset, bytes: Some(&self.buffer[line]), terminated }));
        }
        Ok(None)
    }

    /// How long the line at `start` is and whether a line break ends it; `None` at the end. A length above
    /// the limit means that the line is longer than what was read.
    fn find_end(&mut self) -> io::Result<Option<(usize, bool)>> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.start..self.filled];
            if let Some(newline) = memchr::memchr(b'\n', &unread[searched..]) {
                return Ok(Some((searched + newline, true)));
            }
            searched = unread.len();
            if searched > MAX_LINE_BYTES {
                return Ok(Some((searched, false)));
            }
            if !self.fill_more()? {
                return Ok((searched > 0).then_some((searched, false)));
            }
        }
    }

    fn fill_more(&mut self) -> io::Result<bool> {
        let bytes = self.block;
        self.block = (bytes * 2).min(BLOCK);
        self.fill(bytes)
    }

    /// Reads a number of bytes more; `false` at the end.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
        }
        let held = self.filled - self.start;
        (self.start, self.filled) = (0, held);
        let left = self.end.saturating_sub(self.at + held as u64);
        if left == 0 {
            return Ok(false);
        }
        let wanted = left.min(bytes as u64) as usize;
        if self.buffer.len() < held + wanted {
            self.buffer.resize(held + wanted, 0);
        }
        let read = read_up_to(&*self.file, &mut self.buffer[held..held + wanted], self.at + held as u64)?;
        self.filled += read;
        if read < wanted {
            // The file was cut since its end was looked up: it ends here now.
            self.end = self.at + self.filled as u64;
        }
        Ok(read > 0)
    }

    /// Passes over one line, blank or not, however long. Gives whether a line break ended it.
    pub(crate) fn pass_line(&mut self) -> io::Result<bool> {
        loop {
            if let Some(newline) = memchr::memchr(b'\n', &self.buffer[self.start..self.filled]) {
                self.start += newline + 1;
                self.at += newline as u64 + 1;
                return Ok(true);
            }
            self.at += (self.filled - self.start) as u64;
            self.buffer.truncate(BLOCK);
            self.buffer.shrink_to(BLOCK);
            (self.start, self.filled) = (0, 0);
            if !self.fill_more()? {
                return Ok(false);
            }
        }
    }
}

/// The last line before `end` that is not blank, read from the end backwards.
#[derive(Debug)]
pub(crate) struct LastLine {
    pub(crate) offset: u64,
    /// `None` where it is too long to be held.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) terminated: bool,
}

/// Where the line begins that the end of the file is in the middle of; the end where it is in none.
pub(crate) fn start_of_rest(file: &dyn StorageFile, end: u64) -> io::Result<u64> {
    Ok(find_back(file, end, |byte| byte == b'\n')?.map_or(0, |newline| newline + 1))
}

/// Finds the last line that is not blank and begins before `end`, which ends the file or begins a line.
/// Reads that line and the white space behind it.
pub(crate) fn last_line_before(file: &dyn StorageFile, end: u64) -> io::Result<Option<LastLine>> {
    let mut terminated = false;
    let content_end = find_back(file, end, |byte| {
        terminated |= byte == b'\n';
        !is_white_space(byte)
    })?;
    let Some(last) = content_end else { return Ok(None) };
    let offset = start_of_rest(file, last)?;
    let length = last + 1 - offset;
    let bytes = if length > MAX_LINE_BYTES as u64 {
        None
    } else {
        let mut bytes = vec![0; length as usize];
        read_exact_at(file, &mut bytes, offset)?;
        Some(bytes)
    };
    Ok(Some(LastLine { offset, bytes, terminated }))
}

/// Where the last byte before `end` is that is wanted.
fn find_back(
    file: &dyn StorageFile,
    end: u64,
    mut wanted: impl FnMut(u8) -> bool,
) -> io::Result<Option<u64>> {
    // Small at first, since a line is usually found at once.
    let mut block = 4 << 10;
    let mut buffer = Vec::new();
    let mut end = end;
    while end > 0 {
        let length = end.min(block);
        buffer.resize(length as usize, 0);
        read_exact_at(file, &mut buffer, end - length)?;
        if let Some(position) = buffer.iter().rposition(|byte| wanted(*byte)) {
            return Ok(Some(end - length + position as u64));
        }
        end -= length;
        block = (block * 2).min(BLOCK as u64);
    }
    Ok(None)
}

/// Whether a line is none.
pub(crate) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| is_white_space(*byte))
}

/// White space as JSON has it (RFC 8259, section 2), so that what is blank here is nothing to the parser too.
fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
