//! Time: the clock that a runtime is given, and times as people read and write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of time.
///
/// A runtime reads its clock once per cycle and once per applied operator command. With a fixed
/// clock a run is repeatable byte for byte.
pub trait Clock: Send + Sync {
    /// Returns the current time in seconds since the Unix epoch.
    fn now(&self) -> f64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> f64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(elapsed) => elapsed.as_secs_f64(),
            Err(error) => -error.duration().as_secs_f64(),
        }
    }
}

/// A clock that always returns this time, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedClock(pub f64);

impl Clock for FixedClock {
    fn now(&self) -> f64 {
        self.0
    }
}

/// Formats a time as RFC 3339 in UTC with whole seconds: `2026-05-01T00:00:00Z`. Returns `None`
/// outside the years -9999 to 9999.
pub fn rfc3339(seconds: f64) -> Option<String> {
    // The cast saturates, and jiff refuses a saturated value.
    jiff::Timestamp::from_second(seconds.floor() as i64).ok().map(|time| time.to_string())
}

/// Parses a time that a person typed, and returns it in seconds since the Unix epoch. Accepts RFC
/// 3339, or an age relative to `now`: `90s`, `10m`, `2h`, `1d`.
///
/// # Errors
/// A message that quotes the text and lists the accepted forms.
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
    let age = || {
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
    age().ok_or_else(|| {
        format!(
            "`{text}` is not a time; write it as 2026-05-01T09:00:00Z, or as an age such as 90s, 10m, 2h or 1d"
        )
    })
}
