//! The audit document: everything a bus holds as one JSON object, made from disk alone and streamed, so that
//! its memory does not grow with the log.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::canonical::Json;
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::snapshot::{Located, Snapshot};
use crate::verify::Verdict;
use crate::walk::Progress;

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

impl Reader {
    /// Writes the audit document in canonical form, without a line break: every event in its order, both
    /// verdicts, the counts, and the snapshot. A damaged log is written too, as far as its lines are events,
    /// with the verdict that says so.
    ///
    /// Costs one pass over the log; memory for one block, one line and the snapshot.
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
        mut out: impl Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Verdict, Summary), AuditError> {
        let snapshot = Snapshot::read(self.storage())?;
        let mut at_snapshot = Located::of(&snapshot);
        let mut summary = Summary::default();
        let mut unwritten = out.write_all(br#"{"events":["#).err();
        let walked = self.walk(
            |nth, line| {
                at_snapshot.see(nth, line);
                summary.events = nth;
                let event_type = line.event_type();
                match summary.event_types.get_mut(&*event_type) {
                    Some(count) => *count += 1,
                    None => drop(summary.event_types.insert(event_type.into_owned(), 1)),
                }
                let separator: &[u8] = if nth > 1 { b"," } else { b"" };
                let written =
                    out.write_all(separator).and_then(|()| out.write_all(line.canonical().as_bytes()));
                written.map_err(|error| {
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
