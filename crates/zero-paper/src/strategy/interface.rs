//! The trait of strategies, what they see, and what they answer.

use serde::Serialize;
use zero_bus::Json;

use crate::account::{Costs, MarkedPosition};
use crate::candle::Bar;
use crate::order_record::OrderDecision;
use crate::scenario::{Limits, MAX_NAME_CHARACTERS, Side};

/// Longest reason of an intent or of a hold, in characters.
pub const MAX_REASON_CHARACTERS: usize = 1_000;

/// Decides what to trade.
///
/// The runtime calls [`Strategy::start`] first, then [`Strategy::observe`] for each recorded bar
/// if the strategy starts without a state, then [`Strategy::decide`] once per bar. After a failure
/// it calls [`Strategy::stop`]; it may then start the strategy again.
pub trait Strategy: Send {
    /// Returns what the records name as the strategy. It does not change during a run.
    fn identity(&self) -> &StrategyIdentity;

    /// Starts the strategy, or starts it anew after [`Strategy::stop`].
    ///
    /// # Errors
    /// The strategy cannot start.
    fn start(&mut self, start: &Start<'_>) -> Result<(), Failure>;

    /// Shows a recorded bar, so that the strategy is in the state that it had after it. The
    /// strategy does not decide.
    ///
    /// # Errors
    /// The strategy cannot continue.
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), Failure>;

    /// Returns what the strategy remembers of all bars so far, for the runtime's start-up
    /// checkpoint. `None`, the default, if it must be shown the bars again after a restart.
    fn memory(&self) -> Option<Json> {
        None
    }

    /// Brings the strategy to where [`Strategy::memory`] returned this, after [`Strategy::start`].
    /// Returns false, and changes nothing, if it cannot: then it is shown all recorded bars.
    fn remember(&mut self, _memory: &Json) -> bool {
        false
    }

    /// Decides on a bar.
    ///
    /// # Errors
    /// The strategy has not answered, or its answer is not valid. The runtime records the failure
    /// and holds.
    fn decide(&mut self, observation: &Observation<'_>) -> Result<Answer, Failure>;

    /// Ends the strategy. Does nothing if it does not run.
    ///
    /// # Errors
    /// The strategy has answered something that it was not asked. No order comes of it.
    fn stop(&mut self) -> Result<(), Failure>;

    /// Returns what was noticed since the last call, one line each, for the operator.
    fn warnings(&mut self) -> Vec<String>;
}

/// What the records name as the strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrategyIdentity {
    /// Name of the strategy.
    pub name: String,
    /// Checksum of its program or file, of the SPEC for a built-in strategy: `sha256:` and 64
    /// hexadecimal digits.
    pub sha256: String,
    /// Version of the strategy; empty if it has none.
    pub version: String,
}

/// What a strategy learns before its first bar.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The limits of the run.
    pub limits: &'a Limits,
    /// The symbols of the first bar of the run, in order. More may follow.
    pub symbols: &'a [String],
    /// The costs of a fill.
    pub costs: &'a Costs,
    /// The last recorded state of the strategy. A strategy that gets one is not shown recorded
    /// bars.
    pub state: Option<&'a Json>,
}

/// What a strategy sees of a cycle.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Time of everything the cycle records, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Number of the cycle, from 1.
    pub cycle_id: u64,
    /// The bar. It is closed.
    pub bar: &'a Bar,
    /// The open positions after the fills of this bar, marked at its closes, by symbol.
    pub positions: &'a [MarkedPosition],
    /// Cash plus marked positions, in USD.
    pub equity_usd: f64,
    /// The decisions of the cycle before.
    pub last: &'a [OrderDecision],
}

/// What a strategy asks for in one cycle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The orders, in the order in which they are to be checked. None of them is a hold.
    pub intents: Vec<Intent>,
    /// The state to start with after a restart; `None` keeps the last one.
    pub state: Option<Json>,
    /// Why the strategy holds.
    pub hold_reason: Option<String>,
}

/// An order before the checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// Symbol of the instrument, in upper case.
    pub symbol: String,
    /// Buy or sell.
    pub side: Side,
    /// Quantity, positive.
    pub quantity: f64,
    /// The strategy's confidence, 0 to 1.
    pub confidence: f64,
    /// Why, for the record.
    pub reason: String,
    /// Whether the order is meant to reduce a position and never to open or increase one.
    pub reduce_only: bool,
    /// The worst price to fill at, in USD; `None` for a market order.
    pub limit_price: Option<f64>,
    /// The idempotency key; `None` lets the runtime choose one.
    pub key: Option<String>,
}

impl Intent {
    /// Checks the fields: the symbol is in upper case and has 1 to [`MAX_NAME_CHARACTERS`]
    /// characters, as a key has; quantity and limit price are positive and finite; the confidence
    /// is 0 to 1; the reason has at most [`MAX_REASON_CHARACTERS`] characters.
    ///
    /// # Errors
    /// The invalid field and the problem with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let positive = |number: f64| number > 0.0 && number.is_finite();
        let name = |text: &str| match text.chars().take(MAX_NAME_CHARACTERS + 1).count() {
            0 => Err("must not be empty".to_owned()),
            1..=MAX_NAME_CHARACTERS => Ok(()),
            _ => Err(format!("has more than {MAX_NAME_CHARACTERS} characters")),
        };
        name(&self.symbol).map_err(|problem| ("symbol", problem))?;
        if self.symbol != self.symbol.to_uppercase() {
            return Err(("symbol", "must be in upper case".to_owned()));
        }
        if !positive(self.quantity) {
            return Err(("quantity", format!("must be above 0, is {}", self.quantity)));
        }
        if !(0.0..=1.0).contains(&self.confidence) {
            return Err(("confidence", format!("must be between 0 and 1, is {}", self.confidence)));
        }
        if let Some(price) = self.limit_price.filter(|price| !positive(*price)) {
            return Err(("limit_price", format!("must be above 0, is {price}")));
        }
        if self.reason.chars().count() > MAX_REASON_CHARACTERS {
            return Err(("reason", format!("has more than {MAX_REASON_CHARACTERS} characters")));
        }
        self.key.as_deref().map_or(Ok(()), name).map_err(|problem| ("key", problem))
    }
}

/// Why a strategy gave no valid answer. The runtime guesses nothing: the cycle holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What happened, for the record.
    pub reason: String,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The strategy cannot be started.
    NotStarted,
    /// No answer in time.
    Timeout,
    /// The strategy's process has ended, or closed its input or output.
    Exited,
    /// The answer is not valid, or was not asked for.
    InvalidOutput,
    /// The strategy has printed something after it was told to stop.
    OutputAfterStop,
}

impl FailureKind {
    /// Returns the kind's name in the records.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Timeout => "timeout",
            Self::Exited => "exited",
            Self::InvalidOutput => "invalid_output",
            Self::OutputAfterStop => "output_after_stop",
        }
    }

    /// Returns the kind with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [Self::NotStarted, Self::Timeout, Self::Exited, Self::InvalidOutput, Self::OutputAfterStop];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// A SPEC does not name a strategy that can be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct StrategyError {
    /// The SPEC, or the file and the field in it.
    pub place: String,
    /// What is wrong, and what to do.
    pub problem: String,
}
