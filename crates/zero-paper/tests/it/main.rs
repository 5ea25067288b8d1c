//! The paper runtime through its public interface.

#![allow(clippy::unwrap_used)]

mod crash;
mod engine;
mod explain;
mod live;
mod market_bus;
mod operator;
mod order_source;
mod public;
mod report;
mod state;
