//! Time: the clock that a runtime is given, and times as people read and write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of time.
///
/// A runtime reads its clock once per cycle and once per applied operator command. With a fixed
/// clock a run is repeatable byte for byte.
pub trait Clock: Send + Sync {
    /// Returns the current time in seconds since the Unix epoch.
    fn now(&self) -> f64;

    /// Whether the time stands still, so that waiting for a later one is of no use.
    fn is_fixed(&self) -> bool {
        false
    }
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

    fn is_fixed(&self) -> bool {
        true
    }
}

/// Formats a time as RFC 3339 in UTC with whole seconds: `2026-05-01T00:00:00Z`. Returns `None`
/// outside the years -9999 to 9999.
pub fn rfc3339(seconds: f64) -> Option<String> {
    // The cast saturates, and jiff refuses a saturated value.
    jiff::Timestamp::from_second(seconds.floor() as i64).ok().map(|time| time.to_string())
}

/// Parses a time that a person typed, and returns it in seconds since the Unix epoch. Accepts RFC
/// 3339, Unix seconds, or an age relative to `now`: `90s`, `10m`, `2h`, `1d`.
///
/// # Errors
/// A message that quotes the text and lists the accepted forms.
///
/// ```
/// use zero_paper::moment;
/// assert_eq!(moment("10m", 1777593600.0), Ok(1777593000.0));
/// assert_eq!(moment("2026-05-01T00:00:00Z", 0.0), Ok(1777593600.0));
/// assert_eq!(moment("9999-12-31T23:59:59Z", 0.0), Ok(253402300799.0));
/// assert_eq!(moment("1777593600.5", 0.0), Ok(1777593600.5));
/// assert!(moment("yesterday", 0.0).unwrap_err().contains("2026-05-01T09:00:00Z"));
/// ```
pub fn moment(text: &str, now: f64) -> Result<f64, String> {
    let unix_seconds = || {
        let is_number = text.ends_with(|last: char| last.is_ascii_digit());
        text.parse::<f64>().ok().filter(|seconds| is_number && seconds.is_finite())
    };
    let age = || duration(text).map(|seconds| now - seconds);
    parse_rfc3339(text).or_else(unix_seconds).or_else(age).ok_or_else(|| {
        format!(
            "`{text}` is not a time; write it as 2026-05-01T09:00:00Z, as Unix seconds, or as an age such as 90s, \
             10m, 2h or 1d"
        )
    })
}

/// Parses a time with an offset. The library's timestamps end a day before the year 9999 does,
/// since they must fit every time zone. Later times are computed from their parts.
pub(crate) fn parse_rfc3339(text: &str) -> Option<f64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_duration().as_secs_f64());
    }
    let parts = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    let date_time = parts.date().to_datetime(parts.time()?);
    let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let offset_s = f64::from(parts.to_numeric_offset()?.seconds());
    Some(date_time.duration_since(epoch).as_secs_f64() - offset_s)
}

/// Parses a duration, a whole number and a unit (`90s`, `10m`, `2h`, `1d`), and returns it in
/// seconds.
pub fn duration(text: &str) -> Option<f64> {
    let (unit_at, unit) = text.char_indices().last()?;
    let seconds = match unit {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3600.0,
        'd' => 86400.0,
        _ => return None,
    };
    let number = text[..unit_at].parse::<u32>().ok()?;
    Some(f64::from(number) * seconds)
}
