//! What a producer hands in, and what a log holds: plain data.

use serde::Serialize;

use crate::canonical::{Json, JsonError};
use crate::checksum::Checksum;

/// The `schema_version` of every event.
pub const EVENT_SCHEMA: &str = "zero.runtime.event.v1";

/// Most characters an event type may have.
pub const MAX_TYPE_CHARACTERS: usize = 128;

/// Most bytes a line may have, its line break not counted: 16 MiB. A longer event is refused on append; a
/// longer line is reported on read without being held in memory.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// An event as its producer hands it in, before it has a place in a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// What kind of event: not empty, at most [`MAX_TYPE_CHARACTERS`], no control characters; by custom a
    /// dotted name like `decision.record`.
    pub event_type: String,
    /// When it happened, in seconds since the Unix epoch. The library never asks a clock.
    pub as_of: f64,
    /// What happened. Must be an object.
    pub payload: Json,
    /// What the event belongs to. An empty one counts as none.
    pub trace_id: Option<String>,
}

impl Draft {
    /// A draft without a trace.
    ///
    /// # Errors
    /// [`JsonError`] where the payload has no canonical form, see [`Json::of`].
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use zero_bus::Draft;
    ///
    /// let draft = Draft::new("sensor.reading", 1777593600.0, &BTreeMap::from([("celsius", 21.5)]))?;
    /// assert_eq!(draft.payload.as_str(), r#"{"celsius":21.5}"#);
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn new<T: Serialize + ?Sized>(
        event_type: impl Into<String>,
        as_of: f64,
        payload: &T,
    ) -> Result<Self, JsonError> {
        Ok(Self { event_type: event_type.into(), as_of, payload: Json::of(payload)?, trace_id: None })
    }

    /// The same draft with a trace.
    pub fn traced(mut self, trace_id: impl Into<String>) -> Self {
        self.trace_id = Some(trace_id.into());
        self
    }
}

/// Why this is no event type; `None` where it is one.
pub(crate) fn type_problem(event_type: &str) -> Option<String> {
    let is_plain = event_type.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain && (1..=MAX_TYPE_CHARACTERS).contains(&event_type.len()) {
        return None;
    }
    if event_type.is_empty() {
        return Some("must not be empty".to_owned());
    }
    let characters = event_type.chars().count();
    if characters > MAX_TYPE_CHARACTERS {
        return Some(format!("has {characters} characters, more than {MAX_TYPE_CHARACTERS}"));
    }
    event_type.chars().any(char::is_control).then(|| "contains a control character".to_owned())
}

/// An event in its place in a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// 1 for the first event of a bus, then one more for each.
    pub index: u64,
    /// What kind of event.
    pub event_type: String,
    /// When it happened, in seconds since the Unix epoch.
    pub as_of: f64,
    /// What happened: an object.
    pub payload: Json,
    /// The checksum of the event before; `None` for the first.
    pub previous_checksum: Option<Checksum>,
    /// SHA-256 over the canonical form of everything else.
    pub checksum: Checksum,
    /// What the event belongs to, where its producer said.
    pub trace_id: Option<String>,
}

impl Event {
    /// `evt-` and the index, zero-padded to at least twelve digits.
    pub fn id(&self) -> String {
        event_id(self.index)
    }
}

/// The id of the event at an index: `evt-000000000001`.
///
/// ```
/// use zero_bus::{event_id, index_of_id};
/// assert_eq!(event_id(42), "evt-000000000042");
/// assert_eq!(index_of_id("evt-000000000042"), Some(42));
/// assert_eq!(index_of_id("evt-42"), None);
/// ```
pub fn event_id(index: u64) -> String {
    let mut id = String::new();
    write_id(index, &mut id);
    id
}

/// Appends the id of the event at an index.
pub(crate) fn write_id(index: u64, out: &mut String) {
    out.push_str("evt-");
    write_decimal(index, 12, out);
}

/// Appends a number in decimal, with zeros before it up to a width.
pub(crate) fn write_decimal(number: u64, width: usize, out: &mut String) {
    let mut digits = [b'0'; 20];
    let (mut rest, mut begin) = (number, digits.len());
    while rest > 0 {
        begin -= 1;
        digits[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let digits = &digits[begin.min(digits.len() - width)..];
    // ASCII, as it was made.
    out.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// The index that an id names; `None` where it is no event's id.
pub fn index_of_id(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("evt-")?;
    let padded = digits.len() == 12 || (digits.len() > 12 && !digits.starts_with('0'));
    if !padded || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|index| *index > 0)
}
