//! Compares a journal with a bus without changing either, whatever kind of run they belong to.

use std::path::Path;

use zero_bus::{Reader, Value};

use crate::error::Result;
use crate::journal::MARKET_JOURNAL_SCHEMA;
use crate::line_file::LineFile;
use crate::market::journal_check;
use crate::market::reader::is_market_bus;
use crate::reconcile;

/// The state of a journal relative to a bus. A runtime may be writing to both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalState {
    /// What an entry of the journal is: `decision` in the run of a scenario, `cycle` in a run on
    /// market data.
    pub entry: &'static str,
    /// Number of entries in the journal.
    pub entries: u64,
    /// Number of entries that are not on the bus. A runtime that is in the middle of a cycle has
    /// one.
    pub entries_ahead: u64,
    /// Irregularities that do not prevent a start, one line each.
    pub warnings: Vec<String>,
    /// Length of the unfinished line at the end of the journal.
    pub unfinished_bytes: u64,
}

/// Compares a journal with a bus without locking or changing either.
///
/// # Errors
/// The two differ, the bus has what the journal lacks, or one of them cannot be read.
pub fn compare(journal: &Path, reader: &Reader) -> Result<JournalState> {
    let kind = first_line_is_market(journal)?;
    if kind.map_or_else(|| is_market_bus(reader, u64::MAX), Ok)? {
        let check = journal_check::check(journal, reader)?;
        return Ok(JournalState {
            entry: "cycle",
            entries: check.cycles,
            entries_ahead: check.cycles_ahead,
            warnings: Vec::new(),
            unfinished_bytes: check.unfinished_bytes,
        });
    }
    let check = reconcile::check_journal(journal, reader)?;
    Ok(JournalState {
        entry: "decision",
        entries: check.decisions,
        entries_ahead: check.decisions_ahead,
        warnings: check.warnings,
        unfinished_bytes: check.unfinished_bytes,
    })
}

/// Whether a journal is that of a run on market data; `None` if it has no line.
///
/// # Errors
/// As [`LineFile::read_only`].
pub(crate) fn first_line_is_market(journal: &Path) -> Result<Option<bool>> {
    let file = LineFile::read_only(journal)?;
    let Some((_, text)) = file.lines().next()? else { return Ok(None) };
    let schema =
        |line: Value| line.get("schema_version")?.as_str().map(|schema| schema == MARKET_JOURNAL_SCHEMA);
    Ok(Some(Value::parse(&text).ok().and_then(schema).unwrap_or(false)))
}
