//! What can be wrong with a line of a log.

use std::fmt;

/// What is wrong with a line, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which event, counted from 1 at the start of the log.
    pub event: u64,
    /// Where its line begins: bytes from the start of the log.
    pub byte_offset: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

/// The ways in which a line can be wrong. The first four are judged first, in this order, and have the texts
/// that other programs read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Its `schema_version` is another one.
    UnsupportedSchema,
    /// Its `event_index` is not one more than the one before.
    NonSequentialIndex,
    /// Its `previous_checksum` is not the checksum of the event before.
    ChainBreak,
    /// Its `checksum` is not that of its content.
    ChecksumMismatch,
    /// Not JSON: the problem, and the byte of the line it was found at.
    NotJson(String, usize),
    /// Not UTF-8, from this byte of the line on.
    NotUtf8(usize),
    /// JSON, but of this kind instead of an object.
    NotAnObject(&'static str),
    /// A field that every event has is not there.
    MissingField(&'static str),
    /// A field is not what the format says: what it is, and what it should be.
    WrongField(&'static str, String),
    /// A field that the format does not know.
    UnknownField(String),
    /// Sound, but not the event that was synced in its place: the log was written anew, or another put in its place.
    NotTheSynced,
    /// Longer than [`MAX_LINE_BYTES`](crate::MAX_LINE_BYTES).
    LineTooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event;
        match &self.kind {
            FaultKind::UnsupportedSchema => write!(f, "unsupported schema at event {event}"),
            FaultKind::NonSequentialIndex => write!(f, "non-sequential event index at event {event}"),
            FaultKind::ChainBreak => write!(f, "checksum chain break at event {event}"),
            FaultKind::ChecksumMismatch => write!(f, "checksum mismatch at event {event}"),
            FaultKind::NotJson(problem, at) => {
                write!(f, "not JSON at event {event}: {problem} (byte {at} of the line)")
            }
            FaultKind::NotUtf8(at) => write!(f, "not UTF-8 at event {event} (byte {at} of the line)"),
            FaultKind::NotAnObject(kind) => write!(f, "not an object at event {event}: {kind}"),
            FaultKind::MissingField(field) => write!(f, "missing field `{field}` at event {event}"),
            FaultKind::WrongField(field, problem) => {
                write!(f, "wrong field `{field}` at event {event}: {problem}")
            }
            FaultKind::UnknownField(field) => {
                write!(f, "unknown field `{}` at event {event}", field.escape_debug())
            }
            FaultKind::NotTheSynced => write!(f, "not the event that bus.lock remembers at event {event}"),
            FaultKind::LineTooLong => write!(f, "line too long at event {event}: more than 16 MiB"),
        }
    }
}
