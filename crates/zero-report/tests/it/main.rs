//! Pages and CSV files of generated buses.

#![allow(clippy::unwrap_used)]

mod csv;
mod html;
#[path = "../../../zero-paper/tests/it/market_bus.rs"]
mod market_bus;
