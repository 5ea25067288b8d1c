//! The trait of feeds, and what every feed shares.

use std::time::Duration;

use crate::candle::Bar;

/// A source of bars.
pub trait Feed: Send {
    /// Returns the feed's name in the records (`market_source`). It does not change during a run.
    fn source(&self) -> &str;

    /// Returns the next bar. If it is not there yet, a live feed or standard input waits for at
    /// most `wait`, so that the runtime can react to signals and to the operator in between.
    ///
    /// # Errors
    /// The data is invalid, or the source has failed. The feed delivers nothing after that.
    fn next(&mut self, wait: Duration) -> Result<Next, FeedError>;

    /// Whether the bars arrive as they close. Only such bars can be late.
    fn is_live(&self) -> bool;

    /// Returns what the feed noticed since the last call, one line each, for the operator.
    fn warnings(&mut self) -> Vec<String>;
}

/// What a feed answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The next bar. It is closed.
    Bar(Bar),
    /// There is no closed bar yet; ask again.
    Pending,
    /// There are no more bars.
    End,
}

/// The data of a feed is invalid, or its source has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct FeedError {
    /// The file and the line, or the command.
    pub place: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl FeedError {
    pub(super) fn new(place: &str, problem: impl Into<String>) -> Self {
        Self { place: place.to_owned(), problem: problem.into() }
    }
}

/// A longer line is invalid: a candle needs a fraction of this.
pub(super) const MAX_LINE_BYTES: usize = 1 << 16;

/// The length of a bar if a feed has no more than one and does not name it.
pub(super) const DEFAULT_INTERVAL_S: f64 = 60.0;
