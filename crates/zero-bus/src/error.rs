//! What can go wrong, sorted by what the caller does next.

use std::io;
use std::path::{Path, PathBuf};

use crate::canonical::JsonError;
use crate::fault::Fault;

/// Everything this library reports. Messages name the file, the place in it and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused a file operation: mend the environment and try again. An append that ends so
    /// has acknowledged nothing.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was being done, as in "open it for reading".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path does not lead to a bus: name another one.
    #[error("{}: {reason}", path.display())]
    NotABus {
        /// What was named.
        path: PathBuf,
        /// Why it is none.
        reason: String,
    },
    /// What the producer handed in cannot become an event: mend it. Nothing of it was written.
    #[error("{field}: {reason}")]
    Invalid {
        /// The part at fault, as in `event_type`.
        field: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// The log is damaged: everything before the fault is sound, and nothing behind it is given out. Where opening
    /// for appending finds this, it is refused. Restore the log from a mirror or a backup, or keep it as evidence
    /// and begin a new bus.
    #[error("{}: {fault} (byte {} of the log); what is before it is sound; restore the log, or keep it as evidence and \
             begin a new bus", path.display(), fault.byte_offset)]
    Damaged {
        /// The log.
        path: PathBuf,
        /// The first fault.
        fault: Fault,
    },
    /// Behind the sound part stand bytes of which nobody can tell whether a crash left them, and sound events
    /// behind those: everything before them can be read, nothing is cut, nothing can be appended until somebody
    /// who knows decides.
    #[error("{}: {fault} (byte {}), and sound events behind it, none of which is known to have been synced: a crash may \
             have left this, or somebody; the events before it can be read, appending is refused until it is \
             repaired", path.display(), fault.byte_offset)]
    Ambiguous {
        /// The log.
        path: PathBuf,
        /// Where the sound part ends.
        fault: Fault,
    },
    /// The log is shorter than what is remembered of it: its tail is missing. What is there can be read, nothing can be
    /// appended.
    #[error("{}: holds {events} events, but {witness} remembers {remembered}: its tail is missing; restore it, or remove \
             {witness} beside it to go on without", path.display())]
    Missing {
        /// The log.
        path: PathBuf,
        /// The events it holds.
        events: u64,
        /// The events it held.
        remembered: u64,
        /// The file beside it that remembers.
        witness: &'static str,
    },
    /// The log is not the one it was: shortened, replaced, or written anew by something else.
    #[error("{}: {reason}", path.display())]
    Changed {
        /// The log.
        path: PathBuf,
        /// What is different, and the way out.
        reason: &'static str,
    },
    /// An earlier write or sync on this handle failed, so that what it would build on is unknown. Open the
    /// bus again: that judges the tail afresh.
    #[error("{}: an earlier write or sync failed, so nothing more is acknowledged here; open the bus again", path.display())]
    Poisoned {
        /// The log.
        path: PathBuf,
    },
}

impl Error {
    /// Puts the file and the action to a system error; for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// The same error for another one who ran into it.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Io { action, path, source } => Self::Io {
                action,
                path: path.clone(),
                source: io::Error::new(source.kind(), source.to_string()),
            },
            Self::NotABus { path, reason } => Self::NotABus { path: path.clone(), reason: reason.clone() },
            Self::Invalid { field, reason } => Self::Invalid { field, reason: reason.clone() },
            Self::Damaged { path, fault } => Self::Damaged { path: path.clone(), fault: fault.clone() },
            Self::Ambiguous { path, fault } => Self::Ambiguous { path: path.clone(), fault: fault.clone() },
            Self::Missing { path, events, remembered, witness } => {
                Self::Missing { path: path.clone(), events: *events, remembered: *remembered, witness }
            }
            Self::Changed { path, reason } => Self::Changed { path: path.clone(), reason },
            Self::Poisoned { path } => Self::Poisoned { path: path.clone() },
        }
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }
}

impl From<JsonError> for Error {
    fn from(error: JsonError) -> Self {
        Self::Invalid { field: "payload", reason: error.to_string() }
    }
}

/// This library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
