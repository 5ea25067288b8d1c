//! The seam between the runtime and whatever decides what to trade: a scenario's list, or a
//! strategy.
//!
//! Once per cycle the runtime calls its [`OrderSource`] and gets an [`Intent`]. The operator's
//! limits belong to the [`Run`], not to the order source, so a strategy cannot loosen them.
//!
//! ```
//! use std::sync::Arc;
//! use zero_paper::order_source::{CycleContext, Intent, OrderSource, Run, SourceError};
//! use zero_paper::risk::ReduceOnlyRule;
//! use zero_paper::scenario::{Limits, Order, Side};
//! use zero_paper::{FixedClock, RecordPaths, Runtime};
//!
//! /// Buys one BTC per cycle.
//! struct Buyer;
//!
//! impl OrderSource for Buyer {
//!     fn market_source(&self) -> &str {
//!         "example:fixed-price"
//!     }
//!
//!     fn intent(&mut self, _: &CycleContext<'_>) -> Result<Intent, SourceError> {
//!         Ok(Intent::Orders(vec![Order {
//!             symbol: "BTC".to_owned(),
//!             side: Side::Buy,
//!             quantity: 1.0,
//!             price: 500.0,
//!             confidence: 0.9,
//!             reduce_only: false,
//!         }]))
//!     }
//! }
//!
//! let (name, limits) = ("example".to_owned(), Limits::default());
//! let reduce_only_rule = ReduceOnlyRule::Enforce;
//! let run = Run { name, limits, reduce_only_rule, orders: Box::new(Buyer) };
//! let mut runtime = Runtime::start(run, &RecordPaths::default(), Arc::new(FixedClock(0.0)))?;
//! assert_eq!(runtime.run_cycle()?.act.decision.symbol, "BTC");
//! # Ok::<(), zero_paper::Error>(())
//! ```

use crate::engine::Engine;
use crate::risk::ReduceOnlyRule;
use crate::scenario::{Limits, Order, Scenario};

/// What a runtime needs to know about a run before its first cycle.
pub struct Run {
    /// Name of the run. It is part of every idempotency key, so a renamed run is another run.
    pub name: String,
    /// The limits of the risk checks.
    pub limits: Limits,
    /// How the risk checks treat reduce-only orders that would not reduce a position.
    pub reduce_only_rule: ReduceOnlyRule,
    /// Where the orders come from.
    pub orders: Box<dyn OrderSource>,
}

/// Decides what a cycle trades.
///
/// The runtime calls [`OrderSource::intent`] once per cycle, after it applied all operator commands
/// and before it records anything. A flatten command runs cycles of its own, for which it does not
/// ask the order source.
pub trait OrderSource: Send {
    /// Returns where the prices come from, recorded as `observe.market_source`. It must not change
    /// during a run.
    fn market_source(&self) -> &str;

    /// Returns what to do in this cycle.
    ///
    /// # Errors
    /// Any error of the source. The runtime records nothing of the cycle and can run it again.
    fn intent(&mut self, cycle: &CycleContext<'_>) -> Result<Intent, SourceError>;
}

/// An error of an order source.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// What an order source sees of the cycle.
#[non_exhaustive]
pub struct CycleContext<'a> {
    /// Number of the cycle: decisions so far plus one.
    pub cycle_id: u64,
    /// Time of everything the cycle records, in seconds since the Unix epoch.
    pub as_of: f64,
    /// The engine's state before the cycle: positions, counts, limits and last prices.
    pub engine: &'a Engine,
}

/// What to do in one cycle.
///
/// Cycle records v1 hold exactly one order. The runtime refuses every other intent with
/// [`Error::UnsupportedIntent`](crate::Error::UnsupportedIntent) and records nothing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Intent {
    /// Submit no order in this cycle.
    Hold {
        /// Why, for the record.
        reason: String,
    },
    /// Submit these orders, in this order.
    Orders(Vec<Order>),
}

/// Returns the scenario's orders in turn, one per cycle.
impl OrderSource for Scenario {
    fn market_source(&self) -> &str {
        SCENARIO_ORDERS
    }

    fn intent(&mut self, cycle: &CycleContext<'_>) -> Result<Intent, SourceError> {
        Ok(Intent::Orders(vec![self.order(cycle.cycle_id).clone()]))
    }
}

/// The market source of a scenario run.
pub(crate) const SCENARIO_ORDERS: &str = "scenario:orders";

impl From<Scenario> for Run {
    fn from(scenario: Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            limits: scenario.limits,
            reduce_only_rule: ReduceOnlyRule::default(),
            orders: Box::new(scenario),
        }
    }
}
