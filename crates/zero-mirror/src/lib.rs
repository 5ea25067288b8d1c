//! Mirrors of a bus: every event exactly once, in order and verifiable, at a second place.
//!
//! A [`Mirror`] is a destination. One loop, [`catch_up()`], brings any destination up to the log and keeps it there.
//! The log is authoritative: a mirror can be rebuilt from the log, and the log can be restored from a mirror byte for
//! byte.

#![forbid(unsafe_code)]

mod catch_up;
mod destination;
mod error;
mod http;
pub mod ingest;
mod jetstream;
mod mirror;
mod postgres;
mod restore;
mod sqlite;
mod token;
mod verify;
mod wire;

pub use catch_up::{CancelHandle, CatchUpOptions, CatchUpReport, catch_up};
pub use destination::{open, open_read_only};
pub use error::{Error, Result, Source};
pub use http::Http;
pub use jetstream::JetStream;
pub use mirror::{Mirror, Record};
pub use postgres::Postgres;
pub use restore::restore;
pub use sqlite::Sqlite;
pub use token::Token;
pub use verify::{ScanProgress, scan, select_bus, verify};
