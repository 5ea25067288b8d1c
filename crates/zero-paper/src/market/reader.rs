//! Reads the cycles on market data from a bus, among the events of other programs.

use zero_bus::{Event, Json, Reader, Value};

use crate::cycle::{CYCLE_SCHEMA as SCENARIO_CYCLE_SCHEMA, cycle_of_trace};
use crate::event_types::{CYCLE, OBSERVATION};

use super::record::{CYCLE_SCHEMA, OBSERVATION_SCHEMA, RecordedBar, RecordedCycle};

/// What an event is to the cycles on market data.
#[derive(Debug)]
pub enum EventClass {
    /// The event has no trace of a cycle.
    Unrelated,
    /// The event begins a cycle.
    Observation,
    /// The event is the record of the cycle that began last.
    Record(Box<CycleStart>),
    /// The event has the trace of a cycle, and neither an observation nor a record's type.
    OfCycle(u64),
    /// The event has the type of an observation or a cycle record but is not one. The text says
    /// why, as a warning.
    Foreign(String),
    /// The event begins a cycle, but cycles before it are missing.
    Gap {
        /// The cycle that the event begins.
        cycle_id: u64,
    },
    /// The event is a cycle of a scenario run.
    ScenarioCycle,
}

/// The first two events of a cycle.
#[derive(Debug)]
pub struct CycleStart {
    /// The observation, and the record.
    pub payloads: [Json; 2],
    /// Index of the observation.
    pub index: u64,
    /// Time of the events.
    pub as_of: f64,
    /// The observation.
    pub bar: RecordedBar,
    /// The record.
    pub cycle: RecordedCycle,
}

/// An observation without a cycle record.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingObservation {
    /// Index of its event.
    pub index: u64,
    /// Time of the event.
    pub as_of: f64,
    /// Its payload.
    pub payload: Json,
    /// The observation.
    pub bar: RecordedBar,
}

/// Classifies the events of a bus, which it must see in order from the first one on.
#[derive(Debug, Default)]
pub struct CycleReader {
    last_cycle_id: u64,
    pending: Option<PendingObservation>,
}

impl CycleReader {
    /// Returns a reader for the events after a cycle.
    pub(crate) fn after(cycle_id: u64) -> Self {
        Self { last_cycle_id: cycle_id, pending: None }
    }

    /// Classifies the next event.
    pub fn classify(&mut self, event: &Event) -> EventClass {
        let Some(cycle_id) = cycle_of_trace(event.trace_id.as_deref()) else { return EventClass::Unrelated };
        match event.event_type.as_str() {
            OBSERVATION => self.classify_observation(cycle_id, event),
            CYCLE => self.classify_record(cycle_id, event),
            _ => EventClass::OfCycle(cycle_id),
        }
    }

    /// Returns the last observation if its cycle record has not followed.
    pub fn pending(&self) -> Option<&PendingObservation> {
        self.pending.as_ref()
    }

    /// Returns the number of the last cycle whose record was seen.
    pub fn last_cycle_id(&self) -> u64 {
        self.last_cycle_id
    }

    fn classify_observation(&mut self, cycle_id: u64, event: &Event) -> EventClass {
        let bar = match RecordedBar::from_value(&event.payload.value()) {
            Ok(bar) if bar.cycle_id == cycle_id => bar,
            Ok(_) => return foreign(event, "its trace is that of another cycle"),
            Err(problem) => return foreign(event, &problem),
        };
        let next = self.last_cycle_id + 1;
        if cycle_id < next || self.pending.is_some() {
            return foreign(event, &format!("cycle {cycle_id} has begun before"));
        }
        if cycle_id > next {
            return EventClass::Gap { cycle_id };
        }
        let (index, as_of, payload) = (event.index, event.as_of, event.payload.clone());
        self.pending = Some(PendingObservation { index, as_of, payload, bar });
        EventClass::Observation
    }

    fn classify_record(&mut self, cycle_id: u64, event: &Event) -> EventClass {
        let record = event.payload.value();
        if schema_of(&record) == Some(SCENARIO_CYCLE_SCHEMA) {
            return EventClass::ScenarioCycle;
        }
        let cycle = match RecordedCycle::from_value(&record) {
            Ok(cycle) if cycle.cycle_id == cycle_id => cycle,
            Ok(_) => return foreign(event, "its trace is that of another cycle"),
            Err(problem) => return foreign(event, &problem),
        };
        match self.pending.take() {
            Some(PendingObservation { index, as_of, payload, bar }) if bar.cycle_id == cycle_id => {
                self.last_cycle_id = cycle_id;
                let payloads = [payload, event.payload.clone()];
                EventClass::Record(Box::new(CycleStart { payloads, index, as_of, bar, cycle }))
            }
            pending => {
                self.pending = pending;
                foreign(event, &format!("the observation of cycle {cycle_id} is not before it"))
            }
        }
    }
}

fn foreign(event: &Event, problem: &str) -> EventClass {
    let (id, event_type) = (event.id(), &event.event_type);
    EventClass::Foreign(format!("{id} on the bus is no {event_type} of the run ({problem}); it is ignored"))
}

fn schema_of(payload: &Value) -> Option<&str> {
    payload.get("schema_version").and_then(Value::as_str)
}

/// Whether the last cycle record up to the event with index `last` is that of a run on market data;
/// false without cycles.
///
/// # Errors
/// Any error of reading the bus.
pub(crate) fn is_market_bus(reader: &Reader, last: u64) -> Result<bool, zero_bus::Error> {
    let mut is_market = false;
    let is_record =
        |event_type: &str, trace: Option<&str>| event_type == CYCLE && cycle_of_trace(trace).is_some();
    reader.select(reader.first_index()?, is_record, |event| {
        if event.index <= last {
            is_market = schema_of(&event.payload.value()) == Some(CYCLE_SCHEMA);
        }
        Ok::<(), zero_bus::Error>(())
    })?;
    Ok(is_market)
}

/// Returns the first cycle of which the log of a bus has the observation, if events before it were
/// retired; `None` if the log starts at event 1.
///
/// # Errors
/// Any error of reading the bus.
pub(super) fn first_held_cycle(reader: &Reader) -> Result<Option<u64>, zero_bus::Error> {
    let first = reader.first_index()?;
    if first == 1 {
        return Ok(None);
    }
    for event in reader.events(first)? {
        let event = event?;
        if let Some(cycle_id) = cycle_of_trace(event.trace_id.as_deref())
            && is_market_event(&event)
            && event.event_type == OBSERVATION
        {
            return Ok(Some(cycle_id));
        }
    }
    Ok(Some(u64::MAX))
}

/// Whether an event is an observation or a cycle record of a run on market data.
pub fn is_market_event(event: &Event) -> bool {
    let schema = match event.event_type.as_str() {
        OBSERVATION => OBSERVATION_SCHEMA,
        CYCLE => CYCLE_SCHEMA,
        _ => return false,
    };
    cycle_of_trace(event.trace_id.as_deref()).is_some() && schema_of(&event.payload.value()) == Some(schema)
}
