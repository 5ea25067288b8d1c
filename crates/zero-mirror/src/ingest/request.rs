//! Reads the parameters of a request. Nothing here accesses the store.

use axum::http::{HeaderMap, Uri, header};
use zero_bus::{Checksum, Head};
use zero_http::Problem;
use zero_http::request::{body_too_large, query_parameters};

use super::limits::Limits;
use super::scope::{Access, check_bus, check_write};
use crate::wire::{Encoding, LINES_MEDIA_TYPE};

/// Largest index that every store can represent.
const MAX_INDEX: u64 = i64::MAX as u64;

/// The parameters of a batch, whose body has not been read yet.
pub(super) struct BatchRequest {
    pub(super) access: Access,
    pub(super) bus: Checksum,
    pub(super) after: Head,
    pub(super) encoding: Encoding,
}

impl BatchRequest {
    /// Reads the parameters and checks that the token may write to the bus.
    pub(super) fn read(
        access: Access,
        bus: &str,
        uri: &Uri,
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<Self, Problem> {
        let bus = parse_checksum(bus)?;
        check_write(&access)?;
        check_bus(&access, bus)?;
        let after = read_after(uri)?;
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let media_type = text(header::CONTENT_TYPE).and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|value| value.trim().eq_ignore_ascii_case(LINES_MEDIA_TYPE)) {
            let detail = format!("the content-type must be {LINES_MEDIA_TYPE}");
            return Err(Problem::unsupported_media_type(detail));
        }
        let encodings = headers.get_all(header::CONTENT_ENCODING).iter().count();
        let encoding = Encoding::from_header(text(header::CONTENT_ENCODING)).filter(|_| encodings < 2);
        let encoding = encoding.ok_or_else(|| {
            Problem::unsupported_media_type("the content-encoding must be zstd, gzip or identity")
        })?;
        let content_length: Option<u64> = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if content_length.is_some_and(|length| length > limits.max_batch_bytes as u64) {
            return Err(body_too_large(limits.max_batch_bytes));
        }
        Ok(Self { access, bus, after, encoding })
    }
}

/// The event that the batch follows, from the parameters `index` and `checksum`.
fn read_after(uri: &Uri) -> Result<Head, Problem> {
    let [index, checksum] = query_parameters(uri, ["index", "checksum"])?;
    let index = index.ok_or_else(|| {
        Problem::bad_request(
            "the parameter `index` is missing: the event that the batch follows, or 0 for a new bus",
        )
    })?;
    let index = parse_index(&index, "index", 0)?;
    let checksum = checksum.map(|checksum| parse_checksum(&checksum)).transpose()?;
    if checksum.is_some() != (index > 0) {
        let detail = "the parameter `checksum`, the checksum of event `index`, is required if `index` is above 0 and not \
                      allowed otherwise";
        return Err(Problem::bad_request(detail));
    }
    Ok(Head { index, checksum })
}

pub(super) fn parse_checksum(text: &str) -> Result<Checksum, Problem> {
    Checksum::parse(text).ok_or_else(|| {
        Problem::bad_request("a bus or a checksum is written as `sha256:` and 64 lower-case hex digits")
    })
}

/// Reads an index from `min` on. Only digits are allowed, without a sign.
pub(super) fn parse_index(text: &str, name: &str, min: u64) -> Result<u64, Problem> {
    let has_digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let index = text.parse().ok().filter(|index| has_digits_only && (min..=MAX_INDEX).contains(index));
    index.ok_or_else(|| {
        Problem::bad_request(format!("the parameter `{name}` must be a number from {min} to {MAX_INDEX}"))
    })
}
