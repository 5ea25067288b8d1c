//! The runtime's state after any event, as the log itself tells it.

use serde::Serialize;
use zero_bus::{Event, Json, Reader, Value};

use crate::error::Result;

/// What was known of a runtime after an event: the newest record of each kind up to there, as the snapshot holds them.
/// `null` where there was none yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    /// The last cycle record.
    pub cycle: Json,
    /// The event that this is the state after.
    pub event_index: u64,
    /// The last health record.
    pub health: Json,
    /// What was held.
    pub positions: Json,
}

/// Events that are looked at first; each further look goes four times as far back.
const LOOK: u64 = 32;

impl State {
    /// The state after the event at an index; the last one's for `None`.
    ///
    /// The records are looked for backwards from there, so this costs the same however long the log is, as long as the
    /// runtime ran; a log without one is gone through once.
    ///
    /// # Errors
    /// Where the log cannot be read, or is not sound there.
    pub fn at(reader: &Reader, index: Option<u64>) -> Result<Self> {
        let head = reader.head()?.index;
        let index = index.unwrap_or(head).min(head);
        let mut look = LOOK;
        loop {
            let from = index.saturating_sub(look) + 1;
            let state = Self::of(reader, from, index)?;
            let whole =
                [&state.cycle, &state.health, &state.positions].iter().all(|part| part.as_str() != "null");
            if whole || from <= 1 {
                return Ok(state);
            }
            look = look.saturating_mul(4);
        }
    }

    fn of(reader: &Reader, from: u64, index: u64) -> Result<Self> {
        let nothing = || Json::try_from(&Value::Null);
        let mut state =
            Self { cycle: nothing()?, event_index: index, health: nothing()?, positions: nothing()? };
        for event in reader.events(from)? {
            let event = event?;
            if event.index > index {
                break;
            }
            state.take(event)?;
        }
        Ok(state)
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event.event_type.as_str() {
            "runtime.cycle" => self.cycle = event.payload,
            "runtime.health" => self.health = event.payload,
            "position.snapshot" => {
                let payload = event.payload.value();
                self.positions = Json::try_from(payload.get("positions").unwrap_or(&Value::Null))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What is different in a later state: the way to each value, and the value in both; `null` where it is missing.
    /// Positions are named by their symbols.
    pub fn difference(&self, later: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, before, after) in [
            ("cycle", &self.cycle, &later.cycle),
            ("health", &self.health, &later.health),
            ("positions", &self.positions, &later.positions),
        ] {
            compare(name, &before.value(), &after.value(), &mut changes);
        }
        changes
    }
}

/// One value that is different.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What it is later.
    pub after: Json,
    /// What it was.
    pub before: Json,
    /// The way to it, as in `health.decisions`.
    pub path: String,
}

/// Gathers what is different between two values.
pub(crate) fn compare(path: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (members(before), members(after)) {
        (Some(before), Some(after)) => {
            let mut names: Vec<&String> = before.iter().chain(&after).map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            for name in names {
                let member = |members: &[(String, Value)]| {
                    let found = members.iter().find(|(other, _)| other == name);
                    found.map_or(Value::Null, |(_, value)| value.clone())
                };
                compare(&format!("{path}.{name}"), &member(&before), &member(&after), changes);
            }
        }
        _ => {
            let json = |value| Json::try_from(value).unwrap_or_else(|_| Json::empty_object());
            changes.push(Change { after: json(after), before: json(before), path: path.to_owned() });
        }
    }
}

/// The members of an object; the items of an array, by symbol where they have one.
fn members(value: &Value) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Object(members) => {
            Some(members.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        Value::Array(items) => {
            let name = |(at, item): (usize, &Value)| {
                let symbol = item.get("symbol").and_then(Value::as_str);
                (symbol.map_or(at.to_string(), str::to_owned), item.clone())
            };
            Some(items.iter().enumerate().map(name).collect())
        }
        _ => None,
    }
}
