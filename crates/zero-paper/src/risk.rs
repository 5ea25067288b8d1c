//! Whether an order is let through, and in whose words.

use crate::position::Position;
use crate::scenario::{Limits, Order};

/// Why an order was let through or not, in the words of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Nothing spoke against it.
    Allowed,
    /// It only reduces, and is let through without further questions.
    ReduceOnly,
    /// Its confidence is below the least.
    LowConfidence,
    /// It is worth more than one order may be.
    OrderNotional,
    /// The position it would leave is worth more than one position may be.
    ProjectedPosition,
}

impl Ruling {
    /// Whether the order is let through.
    pub fn allowed(self) -> bool {
        matches!(self, Self::Allowed | Self::ReduceOnly)
    }

    /// The words other programs read.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ReduceOnly => "reduce-only orders bypass risk-increasing friction",
            Self::LowConfidence => "confidence below minimum",
            Self::OrderNotional => "order notional exceeds limit",
            Self::ProjectedPosition => "projected position exceeds limit",
        }
    }
}

/// Holds an order against the limits, in the order of the rules: the first that speaks decides. `projected`
/// is the position the order would leave.
pub fn judge(limits: &Limits, projected: &Position, order: &Order) -> Ruling {
    if order.reduce_only {
        Ruling::ReduceOnly
    } else if order.confidence < limits.min_confidence {
        Ruling::LowConfidence
    } else if order.notional_usd() > limits.max_notional_usd {
        Ruling::OrderNotional
    } else if projected.notional_usd() > limits.max_position_notional_usd {
        Ruling::ProjectedPosition
    } else {
        Ruling::Allowed
    }
}
