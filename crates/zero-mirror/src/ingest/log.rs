//! The receiver's messages to its operator.

use zero_http::ThrottledLog;

/// What a message is about. Each topic has its own limit of one message a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    Store,
    Tokens,
    Fork,
}

pub(super) type ReceiverLog = ThrottledLog<Topic>;
