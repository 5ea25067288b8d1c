//! Reads a log line by line: forwards in blocks, or the last lines backwards from the end.
//!
//! Memory is bounded by one line and one block. A line longer than [`MAX_LINE_BYTES`] is reported
//! without being held in memory.

use std::io;
use std::ops::Range;

use crate::event::MAX_LINE_BYTES;
use crate::log_file::LogFile;
use crate::storage::{StorageFile, read_exact_at, read_some_at};

/// Reads start small, because a caller often needs a single line, and double up to the maximum.
const FIRST_READ_BYTES: usize = 4 << 10;
const MAX_READ_BYTES: usize = 64 << 10;

/// A line of the log that is not blank, before it is parsed.
#[derive(Debug)]
pub(crate) struct RawLine<'a> {
    /// Byte offset of its first byte in the log.
    pub(crate) offset: u64,
    /// The line without its line break; `None` if it is longer than [`MAX_LINE_BYTES`].
    pub(crate) bytes: Option<&'a [u8]>,
    /// A line break ends it. Only the last line of a log can lack one.
    pub(crate) terminated: bool,
}

/// Reads lines forwards, up to an end that the caller moves as the log grows.
pub(crate) struct Lines {
    file: LogFile,
    /// Bytes read from the file and not yet returned: `buffer[start..filled]`.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Size of the next read.
    read_bytes: usize,
    /// File offset of `buffer[start]`. Always the start of a line between two calls.
    offset: u64,
    end: u64,
}

impl Lines {
    /// Reads from `offset`, which must be the start of a line.
    pub(crate) fn new(file: LogFile, offset: u64, end: u64) -> Self {
        Self { file, buffer: Vec::new(), start: 0, filled: 0, read_bytes: FIRST_READ_BYTES, offset, end }
    }

    /// Reads from the first line that starts at or after `offset`, which must be after the start of
    /// the log.
    pub(crate) fn from_next_line(file: LogFile, offset: u64, end: u64) -> io::Result<Self> {
        // If the byte before `offset` is a line break, a line starts at `offset` and only that byte
        // is skipped. Otherwise the remainder of the line that contains `offset` is skipped.
        let mut lines = Self::new(file, offset - 1, end);
        lines.skip_line()?;
        Ok(lines)
    }

    /// Byte offset of the next line.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn file(&self) -> &LogFile {
        &self.file
    }

    /// Continues in another file, which holds the same bytes up to the present offset.
    pub(crate) fn set_file(&mut self, file: LogFile) {
        self.file = file;
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn set_end(&mut self, end: u64) {
        self.end = end;
    }

    /// Continues at another offset, which must be the start of a line. Discards buffered bytes.
    pub(crate) fn seek(&mut self, offset: u64) {
        (self.start, self.filled) = (0, 0);
        self.offset = offset;
    }

    /// Returns the next line that is not blank; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<RawLine<'_>>> {
        while let Some((length, terminated)) = self.buffer_line()? {
            let offset = self.offset;
            if length > MAX_LINE_BYTES {
                let terminated = self.skip_line()?;
                return Ok(Some(RawLine { offset, bytes: None, terminated }));
            }
            let line = self.start..self.start + length;
            let consumed = length + usize::from(terminated);
            self.start += consumed;
            self.offset += consumed as u64;
            if is_blank(&self.buffer[line.clone()]) {
                continue;
            }
            return Ok(Some(RawLine { offset, bytes: Some(&self.buffer[line]), terminated }));
        }
        Ok(None)
    }

    /// Buffers the line at `start`. Returns its length and whether a line break ends it; `None` at
    /// the end. Stops buffering at a length above [`MAX_LINE_BYTES`], so that length may be
    /// incomplete.
    fn buffer_line(&mut self) -> io::Result<Option<(usize, bool)>> {
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
            if !self.read_block()? {
                return Ok((searched > 0).then_some((searched, false)));
            }
        }
    }

    /// Appends the next block to the buffer; `false` at the end.
    fn read_block(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
        }
        let buffered = self.filled - self.start;
        (self.start, self.filled) = (0, buffered);
        let read_offset = self.offset + buffered as u64;
        let block_bytes = self.end.saturating_sub(read_offset).min(self.read_bytes as u64) as usize;
        self.read_bytes = (self.read_bytes * 2).min(MAX_READ_BYTES);
        if block_bytes == 0 {
            return Ok(false);
        }
        if self.buffer.len() < buffered + block_bytes {
            self.buffer.resize(buffered + block_bytes, 0);
        }
        let block = &mut self.buffer[buffered..buffered + block_bytes];
        // One read, which may be short: what precedes a segment that cannot be read is returned.
        let read = read_some_at(&self.file, block, read_offset)?;
        self.filled += read;
        if read == 0 {
            // The file was truncated after the caller sampled its end.
            self.end = self.offset + self.filled as u64;
        }
        Ok(read > 0)
    }

    /// Skips one line of any length, blank or not. Returns whether a line break ended it.
    fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            if let Some(newline) = memchr::memchr(b'\n', &self.buffer[self.start..self.filled]) {
                self.start += newline + 1;
                self.offset += newline as u64 + 1;
                return Ok(true);
            }
            self.offset += (self.filled - self.start) as u64;
            self.buffer.truncate(MAX_READ_BYTES);
            self.buffer.shrink_to(MAX_READ_BYTES);
            (self.start, self.filled) = (0, 0);
            if !self.read_block()? {
                return Ok(false);
            }
        }
    }
}

