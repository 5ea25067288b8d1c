//! What a cycle leaves on the bus: five events, and the snapshot behind them.

use std::ops::Range;

use serde::Serialize;
use zero_bus::{Bus, Draft, Json, Value};

use crate::cycle::{CycleRecord, trace_id};
use crate::decision::{Decision, Fill};
use crate::engine::Engine;
use crate::error::Result;
use crate::position::{Book, Position, PositionRecord};

#[derive(Serialize)]
struct Positions {
    positions: Vec<PositionRecord>,
}

#[derive(Serialize)]
struct Health<'a> {
    decisions: u64,
    fills: u64,
    last_cycle_id: u64,
    mode: &'a str,
    open_positions: u64,
    recovery: &'a Json,
    rejections: u64,
}

#[derive(Serialize)]
struct State<'a> {
    cycle: &'a Json,
    health: &'a Json,
    positions: &'a [PositionRecord],
}

/// Publishes a cycle that the engine has just been through: its events with one sync, but for the first `there` of them,
/// which are on the bus already; then the snapshot. Gives the indexes of the events.
///
/// # Errors
/// What the bus reports.
pub fn publish(bus: &Bus, engine: &Engine, cycle: &CycleRecord, there: usize) -> Result<Range<u64>> {
    let payloads = payloads(engine, cycle)?;
    let [(_, cycle_json), .., (_, health)] = &payloads;
    let state = Json::of(&State { cycle: cycle_json, health, positions: &engine.book().records() })?;
    let drafts = payloads.into_iter().skip(there).map(|(event_type, payload)| Draft {
        event_type: event_type.to_owned(),
        as_of: cycle.as_of,
        payload,
        trace_id: Some(trace_id(cycle.cycle_id)),
    });
    let events = bus.append_batch(drafts.collect())?;
    let source_event_id = events.last().map(zero_bus::Event::id);
    bus.write_snapshot(cycle.as_of, source_event_id.as_deref(), &state)?;
    let index = |event: Option<&zero_bus::Event>| event.map_or(0, |event| event.index);
    Ok(index(events.first())..index(events.last()) + 1)
}

/// What the events of a cycle hold that the engine has just been through: type and payload of each, in their order.
///
/// # Errors
/// What has no canonical form.
pub(crate) fn payloads(engine: &Engine, cycle: &CycleRecord) -> Result<[(&'static str, Json); 5]> {
    let counts = engine.counts();
    let health = Health {
        decisions: counts.decisions,
        fills: counts.fills,
        last_cycle_id: cycle.cycle_id,
        mode: cycle.mode,
        open_positions: engine.book().open_positions(),
        recovery: cycle.recovery(),
        rejections: counts.rejections,
    };
    let [decision, outcome, positions, health] = rest(&cycle.act.decision, engine.book().records(), &health)?;
    Ok([("runtime.cycle", Json::of(cycle)?), decision, outcome, positions, health])
}

/// What the events behind a cycle record hold, as the record alone tells; `None` where it does not.
pub(crate) fn rest_of(record: &Value, decision: &Decision) -> Option<[(&'static str, Json); 4]> {
    let (observe, learn) = (record.get("observe")?, record.get("learn")?);
    let mut book = Book::default();
    let Value::Array(held) = observe.get("open_positions")? else { return None };
    for position in held {
        let number = |key| position.get(key).and_then(Value::as_f64);
        let of = Position { quantity: number("quantity")?, avg_price: number("avg_price")? };
        book.set(position.get("symbol")?.as_str()?, of);
    }
    if decision.allowed {
        book.set(&decision.symbol, book.position(&decision.symbol).after(&decision.order()));
    }
    let count = |key| learn.get(key).and_then(Value::as_u64);
    let recovery = Json::try_from(observe.get("recovery")?).ok()?;
    let health = Health {
        decisions: count("decisions")?,
        fills: count("fills")?,
        last_cycle_id: record.get("cycle_id")?.as_u64()?,
        mode: record.get("mode")?.as_str()?,
        open_positions: count("open_positions")?,
        recovery: &recovery,
        rejections: count("rejections")?,
    };
    rest(decision, book.records(), &health).ok()
}

fn rest(
    decision: &Decision,
    positions: Vec<PositionRecord>,
    health: &Health<'_>,
) -> Result<[(&'static str, Json); 4]> {
    let decision_json = Json::of(decision)?;
    let outcome = if decision.allowed {
        ("fill.record", Json::of(&Fill::from(decision))?)
    } else {
        ("rejection.record", decision_json.clone())
    };
    Ok([
        ("decision.record", decision_json),
        outcome,
        ("position.snapshot", Json::of(&Positions { positions })?),
        ("runtime.health", Json::of(health)?),
    ])
}
