//! The audit document: everything a bus holds as one JSON object, made from disk alone and streamed, so that
//! its memory does not grow with the log.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;

use serde::Serialize;

use crate::canonical::Json;
use crate::chain::Line;
use crate::chunk;
use crate::error::{Error, Result};
use crate::integrity::Progress;
use crate::reader::Reader;
use crate::snapshot::{LogAtSnapshot, Snapshot};
use crate::verify::Verdict;

/// The `schema_version` of every audit document.
pub const AUDIT_SCHEMA: &str = "zero.runtime.audit.v1";

/// How many events there are, also those behind a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Count by type.
    pub event_types: BTreeMap<String, u64>,
    /// All of them.
    pub events: u64,
}

/// What a part of the log comes to.
#[derive(Default)]
struct Part {
    pieces: Vec<Piece>,
    /// Where, in the lines as they stand in the log, one ends behind which the piece goes on.
    breaks: Vec<usize>,
    event_types: BTreeMap<String, u64>,
    at_snapshot: LogAtSnapshot,
}

/// Events as they stand in the document, but for what is between them.
enum Piece {
    /// These lines, as they stand in the log.
    AsFound(Range<usize>),
    /// One that is spelled differently there.
    Respelled(Vec<u8>),
}

impl Part {
    fn see(&mut self, wanted: u64, nth: u64, line: &Line<'_>, place: Option<usize>) {
        self.at_snapshot.observe(wanted, nth, line);
        let event_type = line.event_type();
        match self.event_types.get_mut(&*event_type) {
            Some(count) => *count += 1,
            None => drop(self.event_types.insert(event_type.into_owned(), 1)),
        }
        let canonical = line.canonical();
        match (place, self.pieces.last_mut()) {
            (Some(begin), Some(Piece::AsFound(piece))) if piece.end + 1 == begin => {
                self.breaks.push(piece.end);
                piece.end = begin + canonical.len();
            }
            (Some(begin), _) => self.pieces.push(Piece::AsFound(begin..begin + canonical.len())),
            (None, _) => self.pieces.push(Piece::Respelled(canonical.to_owned())),
        }
    }

    /// Writes the events behind others, taking them out.
    fn write(&mut self, lines: &mut [u8], begun: &mut bool, out: &mut impl Write) -> io::Result<()> {
        for line_break in self.breaks.drain(..) {
            lines[line_break] = b',';
        }
        for piece in self.pieces.drain(..) {
            if std::mem::replace(begun, true) {
                out.write_all(b",")?;
            }
            out.write_all(match &piece {
                Piece::AsFound(place) => &lines[place.clone()],
                Piece::Respelled(line) => line,
            })?;
        }
        Ok(())
    }
}

impl Reader {
    /// Writes the audit document in canonical form, without a line break: every event in its order, both
    /// verdicts, the counts, and the snapshot. A damaged log is written too, as far as its lines are events,
    /// with the verdict that says so.
    ///
    /// Costs one pass over the log on as many threads as [`Reader::verify`] takes; memory for a mebibyte and the rest
    /// of a line each, for lines that are spelled differently, and for the snapshot.
    ///
    /// # Errors
    /// [`AuditError`], which tells whether reading the bus or writing the document failed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let bus = zero_bus::Bus::open(dir.path())?;
    /// let mut document = Vec::new();
    /// let (verdict, summary) = bus.reader().audit(&mut document, &mut |_| {})?;
    /// assert!(verdict.ok() && summary.events == 0);
    /// assert!(document.starts_with(br#"{"events":[],"integrity":"#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn audit(
        &self,
        mut out: impl Write + Send,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Verdict, Summary), AuditError> {
        let snapshot = Snapshot::read(self.storage())?;
        let wanted = snapshot.event_count();
        let mut at_snapshot = LogAtSnapshot::default();
        let mut summary = Summary::default();
        let mut begun = false;
        let mut unwritten = out.write_all(br#"{"events":["#).err();
        let walked = self.walk(
            chunk::all_threads(),
            |part: &mut Part, nth, line, place| part.see(wanted, nth, line, place),
            |part: &mut Part, lines| {
                summary.events = part.at_snapshot.events;
                at_snapshot.merge(std::mem::take(&mut part.at_snapshot));
                for (event_type, count) in std::mem::take(&mut part.event_types) {
                    *summary.event_types.entry(event_type).or_default() += count;
                }
                part.write(lines, &mut begun, &mut out).map_err(|error| {
                    unwritten.get_or_insert(error);
                    io::Error::other("the document cannot be written")
                })
            },
            progress,
        );
        if let Some(error) = unwritten {
            return Err(AuditError::Write(error));
        }
        let verdict = Verdict { integrity: walked?, snapshot_integrity: snapshot.integrity(&at_snapshot) };
        let members = |verdict: &Verdict, summary: &Summary| -> Result<String> {
            Ok(format!(
                r#"],"integrity":{},"schema_version":"{AUDIT_SCHEMA}","snapshot":{},"snapshot_integrity":{},"source":"durable-runtime-bus","summary":{}}}"#,
                Json::of(&verdict.integrity)?,
                snapshot.canonical(),
                Json::of(&verdict.snapshot_integrity)?,
                Json::of(summary)?,
            ))
        };
        let rest = members(&verdict, &summary)?;
        out.write_all(rest.as_bytes()).and_then(|()| out.flush()).map_err(AuditError::Write)?;
        Ok((verdict, summary))
    }
}

/// Why there is no audit document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The bus cannot be read.
    #[error(transparent)]
    Bus(#[from] Error),
    /// The document cannot be written.
    #[error("cannot write the audit document: {0}")]
    Write(#[source] io::Error),
}
