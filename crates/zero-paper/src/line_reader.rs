//! Lines of bounded length from a file, a pipe or a terminal, with a time limit.
//!
//! The memory in use depends on the longest line allowed, not on what the other side sends.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Bytes requested per read. A read returns what is available and does not wait for more.
const READ_BYTES: usize = 1 << 16;

/// A file, read line by line.
pub(crate) struct LineReader {
    file: File,
    /// Bytes that were read; those before `begin` belong to earlier lines.
    buffer: Vec<u8>,
    begin: usize,
    /// Lines returned so far.
    line_count: u64,
    max_line_bytes: usize,
    at_end: bool,
}

/// What a [`LineReader`] returns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextLine<'a> {
    /// A line without its line break.
    Line(Line<'a>),
    /// The time is over, and no line is complete.
    Pending,
    /// There are no more lines.
    End,
}

/// A line of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub(crate) number: u64,
    /// The text without its line break.
    pub(crate) text: &'a str,
    /// Whether a line break ended it. Only the last line of a file may have none.
    pub(crate) is_terminated: bool,
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("is longer than {max_line_bytes} bytes")]
    TooLong { line: u64, max_line_bytes: usize },
    #[error("is not UTF-8: invalid byte at offset {offset}")]
    NotText { line: u64, offset: usize },
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
}

impl LineError {
    /// The number of the line, if the error is about one.
    pub(crate) fn line(&self) -> Option<u64> {
        match self {
            Self::TooLong { line, .. } | Self::NotText { line, .. } => Some(*line),
            Self::Io(_) => None,
        }
    }
}

impl LineReader {
    pub(crate) fn new(file: File, max_line_bytes: usize) -> Self {
        Self { file, buffer: Vec::new(), begin: 0, line_count: 0, max_line_bytes, at_end: false }
    }

    /// Returns the next line. Waits for it until `deadline`, or without limit.
    ///
    /// # Errors
    /// After an error, the reader is at an unknown place and must not be used again.
    pub(crate) fn next_line(&mut self, deadline: Option<Instant>) -> Result<NextLine<'_>, LineError> {
        let mut searched = self.begin;
        loop {
            let newline = memchr::memchr(b'\n', &self.buffer[searched..]).map(|offset| searched + offset);
            let length = newline.unwrap_or(self.buffer.len()) - self.begin;
            if length > self.max_line_bytes {
                let max_line_bytes = self.max_line_bytes;
                return Err(LineError::TooLong { line: self.line_count + 1, max_line_bytes });
            }
            match newline {
                Some(newline) => return self.take_line(newline, true),
                None if self.at_end && length == 0 => return Ok(NextLine::End),
                None if self.at_end => return self.take_line(self.buffer.len(), false),
                None => {}
            }
            // The bytes of earlier lines make room.
            self.buffer.drain(..std::mem::take(&mut self.begin));
            searched = self.buffer.len();
            if !is_readable(&self.file, deadline)? {
                return Ok(NextLine::Pending);
            }
            self.read_more()?;
        }
    }

    /// Whether something was read or can be read that was not returned yet. Does not wait. The end
    /// of the file does not count.
    pub(crate) fn has_more(&mut self) -> io::Result<bool> {
        if self.begin == self.buffer.len() && !self.at_end && is_readable(&self.file, Some(Instant::now()))? {
            self.buffer.clear();
            self.begin = 0;
            self.read_more()?;
        }
        Ok(self.begin < self.buffer.len())
    }

    fn take_line(&mut self, end: usize, is_terminated: bool) -> Result<NextLine<'_>, LineError> {
        let begin = self.begin;
        self.begin = end + usize::from(is_terminated);
        self.line_count += 1;
        let number = self.line_count;
        match std::str::from_utf8(&self.buffer[begin..end]) {
            Ok(text) => Ok(NextLine::Line(Line { number, text, is_terminated })),
            Err(error) => Err(LineError::NotText { line: number, offset: error.valid_up_to() }),
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = loop {
            match self.file.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        self.at_end = read? == 0;
        Ok(())
    }
}

/// Waits until the file has bytes or has ended, at most until `deadline`. Returns whether it has.
fn is_readable(file: &File, deadline: Option<Instant>) -> io::Result<bool> {
    // Without a deadline, the read itself waits.
    deadline.map_or(Ok(true), |deadline| wait_for(file, PollFlags::IN, deadline))
}

/// Waits until the file is ready for `flags` or has failed, at most until `deadline`. Returns
/// whether it is.
pub(crate) fn wait_for(file: &File, flags: PollFlags, deadline: Instant) -> io::Result<bool> {
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(file, flags)], Some(&timespec(rest))) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
