//! Errors of what touches files, sorted by what the caller does next.

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
        /// The file that records their size.
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
