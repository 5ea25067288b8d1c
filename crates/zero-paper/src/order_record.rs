//! The records of orders in runs on market data: decisions, open orders, fills and expiries.

use serde::Serialize;
use zero_bus::Value;

use crate::field::{Field, Problem};
use crate::scenario::Side;

/// The `schema_version` of a decision.
pub const DECISION_SCHEMA: &str = "zero.paper.decision.v2";

/// The `schema_version` of a fill.
pub const FILL_SCHEMA: &str = "zero.paper.fill.v2";

/// The `schema_version` of an open order, and of one that has expired.
pub const ORDER_SCHEMA: &str = "zero.paper.order.v1";

/// A decision about an intent, `zero.paper.decision.v2`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderDecision {
    /// Whether the order was accepted.
    pub allowed: bool,
    /// Time of the decision, in seconds since the Unix epoch.
    pub as_of: f64,
    /// The confidence in the order.
    pub confidence: f64,
    /// The order's idempotency key.
    pub idempotency_key: String,
    /// The limit that rejected the order, with its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReachedLimit>,
    /// The worst price to fill at, in USD; `None` for a market order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_price: Option<f64>,
    /// Quantity times price in USD, rounded to cents; `None` without a price.
    pub notional_usd: Option<f64>,
    /// Identifies the order; follows from the key.
    pub order_id: String,
    /// The symbol's last close, in USD; `None` before its first candle.
    pub price: Option<f64>,
    /// The order's quantity.
    pub quantity: f64,
    /// Why the order was accepted or rejected.
    pub reason: String,
    /// Whether the order is marked reduce-only.
    pub reduce_only: bool,
    /// [`DECISION_SCHEMA`].
    pub schema_version: &'static str,
    /// Buy or sell.
    pub side: Side,
    /// Who submitted the order.
    pub source: String,
    /// Why the order was submitted.
    pub strategy_reason: String,
    /// Symbol of the instrument.
    pub symbol: String,
    /// The trace that the decision belongs to.
    pub trace_id: String,
}

/// A limit that rejected an order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReachedLimit {
    /// The limit.
    pub bound: f64,
    /// The name of the limit in the run file.
    pub name: String,
    /// The value that was compared with it.
    pub value: f64,
}

/// An accepted order that waits for its fill, `zero.paper.order.v1`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenOrder {
    /// The cycle that accepted the order.
    pub cycle_id: u64,
    /// The order's idempotency key.
    pub idempotency_key: String,
    /// The worst price to fill at, in USD; `None` for a market order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_price: Option<f64>,
    /// When the order was accepted, in seconds since the Unix epoch.
    pub opened_as_of: f64,
    /// Identifies the order.
    pub order_id: String,
    /// The order's quantity.
    pub quantity: f64,
    /// Whether the order is marked reduce-only.
    pub reduce_only: bool,
    /// [`ORDER_SCHEMA`].
    pub schema_version: &'static str,
    /// Buy or sell.
    pub side: Side,
    /// Symbol of the instrument.
    pub symbol: String,
    /// Number of bars of its symbol that the order has waited. Follows from the bars, so it is not
    /// recorded.
    #[serde(skip)]
    pub bars_waited: u64,
}

/// An order that ended without a fill: the open order, and why it ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredOrder {
    /// The cycle that accepted the order.
    pub cycle_id: u64,
    /// The order's idempotency key.
    pub idempotency_key: String,
    /// The worst price to fill at, in USD; `None` for a market order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_price: Option<f64>,
    /// When the order was accepted, in seconds since the Unix epoch.
    pub opened_as_of: f64,
    /// Identifies the order.
    pub order_id: String,
    /// The order's quantity.
    pub quantity: f64,
    /// Why the order ended.
    pub reason: String,
    /// Whether the order is marked reduce-only.
    pub reduce_only: bool,
    /// [`ORDER_SCHEMA`].
    pub schema_version: &'static str,
    /// Buy or sell.
    pub side: Side,
    /// Symbol of the instrument.
    pub symbol: String,
}

/// A fill, `zero.paper.fill.v2`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderFill {
    /// Time of the cycle, in seconds since the Unix epoch.
    pub as_of: f64,
    /// The fee in USD.
    pub fee_usd: f64,
    /// Identifies the fill: `fill-` and its number, from 1.
    pub fill_id: String,
    /// Quantity times price in USD, rounded to cents.
    pub notional_usd: f64,
    /// The order that was filled.
    pub order_id: String,
    /// The price of the fill in USD, costs included.
    pub price: f64,
    /// The filled quantity.
    pub quantity: f64,
    /// The profit that the fill realised at average cost, in USD, without fees.
    pub realized_pnl_usd: f64,
    /// The price before spread and slippage, in USD.
    pub reference_price: f64,
    /// [`FILL_SCHEMA`].
    pub schema_version: &'static str,
    /// Buy or sell.
    pub side: Side,
    /// Symbol of the instrument.
    pub symbol: String,
}

