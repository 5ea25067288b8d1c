//! Explains a cycle on market data, which has any number of intents.

use std::fmt;

use serde::Serialize;
use zero_bus::{Event, Json, Value};

use crate::clock::rfc3339;
use crate::event_types::OBSERVATION;
use crate::field::{Field, Problem};
use crate::position::Position;
use crate::reached_limit::LimitNumbers;
use crate::text::{counted, escape, format_money, format_number, shorten};

/// The explanation of a cycle on market data. `Display` renders it for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MarketCycle {
    /// The cycle record.
    pub cycle: Json,
    /// The decisions, each with the numbers of the limit that rejected it.
    pub decisions: Vec<DecisionNumbers>,
    /// Id and type of each event of the cycle.
    pub events: Vec<(String, String)>,
    /// The candles of the observation; null if it is not among the events.
    pub market: Json,
    #[serde(skip)]
    as_of: f64,
}

/// A decision about one intent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionNumbers {
    /// Whether the order was accepted.
    pub allowed: bool,
    /// The limit that rejected it, with the order's value.
    pub limit: Option<LimitNumbers>,
    /// Identifies the order.
    pub order_id: Option<String>,
    /// The reason.
    pub reason: String,
    /// Symbol of the instrument.
    pub symbol: String,
}

/// Longest text of a strategy in an explanation, in characters.
const MAX_REASON_CHARACTERS: usize = 200;

impl MarketCycle {
    /// Explains the cycle of this record and these events.
    pub(super) fn of(record: &Event, events: &[Event]) -> Result<Self, Problem> {
        let cycle = record.payload.value();
        let act = Field::root(&cycle).required("act")?;
        let decision = |field: Field<'_>| {
            let text = |key: &'static str| Ok::<_, Problem>(field.required(key)?.text()?.to_owned());
            Ok(DecisionNumbers {
                allowed: field.required("allowed")?.bool()?,
                limit: LimitNumbers::of(field.value()),
                order_id: text("order_id").ok(),
                reason: text("reason")?,
                symbol: text("symbol")?,
            })
        };
        let decisions = act.required("decisions")?.items()?.map(decision).collect::<Result<_, Problem>>()?;
        let observation = events.iter().find(|event| event.event_type == OBSERVATION);
        let observation = observation.map(|event| event.payload.value());
        let candles = observation.as_ref().and_then(|observation| observation.get("candles"));
        let market = Json::try_from(candles.unwrap_or(&Value::Null)).map_err(|error| error.to_string())?;
        let events = events.iter().map(|event| (event.id(), event.event_type.clone())).collect();
        Ok(Self { cycle: record.payload.clone(), decisions, events, market, as_of: record.as_of })
    }
}

