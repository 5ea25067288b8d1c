//! The decision journal, written ahead of the engine's state: what is in it happened.

use std::path::{Path, PathBuf};

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::line_file::LineFile;

/// Where decisions are kept: in a journal file, or for as long as the process lives.
pub enum Journal {
    /// In memory only.
    Memory(Vec<Decision>),
    /// In a file, each synced before it takes effect.
    File(LineFile),
}

/// A decision in a journal, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// The place to find it again, see [`Journal::decision`]: for a file, bytes from its start.
    pub at: u64,
    /// Which line, counted from 1.
    pub line: u64,
    /// The decision.
    pub decision: Decision,
}

impl Journal {
    /// Opens a journal file.
    ///
    /// # Errors
    /// As [`LineFile::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::File(LineFile::open(path)?))
    }

    /// Every decision in the journal, oldest first. An item that is an error names the first line that is no decision;
    /// nothing comes behind it.
    pub fn decisions(&self) -> Box<dyn Iterator<Item = Result<JournalEntry>> + '_> {
        match self {
            Self::Memory(decisions) => Box::new(
                (0..)
                    .zip(decisions)
                    .map(|(at, decision)| Ok(JournalEntry { at, line: at + 1, decision: decision.clone() })),
            ),
            Self::File(file) => {
                let mut lines = file.lines();
                let mut ended = false;
                Box::new(std::iter::from_fn(move || {
                    while !ended {
                        let next = lines.next().transpose()?.and_then(|(place, text)| {
                            if text.trim_ascii().is_empty() {
                                return Ok(None);
                            }
                            let decision =
                                Decision::parse(&text).map_err(|problem| lines.problem(place, problem))?;
                            Ok(Some(JournalEntry { at: place.byte_offset, line: place.line, decision }))
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

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.file().map_or_else(|| PathBuf::from("memory"), |file| file.path().to_owned())
    }

    /// Puts a decision on record, durably. Gives the place to find it again.
    ///
    /// # Errors
    /// [`Error::Io`]: then the decision must not take effect, and the journal be opened anew.
    pub fn record(&mut self, decision: &Decision) -> Result<u64> {
        match self {
            Self::Memory(decisions) => {
                decisions.push(decision.clone());
                Ok(decisions.len() as u64 - 1)
            }
            Self::File(file) => {
                let place = file.append(decision)?;
                file.sync()?;
                Ok(place)
            }
        }
    }

    /// The decision at a place that [`Journal::replay`] or [`Journal::record`] gave.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none, or none any more.
    pub fn decision(&self, place: u64) -> Result<Decision> {
        let gone = |path: PathBuf, problem: String| Error::Refused { path, problem };
        match self {
            Self::Memory(decisions) => decisions
                .get(place as usize)
                .cloned()
                .ok_or_else(|| gone(PathBuf::from("memory"), format!("has no decision {place}"))),
            Self::File(file) => Decision::parse(&file.line_at(place)?)
                .map_err(|problem| gone(file.path().to_owned(), format!("byte {place}: {problem}"))),
        }
    }

    /// Leaves a file at the end of a whole line, see [`LineFile::mend`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn mend(&mut self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => file.mend(),
        }
    }

    /// The file, where it is in one.
    pub fn file(&self) -> Option<&LineFile> {
        match self {
            Self::Memory(_) => None,
            Self::File(file) => Some(file),
        }
    }
}
