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

impl Journal {
    /// Opens a journal file.
    ///
    /// # Errors
    /// As [`LineFile::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::File(LineFile::open(path)?))
    }

    /// Hands every decision in the journal to somebody, oldest first, with the place to find it again.
    ///
    /// # Errors
    /// [`Error::Journal`] naming the first line that is no decision.
    pub fn replay(&self, mut each: impl FnMut(u64, Decision) -> Result<(), String>) -> Result<()> {
        match self {
            Self::Memory(decisions) => {
                for (place, decision) in decisions.iter().enumerate() {
                    each(place as u64, decision.clone())
                        .map_err(|problem| Error::Refused { path: PathBuf::from("memory"), problem })?;
                }
            }
            Self::File(file) => {
                let mut lines = file.lines();
                while let Some((place, text)) = lines.next()? {
                    if text.trim_ascii().is_empty() {
                        continue;
                    }
                    Decision::parse(&text)
                        .and_then(|decision| each(place.byte_offset, decision))
                        .map_err(|problem| lines.problem(place, problem))?;
                }
            }
        }
        Ok(())
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
