//! The runtime's state after any event, derived from the log alone.

use std::collections::HashMap;

use serde::Serialize;
use zero_bus::{Event, Json, Reader, Value};

use crate::error::Result;
use crate::event_types;
use crate::position::Position;

/// The state of a runtime after an event: the latest record of each kind, as in the state snapshot.
/// A record is `null` if there is none yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    /// The position snapshot without its positions: cash, equity, profit, fees and drawdown. `None`
    /// if the snapshot has no such fields, as in a run of a scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Json>,
    /// The latest cycle record.
    pub cycle: Json,
    /// Index of the event after which this state holds.
    pub event_index: u64,
    /// The latest health record.
    pub health: Json,
    /// The open positions.
    pub positions: Json,
}

/// Events in the first search window. Each further window reaches four times as far back.
const FIRST_WINDOW: u64 = 32;

impl State {
    /// Returns the state after the event at `index`, or after the last event for `None`.
    ///
    /// Searches backwards from that event, so the cost does not depend on the length of the log if
    /// the runtime ran shortly before. A log without any runtime record is read in full.
    ///
    /// # Errors
    /// The log cannot be read, or is damaged in the part that is read.
    pub fn at(reader: &Reader, index: Option<u64>) -> Result<Self> {
        let head = reader.head()?.index;
        let index = index.unwrap_or(head).min(head);
        let first = reader.first_index()?;
        let mut window = FIRST_WINDOW;
        loop {
            let from = (index.saturating_sub(window) + 1).max(first);
            let state = Self::from_events(reader, from, index)?;
            let complete =
                [&state.cycle, &state.health, &state.positions].iter().all(|part| part.as_str() != "null");
            if !complete && from <= first && first > 1 {
                // An error: what is missing may be in the retired events.
                reader.event(first - 1)?;
            }
            if complete || from <= first {
                return Ok(state);
            }
            window = window.saturating_mul(4);
        }
    }

    /// Builds the state from the events `from..=index`.
    fn from_events(reader: &Reader, from: u64, index: u64) -> Result<Self> {
        let null = || Json::try_from(&Value::Null);
        let mut state =
            Self { account: None, cycle: null()?, event_index: index, health: null()?, positions: null()? };
        for event in reader.events(from)? {
            let event = event?;
            if event.index > index {
                break;
            }
            state.apply(event)?;
        }
        Ok(state)
    }

    fn apply(&mut self, event: Event) -> Result<()> {
        match event.event_type.as_str() {
            event_types::CYCLE => self.cycle = event.payload,
            event_types::HEALTH => self.health = event.payload,
            event_types::POSITIONS => {
                let payload = event.payload.value();
                self.positions = Json::try_from(payload.get("positions").unwrap_or(&Value::Null))?;
                self.account = account(payload)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the symbols and quantities of the positions that are rounding residues, see
    /// [`Position::is_rounding_residue`].
    pub fn rounding_residues(&self) -> Vec<(String, f64)> {
        let Value::Array(positions) = self.positions.value() else { return Vec::new() };
        let residue = |record: &Value| {
            let number = |key| record.get(key)?.as_f64();
            let position = Position { quantity: number("quantity")?, avg_price: number("avg_price")? };
            let symbol = record.get("symbol")?.as_str()?.to_owned();
            position.is_rounding_residue().then_some((symbol, position.quantity))
        };
        positions.iter().filter_map(residue).collect()
    }

    /// Returns the values that differ in a later state. Positions are compared by symbol.
    pub fn difference(&self, later: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let account = |state: &Self| state.account.as_ref().map_or(Value::Null, Json::value);
        compare("account", &account(self), &account(later), &mut changes);
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

/// The fields of a position snapshot other than its positions; `None` if it has no cash.
fn account(snapshot: Value) -> Result<Option<Json>> {
    let Value::Object(mut fields) = snapshot else { return Ok(None) };
    if !fields.contains_key("cash_usd") {
        return Ok(None);
    }
    fields.remove("positions");
    fields.remove("schema_version");
    Ok(Some(Json::try_from(&Value::Object(fields))?))
}

/// A value that differs between two documents. `null` stands for a missing value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The later value.
    pub after: Json,
    /// The earlier value.
    pub before: Json,
    /// Path of the value, as in `health.decisions`.
    pub path: String,
}

/// Appends the differences between two values to `changes`, with paths below `path`.
pub(crate) fn compare(path: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (named_members(before), named_members(after)) {
        (Some(before), Some(after)) => {
            let mut names: Vec<&String> = before.iter().chain(&after).map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            for name in names {
                let member = |members: &[(String, Value)]| {
                    let member = members.iter().find(|(other, _)| other == name);
                    member.map_or(Value::Null, |(_, value)| value.clone())
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

/// Returns the members of an object by name, or the items of an array by symbol, or else by
/// position. The second item of a symbol is named `SYMBOL#2`. `None` for any other value.
fn named_members(value: &Value) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Object(members) => {
            Some(members.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        Value::Array(items) => {
            let mut items_of_symbol: HashMap<&str, u64> = HashMap::new();
            let mut named = Vec::with_capacity(items.len());
            for (position, item) in items.iter().enumerate() {
                let symbol = item.get("symbol").and_then(Value::as_str);
                let name = symbol.map_or(position.to_string(), |symbol| {
                    let count = items_of_symbol.entry(symbol).or_default();
                    *count += 1;
                    if *count == 1 { symbol.to_owned() } else { format!("{symbol}#{count}") }
                });
                named.push((name, item.clone()));
            }
            Some(named)
        }
        _ => None,
    }
}
