//! The operations of `docs/openapi.json`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zero_bus::{Checksum, Json};
use zero_http::metrics::MEDIA_TYPE as METRICS_MEDIA_TYPE;
use zero_http::request::{accepts_encoding, discard_body, no_query_parameters, query_parameters, read_body};
use zero_http::{AuthError, Authenticator, Error, Problem};

use super::batch;
use super::limits::Limits;
use super::log::{ReceiverLog, Topic};
use super::metrics::Metrics;
use super::problem::{Position, is_fork};
use super::request::{BatchRequest, parse_checksum, parse_index};
use super::scope::{Access, Scope, check_bus, not_new, other_bus, scope_of};
use super::store::{self, JobError, StorePool, probe_bus};
use crate::wire::{self, FIRST_INDEX_HEADER, LINES_MEDIA_TYPE};

const OPENAPI: &str = include_str!("../../../../docs/openapi.json");
/// Target size of a page of lines. A longer line is a page of its own.
const PAGE_BYTES: usize = 8 << 20;
/// How much of the body of a request without a valid token is read, so that its client gets the
/// response.
const MAX_UNAUTHORIZED_BODY_BYTES: usize = 64 << 10;
/// How long the result of a health check is reused.
const HEALTH_CACHE_TIME: Duration = Duration::from_secs(1);

/// What all operations share.
pub(super) struct ReceiverState {
    store: Arc<StorePool>,
    authenticator: Authenticator<Scope>,
    /// One permit for each batch that may be received at the same time.
    batch_permits: Arc<Semaphore>,
    limits: Limits,
    metrics: Metrics,
    /// Time and result of the last health check. The lock is held during a check, so that checks do
    /// not overlap.
    last_health_check: tokio::sync::Mutex<Option<(Instant, bool)>>,
    log: Arc<ReceiverLog>,
}

impl ReceiverState {
    pub(super) fn new(
        store: StorePool,
        authenticator: Authenticator<Scope>,
        limits: Limits,
        log: Arc<ReceiverLog>,
    ) -> Self {
        Self {
            store: Arc::new(store),
            authenticator,
            batch_permits: Arc::new(Semaphore::new(limits.max_concurrent_batches.max(1))),
            limits,
            metrics: Metrics::new(),
            last_health_check: tokio::sync::Mutex::default(),
            log,
        }
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        self.authenticator.admit(headers).map_err(|error| match error {
            AuthError::Denied(problem) => problem,
            AuthError::TokensFile(error) => self.unusable_tokens_file(&error),
        })
    }

    fn unusable_tokens_file(&self, error: &Error) -> Problem {
        self.log.print(Topic::Tokens, &error.to_string());
        Problem::internal()
    }

