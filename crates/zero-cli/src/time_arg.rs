//! How a command line names a time or a duration.

use zero_paper::{Clock, SystemClock, duration, moment};

/// Parses a TIME to seconds since the Unix epoch; for clap's `value_parser`.
pub(crate) fn parse_time(text: &str) -> Result<f64, String> {
    moment(text, SystemClock.now())
}

/// Parses a DURATION to seconds; for clap's `value_parser`.
pub(crate) fn parse_duration(text: &str) -> Result<f64, String> {
    duration(text).ok_or_else(|| "expected a number and a unit, as in 90s, 10m, 2h or 1d".to_owned())
}
