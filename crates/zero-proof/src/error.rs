//! Errors, sorted by what the caller does next.

use std::fmt;

/// Every error of the pure part of this library.
///
/// A message states what failed and where. It is one line without a final period and contains no
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text or file does not have its form. Nothing of it was used.
    #[error("{what}, {position}: {problem}")]
    Malformed {
        /// The form that was expected, such as `signed note`.
        what: &'static str,
        /// Where the form is violated.
        position: Position,
        /// How it is violated.
        problem: String,
    },
    /// A value that the caller passed cannot be used. Correct the call.
    #[error("{what}: {problem}")]
    Invalid {
        /// The value, such as `leaf index`.
        what: &'static str,
        /// Why it cannot be used.
        problem: String,
    },
    /// A key that the verifier knows has not made the signature that bears its name and id. Such a
    /// note proves nothing.
    #[error("signature {number} is not by the key that it names, {key}")]
    BadSignature {
        /// Counts the signatures of the note from 1.
        number: usize,
        /// Name and id of the key.
        key: String,
    },
    /// None of the known keys has signed. The verifier needs another key, or the signer must sign.
    #[error("none of the known keys has signed{}", known(keys))]
    NotSigned {
        /// Name and id of each known key.
        keys: Vec<String>,
    },
    /// The policy does not list the log.
    #[error("the policy lists no log with the origin `{origin}`")]
    UnknownLog {
        /// The origin of the checkpoint.
        origin: String,
    },
    /// Too few witnesses have cosigned.
    #[error("the checkpoint does not meet the quorum `{quorum}`; cosigned by: {}", list(cosigned_by))]
    QuorumNotMet {
        /// The name in the policy's quorum line.
        quorum: String,
        /// The policy's names of the witnesses that have cosigned.
        cosigned_by: Vec<String>,
    },
    /// The inclusion path does not lead from the leaf to the root.
    #[error("the inclusion path does not lead from leaf {index} to the root of the {size} leaves")]
    NotIncluded {
        /// The leaf, counted from 0.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The larger tree does not extend the smaller one, or the proof of it is wrong.
    #[error("the tree of {size} leaves is not proven to extend the tree of {old_size} leaves")]
    Inconsistent {
        /// Leaves of the smaller tree.
        old_size: u64,
        /// Leaves of the larger tree.
        size: u64,
    },
    /// The log does not hold what a proof claims: a disclosure has no digest in the entry.
    #[error("event {event_index}: the entry has no digest of disclosure {number}, `{name}`")]
    NotCommitted {
        /// The event.
        event_index: u64,
        /// Counts the disclosures of the event from 1.
        number: usize,
        /// The name of the disclosed field.
        name: String,
    },
    /// A track record withholds a field from one event that it discloses for other events of the
    /// same type.
    #[error(
        "event {event_index} of type `{event_type}`: `{name}` is disclosed for other events of this type, \
         but not for this one, nor is its absence proven"
    )]
    Withheld {
        /// The event.
        event_index: u64,
        /// Its type.
        event_type: String,
        /// The name of the field.
        name: String,
    },
    /// The leaves of a track record do not lead to the root that the checkpoint states.
    #[error("events {first} to {last} do not lead to the root of the {size} leaves")]
    RootMismatch {
        /// The first event of the record.
        first: u64,
        /// The last event of the record.
        last: u64,
        /// Leaves of the tree.
        size: u64,
    },
}

/// The result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A position in a text or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// A line, counted from 1.
    Line(u64),
    /// A byte offset, counted from 0.
    Byte(u64),
}

impl Error {
    pub(crate) fn malformed(what: &'static str, position: Position, problem: impl Into<String>) -> Self {
        Self::Malformed { what, position, problem: problem.into() }
    }

    pub(crate) fn at_line(what: &'static str, line: u64, problem: impl Into<String>) -> Self {
        Self::malformed(what, Position::Line(line), problem)
    }

    pub(crate) fn at_byte(what: &'static str, offset: usize, problem: impl Into<String>) -> Self {
        Self::malformed(what, Position::Byte(offset as u64), problem)
    }

    pub(crate) fn invalid(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { what, problem: problem.into() }
    }

    /// The same error for a text that begins after `lines` lines of a larger one.
    pub(crate) fn after_lines(self, lines: u64) -> Self {
        match self {
            Self::Malformed { what, position: Position::Line(line), problem } => {
                Self::at_line(what, lines + line, problem)
            }
            other => other,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Byte(offset) => write!(f, "byte {offset}"),
        }
    }
}

fn known(keys: &[String]) -> String {
    if keys.is_empty() { String::new() } else { format!(": {}", keys.join(", ")) }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
