//! Witnesses of logs (C2SP tlog-witness).
//!
//! A witness cosigns a checkpoint of a log only if it extends the last one that it cosigned. Who
//! trusts a quorum of witnesses therefore knows that the log was not truncated or rewritten, and
//! that everybody sees the same log.
//!
//! # Modules, in reading order
//!
//! - [`AddCheckpoint`](zero_proof::AddCheckpoint) is the request that both sides exchange.
//! - [`witness`] decides: a [`Witness`] checks a request against its state, persists, and cosigns.
//!   [`state`] is the state on disk.
//! - [`server`] is the witness as an HTTP server; [`client`] asks the witnesses of a policy.

#![forbid(unsafe_code)]

pub mod client;
mod error;
pub mod server;
pub mod state;
pub mod witness;

pub use client::{ClientOptions, Cosigned, Failure, Submission, WitnessClient};
pub use error::{Error, Result, SubmitError};
pub use server::{Clock, Limits, WitnessServer, WitnessServerOptions};
pub use state::StateDirectory;
pub use witness::{Rejection, Witness};
