//! The events of a cycle on market data, in their order.

use serde::Serialize;
use zero_bus::Json;

use crate::account::MarkedPosition;
use crate::candle::{Bar, Candle};
use crate::error::Result;
use crate::event_types::{
    CYCLE, DECISION, FILL, HEALTH, OBSERVATION, ORDER_EXPIRED, ORDER_OPEN, POSITIONS, REJECTION,
    STRATEGY_FAILED,
};
use crate::order_record::{OpenOrder, OrderFill};
use crate::strategy::{FailureKind, StrategyIdentity};

use super::record::{Act, FailureRecord, OBSERVATION_SCHEMA, OnFailure};
use super::state::RunState;

/// The `schema_version` of the positions after a cycle.
pub const POSITIONS_SCHEMA: &str = "zero.paper.positions.v2";

/// The `schema_version` of the counts after a cycle.
pub const HEALTH_SCHEMA: &str = "zero.runtime.health.v2";

/// The `schema_version` of a failure of the strategy.
pub const FAILED_SCHEMA: &str = "zero.strategy.failed.v1";

/// The type and the payload of an event.
pub type TypedPayload = (&'static str, Json);

/// Returns the payload of a cycle's observation.
///
/// # Errors
/// The payload has no canonical form.
pub fn observation(source: &str, cycle_id: u64, bar: &Bar) -> Result<Json> {
    #[derive(Serialize)]
    struct Payload<'a> {
        candles: &'a [Candle],
        close_ts: f64,
        cycle_id: u64,
        interval_s: f64,
        schema_version: &'a str,
        source: &'a str,
        ts: f64,
    }
    let payload = Payload {
        candles: &bar.candles,
        close_ts: bar.close_ts(),
        cycle_id,
        interval_s: bar.interval_s,
        schema_version: OBSERVATION_SCHEMA,
        source,
        ts: bar.ts,
    };
    Ok(Json::of(&payload)?)
}

/// Returns the events that follow the cycle record. They follow from the record, and from the
/// state right after the cycle.
///
/// # Errors
/// A payload has no canonical form.
pub fn after_record(
    state: &RunState,
    act: &Act,
    strategy: &StrategyIdentity,
    failure: Option<&FailureRecord>,
) -> Result<Vec<TypedPayload>> {
    let mut events = Vec::with_capacity(4 + 2 * act.decisions.len());
    if let Some(failure) = failure {
        events.push((STRATEGY_FAILED, failed(state.last_cycle_id(), strategy, failure)?));
    }
    for fill in &act.fills {
        events.push((FILL, Json::of(fill)?));
    }
    for order in &act.expired {
        events.push((ORDER_EXPIRED, Json::of(order)?));
    }
    for decision in &act.decisions {
        let payload = Json::of(decision)?;
        let outcome = match outcome(act, &decision.order_id) {
            _ if !decision.allowed => (REJECTION, payload.clone()),
            Some(Outcome::Filled(fill)) => (FILL, Json::of(fill)?),
            Some(Outcome::Opened(order)) => (ORDER_OPEN, Json::of(order)?),
            // The record contradicts itself; its decision alone is published.
            None => {
                events.push((DECISION, payload));
                continue;
            }
        };
        events.push((DECISION, payload));
        events.push(outcome);
    }
    events.push((POSITIONS, positions(state)?));
    events.push((HEALTH, health(state)?));
    Ok(events)
}

enum Outcome<'a> {
    Filled(&'a OrderFill),
    Opened(&'a OpenOrder),
}

/// Returns what came of an accepted order in its cycle.
fn outcome<'a>(act: &'a Act, order_id: &str) -> Option<Outcome<'a>> {
    let opened = act.opened.iter().find(|order| order.order_id == order_id).map(Outcome::Opened);
    let filled = || act.immediate_fills.iter().find(|fill| fill.order_id == order_id).map(Outcome::Filled);
    opened.or_else(filled)
}

/// Returns the payload of a strategy's failure.
pub(super) fn failed(cycle_id: u64, strategy: &StrategyIdentity, failure: &FailureRecord) -> Result<Json> {
    #[derive(Serialize)]
    struct Payload<'a> {
        cycle_id: u64,
        kind: FailureKind,
        on_failure: OnFailure,
        reason: &'a str,
        schema_version: &'a str,
        strategy: &'a StrategyIdentity,
    }
    let FailureRecord { kind, on_failure, reason } = failure;
    let (kind, on_failure) = (*kind, *on_failure);
    let payload = Payload { cycle_id, kind, on_failure, reason, schema_version: FAILED_SCHEMA, strategy };
    Ok(Json::of(&payload)?)
}

fn positions(state: &RunState) -> Result<Json> {
    #[derive(Serialize)]
    struct Payload<'a> {
        cash_usd: f64,
        drawdown_pct: f64,
        equity_usd: f64,
        fees_usd: f64,
        peak_equity_usd: f64,
        positions: &'a [MarkedPosition],
        realized_pnl_usd: f64,
        schema_version: &'a str,
        unrealized_pnl_usd: f64,
    }
    let account = state.account();
    let positions = account.positions();
    let payload = Payload {
        cash_usd: account.cash_usd(),
        drawdown_pct: account.drawdown_pct(),
        equity_usd: account.equity_usd(),
        fees_usd: account.fees_usd(),
        peak_equity_usd: account.peak_equity_usd(),
        positions: &positions,
        realized_pnl_usd: account.realized_pnl_usd(),
        schema_version: POSITIONS_SCHEMA,
        unrealized_pnl_usd: positions.iter().fold(0.0, |sum, position| sum + position.unrealized_pnl_usd),
    };
    Ok(Json::of(&payload)?)
}

fn health(state: &RunState) -> Result<Json> {
    #[derive(Serialize)]
    struct Payload<'a> {
        decisions: u64,
        failures: u64,
        fills: u64,
        last_cycle_id: u64,
        mode: &'a str,
        open_orders: u64,
        open_positions: u64,
        rejections: u64,
        schema_version: &'a str,
    }
    let counts = state.counts();
    let payload = Payload {
        decisions: counts.decisions,
        failures: counts.failures,
        fills: counts.fills,
        last_cycle_id: state.last_cycle_id(),
        mode: "paper",
        open_orders: state.account().open_orders().len() as u64,
        open_positions: state.account().book().open_positions(),
        rejections: counts.rejections,
        schema_version: HEALTH_SCHEMA,
    };
    Ok(Json::of(&payload)?)
}

/// Returns the events of a cycle: its observation, its record, and what follows from it.
pub fn of_cycle(observation: Json, record: Json, after_record: Vec<TypedPayload>) -> Vec<TypedPayload> {
    [(OBSERVATION, observation), (CYCLE, record)].into_iter().chain(after_record).collect()
}
