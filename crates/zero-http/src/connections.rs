//! Accepts connections, applies the time limits to each, and drains them on shutdown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::shutdown::Shutdown;

/// Maximum size of a request's header.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Pause after `accept` failed for lack of a resource, such as file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Limits on the connections of a server.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Maximum number of open connections. Further clients wait until one is closed.
    pub max_connections: usize,
    /// Maximum time for a TLS handshake, for a request's header, and for the client to accept the
    /// next part of a response. A connection without a request is closed after this time.
    pub idle_timeout: Duration,
    /// Maximum time that a shutdown waits for requests in progress.
    pub shutdown_timeout: Duration,
}

/// Serves until the shutdown begins, and then until the open connections are finished or
/// `shutdown_timeout` has passed.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let permits = Arc::new(Semaphore::new(limits.max_connections.max(1)));
    let connections = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.begun() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The client has gone, or a resource is exhausted that other connections must
                // release first.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
                continue;
            }
        };
        let (router, tls) = (router.clone(), tls.clone());
        let (watcher, idle_timeout) = (connections.watcher(), limits.idle_timeout);
        tokio::spawn(async move {
            let _permit = permit;
            serve_stream(stream, tls, router, watcher, idle_timeout).await;
        });
    }
    drop(listener);
    // A client that is still sending its request when the timeout expires has received no
    // acknowledgement.
    let _ = timeout(limits.shutdown_timeout, connections.shutdown()).await;
    Ok(())
}

/// Serves one connection until it ends. Its errors concern its client only, so they are not
/// reported.
async fn serve_stream(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
    idle_timeout: Duration,
) {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(idle_timeout));
    let stream = Box::pin(stream);
    match tls {
        None => serve_http(stream, router, watcher, idle_timeout).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = timeout(idle_timeout, acceptor.accept(stream)).await {
                serve_http(stream, router, watcher, idle_timeout).await;
            }
        }
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    watcher: Watcher,
    idle_timeout: Duration,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = watcher.watch(connection).await;
}
