//! Explains one cycle to a person: what was observed, which limit decided with which numbers, and
//! the effect on the positions.

mod market_cycle;
mod order_cycle;

use std::fmt;

use serde::Serialize;
use zero_bus::{Event, Value};

use crate::cycle::MARKET_CYCLE_SCHEMA;
use crate::event_types;
use crate::field::Problem;

pub use market_cycle::{DecisionNumbers, MarketCycle};
pub use order_cycle::{Change, Limit, OrderCycle};

/// The explanation of a cycle. `Display` renders it for people, with one line per phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Explanation {
    /// A cycle of a scenario, with one order.
    Order(Box<OrderCycle>),
    /// A cycle on market data, with any number of intents.
    Market(Box<MarketCycle>),
}

impl Explanation {
    /// Explains the cycle of these events, one of which must be the cycle record.
    ///
    /// # Errors
    /// The missing or invalid field of the cycle record.
    pub fn of(events: &[Event]) -> Result<Self, Problem> {
        let record = events.iter().find(|event| event.event_type == event_types::CYCLE);
        let record = record.ok_or("there is no cycle record")?;
        let payload = record.payload.value();
        match payload.get("schema_version").and_then(Value::as_str) {
            Some(MARKET_CYCLE_SCHEMA) => Ok(Self::Market(Box::new(MarketCycle::of(record, events)?))),
            _ => Ok(Self::Order(Box::new(OrderCycle::of(record, events)?))),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(cycle) => cycle.fmt(f),
            Self::Market(cycle) => cycle.fmt(f),
        }
    }
}
