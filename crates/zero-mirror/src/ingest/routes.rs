//! What a receiver answers to: the operations of `docs/openapi.json`.

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

use super::metrics::{MEDIA_TYPE, Metrics};
use super::operator::{About, Operator};
use super::problem::Problem;
use super::rate::Rate;
use super::request::{
    Access, PostedBatch, bearer, checksum, drain, no_options, number, options, read_body, takes_zstd,
};
use super::store::{Failure, Stores, nobody, put};
use super::tokens::{Scope, Tokens};
use super::{Limits, batch};
use crate::error::Error;
use crate::wire::{self, FIRST_INDEX, LINES, Position};

/// What the operations are, as it is served.
const OPENAPI: &str = include_str!("../../../../docs/openapi.json");
/// Most bytes of a page of lines, where it is more than one line.
const PAGE_BYTES: usize = 8 << 20;
/// Most bytes that are read from somebody unknown, so that the answer reaches him.
const UNKNOWN_BYTES: usize = 64 << 10;

/// What the operations need.
pub(super) struct Receiving {
    stores: Arc<Stores>,
    tokens: Option<Tokens>,
    rate: Rate<Checksum>,
    batches: Arc<Semaphore>,
    limits: Limits,
    metrics: Metrics,
    /// When the store was last asked whether it is there, and what it said.
    health: tokio::sync::Mutex<Option<(Instant, bool)>>,
    operator: Arc<Operator>,
}

impl Receiving {
    pub(super) fn new(
        stores: Stores,
        tokens: Option<Tokens>,
        limits: Limits,
        operator: Arc<Operator>,
    ) -> Self {
        Self {
            stores: Arc::new(stores),
            tokens,
            rate: Rate::new(limits.rate),
            batches: Arc::new(Semaphore::new(limits.batches.max(1))),
            limits,
            metrics: Metrics::new(),
            health: tokio::sync::Mutex::default(),
            operator,
        }
    }

    /// Who asks, where he may ask at all and does not ask too often.
    fn admit(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        let (access, key) = match &self.tokens {
            None => (Access::Open, Checksum::of(b"")),
            Some(tokens) => {
                let shown = bearer(headers).ok_or_else(Problem::token)?;
                let found = tokens.find(shown.as_bytes()).map_err(|error| self.broken(&error))?;
                let known = found.ok_or_else(Problem::token)?;
                let key = known.digest;
                (Access::Known(known), key)
            }
        };
        self.rate.admit(key, Instant::now()).map_err(|wait| Problem::rate(wait.as_secs() + 1))?;
        Ok(access)
    }

    fn broken(&self, error: &Error) -> Problem {
        self.operator.tell(About::Tokens, &error.to_string());
        Problem::broken()
    }

    /// Counts what an operation comes to.
    async fn measured(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<Response, Problem>>,
    ) -> Response {
        let start = Instant::now();
        let response = answer.await.unwrap_or_else(IntoResponse::into_response);
        self.metrics.answered(operation, response.status().as_u16(), start.elapsed());
        response
    }
}

/// A token for the first bus opens none that is held already.
fn not_the_first() -> Problem {
    Problem::scope("the token is for a bus that is new here, and this one is held already")
}

/// The operations by their addresses.
pub(super) fn router(receiving: Arc<Receiving>) -> Router {
    type Here = State<Arc<Receiving>>;
    Router::new()
        .route(
            "/v1/buses",
            get(async |State(here): Here, uri: Uri, headers: HeaderMap| {
                here.measured("buses", buses(&here, &uri, &headers)).await
            }),
        )
        .route(
            "/v1/buses/{bus}",
            get(async |State(here): Here, Path(bus): Path<String>, uri: Uri, headers: HeaderMap| {
                here.measured("position", position(&here, &bus, &uri, &headers)).await
            }),
        )
        .route(
            "/v1/buses/{bus}/events",
            get(async |State(here): Here, Path(bus): Path<String>, uri: Uri, headers: HeaderMap| {
                here.measured("lines", lines(&here, &bus, &uri, &headers)).await
            })
            .post(async |State(here): Here, Path(bus): Path<String>, request: Request| {
                here.measured("take", take(&here, &bus, request)).await
            }),
        )
        .route(
            "/openapi.json",
            get(async |State(here): Here, uri: Uri| here.measured("openapi", openapi(&uri)).await),
        )
        .route(
            "/health",
            get(async |State(here): Here, uri: Uri| here.measured("health", health(&here, &uri)).await),
        )
        .route(
            "/metrics",
            get(async |State(here): Here, uri: Uri, headers: HeaderMap| {
                here.measured("metrics", metrics(&here, &uri, &headers)).await
            }),
        )
        .fallback(async |State(here): Here| here.measured("none", async { Err(Problem::address()) }).await)
        .method_not_allowed_fallback(async |State(here): Here| {
            here.measured("none", async { Err(Problem::method()) }).await
        })
        .with_state(receiving)
}

async fn buses(here: &Receiving, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    #[derive(serde::Serialize)]
    struct Buses {
        buses: Vec<Checksum>,
    }
    let access = here.admit(headers)?;
    no_options(uri)?;
    let buses = match access.scope() {
        Scope::Any => here.stores.with(|store| Ok(store.buses()?)).await?,
        Scope::First => Vec::new(),
        Scope::Bus(bus) => {
            let held = here.stores.with(move |store| Ok(store.head(bus)?.index > 0)).await?;
            if held { vec![bus] } else { Vec::new() }
        }
    };
    Ok(json(written(&Buses { buses })?))
}