/// Returns the member at a path of names; `null` if it is missing.
fn member<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(value, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    match member(value, path) {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// A text of a record; `-` if it is missing.
fn text(value: &Value, path: &[&str]) -> String {
    escape(&shorten(member(value, path).as_str().unwrap_or("-"), MAX_REASON_CHARACTERS))
}

fn money(value: &Value, path: &[&str]) -> String {
    member(value, path).as_f64().map_or_else(|| "-".to_owned(), format_money)
}

fn number(value: &Value, key: &str) -> String {
    member(value, &[key]).as_f64().map_or_else(|| "-".to_owned(), format_number)
}

fn count(value: &Value, path: &[&str], noun: &str) -> String {
    match member(value, path).as_u64() {
        Some(count) => counted(count, noun),
        None => format!("- {noun}s"),
    }
}

fn time(seconds: Option<f64>) -> String {
    let time = |seconds: f64| rfc3339(seconds).unwrap_or_else(|| seconds.to_string());
    seconds.map_or_else(|| "-".to_owned(), time)
}

/// `BTC 640.5, ETH 31.2`
fn closes(market: &Value) -> String {
    let close = |candle: &Value| format!("{} {}", text(candle, &["symbol"]), number(candle, "close"));
    let closes: Vec<String> = items(market, &[]).iter().map(close).collect();
    if closes.is_empty() { "no candle".to_owned() } else { closes.join(", ") }
}

/// `BTC 0.76 @ 665.88 (mark 626.14, -30.21)`
fn positions(records: &[Value]) -> String {
    let position = |record: &Value| {
        let value = |key| member(record, &[key]).as_f64().unwrap_or(0.0);
        let note = Position { quantity: value("quantity"), avg_price: value("avg_price") }.residue_note();
        format!(
            "{} {} @ {}{note} (mark {}, {})",
            text(record, &["symbol"]),
            number(record, "quantity"),
            money(record, &["avg_price"]),
            money(record, &["mark_price"]),
            money(record, &["unrealized_pnl_usd"]),
        )
    };
    let positions: Vec<String> = records.iter().map(position).collect();
    if positions.is_empty() { "no open positions".to_owned() } else { positions.join(", ") }
}

/// `buy 0.5 BTC, limit price 620, reduce-only`
fn order(record: &Value) -> String {
    let limit_price = match member(record, &["limit_price"]).as_f64() {
        Some(price) => format!(", limit price {}", format_number(price)),
        None => String::new(),
    };
    let reduce_only =
        if member(record, &["reduce_only"]).as_bool() == Some(true) { ", reduce-only" } else { "" };
    let (side, quantity) = (text(record, &["side"]), number(record, "quantity"));
    format!("{side} {quantity} {}{limit_price}{reduce_only}", text(record, &["symbol"]))
}

/// `filled @ 640.2 = 320.10 USD (reference 640), fee 0.16, realised 0.00`
fn fill(record: &Value) -> String {
    format!(
        "filled @ {} = {} USD (reference {}), fee {}, realised {}",
        number(record, "price"),
        money(record, &["notional_usd"]),
        number(record, "reference_price"),
        money(record, &["fee_usd"]),
        money(record, &["realized_pnl_usd"]),
    )
}

/// The account against the limits that are set.
fn explain_orient(cycle: &Value) -> String {
    let orient = member(cycle, &["orient"]);
    let mut parts = vec![text(orient, &["risk_posture"]).replace('_', " ")];
    for (name, key, limit, unit) in [
        ("gross exposure", "gross_exposure_usd", "max_gross_exposure_usd", "USD"),
        ("loss of the day", "daily_loss_usd", "max_daily_loss_usd", "USD"),
        ("drawdown", "drawdown_pct", "max_drawdown_pct", "%"),
        ("orders in the last minute", "orders_last_minute", "max_orders_per_minute", ""),
        ("age of the data", "data_age_s", "max_data_age_s", "s"),
    ] {
        let Some(value) = member(orient, &[key]).as_f64() else { continue };
        let bound = member(orient, &["limits", limit]).as_f64();
        let show = |number| if unit == "USD" { format_money(number) } else { format_number(number) };
        let bound = bound.map_or_else(String::new, |bound| format!(" (limit {})", show(bound)));
        parts.push(format!("{name} {} {unit}", show(value)).trim_end().to_owned() + &bound);
    }
    if member(orient, &["stale_data"]).as_bool() == Some(true) {
        parts.push("the data is stale".to_owned());
    }
    parts.join("; ")
}

fn explain_decide(cycle: &Value) -> String {
    let decide = member(cycle, &["decide"]);
    let (name, version) = (text(decide, &["strategy", "name"]), text(decide, &["strategy", "version"]));
    let strategy = if version.is_empty() { name } else { format!("{name} {version}") };
    if decide.get("failure").is_some() {
        let (kind, reason) = (text(decide, &["failure", "kind"]), text(decide, &["failure", "reason"]));
        return format!("{strategy} failed: {reason} ({kind}); no order");
    }
    let intents = items(decide, &["intents"]);
    if intents.is_empty() {
        return match decide.get("hold_reason") {
            Some(_) => format!("{strategy} holds: {}", text(decide, &["hold_reason"])),
            None => format!("{strategy} holds"),
        };
    }
    let intent = |intent: &Value| {
        let reason = match member(intent, &["reason"]).as_str() {
            None | Some("") => String::new(),
            Some(_) => format!(": {}", text(intent, &["reason"])),
        };
        format!("\n         {}, confidence {}{reason}", order(intent), number(intent, "confidence"))
    };
    let intents_text: String = intents.iter().map(intent).collect();
    format!("{strategy}, {}{intents_text}", counted(intents.len() as u64, "intent"))
}

/// One line for each fill, expiry and decision.
fn explain_act(cycle: &Value) -> String {
    let act = member(cycle, &["act"]);
    let mut lines: Vec<String> = items(act, &["fills"])
        .iter()
        .map(|record| format!("{} of an earlier cycle {}", order(record), fill(record)))
        .collect();
    lines.extend(
        items(act, &["expired"])
            .iter()
            .map(|record| format!("{} expired: {}", order(record), text(record, &["reason"]))),
    );
    let filled =
        |id: &Value| items(act, &["immediate_fills"]).iter().find(|fill| fill.get("order_id") == Some(id));
    for decision in items(act, &["decisions"]) {
        let numbers = LimitNumbers::of(decision).map_or_else(String::new, |limit| format!(" ({limit})"));
        let price = match member(decision, &["price"]).as_f64() {
            Some(price) => format!(" @ {}", format_money(price)),
            None => String::new(),
        };
        let allowed = member(decision, &["allowed"]).as_bool() == Some(true);
        let outcome = match filled(member(decision, &["order_id"])) {
            _ if !allowed => "rejected".to_owned(),
            Some(record) => fill(record),
            None => "accepted, waits for its fill".to_owned(),
        };
        lines.push(format!("{}{price} {outcome}: {}{numbers}", order(decision), text(decision, &["reason"])));
    }
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n         ") }
}

impl fmt::Display for MarketCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cycle = self.cycle.value();
        let observe = member(&cycle, &["observe"]);
        let cycle_id = member(&cycle, &["cycle_id"]).as_u64().map_or("-".to_owned(), |id| id.to_string());
        writeln!(f, "cycle {cycle_id} of {}, {}", text(observe, &["scenario"]), time(Some(self.as_of)))?;
        writeln!(
            f,
            "observe  {} from {}, bar {} to {}",
            closes(&self.market.value()),
            text(observe, &["market_source"]),
            time(member(observe, &["ts"]).as_f64()),
            time(member(observe, &["close_ts"]).as_f64()),
        )?;
        writeln!(
            f,
            "         {}; {}; cash {}, equity {} USD",
            positions(items(observe, &["open_positions"])),
            counted(items(observe, &["open_orders"]).len() as u64, "open order"),
            money(observe, &["cash_usd"]),
            money(observe, &["equity_usd"]),
        )?;
        writeln!(f, "orient   {}", explain_orient(&cycle))?;
        writeln!(f, "decide   {}", explain_decide(&cycle))?;
        writeln!(f, "act      {}", explain_act(&cycle))?;
        writeln!(
            f,
            "learn    {}, {}, {}; {}, {}",
            count(&cycle, &["learn", "decisions"], "decision"),
            count(&cycle, &["learn", "fills"], "fill"),
            count(&cycle, &["learn", "rejections"], "rejection"),
            count(&cycle, &["learn", "open_positions"], "open position"),
            count(&cycle, &["learn", "open_orders"], "open order"),
        )?;
        let events: Vec<String> =
            self.events.iter().map(|(id, event_type)| format!("{id} {}", escape(event_type))).collect();
        write!(f, "events   {}", events.join("\n         "))
    }
}
