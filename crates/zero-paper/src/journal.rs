//! The decision journal: a write-ahead log of decisions, one canonical JSON line each.

use std::path::{Path, PathBuf};

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::line_file::LineFile;

/// The `schema_version` of the lines in the journal of a run on market data.
pub(crate) const MARKET_JOURNAL_SCHEMA: &str = "zero.paper.journal.v2";

/// A decision journal, in memory or in a file.
pub enum Journal {
    /// Kept for the lifetime of the process.
    Memory(Vec<Decision>),
    /// Kept in a file. Each decision is synced before [`Journal::record`] returns.
    File(LineFile),
}

/// A decision in a journal.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// Where [`Journal::decision`] finds it: a byte offset in a file, an index in memory.
    pub location: u64,
    /// Number of the line, counted from 1.
    pub line: u64,
    /// The decision.
    pub decision: Decision,
}

/// Parses a line.
fn parse(text: &str) -> Result<Decision, String> {
    Decision::parse(text).map_err(|problem| match text.contains(MARKET_JOURNAL_SCHEMA) {
        true => "is a cycle of a run on market data, not a decision; name another journal".to_owned(),
        false => problem,
    })
}

impl Journal {
    /// Opens a journal file. Creates it if it is missing.
    ///
    /// # Errors
    /// As [`LineFile::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::File(LineFile::open(path)?))
    }

    /// Returns all entries, oldest first. The iterator ends after its first error.
    pub fn entries(&self) -> Box<dyn Iterator<Item = Result<JournalEntry>> + '_> {
        match self {
            Self::Memory(decisions) => Box::new((0..).zip(decisions).map(|(location, decision)| {
                Ok(JournalEntry { location, line: location + 1, decision: decision.clone() })
            })),
            Self::File(file) => {
                let mut lines = file.lines();
                let mut ended = false;
                Box::new(std::iter::from_fn(move || {
                    while !ended {
                        let next = lines.next().transpose()?.and_then(|(position, text)| {
                            if text.trim_ascii().is_empty() {
                                return Ok(None);
                            }
                            let decision =
                                parse(&text).map_err(|problem| lines.problem(position, problem))?;
                            let (location, line) = (position.byte_offset, position.line);
                            Ok(Some(JournalEntry { location, line, decision }))
                        });
                        ended = next.is_err();
                        if let Some(next) = next.transpose() {
                            return Some(next);
                        }
                    }
                    None
                }))
            }
        }
    }

    /// Returns the path for messages; `memory` if there is no file.
    pub(crate) fn path(&self) -> PathBuf {
        self.file().map_or_else(|| PathBuf::from("memory"), |file| file.path().to_owned())
    }

    /// Appends a decision and syncs it. Returns its location. This is the commit point of a
    /// decision: the caller changes the engine's state only after it.
    ///
    /// # Errors
    /// [`Error::Io`]: the decision must not take effect, and the journal must be reopened.
    pub fn record(&mut self, decision: &Decision) -> Result<u64> {
        match self {
            Self::Memory(decisions) => {
                decisions.push(decision.clone());
                Ok(decisions.len() as u64 - 1)
            }
            Self::File(file) => {
                let byte_offset = file.append(decision)?;
                file.sync()?;
                Ok(byte_offset)
            }
        }
    }

    /// Reads the decision at a location that [`Journal::entries`] or [`Journal::record`] returned.
    ///
    /// # Errors
    /// [`Error::Refused`] if the location has no decision, for example because the file was
    /// changed.
    pub fn decision(&self, location: u64) -> Result<Decision> {
        let missing = |path: PathBuf, problem: String| Error::Refused { path, problem };
        match self {
            Self::Memory(decisions) => decisions
                .get(location as usize)
                .cloned()
                .ok_or_else(|| missing(PathBuf::from("memory"), format!("has no decision {location}"))),
            Self::File(file) => Decision::parse(&file.read_line_at(location)?)
                .map_err(|problem| missing(file.path().to_owned(), format!("byte {location}: {problem}"))),
        }
    }

    /// Repairs the end of the file, see [`LineFile::repair_tail`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn repair_tail(&mut self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => file.repair_tail(),
        }
    }

    /// Returns the file; `None` for a journal in memory.
    pub fn file(&self) -> Option<&LineFile> {
        match self {
            Self::Memory(_) => None,
            Self::File(file) => Some(file),
        }
    }
}
