//! The witness as an HTTP server.
//!
//! Clients need no token: a checkpoint is public and proves by its log's signature where it comes
//! from. Other addresses than loopback still require TLS or a proxy that terminates it, so that
//! nobody on the way can answer in the witness's place.

mod metrics;
mod rejection;
mod routes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use zero_http::{
    Clients, ConnectionLimits, Listening, Log, Server, ServerOptions, Shutdown, Threads, TlsFiles,
};

use crate::error::Result;
use crate::witness::Witness;
use routes::ServerState;

/// The time in POSIX seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Options of a witness server.
#[derive(Clone, Debug)]
pub struct WitnessServerOptions {
    /// The address to listen on. With port 0 the system chooses a port.
    pub listen: SocketAddr,
    /// The PEM files for TLS: certificates and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A reverse proxy in front of the witness terminates TLS, so plain HTTP is allowed on any
    /// address.
    pub behind_proxy: bool,
    /// Limits.
    pub limits: Limits,
}

/// How much a witness server accepts, and how long it waits.
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

/// A witness that listens. [`WitnessServer::run`] accepts the connections.
pub struct WitnessServer {
    listening: Listening,
    router: Router,
    threads: Threads,
}

impl WitnessServer {
    /// Checks the options and listens.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming what to change.
    pub fn bind(options: WitnessServerOptions, witness: Witness, clock: Clock, log: Log) -> Result<Self> {
        let WitnessServerOptions { listen, tls, behind_proxy, limits } = options;
        let server = Server::new(ServerOptions {
            listen,
            clients: Clients::Everybody,
            tls: tls.map(|(certificates, key)| TlsFiles { certificates, key }),
            behind_proxy,
            limits: ConnectionLimits {
                max_connections: limits.max_connections,
                idle_timeout: limits.idle_timeout,
                shutdown_timeout: limits.shutdown_timeout,
            },
        })?;
        let threads = Threads { name: "witness", max_blocking: limits.max_concurrent_requests };
        let router = routes::router(ServerState::new(witness, clock, limits, log));
        let listening = server.listen()?;
        Ok(Self { listening, router, threads })
    }

    /// The bound address, with the port that the system chose if it was 0.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The submission prefix for clients, which is also the monitoring prefix.
    pub fn url(&self) -> String {
        self.listening.url()
    }

    /// A handle that shuts the server down.
    pub fn shutdown(&self) -> Shutdown {
        self.listening.shutdown()
    }

    /// Serves until the server is shut down and the requests in progress are finished.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the system refuses threads.
    pub fn run(self) -> Result<()> {
        Ok(self.listening.serve(self.router, self.threads)?)
    }
}
