//! Compares the events of a cycle that ran again with the recorded ones, in the order of the log.

use zero_bus::{Event, Json, Value};

use crate::event_types;
use crate::publish::TypedPayload;
use crate::state::{Change, compare};

/// The types of the events of a cycle of a scenario, and those that only cycles on market data
/// have.
const SCENARIO_TYPES: [&str; 6] = [
    event_types::CYCLE,
    event_types::DECISION,
    event_types::FILL,
    event_types::REJECTION,
    event_types::POSITIONS,
    event_types::HEALTH,
];
const MARKET_TYPES: [&str; 4] = [
    event_types::OBSERVATION,
    event_types::STRATEGY_FAILED,
    event_types::ORDER_OPEN,
    event_types::ORDER_EXPIRED,
];

/// The cycle that the replay has produced last. Before the first cycle, it is empty.
#[derive(Default)]
pub(super) struct Comparison {
    /// Types and payloads of its events, in log order.
    events: Vec<TypedPayload>,
    /// Number of events that were compared.
    compared: usize,
    cycle: Option<CycleFields>,
    is_market: bool,
}

/// Fields that all events of a cycle share.
pub(super) struct CycleFields {
    pub(super) cycle_id: u64,
    pub(super) as_of: f64,
    pub(super) trace_id: Option<String>,
}

impl Comparison {
    /// A cycle of a scenario.
    pub(super) fn of_scenario(cycle: CycleFields, events: Vec<TypedPayload>) -> Self {
        Self { events, compared: 0, cycle: Some(cycle), is_market: false }
    }

    /// A cycle on market data, of which the first `compared` events were compared.
    pub(super) fn of_market(cycle: CycleFields, events: Vec<TypedPayload>, compared: usize) -> Self {
        Self { events, compared, cycle: Some(cycle), is_market: true }
    }

    /// The cycle; 0 before the first one.
    pub(super) fn cycle_id(&self) -> u64 {
        self.cycle.as_ref().map_or(0, |cycle| cycle.cycle_id)
    }

    /// Whether an event has a type of this kind of cycle.
    pub(super) fn has_type(&self, event: &Event) -> bool {
        let event_type = event.event_type.as_str();
        SCENARIO_TYPES.contains(&event_type) || (self.is_market && MARKET_TYPES.contains(&event_type))
    }

    /// Compares a recorded event with the next replayed one, and returns the differences.
    pub(super) fn compare_next(&mut self, event: &Event) -> Vec<Change> {
        let replayed = self.events.get(self.compared).zip(self.cycle.as_ref());
        let Some(((event_type, payload), CycleFields { as_of, trace_id, .. })) = replayed else {
            return vec![Change {
                after: null(),
                before: event.payload.clone(),
                path: event.event_type.clone(),
            }];
        };
        let mut fields = Vec::new();
        let mut compare_field =
            |path: &str, before: &Value, after: &Value| compare(path, before, after, &mut fields);
        let text = |text: &str| Value::String(text.to_owned());
        compare_field("event_type", &text(&event.event_type), &text(event_type));
        let trace = |trace: &Option<String>| trace.as_deref().map_or(Value::Null, text);
        compare_field("trace_id", &trace(&event.trace_id), &trace(trace_id));
        compare_field("as_of", &Value::Float(event.as_of), &Value::Float(*as_of));
        // Equal canonical texts need not be parsed.
        if event.payload != *payload {
            compare_field("payload", &event.payload.value(), &payload.value());
            if fields.is_empty() {
                let (before, after) = (event.payload.clone(), payload.clone());
                fields.push(Change { after, before, path: "payload".to_owned() });
            }
        }
        self.compared += 1;
        fields
    }

    /// Whether the log has shown every event.
    pub(super) fn is_complete(&self) -> bool {
        self.compared >= self.events.len()
    }

    /// Returns the replayed events that the log has not shown yet.
    pub(super) fn missing(&self) -> Vec<Change> {
        let missing = self.events.get(self.compared..).unwrap_or_default();
        let field = |(event_type, payload): &TypedPayload| Change {
            after: payload.clone(),
            before: null(),
            path: format!("missing before it: {event_type}"),
        };
        missing.iter().map(field).collect()
    }
}

/// JSON `null`.
pub(super) fn null() -> Json {
    Json::try_from(&Value::Null).unwrap_or_else(|_| Json::empty_object())
}
