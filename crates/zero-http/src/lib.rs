//! What every HTTP server of this workspace shares.
//!
//! A server brings its routes (an [`axum::Router`]), the scopes of its tokens ([`TokenScope`]) and
//! its limits; this crate brings the rest: the listener and TLS ([`Server`]), connections with time
//! limits and a graceful shutdown, tokens and rate limits ([`Authenticator`]), problem details
//! ([`Problem`]), metrics and a rate-limited log.
//!
//! Without the feature `server`, what clients need too is left: [`Token`], and files of
//! certificates, keys and credentials that are read with a limit.

#![forbid(unsafe_code)]

#[cfg(feature = "server")]
mod auth;
mod bounded_file;
#[cfg(feature = "server")]
mod connections;
mod error;
#[cfg(feature = "server")]
mod log;
#[cfg(feature = "server")]
pub mod metrics;
mod private_file;
#[cfg(feature = "server")]
mod problem;
#[cfg(feature = "server")]
mod rate_limit;
#[cfg(feature = "server")]
pub mod request;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod shutdown;
#[cfg(feature = "server")]
mod tls;
mod token;
#[cfg(feature = "server")]
mod tokens_file;

#[cfg(feature = "server")]
pub use auth::{Access, AuthError, Authenticator};
pub use bounded_file::{check_system_authorities, read_bounded_file};
#[cfg(feature = "server")]
pub use connections::ConnectionLimits;
pub use error::{Error, Result};
#[cfg(feature = "server")]
pub use log::{Log, ThrottledLog};
#[cfg(feature = "server")]
pub use problem::Problem;
#[cfg(feature = "server")]
pub use rate_limit::RateLimiter;
#[cfg(feature = "server")]
pub use server::{Clients, Listening, Server, ServerOptions, Threads};
#[cfg(feature = "server")]
pub use shutdown::Shutdown;
#[cfg(feature = "server")]
pub use tls::TlsFiles;
pub use token::Token;
#[cfg(feature = "server")]
pub use tokens_file::{Rights, TokenEntry, TokenScope, TokensFile, add_token};
