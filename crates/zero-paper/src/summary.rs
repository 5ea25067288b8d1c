//! One event in one line, as a person would tell it.

use zero_bus::{Event, Value};

use crate::event_types::{OPERATOR_APPLIED as APPLIED, OPERATOR_COMMAND as COMMAND};

/// What there is to tell about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What kind of event, in one word where it is the runtime's own; its type otherwise.
    pub kind: String,
    /// What happened.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

/// How the news is meant, for whoever shows it in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something was done.
    Done,
    /// Something was not let through.
    Refused,
    /// The operator speaks, or is answered.
    Operator,
    /// A record that goes with every cycle.
    Routine,
    /// Somebody else's event.
    Other,
}

/// Characters of what is told about an event.
const MOST_CHARACTERS: usize = 400;

/// A text without anything that commands a terminal or changes the direction of what follows.
pub fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escaped = |c: char| match c.is_control() || turns(c) {
        true => c.escape_default().collect::<Vec<_>>(),
        false => vec![c],
    };
    text.chars().flat_map(escaped).collect()
}

/// A number of things: `1 event`, `30 events`.
pub fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Tells an event. What it says was written by whoever may append: nothing in it commands a terminal.
///
/// ```
/// use zero_bus::{Bus, Draft, Json};
/// # let dir = tempfile::tempdir().unwrap();
/// let bus = Bus::open(dir.path())?;
/// let payload = Json::parse(r#"{"symbol":"ETH","side":"buy","quantity":1,"price":3000,"reason":"order notional exceeds limit"}"#)?;
/// let event = bus.append(Draft { event_type: "rejection.record".into(), as_of: 0.0, payload, trace_id: None })?;
/// let told = zero_paper::summary::summarize(&event);
/// assert_eq!(format!("{} {}", told.kind, told.text), "rejection ETH buy 1 @ 3000 order notional exceeds limit");
/// # Ok::<(), zero_bus::Error>(())
/// ```
pub fn summarize(event: &Event) -> Summary {
    let payload = event.payload.value();
    let known = match event.event_type.as_str() {
        "runtime.cycle" => cycle(&payload).map(|text| ("cycle", text, Tone::Routine)),
        "decision.record" => decision(&payload).map(|text| ("decision", text, Tone::Routine)),
        "fill.record" => fill(&payload).map(|text| ("fill", text, Tone::Done)),
        "rejection.record" => rejection(&payload).map(|text| ("rejection", text, Tone::Refused)),
        "position.snapshot" => positions(&payload).map(|text| ("positions", text, Tone::Routine)),
        "runtime.health" => health(&payload).map(|text| ("health", text, Tone::Routine)),
        COMMAND => command(&payload).map(|text| ("command", text, Tone::Operator)),
        APPLIED => applied(&payload).map(|text| ("applied", text, Tone::Operator)),
        _ => None,
    };
    let (kind, text, tone) = known.map_or_else(
        || (event.event_type.clone(), event.payload.to_string(), Tone::Other),
        |(kind, text, tone)| (kind.to_owned(), text, tone),
    );
    Summary { kind: plain(&shortened(&kind)), text: plain(&shortened(&text)), tone }
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

/// A number as a person reads it: what adding up left behind its twelfth digit is not shown.
fn short(number: f64) -> f64 {
    format!("{number:.11e}").parse().unwrap_or(number)
}

/// `ETH buy 1 @ 3000`
fn order(payload: &Value) -> Option<String> {
    let (symbol, side) = (text(payload, "symbol")?, text(payload, "side")?);
    Some(format!(
        "{symbol} {side} {} @ {}",
        short(number(payload, "quantity")?),
        short(number(payload, "price")?)
    ))
}

fn cycle(payload: &Value) -> Option<String> {
    let posture = payload.get("orient")?.get("risk_posture")?.as_str()?.replace('_', " ");
    let scenario = text(payload.get("observe")?, "scenario")?;
    Some(format!("{} of {scenario}, {posture}", count(payload, "cycle_id")?))
}

fn decision(payload: &Value) -> Option<String> {
    Some(format!("{}: {}", order(payload)?, text(payload, "reason")?))
}

fn fill(payload: &Value) -> Option<String> {
    Some(format!("{} = {:.2} USD", order(payload)?, number(payload, "notional_usd")?))
}

fn rejection(payload: &Value) -> Option<String> {
    Some(format!("{} {}", order(payload)?, text(payload, "reason")?))
}

fn positions(payload: &Value) -> Option<String> {
    let Value::Array(records) = payload.get("positions")? else { return None };
    let one = |record: &Value| {
        let (quantity, price) = (short(number(record, "quantity")?), number(record, "avg_price")?);
        Some(format!("{} {quantity} @ {price:.2}", text(record, "symbol")?))
    };
    let all = records.iter().map(one).collect::<Option<Vec<_>>>()?;
    Some(if all.is_empty() { "nothing held".to_owned() } else { all.join(", ") })
}

fn health(payload: &Value) -> Option<String> {
    let count = |key| count(payload, key);
    Some(format!(
        "{}, {}, {}, {} open",
        counted(count("decisions")?, "decision"),
        counted(count("fills")?, "fill"),
        counted(count("rejections")?, "rejection"),
        count("open_positions")?
    ))
}

fn command(payload: &Value) -> Option<String> {
    let part = |key: &str, before: &str| {
        let said = text(payload, key).filter(|said| !said.is_empty());
        said.map_or(String::new(), |said| format!("{before}{said}"))
    };
    Some(format!("{}{}{}", text(payload, "action")?, part("actor", " by "), part("reason", ": ")))
}

fn applied(payload: &Value) -> Option<String> {
    Some(format!("{}, as {} says", text(payload, "effect")?, text(payload, "command_event_id")?))
}
