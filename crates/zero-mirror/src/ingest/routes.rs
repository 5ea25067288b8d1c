//! What a receiver answers to: the operations of `docs/openapi.json`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zero_bus::{Checksum, Head, Json};

use super::metrics::{MEDIA_TYPE, Metrics};
use super::problem::Problem;
use super::rate::Rate;
use super::store::{Failure, Log, Stores, nobody, put};
use super::tokens::{Known, Rights, Scope, Tokens};
use super::{Limits, batch};
use crate::error::Error;
use crate::wire::{self, Encoding, FIRST_INDEX, LINES, Position};

/// What the operations are, as it is served.
const OPENAPI: &str = include_str!("../../../../docs/openapi.json");
/// Most bytes of a page of lines, where it is more than one line.
const PAGE_BYTES: usize = 8 << 20;
/// The largest index that every store can hold.
const MAX_INDEX: u64 = i64::MAX as u64;
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
    /// When the operator was last told of what a client did.
    told: Mutex<Option<Instant>>,
    log: Log,
}

impl Receiving {
    pub(super) fn new(stores: Stores, tokens: Option<Tokens>, limits: Limits, log: Log) -> Self {
        Self {
            stores: Arc::new(stores),
            tokens,
            rate: Rate::new(limits.rate),
            batches: Arc::new(Semaphore::new(limits.batches.max(1))),
            limits,
            metrics: Metrics::new(),
            health: tokio::sync::Mutex::default(),
            told: Mutex::default(),
            log,
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
        self.tell(&error.to_string());
        Problem::broken()
    }

    /// Tells the operator of what clients can cause as often as they like: once a second at most.
    fn tell(&self, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
            *told = Some(Instant::now());
            (self.log)(text);
        }
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

/// What somebody may do.
enum Access {
    /// There are no tokens: everything.
    Open,
    Known(Known),
}

impl Access {
    fn scope(&self) -> Scope {
        match self {
            Self::Open => Scope::Any,
            Self::Known(known) => known.scope,
        }
    }

    fn check_scope(&self, bus: Checksum) -> Result<(), Problem> {
        match self.scope() {
            Scope::Bus(other) if other != bus => Err(Problem::scope("the token is for another bus")),
            _ => Ok(()),
        }
    }

    fn check_write(&self) -> Result<(), Problem> {
        match self {
            Self::Known(Known { rights: Rights::Read, .. }) => {
                Err(Problem::scope("the token is for reading alone"))
            }
            _ => Ok(()),
        }
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
        admitted.and_then(|access| Handing::read(access, bus, &parts.uri, &parts.headers, &here.limits));
    let Handing { access, bus, behind, encoding } = match asked {
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
                here.tell(&format!("a batch for bus {bus} was refused: {}", problem.detail()));
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

/// What somebody wants to hand over, before its body is read.
struct Handing {
    access: Access,
    bus: Checksum,
    behind: Head,
    encoding: Encoding,
}

impl Handing {
    fn read(
        access: Access,
        bus: &str,
        uri: &Uri,
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<Self, Problem> {
        let bus = checksum(bus)?;
        access.check_write()?;
        access.check_scope(bus)?;
        let [index, last] = options(uri, ["index", "checksum"])?;
        let index = index.ok_or_else(|| {
            Problem::request(
                "the option `index` is missing: the event that the batch stands behind, 0 for none",
            )
        })?;
        let index = number(&index, "index", 0)?;
        let last = last.map(|last| checksum(&last)).transpose()?;
        if last.is_some() != (index > 0) {
            let problem = "the option `checksum` goes with an `index` above 0: the checksum of that event";
            return Err(Problem::request(problem));
        }
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
        if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(LINES)) {
            return Err(Problem::media("the content-type should be application/x-ndjson"));
        }
        let encodings = headers.get_all(header::CONTENT_ENCODING).iter().count();
        let encoding = Encoding::named(text(header::CONTENT_ENCODING)).filter(|_| encodings < 2);
        let encoding = encoding
            .ok_or_else(|| Problem::media("the content-encoding should be zstd, gzip or identity"))?;
        let declared: Option<u64> = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if declared.is_some_and(|length| length > limits.batch_bytes as u64) {
            return Err(too_long(limits));
        }
        Ok(Self { access, bus, behind: Head { index, checksum: last }, encoding })
    }
}

fn too_long(limits: &Limits) -> Problem {
    Problem::size(format!("the body is longer than {} bytes; send fewer lines", limits.batch_bytes))
}

/// Reads a body to its end, or to where it is too long or too slow.
async fn read_body(mut body: Body, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = timeout(limits.silence, body.frame()).await.map_err(|_| Problem::slow())? {
        let frame = frame.map_err(|_| Problem::request("the body ended before its end"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limits.batch_bytes {
            return Err(too_long(limits));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads what nobody needs, up to some bytes and for some time, since a connection that is closed before its client has sent
/// everything may take the answer along.
async fn drain(mut body: Body, mut at_most: usize, silence: Duration) {
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            at_most = at_most.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
            if at_most == 0 {
                break;
            }
        }
    };
    let _ = timeout(silence, rest).await;
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

/// The token of a request (RFC 6750); `None` where there is none, or more than one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

fn takes_zstd(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        name.trim().eq_ignore_ascii_case("zstd") && !refused
    })
}

fn checksum(text: &str) -> Result<Checksum, Problem> {
    let problem =
        || Problem::request("a bus and an event are named by `sha256:` and 64 lower-case hex digits");
    Checksum::parse(text).ok_or_else(problem)
}

fn number(text: &str, name: &str, least: u64) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (least..=MAX_INDEX).contains(number));
    number.ok_or_else(|| Problem::request(format!("the option `{name}` should be a number from {least} on")))
}

/// The options of a request, each at most once, and no others.
fn options<const N: usize>(uri: &Uri, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let mut options = [const { None }; N];
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let place = names.iter().position(|known| *known == name);
        let place = place.filter(|place| options[*place].is_none()).ok_or_else(|| {
            let problem = if names.is_empty() {
                "no options".to_owned()
            } else {
                format!("the options {}, each once", names.join(", "))
            };
            Problem::request(format!("this takes {problem}"))
        })?;
        options[place] = Some(value.into_owned());
    }
    Ok(options)
}

fn no_options(uri: &Uri) -> Result<(), Problem> {
    options(uri, []).map(|[]| ())
}

fn written(value: &impl serde::Serialize) -> Result<String, Problem> {
    Json::of(value).map(|json| json.to_string()).map_err(|_| Problem::broken())
}

fn json(text: String) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
