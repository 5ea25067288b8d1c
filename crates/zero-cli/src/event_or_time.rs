//! How a command line names a position in a log: by an event or by a time.

use anyhow::{Result, anyhow};
use zero_bus::Reader;

use crate::event_ref::EventRef;
use crate::time_arg::parse_time;

/// Events in the first search window. Each further window reaches four times as far back.
const FIRST_WINDOW: u64 = 1024;

/// A whole number from here on is a time in Unix seconds, not an index: 2001-09-09.
const FIRST_TIME_S: f64 = 1e9;

/// A position in a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EventOrTime {
    /// At this event.
    Event(EventRef),
    /// At this time, in seconds since the Unix epoch.
    Time(f64),
}

impl EventOrTime {
    /// Parses an EVENT or a TIME; for clap's `value_parser`. A whole number of 10 digits or more is
    /// a time; `#` before it makes it an index.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let is_seconds = text.parse().is_ok_and(|seconds: f64| seconds >= FIRST_TIME_S);
        if !is_seconds && let Ok(event) = EventRef::parse(text) {
            return Ok(Self::Event(event));
        }
        parse_time(text).map(Self::Time).map_err(|_| {
            "expected an event (42, evt-000000000042, `last` or -1) or a time (2026-05-01T09:00:00Z, Unix seconds, or \
             an age such as 10m)"
                .to_owned()
        })
    }

    /// The index of the event, which may be after the end of the log. For a time, the index of the
    /// last event at or before it.
    ///
    /// # Errors
    /// The log cannot be read, or has no such event.
    pub(crate) fn index(self, reader: &Reader) -> Result<u64> {
        match self {
            Self::Event(event) => event.index(reader),
            Self::Time(time) => last_event_at(reader, time)?.ok_or_else(|| {
                anyhow!("{}: has no event at or before this time", reader.log_path().display())
            }),
        }
    }
}

/// Searches backwards from the end, because times need not be in order: a clock can be set back.
/// The cost grows with the number of events after the time.
fn last_event_at(reader: &Reader, time: f64) -> Result<Option<u64>> {
    let mut last = reader.head()?.index;
    let first = reader.first_index()?;
    let mut window = FIRST_WINDOW;
    while last >= first {
        let from = (last.saturating_sub(window) + 1).max(first);
        let mut found = None;
        for event in reader.events(from)? {
            let event = event?;
            if event.index > last {
                break;
            }
            if event.as_of <= time {
                found = Some(event.index);
            }
        }
        if found.is_some() {
            return Ok(found);
        }
        last = from - 1;
        window = window.saturating_mul(4);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_an_event_or_a_time() {
        let index = |index| Ok(EventOrTime::Event(EventRef::Index(index)));
        for (text, expected) in [
            ("42", index(42)),
            ("#42", index(42)),
            ("evt-000000000042", index(42)),
            ("999999999", index(999_999_999)),
            ("#1777593600", index(1_777_593_600)),
            ("last", Ok(EventOrTime::Event(EventRef::FromEnd(1)))),
            ("-2", Ok(EventOrTime::Event(EventRef::FromEnd(2)))),
            ("1777593600", Ok(EventOrTime::Time(1777593600.0))),
            ("1.5", Ok(EventOrTime::Time(1.5))),
            ("2026-05-01T00:00:00Z", Ok(EventOrTime::Time(1777593600.0))),
        ] {
            assert_eq!(EventOrTime::parse(text), expected, "{text}");
        }
        assert!(matches!(EventOrTime::parse("10m"), Ok(EventOrTime::Time(_))));
        for invalid in ["", "0", "nan", "inf", "yesterday", "-5m"] {
            let parsed = EventOrTime::parse(invalid);
            assert!(parsed.is_err() || invalid == "0", "{invalid}: {parsed:?}");
        }
    }
}
