//! What can go wrong, sorted by what the caller does next.

use zero_bus::Checksum;

/// What a destination's own library reports.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Everything this library reports. Messages name the destination without its secrets, the place, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bus can't be read: see what it says.
    #[error(transparent)]
    Bus(#[from] zero_bus::Error),
    /// The destination is away, or said no for now: try again later. What was on its way may have arrived.
    #[error("{destination}: cannot {action}: {source}")]
    Unavailable {
        /// The destination, without its secrets.
        destination: String,
        /// What was being done, as in "connect".
        action: &'static str,
        /// What its library says.
        source: Source,
    },
    /// The destination does not stand where the batch was to be put: somebody else mirrors the same bus. Ask again where
    /// it stands.
    #[error("{destination}: stands elsewhere than was thought: somebody else mirrors this bus too")]
    CursorMoved {
        /// The destination.
        destination: String,
    },
    /// The destination holds another chain for this bus: nothing is written, a person has to look.
    #[error(
        "{destination}: holds another chain for bus {bus}: event {index} is the first that differs; one of the two \
             was written anew, so compare them, and name another destination to keep both"
    )]
    Fork {
        /// The destination.
        destination: String,
        /// The bus.
        bus: Checksum,
        /// The first event that differs.
        index: u64,
    },
    /// The log is shorter than the mirror: its tail is missing, or it was restored from an older copy.
    #[error(
        "{destination}: holds {mirrored} events of bus {bus}, but the log has only {events}: its tail is missing; \
             restore it from the mirror into an empty directory"
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
    /// What the destination holds is no sound chain.
    #[error("{destination}: bus {bus}: {problem}")]
    Corrupt {
        /// The destination.
        destination: String,
        /// The bus.
        bus: Checksum,
        /// The first event that is wrong.
        index: u64,
        /// What is wrong with it; it is named in there.
        problem: String,
    },
    /// It can't be done so: mend the address, the rights or the settings that are named.
    #[error("{destination}: {problem}")]
    Refused {
        /// The destination.
        destination: String,
        /// What is wrong, and the way out.
        problem: String,
    },
}

/// This library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// [`Error::Refused`] for a destination.
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
