//! Compares the journal of a run on market data with a bus, without locking or changing either.

use std::path::Path;

use zero_bus::Reader;

use crate::error::Result;
use crate::line_file::{FileStart, LineFile};
use crate::operator::CommandCursor;

use super::journal::MarketJournal;
use super::recovery::Comparison;

/// The state of a journal relative to a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MarketJournalCheck {
    /// Number of cycles in the journal.
    pub(crate) cycles: u64,
    /// Number of cycles that the bus lacks as a whole or in part.
    pub(crate) cycles_ahead: u64,
    /// Length of the unfinished line at the end of the journal.
    pub(crate) unfinished_bytes: u64,
}

/// Compares a journal with a bus, event by event. A runtime may be writing to both.
///
/// # Errors
/// [`Error::Reconcile`](crate::error::Error::Reconcile) if the bus has other events than the
/// journal, or more; any error of reading one of them.
pub(crate) fn check(path: &Path, reader: &Reader) -> Result<MarketJournalCheck> {
    // The end of the bus is fixed before the journal is read. A runtime writes the journal first,
    // so the journal has every cycle up to that end.
    let mut comparison = Comparison::after(CommandCursor::default(), reader, path)?;
    let mut journal = MarketJournal::of(LineFile::read_only(path)?)?;
    let mut check = MarketJournalCheck::default();
    journal.read_after(FileStart::default(), |line| {
        let cycle = line.events()?;
        check.cycles += 1;
        if cycle.cycle_id != check.cycles {
            return Err(
                line.problem(format!("is cycle {}, but cycle {} must follow", cycle.cycle_id, check.cycles))
            );
        }
        check.cycles_ahead += u64::from(comparison.match_cycle(&cycle)? < cycle.events.len());
        Ok(())
    })?;
    comparison.finish(check.cycles)?;
    check.unfinished_bytes = journal.file().unfinished_bytes();
    Ok(check)
}
