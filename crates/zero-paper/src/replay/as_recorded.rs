//! Runs the recorded cycles again as they were recorded.

use std::ops::ControlFlow;

use zero_bus::{Progress, Reader};

use crate::cycle::cycle_of_trace;
use crate::error::Result;

use super::commands::is_applied_resume;
use super::comparison::Comparison;
use super::market::{AsRecorded, Decider, MarketReplay};
use super::reading::{Item, for_each_item};
use super::results::{Difference, Replay};
use super::scenario::ScenarioReplay;

/// Replays every recorded cycle and compares its events with the log. Ends at the first difference.
///
/// Each cycle runs under its recorded limits, and under the trading mode that the operator's
/// commands had set. A scenario's decision that accepted a reduce-only order which did not reduce
/// the position is replayed under [`ReduceOnlyRule::Trust`](crate::risk::ReduceOnlyRule::Trust) and
/// counted; a cycle on market data records its rule. The decisions of a scenario run and the keys
/// of a run on market data are kept in memory.
///
/// # Errors
/// The bus cannot be read. `Error::Refused` if the beginning of the run is missing or a cycle
/// record lacks a field that the replay needs.
pub fn replay(reader: &Reader, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Replay> {
    let mut replay = Replay::default();
    let (mut scenario, mut market) = (ScenarioReplay::new(), MarketReplay::new());
    let mut current = Comparison::default();
    for_each_item(reader, progress, |item| {
        replay.cycles += u64::from(matches!(item, Item::Scenario(_) | Item::Market(_)));
        match compare_item(&item, &mut current, Some(&mut scenario), &mut market, &mut AsRecorded)? {
            Compared::Same => replay.events += 1,
            Compared::Unrelated => {}
            Compared::Different(difference) => {
                replay.difference = Some(difference);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    replay.events_missing = current.missing().len() as u64;
    replay.trusted_reduce_only = scenario.trusted_reduce_only + market.trusted_reduce_only;
    Ok(replay)
}

/// How a recorded event compares with the replay.
pub(super) enum Compared {
    Same,
    /// The event belongs to no cycle.
    Unrelated,
    Different(Difference),
}

/// Replays the next event of the log and compares it. `current` is the cycle that it may belong to.
pub(super) fn compare_item(
    item: &Item,
    current: &mut Comparison,
    scenario: Option<&mut ScenarioReplay>,
    market: &mut MarketReplay,
    decider: &mut dyn Decider,
) -> Result<Compared> {
    let (event, fields) = match item {
        // If another cycle follows, the current one must be complete.
        Item::Scenario(recorded) if !current.is_complete() => (&recorded.event, current.missing()),
        Item::Observation(event, _) if !current.is_complete() => (event, current.missing()),
        Item::Scenario(recorded) => {
            let Some(scenario) = scenario else { return Ok(Compared::Unrelated) };
            *current = scenario.run(recorded)?;
            (&recorded.event, current.compare_next(&recorded.event))
        }
        Item::Observation(event, bar) => {
            *current = MarketReplay::observe(event, bar)?;
            (event, current.compare_next(event))
        }
        Item::Market(recorded) => {
            let (cycle, time) = market.run(recorded, decider)?;
            *current = cycle;
            let fields = time.into_iter().chain(current.compare_next(&recorded.event)).collect();
            (&recorded.event, fields)
        }
        Item::Other(event)
            if current.has_type(event) && cycle_of_trace(event.trace_id.as_deref()).is_some() =>
        {
            (event, current.compare_next(event))
        }
        Item::Other(event) => {
            if is_applied_resume(event) {
                market.resume();
            }
            return Ok(Compared::Unrelated);
        }
    };
    if fields.is_empty() {
        return Ok(Compared::Same);
    }
    Ok(Compared::Different(Difference {
        cycle_id: current.cycle_id(),
        event_id: event.id(),
        event_type: event.event_type.clone(),
        fields,
    }))
}
