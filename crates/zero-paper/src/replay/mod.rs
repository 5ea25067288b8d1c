//! Replays a recorded run with the current engine.
//!
//! [`replay`] re-runs each recorded cycle under its recorded conditions and compares every event
//! with the log: it shows that the engine still decides the same. [`what_if`] submits the recorded
//! orders under other limits and compares the results of the two runs. Both know the cycles of
//! scenarios and those on market data. [`replay_strategy`] has a strategy decide again on the
//! recorded observations.

mod certificate;
mod commands;
mod comparison;
mod limits;
mod market;
mod reading;
mod scenario;
mod strategy;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use zero_bus::{Progress, Reader};

use crate::cycle::cycle_of_trace;
use crate::error::{Error, Result};
use crate::order_record::ReachedLimit;
use crate::position::PositionRecord;
use crate::scenario::Side;
use crate::state::Change;

pub use certificate::{
    CERTIFICATE_SCHEMA, Certificate, EngineIdentity, Reproduced, Sequence, TakenFromRecord,
};
pub use limits::LimitOverrides;
pub use strategy::{StrategyReplay, replay_strategy};

use commands::is_applied_resume;
use comparison::Comparison;
use market::{AsRecorded, Decider, MarketReplay, MarketWhatIf};
use reading::{Item, for_each_item};
use scenario::{ScenarioReplay, ScenarioWhatIf};

/// The result of a replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replay {
    /// Number of replayed cycles.
    pub cycles: u64,
    /// The first event that differs. The replay ends there.
    pub difference: Option<Difference>,
    /// Number of events that equal the recorded ones.
    pub events: u64,
    /// Number of events missing from the last cycle, at least: it is still running, or a crash
    /// interrupted it.
    pub events_missing: u64,
    /// Number of recorded decisions that accepted a reduce-only order although it did not reduce
    /// the position. They were replayed under [`ReduceOnlyRule::Trust`].
    pub trusted_reduce_only: u64,
}

/// A recorded event that differs from the replayed one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Cycle of the event.
    pub cycle_id: u64,
    /// Id of the recorded event.
    pub event_id: String,
    /// Type of the recorded event.
    pub event_type: String,
    /// The fields that differ: `before` is recorded, `after` is replayed. `null` stands for a
    /// missing value.
    pub fields: Vec<Change>,
}

/// The recorded run compared with the same orders under other limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// Number of decisions that are other ones under the other limits.
    pub changed_decisions: u64,
    /// The first of them, at most 1000.
    pub changes: Vec<ChangedDecision>,
    /// Number of cycles. If the bus holds several runs, only the last one is counted.
    pub cycles: u64,
    /// Results of the recorded run.
    pub recorded: Tally,
    /// Number of recorded decisions that accepted a reduce-only order although it did not reduce
    /// the position. If there are any, both runs are under [`ReduceOnlyRule::Trust`].
    pub trusted_reduce_only: u64,
    /// Results under the other limits.
    pub what_if: Tally,
}

/// Results of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Cash plus marked positions after the last cycle, in USD; only in runs on market data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equity_usd: Option<f64>,
    /// Sum of the position notionals after the last cycle, in USD.
    pub exposure_last_usd: f64,
    /// Largest sum of the position notionals after any cycle, in USD.
    pub exposure_max_usd: f64,
    /// Number of fills.
    pub fills: u64,
    /// Open positions after the last cycle.
    pub positions: Vec<PositionRecord>,
    /// Number of rejected orders by reason.
    pub rejections: BTreeMap<String, u64>,
}

/// A decision that is another one under the other limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangedDecision {
    /// Cycle of the decision.
    pub cycle_id: u64,
    /// The order's quantity.
    pub quantity: f64,
    /// The decision of the recorded run; `None` if there was no such order. Only the orders that
    /// close positions for the operator differ between the runs.
    pub recorded: Option<Outcome>,
    /// Buy or sell.
    pub side: Side,
    /// Symbol of the instrument.
    pub symbol: String,
    /// The decision under the other limits; `None` if there is no such order.
    pub what_if: Option<Outcome>,
}

