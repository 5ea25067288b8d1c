//! The receiver: options, start, and serving until shutdown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use zero_http::{
    Authenticator, Clients, ConnectionLimits, Listening, Log, Server, ServerOptions, Shutdown, Threads,
    TlsFiles, TokensFile,
};

use super::limits::Limits;
use super::log::ReceiverLog;
use super::routes::{self, ReceiverState};
use super::store::{OpenStore, StorePool};
use crate::error::Result;

/// Options of a receiver.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// The address to listen on. With port 0 the system chooses a port.
    pub listen: SocketAddr,
    /// The tokens file, see [`add_token`](super::add_token). Without it every client may do
    /// everything, so the receiver listens on loopback only.
    pub tokens: Option<PathBuf>,
    /// The PEM files for TLS: certificates and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A reverse proxy in front of the receiver terminates TLS, so plain HTTP is allowed on any
    /// address.
    pub behind_proxy: bool,
    /// Limits.
    pub limits: Limits,
}

/// A receiver that listens. [`Receiver::run`] accepts the connections.
pub struct Receiver {
    listening: Listening,
    router: Router,
    threads: Threads,
}

impl Receiver {
    /// Checks the options, opens the tokens file and the store, and listens.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) if an option must be corrected; any error of
    /// opening the store.
    pub fn bind(options: ReceiverOptions, open_store: OpenStore, log: Log) -> Result<Self> {
        let ReceiverOptions { listen, tokens, tls, behind_proxy, limits } = options;
        let server = Server::new(ServerOptions {
            listen,
            clients: if tokens.is_some() { Clients::WithToken } else { Clients::Local },
            tls: tls.map(|(certificates, key)| TlsFiles { certificates, key }),
            behind_proxy,
            limits: ConnectionLimits {
                max_connections: limits.max_connections,
                idle_timeout: limits.idle_timeout,
                shutdown_timeout: limits.shutdown_timeout,
            },
        })?;
        let tokens = tokens.map(|path| TokensFile::open(&path)).transpose()?;
        let authenticator = Authenticator::new(tokens, limits.requests_per_second);
        let log = Arc::new(ReceiverLog::new(log));
        let store = StorePool::open(open_store, limits.max_store_connections, Arc::clone(&log))?;
        let threads = Threads {
            name: "ingest",
            max_blocking: limits.max_concurrent_batches + limits.max_store_connections + 2,
        };
        let router = routes::router(ReceiverState::new(store, authenticator, limits, log));
        // Listening comes last: no connection queues up while the store is opened.
        let listening = server.listen()?;
        Ok(Self { listening, router, threads })
    }

    /// The bound address, with the port that the system chose if it was 0.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        self.listening.url()
    }

    /// A handle that shuts the receiver down.
    pub fn shutdown(&self) -> Shutdown {
        self.listening.shutdown()
    }

    /// Serves until the receiver is shut down and the requests in progress are finished.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) if the system refuses threads.
    pub fn run(self) -> Result<()> {
        Ok(self.listening.serve(self.router, self.threads)?)
    }
}
