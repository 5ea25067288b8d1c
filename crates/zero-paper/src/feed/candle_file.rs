//! One file of candles, or standard input.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use crate::candle::{FeedCandle, parse_candle};
use crate::feed::check::format_time;
use crate::feed::csv::Header;
use crate::feed::interface::{FeedError, MAX_LINE_BYTES};
use crate::line_reader::{LineError, LineReader, NextLine};
use crate::text::shorten;

/// How many unknown fields of a file are reported.
const MAX_UNKNOWN_FIELDS: usize = 100;
/// Most characters of an unknown field's name in a message.
const MAX_FIELD_CHARACTERS: usize = 40;

/// A file that is read candle by candle, in the order of their times.
pub(super) struct CandleFile {
    /// The file in messages.
    name: String,
    lines: LineReader,
    format: Format,
    /// The symbol of a CSV file without a column for it.
    stem: Option<String>,
    /// Time and line of the last candle.
    last: Option<(f64, u64)>,
    /// Unknown fields that were found, so that each is reported once.
    known_unknown_fields: HashSet<String>,
    /// Reports of unknown fields that were not taken yet.
    unknown_fields: Vec<String>,
    /// Whether reading may have to wait for another program.
    pub(super) waits: bool,
}

/// The format of a file.
enum Format {
    JsonLines,
    Csv(Option<Header>),
    /// Found out from the first line.
    Unknown,
}

/// What a [`CandleFile`] returns.
pub(super) enum NextCandle {
    /// The candle and the number of its line.
    Candle(FeedCandle, u64),
    /// The time is over, and no candle is there.
    Pending,
    End,
}

impl CandleFile {
    /// Opens a file whose name ends in `.jsonl` or `.csv`.
    pub(super) fn open(path: &Path) -> Result<Self, FeedError> {
        let name = path.display().to_string();
        let format = format_of(path).ok_or_else(|| {
            FeedError::new(&name, "is not a feed: name a file .jsonl or .csv, or a directory of them")
        })?;
        let file =
            File::open(path).map_err(|error| FeedError::new(&name, format!("cannot open it: {error}")))?;
        let stem = path.file_stem().and_then(OsStr::to_str).map(str::to_owned);
        Ok(Self::new(name, file, format, stem, false))
    }

    /// Reads candles from standard input, in either format. CSV needs a column with the symbol.
    pub(super) fn standard_input() -> Result<Self, FeedError> {
        let name = "standard input".to_owned();
        let file = io::stdin().as_fd().try_clone_to_owned();
        let file = file.map_err(|error| FeedError::new(&name, format!("cannot read it: {error}")))?;
        Ok(Self::new(name, File::from(file), Format::Unknown, None, true))
    }

    fn new(name: String, file: File, format: Format, stem: Option<String>, waits: bool) -> Self {
        let lines = LineReader::new(file, MAX_LINE_BYTES);
        let (known_unknown_fields, unknown_fields) = (HashSet::new(), Vec::new());
        Self { name, lines, format, stem, last: None, known_unknown_fields, unknown_fields, waits }
    }

    /// The file and a line of it, for messages.
    pub(super) fn place(&self, line: u64) -> String {
        format!("{}: line {line}", self.name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a candle was read.
    pub(super) fn has_candles(&self) -> bool {
        self.last.is_some()
    }

    /// Returns the unknown fields that were found since the last call, each with its place.
    pub(super) fn take_unknown_fields(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unknown_fields)
    }

    /// Reads the next candle. Waits for it until `deadline`, or without limit.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<NextCandle, FeedError> {
        loop {
            let line = match self.lines.next_line(deadline) {
                Ok(NextLine::Line(line)) => line,
                Ok(NextLine::Pending) => return Ok(NextCandle::Pending),
                Ok(NextLine::End) => return Ok(NextCandle::End),
                Err(error) => return Err(line_error(&self.name, &error)),
            };
            let number = line.number;
            let text = if number == 1 { line.text.trim_start_matches('\u{feff}') } else { line.text };
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            if matches!(self.format, Format::Unknown) {
                self.format = if text.starts_with('{') { Format::JsonLines } else { Format::Csv(None) };
            }
            let (name, unknown_fields) = (&self.name, &mut self.unknown_fields);
            let known = &mut self.known_unknown_fields;
            let unknown = |field: &str| {
                let field = shorten(field, MAX_FIELD_CHARACTERS);
                if known.len() == MAX_UNKNOWN_FIELDS || !known.insert(field.clone()) {
                    return;
                }
                unknown_fields
                    .push(format!("{name}: line {number}: {field}: is not known and has no effect"));
            };
            let read = match &mut self.format {
                Format::JsonLines => parse_candle(text, unknown),
                Format::Csv(Some(header)) => header.read(text),
                Format::Csv(header @ None) => match Header::parse(text, self.stem.as_deref(), unknown) {
                    Ok(parsed) => {
                        *header = Some(parsed);
                        continue;
                    }
                    Err(problem) => Err(problem),
                },
                // Settled above.
                Format::Unknown => continue,
            };
            let read = read.map_err(|problem| FeedError::new(&self.place(number), problem))?;
            self.check_order(read.candle.ts, number)?;
            return Ok(NextCandle::Candle(read, number));
        }
    }

    fn check_order(&mut self, ts: f64, line: u64) -> Result<(), FeedError> {
        if let Some((last_ts, last_line)) = self.last
            && ts < last_ts
        {
            let (ts, last_ts) = (format_time(ts), format_time(last_ts));
            let problem = format!(
                "out of order: {ts} is before {last_ts} in line {last_line}; sort the file by time, or write one \
                 file per symbol into a directory"
            );
            return Err(FeedError::new(&self.place(line), problem));
        }
        self.last = Some((ts, line));
        Ok(())
    }
}

/// Whether a directory's file belongs to a feed.
pub(super) fn is_candle_file(path: &Path) -> bool {
    format_of(path).is_some() && !path.is_dir()
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "jsonl" => Some(Format::JsonLines),
        "csv" => Some(Format::Csv(None)),
        _ => None,
    }
}

/// The error of a line that cannot be read.
pub(super) fn line_error(name: &str, error: &LineError) -> FeedError {
    match error.line() {
        Some(line) => FeedError::new(&format!("{name}: line {line}"), error.to_string()),
        None => FeedError::new(name, error.to_string()),
    }
}
