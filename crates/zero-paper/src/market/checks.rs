//! The checks of an intent: whether it becomes an order, the reason that the records state, and
//! the numbers behind it.

use crate::order_record::ReachedLimit;
use crate::position::Position;
use crate::risk::{ReduceOnlyRule, RiskDecision, TradingMode};
use crate::scenario::Limits;
use crate::strategy::Intent;

/// The reason of a decision about a key that has been used.
pub const KEY_USED: &str = "idempotency key was used before";

/// The reason of a decision before the symbol's first candle.
pub const NO_PRICE: &str = "no market price for the symbol";

/// The reason of a decision on a late bar.
pub const STALE_DATA: &str = "market data is stale";

/// The reason of a decision at the daily loss limit.
pub const DAILY_LOSS: &str = "daily loss limit reached";

/// The reason of a decision at the drawdown limit.
pub const DRAWDOWN: &str = "drawdown limit reached";

/// The reason of a decision at the limit of orders per minute.
pub const ORDER_RATE: &str = "order rate exceeds limit";

/// The reason of a decision above the limit of gross exposure.
pub const GROSS_EXPOSURE: &str = "gross exposure exceeds limit";

/// What is the same for all intents of a cycle.
#[derive(Clone, Copy, Debug)]
pub struct CycleConditions<'a> {
    /// The limits of the run.
    pub limits: &'a Limits,
    /// What the operator allows.
    pub trading_mode: TradingMode,
    /// How reduce-only orders that would not reduce the position are treated.
    pub reduce_only_rule: ReduceOnlyRule,
    /// The age of the bar and the greatest age allowed, in seconds, if the bar is stale.
    pub stale: Option<(f64, f64)>,
    /// Greatest loss of equity after a bar of this UTC day, in USD; negative for a profit. A limit
    /// that was reached stays reached for the day.
    pub worst_daily_loss_usd: f64,
    /// Loss of equity since its peak, in percent.
    pub drawdown_pct: f64,
}

/// What the account looks like when an intent is checked. Earlier intents of the cycle count.
#[derive(Clone, Copy, Debug)]
pub struct OrderConditions {
    /// Whether the intent's key was used before.
    pub key_used: bool,
    /// The symbol's last price, in USD.
    pub price: Option<f64>,
    /// The symbol's position once all of its open orders are filled at its last price.
    pub projected: Position,
    /// The gross exposure if this order is filled as well, in USD.
    pub gross_exposure_usd: f64,
    /// Number of orders that were accepted in the last minute.
    pub orders_last_minute: u64,
}

/// The outcome of the checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether the intent becomes an order.
    pub allowed: bool,
    /// The reason that the records state. Other programs read these texts.
    pub reason: &'static str,
    /// The limit that rejected the intent.
    pub limit: Option<ReachedLimit>,
}

impl Verdict {
    fn of(decision: RiskDecision) -> Self {
        Self { allowed: decision.allowed(), reason: decision.reason(), limit: None }
    }

    fn rejected(reason: &'static str) -> Self {
        Self { allowed: false, reason, limit: None }
    }

    /// A rejection by a limit. A value beyond the range of a double has no place in a record.
    fn at_limit(reason: &'static str, name: &str, bound: f64, value: f64) -> Self {
        let limit = value.is_finite().then(|| ReachedLimit { bound, name: name.to_owned(), value });
        Self { allowed: false, reason, limit }
    }
}

/// Amounts from here on are rejected, whatever the limits say, so that sums of them stay finite.
const MAX_AMOUNT: f64 = 1e300;

