//! How much a receiver accepts, and how long it waits.

use std::time::Duration;

use zero_bus::MAX_LINE_BYTES;

/// Limits of a receiver.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum size of a batch, compressed and decompressed. The default has room for one line of
    /// maximum length.
    pub max_batch_bytes: usize,
    /// Maximum number of lines in a batch.
    pub max_batch_lines: usize,
    /// Batches that are received at the same time. Together with `max_batch_bytes` this bounds the
    /// memory.
    pub max_concurrent_batches: usize,
    /// Connections to the store.
    pub max_store_connections: usize,
    /// Connections of clients. Further clients wait.
    pub max_connections: usize,
    /// Average request rate of each token. Bursts may have twice as many.
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
            max_batch_bytes: 2 * MAX_LINE_BYTES,
            max_batch_lines: 100_000,
            max_concurrent_batches: 8,
            max_store_connections: 4,
            max_connections: 256,
            requests_per_second: 500,
            idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}
