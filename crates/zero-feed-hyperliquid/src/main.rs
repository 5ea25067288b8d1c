//! `zero-feed-hyperliquid`: prints the candles of an exchange's public API as they close.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    zero_feed_hyperliquid::program::run(std::env::args_os()).into()
}
