//! Explains a cycle of a scenario, which has one order.

use std::fmt::{self, Write as _};

use serde::Serialize;
use zero_bus::{Event, Json, Value};

use crate::clock::rfc3339;
use crate::decision::Decision;
use crate::field::Problem;
use crate::position::Position;
use crate::risk::RiskDecision;
use crate::text::{counted, escape, format_money, format_money_apart, format_number, format_numbers_apart};

/// The explanation of a cycle of a scenario. `Display` renders it for people, one line per phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderCycle {
    /// The cycle record.
    pub cycle: Json,
    /// Id and type of each event of the cycle.
    pub events: Vec<(String, String)>,
    /// The limit that the order violated, if it was rejected by one.
    pub limit: Option<Limit>,
    /// The position in the order's symbol.
    pub position: Change,
    /// The position that the order would leave if it were filled.
    #[serde(skip)]
    projected: Position,
    #[serde(skip)]
    decision: Decision,
    #[serde(skip)]
    as_of: f64,
}

/// A limit that an order violated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// The largest allowed value; for the confidence, the smallest.
    pub limit: f64,
    /// The quantity that is limited.
    pub name: &'static str,
    /// The order's value.
    pub value: f64,
}

/// A position before and after a cycle, as signed quantity and average price in USD.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The position after the cycle.
    pub after: (f64, f64),
    /// The position before the cycle.
    pub before: (f64, f64),
    /// Symbol of the position.
    pub symbol: String,
}

impl OrderCycle {
    /// Explains the cycle of this record and these events.
    pub(super) fn of(first: &Event, events: &[Event]) -> Result<Self, Problem> {
        let cycle = first.payload.value();
        let decision = Decision::read_value(member(&cycle, &["act", "decision"]))?;
        let order = decision.order();
        let before = recorded_position(member(&cycle, &["observe", "open_positions"]), &order.symbol);
        let projected = before.after(&order);
        let after = if decision.allowed { projected } else { before };

        let violated = |name, value, key| {
            let limit = member(&cycle, &["orient", "limits", key]).as_f64().unwrap_or(f64::NAN);
            Some(Limit { limit, name, value })
        };
        let is_reason = |risk_decision: RiskDecision| decision.reason == risk_decision.reason();
        let limit = if is_reason(RiskDecision::LowConfidence) {
            violated("confidence", order.confidence, "min_confidence")
        } else if is_reason(RiskDecision::OrderNotional) {
            violated("order notional", order.notional_usd(), "max_notional_usd")
        } else if is_reason(RiskDecision::ProjectedPosition) {
            violated("projected position", projected.notional_usd(), "max_position_notional_usd")
        } else {
            None
        };

        let position = Change {
            after: (after.quantity, after.avg_price),
            before: (before.quantity, before.avg_price),
            symbol: order.symbol,
        };
        let events = events.iter().map(|event| (event.id(), event.event_type.clone())).collect();
        let (cycle, as_of) = (first.payload.clone(), first.as_of);
        Ok(Self { cycle, events, limit, position, projected, decision, as_of })
    }
}

impl OrderCycle {
    /// Returns the numbers of a decision about a reduce-only order, for a person; empty for every
    /// other decision.
    fn reduce_only_numbers(&self) -> String {
        let (quantity, avg_price) = self.position.before;
        let reduces = Position { quantity, avg_price }.is_reduced_by(&self.projected);
        let quantities = || {
            let [before, after] = format_numbers_apart([quantity, self.projected.quantity]);
            format!("position {before}, after it {after}")
        };
        let is_reason = |risk_decision: RiskDecision| self.decision.reason == risk_decision.reason();
        if is_reason(RiskDecision::NotReducing) {
            format!(" ({})", quantities())
        } else if is_reason(RiskDecision::ReduceOnly) && !reduces {
            format!(" (it does not reduce: {}; accepted under --trust-reduce-only)", quantities())
        } else {
            String::new()
        }
    }
}

