//! The receiver of HTTP mirrors: accepts events from [`Http`](crate::Http) clients and appends them
//! to a store, which is itself a mirror.
//!
//! A batch is acknowledged only after every line was verified as the next event of its chain, and
//! the store holds the batch durably. `docs/openapi.json` describes the protocol; the receiver
//! serves it too.

mod batch;
mod limits;
mod log;
mod metrics;
mod problem;
mod receiver;
mod request;
mod routes;
mod scope;
mod store;

pub use limits::Limits;
pub use receiver::{Receiver, ReceiverOptions};
pub use scope::{Scope, add_token};
pub use store::OpenStore;
pub use zero_http::{Log, Rights, Shutdown};
