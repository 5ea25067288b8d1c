//! Errors of what touches files, sorted by what the caller does next.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::Error;

/// Every error of the tile store and the checkpoint state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused a file operation. Fix the cause, then try again.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What failed, as a verb phrase that the path completes.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Bus(#[from] zero_bus::Error),
    /// The arguments, or the content of a file, cannot be used.
    #[error(transparent)]
    Proof(#[from] Error),
    /// The tiles are damaged. Delete them; they are rebuilt from the log.
    #[error("{}: the tiles are damaged; delete them, and they are rebuilt from the log", path.display())]
    DamagedTiles {
        /// The file in which it was noticed.
        path: PathBuf,
    },
    /// The log is not the one that was signed: it was truncated, rewritten or restored from an
    /// older copy. Nothing was signed.
    #[error(
        "the log does not extend the last signed checkpoint, of {signed} events: {}; it was truncated, rewritten or \
         restored from an older copy. Restore the log, or give a new log a new origin and key",
        describe_difference(*first_difference)
    )]
    LogChanged {
        /// Events of the last signed checkpoint.
        signed: u64,
        /// The first event that differs or is missing. `None` if the tiles that would tell it are
        /// missing or damaged.
        first_difference: Option<u64>,
    },
    /// The same. The tiles of the signed log are missing; smaller checkpoints tell what is known.
    #[error(
        "the log does not extend the last signed checkpoint, of {signed} events: {difference}; it was truncated, rewritten \
         or restored from an older copy. Restore the log, or give a new log a new origin and key"
    )]
    LogDiffers {
        /// Events of the last signed checkpoint.
        signed: u64,
        /// The first event that differs or is missing, as far as it is known.
        difference: Difference,
    },
    /// With this secret, the log has another tree than the one that was signed. Nothing was signed.
    #[error(
        "with this secret, the first {signed} events have another tree than the signed one: the secret is that of \
         another bus, the log was rewritten, or an event was changed in place (`zero-bus verify --policy` tells)"
    )]
    OtherTree {
        /// Events of the last signed checkpoint.
        signed: u64,
    },
}

/// How a log differs from a checkpoint that was signed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The log ends before this event, or is damaged there.
    Missing {
        /// The first event that it lacks.
        event: u64,
        /// The events up to this one are those that were signed. Those after it are not compared.
        equal: u64,
    },
    /// The first event that differs is one of these.
    Between {
        /// Those before it are the ones that were signed.
        first: u64,
        /// The size of a checkpoint that the log does not lead to.
        last: u64,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { event, equal } if equal + 1 == *event => {
                write!(f, "event {event} is missing or damaged, and those before it are the signed ones")
            }
            Self::Missing { event, equal: 0 } => {
                write!(
                    f,
                    "event {event} is missing or damaged, and no smaller checkpoint shows whether others differ"
                )
            }
            Self::Missing { event, equal } => write!(
                f,
                "event {event} is missing or damaged; events 1 to {equal} are the signed ones, and no checkpoint shows \
                 whether those between differ"
            ),
            Self::Between { first, last } if first == last => write!(f, "event {first} differs"),
            Self::Between { first, last } => {
                write!(
                    f,
                    "events 1 to {} are the signed ones, and the first that differs is one of {first} to {last}",
                    first - 1
                )
            }
        }
    }
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path, source }
    }
}

fn describe_difference(first_difference: Option<u64>) -> String {
    match first_difference {
        Some(index) => format!("event {index} differs or is missing"),
        None => "which event differs is unknown without tiles of the signed log, but `zero-bus verify --policy` tells \
                 between which checkpoints it is"
            .to_owned(),
    }
}
