//! The lines that the runtime and a strategy's program exchange, `zero.strategy.v1`.

use serde::Serialize;
use zero_bus::{Json, JsonError, Value};

use crate::account::{Costs, MarkedPosition};
use crate::candle::Candle;
use crate::field::{Field, Problem};
use crate::order_record::OrderDecision;
use crate::scenario::{Limits, Side};
use crate::strategy::interface::{Answer, Intent, Observation, Start};

/// The `schema_version` of the protocol.
const SCHEMA: &str = "zero.strategy.v1";

/// The line that ends a program.
pub(super) const STOP_LINE: &str = "{\"type\":\"stop\"}\n";

/// The first line to a program.
#[derive(Serialize)]
struct StartMessage<'a> {
    costs: &'a Costs,
    limits: LimitsMessage<'a>,
    schema_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a Json>,
    symbols: &'a [String],
    r#type: &'static str,
}

/// The limits that are set.
#[derive(Serialize)]
struct LimitsMessage<'a> {
    #[serde(flatten)]
    checked: &'a Limits,
    max_leverage: f64,
}

/// A bar, for a program.
#[derive(Serialize)]
struct BarMessage<'a> {
    as_of: f64,
    candles: &'a [Candle],
    cycle_id: u64,
    equity_usd: f64,
    last: &'a [OrderDecision],
    positions: &'a [MarkedPosition],
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<bool>,
    r#type: &'static str,
}

/// The line that starts a program.
pub(super) fn start_line(start: &Start<'_>) -> Result<String, JsonError> {
    line(&StartMessage {
        costs: start.costs,
        limits: LimitsMessage { checked: start.limits, max_leverage: start.limits.max_leverage },
        schema_version: SCHEMA,
        state: start.state,
        symbols: start.symbols,
        r#type: "start",
    })
}

/// The line that asks a program to decide or, for a replay, to catch up with a recorded bar.
pub(super) fn bar_line(observation: &Observation<'_>, is_replay: bool) -> Result<String, JsonError> {
    line(&BarMessage {
        as_of: observation.as_of,
        candles: &observation.bar.candles,
        cycle_id: observation.cycle_id,
        equity_usd: observation.equity_usd,
        last: observation.last,
        positions: observation.positions,
        replay: is_replay.then_some(true),
        r#type: "bar",
    })
}

fn line(message: &impl Serialize) -> Result<String, JsonError> {
    Ok(format!("{}\n", Json::of(message)?.as_str()))
}

/// Reads an answer: `{"orders": [...], "state"?, "cycle_id"?}`. Passes the path of each unknown
/// field to `unknown`. Invalid orders make the whole answer invalid.
///
/// # Errors
/// The field at fault and the problem with it.
pub(super) fn parse_answer(
    text: &str,
    cycle_id: u64,
    mut unknown: impl FnMut(&str),
) -> Result<Answer, Problem> {
    let value = Value::parse(text).map_err(|error| format!("not a line of JSON: {error}"))?;
    let root = Field::root(&value);
    root.object()?
        .filter(|member| !member.is_one_of(&["orders", "state", "cycle_id"]))
        .for_each(|member| unknown(member.path()));
    if let Some(echo) = root.optional("cycle_id")
        && echo.value().as_u64() != Some(cycle_id)
    {
        return Err(echo.problem(&format!("is not that of the bar, {cycle_id}")));
    }
    let mut intents = Vec::new();
    for order in root.required("orders")?.items()? {
        intents.push(read_intent(&order, &mut unknown)?);
    }
    let state = root.optional_unless_null("state");
    let state =
        state.map(|state| Json::try_from(state.value()).map_err(|error| state.problem(error.problem())));
    let state = state.transpose()?;
    let hold_reason = intents.is_empty().then(|| "no orders".to_owned());
    Ok(Answer { intents, state, hold_reason })
}

fn read_intent(order: &Field<'_>, mut unknown: impl FnMut(&str)) -> Result<Intent, Problem> {
    const MEMBERS: [&str; 8] =
        ["symbol", "side", "quantity", "confidence", "reason", "reduce_only", "limit_price", "key"];
    order.object()?.filter(|member| !member.is_one_of(&MEMBERS)).for_each(|member| unknown(member.path()));
    let side = order.required("side")?;
    let side_text = side.text()?;
    let intent = Intent {
        symbol: order.required("symbol")?.text()?.to_uppercase(),
        side: Side::parse(side_text)
            .ok_or_else(|| side.problem(&format!("must be `buy` or `sell`, is `{side_text}`")))?,
        quantity: order.required("quantity")?.number()?,
        confidence: order.required("confidence")?.number()?,
        reason: order.required("reason")?.text()?.to_owned(),
        reduce_only: order.optional("reduce_only").map_or(Ok(false), |reduce_only| reduce_only.bool())?,
        limit_price: order.optional_unless_null("limit_price").map(|price| price.number()).transpose()?,
        key: order.optional_unless_null("key").map(|key| key.text().map(str::to_owned)).transpose()?,
    };
    match intent.check() {
        Ok(()) => Ok(intent),
        Err((invalid, problem)) => Err(order.required(invalid)?.problem(&problem)),
    }
}
