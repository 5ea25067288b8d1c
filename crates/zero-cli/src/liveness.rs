//! Whether a runtime is alive on a bus.

use std::path::Path;

use anyhow::{Context, Result};
use zero_bus::storage::{Directory, Lock, LockHolder};
use zero_bus::{Event, Value};
use zero_paper::event_types::CYCLE;
use zero_paper::text::format_duration;

/// Whether a process holds the exclusive lock of a bus directory, as a runtime does for its
/// lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeLock {
    /// A process holds it. Its id is unknown if it runs in another container.
    Held {
        process_id: Option<u32>,
    },
    Free,
}

impl RuntimeLock {
    /// Looks at the lock of a bus directory.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let name = dir.display();
        let directory = Directory::open(dir).with_context(|| format!("{name}: cannot open the directory"))?;
        let is_locked =
            directory.is_directory_locked().with_context(|| format!("{name}: cannot test the lock"))?;
        if !is_locked {
            return Ok(Self::Free);
        }
        let holder = LockHolder::of(dir).filter(|holder| holder.lock == Lock::Exclusive);
        Ok(Self::Held { process_id: holder.and_then(|holder| holder.process_id) })
    }

    /// Describes the lock for a person.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Held { process_id: Some(process_id) } => format!("running (process {process_id})"),
            Self::Held { process_id: None } => "running".to_owned(),
            Self::Free => "no runtime holds the bus".to_owned(),
        }
    }
}

/// The last cycle on a bus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LastCycle {
    pub(crate) as_of: f64,
    /// `None` if the record has no number.
    pub(crate) cycle_id: Option<u64>,
    pub(crate) event_index: u64,
}

impl LastCycle {
    /// The cycle that starts with this event; `None` for another type of event.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let cycle_id = event.payload.value().get("cycle_id").and_then(Value::as_u64);
        (event.event_type == CYCLE).then_some(Self { as_of: event.as_of, cycle_id, event_index: event.index })
    }

    /// Seconds from the cycle to `now`; negative if the cycle is in the future.
    pub(crate) fn age_s(self, now: f64) -> f64 {
        now - self.as_of
    }
}

/// Clocks may differ by this much.
const MAX_CLOCK_SKEW_S: f64 = 1.0;

/// Compares the age of the last cycle with a limit. Returns the age for a person, and the limit if
/// the cycle is older.
pub(crate) fn check_age(age_s: f64, max_age_s: Option<f64>) -> Result<String, String> {
    // A clock that is off by less than this is no reason to distrust the age.
    if age_s < -MAX_CLOCK_SKEW_S {
        let future = format!("{} in the future", format_duration(-age_s));
        return match max_age_s {
            None => Ok(future),
            Some(_) => Err(format!("{future}, so its age is unknown; check the clocks")),
        };
    }
    let age_s = age_s.max(0.0);
    let age = format_duration(age_s);
    let Some(max_age_s) = max_age_s.filter(|max_age_s| age_s > *max_age_s) else {
        return Ok(format!("{age} ago"));
    };
    let limit = format_duration(max_age_s);
    // Rounding must not hide the difference.
    if age == limit {
        return Err(format!("{age_s} s ago, more than {max_age_s} s"));
    }
    Err(format!("{age} ago, more than {limit}"))
}

#[cfg(test)]
mod tests {
    use super::check_age;

    #[test]
    fn an_age_shows_as_many_digits_as_the_comparison_needs() {
        assert_eq!(check_age(59.96, None), Ok("60.0 s ago".to_owned()));
        assert_eq!(check_age(60.0, Some(60.0)), Ok("60.0 s ago".to_owned()));
        assert_eq!(check_age(75.0, Some(60.0)), Err("75.0 s ago, more than 60.0 s".to_owned()));
        assert_eq!(check_age(60.01, Some(60.0)), Err("60.01 s ago, more than 60 s".to_owned()));
        assert_eq!(check_age(-0.5, Some(1.0)), Ok("0.0 s ago".to_owned()));
        assert_eq!(check_age(-90.0, None), Ok("90.0 s in the future".to_owned()));
        assert!(check_age(-90.0, Some(60.0)).is_err_and(|error| error.starts_with("90.0 s in the future")));
        assert_eq!(check_age(7201.5, Some(7200.0)), Err("7201.5 s ago, more than 7200 s".to_owned()));
    }
}
