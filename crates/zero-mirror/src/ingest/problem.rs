//! The problems that only a receiver has: what is wrong with a batch, or with the receiver's own
//! copy.

use axum::http::StatusCode;
use serde::Serialize;
use zero_bus::{Checksum, Head};
use zero_http::Problem;

use crate::wire::{FORK, POSITION, UNSOUND};

/// The receiver's last event of a bus. Index 0 and no checksum stand for an empty bus.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Position {
    bus: Checksum,
    index: u64,
    checksum: Option<Checksum>,
}

impl Position {
    pub(super) fn new(bus: Checksum, head: Head) -> Self {
        Self { bus, index: head.index, checksum: head.checksum }
    }
}

/// 409: the batch belongs to another chain. `index` is an event that differs; `is_exact` says that
/// it is the first one.
pub(super) fn fork(bus: Checksum, head: Head, index: u64, is_exact: bool) -> Problem {
    let which =
        if is_exact { "is the first that differs" } else { "differs, and earlier ones may differ too" };
    let detail = format!("the receiver holds another chain for this bus: event {index} {which}");
    Problem::new(StatusCode::CONFLICT, FORK, "The receiver holds another chain for this bus", detail)
        .with_member("index", &index)
        .with_member("exact", &is_exact)
        .with_member("position", &Position::new(bus, head))
}

/// 409: the batch does not start after the receiver's last event.
pub(super) fn position(bus: Checksum, head: Head) -> Problem {
    let detail = format!("the batch must start after event {}, the receiver's last", head.index);
    Problem::new(StatusCode::CONFLICT, POSITION, "The batch starts elsewhere", detail)
        .with_member("position", &Position::new(bus, head))
}

/// 422: a line is not the next event of the chain. Lines are counted from 1.
pub(super) fn invalid_line(number: u64, detail: impl Into<String>) -> Problem {
    let title = "A line is not the next event of the chain";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "urn:zero-bus:problem:line", title, detail)
        .with_member("line", &number)
}

/// 500: the receiver's copy of the bus is damaged.
pub(super) fn unsound(index: u64, detail: &str) -> Problem {
    let title = "The receiver's copy of this bus is damaged";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, UNSOUND, title, detail).with_member("index", &index)
}

pub(super) fn is_fork(problem: &Problem) -> bool {
    problem.kind() == FORK
}
