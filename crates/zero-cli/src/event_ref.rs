//! How a command line names an event.

use anyhow::{Error, Result, anyhow};
use zero_bus::{Reader, index_of_id};

/// An event as a command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventRef {
    /// The event with this index.
    Index(u64),
    /// Counted from the end of the log: 1 is the last event.
    FromEnd(u64),
}

impl EventRef {
    /// Parses an index (`42`, `#42`), an id (`evt-000000000042`), `last`, or a negative offset from
    /// the end (`-1`); for clap's `value_parser`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().ok().filter(|number| *number > 0);
        let event = match text.strip_prefix('-') {
            _ if text == "last" => Some(Self::FromEnd(1)),
            Some(offset) => number(offset).map(Self::FromEnd),
            None => {
                let index = number(text.strip_prefix('#').unwrap_or(text));
                index.or_else(|| index_of_id(text)).map(Self::Index)
            }
        };
        event.ok_or_else(|| {
            "expected an index (42 or #42; the first event is 1), an id (evt-000000000042), `last`, or an offset \
             from the end (-1)"
                .to_owned()
        })
    }

    /// The index of the event, which may be after the end of the log.
    ///
    /// # Errors
    /// The log cannot be read, or has fewer events than the offset from the end.
    pub(crate) fn index(self, reader: &Reader) -> Result<u64> {
        match self {
            Self::Index(index) => Ok(index),
            Self::FromEnd(offset) => {
                let last = reader.head()?.index;
                let index = last.checked_sub(offset - 1).filter(|index| *index > 0);
                index.ok_or_else(|| match last {
                    0 => log_is_empty(reader, &format!("event -{offset}")),
                    _ => anyhow!("{}: has no event -{offset}; it has {last}", reader.log_path().display()),
                })
            }
        }
    }

    /// The first index of a range that starts with this event. An offset beyond the start of the
    /// log counts as the first event.
    pub(crate) fn first_index(self, reader: &Reader) -> Result<u64> {
        Ok(match self {
            Self::Index(index) => index,
            Self::FromEnd(offset) => {
                (reader.head()?.index + 1).saturating_sub(offset).max(reader.first_index()?)
            }
        })
    }
}

/// The error for an event after the end of the log.
pub(crate) fn no_such_event(reader: &Reader, index: u64) -> Error {
    let log = reader.log_path();
    match reader.head() {
        Ok(head) if head.index == 0 => log_is_empty(reader, &format!("event {index}")),
        Ok(head) => anyhow!("{}: has no event {index}; the last one is {}", log.display(), head.index),
        Err(error) => error.into(),
    }
}

fn log_is_empty(reader: &Reader, event: &str) -> Error {
    anyhow!("{}: has no {event}: the log is empty", reader.log_path().display())
}
