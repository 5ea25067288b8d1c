//! The error of this library. Its variants differ by what the caller does next.

use std::path::PathBuf;
use std::sync::Arc;

use zero_bus::{Checksum, Retired};

/// The error of a destination's own library.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong. A message names the destination without its secrets, the problem,
/// and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log cannot be read: see the error of the bus.
    #[error(transparent)]
    Bus(#[from] zero_bus::Error),
    /// The destination cannot be reached, or refuses for now: try again later. The outcome of the
    /// call is unknown; a batch may have been stored.
    #[error("{destination}: cannot {action}: {source}")]
    Unavailable {
        /// The destination, without its secrets.
        destination: String,
        /// What failed, as in "connect".
        action: &'static str,
        /// The error of the destination's library.
        source: Source,
    },
    /// The destination's cursor is not where the batch starts, because another mirror of the same
    /// bus has moved it: read the cursor again.
    #[error("{destination}: its cursor has moved: another mirror of this bus is writing to it")]
    CursorMoved {
        /// The destination.
        destination: String,
    },
    /// The destination holds another chain for this bus. Nothing was written; a person must decide
    /// which chain is right.
    #[error(
        "{destination}: holds another chain for bus {bus}: event {index} is the first that differs; one of the two \
         was rewritten, so compare them, and name another destination to keep both"
    )]
    Fork {
        /// The destination.
        destination: String,
        /// The bus.
        bus: Checksum,
        /// The first event that differs.
        index: u64,
    },
    /// The log is shorter than the mirror: it has lost its tail, or it was restored from an older
    /// copy.
    #[error(
        "{destination}: holds {mirrored} events of bus {bus}, but the log has only {events}: the log's tail is \
         missing; restore it from the mirror into an empty directory"
    )]
    LogShorter {
        /// The destination.
        destination: String,
        /// The bus.
        bus: Checksum,
        /// Events at the destination.
        mirrored: u64,
        /// Events in the log.
        events: u64,
    },
    /// The destination lacks events that were retired from the log. Nothing was written.
    #[error(
        "{destination}: ends at event {mirrored} of bus {bus}, but {retired}. Mirror that copy to it first, then the \
         log again"
    )]
    BehindRetired {
        /// The destination.
        destination: String,
        /// The bus.
        bus: Checksum,
        /// Events at the destination.
        mirrored: u64,
        /// What the log no longer has.
        retired: Arc<Retired>,
    },
    /// The log holds no event and there is no lock file, but the destination holds events: the log
    /// was emptied. The bus is unknown, since its id is the checksum of the first event.
    #[error(
        "{destination}: holds events, but {} is empty: the log was emptied; restore it from the mirror into an empty \
         directory, or delete the empty file if the bus is new", log.display()
    )]
    LogEmptied {
        /// The destination.
        destination: String,
        /// The log.
        log: PathBuf,
    },
    /// The log that was followed is no longer there.
    #[error(
        "{destination}: the log of bus {bus} {change} while it was followed; the destination holds {mirrored} of its \
         events. Restore the log from there, or run the command again to mirror the log that is there now"
    )]
    LogReplaced {
        /// The destination.
        destination: String,
        /// The bus that was followed.
        bus: Checksum,
        /// Events of this bus at the destination.
        mirrored: u64,
        /// What happened to the log.
        change: &'static str,
    },
    /// The destination's copy of the bus is damaged.
    #[error("{destination}: bus {bus}: {problem}")]
    Corrupt {
        /// The destination.
        destination: String,
        /// The bus.
        bus: Checksum,
        /// The first damaged event.
        index: u64,
        /// The damage. It names the event.
        problem: String,
    },
    /// The call cannot succeed until the address, the permissions or the settings are corrected.
    #[error("{destination}: {problem}")]
    Refused {
        /// The destination.
        destination: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Error {
    /// [`Error::Refused`] by a destination.
    pub fn refused(destination: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Refused { destination: destination.into(), problem: problem.into() }
    }

    /// [`Error::Unavailable`] for a destination.
    pub fn unavailable(
        destination: impl Into<String>,
        action: &'static str,
        source: impl Into<Source>,
    ) -> Self {
        Self::Unavailable { destination: destination.into(), action, source: source.into() }
    }
}

/// The library of the HTTP servers reports only what must be corrected.
#[cfg(any(feature = "http", feature = "ingest"))]
impl From<zero_http::Error> for Error {
    fn from(error: zero_http::Error) -> Self {
        Self::refused(error.subject, error.problem)
    }
}

/// The result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;
