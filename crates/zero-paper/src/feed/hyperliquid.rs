//! `hyperliquid:SYM,SYM[@INTERVAL][?url=URL]`: live candles of that exchange.
//!
//! The program `zero-feed-hyperliquid` polls them, so that the runtime needs no HTTP client.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::feed::interface::FeedError;

const PROGRAM: &str = "zero-feed-hyperliquid";

/// The interval without `@INTERVAL`.
const DEFAULT_INTERVAL: &str = "1m";

/// The intervals of the exchange that have a fixed length.
const INTERVALS: [&str; 13] =
    ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d", "3d", "1w"];

/// The command that starts the program.
pub(super) fn command(source: &str, request: &str, since: Option<f64>) -> Result<Command, FeedError> {
    let arguments = arguments(request, since).map_err(|problem| FeedError::new(source, problem))?;
    let mut command = Command::new(find_program().map_err(|problem| FeedError::new(source, problem))?);
    command.args(arguments);
    Ok(command)
}

/// The arguments of the program.
fn arguments(request: &str, since: Option<f64>) -> Result<Vec<String>, String> {
    let (request, options) = request.split_once('?').unwrap_or((request, ""));
    // Some symbols contain `@` and a number, as in `@107`. Intervals end with their unit.
    let (symbols, interval) = request
        .rsplit_once('@')
        .filter(|(_, interval)| interval.ends_with(|c: char| c.is_ascii_alphabetic()))
        .unwrap_or((request, DEFAULT_INTERVAL));
    if !INTERVALS.contains(&interval) {
        return Err(format!("`{interval}` is not an interval; the intervals are {}", INTERVALS.join(", ")));
    }
    if symbols.split(',').any(str::is_empty) {
        return Err("name symbols: hyperliquid:BTC,ETH@1m".to_owned());
    }
    let mut arguments = vec![format!("--interval={interval}")];
    if let Some(since) = since {
        arguments.push(format!("--since={since}"));
    }
    if !options.is_empty() {
        let url = options.strip_prefix("url=");
        let url = url.ok_or_else(|| "has an unknown option; the only option is ?url=URL".to_owned())?;
        arguments.push(format!("--url={url}"));
    }
    arguments.extend(["--".to_owned(), symbols.to_owned()]);
    Ok(arguments)
}

/// Finds the program next to the running one, or in `PATH`.
fn find_program() -> Result<PathBuf, String> {
    let neighbour = env::current_exe().ok().map(|program| program.with_file_name(PROGRAM));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|directory| directory.join(PROGRAM));
    let found = neighbour.into_iter().chain(in_path).find(|program| program.is_file());
    found.ok_or_else(|| {
        format!("needs the program {PROGRAM}, which is neither next to this program nor in PATH")
    })
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn a_request_becomes_arguments() {
        let text = |request: &str, since| arguments(request, since).map(|arguments| arguments.join(" "));
        assert_eq!(text("BTC,ETH@15m", None), Ok("--interval=15m -- BTC,ETH".to_owned()));
        assert_eq!(text("@107", Some(1.5)), Ok("--interval=1m --since=1.5 -- @107".to_owned()));
        let url = "BTC@1h?url=http://127.0.0.1:1";
        assert_eq!(text(url, None), Ok("--interval=1h --url=http://127.0.0.1:1 -- BTC".to_owned()));
    }
}
