//! How a command line names the head of a log.

use zero_bus::{Checksum, Head};

/// Parses `INDEX:CHECKSUM`; for clap's `value_parser`.
pub(crate) fn parse_head(text: &str) -> Result<Head, String> {
    let parts = text.split_once(':').and_then(|(index, checksum)| {
        Some(Head { index: index.parse().ok()?, checksum: Some(Checksum::parse(checksum)?) })
    });
    parts
        .filter(|head| head.index > 0)
        .ok_or_else(|| "expected INDEX:CHECKSUM, as in 42:sha256: and 64 lower-case hex digits".to_owned())
}

/// Parses `INDEX` or `INDEX:CHECKSUM`, where 0 is the head of an empty log; for clap's
/// `value_parser`. Without a checksum, any event at the index matches.
pub(crate) fn parse_expected_head(text: &str) -> Result<Head, String> {
    match text.parse() {
        Ok(index) => Ok(Head { index, checksum: None }),
        Err(_) => parse_head(text).map_err(|_| {
            "expected INDEX (0 for an empty log) or INDEX:CHECKSUM, as in 42:sha256: and 64 lower-case hex digits"
                .to_owned()
        }),
    }
}

/// Renders a head as `INDEX:CHECKSUM`, or as `0` for an empty log.
pub(crate) fn render_head(head: Head) -> String {
    match head.checksum {
        Some(checksum) => format!("{}:{checksum}", head.index),
        None => head.index.to_string(),
    }
}