/// What was decided about an order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Whether the order was accepted.
    pub allowed: bool,
    /// The limit that rejected it, with its numbers; only in runs on market data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReachedLimit>,
    /// Why.
    pub reason: String,
}

/// The most changed decisions that are kept.
const MAX_CHANGES: usize = 1000;

/// The decisions that are other ones under the other limits.
#[derive(Default)]
struct DecisionChanges {
    count: u64,
    first: Vec<ChangedDecision>,
}

impl DecisionChanges {
    fn add(&mut self, changed: impl FnOnce() -> Option<ChangedDecision>) {
        let Some(changed) = changed() else { return };
        self.count += 1;
        if self.first.len() < MAX_CHANGES {
            self.first.push(changed);
        }
    }
}

impl Tally {
    fn set_positions(&mut self, positions: Vec<PositionRecord>) {
        self.positions = positions;
        // A fold from 0.0, because the sum of no floats is -0.0.
        self.exposure_last_usd = self.positions.iter().fold(0.0, |sum, position| sum + position.notional_usd);
        self.exposure_max_usd = self.exposure_max_usd.max(self.exposure_last_usd);
    }
}

/// Replays every recorded cycle and compares its events with the log. Ends at the first difference.
///
/// Each cycle runs under its recorded limits, and under the trading mode that the operator's
/// commands had set. A scenario's decision that accepted a reduce-only order which did not reduce
/// the position is replayed under [`ReduceOnlyRule::Trust`](crate::risk::ReduceOnlyRule::Trust) and
/// counted; a cycle on market data records its rule. The decisions of a scenario run and the keys
/// of a run on market data are kept in memory.
///
/// # Errors
/// The bus cannot be read. [`Error::Refused`] if the beginning of the run is missing or a cycle
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
enum Compared {
    Same,
    /// The event belongs to no cycle.
    Unrelated,
    Different(Difference),
}

/// Replays the next event of the log and compares it. `current` is the cycle that it may belong to.
fn compare_item(
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

/// Submits the recorded orders under other limits and returns the results of both runs. A
/// reduce-only order keeps its recorded quantity, even if the position differs under the other
/// limits. A strategy does not decide again: its orders are the recorded ones.
///
/// If a scenario run accepted a reduce-only order that did not reduce its position, the other run
/// is under [`ReduceOnlyRule::Trust`](crate::risk::ReduceOnlyRule::Trust) as well, except where the
/// record shows a rejection by the other rule. Cycles on market data keep their recorded rule.
///
/// # Errors
/// As [`replay`]; [`Error::Order`] if a position becomes too large for a double; [`Error::Refused`]
/// if a limit is given that the run does not have.
pub fn what_if(
    reader: &Reader,
    limits: LimitOverrides,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<WhatIf> {
    let (mut scenario, mut market) = (ScenarioWhatIf::new(limits), MarketWhatIf::new(limits));
    let mut last_is_market = None;
    for_each_item(reader, progress, |item| {
        match item {
            Item::Scenario(recorded) => {
                last_is_market = Some(false);
                scenario.add(&recorded)?;
            }
            Item::Market(recorded) => {
                last_is_market = Some(true);
                market.add(&recorded);
            }
            Item::Other(event) if is_applied_resume(&event) => market.resume(),
            Item::Observation(..) | Item::Other(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match limits.market_limit().filter(|_| last_is_market == Some(false)) {
        Some(name) => {
            let problem = format!("is the run of a scenario, which has no limit {name}; leave it out");
            Err(Error::Refused { path: reader.log_path(), problem })
        }
        None if last_is_market == Some(true) => Ok(market.finish()),
        None => Ok(scenario.finish()),
    }
}
