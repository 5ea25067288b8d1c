//! The audit document: everything a bus holds as one JSON object, built from disk alone.
//!
//! It is streamed, so its memory does not grow with the log. Events are copied from the text that
//! was just verified, without being serialized again.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use crate::canonical::Json;
use crate::chain::Line;
use crate::chunk;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::integrity::Progress;
use crate::reader::Reader;
use crate::snapshot::{LogAtSnapshot, Snapshot};
use crate::verify::Verdict;

/// The `schema_version` of every audit document.
pub const AUDIT_SCHEMA: &str = "zero.runtime.audit.v1";

/// Event counts of a log, including the events after a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Number of events by type.
    pub event_types: BTreeMap<String, u64>,
    /// Number of all events.
    pub events: u64,
}

/// The audit of one chunk, before it is merged into the document.
#[derive(Default)]
struct ChunkAudit {
    pieces: Vec<Piece>,
    /// Positions in the text of the chunk of line breaks within a piece. They become commas.
    line_breaks: Vec<usize>,
    event_types: BTreeMap<String, u64>,
    at_snapshot: LogAtSnapshot,
}

/// Consecutive events of the document, without the comma after the last one.
enum Piece {
    /// Range of canonical lines in the text of the chunk.
    AsFound(Range<usize>),
    /// The canonical form of one line that is not canonical in the log.
    Canonical(Vec<u8>),
}

impl ChunkAudit {
    /// Adds an event. `line_start` is the position of its line in the text of the chunk, if it is
    /// canonical there.
    fn add(&mut self, snapshot_events: u64, number: u64, line: &Line<'_>, line_start: Option<usize>) {
        self.at_snapshot.observe(snapshot_events, number, line);
        let event_type = line.event_type();
        match self.event_types.get_mut(&*event_type) {
            Some(count) => *count += 1,
            None => drop(self.event_types.insert(event_type.into_owned(), 1)),
        }
        let canonical = line.canonical();
        match (line_start, self.pieces.last_mut()) {
            (Some(start), Some(Piece::AsFound(piece))) if piece.end + 1 == start => {
                self.line_breaks.push(piece.end);
                piece.end = start + canonical.len();
            }
            (Some(start), _) => self.pieces.push(Piece::AsFound(start..start + canonical.len())),
            (None, _) => self.pieces.push(Piece::Canonical(canonical.to_owned())),
        }
    }

    /// Writes the events and empties the collector. `text` is the text of the chunk. `has_events`
    /// is whether the document already holds an event.
    fn write(&mut self, text: &mut [u8], has_events: &mut bool, out: &mut impl Write) -> io::Result<()> {
        for line_break in self.line_breaks.drain(..) {
            text[line_break] = b',';
        }
        for piece in self.pieces.drain(..) {
            if std::mem::replace(has_events, true) {
                out.write_all(b",")?;
            }
            out.write_all(match &piece {
                Piece::AsFound(range) => &text[range.clone()],
                Piece::Canonical(line) => line,
            })?;
        }
        Ok(())
    }
}

impl Reader {
    /// Writes the audit document in canonical form, without a line break at its end: every event in
    /// order, both verdicts, the counts and the snapshot.
    ///
    /// The document of a damaged log holds every line that is an event, also after the fault, and
    /// the verdict that names the fault.
    ///
    /// Costs one pass over the log, on as many threads as [`Reader::verify`] uses and with as much
    /// memory for each; and memory for the snapshot.
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
        // Read before the log, so that the log holds every event that the snapshot refers to.
        let snapshot = Snapshot::read(self.storage())?;
        let snapshot_events = snapshot.event_count();
        let mut at_snapshot = LogAtSnapshot::default();
        let mut summary = Summary::default();
        let mut has_events = false;
        let mut write_error = out.write_all(br#"{"events":["#).err();
        let scanned = self.scan(
            chunk::available_threads(),
            |chunk: &mut ChunkAudit, number, line, line_start| {
                chunk.add(snapshot_events, number, line, line_start);
            },
            |chunk: &mut ChunkAudit, text| {
                summary.events = chunk.at_snapshot.events;
                at_snapshot.merge(std::mem::take(&mut chunk.at_snapshot));
                for (event_type, count) in std::mem::take(&mut chunk.event_types) {
                    *summary.event_types.entry(event_type).or_default() += count;
                }
                chunk.write(text, &mut has_events, &mut out).map_err(|error| {
                    write_error.get_or_insert(error);
                    io::Error::other("the document cannot be written")
                })
            },
            progress,
        );
        if let Some(error) = write_error {
            return Err(AuditError::Write(error));
        }
        let (integrity, retired) = scanned?;
        at_snapshot.start = retired.as_ref().map_or(Head::default(), |retired| retired.head());
        // Up to here it is the index of the last event.
        summary.events = summary.events.saturating_sub(at_snapshot.start.index);
        let snapshot_integrity = snapshot.integrity(&at_snapshot);
        let verdict = Verdict { integrity, snapshot_integrity, retired: retired.map(Arc::unwrap_or_clone) };
        let members = |verdict: &Verdict, summary: &Summary| -> Result<String> {
            let retired = match &verdict.retired {
                Some(retired) => format!(r#""retired":{},"#, Json::of(retired)?),
                None => String::new(),
            };
            Ok(format!(
                r#"],"integrity":{},{retired}"schema_version":"{AUDIT_SCHEMA}","snapshot":{},"snapshot_integrity":{},"source":"durable-runtime-bus","summary":{}}}"#,
                Json::of(&verdict.integrity)?,
                snapshot.canonical(),
                Json::of(&verdict.snapshot_integrity)?,
                Json::of(summary)?,
            ))
        };
        let after_events = members(&verdict, &summary)?;
        out.write_all(after_events.as_bytes()).and_then(|()| out.flush()).map_err(AuditError::Write)?;
        Ok((verdict, summary))
    }
}

/// Why an audit document was not written.
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
