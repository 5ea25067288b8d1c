//! What somebody asks of a receiver, as far as it is understood before a store is asked.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Uri, header};
use http_body_util::BodyExt;
use tokio::time::timeout;
use zero_bus::{Checksum, Head};

use super::Limits;
use super::problem::Problem;
use super::tokens::{Known, Rights, Scope};
use crate::wire::{Encoding, LINES};

/// The largest index that every store can hold.
const MAX_INDEX: u64 = i64::MAX as u64;

/// What somebody may do.
pub(super) enum Access {
    /// There are no tokens: everything.
    Open,
    Known(Known),
}

impl Access {
    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Open => Scope::Any,
            Self::Known(known) => known.scope,
        }
    }

    pub(super) fn check_scope(&self, bus: Checksum) -> Result<(), Problem> {
        match self.scope() {
            Scope::Bus(other) if other != bus => Err(Problem::scope("the token is for another bus")),
            _ => Ok(()),
        }
    }

    pub(super) fn check_write(&self) -> Result<(), Problem> {
        match self {
            Self::Known(Known { rights: Rights::Read, .. }) => {
                Err(Problem::scope("the token is for reading alone"))
            }
            _ => Ok(()),
        }
    }
}

/// What somebody wants to hand over, before its body is read.
pub(super) struct PostedBatch {
    pub(super) access: Access,
    pub(super) bus: Checksum,
    pub(super) behind: Head,
    pub(super) encoding: Encoding,
}

impl PostedBatch {
    pub(super) fn read(
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
pub(super) async fn read_body(mut body: Body, limits: &Limits) -> Result<Vec<u8>, Problem> {
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
pub(super) async fn drain(mut body: Body, mut at_most: usize, silence: Duration) {
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

/// The token of a request (RFC 6750); `None` where there is none, or more than one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

pub(super) fn takes_zstd(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        name.trim().eq_ignore_ascii_case("zstd") && !refused
    })
}

pub(super) fn checksum(text: &str) -> Result<Checksum, Problem> {
    let problem =
        || Problem::request("a bus and an event are named by `sha256:` and 64 lower-case hex digits");
    Checksum::parse(text).ok_or_else(problem)
}

pub(super) fn number(text: &str, name: &str, least: u64) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (least..=MAX_INDEX).contains(number));
    number.ok_or_else(|| Problem::request(format!("the option `{name}` should be a number from {least} on")))
}

/// The options of a request, each at most once, and no others.
pub(super) fn options<const N: usize>(uri: &Uri, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
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

pub(super) fn no_options(uri: &Uri) -> Result<(), Problem> {
    options(uri, []).map(|[]| ())
}
