//! A file, or standard input if its path is `-`, read as lines of bounded length.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail};
use zero_bus::MAX_LINE_BYTES;

/// Bytes requested per read. A read returns what is available and does not wait for more.
const READ_BYTES: usize = 1 << 20;

/// The lines of a file, in groups: each group holds the complete lines that are available.
pub(crate) struct Input {
    source: Box<dyn Read>,
    /// The file's name in messages.
    pub(crate) name: String,
    /// Bytes after the last line returned.
    buffer: Vec<u8>,
    /// The number of lines returned.
    line_count: u64,
    /// The rest of a line that was returned as too long: it is skipped up to the next newline.
    skips_line: bool,
    at_end: bool,
}

/// A line of an [`Input`].
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// The text without its newline, or why it is not a line of text.
    pub(crate) text: Result<String, String>,
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (source, name): (Box<dyn Read>, String) = if path.as_os_str() == "-" {
            (Box::new(io::stdin()), "standard input".to_owned())
        } else {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("{name}: cannot open it"))?;
            (Box::new(file), name)
        };
        Ok(Self { source, name, buffer: Vec::new(), line_count: 0, skips_line: false, at_end: false })
    }

    /// Returns the lines that are available. Waits for the first one; returns none at the end.
    pub(crate) fn next_group(&mut self) -> Result<Vec<Line>> {
        let mut searched = 0;
        loop {
            if let Some(newline) = self.buffer[searched..].iter().rposition(|byte| *byte == b'\n') {
                let remainder = self.buffer.split_off(searched + newline + 1);
                let complete = std::mem::replace(&mut self.buffer, remainder);
                let group = self.split(&complete);
                if !group.is_empty() {
                    return Ok(group);
                }
                searched = 0;
                continue;
            }
            if self.skips_line {
                self.buffer.clear();
            } else if self.buffer.len() > MAX_LINE_BYTES {
                self.buffer.clear();
                self.skips_line = true;
                return Ok(vec![self.line(Err(format!("longer than {MAX_LINE_BYTES} bytes")))]);
            }
            if self.at_end {
                let last = std::mem::take(&mut self.buffer);
                return Ok(if last.is_empty() { Vec::new() } else { self.split(&last) });
            }
            searched = self.buffer.len();
            self.read_more()?;
        }
    }

    /// Reads the rest of the file as one text.
    pub(crate) fn read_all(mut self) -> Result<String> {
        while !self.at_end {
            if self.buffer.len() > MAX_LINE_BYTES {
                bail!("{}: longer than {MAX_LINE_BYTES} bytes", self.name);
            }
            self.read_more()?;
        }
        String::from_utf8(self.buffer).with_context(|| format!("{}: not UTF-8", self.name))
    }

    /// The error for a problem in a line.
    pub(crate) fn error_in_line(&self, number: u64, problem: &str) -> Error {
        anyhow!("{}: line {number}: {problem}", self.name)
    }

    fn read_more(&mut self) -> Result<()> {
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        self.at_end = read.with_context(|| format!("{}: cannot read it", self.name))? == 0;
        Ok(())
    }

    fn split(&mut self, complete: &[u8]) -> Vec<Line> {
        let complete = complete.strip_suffix(b"\n").unwrap_or(complete);
        let mut group = Vec::new();
        for line in complete.split(|byte| *byte == b'\n') {
            if std::mem::take(&mut self.skips_line) {
                continue;
            }
            let text = std::str::from_utf8(line)
                .map(str::to_owned)
                .map_err(|error| format!("not UTF-8 (byte {} of the line)", error.valid_up_to()));
            group.push(self.line(text));
        }
        group
    }

    /// The next line: counts it.
    fn line(&mut self, text: Result<String, String>) -> Line {
        self.line_count += 1;
        Line { number: self.line_count, text }
    }
}