    /// Binds a token for the first bus to this bus, durably. Another request may have bound it
    /// meanwhile, or the token may have been revoked.
    fn bind_first_bus(&self, token: Option<Checksum>, bus: Checksum) -> Result<(), JobError> {
        let (Some(tokens), Some(digest)) = (self.authenticator.tokens(), token) else { return Ok(()) };
        let mut is_bound = false;
        let changed = tokens.change_scope(digest, |scope| {
            if *scope == Scope::First {
                *scope = Scope::Bus(bus);
            }
            is_bound = *scope == Scope::Bus(bus);
        });
        match changed {
            Ok(()) if is_bound => Ok(()),
            Ok(()) => Err(other_bus().into()),
            Err(error) => Err(self.unusable_tokens_file(&error).into()),
        }
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
}

/// The operations by address. The names of the operations are labels of the metrics.
pub(super) fn router(state: ReceiverState) -> Router {
    type Shared = State<Arc<ReceiverState>>;
    Router::new()
        .route(
            "/v1/buses",
            get(async |State(state): Shared, uri: Uri, headers: HeaderMap| {
                state.measure("buses", buses(&state, &uri, &headers)).await
            }),
        )
        .route(
            "/v1/buses/{bus}",
            get(async |State(state): Shared, Path(bus): Path<String>, uri: Uri, headers: HeaderMap| {
                state.measure("position", position(&state, &bus, &uri, &headers)).await
            }),
        )
        .route(
            "/v1/buses/{bus}/events",
            get(async |State(state): Shared, Path(bus): Path<String>, uri: Uri, headers: HeaderMap| {
                state.measure("lines", lines(&state, &bus, &uri, &headers)).await
            })
            .post(async |State(state): Shared, Path(bus): Path<String>, request: Request| {
                state.measure("take", append(&state, &bus, request)).await
            }),
        )
        .route(
            "/openapi.json",
            get(async |State(state): Shared, uri: Uri| state.measure("openapi", openapi(&uri)).await),
        )
        .route(
            "/health",
            get(async |State(state): Shared, uri: Uri| state.measure("health", health(&state, &uri)).await),
        )
        .route(
            "/metrics",
            get(async |State(state): Shared, uri: Uri, headers: HeaderMap| {
                state.measure("metrics", metrics(&state, &uri, &headers)).await
            }),
        )
        .fallback(async |State(state): Shared| {
            let problem = Problem::not_found("/openapi.json lists the addresses");
            state.measure("none", async { Err(problem) }).await
        })
        .method_not_allowed_fallback(async |State(state): Shared| {
            let problem = Problem::method_not_allowed("/openapi.json lists the methods of this address");
            state.measure("none", async { Err(problem) }).await
        })
        .with_state(Arc::new(state))
}

async fn buses(state: &ReceiverState, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    #[derive(serde::Serialize)]
    struct Buses {
        buses: Vec<Checksum>,
    }
    let access = state.admit(headers)?;
    no_query_parameters(uri)?;
    let buses = match scope_of(&access) {
        Scope::Any => state.store.run(|store| Ok(store.buses()?)).await?,
        Scope::First => Vec::new(),
        Scope::Bus(bus) => {
            let exists = state.store.run(move |store| Ok(store.head(bus)?.index > 0)).await?;
            if exists { vec![bus] } else { Vec::new() }
        }
    };
    json_response(&Buses { buses })
}

async fn position(
    state: &ReceiverState,
    bus: &str,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let access = state.admit(headers)?;
    let bus = parse_checksum(bus)?;
    no_query_parameters(uri)?;
    check_bus(&access, bus)?;
    let head = state.store.run(move |store| Ok(store.head(bus)?)).await?;
    if scope_of(&access) == Scope::First && head.index > 0 {
        return Err(not_new());
    }
    json_response(&Position::new(bus, head))
}

async fn lines(
    state: &ReceiverState,
    bus: &str,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let access = state.admit(headers)?;
    let bus = parse_checksum(bus)?;
    let [from] = query_parameters(uri, ["from"])?;
    let from = from.map_or(Ok(1), |from| parse_index(&from, "from", 1))?;
    check_bus(&access, bus)?;
    if scope_of(&access) == Scope::First {
        return Err(not_new());
    }
    let zstd = accepts_encoding(headers, "zstd");
    let (first, body) = state.store.run(move |store| Ok(encode_page(store.lines(bus, from)?, zstd))).await?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES_MEDIA_TYPE));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if zstd {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    if let Some(first) = first {
        headers.insert(FIRST_INDEX_HEADER, HeaderValue::from(first));
    }
    Ok(response)
}

/// The body of a page, and the index of its first line. The page ends before a gap in the indexes,
/// and when it is full; it has at least one line if there are any.
fn encode_page(lines: Vec<(u64, String)>, zstd: bool) -> (Option<u64>, Vec<u8>) {
    let first = lines.first().map(|(index, _)| *index);
    let mut body = Vec::new();
    for (expected, (index, line)) in (first.unwrap_or(0)..).zip(lines) {
        if index != expected || (!body.is_empty() && body.len() + line.len() >= PAGE_BYTES) {
            break;
        }
        body.extend_from_slice(line.as_bytes());
        body.push(b'\n');
    }
    // Compressing to memory cannot fail.
    (first, if zstd { wire::compress(&body).unwrap_or_default() } else { body })
}

