//! Feeds: where the bars of a run come from.
//!
//! A feed delivers bars in the order of their start times, each time once. It never falls back to
//! another source. `docs/TRADING.md` says what each SOURCE of the command line is.
//!
//! Three irregularities of recorded candles are errors, which name file and line: an invalid
//! candle (see [`Candle::check`](crate::candle::Candle::check)), a candle before the one above it
//! in its file, and two candles of a symbol with one time. Others are warnings: a gap of more than
//! 1.5 intervals, a bar less than half an interval after the one before, a close that differs by
//! more than 50 % from the close before, and an unknown field. A feed reports the first three of
//! each kind, and at its end how many more there were.
//!
//! A live feed also rejects invalid candles. It drops a candle whose bar it has delivered, or that
//! repeats a candle, and reports that.
//!
//! Memory does not grow with a file: a feed holds one line and one candle of each file, and two
//! bars.

mod candle_file;
mod check;
mod csv;
mod hyperliquid;
mod interface;
mod process;
mod recorded;

pub use interface::{Feed, FeedError, Next};
use process::ProcessFeed;
use recorded::RecordedFeed;

/// Opens the feed that a SOURCE of the command line names: a file `*.jsonl` or `*.csv`, a directory
/// of them, `-` for standard input, `exec:COMMAND`, or `hyperliquid:SYM,SYM[@INTERVAL][?url=URL]`.
///
/// `since` is the time of the last recorded bar of a run that continues. A live feed continues
/// after it; the other feeds begin at their beginning.
///
/// # Errors
/// The source is not known, does not exist, or cannot be opened.
pub fn open(source: &str, since: Option<f64>) -> Result<Box<dyn Feed>, FeedError> {
    if source == "-" {
        return Ok(Box::new(RecordedFeed::standard_input(source)?));
    }
    if let Some(command) = source.strip_prefix("exec:") {
        return Ok(Box::new(ProcessFeed::run(source, command, since)?));
    }
    if let Some(request) = source.strip_prefix("hyperliquid:") {
        return Ok(Box::new(ProcessFeed::start(source, hyperliquid::command(source, request, since)?)?));
    }
    Ok(Box::new(RecordedFeed::open(source)?))
}

/// Checks what can be known about a live SOURCE before it is opened: whether it is well-formed, and
/// whether the program that it needs exists. Starts nothing.
///
/// # Errors
/// As [`open`].
pub fn check(source: &str) -> Result<(), FeedError> {
    let Some(request) = source.strip_prefix("hyperliquid:") else { return Ok(()) };
    hyperliquid::command(source, request, None).map(drop)
}
