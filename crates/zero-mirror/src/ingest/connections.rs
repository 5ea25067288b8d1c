//! Connections: taken one by one, each with its time limits, and let end when the receiver is stopped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

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

use super::{Limits, Receiver, routes};

/// Most bytes of a request's header.
const HEADER_BYTES: usize = 16 << 10;

/// Answers until the receiver is stopped and what is under way has ended, or its grace is over.
pub(super) async fn serve(receiver: Receiver) -> io::Result<()> {
    let Receiver { listener, tls, routes, limits, stop, .. } = receiver;
    let listener = TcpListener::from_std(listener)?;
    let router = routes::router(routes);
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(limits.connections.max(1)));
    let connections = GracefulShutdown::new();
    let mut stopped = stop.subscribe();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The client went away again; or there are no descriptors left, which others have to give back first.
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    sleep(Duration::from_millis(50)).await;
                }
                continue;
            }
        };
        let (router, acceptor) = (router.clone(), acceptor.clone());
        let (watcher, limits) = (connections.watcher(), limits.clone());
        tokio::spawn(async move {
            let _place = place;
            connect(stream, acceptor, router, watcher, &limits).await;
        });
    }
    drop(listener);
    // Who is still in the middle of sending when the grace is over was promised nothing yet.
    let _ = timeout(limits.grace, connections.shutdown()).await;
    Ok(())
}

/// Answers one connection to its end. What goes wrong with it is its client's to notice.
async fn connect(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: axum::Router,
    watcher: Watcher,
    limits: &Limits,
) {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    // A client that does not take its answer is not waited for.
    stream.set_write_timeout(Some(limits.silence));
    let stream = Box::pin(stream);
    match acceptor {
        None => answer(stream, router, watcher, limits).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = timeout(limits.silence, acceptor.accept(stream)).await {
                answer(stream, router, watcher, limits).await;
            }
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: axum::Router,
    watcher: Watcher,
    limits: &Limits,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.silence)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = watcher.watch(connection).await;
}
