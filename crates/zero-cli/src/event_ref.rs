//! How a command line names an event.

use anyhow::{Error, anyhow};
use zero_bus::{Reader, index_of_id};

/// Parses an event's index (`42`) or id (`evt-000000000042`) to its index; for clap's
/// `value_parser`.
pub(crate) fn parse_event_index(text: &str) -> Result<u64, String> {
    let index = text.parse().ok().filter(|index| *index > 0).or_else(|| index_of_id(text));
    index.ok_or_else(|| "expected an index (42; the first event is 1) or an id (evt-000000000042)".to_owned())
}

/// The error for an event after the end of the log.
pub(crate) fn no_such_event(reader: &Reader, index: u64) -> Error {
    let log = reader.log_path();
    match reader.head() {
        Ok(head) if head.index == 0 => anyhow!("{}: has no event {index}: the log is empty", log.display()),
        Ok(head) => anyhow!("{}: has no event {index}; the last one is {}", log.display(), head.index),
        Err(error) => error.into(),
    }
}
