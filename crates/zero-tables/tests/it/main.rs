//! Tests of tables through the public interface.

#![allow(clippy::unwrap_used)]

mod batches;
mod export;
mod power_cut;
mod views;
