//! Runs the real binaries as an operator runs them.

#![allow(clippy::unwrap_used)]

mod anchor;
mod append;
mod backup;
mod bounded_files;
mod check_proof;
mod checkpoint_kill;
mod command;
mod completions;
mod cosigned;
mod doctor;
mod documents;
mod edited;
mod engine_run;
mod export;
mod full_disk;
mod ingest;
#[path = "../../../zero-proof/tests/it/judge.rs"]
mod judge;
mod key_use;
#[path = "../../../zero-paper/tests/it/market_bus.rs"]
mod market_bus;
mod market_feeds;
mod market_replay;
mod mirror;
mod proof;
mod prove;
mod public;
mod publish;
mod read;
mod reconcile;
mod repair;
mod replay;
mod report;
mod retire;
mod seal;
mod sessions;
mod signals;
mod signed_state;
mod start_checkpoint;
mod state;
mod status;
mod support;
mod tail;
mod terminal;
#[path = "../../../zero-witness/tests/it/test_log.rs"]
mod test_log;
mod witness;
