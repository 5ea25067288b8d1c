//! `zero-feed-hyperliquid`: prints the candles of an exchange's public API as they close.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    zero_feed_hyperliquid::program::run()
}
