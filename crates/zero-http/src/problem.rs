//! Error responses: RFC 9457 problem details.
//!
//! Clients branch on `type`, so the types never change. Titles and details are for people.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use zero_bus::Json;

/// A problem: the response to a request that was not carried out.
#[derive(Debug)]
pub struct Problem(Box<Details>);

#[derive(Debug)]
struct Details {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    /// Extension members, RFC 9457 section 3.2.
    members: BTreeMap<&'static str, Json>,
    retry_after_seconds: Option<u64>,
}

impl Serialize for Details {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("type", self.kind)?;
        members.serialize_entry("title", self.title)?;
        members.serialize_entry("status", &self.status.as_u16())?;
        members.serialize_entry("detail", &self.detail)?;
        for (name, value) in &self.members {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

impl Problem {
    /// A problem of a type of the server's own.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        let members = BTreeMap::new();
        Self(Box::new(Details { status, kind, title, detail, members, retry_after_seconds: None }))
    }

    /// Adds an extension member.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: &impl Serialize) -> Self {
        // Only a value without a JSON form fails; the problem is still valid without the member.
        if let Ok(value) = Json::of(value) {
            self.0.members.insert(name, value);
        }
        self
    }

    /// Adds the header `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// 400: the request is invalid.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        let title = "The request is invalid";
        Self::new(StatusCode::BAD_REQUEST, "urn:zero-bus:problem:request", title, detail)
    }

    /// 401: the token is missing or unknown.
    pub fn unauthorized() -> Self {
        let title = "A valid token is required";
        let detail =
            "send the header `Authorization: Bearer TOKEN` with a token from the server's tokens file";
        Self::new(StatusCode::UNAUTHORIZED, "urn:zero-bus:problem:token", title, detail)
    }

    /// 403: the token is valid, but does not allow the request.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        let title = "The token does not allow this request";
        Self::new(StatusCode::FORBIDDEN, "urn:zero-bus:problem:scope", title, detail)
    }

    /// 404: no such address.
    pub fn not_found(detail: impl Into<String>) -> Self {
        let title = "There is nothing at this address";
        Self::new(StatusCode::NOT_FOUND, "urn:zero-bus:problem:address", title, detail)
    }

    /// 405: the address does not support the method.
    pub fn method_not_allowed(detail: impl Into<String>) -> Self {
        let title = "The address does not support this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "urn:zero-bus:problem:method", title, detail)
    }

    /// 408: the body did not arrive in time.
    pub fn request_timeout() -> Self {
        let title = "The body did not arrive in time";
        let detail = "send less in one request, or use a faster connection";
        Self::new(StatusCode::REQUEST_TIMEOUT, "urn:zero-bus:problem:slow", title, detail)
    }

    /// 413: the body is too large.
    pub fn payload_too_large(detail: impl Into<String>) -> Self {
        let title = "The body is larger than the server accepts";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "urn:zero-bus:problem:size", title, detail)
    }

    /// 415: the media type or the encoding of the body is not supported.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        let title = "The type or the encoding of the body is not supported";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "urn:zero-bus:problem:media", title, detail)
    }

    /// 429: the token has exceeded its rate limit.
    pub fn too_many_requests(retry_after_seconds: u64) -> Self {
        let title = "Too many requests with this token";
        let detail = "send fewer requests, each with more in it";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "urn:zero-bus:problem:rate", title, detail)
            .with_retry_after(retry_after_seconds)
    }

    /// 500: the server failed. Only its log says why.
    pub fn internal() -> Self {
        let title = "The server failed";
        let detail = "the server's log has the reason";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "urn:zero-bus:problem:broken", title, detail)
    }

    /// 503: not now; the client may try again after a second.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let title = "The server is unavailable for now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "urn:zero-bus:problem:away", title, detail)
            .with_retry_after(1)
    }

    /// The type.
    pub fn kind(&self) -> &'static str {
        self.0.kind
    }

    /// The explanation for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.0.status;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // Every member has a JSON form, so this cannot fail.
        let body = Json::of(&*self.0).map(|json| json.to_string()).unwrap_or_default();
        (status, headers, body).into_response()
    }
}
