//! The records of orders in runs on market data: decisions, open orders and fills.

use serde::Serialize;

use crate::scenario::Side;

/// The `schema_version` of a decision.
pub const DECISION_SCHEMA: &str = "zero.paper.decision.v2";

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
