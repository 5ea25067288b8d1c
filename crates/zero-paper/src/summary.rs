//! One-line summaries of events and decisions for people.

use zero_bus::{Event, Value};

use crate::decision::Decision;
use crate::event_types;
use crate::position::Position;
use crate::reached_limit::LimitNumbers;
use crate::text::{counted, escape, format_amount, format_number, shorten};

/// A one-line summary. All of its text is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// One word for the runtime's own event types, such as `fill`; the event type for all others.
    pub kind: String,
    /// What happened.
    pub text: String,
    /// How to highlight it.
    pub tone: Tone,
}

/// The significance of a summary, from which a program chooses its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// An order was filled.
    Done,
    /// An order was rejected.
    Refused,
    /// An operator's command, or the runtime's confirmation of it.
    Operator,
    /// A record that every cycle writes.
    Routine,
    /// An event of another program.
    Other,
}

/// Longest summary, in characters.
const MAX_SUMMARY_CHARS: usize = 400;

impl Summary {
    /// The payload was written by any program that may append, so the text is shortened and
    /// escaped.
    fn new(kind: &str, text: &str, tone: Tone) -> Self {
        let safe = |text| escape(&shorten(text, MAX_SUMMARY_CHARS));
        Self { kind: safe(kind), text: safe(text), tone }
    }
}

/// Summarizes an event. An event whose type is unknown or whose payload lacks a field is summarized
/// by its type and payload.
///
/// ```
/// use zero_bus::{Bus, Draft, Json};
/// # let dir = tempfile::tempdir().unwrap();
/// let bus = Bus::open(dir.path())?;
/// let payload = Json::parse(r#"{"symbol":"ETH","side":"buy","quantity":1,"price":3000,
///     "reason":"order notional exceeds limit"}"#)?;
/// let event = bus.append(Draft {
///     event_type: "rejection.record".into(),
///     as_of: 0.0,
///     payload,
///     trace_id: None,
/// })?;
/// let summary = zero_paper::summary::summarize(&event);
/// assert_eq!(summary.kind, "rejection");
/// assert_eq!(summary.text, "ETH buy 1 @ 3000 order notional exceeds limit");
/// # Ok::<(), zero_bus::Error>(())
/// ```
pub fn summarize(event: &Event) -> Summary {
    let payload = event.payload.value();
    let known = match event.event_type.as_str() {
        event_types::CYCLE => cycle(&payload).map(|text| ("cycle", text, Tone::Routine)),
        event_types::DECISION => decision(&payload).map(|text| ("decision", text, Tone::Routine)),
        event_types::FILL => fill(&payload).map(|text| ("fill", text, Tone::Done)),
        event_types::REJECTION => rejection(&payload).map(|text| ("rejection", text, Tone::Refused)),
        event_types::POSITIONS => positions(&payload).map(|text| ("positions", text, Tone::Routine)),
        event_types::HEALTH => health(&payload).map(|text| ("health", text, Tone::Routine)),
        event_types::OBSERVATION => observation(&payload).map(|text| ("market", text, Tone::Routine)),
        event_types::ORDER_OPEN => open_order(&payload).map(|text| ("order", text, Tone::Routine)),
        event_types::ORDER_EXPIRED => expired(&payload).map(|text| ("expired", text, Tone::Refused)),
        event_types::STRATEGY_FAILED => failure(&payload).map(|text| ("failed", text, Tone::Refused)),
        event_types::OPERATOR_COMMAND => command(&payload).map(|text| ("command", text, Tone::Operator)),
        event_types::OPERATOR_APPLIED => applied(&payload).map(|text| ("applied", text, Tone::Operator)),
        _ => None,
    };
    match known {
        Some((kind, text, tone)) => Summary::new(kind, &text, tone),
        None => Summary::new(&event.event_type, event.payload.as_str(), Tone::Other),
    }
}

/// Summarizes a decision as [`summarize`] does the fill or the rejection that follows it on the
/// bus.
pub fn summarize_decision(decision: &Decision) -> Summary {
    let Decision { symbol, quantity, price, notional_usd, reason, .. } = decision;
    let order = order_text(symbol, &decision.side.to_string(), *quantity, *price);
    if decision.allowed {
        Summary::new("fill", &fill_text(&order, *notional_usd), Tone::Done)
    } else {
        Summary::new("rejection", &rejection_text(&order, reason), Tone::Refused)
    }
}

/// `ETH buy 1 @ 3000`
fn order_text(symbol: &str, side: &str, quantity: f64, price: f64) -> String {
    format!("{symbol} {side} {} @ {}", format_number(quantity), format_number(price))
}

fn fill_text(order: &str, notional_usd: f64) -> String {
    format!("{order} = {} USD", format_amount(notional_usd))
}

fn rejection_text(order: &str, reason: &str) -> String {
    format!("{order} {reason}")
}

fn text<'a>(payload: &'a Value, key: &str) -> Option<&'a str> {
    payload.get(key)?.as_str()
}

fn number(payload: &Value, key: &str) -> Option<f64> {
    payload.get(key)?.as_f64()
}

fn count(payload: &Value, key: &str) -> Option<u64> {
    payload.get(key)?.as_u64()
}

