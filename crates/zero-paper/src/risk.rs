//! The risk checks: whether an order is accepted, and the reason that the records state.

use crate::position::Position;
use crate::scenario::{Limits, Order};

/// What the operator currently allows. The order of the variants is from the least to the most
/// restrictive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TradingMode {
    /// Every order that the limits allow.
    #[default]
    Open,
    /// Only orders that reduce a position, as a lasting policy.
    ReduceOnly,
    /// Only orders that reduce a position, for the time being.
    Paused,
    /// No order.
    Killed,
}

/// How the risk checks treat an order that is marked reduce-only but would open, increase or
/// reverse a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReduceOnlyRule {
    /// Reject it.
    #[default]
    Enforce,
    /// Accept it without further checks in trading mode [`Open`](TradingMode::Open). Some recorded
    /// runs were made under this rule.
    Trust,
}

/// The outcome of the risk checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskDecision {
    /// Accepted: all checks passed.
    Allowed,
    /// Accepted without limit checks, because the order is marked reduce-only and reduces the
    /// position, or is trusted to ([`ReduceOnlyRule::Trust`]).
    ReduceOnly,
    /// Rejected: the operator has paused or killed the runtime.
    OperatorPause,
    /// Rejected: the operator accepts only orders that reduce a position.
    OperatorReduceOnly,
    /// Rejected: the order is marked reduce-only but would open, increase or reverse a position.
    NotReducing,
    /// Rejected: the confidence is below the minimum.
    LowConfidence,
    /// Rejected: the order's notional exceeds its limit.
    OrderNotional,
    /// Rejected: the notional of the resulting position exceeds its limit.
    ProjectedPosition,
}

impl TradingMode {
    /// Returns the mode's name in the records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ReduceOnly => "reduce_only",
            Self::Paused => "paused",
            Self::Killed => "killed",
        }
    }
}

impl ReduceOnlyRule {
    /// Returns the rule's name in the records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Trust => "trust",
        }
    }
}

impl RiskDecision {
    /// Whether the order is accepted.
    pub fn allowed(self) -> bool {
        matches!(self, Self::Allowed | Self::ReduceOnly)
    }

    /// Returns the reason as the records state it. Other programs read these texts.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ReduceOnly => "reduce-only orders bypass risk-increasing friction",
            Self::OperatorPause => "operator pause",
            Self::OperatorReduceOnly => "operator reduce-only",
            Self::NotReducing => "reduce-only order would not reduce the position",
            Self::LowConfidence => "confidence below minimum",
            Self::OrderNotional => "order notional exceeds limit",
            Self::ProjectedPosition => "projected position exceeds limit",
        }
    }
}

/// Checks an order against trading mode and limits. The first rule that applies decides, in this
/// order:
///
/// 1. A reduce-only order that reduces the position is accepted, unless the runtime is killed.
/// 2. [`ReduceOnlyRule::Trust`] accepts every other reduce-only order in trading mode
///    [`Open`](TradingMode::Open).
/// 3. The operator's trading mode rejects.
/// 4. A reduce-only order that does not reduce the position is rejected.
/// 5. The limits reject: confidence, notional of the order, notional of the projected position.
///
/// `current` is the position before the order, `projected` the position after it.
pub fn check(
    trading_mode: TradingMode,
    reduce_only_rule: ReduceOnlyRule,
    limits: &Limits,
    current: &Position,
    projected: &Position,
    order: &Order,
) -> RiskDecision {
    let reduces = current.is_reduced_by(projected);
    let trusted = trading_mode == TradingMode::Open && reduce_only_rule == ReduceOnlyRule::Trust;
    if order.reduce_only && (trusted || (reduces && trading_mode != TradingMode::Killed)) {
        RiskDecision::ReduceOnly
    } else if trading_mode >= TradingMode::Paused {
        RiskDecision::OperatorPause
    } else if trading_mode == TradingMode::ReduceOnly {
        RiskDecision::OperatorReduceOnly
    } else if order.reduce_only {
        RiskDecision::NotReducing
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
