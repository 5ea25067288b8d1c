//! The receiving end of HTTP: takes events from [`Http`](crate::Http) clients into a store that is a mirror itself.
//!
//! A batch is acknowledged when the store has taken it durably, and not before. Every line of it was judged as the next
//! event of its chain by then. What the two ends say to each other is `docs/openapi.json`, which is served too.

mod batch;
mod connections;
mod metrics;
mod operator;
mod problem;
mod rate;
mod request;
mod routes;
mod store;
mod tokens;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use zero_bus::MAX_LINE_BYTES;

use crate::error::Result;
use crate::token::refused;
pub use operator::Log;
pub use store::Open;
pub use tokens::{Rights, Scope, add as add_token};

/// What a receiver is told.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who may do what, see [`add_token`]. Without it everybody may do everything, so only loopback is listened on.
    pub tokens: Option<PathBuf>,
    /// The certificates and the key of TLS, as PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether something in front ends TLS, so that plain HTTP is fine on other addresses than loopback.
    pub behind_proxy: bool,
    /// How much is taken.
    pub limits: Limits,
}

/// How much a receiver takes, and how long it waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of a batch, as it comes and unpacked. One line of the longest fits.
    pub batch_bytes: usize,
    /// Most lines of a batch.
    pub batch_lines: usize,
    /// Batches at once. Together with `batch_bytes` this bounds the memory.
    pub batches: usize,
    /// Connections to the store.
    pub stores: usize,
    /// Connections of clients; more wait.
    pub connections: usize,
    /// Requests a second of each token; twice as many at once.
    pub rate: u32,
    /// For a request's header, a TLS handshake, the next part of a body, and the next part of an answer to be taken; a
    /// connection without a request is closed after it.
    pub silence: Duration,
    /// For a body as a whole.
    pub body: Duration,
    /// For what is under way when the receiver is stopped.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_bytes: 2 * MAX_LINE_BYTES,
            batch_lines: 100_000,
            batches: 8,
            stores: 4,
            connections: 256,
            rate: 500,
            silence: Duration::from_secs(10),
            body: Duration::from_secs(60),
            grace: Duration::from_secs(30),
        }
    }
}

/// A receiver that listens and has not begun to answer.
pub struct Receiver {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    routes: Arc<routes::Receiving>,
    limits: Limits,
    stop: watch::Sender<bool>,
}

/// Stops a receiver, from any thread.
#[derive(Clone)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// No more requests are taken; those under way are finished, and then [`Receiver::run`] returns.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Receiver {
    /// Opens the store and the tokens, and listens.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) naming what is wrong with the settings; what opening the store reports.
    pub fn bind(options: ReceiverOptions, open: Open, log: Log) -> Result<Self> {
        let ReceiverOptions { listen, tokens, tls, behind_proxy, limits } = options;
        let name = listen.to_string();
        if !listen.ip().is_loopback() {
            if tokens.is_none() {
                return Err(refused(
                    &name,
                    "without tokens anybody who reaches it could write; name a tokens file, or listen on 127.0.0.1",
                ));
            }
            if tls.is_none() && !behind_proxy {
                return Err(refused(
                    &name,
                    "without TLS the tokens could be read on the way; name a certificate and a key, say that a proxy \
                     in front ends TLS, or listen on 127.0.0.1",
                ));
            }
        }
        let tls = tls.map(|(certificates, key)| server_config(&certificates, &key)).transpose()?;
        let tokens = tokens.map(|path| tokens::Tokens::open(&path)).transpose()?;
        let operator = Arc::new(operator::Operator::new(log));
        let stores = store::Stores::open(open, limits.stores, Arc::clone(&operator))?;
        let routes = routes::Receiving::new(stores, tokens, limits.clone(), operator);
        let cannot = |error: std::io::Error| refused(&name, &format!("cannot listen: {error}"));
        let listener = TcpListener::bind(listen).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Self { listener, address, tls, routes: Arc::new(routes), limits, stop: watch::Sender::new(false) })
    }

    /// Where it listens, with the port that the system chose where it was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a client takes it.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// What stops it.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown(self.stop.clone())
    }

    /// Answers until it is stopped and what was under way is done.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) where the system has no threads to give.
    pub fn run(self) -> Result<()> {
        let name = self.address.to_string();
        let cannot = move |error: std::io::Error| refused(&name, &format!("cannot begin: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(self.limits.batches + self.limits.stores + 2)
            .thread_name("ingest")
            .enable_all()
            .build()
            .map_err(cannot.clone())?;
        runtime.block_on(connections::serve(self)).map_err(cannot)
        // Dropping the runtime waits for the threads that use the store: what was begun there is ended.
    }
}

/// TLS 1.2 and 1.3, as rustls has them.
fn server_config(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let no = |path: &Path, problem: &dyn std::fmt::Display| {
        refused(&path.display().to_string(), &problem.to_string())
    };
    let unreadable =
        |path: &Path, error: &dyn std::fmt::Display| no(path, &format!("cannot read it: {error}"));
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(certificates, &error))?;
    if chain.is_empty() {
        return Err(no(certificates, &"holds no certificate in PEM"));
    }
    let metadata = std::fs::metadata(key).map_err(|error| unreadable(key, &error))?;
    if metadata.mode() & 0o007 != 0 {
        return Err(no(key, &"everybody may read this key; run: chmod o= on it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| no(certificates, &format!("does not go with the key {}: {error}", key.display())))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