async fn position(here: &Receiving, bus: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let access = here.admit(headers)?;
    let bus = checksum(bus)?;
    no_options(uri)?;
    access.check_scope(bus)?;
    let head = here.stores.with(move |store| Ok(store.head(bus)?)).await?;
    if access.scope() == Scope::First && head.index > 0 {
        return Err(not_the_first());
    }
    Ok(json(written(&Position::of(bus, head))?))
}

async fn lines(here: &Receiving, bus: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let access = here.admit(headers)?;
    let bus = checksum(bus)?;
    let [from] = options(uri, ["from"])?;
    let from = from.map_or(Ok(1), |from| number(&from, "from", 1))?;
    access.check_scope(bus)?;
    if access.scope() == Scope::First {
        return Err(not_the_first());
    }
    let zstd = takes_zstd(headers);
    let page = here.stores.with(move |store| Ok(page(store.lines(bus, from)?, zstd))).await?;
    let (first, body) = page;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if zstd {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    if let Some(first) = first {
        response.headers_mut().insert(FIRST_INDEX, HeaderValue::from(first));
    }
    Ok(response)
}

/// The first lines that follow each other and fit a page, at least one where there is one; and the index of the first.
fn page(lines: Vec<(u64, String)>, zstd: bool) -> (Option<u64>, Vec<u8>) {
    let first = lines.first().map(|(index, _)| *index);
    let mut body = Vec::new();
    for (expected, (index, line)) in (first.unwrap_or(0)..).zip(lines) {
        if index != expected || (!body.is_empty() && body.len() + line.len() >= PAGE_BYTES) {
            break;
        }
        body.extend_from_slice(line.as_bytes());
        body.push(b'\n');
    }
    // Packing into memory does not fail.
    (first, if zstd { wire::pack(&body).unwrap_or_default() } else { body })
}

async fn take(here: &Arc<Receiving>, bus: &str, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // Sent by a client that waits for a word before it sends the body; it needs no reading to its end.
    let waits = parts.headers.contains_key(header::EXPECT);
    let admitted = here.admit(&parts.headers);
    let at_most = if admitted.is_ok() { here.limits.batch_bytes } else { UNKNOWN_BYTES };
    let asked =
        admitted.and_then(|access| PostedBatch::read(access, bus, &parts.uri, &parts.headers, &here.limits));
    let PostedBatch { access, bus, behind, encoding } = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            if !waits {
                drain(body, at_most, here.limits.silence).await;
            }
            return Err(problem);
        }
    };
    let permit = timeout(here.limits.silence, Arc::clone(&here.batches).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(Problem::away("too many batches are coming in at once; try again"));
    };
    let packed =
        timeout(here.limits.body, read_body(body, &here.limits)).await.map_err(|_| Problem::slow())??;
    let limits = here.limits.clone();
    let judged =
        tokio::task::spawn_blocking(move || (batch::read(bus, behind, encoding, packed, &limits), permit));
    let (records, permit) = judged.await.map_err(|_| Problem::broken())?;
    let records = records?;
    let alone = here.stores.alone(bus).await;
    let receiving = Arc::clone(here);
    let head = here.stores.with(move |store| {
        let _until_then = (permit, alone);
        let claim = match &access {
            Access::Known(known) if known.scope == Scope::First => Some(known.digest),
            _ => None,
        };
        if claim.is_some() && store.head(bus)?.index > 0 {
            return Err(not_the_first().into());
        }
        let head = put(store, bus, behind, &records, || receiving.claim(claim, bus))?;
        if let Some(last) = records.last() {
            let bytes = records.iter().map(|record| record.line.len() as u64).sum();
            receiving.metrics.took(bus, records.len() as u64, bytes, &last.event);
        }
        Ok(head)
    });
    match head.await {
        Ok(head) => Ok(json(written(&Position::of(bus, head))?)),
        Err(problem) => {
            if problem.is_fork() {
                here.metrics.forked();
                here.operator
                    .tell(About::Fork, &format!("a batch for bus {bus} was refused: {}", problem.detail()));
            }
            Err(problem)
        }
    }
}

impl Receiving {
    /// Binds a token for the first bus before anything is taken for it.
    fn claim(&self, token: Option<Checksum>, bus: Checksum) -> Result<(), Failure> {
        let (Some(tokens), Some(digest)) = (&self.tokens, token) else { return Ok(()) };
        match tokens.claim(digest, bus) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::scope("the token is for another bus").into()),
            Err(error) => Err(self.broken(&error).into()),
        }
    }
}

async fn health(here: &Receiving, uri: &Uri) -> Result<Response, Problem> {
    no_options(uri)?;
    let mut known = here.health.lock().await;
    let fresh = known.filter(|(asked, _)| asked.elapsed() < Duration::from_secs(1));
    let ok = match fresh {
        Some((_, ok)) => ok,
        None => {
            let ok = here.stores.with(|store| Ok(store.head(nobody())?)).await.is_ok();
            *known = Some((Instant::now(), ok));
            ok
        }
    };
    if ok {
        Ok(json(r#"{"status":"ok"}"#.to_owned()))
    } else {
        Err(Problem::away("the store does not answer"))
    }
}

async fn openapi(uri: &Uri) -> Result<Response, Problem> {
    no_options(uri)?;
    Ok(json(OPENAPI.to_owned()))
}

async fn metrics(here: &Receiving, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let access = here.admit(headers)?;
    no_options(uri)?;
    if access.scope() != Scope::Any {
        return Err(Problem::scope("the metrics are of every bus, and the token is not"));
    }
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, MEDIA_TYPE)], here.metrics.text()).into_response())
}

fn written(value: &impl serde::Serialize) -> Result<String, Problem> {
    Json::of(value).map(|json| json.to_string()).map_err(|_| Problem::broken())
}

fn json(text: String) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
