//! What a producer appends ([`Draft`]) and what a log holds ([`Event`]): plain data.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Error as _, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

use crate::canonical::{Json, JsonError};
use crate::checksum::Checksum;

/// The `schema_version` of every event.
pub const EVENT_SCHEMA: &str = "zero.runtime.event.v1";

/// Event type of the record of a quarantine, see [`QuarantinedTail`](crate::QuarantinedTail). Only
/// recovery writes it: a [`Draft`] of this type is refused.
pub const RECOVERED_TYPE: &str = "bus.recovered";

/// Event type of the record of retired events, see [`Retired`](crate::Retired). Only
/// [`Bus::retire`](crate::Bus::retire) writes it: a [`Draft`] of this type is refused.
pub const RETIRED_TYPE: &str = "bus.retired";

/// Maximum characters of an event type.
pub const MAX_TYPE_CHARACTERS: usize = 128;

/// Maximum bytes of a line without its line break: 16 MiB. Appending refuses a longer event.
/// Reading reports a longer line without loading it into memory.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// An event before it is appended, without an index and a checksum.
///
/// # Serde
///
/// A draft serializes as an object with `event_type`, `as_of`, `payload`, and `trace_id` if there
/// is one. Deserializing refuses other members. It does not check the values, which
/// [`Draft::check`] and appending do. See [`Json`] for numbers in the payload.
///
/// ```
/// use zero_bus::Draft;
///
/// let text = r#"{"event_type":"door.opened","as_of":1777593600,"payload":{"by":"cat"}}"#;
/// let draft: Draft = serde_json::from_str(text).unwrap();
/// assert_eq!((draft.as_of, draft.payload.as_str()), (1777593600.0, r#"{"by":"cat"}"#));
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// The kind of event: 1 to [`MAX_TYPE_CHARACTERS`] characters, no control characters. By
    /// convention a dotted name such as `decision.record`.
    pub event_type: String,
    /// When it happened, in seconds since the Unix epoch. The producer provides it, so that a run
    /// can be repeated byte for byte.
    pub as_of: f64,
    /// What happened. Must be an object.
    pub payload: Json,
    /// Groups related events. An empty one counts as `None`.
    pub trace_id: Option<String>,
}

impl Draft {
    /// A draft without a trace id.
    ///
    /// # Errors
    /// [`JsonError`] if the payload has no canonical form, see [`Json::of`].
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use zero_bus::Draft;
    ///
    /// let payload = BTreeMap::from([("celsius", 21.5)]);
    /// let draft = Draft::new("sensor.reading", 1777593600.0, &payload)?;
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

    /// As [`Draft::new`], with the time of the system clock. Nothing else in this library reads
    /// that clock.
    ///
    /// # Errors
    /// As [`Draft::new`].
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use zero_bus::Draft;
    ///
    /// let draft = Draft::now("sensor.reading", &BTreeMap::from([("celsius", 21.5)]))?;
    /// assert!(draft.as_of > 1_700_000_000.0);
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn now<T: Serialize + ?Sized>(event_type: impl Into<String>, payload: &T) -> Result<Self, JsonError> {
        Self::new(event_type, unix_time(), payload)
    }

    /// The same draft with a trace id.
    pub fn traced(mut self, trace_id: impl Into<String>) -> Self {
        self.trace_id = Some(trace_id.into());
        self
    }
}

/// Returns the time of the system's clock, in seconds since the Unix epoch.
pub(crate) fn unix_time() -> f64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

/// Why a text is not a valid event type; `None` if it is valid.
pub(crate) fn type_problem(event_type: &str) -> Option<String> {
    let is_printable_ascii = event_type.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_printable_ascii && (1..=MAX_TYPE_CHARACTERS).contains(&event_type.len()) {
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

/// An event of a log.
///
/// # Serde
///
/// An event serializes as the object of its line, with the same members: `trace_id` only if there
/// is one. `Json::of(&event)` is the canonical line.
///
/// Deserializing checks the schema, the type of each member, and that `event_id` matches
/// `event_index`. It refuses unknown members. It verifies neither the checksum nor the link to the
/// previous event: [`Event::read`] does, and also accepts every number that a log can hold. See
/// [`Json`] for the numbers that a serde format can carry.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use std::collections::BTreeMap;
/// use zero_bus::{Bus, Draft, Event};
///
/// let bus = Bus::open(dir.path())?;
/// let payload = BTreeMap::from([("by", "cat")]);
/// let event = bus.append(Draft::new("door.opened", 1777593600.0, &payload)?)?;
/// let text = serde_json::to_string(&event).unwrap();
/// assert_eq!(text, event.line());
/// assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
/// # Ok::<(), zero_bus::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// 1 for the first event of a bus, then one more for each event.
    pub index: u64,
    /// The kind of event.
    pub event_type: String,
    /// When it happened, in seconds since the Unix epoch.
    pub as_of: f64,
    /// What happened: an object.
    pub payload: Json,
    /// The checksum of the previous event; `None` for the first.
    pub previous_checksum: Option<Checksum>,
    /// The SHA-256 of the canonical form of everything else.
    pub checksum: Checksum,
    /// Groups related events; `None` if the producer gave none.
    pub trace_id: Option<String>,
}

impl Event {
    /// `evt-` and the index, zero-padded to at least twelve digits.
    pub fn id(&self) -> String {
        event_id(self.index)
    }

    /// The payload as a type of the caller, deserialized by serde_json.
    ///
    /// The payload may nest at most 127 deep: serde_json's recursion limit of 128 refuses the 128th
    /// level.
    ///
    /// Integers must fit the type they are read into: an `i128` or `u128` is exact, and an integer
    /// beyond 128 bits is an error. Read into an `f64`, an integer becomes the nearest double. An
    /// integer beyond 64 bits is rounded in the same way if its type is not known in advance: in a
    /// `serde_json::Value`, and below `#[serde(flatten)]`, `#[serde(untagged)]` or
    /// `#[serde(tag = …)]`. A [`Json`] field refuses such a number. [`Json::value`] reads every
    /// payload exactly.
    ///
    /// # Errors
    /// [`JsonError`] with the position in the canonical text of the payload.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use serde::{Deserialize, Serialize};
    /// use zero_bus::{Bus, Draft};
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// struct Reading {
    ///     sensor: String,
    ///     celsius: f64,
    /// }
    /// let reading = Reading { sensor: "roof".to_owned(), celsius: 21.5 };
    /// let bus = Bus::open(dir.path())?;
    /// let event = bus.append(Draft::new("sensor.reading", 1777593600.0, &reading)?)?;
    /// assert_eq!(event.payload_as::<Reading>()?, reading);
    ///
    /// let error = event.payload_as::<u64>().unwrap_err();
    /// assert_eq!(error.to_string(), "invalid type: map, expected u64 (line 1, column 1)");
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        self.payload.deserialize_as()
    }
}