/// Checks an intent. The first rule that applies decides:
///
/// 1. A key that was used before is rejected, then a symbol without a price.
/// 2. A reduce-only order that reduces the projected position is accepted, unless the runtime is
///    killed; [`ReduceOnlyRule::Trust`] accepts every other one in trading mode
///    [`Open`](TradingMode::Open). Then the trading mode rejects, and then a reduce-only order that
///    does not reduce.
/// 3. The four limits of every run reject: confidence, notional of the order, notional of the
///    projected position at its average price.
/// 4. An order that reduces the projected position is accepted.
/// 5. The further limits reject: gross exposure, daily loss, drawdown, order rate, data age.
pub fn check(cycle: &CycleConditions<'_>, order: &OrderConditions, intent: &Intent) -> Verdict {
    if order.key_used {
        return Verdict::rejected(KEY_USED);
    }
    let Some(price) = order.price else { return Verdict::rejected(NO_PRICE) };
    let after = order.projected.after_fill(intent.side.signed(intent.quantity), price);
    let reduces = order.projected.is_reduced_by(&after);
    let (notional, projected) = (intent.quantity * price, after.notional_usd());
    let limits = cycle.limits;
    // Also where no limit applies.
    if notional.max(projected) >= MAX_AMOUNT {
        let reason = RiskDecision::OrderNotional.reason();
        return Verdict::at_limit(reason, "max_notional_usd", limits.max_notional_usd, notional);
    }
    let mode = cycle.trading_mode;
    let trusted = mode == TradingMode::Open && cycle.reduce_only_rule == ReduceOnlyRule::Trust;
    if intent.reduce_only && (trusted || (reduces && mode != TradingMode::Killed)) {
        return Verdict::of(RiskDecision::ReduceOnly);
    }
    if mode >= TradingMode::Paused {
        return Verdict::of(RiskDecision::OperatorPause);
    }
    if mode == TradingMode::ReduceOnly {
        return Verdict::of(RiskDecision::OperatorReduceOnly);
    }
    if intent.reduce_only {
        return Verdict::of(RiskDecision::NotReducing);
    }
    if intent.confidence < limits.min_confidence {
        let reason = RiskDecision::LowConfidence.reason();
        return Verdict::at_limit(reason, "min_confidence", limits.min_confidence, intent.confidence);
    }
    let (order_reason, position_reason) = (RiskDecision::OrderNotional, RiskDecision::ProjectedPosition);
    if notional > limits.max_notional_usd {
        let reason = order_reason.reason();
        return Verdict::at_limit(reason, "max_notional_usd", limits.max_notional_usd, notional);
    }
    if projected > limits.max_position_notional_usd {
        let (reason, bound) = (position_reason.reason(), limits.max_position_notional_usd);
        return Verdict::at_limit(reason, "max_position_notional_usd", bound, projected);
    }
    match further_limit(cycle, order) {
        Some(verdict) if !reduces => verdict,
        _ => Verdict::of(RiskDecision::Allowed),
    }
}

/// Returns the rejection by a limit that only some runs have.
fn further_limit(cycle: &CycleConditions<'_>, order: &OrderConditions) -> Option<Verdict> {
    let limits = cycle.limits;
    if let Some(bound) = limits.max_gross_exposure_usd.filter(|bound| order.gross_exposure_usd > *bound) {
        let (name, value) = ("max_gross_exposure_usd", order.gross_exposure_usd);
        return Some(Verdict::at_limit(GROSS_EXPOSURE, name, bound, value));
    }
    let orders = order.orders_last_minute as f64;
    let reached = [
        (DAILY_LOSS, "max_daily_loss_usd", limits.max_daily_loss_usd, cycle.worst_daily_loss_usd),
        (DRAWDOWN, "max_drawdown_pct", limits.max_drawdown_pct, cycle.drawdown_pct),
        (ORDER_RATE, "max_orders_per_minute", limits.max_orders_per_minute, orders),
    ];
    let reached = reached.into_iter().find_map(|(reason, name, bound, value)| {
        let bound = bound.filter(|bound| value >= *bound)?;
        Some(Verdict::at_limit(reason, name, bound, value))
    });
    let stale = |(age, bound)| Verdict::at_limit(STALE_DATA, "max_data_age_s", bound, age);
    reached.or_else(|| cycle.stale.map(stale))
}