/// A line found by reading backwards.
#[derive(Debug)]
pub(crate) struct LastLine {
    pub(crate) offset: u64,
    /// The line without its line break; `None` if it is longer than [`MAX_LINE_BYTES`].
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) terminated: bool,
}

/// Returns the offset after the last line break before `end`: the start of an unterminated last
/// line, or `end` if a line break ends the last line.
pub(crate) fn after_last_newline(log: &LogFile, end: u64) -> io::Result<u64> {
    after_newline(log, log.start().offset..end, log.base())
}

/// Returns the last line before `end` that is not blank. `end` must be the end of the log or the
/// start of a line. Reads only that line and the white space after it.
pub(crate) fn last_line_before(log: &LogFile, end: u64) -> io::Result<Option<LastLine>> {
    last_line(log, log.start().offset..end, log.base())
}

/// As [`after_last_newline`], for a file that is not a log.
pub(crate) fn after_last_newline_of_file(file: &dyn StorageFile, end: u64) -> io::Result<u64> {
    after_newline(file, 0..end, 0)
}

/// As [`last_line_before`], for a file that is not a log.
pub(crate) fn last_line_of_file(file: &dyn StorageFile, end: u64) -> io::Result<Option<LastLine>> {
    last_line(file, 0..end, 0)
}

/// `seam` is the start of a line. No read crosses it, so that a line after it is found without the
/// segments before it.
fn after_newline(file: &dyn StorageFile, range: Range<u64>, seam: u64) -> io::Result<u64> {
    let Range { start, end } = range;
    let start = if end > seam { seam.max(start) } else { start };
    Ok(rfind_byte(file, start..end, seam, |byte| byte == b'\n')?.map_or(start, |newline| newline + 1))
}

fn last_line(file: &dyn StorageFile, range: Range<u64>, seam: u64) -> io::Result<Option<LastLine>> {
    let mut terminated = false;
    let start = range.start;
    let last_byte = rfind_byte(file, range, seam, |byte| {
        terminated |= byte == b'\n';
        !is_white_space(byte)
    })?;
    let Some(last_byte) = last_byte else { return Ok(None) };
    // Not of a range that ends with the seam: the line of `last_byte` may start there.
    let offset = if last_byte == seam { seam } else { after_newline(file, start..last_byte, seam)? };
    let length = last_byte + 1 - offset;
    let bytes = if length > MAX_LINE_BYTES as u64 {
        None
    } else {
        let mut bytes = vec![0; length as usize];
        read_exact_at(file, &mut bytes, offset)?;
        Some(bytes)
    };
    Ok(Some(LastLine { offset, bytes, terminated }))
}

/// Returns the offset of the last byte in a range that matches. Tests bytes from the end backwards.
/// No read crosses `seam`.
fn rfind_byte(
    file: &dyn StorageFile,
    range: Range<u64>,
    seam: u64,
    mut matches: impl FnMut(u8) -> bool,
) -> io::Result<Option<u64>> {
    let mut block_bytes = FIRST_READ_BYTES as u64;
    let mut buffer = Vec::new();
    let Range { start, mut end } = range;
    while end > start {
        let floor = if end > seam { seam.max(start) } else { start };
        let length = (end - floor).min(block_bytes);
        buffer.resize(length as usize, 0);
        read_exact_at(file, &mut buffer, end - length)?;
        if let Some(position) = buffer.iter().rposition(|byte| matches(*byte)) {
            return Ok(Some(end - length + position as u64));
        }
        end -= length;
        block_bytes = (block_bytes * 2).min(MAX_READ_BYTES as u64);
    }
    Ok(None)
}

/// A blank line is not an event; every reader skips it.
pub(crate) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| is_white_space(*byte))
}

/// White space as JSON defines it (RFC 8259, section 2), so that a blank line is also blank to the
/// parser.
fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
