//! The types of the events that the runtime and its operator write to a bus.
//!
//! Other programs read these names, so they never change.

/// The cycle record; the first event of a cycle of a scenario.
pub const CYCLE: &str = "runtime.cycle";

/// The bar of a cycle on market data, the first event of such a cycle.
pub const OBSERVATION: &str = "market.observation";

/// The failure of a strategy in a cycle on market data.
pub const STRATEGY_FAILED: &str = "strategy.failed";

/// An accepted order that waits for its fill.
pub const ORDER_OPEN: &str = "order.open";

/// The end of an order without a fill.
pub const ORDER_EXPIRED: &str = "order.expired";

/// The decision about the cycle's order.
pub const DECISION: &str = "decision.record";

/// The fill of an accepted order.
pub const FILL: &str = "fill.record";

/// The rejection of an order that the risk checks refused.
pub const REJECTION: &str = "rejection.record";

/// The open positions after a cycle.
pub const POSITIONS: &str = "position.snapshot";

/// Counts over the whole run, the last event of a cycle.
pub const HEALTH: &str = "runtime.health";

/// A command from the operator.
pub const OPERATOR_COMMAND: &str = "operator.command";

/// The runtime's confirmation that it applied an operator command.
pub const OPERATOR_APPLIED: &str = "operator.applied";
