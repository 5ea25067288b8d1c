//! Errors, one variant for each thing that the caller can do next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::canonical::JsonError;
use crate::fault::Fault;
use crate::head::Head;
use crate::retired::Retired;
use crate::storage::LockHolder;

/// Every error of this library.
///
/// A message states what failed, on which file, why, and what to do next. It is one line without a
/// final period.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused a file operation. A failed append has acknowledged no event. Fix the
    /// cause, then try again.
    #[error("cannot {}: {source}{}", insert_path(action, path), remedy(source))]
    Io {
        /// What failed, as a verb phrase. The word `it` stands for the file, as in `open it for
        /// reading`. If there is no such word, the file comes last, as in `append to`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The path does not lead to a bus. Name another path.
    #[error("cannot open {}: {reason}", path.display())]
    NotABus {
        /// The path that was given, or the log that was not found there.
        path: PathBuf,
        /// Why this is no bus.
        reason: String,
    },
    /// The draft cannot become an event. Correct it. Nothing of it was written.
    #[error("{field}: {reason}")]
    Invalid {
        /// The invalid field, such as `event_type`.
        field: &'static str,
        /// Why it is invalid.
        reason: String,
    },
    /// The log is damaged. The events before the fault are valid and can be read. The library
    /// returns no event after it and appends nothing. Restore the log from a backup or a mirror, or
    /// keep it as evidence and start a new bus.
    #[error("{}: {fault} (byte {} of the log); the events before it are valid. Restore the log from a backup or a mirror, \
             or keep it as evidence and start a new bus", path.display(), fault.byte_offset)]
    Damaged {
        /// The log.
        path: PathBuf,
        /// The first fault.
        fault: Fault,
    },
    /// The tail of the log is ambiguous: after an invalid line there are valid events, and none of
    /// these bytes is known to have been synced. A crash or tampering could have left them. The
    /// events before the fault can be read. The library cuts nothing and appends nothing, until an
    /// operator decides; see [`AmbiguousTail`](crate::AmbiguousTail).
    #[error("{}: {fault} (byte {} of the log), followed by valid events that may never have been synced: a crash or \
             tampering could have left this. Run `zero-bus repair` to quarantine it, or restore the log from a backup \
             or a mirror", path.display(), fault.byte_offset)]
    Ambiguous {
        /// The log.
        path: PathBuf,
        /// The fault that ends the valid part.
        fault: Fault,
    },
    /// The log is shorter than a file next to it records: its end is missing. The remaining events
    /// can be read, but nothing can be appended.
    #[error("{}: the log holds {events} events, but {recorded_in} records {recorded}: its end is missing. Restore the log, \
             or delete {recorded_in}{} to continue without the missing events", path.display(), and_file(*also_in))]
    Missing {
        /// The log.
        path: PathBuf,
        /// Events in the log.
        events: u64,
        /// Events that the log once held.
        recorded: u64,
        /// The file that records them.
        recorded_in: &'static str,
        /// Another file that records more events than the log holds, and so blocks appending as
        /// well.
        also_in: Option<&'static str>,
    },
    /// The events that were asked for were retired: they are no longer in the log. Read from
    /// [`Retired::first_held`] on, or read the copy that [`Retired::parts`] name.
    #[error("{}: {retired}", path.display())]
    Retired {
        /// The log.
        path: PathBuf,
        /// What was retired, and where it is kept.
        retired: Arc<Retired>,
    },
    /// The log is no longer the file that was opened, or was changed by another program.
    #[error("{}: {reason}", path.display())]
    Changed {
        /// The log.
        path: PathBuf,
        /// What changed, and what to do.
        reason: &'static str,
    },
    /// The head of the chain is not the one that
    /// [`Bus::append_expecting`](crate::Bus::append_expecting) expected. Nothing was appended. Read
    /// the events up to the actual head, then decide again.
    #[error("{}: nothing was appended, since the head is {actual}, not {expected}. Read the new events, then decide \
             again", path.display())]
    HeadMismatch {
        /// The log.
        path: PathBuf,
        /// The head that the caller expected.
        expected: Head,
        /// The head of the chain at the commit point.
        actual: Head,
    },
    /// Another process has held the bus's lock for so long that this one stopped waiting. Nothing
    /// was appended. Continue or end that process.
    #[error("{}: {} has held the lock for more than {} s. If it is stopped, continue it (kill -CONT) or end it; then try \
             again", path.display(), LockHolder::describe(holder.as_ref()), waited.as_secs_f64())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds the lock, if the system knows it.
        holder: Option<LockHolder>,
        /// How long this process waited.
        waited: Duration,
    },
    /// Another process is sealing the bus or retiring events. Nothing was done by this one. Try
    /// again later.
    #[error("{}: {} is sealing the bus; try again once it has finished", path.display(), LockHolder::describe(holder.as_ref()))]
    Sealing {
        /// The lock file of sealers.
        path: PathBuf,
        /// The process that seals, if the system knows it.
        holder: Option<LockHolder>,
    },
    /// An earlier write or sync on this handle failed, so the state of the log on disk is unknown.
    /// Open the bus again, which recovers the log.
    #[error("{}: an earlier write or sync failed, so this handle accepts no more events. Open the bus again", path.display())]
    Poisoned {
        /// The log.
        path: PathBuf,
    },
}

