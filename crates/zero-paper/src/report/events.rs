//! The fields of events that a report uses.

use zero_bus::{Event, Value};

use crate::cycle::{CYCLE_SCHEMA, MARKET_CYCLE_SCHEMA};
use crate::cycle_settings::CycleSettings;
use crate::field::{Field, Problem};
use crate::report::ledger::{FillRow, HeldPosition};
use crate::scenario::Side;

/// A rejected order, as an event of the bus states it. Any program may append one, so a field may
/// be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectionRow {
    /// Time of the event, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Index of the event.
    pub event_index: u64,
    /// The bound, and the order's value, if a limit rejected the order.
    pub limit: Option<(String, f64, f64)>,
    /// Quantity times price in USD.
    pub notional_usd: Option<f64>,
    /// The price in USD.
    pub price: Option<f64>,
    /// The quantity.
    pub quantity: Option<f64>,
    /// The reason; `-` if the event states none.
    pub reason: String,
    /// Buy or sell.
    pub side: Option<String>,
    /// Who submitted the order.
    pub source: Option<String>,
    /// Symbol of the instrument.
    pub symbol: Option<String>,
}

/// The strategy that a cycle record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Its name.
    pub name: String,
    /// The hash of its program or file.
    pub sha256: String,
    /// Its version.
    pub version: String,
}

/// What a report uses of a cycle record. A field of another type counts as missing.
#[derive(Default)]
pub(super) struct CycleFields {
    pub(super) cash_usd: Option<f64>,
    pub(super) market_source: Option<String>,
    pub(super) run_name: Option<String>,
    pub(super) settings: CycleSettings,
    pub(super) strategy: Option<Strategy>,
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key)?.as_f64().filter(|number| number.is_finite())
}

/// Whether this is the record of a cycle 1, which begins a run.
pub(super) fn is_first_cycle(event: &Event) -> bool {
    let record = event.payload.value();
    let schema = record.get("schema_version").and_then(Value::as_str);
    let is_known = schema == Some(CYCLE_SCHEMA) || schema == Some(MARKET_CYCLE_SCHEMA);
    is_known && record.get("cycle_id").and_then(Value::as_u64) == Some(1)
}

pub(super) fn cycle_fields(event: &Event) -> CycleFields {
    let record = event.payload.value();
    let Some(observe) = record.get("observe") else { return CycleFields::default() };
    let strategy = record.get("decide").and_then(|decide| decide.get("strategy"));
    CycleFields {
        cash_usd: number(observe, "cash_usd"),
        market_source: text(observe, "market_source"),
        run_name: text(observe, "scenario"),
        settings: record.get("orient").map(CycleSettings::read).unwrap_or_default(),
        strategy: strategy.and_then(|strategy| {
            Some(Strategy {
                name: text(strategy, "name")?,
                sha256: text(strategy, "sha256").unwrap_or_default(),
                version: text(strategy, "version").unwrap_or_default(),
            })
        }),
    }
}

/// The closes of a market observation, by symbol.
pub(super) fn closes(event: &Event) -> Result<Vec<(String, f64)>, Problem> {
    let payload = event.payload.value();
    let root = Field::root(&payload);
    let candles = root.required("candles")?;
    let close = |candle: Field<'_>| {
        Ok((candle.required("symbol")?.text()?.to_owned(), candle.required("close")?.positive()?))
    };
    candles.items()?.map(close).collect()
}

/// The symbol and the price of a decision; `None` if it has no price.
pub(super) fn decision_price(event: &Event) -> Option<(String, f64)> {
    let payload = event.payload.value();
    Some((text(&payload, "symbol")?, number(&payload, "price").filter(|price| *price > 0.0)?))
}

/// A fill. Symbol, side, quantity and price are required.
pub(super) fn fill(event: &Event) -> Result<FillRow, Problem> {
    let payload = event.payload.value();
    let root = Field::root(&payload);
    let side = root.required("side")?;
    let side = Side::parse(side.text()?).ok_or_else(|| side.problem("must be `buy` or `sell`"))?;
    let fee_usd = root.optional("fee_usd").map_or(Ok(0.0), |fee| fee.number())?;
    let reference_price = root.optional("reference_price").map(|price| price.positive()).transpose()?;
    Ok(FillRow {
        as_of: event.as_of,
        event_index: event.index,
        fee_usd,
        fill_id: text(&payload, "fill_id"),
        order_id: text(&payload, "order_id"),
        price: root.required("price")?.positive()?,
        quantity: root.required("quantity")?.positive()?,
        reference_price,
        side,
        symbol: root.required("symbol")?.text()?.to_owned(),
    })
}

pub(super) fn rejection(event: &Event) -> RejectionRow {
    let payload = event.payload.value();
    let limit = payload
        .get("limit")
        .and_then(|limit| Some((text(limit, "name")?, number(limit, "bound")?, number(limit, "value")?)));
    RejectionRow {
        as_of: event.as_of,
        event_index: event.index,
        limit,
        notional_usd: number(&payload, "notional_usd"),
        price: number(&payload, "price"),
        quantity: number(&payload, "quantity"),
        reason: text(&payload, "reason").unwrap_or_else(|| "-".to_owned()),
        side: text(&payload, "side"),
        source: text(&payload, "source"),
        symbol: text(&payload, "symbol"),
    }
}

/// The positions of a snapshot. Symbol, quantity and average price are required.
pub(super) fn positions(event: &Event) -> Result<Vec<HeldPosition>, Problem> {
    let payload = event.payload.value();
    let root = Field::root(&payload);
    let positions = root.required("positions")?;
    let position = |position: Field<'_>| {
        Ok(HeldPosition {
            symbol: position.required("symbol")?.text()?.to_owned(),
            quantity: position.required("quantity")?.number()?,
            avg_price: position.required("avg_price")?.positive()?,
            mark_price: position.optional("mark_price").map(|price| price.positive()).transpose()?,
        })
    };
    positions.items()?.map(position).collect()
}

/// Cash and equity as a position snapshot states them.
pub(super) fn stated_cash_and_equity(event: &Event) -> (Option<f64>, Option<f64>) {
    let payload = event.payload.value();
    (number(&payload, "cash_usd"), number(&payload, "equity_usd"))
}
