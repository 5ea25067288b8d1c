//! Recognises the runtime's own events on a bus.
//!
//! Any program may append to a bus, also events that use the runtime's types and trace ids. An
//! event belongs to a cycle only if it is a valid cycle record, or exactly the next event that the
//! last cycle record implies.

use zero_bus::{Event, Json, Value};

use crate::cycle::{CYCLE_SCHEMA, cycle_of_trace, trace_id};
use crate::decision::Decision;
use crate::event_types::CYCLE;
use crate::publish::{TypedPayload, payloads_from_record};

/// What an event is to the runtime's cycles.
pub(crate) enum EventClass {
    /// The event does not belong to a cycle, whatever its trace id says.
    Unrelated,
    /// The event has the type and the trace of a cycle record but is not one. The text says why, as
    /// a warning.
    Foreign(String),
    /// The first event of a cycle: its cycle record.
    CycleStart(Box<CycleStart>),
    /// The next event of the cycle that started last.
    CycleContinuation,
}

/// The first event of a cycle.
pub(crate) struct CycleStart {
    pub(crate) cycle_id: u64,
    pub(crate) decision: Decision,
    /// The cycle record.
    pub(crate) record: Value,
    /// The cycle numbers restart at 1 here: all earlier cycles belong to another run.
    pub(crate) new_run: bool,
}

/// Classifies the events of a bus, which it must see in order from the first one on.
#[derive(Default)]
pub(crate) struct CycleClassifier {
    /// The last cycle and its trace id.
    cycle_id: u64,
    trace_id: Option<String>,
    /// The events that must follow the last cycle record.
    expected: Vec<TypedPayload>,
    /// How many of them were seen.
    seen: usize,
}

impl CycleClassifier {
    /// Returns a classifier for the events after a cycle, all of whose events were seen.
    pub(crate) fn after(cycle_id: u64) -> Self {
        let trace_id = (cycle_id > 0).then(|| trace_id(cycle_id));
        Self { cycle_id, trace_id, ..Self::default() }
    }

    /// Classifies the next event.
    pub(crate) fn classify(&mut self, event: &Event) -> EventClass {
        let Some(cycle_id) = cycle_of_trace(event.trace_id.as_deref()) else { return EventClass::Unrelated };
        if event.event_type == CYCLE {
            return self.classify_cycle_record(cycle_id, event);
        }
        let next = self.expected.get(self.seen).filter(|_| self.trace_id == event.trace_id);
        match next {
            Some((event_type, payload)) if *event_type == event.event_type && *payload == event.payload => {
                self.seen += 1;
                EventClass::CycleContinuation
            }
            _ => EventClass::Unrelated,
        }
    }

    fn classify_cycle_record(&mut self, cycle_id: u64, event: &Event) -> EventClass {
        let foreign = |reason: &str| {
            let event_id = event.id();
            EventClass::Foreign(format!(
                "{event_id} on the bus claims to be cycle {cycle_id} but {reason}; it is ignored"
            ))
        };
        let record = event.payload.value();
        let Some((decision, expected)) = read_record(cycle_id, &record) else {
            return foreign("is not a valid cycle record");
        };
        if cycle_id <= self.cycle_id && cycle_id != 1 {
            return foreign(&format!("comes after cycle {}", self.cycle_id));
        }
        let new_run = self.cycle_id > 0 && cycle_id == 1;
        *self = Self { cycle_id, trace_id: event.trace_id.clone(), expected: expected.into(), seen: 0 };
        EventClass::CycleStart(Box::new(CycleStart { cycle_id, decision, record, new_run }))
    }
}

/// Returns the decision of a cycle record and the four events that must follow it. Returns `None`
/// if it is not a valid record of this cycle.
fn read_record(cycle_id: u64, record: &Value) -> Option<(Decision, [TypedPayload; 4])> {
    let is_this_cycle = record.get("schema_version").and_then(Value::as_str) == Some(CYCLE_SCHEMA)
        && record.get("cycle_id").and_then(Value::as_u64) == Some(cycle_id)
        && cycle_id > 0;
    let decision = record.get("act")?.get("decision").filter(|_| is_this_cycle)?;
    let decision = Decision::read_value(decision).ok()?;
    let expected = payloads_from_record(record, &decision)?;
    Some((decision, expected))
}

/// Returns the recovery part of a cycle record, which later events of the cycle repeat; an empty
/// object if the record has none.
pub(crate) fn recovery_of(record: &Value) -> Json {
    let recovery = record.get("observe").and_then(|observe| observe.get("recovery"));
    recovery.and_then(|recovery| Json::try_from(recovery).ok()).unwrap_or_else(Json::empty_object)
}
