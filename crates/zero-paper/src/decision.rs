//! The decision record: one order and its outcome, as journal, bus and cycle record hold it.

use serde::Serialize;
use zero_bus::Value;

use crate::field::{Field, Problem};
use crate::position::to_cents;
use crate::scenario::{Order, Side, read_order};

/// A decision record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Whether the order was accepted, and therefore filled.
    pub allowed: bool,
    /// Time of the decision, in seconds since the Unix epoch.
    pub as_of: f64,
    /// The order's confidence.
    pub confidence: f64,
    /// The order's idempotency key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Quantity times price in USD, rounded to cents.
    pub notional_usd: f64,
    /// The order's price in USD.
    pub price: f64,
    /// The order's quantity.
    pub quantity: f64,
    /// The reason, a text of [`RiskDecision::reason`](crate::risk::RiskDecision::reason).
    pub reason: String,
    /// Whether the order is marked reduce-only.
    pub reduce_only: bool,
    /// Buy or sell.
    pub side: Side,
    /// Who submitted the order.
    pub source: String,
    /// The order's symbol.
    pub symbol: String,
    /// The trace that the decision belongs to, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// What a decision records about an order's submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission<'a> {
    /// Who submits the order.
    pub source: &'a str,
    /// The idempotency key. A key that is in use makes no second fill.
    pub idempotency_key: Option<&'a str>,
    /// The trace that the decision belongs to.
    pub trace_id: Option<&'a str>,
    /// Time of the submission, in seconds since the Unix epoch.
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

    /// Returns the order of this decision.
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

    /// Parses a record from JSON text.
    ///
    /// # Errors
    /// The invalid field and the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        Self::read(&Field::root(&document))
    }

    pub(crate) fn read_value(value: &Value) -> Result<Self, String> {
        Self::read(&Field::root(value))
    }

    fn read(field: &Field<'_>) -> Result<Self, Problem> {
        // Reports a value that is not an object as such, not as an object without fields.
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

/// The payload of a `fill.record` event.
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
