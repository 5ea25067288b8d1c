//! The operations of C2SP tlog-witness, and the metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zero_http::metrics::MEDIA_TYPE as METRICS_MEDIA_TYPE;
use zero_http::request::{body_too_large, discard_body, no_query_parameters, read_body};
use zero_http::{Log, Problem, RateLimiter, ThrottledLog};
use zero_proof::add_checkpoint::MAX_BODY_BYTES;
use zero_proof::{AddCheckpoint, Note};

use super::limits::Limits;
use super::metrics::Metrics;
use super::rejection;
use crate::witness::{Rejection, Witness};

const TEXT_MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// The time in POSIX seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What all operations share.
pub(super) struct ServerState {
    witness: Witness,
    clock: Clock,
    /// One limit for all requests: clients have no identity.
    rate_limiter: RateLimiter<()>,
    /// One permit for each request that may be received at the same time.
    permits: Arc<Semaphore>,
    limits: Limits,
    metrics: Metrics,
    log: ThrottledLog<Topic>,
}

/// What a message is about. Each topic has its own limit of one message a second.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Topic {
    Failed,
    Inconsistent,
}

impl ServerState {
    pub(super) fn new(witness: Witness, clock: Clock, limits: Limits, log: Log) -> Self {
        let metrics = Metrics::new();
        for (origin, size) in witness.logs() {
            metrics.set_size(origin, size);
        }
        Self {
            witness,
            clock,
            rate_limiter: RateLimiter::new(limits.requests_per_second),
            permits: Arc::new(Semaphore::new(limits.max_concurrent_requests.max(1))),
            limits,
            metrics,
            log: ThrottledLog::new(log),
        }
    }

    fn admit(&self) -> Result<(), Problem> {
        self.rate_limiter.admit((), Instant::now()).map_err(|wait| {
            let title = "Too many requests";
            let detail = "the witness answers a limited number of requests a second; try again later";
            let kind = "urn:zero-bus:problem:rate";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, kind, title, detail);
            problem.with_retry_after(wait.as_secs() + 1)
        })
    }

    /// Measures an operation and turns its problem into a response.
    async fn measure(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<Response, Problem>>,
    ) -> Response {
        let start = Instant::now();
        let response = answer.await.unwrap_or_else(IntoResponse::into_response);
        self.metrics.observe_request(operation, response.status().as_u16(), start.elapsed());
        response
    }

    /// Decides on a request. Blocks until the new state is durable.
    fn decide(&self, body: &[u8]) -> Response {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return Problem::bad_request(error.to_string()).into_response(),
        };
        let checkpoint = request.checkpoint.checkpoint();
        let timestamp = (self.clock)();
        match self.witness.add_checkpoint(&request, timestamp) {
            Ok(cosignatures) => {
                self.metrics.count_cosigned(&checkpoint.origin, checkpoint.size, timestamp);
                text_response(Note::encode_signatures(&cosignatures))
            }
            Err(rejection) => {
                self.report(&request, &rejection);
                rejection::response(&rejection)
            }
        }
    }

    /// Tells the operator what needs attention. Everything else is in the metrics.
    fn report(&self, request: &AddCheckpoint, rejection: &Rejection) {
        let checkpoint = request.checkpoint.checkpoint();
        let origin = checkpoint.origin.escape_debug();
        match rejection {
            Rejection::Failed(error) => self.log.print(Topic::Failed, &error.to_string()),
            Rejection::ClockBehind { .. } => {
                self.log.print(Topic::Failed, &format!("`{origin}` was not cosigned: {rejection}"));
            }
            Rejection::Inconsistent { problem, evidence } => {
                self.metrics.count_inconsistent();
                let evidence = match evidence {
                    None => String::new(),
                    Some(Ok(path)) => format!("; the log has signed two trees, see {}", path.display()),
                    Some(Err(error)) => format!("; the log has signed two trees, but {error}"),
                };
                let size = checkpoint.size;
                let message =
                    format!("a checkpoint of {size} events of `{origin}` was refused: {problem}{evidence}");
                self.log.print(Topic::Inconsistent, &message);
            }
            _ => {}
        }
    }
}

/// The operations by address. The names of the operations are labels of the metrics.
pub(super) fn router(state: ServerState) -> Router {
    type Shared = State<Arc<ServerState>>;
    Router::new()
        .route(
            "/add-checkpoint",
            post(async |State(state): Shared, request: Request| {
                state.measure("add-checkpoint", add_checkpoint(&state, request)).await
            }),
        )
        .route(
            "/{origin_hash}/checkpoint",
            get(async |State(state): Shared, Path(hash): Path<String>, uri: Uri| {
                state.measure("checkpoint", checkpoint(&state, &hash, &uri)).await
            }),
        )
        .route(
            "/metrics",
            get(async |State(state): Shared, uri: Uri| state.measure("metrics", metrics(&state, &uri)).await),
        )
        .fallback(async |State(state): Shared| {
            let problem = Problem::not_found(
                "a witness answers POST /add-checkpoint and GET /HASH/checkpoint (C2SP tlog-witness)",
            );
            state.measure("none", async { Err(problem) }).await
        })
        .method_not_allowed_fallback(async |State(state): Shared| {
            let problem = Problem::method_not_allowed("use POST for add-checkpoint and GET for the others");
            state.measure("none", async { Err(problem) }).await
        })
        .with_state(Arc::new(state))
}

async fn add_checkpoint(state: &Arc<ServerState>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    if let Err(problem) = check_head(state, &parts.uri, &parts.headers) {
        // A client that sends `Expect: 100-continue` has not sent the body yet.
        if !parts.headers.contains_key(header::EXPECT) {
            discard_body(body, MAX_BODY_BYTES, state.limits.idle_timeout).await;
        }
        return Err(problem);
    }
    let permit = timeout(state.limits.idle_timeout, Arc::clone(&state.permits).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(Problem::unavailable("too many requests are being received; try again"));
    };
    let reading = read_body(body, MAX_BODY_BYTES, state.limits.idle_timeout);
    let body =
        timeout(state.limits.body_timeout, reading).await.map_err(|_| Problem::request_timeout())??;
    let shared = Arc::clone(state);
    let deciding = tokio::task::spawn_blocking(move || {
        // Runs to the end even if the client has gone.
        let _permit = permit;
        shared.decide(&body)
    });
    deciding.await.map_err(|_| Problem::internal())
}

fn check_head(state: &ServerState, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    state.admit()?;
    no_query_parameters(uri)?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(Problem::unsupported_media_type("the body must not be compressed"));
    }
    let length: Option<u64> = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    match length {
        Some(length) if length > MAX_BODY_BYTES as u64 => Err(body_too_large(MAX_BODY_BYTES)),
        _ => Ok(()),
    }
}

async fn checkpoint(state: &ServerState, origin_hash: &str, uri: &Uri) -> Result<Response, Problem> {
    state.admit()?;
    no_query_parameters(uri)?;
    let checkpoint = state.witness.checkpoint(origin_hash);
    checkpoint.map(text_response).ok_or_else(|| {
        Problem::not_found("the witness has cosigned no checkpoint of a log whose origin has this SHA-256")
    })
}

async fn metrics(state: &ServerState, uri: &Uri) -> Result<Response, Problem> {
    state.admit()?;
    no_query_parameters(uri)?;
    let content_type = [(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)];
    Ok((StatusCode::OK, content_type, state.metrics.text()).into_response())
}

fn text_response(text: String) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, TEXT_MEDIA_TYPE)], text).into_response()
}
