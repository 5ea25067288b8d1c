//! Publishes a cycle on the bus: its five events, then the snapshot.

use serde::Serialize;
use zero_bus::{Bus, Draft, Event, Json, Value};

use crate::cycle::{CycleRecord, trace_id};
use crate::decision::{Decision, Fill};
use crate::engine::Engine;
use crate::error::Result;
use crate::event_types::{CYCLE, DECISION, FILL, HEALTH, POSITIONS, REJECTION};
use crate::position::{Book, Position, PositionRecord};

/// Number of events of a cycle.
pub(crate) const EVENTS_PER_CYCLE: usize = 5;

/// The type and the payload of an event.
pub(crate) type TypedPayload = (&'static str, Json);

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

/// Publishes the events of a cycle with one sync, then writes the snapshot. Skips the first
/// `already_published` events, which a crash left on the bus. Returns the new events.
///
/// `engine` must be in the state right after this cycle.
///
/// # Errors
/// Any error of the bus.
pub fn publish(
    bus: &Bus,
    engine: &Engine,
    cycle: &CycleRecord,
    already_published: usize,
) -> Result<Vec<Event>> {
    let payloads = payloads(engine, cycle)?;
    let [(_, cycle_json), .., (_, health)] = &payloads;
    let state = Json::of(&State { cycle: cycle_json, health, positions: &engine.book().records() })?;
    let drafts = payloads.into_iter().skip(already_published).map(|(event_type, payload)| Draft {
        event_type: event_type.to_owned(),
        as_of: cycle.as_of,
        payload,
        trace_id: Some(trace_id(cycle.cycle_id)),
    });
    let events = bus.append_batch(drafts.collect())?;
    let source_event_id = events.last().map(Event::id);
    bus.write_snapshot(cycle.as_of, source_event_id.as_deref(), &state)?;
    Ok(events)
}

/// Returns the events of the cycle that the engine has just run, in their order.
///
/// # Errors
/// An error if a payload has no canonical form.
pub(crate) fn payloads(engine: &Engine, cycle: &CycleRecord) -> Result<[TypedPayload; EVENTS_PER_CYCLE]> {
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
    let [decision, outcome, positions, health] =
        payloads_after_cycle(&cycle.act.decision, engine.book().records(), &health)?;
    Ok([(CYCLE, Json::of(cycle)?), decision, outcome, positions, health])
}

/// Derives the other four events of a cycle from its cycle record alone. Returns `None` if the
/// record lacks a field.
pub(crate) fn payloads_from_record(record: &Value, decision: &Decision) -> Option<[TypedPayload; 4]> {
    let (observe, learn) = (record.get("observe")?, record.get("learn")?);
    let mut book = Book::default();
    let Value::Array(open_positions) = observe.get("open_positions")? else { return None };
    for record in open_positions {
        let number = |key| record.get(key).and_then(Value::as_f64);
        let position = Position { quantity: number("quantity")?, avg_price: number("avg_price")? };
        book.set(record.get("symbol")?.as_str()?, position);
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
    payloads_after_cycle(decision, book.records(), &health).ok()
}

fn payloads_after_cycle(
    decision: &Decision,
    positions: Vec<PositionRecord>,
    health: &Health<'_>,
) -> Result<[TypedPayload; 4]> {
    let decision_json = Json::of(decision)?;
    let outcome = if decision.allowed {
        (FILL, Json::of(&Fill::from(decision))?)
    } else {
        (REJECTION, decision_json.clone())
    };
    Ok([
        (DECISION, decision_json),
        outcome,
        (POSITIONS, Json::of(&Positions { positions })?),
        (HEALTH, Json::of(health)?),
    ])
}
