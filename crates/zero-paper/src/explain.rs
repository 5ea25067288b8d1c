//! One cycle as a person would tell it: what was seen, which limit spoke with which numbers, and what changed.

use std::fmt::{self, Write as _};

use serde::Serialize;
use zero_bus::{Event, Json, Value};

use crate::clock::rfc3339;
use crate::decision::Decision;
use crate::field::Problem;
use crate::position::Position;
use crate::risk::RiskDecision;
use crate::summary::counted;

/// What there is to tell about a cycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The cycle record.
    pub cycle: Json,
    /// The events that hold it: id and type.
    pub events: Vec<(String, String)>,
    /// The limit that spoke, where one did.
    pub limit: Option<Limit>,
    /// What became of the position.
    pub position: Change,
    #[serde(skip)]
    decision: Decision,
    #[serde(skip)]
    as_of: f64,
}

/// A limit that kept an order from being let through.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// What it allows at most; for the confidence, at least.
    pub limit: f64,
    /// What it is about.
    pub name: &'static str,
    /// What the order came to.
    pub value: f64,
}

/// A position before and after a cycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Signed quantity and average price in USD afterwards.
    pub after: (f64, f64),
    /// The same before.
    pub before: (f64, f64),
    /// Of what.
    pub symbol: String,
}

impl Explanation {
    /// What the events of a cycle tell, the cycle record first.
    ///
    /// # Errors
    /// The field of the cycle record that is not as it should be.
    pub fn of(events: &[Event]) -> Result<Self, Problem> {
        let first = events.first().filter(|event| event.event_type == "runtime.cycle");
        let first = first.ok_or("there is no cycle record")?;
        let cycle = first.payload.value();
        let decision = Decision::read_value(at(&cycle, &["act", "decision"]))?;
        let order = decision.order();
        let held = position(at(&cycle, &["observe", "open_positions"]), &order.symbol);
        let projected = held.after(&order);
        let number = |path: &[&str]| at(&cycle, path).as_f64().unwrap_or(f64::NAN);
        let limit =
            |name, value, limit| Some(Limit { limit: number(&["orient", "limits", limit]), name, value });
        let is = |risk_decision: RiskDecision| decision.reason == risk_decision.reason();
        let limit = if is(RiskDecision::LowConfidence) {
            limit("confidence", order.confidence, "min_confidence")
        } else if is(RiskDecision::OrderNotional) {
            limit("order notional", order.notional_usd(), "max_notional_usd")
        } else if is(RiskDecision::ProjectedPosition) {
            limit("projected position", projected.notional_usd(), "max_position_notional_usd")
        } else {
            None
        };
        let after = if decision.allowed { projected } else { held };
        let position = Change {
            after: (after.quantity, after.avg_price),
            before: (held.quantity, held.avg_price),
            symbol: order.symbol,
        };
        let events = events.iter().map(|event| (event.id(), event.event_type.clone())).collect();
        Ok(Self { cycle: first.payload.clone(), events, limit, position, decision, as_of: first.as_of })
    }
}

/// What is at the end of a way of names; `null` where that leads nowhere.
fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(value, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

fn position(records: &Value, symbol: &str) -> Position {
    let Value::Array(records) = records else { return Position::default() };
    let own = records.iter().find(|record| record.get("symbol").and_then(Value::as_str) == Some(symbol));
    let number = |key| own.and_then(|record| record.get(key)).and_then(Value::as_f64).unwrap_or(0.0);
    Position { quantity: number("quantity"), avg_price: number("avg_price") }
}

/// An amount of money, or a limit of it: `12,345.67`.
fn grouped(amount: f64) -> String {
    let text = format!("{:.2}", amount.abs());
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    let mut grouped = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if amount < 0.0 { "-" } else { "" };
    format!("{sign}{grouped}.{cents}")
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, name, value } = self;
        if *name == "confidence" {
            return write!(f, "{name} {value} < minimum {limit}");
        }
        write!(f, "{name} {} > limit {}", grouped(*value), grouped(*limit))
    }
}

/// A line a phase, and which events hold it.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cycle = self.cycle.value();
        // Names come from whoever wrote the log, and go to a terminal.
        let plain = |text: &str| text.escape_debug().to_string();
        let text = |path: &[&str]| plain(at(&cycle, path).as_str().unwrap_or("-"));
        let count =
            |path: &[&str]| at(&cycle, path).as_u64().map_or("-".to_owned(), |count| count.to_string());
        let number_of = |path: &[&str], what: &str| {
            at(&cycle, path).as_u64().map_or(format!("- {what}s"), |number| counted(number, what))
        };
        let money = |path: &[&str]| at(&cycle, path).as_f64().map_or("-".to_owned(), grouped);
        let time = rfc3339(self.as_of).unwrap_or_else(|| self.as_of.to_string());
        writeln!(f, "cycle {} of {}, {time}", count(&["cycle_id"]), text(&["observe", "scenario"]))?;

        let mut held = String::new();
        if let Value::Array(records) = at(&cycle, &["observe", "open_positions"]) {
            for record in records {
                let number = |key| record.get(key).and_then(Value::as_f64).unwrap_or(0.0);
                let symbol = record.get("symbol").and_then(Value::as_str).unwrap_or("-");
                let (quantity, price) = (number("quantity"), grouped(number("avg_price")));
                write!(held, ", {} {quantity} @ {price}", plain(symbol))?;
            }
        }
        let held = if held.is_empty() { "nothing held" } else { held.trim_start_matches(", ") };
        writeln!(
            f,
            "observe  {held}; {} before, {}, {}; state from {}",
            number_of(&["observe", "decisions_seen"], "decision"),
            number_of(&["observe", "fills_seen"], "fill"),
            number_of(&["observe", "rejections_seen"], "rejection"),
            text(&["observe", "recovery", "source"]),
        )?;
        writeln!(
            f,
            "orient   {}: {} USD held in all, {} allowed in one position",
            text(&["orient", "risk_posture"]).replace('_', " "),
            money(&["orient", "total_position_notional_usd"]),
            money(&["orient", "limits", "max_position_notional_usd"]),
        )?;
        let order = self.decision.order();
        let side = text(&["decide", "intent", "side"]);
        let reduces = if order.reduce_only { ", to reduce only" } else { "" };
        writeln!(
            f,
            "decide   {side} {} {} @ {} = {} USD, confidence {}{reduces}",
            order.quantity,
            plain(&order.symbol),
            grouped(order.price),
            grouped(order.notional_usd()),
            order.confidence,
        )?;
        let risk_decision = if self.decision.allowed { "filled" } else { "rejected" };
        let numbers = self.limit.as_ref().map_or(String::new(), |limit| format!(" ({limit})"));
        writeln!(f, "act      {risk_decision}: {}{numbers}", plain(&self.decision.reason))?;
        let Change { after, before, symbol } = &self.position;
        let position = |(quantity, price): (f64, f64)| {
            if quantity == 0.0 { "nothing".to_owned() } else { format!("{quantity} @ {}", grouped(price)) }
        };
        let change = if after == before {
            format!("{} stays as it was: {}", plain(symbol), position(*before))
        } else {
            format!("{} goes from {} to {}", plain(symbol), position(*before), position(*after))
        };
        writeln!(
            f,
            "learn    {change}; {}, {}, {}",
            number_of(&["learn", "decisions"], "decision"),
            number_of(&["learn", "fills"], "fill"),
            number_of(&["learn", "rejections"], "rejection"),
        )?;
        let events: Vec<String> =
            self.events.iter().map(|(id, event_type)| format!("{id} {event_type}")).collect();
        write!(f, "events   {}", events.join("\n         "))
    }
}
