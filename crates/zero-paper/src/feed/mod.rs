//! Feeds: where the bars of a run come from.
//!
//! A feed delivers bars in the order of their start times, each time once. It never falls back to
//! another source.

use std::time::Duration;

use crate::candle::Bar;

/// A source of bars.
pub trait Feed: Send {
    /// Returns the feed's name in the records (`market_source`). It does not change during a run.
    fn source(&self) -> &str;

    /// Returns the next bar. A live feed without a closed bar waits for at most `wait`, so that
    /// the runtime can react to signals and to the operator in between.
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

/// Opens the feed that a SOURCE of the command line names.
///
/// # Errors
/// The source is not known, does not exist, or cannot be opened.
pub fn open(source: &str) -> Result<Box<dyn Feed>, FeedError> {
    Err(FeedError { place: source.to_owned(), problem: "this feed is not available".to_owned() })
}
