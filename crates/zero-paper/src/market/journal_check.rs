//! Compares the journal of a run on market data with a bus, without locking or changing either.

use std::path::Path;

use zero_bus::{Event, Events, Reader};

use crate::cycle::cycle_of_trace;
use crate::error::{Error, Mismatch, Result};
use crate::event_types::{CYCLE, OBSERVATION};
use crate::line_file::LineFile;

use super::journal::{CycleEvents, MarketJournal};

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
/// [`Error::Reconcile`] if an event differs, or if the bus has a cycle that the journal lacks; any
/// error of reading one of them.
pub(crate) fn check(path: &Path, reader: &Reader) -> Result<MarketJournalCheck> {
    // The end of the bus is fixed before the journal is read. A runtime writes the journal first,
    // so the journal has every cycle up to that end.
    let mut comparison = Comparison { events: reader.events(1)?, log: reader, journal: path };
    let mut journal = MarketJournal::of(LineFile::read_only(path)?)?;
    let mut check = MarketJournalCheck::default();
    journal.read(|line| {
        let cycle = line.events()?;
        check.cycles += 1;
        if cycle.cycle_id != check.cycles {
            return Err(
                line.problem(format!("is cycle {}, but cycle {} must follow", cycle.cycle_id, check.cycles))
            );
        }
        check.cycles_ahead += u64::from(comparison.advance(&cycle)? < cycle.events.len());
        Ok(())
    })?;
    comparison.finish(check.cycles)?;
    check.unfinished_bytes = journal.file().unfinished_bytes();
    Ok(check)
}

struct Comparison<'a> {
    events: Events,
    log: &'a Reader,
    journal: &'a Path,
}

impl Comparison<'_> {
    /// Advances over the events of a cycle. Returns how many of them the bus has; fewer than all
    /// mean that it ends there.
    fn advance(&mut self, cycle: &CycleEvents) -> Result<usize> {
        let mut matched = 0;
        while let Some((event_type, payload)) = cycle.events.get(matched) {
            let Some(event) = self.events.next().transpose()? else { break };
            let Some(traced) = cycle_of_trace(event.trace_id.as_deref()) else { continue };
            let is_next = traced == cycle.cycle_id && event.as_of == cycle.as_of;
            if is_next && *event_type == event.event_type && *payload == event.payload {
                matched += 1;
            } else if event.event_type == OBSERVATION && traced >= cycle.cycle_id {
                // Other programs may use the trace of a cycle, but they do not begin one.
                return Err(self.differs(&event, cycle.cycle_id));
            }
        }
        Ok(matched)
    }

    /// Reads the rest of the bus: only the observation of the next cycle may follow.
    fn finish(mut self, cycles: u64) -> Result<()> {
        let mut observed = false;
        while let Some(event) = self.events.next().transpose()? {
            let Some(traced) = cycle_of_trace(event.trace_id.as_deref()) else { continue };
            let begins = [OBSERVATION, CYCLE].contains(&event.event_type.as_str()) && traced > cycles;
            let is_next = traced == cycles + 1 && event.event_type == OBSERVATION && !observed;
            observed |= begins;
            if begins && !is_next {
                let (log, event_index) = (self.log.log_path(), event.index);
                let mismatch = Mismatch::MarketBusAhead { cycles, log, event_index, cycle_id: traced };
                return Err(Error::reconcile(self.journal.to_owned(), mismatch));
            }
        }
        Ok(())
    }

    fn differs(&self, event: &Event, cycle_id: u64) -> Error {
        let (log, event_index) = (self.log.log_path(), event.index);
        Error::reconcile(self.journal.to_owned(), Mismatch::CycleDiffers { log, event_index, cycle_id })
    }
}