impl OpenOrder {
    /// Returns the quantity with its sign: positive for a buy.
    pub fn signed_quantity(&self) -> f64 {
        self.side.signed(self.quantity)
    }

    /// Ends the order without a fill.
    pub fn expire(self, reason: String) -> ExpiredOrder {
        let Self { cycle_id, idempotency_key, limit_price, opened_as_of, order_id, .. } = self;
        let Self { quantity, reduce_only, schema_version, side, symbol, .. } = self;
        ExpiredOrder {
            cycle_id,
            idempotency_key,
            limit_price,
            opened_as_of,
            order_id,
            quantity,
            reason,
            reduce_only,
            schema_version,
            side,
            symbol,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    pub fn from_value(record: &Value) -> Result<Self, String> {
        Self::read(&Field::root(record))
    }

    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        field.check_schema(ORDER_SCHEMA)?;
        Ok(Self {
            cycle_id: field.required("cycle_id")?.count()?,
            idempotency_key: text(field, "idempotency_key")?,
            limit_price: optional_number(field, "limit_price")?,
            opened_as_of: field.required("opened_as_of")?.number()?,
            order_id: text(field, "order_id")?,
            quantity: field.required("quantity")?.positive()?,
            reduce_only: field.required("reduce_only")?.bool()?,
            schema_version: ORDER_SCHEMA,
            side: read_side(field)?,
            symbol: text(field, "symbol")?,
            bars_waited: 0,
        })
    }
}

impl ExpiredOrder {
    /// Reads a record.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    pub fn from_value(record: &Value) -> Result<Self, String> {
        Self::read(&Field::root(record))
    }

    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        Ok(OpenOrder::read(field)?.expire(text(field, "reason")?))
    }
}

impl OrderFill {
    /// Returns the quantity with its sign: positive for a buy.
    pub fn signed_quantity(&self) -> f64 {
        self.side.signed(self.quantity)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    pub fn from_value(record: &Value) -> Result<Self, String> {
        Self::read(&Field::root(record))
    }

    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        field.check_schema(FILL_SCHEMA)?;
        let number = |key| field.required(key)?.number();
        Ok(Self {
            as_of: number("as_of")?,
            fee_usd: number("fee_usd")?,
            fill_id: text(field, "fill_id")?,
            notional_usd: number("notional_usd")?,
            order_id: text(field, "order_id")?,
            price: field.required("price")?.positive()?,
            quantity: field.required("quantity")?.positive()?,
            realized_pnl_usd: number("realized_pnl_usd")?,
            reference_price: number("reference_price")?,
            schema_version: FILL_SCHEMA,
            side: read_side(field)?,
            symbol: text(field, "symbol")?,
        })
    }
}

impl OrderDecision {
    /// Reads a record.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    pub fn from_value(record: &Value) -> Result<Self, String> {
        Self::read(&Field::root(record))
    }

    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        field.check_schema(DECISION_SCHEMA)?;
        let nullable = |key| field.required(key)?.nullable_number();
        let limit = field.optional("limit").map(|limit| ReachedLimit::read(&limit)).transpose()?;
        Ok(Self {
            allowed: field.required("allowed")?.bool()?,
            as_of: field.required("as_of")?.number()?,
            confidence: field.required("confidence")?.number()?,
            idempotency_key: text(field, "idempotency_key")?,
            limit,
            limit_price: optional_number(field, "limit_price")?,
            notional_usd: nullable("notional_usd")?,
            order_id: text(field, "order_id")?,
            price: nullable("price")?,
            quantity: field.required("quantity")?.positive()?,
            reason: text(field, "reason")?,
            reduce_only: field.required("reduce_only")?.bool()?,
            schema_version: DECISION_SCHEMA,
            side: read_side(field)?,
            source: text(field, "source")?,
            strategy_reason: text(field, "strategy_reason")?,
            symbol: text(field, "symbol")?,
            trace_id: text(field, "trace_id")?,
        })
    }
}

impl ReachedLimit {
    fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let number = |key| field.required(key)?.number();
        Ok(Self { bound: number("bound")?, name: text(field, "name")?, value: number("value")? })
    }
}

fn text(field: &Field<'_>, key: &'static str) -> Result<String, Problem> {
    Ok(field.required(key)?.text()?.to_owned())
}

fn optional_number(field: &Field<'_>, key: &'static str) -> Result<Option<f64>, Problem> {
    field.optional(key).map(|value| value.number()).transpose()
}

fn read_side(field: &Field<'_>) -> Result<Side, Problem> {
    let side = field.required("side")?;
    Side::parse(side.text()?).ok_or_else(|| side.problem("must be `buy` or `sell`"))
}
