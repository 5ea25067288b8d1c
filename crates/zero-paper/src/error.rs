//! What can go wrong, sorted by what the caller does next.

use std::io;
use std::path::{Path, PathBuf};

/// Everything this library reports. Messages name the file, the place in it and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The scenario cannot be run: mend it.
    #[error("{}: {problem}", path.display())]
    Scenario {
        /// The scenario file.
        path: PathBuf,
        /// The field (`orders[2].quantity`) and what is wrong with it.
        problem: String,
    },
    /// A journal holds what it should not: a line that is no record, or one that contradicts another.
    #[error("{}: line {line} (byte {byte_offset}): {problem}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Which line, counted from 1.
        line: u64,
        /// Where it begins, in bytes from the start.
        byte_offset: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Something stands in the way of the run, and what to do about it.
    #[error("{}: {problem}", path.display())]
    Refused {
        /// What stands in the way.
        path: PathBuf,
        /// Why, and the way out.
        problem: String,
    },
    /// The engine cannot take the order at all, as its numbers leave what a double can hold.
    #[error("{symbol}: {problem}")]
    Order {
        /// The order's symbol.
        symbol: String,
        /// What is wrong.
        problem: String,
    },
    /// The system refused a file operation.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The bus refused.
    #[error(transparent)]
    Bus(#[from] zero_bus::Error),
}

impl Error {
    /// Puts the file and the action to a system error; for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl From<zero_bus::JsonError> for Error {
    fn from(error: zero_bus::JsonError) -> Self {
        Self::Bus(error.into())
    }
}

/// This library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
