//! A text as lines, each of which ends with a line break.

use crate::error::{Error, Result};

/// Reads a text line by line and knows where it is.
pub(crate) struct Lines<'a> {
    what: &'static str,
    rest: &'a str,
    /// The number of the line that was read last, counted from 1.
    number: u64,
}

impl<'a> Lines<'a> {
    /// The lines of a text of at most `max_bytes` bytes. `what` names the form in errors.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8], max_bytes: usize) -> Result<Self> {
        if bytes.len() > max_bytes {
            return Err(Error::at_byte(what, max_bytes, format!("is longer than {max_bytes} bytes")));
        }
        let rest = std::str::from_utf8(bytes)
            .map_err(|error| Error::at_byte(what, error.valid_up_to(), "is not UTF-8"))?;
        Ok(Self { what, rest, number: 0 })
    }

    /// The next line without its line break; `None` at the end of the text.
    pub(crate) fn next(&mut self) -> Result<Option<&'a str>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let (line, rest) =
            self.rest.split_once('\n').ok_or_else(|| self.error("the line break is missing"))?;
        self.rest = rest;
        Ok(Some(line))
    }

    /// The next line, which must exist.
    pub(crate) fn expect(&mut self, expected: &str) -> Result<&'a str> {
        let line = self.next()?;
        line.ok_or_else(|| Error::at_line(self.what, self.number + 1, format!("{expected} is missing")))
    }

    /// The text after the line that was read last.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }

    /// The number of the line that was read last, counted from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// An error in the line that was read last.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        Error::at_line(self.what, self.number, problem)
    }
}
