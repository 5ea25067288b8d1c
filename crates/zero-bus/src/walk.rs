//! One walk over a log from its start, judging each line by the one before: what verification, the audit
//! document and the naming of damage are made of.

use std::io;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::chain::{Head, Line, is_unfinished};
use crate::fault::{Fault, FaultKind};
use crate::lines::Lines;

/// How far a walk is, handed to a progress callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes there are.
    pub bytes_total: u64,
}

/// The integrity verdict over a log: how far it is sound, and what ends the sound part.
///
/// Serializes as `{"events", "last_checksum", "ok", "reason"}`, with `byte_offset` where something is wrong
/// and `torn_bytes` where the tail is torn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// Where the sound part ends.
    pub head: Head,
    /// What follows it.
    pub finding: Finding,
}

/// What ends the sound part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The end of the log.
    Sound,
    /// A last line that was not finished: what a crash leaves. It is set aside when the bus is next opened
    /// for appending.
    Torn {
        /// Where it begins, in bytes from the start of the log.
        byte_offset: u64,
        /// How many bytes it has.
        bytes: u64,
    },
    /// A line that is wrong: damage or tampering.
    Fault(Fault),
}

impl Integrity {
    /// The verdict over a log that is not there.
    pub(crate) fn of_nothing() -> Self {
        Self { head: Head::default(), finding: Finding::Sound }
    }

    /// Whether the log is sound to its end.
    pub fn ok(&self) -> bool {
        self.finding == Finding::Sound
    }

    /// `ok`, or what is wrong, in the words that other programs read.
    pub fn reason(&self) -> String {
        match &self.finding {
            Finding::Sound => "ok".to_owned(),
            Finding::Torn { bytes, .. } => {
                format!("torn tail after event {}: {bytes} bytes of an unfinished line", self.head.index)
            }
            Finding::Fault(fault) => fault.to_string(),
        }
    }
}

impl Serialize for Integrity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.finding {
            Finding::Sound => {}
            Finding::Torn { byte_offset, bytes } => {
                map.serialize_entry("byte_offset", byte_offset)?;
                map.serialize_entry("torn_bytes", bytes)?;
            }
            Finding::Fault(fault) => map.serialize_entry("byte_offset", &fault.byte_offset)?,
        }
        map.serialize_entry("events", &self.head.index)?;
        map.serialize_entry("last_checksum", &self.head.checksum)?;
        map.serialize_entry("ok", &self.ok())?;
        map.serialize_entry("reason", &self.reason())?;
        map.end()
    }
}

/// Walks a log from its start. `each` gets every line that has the shape of an event, counted from 1, also
/// those behind the first fault, which are no longer judged.
pub(crate) fn walk(
    mut lines: Lines,
    mut each: impl FnMut(u64, &Line<'_>) -> io::Result<()>,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<Integrity> {
    let mut head = Head::default();
    let mut fault = None;
    let mut torn = None;
    let mut seen = 0;
    let bytes_total = lines.end();
    let mut reported = 0;
    while let Some(found) = lines.next()? {
        let (byte_offset, length) = (found.offset, found.length);
        let judged = match found.bytes {
            _ if !found.terminated && is_unfinished(found.bytes) => {
                torn = Some(Finding::Torn { byte_offset, bytes: length });
                break;
            }
            None => Err(FaultKind::LineTooLong),
            Some(bytes) => match Line::read(bytes) {
                Ok(line) => {
                    seen += 1;
                    each(seen, &line)?;
                    if fault.is_none() { line.follows(head) } else { Ok(head) }
                }
                Err(kind) => Err(kind),
            },
        };
        match judged {
            Ok(next) => head = next,
            Err(kind) => {
                fault.get_or_insert(Fault { event: head.index + 1, byte_offset, kind });
            }
        }
        if byte_offset - reported >= 1 << 20 {
            reported = byte_offset;
            progress(Progress { bytes: byte_offset, bytes_total });
        }
    }
    progress(Progress { bytes: bytes_total, bytes_total });
    let finding = fault.map(Finding::Fault).or(torn).unwrap_or(Finding::Sound);
    Ok(Integrity { head, finding })
}
