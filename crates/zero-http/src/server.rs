//! A server: its options are checked, then it listens, then it serves a router until it is shut
//! down.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::connections::{self, ConnectionLimits};
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::tls::TlsFiles;

/// Threads that run the asynchronous part of a server. They never block.
const WORKER_THREADS: usize = 2;

/// Where and how a server listens.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The address to listen on. With port 0 the system chooses a port.
    pub listen: SocketAddr,
    /// Who may send requests.
    pub clients: Clients,
    /// Certificate and key; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// A reverse proxy in front of the server terminates TLS, so plain HTTP is allowed on any
    /// address.
    pub behind_proxy: bool,
    /// Limits on connections.
    pub limits: ConnectionLimits,
}

/// Who may send requests to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Every user of this machine: clients present nothing.
    Local,
    /// Whoever presents a token.
    WithToken,
    /// Everybody: the server answers nothing that is secret, and each request proves by itself that
    /// it may change something, as by a signature.
    Everybody,
}

/// The threads of a server.
#[derive(Clone, Debug)]
pub struct Threads {
    /// Name of the threads.
    pub name: &'static str,
    /// Maximum number of threads for blocking calls.
    pub max_blocking: usize,
}

/// A server whose options are valid. It does not listen yet.
pub struct Server {
    listen: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    limits: ConnectionLimits,
}

impl Server {
    /// Checks the options and loads the TLS files. An address other than loopback requires tokens,
    /// or requests that need none, and TLS or a proxy that terminates it: otherwise anyone could
    /// write, or read the tokens and change the answers on the network.
    ///
    /// # Errors
    /// [`Error`] naming what to change.
    pub fn new(options: ServerOptions) -> Result<Self> {
        let ServerOptions { listen, clients, tls, behind_proxy, limits } = options;
        if !listen.ip().is_loopback() {
            let refuse = |problem: &str| Err(Error::new(listen.to_string(), problem));
            let has_tls = tls.is_some() || behind_proxy;
            match clients {
                Clients::Local => {
                    return refuse(
                        "without tokens anyone who reaches this address could write; name a tokens file, or listen \
                         on 127.0.0.1",
                    );
                }
                Clients::WithToken if !has_tls => {
                    return refuse(
                        "without TLS the tokens could be read on the network; name a certificate and a key, state \
                         that a proxy terminates TLS, or listen on 127.0.0.1",
                    );
                }
                Clients::Everybody if !has_tls => {
                    return refuse(
                        "without TLS the answers could be changed on the network; name a certificate and a key, \
                         state that a proxy terminates TLS, or listen on 127.0.0.1",
                    );
                }
                Clients::WithToken | Clients::Everybody => {}
            }
        }
        check_clock(SystemTime::now())?;
        let tls = tls.map(|files| files.load()).transpose()?;
        Ok(Self { listen, tls, limits })
    }

    /// Binds the address. From now on connections queue up; [`Listening::serve`] accepts them.
    ///
    /// # Errors
    /// [`Error`] if the system refuses the address.
    pub fn listen(self) -> Result<Listening> {
        let Self { listen, tls, limits } = self;
        let cannot =
            |error: std::io::Error| Error::new(listen.to_string(), format!("cannot listen: {error}"));
        let listener = TcpListener::bind(listen).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Listening { listener, address, tls, limits, shutdown: Shutdown::new() })
    }
}

/// Responses state their date, which HTTP can write for the years 1970 to 9999 only.
fn check_clock(now: SystemTime) -> Result<()> {
    /// 9999-12-31T23:59:59Z in POSIX seconds.
    const LAST_S: u64 = 253_402_300_799;
    match now.duration_since(UNIX_EPOCH) {
        Ok(time) if time.as_secs() <= LAST_S => Ok(()),
        _ => Err(Error::new("the clock of this machine", "is outside the years 1970 to 9999; set it")),
    }
}

/// A server that listens.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    limits: ConnectionLimits,
    shutdown: Shutdown,
}

impl Listening {
    /// The bound address, with the port that the system chose if it was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// A handle that shuts the server down.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Serves the router until the server is shut down and the requests in progress are finished.
    /// Returns only after all blocking calls have returned, so no work goes on in the background.
    ///
    /// # Errors
    /// [`Error`] if the system refuses threads.
    pub fn serve(self, router: Router, threads: Threads) -> Result<()> {
        let Self { listener, address, tls, limits, shutdown } = self;
        let cannot =
            move |error: std::io::Error| Error::new(address.to_string(), format!("cannot start: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(threads.max_blocking.max(1))
            .thread_name(threads.name)
            .enable_all()
            .build()
            .map_err(cannot)?;
        let tls = tls.map(TlsAcceptor::from);
        runtime.block_on(connections::serve(listener, tls, router, limits, shutdown)).map_err(cannot)
        // Dropping the runtime waits for the threads that are in a blocking call.
    }
}