async fn append(state: &Arc<ReceiverState>, bus: &str, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // A client that sends `Expect: 100-continue` has not sent the body yet, so there is nothing to
    // discard.
    let body_is_coming = !parts.headers.contains_key(header::EXPECT);
    let admitted = state.admit(&parts.headers);
    let max_discarded_bytes =
        if admitted.is_ok() { state.limits.max_batch_bytes } else { MAX_UNAUTHORIZED_BODY_BYTES };
    let read = admitted
        .and_then(|access| BatchRequest::read(access, bus, &parts.uri, &parts.headers, &state.limits));
    let BatchRequest { access, bus, after, encoding } = match read {
        Ok(request) => request,
        Err(problem) => {
            if body_is_coming {
                discard_body(body, max_discarded_bytes, state.limits.idle_timeout).await;
            }
            return Err(problem);
        }
    };
    let batch_permit =
        timeout(state.limits.idle_timeout, Arc::clone(&state.batch_permits).acquire_owned()).await;
    let Ok(Ok(batch_permit)) = batch_permit else {
        return Err(Problem::unavailable("too many batches are being received; try again"));
    };
    let reading = read_body(body, state.limits.max_batch_bytes, state.limits.idle_timeout);
    let body =
        timeout(state.limits.body_timeout, reading).await.map_err(|_| Problem::request_timeout())??;
    let limits = state.limits.clone();
    let verifying = tokio::task::spawn_blocking(move || {
        (batch::verify(bus, after, encoding, body, &limits), batch_permit)
    });
    let (records, batch_permit) = verifying.await.map_err(|_| Problem::internal())?;
    let records = records?;
    let bus_lock = state.store.lock_bus(bus).await;
    let shared = Arc::clone(state);
    let head = state.store.run(move |store| {
        // Held until the batch is stored, even if the client has gone.
        let _held = (batch_permit, bus_lock);
        let first_bus_token = match &access {
            Access::Token(token) if token.scope == Scope::First => Some(token.digest),
            _ => None,
        };
        if first_bus_token.is_some() && store.head(bus)?.index > 0 {
            return Err(not_new().into());
        }
        let bind = || shared.bind_first_bus(first_bus_token, bus);
        let head = store::append(store, bus, after, &records, bind)?;
        if let Some(last) = records.last() {
            let line_bytes = records.iter().map(|record| record.line.len() as u64).sum();
            shared.metrics.count_stored(bus, records.len() as u64, line_bytes, &last.event);
        }
        Ok(head)
    });
    match head.await {
        Ok(head) => json_response(&Position::new(bus, head)),
        Err(problem) => {
            if is_fork(&problem) {
                state.metrics.count_fork();
                let message = format!("a batch for bus {bus} was refused: {}", problem.detail());
                state.log.print(Topic::Fork, &message);
            }
            Err(problem)
        }
    }
}

async fn health(state: &ReceiverState, uri: &Uri) -> Result<Response, Problem> {
    no_query_parameters(uri)?;
    let mut last_check = state.last_health_check.lock().await;
    let recent = last_check.filter(|(time, _)| time.elapsed() < HEALTH_CACHE_TIME);
    let is_healthy = match recent {
        Some((_, is_healthy)) => is_healthy,
        None => {
            let is_healthy = state.store.run(|store| Ok(store.head(probe_bus())?)).await.is_ok();
            *last_check = Some((Instant::now(), is_healthy));
            is_healthy
        }
    };
    if is_healthy {
        Ok(json_text_response(r#"{"status":"ok"}"#.to_owned()))
    } else {
        Err(Problem::unavailable("the receiver's store does not respond"))
    }
}

async fn openapi(uri: &Uri) -> Result<Response, Problem> {
    no_query_parameters(uri)?;
    Ok(json_text_response(OPENAPI.to_owned()))
}

async fn metrics(state: &ReceiverState, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let access = state.admit(headers)?;
    no_query_parameters(uri)?;
    if scope_of(&access) != Scope::Any {
        return Err(Problem::forbidden("the metrics cover every bus, and the token does not"));
    }
    let content_type = [(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)];
    Ok((StatusCode::OK, content_type, state.metrics.text()).into_response())
}

fn json_response(value: &impl serde::Serialize) -> Result<Response, Problem> {
    Json::of(value).map(|json| json_text_response(json.to_string())).map_err(|_| Problem::internal())
}

fn json_text_response(text: String) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
