//! Witnesses: what they cosign, over HTTP, under crashes, and against an independent
//! implementation.

#![allow(clippy::unwrap_used)]

mod client;
mod crash;
mod malformed;
mod mutual;
mod python_judge;
mod server;
mod support;
mod test_log;
mod witness;
