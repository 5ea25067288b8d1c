//! A file, or standard input where it is called `-`, as lines of bounded length.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use zero_bus::MAX_LINE_BYTES;

/// Bytes asked for at a time. A read gives what is waiting, and no more.
const BLOCK: usize = 1 << 20;

/// Lines of a file, in the groups in which they come.
pub(crate) struct Input {
    source: Box<dyn Read>,
    /// What it is called in messages.
    pub(crate) name: String,
    buffer: Vec<u8>,
    /// Lines handed out so far.
    lines: u64,
    ended: bool,
}

/// A line, and its number, counted from 1.
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) text: String,
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
        Ok(Self { source, name, buffer: Vec::new(), lines: 0, ended: false })
    }

    /// The lines that are waiting, at least one; none at the end. Waits for the first.
    pub(crate) fn next_group(&mut self) -> Result<Vec<Line>> {
        let mut searched = 0;
        loop {
            let unsearched = &self.buffer[searched..];
            if let Some(newline) = unsearched.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + newline + 1);
                let whole = std::mem::replace(&mut self.buffer, rest);
                return self.split(&whole);
            }
            searched = self.buffer.len();
            if searched > MAX_LINE_BYTES {
                bail!("{}: line {}: is longer than {MAX_LINE_BYTES} bytes", self.name, self.lines + 1);
            }
            if self.ended {
                let last = std::mem::take(&mut self.buffer);
                return if last.is_empty() { Ok(Vec::new()) } else { self.split(&last) };
            }
            self.read_more()?;
        }
    }

    /// Everything there is, as one text.
    pub(crate) fn read_all(mut self) -> Result<String> {
        while !self.ended {
            if self.buffer.len() > MAX_LINE_BYTES {
                bail!("{}: is longer than {MAX_LINE_BYTES} bytes", self.name);
            }
            self.read_more()?;
        }
        String::from_utf8(self.buffer).with_context(|| format!("{}: is not UTF-8", self.name))
    }

    fn read_more(&mut self) -> Result<()> {
        let held = self.buffer.len();
        self.buffer.resize(held + BLOCK, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[held..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        self.ended = read.with_context(|| format!("{}: cannot read it", self.name))? == 0;
        Ok(())
    }

    fn split(&mut self, whole: &[u8]) -> Result<Vec<Line>> {
        let whole = whole.strip_suffix(b"\n").unwrap_or(whole);
        let mut group = Vec::new();
        for line in whole.split(|byte| *byte == b'\n') {
            self.lines += 1;
            let text = match std::str::from_utf8(line) {
                Ok(text) => text.to_owned(),
                // The lines before it are still good.
                Err(_) if !group.is_empty() => {
                    self.lines -= 1;
                    let mut rest = line.to_vec();
                    rest.push(b'\n');
                    self.buffer.splice(..0, rest);
                    return Ok(group);
                }
                Err(error) => {
                    let byte = error.valid_up_to();
                    bail!(
                        "{}: line {}: is not UTF-8 (byte {byte} of the line); nothing from it on was taken",
                        self.name,
                        self.lines
                    )
                }
            };
            group.push(Line { number: self.lines, text });
        }
        Ok(group)
    }
}
