//! Reads the parts of a request: bearer token, query parameters, accepted encodings, body.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Uri, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::problem::Problem;

/// The bearer token of a request (RFC 6750). Returns `None` if there is no `Authorization` header,
/// or several.
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

/// The query parameters of a request. Each name may occur once; any other name is refused.
///
/// # Errors
/// [`Problem::bad_request`].
pub fn query_parameters<const N: usize>(uri: &Uri, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let position = names.iter().position(|expected| *expected == name);
        let position = position.filter(|position| values[*position].is_none()).ok_or_else(|| {
            Problem::bad_request(if names.is_empty() {
                "this address takes no query parameters".to_owned()
            } else {
                format!("this address takes the query parameters {}, each once", names.join(", "))
            })
        })?;
        values[position] = Some(value.into_owned());
    }
    Ok(values)
}

/// Refuses a request that has query parameters.
///
/// # Errors
/// [`Problem::bad_request`].
pub fn no_query_parameters(uri: &Uri) -> Result<(), Problem> {
    query_parameters(uri, []).map(|[]| ())
}

/// Whether the header `Accept-Encoding` names a content coding and does not exclude it by `q=0`.
pub fn accepts_encoding(headers: &HeaderMap, coding: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|element| {
        let (name, quality) = element.split_once(';').unwrap_or((element, ""));
        let is_excluded = matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        name.trim().eq_ignore_ascii_case(coding) && !is_excluded
    })
}

/// Reads a whole body. `idle_timeout` limits the wait for each part; the caller limits the total
/// time.
///
/// # Errors
/// [`Problem::request_timeout`]; [`Problem::bad_request`] if the body is incomplete;
/// [`Problem::payload_too_large`].
pub async fn read_body(mut body: Body, max_bytes: usize, idle_timeout: Duration) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) =
        timeout(idle_timeout, body.frame()).await.map_err(|_| Problem::request_timeout())?
    {
        let frame = frame.map_err(|_| Problem::bad_request("the body is incomplete"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > max_bytes {
            return Err(body_too_large(max_bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The problem of a body that is longer than the server accepts.
pub fn body_too_large(max_bytes: usize) -> Problem {
    Problem::payload_too_large(format!("the body is longer than {max_bytes} bytes; send less in one request"))
}

/// Reads and discards a body, up to a size and for some time. If the server closed the connection
/// while its client was still sending, the client could lose the response.
pub async fn discard_body(mut body: Body, max_bytes: usize, max_time: Duration) {
    let mut remaining_bytes = max_bytes;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            remaining_bytes = remaining_bytes.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
            if remaining_bytes == 0 {
                break;
            }
        }
    };
    let _ = timeout(max_time, reading).await;
}
