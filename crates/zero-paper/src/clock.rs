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

/// The time that a person means, in seconds since the Unix epoch: RFC 3339, or how long before `now`, as in `90s`, `10m`,
/// `2h`, `1d`.
///
/// # Errors
/// What is wrong with it, and what is wanted.
///
/// ```
/// use zero_paper::moment;
/// assert_eq!(moment("10m", 1777593600.0), Ok(1777593000.0));
/// assert_eq!(moment("2026-05-01T00:00:00Z", 0.0), Ok(1777593600.0));
/// assert!(moment("yesterday", 0.0).unwrap_err().contains("2026-05-01T09:00:00Z"));
/// ```
pub fn moment(text: &str, now: f64) -> Result<f64, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_duration().as_secs_f64());
    }
    let ago = || {
        let (unit_at, unit) = text.char_indices().last()?;
        let seconds = match unit {
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86400.0,
            _ => return None,
        };
        let number = text[..unit_at].parse::<u32>().ok()?;
        Some(now - f64::from(number) * seconds)
    };
    ago().ok_or_else(|| {
        format!("`{text}` is no time: name one as in 2026-05-01T09:00:00Z, or how long ago, as in 90s, 10m, 2h, 1d")
    })
}
