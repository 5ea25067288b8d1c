//! Rejections as HTTP responses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use zero_http::Problem;
use zero_proof::add_checkpoint::encode_size;

use crate::witness::Rejection;

/// The media type of the answer that tells the size of the last cosigned checkpoint.
pub(super) const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// The answer to a request that was rejected. Internal errors stay in the server's log.
pub(super) fn response(rejection: &Rejection) -> Response {
    let detail = rejection.to_string();
    let problem = match rejection {
        Rejection::Conflict { size } => {
            let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(SIZE_MEDIA_TYPE))];
            return (StatusCode::CONFLICT, content_type, encode_size(*size)).into_response();
        }
        Rejection::UnknownLog { .. } => Problem::new(
            StatusCode::NOT_FOUND,
            "urn:zero-bus:problem:unknown-log",
            "The witness does not know the log",
            detail,
        ),
        Rejection::NotSigned(_) => Problem::new(
            StatusCode::FORBIDDEN,
            "urn:zero-bus:problem:signature",
            "The log has not signed the checkpoint",
            detail,
        ),
        Rejection::OldSizeTooLarge { .. } => Problem::bad_request(detail),
        Rejection::Inconsistent { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "urn:zero-bus:problem:inconsistent",
            "The checkpoint is not proven to extend the last cosigned one",
            detail,
        ),
        Rejection::ClockBehind { .. } => Problem::unavailable(detail),
        Rejection::Failed(_) => Problem::internal(),
    };
    problem.into_response()
}
