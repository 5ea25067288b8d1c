//! The feed against a local server that answers as the exchange does. Nothing here uses another
//! network.

#![allow(clippy::unwrap_used)]

mod poller;
mod program;
mod server;
