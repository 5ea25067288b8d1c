//! The decision journal: a write-ahead log of decisions, one canonical JSON line each.

use std::path::{Path, PathBuf};

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::line_file::{FileStart, LineFile};

/// The `schema_version` of the lines in the journal of a run on market data.
pub(crate) const MARKET_JOURNAL_SCHEMA: &str = "zero.paper.journal.v2";

/// A decision journal, in memory or in a file.
pub enum Journal {
    /// Kept for the lifetime of the process.
    Memory(Vec<Decision>),
    /// The decisions of a runtime without a journal file. The bus has them.
    OnBus {
        /// Number of the decisions that are no longer in memory.
        forgotten: u64,
        /// The decisions after them.
        decisions: Vec<Decision>,
    },
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
        self.entries_after(FileStart::default())
    }

    /// Returns the entries after a place of the file. A journal in memory has no earlier ones.
    pub(crate) fn entries_after(
        &self,
        start: FileStart,
    ) -> Box<dyn Iterator<Item = Result<JournalEntry>> + '_> {
        match self {
            Self::Memory(decisions) => Box::new(entries_in_memory(0, decisions)),
            Self::OnBus { forgotten, decisions } => Box::new(entries_in_memory(*forgotten, decisions)),
            Self::File(file) => {
                let mut lines = file.lines_after(start);
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
            Self::OnBus { forgotten, decisions } => {
                decisions.push(decision.clone());
                Ok(*forgotten + decisions.len() as u64 - 1)
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
        let in_memory = |decisions: &[Decision], index: Option<u64>| {
            let found = index.and_then(|index| decisions.get(index as usize)).cloned();
            found.ok_or_else(|| missing(PathBuf::from("memory"), format!("has no decision {location}")))
        };
        match self {
            Self::Memory(decisions) => in_memory(decisions, Some(location)),
            Self::OnBus { forgotten, decisions } => in_memory(decisions, location.checked_sub(*forgotten)),
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
            Self::Memory(_) | Self::OnBus { .. } => Ok(()),
            Self::File(file) => file.repair_tail(),
        }
    }

    /// Returns the file; `None` for a journal in memory.
    pub fn file(&self) -> Option<&LineFile> {
        match self {
            Self::Memory(_) | Self::OnBus { .. } => None,
            Self::File(file) => Some(file),
        }
    }

    /// Returns the location that the next decision will have.
    pub(crate) fn next_location(&self) -> u64 {
        match self {
            Self::Memory(decisions) => decisions.len() as u64,
            Self::OnBus { forgotten, decisions } => *forgotten + decisions.len() as u64,
            Self::File(file) => file.complete_bytes(),
        }
    }

    /// Sets the number of the last line, after all entries were read.
    pub(crate) fn set_line_count(&mut self, lines: u64) {
        if let Self::File(file) = self {
            file.set_line_count(lines);
        }
    }

    /// Drops the decisions that the bus has from memory. Does nothing to other journals.
    pub(crate) fn forget_published(&mut self) {
        if let Self::OnBus { forgotten, decisions } = self {
            *forgotten += decisions.len() as u64;
            decisions.clear();
        }
    }
}

fn entries_in_memory(first: u64, decisions: &[Decision]) -> impl Iterator<Item = Result<JournalEntry>> {
    (first..).zip(decisions).map(|(location, decision)| {
        Ok(JournalEntry { location, line: location + 1, decision: decision.clone() })
    })
}
