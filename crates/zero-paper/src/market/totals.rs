//! What a run on market data adds up to: for exports that show aggregates and nothing else.

use std::path::Path;

use zero_bus::Reader;

use crate::error::{Error, Mismatch, Result};
use crate::line_file::{FileStart, LineFile};
use crate::position::Book;

use super::journal::MarketJournal;
use super::reader::{CycleReader, EventClass};
use super::record::Act;

/// The totals of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    /// Decisions about orders.
    pub(crate) decisions: u64,
    /// Orders that were accepted.
    pub(crate) accepted: u64,
    /// Fills.
    pub(crate) fills: u64,
    /// Quantity times price over all decisions with a price, in USD.
    pub(crate) notional_usd: f64,
    /// The open positions.
    pub(crate) book: Book,
}

impl Totals {
    /// The totals of the run on a bus as they were after the event with index `last`.
    ///
    /// # Errors
    /// Any error of reading the bus; [`Mismatch::CycleMissing`] if the run on it is incomplete.
    pub(crate) fn of_first_events(reader: &Reader, last: u64) -> Result<Self> {
        let (mut totals, mut cycles) = (Self::default(), CycleReader::default());
        for event in reader.events(1)? {
            let event = event?;
            if event.index > last {
                break;
            }
            match cycles.classify(&event) {
                EventClass::Record(start) => totals.add(&start.cycle.act),
                EventClass::Gap { .. } => {
                    let cycle_id = cycles.last_cycle_id() + 1;
                    return Err(Error::reconcile(reader.log_path(), Mismatch::CycleMissing { cycle_id }));
                }
                _ => {}
            }
        }
        Ok(totals)
    }

    /// The totals of a journal, which is neither locked nor changed.
    ///
    /// # Errors
    /// Any error of reading the journal, with the first line that is not a cycle.
    pub(crate) fn of_journal(path: &Path) -> Result<Self> {
        let mut totals = Self::default();
        MarketJournal::of(LineFile::read_only(path)?)?.read_after(FileStart::default(), |line| {
            let (_, cycle) = line.recorded()?;
            totals.add(&cycle.act);
            Ok(())
        })?;
        Ok(totals)
    }

    fn add(&mut self, act: &Act) {
        for decision in &act.decisions {
            self.decisions += 1;
            self.accepted += u64::from(decision.allowed);
            self.notional_usd += decision.price.map_or(0.0, |price| decision.quantity * price);
        }
        for fill in act.fills.iter().chain(&act.immediate_fills) {
            self.fills += 1;
            let position = self.book.position(&fill.symbol).after_fill(fill.signed_quantity(), fill.price);
            self.book.set(&fill.symbol, position);
        }
    }
}
