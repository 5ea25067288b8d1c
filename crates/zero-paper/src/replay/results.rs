//! The results of replays.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::order_record::ReachedLimit;
use crate::position::PositionRecord;
use crate::scenario::Side;
use crate::state::Change;

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
    /// the position. They were replayed under [`Trust`](crate::risk::ReduceOnlyRule::Trust).
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
    /// the position. If there are any, both runs are under
    /// [`Trust`](crate::risk::ReduceOnlyRule::Trust).
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
pub(super) struct DecisionChanges {
    pub(super) count: u64,
    pub(super) first: Vec<ChangedDecision>,
}

impl DecisionChanges {
    pub(super) fn add(&mut self, changed: impl FnOnce() -> Option<ChangedDecision>) {
        let Some(changed) = changed() else { return };
        self.count += 1;
        if self.first.len() < MAX_CHANGES {
            self.first.push(changed);
        }
    }
}

impl Tally {
    pub(super) fn set_positions(&mut self, positions: Vec<PositionRecord>) {
        self.positions = positions;
        // A fold from 0.0, because the sum of no floats is -0.0.
        self.exposure_last_usd = self.positions.iter().fold(0.0, |sum, position| sum + position.notional_usd);
        self.exposure_max_usd = self.exposure_max_usd.max(self.exposure_last_usd);
    }
}
