//! The witness as an HTTP server.
//!
//! Clients need no token: a checkpoint is public and proves by its log's signature where it comes
//! from. Other addresses than loopback still require TLS or a proxy that terminates it, so that
//! nobody on the way can answer in the witness's place.

mod limits;
mod listener;
mod metrics;
mod rejection;
mod routes;

pub use limits::Limits;
pub use listener::{WitnessServer, WitnessServerOptions};
pub use routes::Clock;
