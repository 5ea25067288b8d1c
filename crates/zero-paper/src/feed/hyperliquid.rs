//! `hyperliquid:SYM,SYM[@INTERVAL][?url=URL]`: live candles of that exchange.
//!
//! The program `zero-feed-hyperliquid` polls them, so that the runtime needs no HTTP client.

use std::process::Command;

use crate::feed::interface::FeedError;

const PROGRAM: &str = "zero-feed-hyperliquid";

/// The interval without `@INTERVAL`.
const DEFAULT_INTERVAL: &str = "1m";

/// The intervals of the exchange that have a fixed length.
const INTERVALS: [&str; 13] =
    ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d", "3d", "1w"];

/// The command that starts the program. It looks for it next to the running program, then in
/// `PATH`.
pub(super) fn command(source: &str, request: &str, since: Option<f64>) -> Result<Command, FeedError> {
    let (request, options) = request.split_once('?').unwrap_or((request, ""));
    // The names of some coins begin with `@`, so only an interval ends the symbols.
    let (symbols, interval) = match request.rsplit_once('@') {
        Some((symbols, interval)) if INTERVALS.contains(&interval) => (symbols, interval),
        Some((_, interval))
            if interval.starts_with(|c: char| c.is_ascii_digit())
                && !interval.ends_with(|c: char| c.is_ascii_digit()) =>
        {
            let problem =
                format!("`{interval}` is not an interval; the intervals are {}", INTERVALS.join(", "));
            return Err(FeedError::new(source, problem));
        }
        _ => (request, DEFAULT_INTERVAL),
    };
    if symbols.split(',').any(str::is_empty) {
        return Err(FeedError::new(source, "name symbols: hyperliquid:BTC,ETH@1m"));
    }
    let program = std::env::current_exe().ok().map(|program| program.with_file_name(PROGRAM));
    let program = program.filter(|program| program.is_file()).unwrap_or_else(|| PROGRAM.into());
    let mut command = Command::new(program);
    command.args([symbols, "--interval", interval]);
    if let Some(since) = since {
        command.arg(format!("--since={since}"));
    }
    match options.strip_prefix("url=") {
        Some(url) => {
            command.args(["--url", url]);
        }
        None if options.is_empty() => {}
        None => return Err(FeedError::new(source, "has an unknown option; the only option is ?url=URL")),
    }
    Ok(command)
}
