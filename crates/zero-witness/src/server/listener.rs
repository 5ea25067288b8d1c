//! The witness server: options, start, and serving until shutdown.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use zero_http::{
    Clients, ConnectionLimits, Listening, Log, Server, ServerOptions, Shutdown, Threads, TlsFiles,
};

use super::limits::Limits;
use super::routes::{self, Clock, ServerState};
use crate::error::Result;
use crate::witness::Witness;

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
