//! What a receiver says when it does not do what it was asked: RFC 9457 problem details.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use zero_bus::{Checksum, Head, Json};

use crate::wire::{FORK, POSITION, Position, UNSOUND};

/// A problem.
#[derive(Debug)]
pub(super) struct Problem(Box<Details>);

/// What its client reads.
#[derive(Debug, Serialize)]
struct Details {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// Where a chain differs or is damaged: the first event that does or is.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// Whether `index` is known to be the first, or an earlier one may differ too.
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<bool>,
    /// Where the receiver stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    /// Which line of the batch is wrong, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip)]
    retry_after_seconds: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            index: None,
            exact: None,
            position: None,
            line: None,
            retry_after_seconds: None,
        }))
    }

    /// 400: the request is not understood.
    pub(super) fn request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "urn:zero-bus:problem:request",
            "The request is not understood",
            detail,
        )
    }

    /// 401: no token, or one that is not known.
    pub(super) fn token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "urn:zero-bus:problem:token",
            "A known token is needed",
            "send the header `Authorization: Bearer TOKEN` with a token from the receiver's tokens file",
        )
    }

    /// 403: a known token that may not do this.
    pub(super) fn scope(detail: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "urn:zero-bus:problem:scope",
            "The token is for something else",
            detail,
        )
    }

    /// 404: no such address.
    pub(super) fn address() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "urn:zero-bus:problem:address",
            "There is nothing at this address",
            "what there is stands in /openapi.json",
        )
    }

    /// 405: the address does not take this method.
    pub(super) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "urn:zero-bus:problem:method",
            "The address does not take this method",
            "what it takes stands in /openapi.json",
        )
    }

    /// 408: the body did not come in time.
    pub(super) fn slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "urn:zero-bus:problem:slow",
            "The body did not come in time",
            "send smaller batches, or over a faster way",
        )
    }

    /// 409: another chain.
    pub(super) fn fork(bus: Checksum, held: Head, index: u64, exact: bool) -> Self {
        let first = if exact { "is the first that differs" } else { "differs, and perhaps some before it" };
        let detail = format!("another chain is held for this bus: event {index} {first}");
        let mut problem = Self::new(StatusCode::CONFLICT, FORK, "Another chain is held for this bus", detail);
        problem.0.index = Some(index);
        problem.0.exact = Some(exact);
        problem.0.position = Some(Position::of(bus, held));
        problem
    }

    /// 409: the batch begins elsewhere.
    pub(super) fn position(bus: Checksum, held: Head) -> Self {
        let detail =
            format!("the batch does not begin behind event {}, where the receiver stands", held.index);
        let mut problem = Self::new(StatusCode::CONFLICT, POSITION, "The batch begins elsewhere", detail);
        problem.0.position = Some(Position::of(bus, held));
        problem
    }

    /// 413: more than is taken at once.
    pub(super) fn size(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "urn:zero-bus:problem:size",
            "The batch is larger than is taken at once",
            detail,
        )
    }

    /// 415: a media type or encoding that is not taken.
    pub(super) fn media(detail: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "urn:zero-bus:problem:media",
            "The body is of a kind that is not taken",
            detail,
        )
    }

    /// 422: a line that is no event in its place.
    pub(super) fn line(line: u64, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "urn:zero-bus:problem:line",
            "A line is not the next event of the chain",
            detail,
        );
        problem.0.line = Some(line);
        problem
    }

    /// 429: too often.
    pub(super) fn rate(seconds: u64) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "urn:zero-bus:problem:rate",
            "Too many requests with this token",
            "send larger batches, less often",
        );
        problem.0.retry_after_seconds = Some(seconds);
        problem
    }

    /// 500: what must not be; the receiver's own messages say more.
    pub(super) fn broken() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "urn:zero-bus:problem:broken",
            "The receiver can't do this",
            "its operator finds the reason in its messages",
        )
    }

    /// 500: what is held is damaged.
    pub(super) fn unsound(index: u64, detail: &str) -> Self {
        let mut problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            UNSOUND,
            "What is held for this bus is damaged",
            detail,
        );
        problem.0.index = Some(index);
        problem
    }

    /// 503: not now.
    pub(super) fn away(detail: &str) -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "urn:zero-bus:problem:away",
            "The receiver can't do this now",
            detail,
        );
        problem.0.retry_after_seconds = Some(1);
        problem
    }

    /// Whether this says that a chain forked.
    pub(super) fn is_fork(&self) -> bool {
        self.0.kind == FORK
    }

    /// What it says in words.
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let body = Json::of(&self.0).map(|json| json.to_string()).unwrap_or_default();
        (status, headers, body).into_response()
    }
}
