//! How much a witness server accepts, and how long it waits.

use std::time::Duration;

/// Limits of a witness server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that are received at the same time. Together with the maximum size of a body this
    /// bounds the memory: 4 MiB by default.
    pub max_concurrent_requests: usize,
    /// Connections of clients. Further clients wait.
    pub max_connections: usize,
    /// Average rate of all requests together, so that the machine has time for its other work.
    /// Bursts may have twice as many.
    pub requests_per_second: u32,
    /// Maximum time for a request's header, a TLS handshake, the next part of a body, and for the
    /// client to accept the next part of a response. A connection without a request is closed after
    /// this time.
    pub idle_timeout: Duration,
    /// Maximum time for a whole body.
    pub body_timeout: Duration,
    /// Maximum time that a shutdown waits for requests in progress.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_requests: 16,
            max_connections: 256,
            requests_per_second: 100,
            idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}
