//! What was decided about one order: the record that the journal, the bus and the cycle share.

use serde::Serialize;
use zero_bus::Value;

use crate::field::{Field, Problem};
use crate::position::to_cents;
use crate::scenario::{Order, Side, read_order};

/// A decision record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Whether the order was let through, and so filled.
    pub allowed: bool,
    /// When, in seconds since the Unix epoch.
    pub as_of: f64,
    /// The order's confidence.
    pub confidence: f64,
    /// The key under which the order was handed in, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What the order is worth in USD, to the cent.
    pub notional_usd: f64,
    /// The order's price in USD.
    pub price: f64,
    /// The order's quantity.
    pub quantity: f64,
    /// Why, in the words of [`RiskDecision::reason`](crate::risk::RiskDecision::reason).
    pub reason: String,
    /// Whether the order was to reduce only.
    pub reduce_only: bool,
    /// Which way.
    pub side: Side,
    /// Who handed it in.
    pub source: String,
    /// Of what.
    pub symbol: String,
    /// What it belongs to, where somebody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// Who hands an order in, when, and under which names.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission<'a> {
    /// Who.
    pub source: &'a str,
    /// Under which key: a key that was used before makes no second fill.
    pub idempotency_key: Option<&'a str>,
    /// What it belongs to.
    pub trace_id: Option<&'a str>,
    /// When, in seconds since the Unix epoch.
    pub as_of: f64,
}

impl Decision {
    pub(crate) fn new(order: &Order, submission: &Submission<'_>, allowed: bool, reason: &str) -> Self {
        Self {
            allowed,
            as_of: submission.as_of,
            confidence: order.confidence,
            idempotency_key: submission.idempotency_key.map(str::to_owned),
            notional_usd: to_cents(order.notional_usd()),
            price: order.price,
            quantity: order.quantity,
            reason: reason.to_owned(),
            reduce_only: order.reduce_only,
            side: order.side,
            source: submission.source.to_owned(),
            symbol: order.symbol.clone(),
            trace_id: submission.trace_id.map(str::to_owned),
        }
    }

    /// The order that was decided about.
    pub fn order(&self) -> Order {
        Order {
            symbol: self.symbol.clone(),
            side: self.side,
            quantity: self.quantity,
            price: self.price,
            confidence: self.confidence,
            reduce_only: self.reduce_only,
        }
    }

    /// Reads a record from JSON text.
    ///
    /// # Errors
    /// The field at fault, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        Self::read(&Field::root(&document))
    }

    pub(crate) fn read_value(value: &Value) -> Result<Self, String> {
        Self::read(&Field::root(value))
    }

    fn read(field: &Field<'_>) -> Result<Self, Problem> {
        // Says that this is no object, rather than that every field is missing.
        let _members = field.object()?;
        let order = read_order(field)?;
        let text = |key: &str| Ok::<_, Problem>(field.required(key)?.text()?.to_owned());
        let optional = |key: &str| {
            field.optional(key).map(|value| Ok::<_, Problem>(value.text()?.to_owned())).transpose()
        };
        Ok(Self {
            allowed: field.required("allowed")?.bool()?,
            as_of: field.required("as_of")?.number()?,
            confidence: order.confidence,
            idempotency_key: optional("idempotency_key")?,
            notional_usd: field.required("notional_usd")?.number()?,
            price: order.price,
            quantity: order.quantity,
            reason: text("reason")?,
            reduce_only: order.reduce_only,
            side: order.side,
            source: text("source")?,
            symbol: order.symbol,
            trace_id: optional("trace_id")?,
        })
    }
}

/// What a fill leaves on record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fill<'a> {
    as_of: f64,
    notional_usd: f64,
    price: f64,
    quantity: f64,
    side: Side,
    symbol: &'a str,
}

impl<'a> From<&'a Decision> for Fill<'a> {
    fn from(decision: &'a Decision) -> Self {
        Self {
            as_of: decision.as_of,
            notional_usd: decision.notional_usd,
            price: decision.price,
            quantity: decision.quantity,
            side: decision.side,
            symbol: &decision.symbol,
        }
    }
}
