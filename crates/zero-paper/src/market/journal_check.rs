//! Compares a journal with its bus without changing either.

use std::path::Path;

use zero_bus::Reader;

use crate::error::Result;
use crate::line_file::{FileStart, LineFile};
use crate::operator::CommandCursor;
use crate::reconcile::JournalCheck;

use super::journal::MarketJournal;
use super::recovery::Comparison;

/// Compares every event of a journal with the bus. A runtime may be writing to both. Returns `None`
/// if the file is not the journal of a run on market data.
///
/// # Errors
/// [`Error::Refused`](crate::Error::Refused) if the bus has other events than the journal, or more;
/// any error of reading one of them.
pub fn check_journal(journal: &Path, reader: &Reader) -> Result<Option<JournalCheck>> {
    // The end of the bus is fixed before the journal is read. A runtime writes the journal first,
    // so the journal has every cycle up to that end.
    let mut comparison = Comparison::after(CommandCursor::default(), reader, journal)?;
    let file = LineFile::read_only(journal)?;
    if !MarketJournal::is_one(&file) {
        return Ok(None);
    }
    let unfinished_bytes = file.unfinished_bytes();
    let mut journal = MarketJournal::of(file)?;
    let (mut cycles, mut cycles_ahead) = (0, 0);
    journal.read_after(FileStart::default(), |line| {
        let cycle = line.events()?;
        if cycle.cycle_id != cycles + 1 {
            return Err(line.problem(format!(
                "is cycle {}, but cycle {} must follow",
                cycle.cycle_id,
                cycles + 1
            )));
        }
        cycles += 1;
        cycles_ahead += u64::from(comparison.match_cycle(&cycle)? < cycle.events.len());
        Ok(())
    })?;
    comparison.finish(cycles)?;
    let (decisions, decisions_ahead) = (cycles, cycles_ahead);
    let warnings = Vec::new();
    Ok(Some(JournalCheck { decisions, decisions_ahead, warnings, unfinished_bytes, unit: "cycle" }))
}
