//! The paper runtime through its public interface.

#![allow(clippy::unwrap_used)]

mod crash;
mod engine;
mod explain;
mod live;
mod market_fills;
mod market_recovery;
mod market_support;
mod operator;
mod order_source;
mod public;
mod state;