/// An order; without its price if it was decided before the first candle of its symbol.
fn order(payload: &Value) -> Option<String> {
    let (symbol, side, quantity) =
        (text(payload, "symbol")?, text(payload, "side")?, number(payload, "quantity")?);
    match payload.get("price")? {
        Value::Null => Some(format!("{symbol} {side} {}", format_number(quantity))),
        _ => Some(order_text(symbol, side, quantity, number(payload, "price")?)),
    }
}

/// The limit price of an order, in front of which stands the rest of the order.
fn limit_price(payload: &Value) -> String {
    number(payload, "limit_price")
        .map_or_else(String::new, |price| format!(", limit price {}", format_number(price)))
}

fn cycle(payload: &Value) -> Option<String> {
    let posture = payload.get("orient")?.get("risk_posture")?.as_str()?.replace('_', " ");
    let scenario = text(payload.get("observe")?, "scenario")?;
    let intents = intents(payload.get("decide")?);
    Some(format!("{} of {scenario}, {posture}{intents}", count(payload, "cycle_id")?))
}

/// What the strategy of a cycle on market data asked for; nothing for a cycle of a scenario.
fn intents(decide: &Value) -> String {
    match decide.get("intents") {
        Some(Value::Array(intents)) if !intents.is_empty() => {
            format!(", {}", counted(intents.len() as u64, "intent"))
        }
        Some(Value::Array(_)) if decide.get("failure").is_some() => ", the strategy failed".to_owned(),
        Some(Value::Array(_)) => {
            let reason = text(decide, "hold_reason").map_or_else(String::new, |reason| format!(": {reason}"));
            format!(", holds{reason}")
        }
        _ => String::new(),
    }
}

fn decision(payload: &Value) -> Option<String> {
    Some(format!("{}{}: {}", order(payload)?, limit_price(payload), text(payload, "reason")?))
}

fn fill(payload: &Value) -> Option<String> {
    let fee =
        number(payload, "fee_usd").map_or_else(String::new, |fee| format!(", fee {}", format_amount(fee)));
    Some(format!("{}{fee}", fill_text(&order(payload)?, number(payload, "notional_usd")?)))
}

fn rejection(payload: &Value) -> Option<String> {
    let numbers = LimitNumbers::of(payload).map_or_else(String::new, |limit| format!(" ({limit})"));
    Some(format!("{}{numbers}", rejection_text(&order(payload)?, text(payload, "reason")?)))
}

fn observation(payload: &Value) -> Option<String> {
    let Value::Array(candles) = payload.get("candles")? else { return None };
    let close = |candle: &Value| {
        Some(format!("{} {}", text(candle, "symbol")?, format_number(number(candle, "close")?)))
    };
    let closes = candles.iter().map(close).collect::<Option<Vec<_>>>()?;
    let source = text(payload, "source")?;
    Some(if closes.is_empty() {
        format!("no candle from {source}")
    } else {
        format!("{} from {source}", closes.join(", "))
    })
}

fn open_order(payload: &Value) -> Option<String> {
    let (symbol, side) = (text(payload, "symbol")?, text(payload, "side")?);
    let quantity = format_number(number(payload, "quantity")?);
    Some(format!("{symbol} {side} {quantity}{}, waits for its fill", limit_price(payload)))
}

fn expired(payload: &Value) -> Option<String> {
    let (symbol, side) = (text(payload, "symbol")?, text(payload, "side")?);
    let quantity = format_number(number(payload, "quantity")?);
    Some(format!("{symbol} {side} {quantity}{}: {}", limit_price(payload), text(payload, "reason")?))
}

fn failure(payload: &Value) -> Option<String> {
    let name = text(payload.get("strategy")?, "name")?;
    let next = text(payload, "on_failure").map_or_else(String::new, |next| format!("; {next}"));
    Some(format!("{name}: {} ({}){next}", text(payload, "reason")?, text(payload, "kind")?))
}

fn positions(payload: &Value) -> Option<String> {
    let Value::Array(records) = payload.get("positions")? else { return None };
    let position = |record: &Value| {
        let (quantity, avg_price) = (number(record, "quantity")?, number(record, "avg_price")?);
        Some(format!(
            "{} {} @ {}{}",
            text(record, "symbol")?,
            format_number(quantity),
            format_amount(avg_price),
            Position { quantity, avg_price }.residue_note()
        ))
    };
    let positions = records.iter().map(position).collect::<Option<Vec<_>>>()?;
    let positions = if positions.is_empty() { "no open positions".to_owned() } else { positions.join(", ") };
    let equity = number(payload, "equity_usd")
        .map_or_else(String::new, |equity| format!("; equity {} USD", format_amount(equity)));
    Some(format!("{positions}{equity}"))
}

fn health(payload: &Value) -> Option<String> {
    let counted = |key, noun| Some(counted(count(payload, key)?, noun));
    Some(format!(
        "{}, {}, {}, {}",
        counted("decisions", "decision")?,
        counted("fills", "fill")?,
        counted("rejections", "rejection")?,
        counted("open_positions", "open position")?
    ))
}

fn command(payload: &Value) -> Option<String> {
    let part = |key: &str, separator: &str| match text(payload, key) {
        None | Some("") => String::new(),
        Some(value) => format!("{separator}{value}"),
    };
    Some(format!("{}{}{}", text(payload, "action")?, part("actor", " by "), part("reason", ": ")))
}

fn applied(payload: &Value) -> Option<String> {
    Some(format!("{} (command {})", text(payload, "effect")?, text(payload, "command_event_id")?))
}
