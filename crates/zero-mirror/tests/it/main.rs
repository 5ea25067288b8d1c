//! Tests of mirrors against real destinations.

#![allow(clippy::unwrap_used)]

mod contract;
mod database;
mod hostile;
mod http;
mod http_contract;
mod http_hostile;
mod jetstream;
mod jetstream_contract;
#[path = "../../../zero-paper/tests/it/market_bus.rs"]
mod market_bus;
mod nats;
mod postgres;
mod queries;
mod receiver;
mod sqlite;
