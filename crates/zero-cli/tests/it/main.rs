//! Runs the real binaries as an operator runs them.

#![allow(clippy::unwrap_used)]

mod append;
mod backup;
mod command;
mod completions;
mod doctor;
mod documents;
mod edited;
mod engine_run;
mod full_disk;
mod ingest;
#[path = "../../../zero-paper/tests/it/market_bus.rs"]
mod market_bus;
mod market_feeds;
mod mirror;
mod public;
mod read;
mod reconcile;
mod repair;
mod replay;
mod report;
mod sessions;
mod signals;
mod start_checkpoint;
mod state;
mod status;
mod support;
mod tail;
mod terminal;