impl Serialize for Draft {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        check_time(self.as_of).map_err(S::Error::custom)?;
        let with_trace = writes_trace(&serializer, self.trace_id.as_deref());
        // The order of the fields, which binary formats depend on.
        let mut object = serializer.serialize_struct("Draft", if with_trace { 4 } else { 3 })?;
        object.serialize_field("event_type", &self.event_type)?;
        object.serialize_field("as_of", &self.as_of)?;
        object.serialize_field("payload", &self.payload)?;
        if with_trace {
            object.serialize_field("trace_id", &self.trace_id)?;
        }
        object.end()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        check_time(self.as_of).map_err(S::Error::custom)?;
        let trace_id = self.trace_id.as_deref().filter(|trace| !trace.is_empty());
        let with_trace = writes_trace(&serializer, trace_id);
        // The order of the canonical line, which is also that of `UncheckedEvent`.
        let mut object = serializer.serialize_struct("Event", if with_trace { 9 } else { 8 })?;
        object.serialize_field("as_of", &self.as_of)?;
        object.serialize_field("checksum", &self.checksum)?;
        object.serialize_field("event_id", &self.id())?;
        object.serialize_field("event_index", &self.index)?;
        object.serialize_field("event_type", &self.event_type)?;
        object.serialize_field("payload", &self.payload)?;
        object.serialize_field("previous_checksum", &self.previous_checksum)?;
        object.serialize_field("schema_version", EVENT_SCHEMA)?;
        if with_trace {
            object.serialize_field("trace_id", &trace_id)?;
        }
        object.end()
    }
}

/// Whether the member `trace_id` is written. Binary formats need a fixed number of fields.
fn writes_trace<S: Serializer>(serializer: &S, trace_id: Option<&str>) -> bool {
    trace_id.is_some() || !serializer.is_human_readable()
}

/// serde_json would write NaN and infinities as null.
fn check_time(as_of: f64) -> Result<(), String> {
    if as_of.is_finite() { Ok(()) } else { Err(format!("as_of: {as_of} is not a time")) }
}

#[derive(Deserialize)]
#[serde(rename = "Event", deny_unknown_fields)]
struct UncheckedEvent {
    as_of: f64,
    checksum: Checksum,
    event_id: String,
    event_index: u64,
    event_type: String,
    payload: Json,
    // Named explicitly so that a missing member is an error rather than `None`.
    #[serde(deserialize_with = "Option::deserialize")]
    previous_checksum: Option<Checksum>,
    schema_version: String,
    #[serde(default)]
    trace_id: Option<String>,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let event = UncheckedEvent::deserialize(deserializer)?;
        event.check().map_err(D::Error::custom)?;
        Ok(Self {
            index: event.event_index,
            event_type: event.event_type,
            as_of: event.as_of,
            payload: event.payload,
            previous_checksum: event.previous_checksum,
            checksum: event.checksum,
            trace_id: event.trace_id,
        })
    }
}

impl UncheckedEvent {
    fn check(&self) -> Result<(), String> {
        if self.schema_version != EVENT_SCHEMA {
            return Err(format!("schema_version: should be `{EVENT_SCHEMA}`"));
        }
        check_time(self.as_of)?;
        if self.event_index == 0 {
            return Err("event_index: should be positive".to_owned());
        }
        if index_of_id(&self.event_id) != Some(self.event_index) {
            return Err(format!("event_id: should be `{}`", event_id(self.event_index)));
        }
        if let Some(problem) = type_problem(&self.event_type) {
            return Err(format!("event_type: {problem}"));
        }
        if !self.payload.is_object() {
            return Err("payload: must be an object".to_owned());
        }
        if self.trace_id.as_deref() == Some("") {
            return Err("trace_id: should be absent rather than empty".to_owned());
        }
        Ok(())
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

/// Appends a number in decimal, zero-padded to `min_digits`.
pub(crate) fn write_decimal(number: u64, min_digits: usize, out: &mut String) {
    let mut digits = [b'0'; 20];
    let (mut remaining, mut begin) = (number, digits.len());
    while remaining > 0 {
        begin -= 1;
        digits[begin] = b'0' + (remaining % 10) as u8;
        remaining /= 10;
    }
    let digits = &digits[begin.min(digits.len() - min_digits)..];
    // The digits are ASCII.
    out.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// The index in an event id; `None` if the text is not an event id.
pub fn index_of_id(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("evt-")?;
    let is_padded = digits.len() == 12 || (digits.len() > 12 && !digits.starts_with('0'));
    if !is_padded || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|index| *index > 0)
}
