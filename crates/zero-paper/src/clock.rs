//! Where the time comes from, so that a run can be repeated to the byte.

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clock {
    /// The system's.
    System,
    /// Always the same: seconds since the Unix epoch.
    Fixed(f64),
}

impl Clock {
    /// Seconds since the Unix epoch.
    pub fn now(&self) -> f64 {
        match self {
            Self::Fixed(seconds) => *seconds,
            Self::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => since.as_secs_f64(),
                Err(before) => -before.duration().as_secs_f64(),
            },
        }
    }
}

/// A time as RFC 3339 has it, in UTC and whole seconds: `2026-05-01T00:00:00Z`. `None` for a time outside
/// the years -9999 to 9999.
pub fn rfc3339(seconds: f64) -> Option<String> {
    // A cast saturates, and what is saturated is outside of what the library takes.
    jiff::Timestamp::from_second(seconds.floor() as i64).ok().map(|time| time.to_string())
}