/// Returns a verb phrase with the path in place of `it`, or after the phrase.
fn insert_path(action: &str, path: &Path) -> String {
    let path = path.display();
    match action.split_once(" it") {
        Some((verb, rest)) if rest.is_empty() || rest.starts_with(' ') => format!("{verb} {path}{rest}"),
        _ => format!("{action} {path}"),
    }
}

/// Continues a list of files with one more, if there is one.
fn and_file(name: Option<&str>) -> String {
    name.map(|name| format!(" and {name}")).unwrap_or_default()
}

/// Returns what to do about a system error, if that is known.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ". Free some space and start again",
        io::ErrorKind::FileTooLarge => ". Raise the limit on file sizes and start again",
        io::ErrorKind::PermissionDenied => ". Run as the owner of the file, or change its permissions",
        io::ErrorKind::ReadOnlyFilesystem => ". Mount the file system for writing and start again",
        _ => "",
    }
}

impl Error {
    /// Returns a function for `map_err` that adds the action and the file to a system error. A
    /// segment that cannot be read is damage, unless it was retired.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match Fault::of(&source) {
            Some(fault) => Self::Damaged { path: path.to_owned(), fault: fault.clone() },
            None => match Retired::of(&source) {
                Some(retired) => Self::Retired { path: path.to_owned(), retired: Arc::clone(retired) },
                None => Self::Io { action, path: path.to_owned(), source },
            },
        }
    }

    /// Copies the error for another job of the same batch. Of the system error, only kind and text
    /// are kept.
    pub(crate) fn duplicate(&self) -> Self {
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
            Self::Missing { path, events, recorded, recorded_in, also_in } => Self::Missing {
                path: path.clone(),
                events: *events,
                recorded: *recorded,
                recorded_in,
                also_in: *also_in,
            },
            Self::Retired { path, retired } => {
                Self::Retired { path: path.clone(), retired: Arc::clone(retired) }
            }
            Self::Changed { path, reason } => Self::Changed { path: path.clone(), reason },
            Self::HeadMismatch { path, expected, actual } => {
                Self::HeadMismatch { path: path.clone(), expected: *expected, actual: *actual }
            }
            Self::Locked { path, holder, waited } => {
                Self::Locked { path: path.clone(), holder: holder.clone(), waited: *waited }
            }
            Self::Sealing { path, holder } => Self::Sealing { path: path.clone(), holder: holder.clone() },
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

/// The result type of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::Error;

    #[test]
    fn an_io_error_names_the_action_the_file_the_reason_and_the_remedy() {
        let log = Path::new("bus/events.jsonl");
        let message = |action, source: io::Error| Error::io(action, log)(source).to_string();
        assert_eq!(
            message("append to", io::Error::new(io::ErrorKind::StorageFull, "disk full")),
            "cannot append to bus/events.jsonl: disk full. Free some space and start again"
        );
        assert_eq!(
            message("open it for reading", io::Error::other("it is a directory")),
            "cannot open bus/events.jsonl for reading: it is a directory"
        );
        assert_eq!(message("read it", io::Error::other("no")), "cannot read bus/events.jsonl: no");
        assert_eq!(
            message("visit items of", io::Error::other("no")),
            "cannot visit items of bus/events.jsonl: no"
        );
    }
}
