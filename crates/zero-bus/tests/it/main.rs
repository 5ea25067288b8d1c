//! The library through its public interface, its formats, and the house rules.

#![allow(clippy::unwrap_used)]

mod append;
mod architecture;
mod bytes;
mod canonical;
mod chunks;
mod conformance;
mod crash;
mod data_model;
mod expect;
mod follow;
mod fuzz;
mod group;
mod lock_wait;
mod open;
mod queue_model;
mod read;
mod recovered;
mod retire;
mod retire_crash;
mod seal;
mod seal_crash;
mod segment_damage;
mod segment_index;
mod support;
mod sync;
mod verdicts;