/// Returns the member at a path of names; `null` if it is missing.
fn member<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(value, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

/// Reads the position in a symbol from the open positions of a cycle record.
fn recorded_position(records: &Value, symbol: &str) -> Position {
    let Value::Array(records) = records else { return Position::default() };
    let has_symbol = |record: &&Value| record.get("symbol").and_then(Value::as_str) == Some(symbol);
    let record = records.iter().find(has_symbol);
    let number = |key| record.and_then(|record| record.get(key)).and_then(Value::as_f64).unwrap_or(0.0);
    Position { quantity: number("quantity"), avg_price: number("avg_price") }
}

/// Formats the open positions of a cycle record.
fn format_positions(records: &Value) -> String {
    let Value::Array(records) = records else { return "no open positions".to_owned() };
    let mut text = String::new();
    for record in records {
        let number = |key| record.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let symbol = record.get("symbol").and_then(Value::as_str).unwrap_or("-");
        let separator = if text.is_empty() { "" } else { ", " };
        let position = Position { quantity: number("quantity"), avg_price: number("avg_price") };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{} {}", escape(symbol), format_position(position));
    }
    if text.is_empty() { "no open positions".to_owned() } else { text }
}

/// `0.01 @ 64,000.00`
fn format_position(position: Position) -> String {
    let Position { quantity, avg_price } = position;
    let note = position.residue_note();
    format!("{} @ {}{note}", format_number(quantity), format_money(avg_price))
}

/// Explains the risk posture of a cycle record. It is a statement only: no risk check uses it.
fn explain_posture(cycle: &Value) -> String {
    let posture = member(cycle, &["orient", "risk_posture"]).as_str().unwrap_or("-").replace('_', " ");
    let number = |path: &[&str]| member(cycle, path).as_f64();
    let total = number(&["orient", "total_position_notional_usd"]);
    let limit = number(&["orient", "limits", "max_position_notional_usd"]);
    let (Some(total), Some(limit)) = (total, limit) else { return escape(&posture) };
    let [total_text, limit_text] = format_money_apart([total, limit]);
    let meaning = match posture.as_str() {
        "flat" => format!("no position is open; one position may hold up to {limit_text} USD"),
        "capacity reached" => format!(
            "all positions together hold {total_text} USD, no less than the {limit_text} USD that one position \
             may hold; this alone rejects no order"
        ),
        _ => format!(
            "all positions together hold {total_text} USD, less than the {limit_text} USD that one position may hold"
        ),
    };
    format!("{}: {meaning}", escape(&posture))
}

/// Explains where the process that ran a cycle got its state from.
///
/// `durable` in the record is about that state only. A cycle on a bus is durable, so the text does
/// not repeat the word.
fn explain_recovery(cycle: &Value) -> String {
    match member(cycle, &["observe", "recovery", "source"]).as_str() {
        Some("memory") => "a start without earlier decisions".to_owned(),
        Some(source @ ("journal" | "bus")) => format!("state recovered from the {source}"),
        source => format!("state from {}", escape(source.unwrap_or("-"))),
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, name, value } = self;
        if *name == "confidence" {
            return write!(f, "{name} {value} < minimum {limit}");
        }
        let [value, limit] = format_money_apart([*value, *limit]);
        write!(f, "{name} {value} > limit {limit}")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol = escape(&self.symbol);
        let [before, after] =
            [self.before, self.after].map(|(quantity, avg_price)| Position { quantity, avg_price });
        let text = |position: Position| match position.quantity {
            0.0 => "no position".to_owned(),
            _ => format_position(position),
        };
        if after == before {
            return write!(f, "{symbol} unchanged: {}", text(before));
        }
        let mut texts = [before, after].map(text);
        if texts[0] == texts[1] {
            let quantities = format_numbers_apart([before.quantity, after.quantity]);
            let prices = format_money_apart([before.avg_price, after.avg_price]);
            texts = [0, 1].map(|side| format!("{} @ {}", quantities[side], prices[side]));
        }
        write!(f, "{symbol} changes from {} to {}", texts[0], texts[1])
    }
}

impl fmt::Display for OrderCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cycle = self.cycle.value();
        let text = |path: &[&str]| escape(member(&cycle, path).as_str().unwrap_or("-"));
        let count = |path: &[&str], noun: &str| match member(&cycle, path).as_u64() {
            Some(count) => counted(count, noun),
            None => format!("- {noun}s"),
        };

        let cycle_id = member(&cycle, &["cycle_id"]).as_u64().map_or("-".to_owned(), |id| id.to_string());
        let time = rfc3339(self.as_of).unwrap_or_else(|| self.as_of.to_string());
        writeln!(f, "cycle {cycle_id} of {}, {time}", text(&["observe", "scenario"]))?;
        writeln!(
            f,
            "observe  {}; {} before, {}, {}; {}",
            format_positions(member(&cycle, &["observe", "open_positions"])),
            count(&["observe", "decisions_seen"], "decision"),
            count(&["observe", "fills_seen"], "fill"),
            count(&["observe", "rejections_seen"], "rejection"),
            explain_recovery(&cycle),
        )?;
        writeln!(f, "orient   {}", explain_posture(&cycle))?;
        let order = self.decision.order();
        writeln!(
            f,
            "decide   {} {} {} @ {} = {} USD, confidence {}{}",
            text(&["decide", "intent", "side"]),
            format_number(order.quantity),
            escape(&order.symbol),
            format_money(order.price),
            format_money(order.notional_usd()),
            order.confidence,
            if order.reduce_only { ", reduce-only" } else { "" },
        )?;
        let outcome = if self.decision.allowed { "filled" } else { "rejected" };
        let numbers = match &self.limit {
            Some(limit) => format!(" ({limit})"),
            None => self.reduce_only_numbers(),
        };
        writeln!(f, "act      {outcome}: {}{numbers}", escape(&self.decision.reason))?;
        writeln!(
            f,
            "learn    {}; {}, {}, {}",
            self.position,
            count(&["learn", "decisions"], "decision"),
            count(&["learn", "fills"], "fill"),
            count(&["learn", "rejections"], "rejection"),
        )?;
        let events: Vec<String> =
            self.events.iter().map(|(id, event_type)| format!("{id} {}", escape(event_type))).collect();
        write!(f, "events   {}", events.join("\n         "))
    }
}
