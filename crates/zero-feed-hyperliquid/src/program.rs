//! The command line.

use std::ffi::OsString;
use std::io;

use clap::Parser;
use zero_program::arguments::parse_arguments;
use zero_program::message::print_message;

use crate::address::{Address, DEFAULT_URL};
use crate::exchange::Exchange;
use crate::poller::{PollError, Poller};
use crate::time::SystemTime;

const PROGRAM: &str = "zero-feed-hyperliquid";

/// The intervals of the exchange that have a fixed length, in minutes.
const INTERVALS: [(&str, i64); 13] = [
    ("1m", 1),
    ("3m", 3),
    ("5m", 5),
    ("15m", 15),
    ("30m", 30),
    ("1h", 60),
    ("2h", 120),
    ("4h", 240),
    ("8h", 480),
    ("12h", 720),
    ("1d", 1440),
    ("3d", 4320),
    ("1w", 10080),
];

/// Most coins of one program: with more, the rate limit of the exchange is too low.
const MAX_COINS: usize = 50;

/// Print the candles of Hyperliquid as they close.
///
/// Prints one line of JSON for each candle once its bar has closed, in the order of time. Messages
/// go to standard error. Runs until it is stopped, or until its output is closed. It uses the
/// public API: it needs no account and places no order.
#[derive(Debug, Parser)]
#[command(name = "zero-feed-hyperliquid", version, after_help = EXAMPLES)]
struct Arguments {
    /// The symbols, in the exchange's spelling, separated by commas.
    #[arg(value_name = "SYM,SYM", value_delimiter = ',', required = true)]
    symbols: Vec<String>,
    /// The length of a bar: 1m, 3m, 5m, 15m, 30m, 1h, 2h, 4h, 8h, 12h, 1d, 3d or 1w.
    #[arg(long, value_name = "INTERVAL", default_value = "1m", value_parser = parse_interval)]
    interval: (&'static str, i64),
    /// Begin after the bar with this start, in seconds since the Unix epoch. Default: begin with
    /// the last closed bar.
    #[arg(long, value_name = "SECONDS", value_parser = parse_since)]
    since: Option<i64>,
    /// The base address of the API.
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL, value_parser = Address::parse)]
    url: Address,
}

const EXAMPLES: &str = "\
Examples:
  zero-feed-hyperliquid BTC,ETH
  zero-feed-hyperliquid BTC --interval 1h --since 1777593600 > btc.jsonl

Exit codes: 0 its output was closed, 2 could not run.";

/// Runs the program with these arguments, of which the first is its own name, and returns the exit
/// code. Ends the process itself for `--help` and invalid arguments.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match poll(parse_arguments(PROGRAM, arguments)) {
        Ok(()) => 0,
        Err(problem) => {
            print_message(PROGRAM, &problem);
            2
        }
    }
}

fn poll(arguments: Arguments) -> Result<(), String> {
    check_symbols(&arguments.symbols)?;
    let exchange = Exchange::new(&arguments.url)?;
    let (interval, minutes) = arguments.interval;
    let report = Box::new(|text: &str| print_message(PROGRAM, text));
    let mut poller = Poller::new(
        exchange,
        &arguments.symbols,
        interval,
        60_000 * minutes,
        arguments.since,
        SystemTime,
        report,
    );
    match poller.run(&mut io::stdout().lock()) {
        Err(PollError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

fn check_symbols(symbols: &[String]) -> Result<(), String> {
    if symbols.len() > MAX_COINS {
        return Err(format!("more than {MAX_COINS} symbols; the exchange's rate limit does not allow that"));
    }
    for (index, symbol) in symbols.iter().enumerate() {
        if symbol.is_empty() || symbol.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("`{symbol}` is not a symbol"));
        }
        // The records have one spelling only.
        let is_same = |other: &String| other.to_uppercase() == symbol.to_uppercase();
        if symbols[..index].iter().any(is_same) {
            return Err(format!("{symbol}: is given twice"));
        }
    }
    Ok(())
}

fn parse_interval(text: &str) -> Result<(&'static str, i64), String> {
    let found = INTERVALS.into_iter().find(|(interval, _)| *interval == text);
    found.ok_or_else(|| {
        let intervals: Vec<_> = INTERVALS.iter().map(|(interval, _)| *interval).collect();
        format!("not an interval; the intervals are {}", intervals.join(", "))
    })
}

/// Parses seconds to milliseconds.
fn parse_since(text: &str) -> Result<i64, String> {
    match text.parse::<f64>() {
        // Until the year 9999.
        Ok(seconds) if (0.0..253_402_300_800.0).contains(&seconds) => Ok((seconds * 1000.0).round() as i64),
        _ => Err("not a number of seconds since the Unix epoch".to_owned()),
    }
}
