//! What can be wrong with a line of a log.

use std::fmt;
use std::io;

/// What is wrong with a line, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The number of the event, counted from 1 at the start of the log.
    pub event: u64,
    /// Offset of its line in the log.
    pub byte_offset: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

/// The ways in which a line can be wrong. The first four are checked first, in this order, and
/// other programs read their texts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Its `schema_version` is not [`EVENT_SCHEMA`](crate::EVENT_SCHEMA).
    UnsupportedSchema,
    /// Its `event_index` is not one more than that of the previous event.
    NonSequentialIndex,
    /// Its `previous_checksum` is not the checksum of the previous event.
    ChainBreak,
    /// Its `checksum` is not the checksum of its content.
    ChecksumMismatch,
    /// Not JSON: the problem, and its byte offset in the line.
    NotJson(String, usize),
    /// Not UTF-8 from this byte of the line on.
    NotUtf8(usize),
    /// A JSON value of this kind instead of an object.
    NotAnObject(&'static str),
    /// A required field is missing.
    MissingField(&'static str),
    /// A field has the wrong type or an invalid value: the field, and the problem.
    WrongField(&'static str, String),
    /// A field that the format does not define.
    UnknownField(String),
    /// A valid event, but not the one that was synced at this index: the log was rewritten or
    /// replaced.
    ContradictsSyncMark,
    /// The event that was synced at this index is valid, but does not end where the sync mark in
    /// `bus.lock` records: the bytes up to it were replaced by another spelling of the same events.
    NotWhereSynced {
        /// The lines of the log end in CRLF, which this library never writes.
        crlf: bool,
    },
    /// Longer than [`MAX_LINE_BYTES`](crate::MAX_LINE_BYTES).
    LineTooLong,
    /// It is in a sealed segment that is missing or was changed: the file, and the problem.
    Segment(String, String),
    /// The log starts at this event, and the record of the retired events before it contradicts the
    /// chain: the problem.
    Retired(String),
}

impl std::error::Error for Fault {}

impl Fault {
    /// Returns the fault that a read of a sealed segment reports as a system error.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
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
            FaultKind::ContradictsSyncMark => {
                write!(f, "not the event that bus.lock remembers at event {event}")
            }
            FaultKind::NotWhereSynced { crlf } => {
                let cause = if *crlf { " (the lines end in CRLF instead of LF)" } else { "" };
                write!(
                    f,
                    "not where bus.lock remembers it at event {event}: the bytes of the log were replaced after they \
                     were synced{cause}; restore them, or delete bus.lock to accept the log as it is"
                )
            }
            FaultKind::Segment(file, problem) => {
                write!(f, "invalid segment at event {event}: {file}: {problem}")
            }
            FaultKind::Retired(problem) => {
                write!(f, "invalid record of retired events at event {event}: {problem}")
            }
            FaultKind::LineTooLong => write!(f, "line too long at event {event}: more than 16 MiB"),
        }
    }
}
