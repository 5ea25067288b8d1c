//! Mirrors of a bus: every event exactly once, in order and verifiable, at a second place.
//!
//! A [`Mirror`] is a destination. One loop, [`catch_up()`], brings any destination up to the log
//! and keeps it there. The log is authoritative: a mirror can be rebuilt from the log, and the log
//! can be restored from a mirror byte for byte.
//!
//! Each destination is a cargo feature: `sqlite`, `postgres`, `jetstream` and `http`. The feature
//! `ingest` is the receiver that `http` sends to. All are enabled by default.

#![forbid(unsafe_code)]

mod backoff;
mod catch_up;
mod destination;
mod error;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "ingest")]
pub mod ingest;
#[cfg(feature = "jetstream")]
mod jetstream;
mod mirror;
#[cfg(feature = "postgres")]
mod postgres;
mod restore;
mod retry;
#[cfg(feature = "sqlite")]
mod sqlite;
mod verify;
#[cfg(any(feature = "http", feature = "ingest"))]
mod wire;

pub use catch_up::{CancelHandle, CatchUpOptions, CatchUpReport, catch_up};
pub use destination::{open, open_read_only};
pub use error::{Error, Result, Source};
#[cfg(feature = "http")]
pub use http::Http;
#[cfg(feature = "jetstream")]
pub use jetstream::JetStream;
pub use mirror::{Mirror, Record};
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
pub use restore::restore;
pub use retry::RetryReads;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
pub use verify::{ScanProgress, scan, select_bus, verify};
#[cfg(any(feature = "http", feature = "ingest"))]
pub use zero_http::Token;
