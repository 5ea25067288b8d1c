//! Runs the real binary. Tests that also need `zero-bus` are in `zero-cli`.

#![allow(clippy::unwrap_used)]

mod help;
mod kill;
mod market;
mod market_messages;
mod paths;
mod scenario;
mod support;
mod terminal;
