//! Whether an order is let through, and in whose words.

use crate::position::Position;
use crate::scenario::{Limits, Order};

/// How the operator's commands bind the runtime, from the least to the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TradingMode {
    /// Not at all.
    #[default]
    Open,
    /// Only what reduces is let through, as a policy.
    ReduceOnly,
    /// Only what reduces is let through, for now.
    Paused,
    /// Nothing is let through.
    Killed,
}

/// Why an order was let through or not, in the words of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskDecision {
    /// Nothing spoke against it.
    Allowed,
    /// It only reduces, and is let through without further questions.
    ReduceOnly,
    /// The operator has paused the runtime.
    OperatorPause,
    /// The operator lets only through what reduces.
    OperatorReduceOnly,
    /// Its confidence is below the least.
    LowConfidence,
    /// It is worth more than one order may be.
    OrderNotional,
    /// The position it would leave is worth more than one position may be.
    ProjectedPosition,
}

impl RiskDecision {
    /// Whether the order is let through.
    pub fn allowed(self) -> bool {
        matches!(self, Self::Allowed | Self::ReduceOnly)
    }

    /// The words other programs read.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ReduceOnly => "reduce-only orders bypass risk-increasing friction",
            Self::OperatorPause => "operator pause",
            Self::OperatorReduceOnly => "operator reduce-only",
            Self::LowConfidence => "confidence below minimum",
            Self::OrderNotional => "order notional exceeds limit",
            Self::ProjectedPosition => "projected position exceeds limit",
        }
    }
}

/// Holds an order against what the operator said and against the limits, in the order of the rules: the first that speaks
/// decides. `held` is the position before it, `projected` the one it would leave.
///
/// Where the operator lets only through what reduces, an order's own word for it is not enough: less must be held
/// afterwards.
pub fn check(
    trading_mode: TradingMode,
    limits: &Limits,
    held: &Position,
    projected: &Position,
    order: &Order,
) -> RiskDecision {
    let reduces = projected.quantity.abs() < held.quantity.abs()
        && (projected.quantity == 0.0 || (projected.quantity > 0.0) == (held.quantity > 0.0));
    if order.reduce_only
        && (trading_mode == TradingMode::Open || (reduces && trading_mode != TradingMode::Killed))
    {
        RiskDecision::ReduceOnly
    } else if trading_mode >= TradingMode::Paused {
        RiskDecision::OperatorPause
    } else if trading_mode == TradingMode::ReduceOnly {
        RiskDecision::OperatorReduceOnly
    } else if order.confidence < limits.min_confidence {
        RiskDecision::LowConfidence
    } else if order.notional_usd() > limits.max_notional_usd {
        RiskDecision::OrderNotional
    } else if projected.notional_usd() > limits.max_position_notional_usd {
        RiskDecision::ProjectedPosition
    } else {
        RiskDecision::Allowed
    }
}
