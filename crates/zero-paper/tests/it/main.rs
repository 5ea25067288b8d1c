//! The paper runtime through its public interface.

#![allow(clippy::unwrap_used)]

mod crash;
mod engine;
mod explain;
mod feed;
mod feed_process;
mod limit_drills;
mod live;
mod market;
mod market_bus;
mod market_checkpoint;
mod market_checks;
mod market_crash;
mod market_fills;
mod market_readers;
mod market_recovery;
mod market_replay;
mod market_support;
mod operator;
mod order_source;
mod public;
mod report;
mod schemas;
mod soak;
mod start_checkpoint;
mod state;
mod strategy;
mod strategy_process;
mod strategy_replay;
