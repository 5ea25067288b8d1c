//! Reads the recorded cycles of a bus, of both kinds of runs, with what it takes to run them again.

use std::ops::ControlFlow;
use std::path::PathBuf;

use zero_bus::{Event, Progress, Reader};

use crate::cycle_events::{CycleClassifier, EventClass};
use crate::error::{Error, Result};
use crate::market::reader::{CycleReader, EventClass as MarketClass};
use crate::market::record::RecordedBar;

use super::commands::PossibleCommands;
use super::market::RecordedMarketCycle;
use super::scenario::RecordedOrderCycle;

/// An event of the log.
pub(super) enum Item {
    /// The record of a scenario's cycle, with what it takes to run the cycle again.
    Scenario(Box<RecordedOrderCycle>),
    /// The observation that begins a cycle on market data.
    Observation(Event, Box<RecordedBar>),
    /// The record of a cycle on market data, which follows its observation.
    Market(Box<RecordedMarketCycle>),
    Other(Event),
}

/// Events between two progress reports.
const PROGRESS_INTERVAL: u64 = 4096;

/// Calls `visit` with each event of a log until it breaks.
///
/// # Errors
/// The bus cannot be read; the beginning of a run is missing; a record lacks a field that its
/// replay needs; the error of `visit`.
pub(super) fn for_each_item(
    reader: &Reader,
    progress: &mut (dyn FnMut(Progress) + Send),
    mut visit: impl FnMut(Item) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut reading = Reading {
        log: reader.log_path(),
        commands: PossibleCommands::default(),
        scenario: CycleClassifier::default(),
        last_scenario_cycle: 0,
        market: CycleReader::default(),
    };
    let mut events = reader.events(1)?;
    while let Some(event) = events.next() {
        let event = event?;
        if event.index % PROGRESS_INTERVAL == 0 {
            progress(events.position());
        }
        if visit(reading.item(event)?)?.is_break() {
            break;
        }
    }
    Ok(())
}

struct Reading {
    log: PathBuf,
    commands: PossibleCommands,
    scenario: CycleClassifier,
    last_scenario_cycle: u64,
    market: CycleReader,
}

impl Reading {
    fn item(&mut self, event: Event) -> Result<Item> {
        self.commands.apply(&event);
        match self.market.classify(&event) {
            MarketClass::Gap { cycle_id } => Err(self.incomplete(&event, cycle_id)),
            MarketClass::Observation => Ok(match self.market.pending() {
                Some(pending) => Item::Observation(event, Box::new(pending.bar.clone())),
                None => Item::Other(event),
            }),
            MarketClass::Record(start) => {
                let cycle = RecordedMarketCycle::read(event, *start, &self.commands, self.log.clone())?;
                Ok(Item::Market(Box::new(cycle)))
            }
            _ => self.scenario_item(event),
        }
    }

    fn scenario_item(&mut self, event: Event) -> Result<Item> {
        let EventClass::CycleStart(start) = self.scenario.classify(&event) else {
            return Ok(Item::Other(event));
        };
        let cycle_id = start.cycle_id;
        if cycle_id != if start.new_run { 1 } else { self.last_scenario_cycle + 1 } {
            return Err(self.incomplete(&event, cycle_id));
        }
        self.last_scenario_cycle = cycle_id;
        let cycle = RecordedOrderCycle::read(event, *start, &self.commands, self.log.clone())?;
        Ok(Item::Scenario(Box::new(cycle)))
    }

    fn incomplete(&self, event: &Event, cycle_id: u64) -> Error {
        let problem = format!(
            "{} is cycle {cycle_id}, and the cycle before it is not on the bus, so it cannot be replayed; name a bus \
             that holds the run from its first cycle on",
            event.id()
        );
        Error::Refused { path: self.log.clone(), problem }
    }
}
