//! Writing: a draft becomes the next event of a chain.

use crate::canonical::{self, Json};
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::event::{
    Draft, EVENT_SCHEMA, Event, MAX_LINE_BYTES, RECOVERED_TYPE, RETIRED_TYPE, type_problem, write_decimal,
    write_id,
};
use crate::head::{Head, write_previous};

/// Size of a line without its texts, roughly: keys, numbers, checksums.
const FIXED_BYTES_ESTIMATE: usize = 400;

impl Draft {
    /// Checks whether this draft can become an event. Appending runs the same check.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of the field.
    ///
    /// ```
    /// use zero_bus::{Draft, Error};
    /// let draft = Draft::new("", 0.0, &())?;
    /// assert!(matches!(draft.check(), Err(Error::Invalid { field: "event_type", .. })));
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn check(&self) -> Result<()> {
        if let Some(problem) = type_problem(&self.event_type) {
            return Err(Error::invalid("event_type", problem));
        }
        if self.event_type == RECOVERED_TYPE {
            let problem = format!("`{RECOVERED_TYPE}` is reserved: only recovery writes it");
            return Err(Error::invalid("event_type", problem));
        }
        if self.event_type == RETIRED_TYPE {
            let problem = format!("`{RETIRED_TYPE}` is reserved: only a retirement writes it");
            return Err(Error::invalid("event_type", problem));
        }
        if !self.as_of.is_finite() {
            return Err(Error::invalid("as_of", format!("{} is not a time", self.as_of)));
        }
        if !self.payload.is_object() {
            return Err(Error::invalid("payload", "must be an object"));
        }
        // The first event of a bus has the shortest line. Appending checks the length at the real
        // index.
        let content = Content::from(self);
        let mut line = String::new();
        if content.text_bytes() > MAX_LINE_BYTES / 16 {
            write_line(1, content, None, &mut line);
        }
        if line.len() > MAX_LINE_BYTES {
            let problem = format!("makes a line of {} bytes, more than {MAX_LINE_BYTES}", line.len());
            return Err(Error::invalid("payload", problem));
        }
        Ok(())
    }
}

impl Event {
    /// The canonical line as a JSON value.
    pub fn to_json(&self) -> Json {
        Json::from_canonical_line(self.line())
    }

    /// The canonical line as a log holds it, without its line break. Recomputes the checksum.
    pub fn line(&self) -> String {
        let mut line = String::with_capacity(self.payload.as_str().len() + FIXED_BYTES_ESTIMATE);
        write_line(self.index, Content::from(self), self.previous_checksum, &mut line);
        line
    }
}

/// Links a draft to a head: appends its line and a line break to `out` and returns the event.
///
/// The draft must have passed [`Draft::check`].
pub(crate) fn link(head: Head, draft: Draft, out: &mut String) -> Result<Event> {
    let no_index_left = || Error::invalid("event_index", "the log has reached the largest index");
    let index = head.index.checked_add(1).ok_or_else(no_index_left)?;
    let checksum = write_line(index, Content::from(&draft), head.checksum, out);
    out.push('\n');
    let Draft { event_type, as_of, payload, trace_id } = draft;
    let trace_id = trace_id.filter(|trace| !trace.is_empty());
    Ok(Event { index, event_type, as_of, payload, previous_checksum: head.checksum, checksum, trace_id })
}

/// The parts of a line that its producer provides.
#[derive(Clone, Copy)]
struct Content<'a> {
    event_type: &'a str,
    as_of: f64,
    payload: &'a Json,
    /// Not empty.
    trace_id: Option<&'a str>,
}

impl<'a> Content<'a> {
    fn new(event_type: &'a str, as_of: f64, payload: &'a Json, trace_id: Option<&'a str>) -> Self {
        Self { event_type, as_of, payload, trace_id: trace_id.filter(|trace| !trace.is_empty()) }
    }

    fn text_bytes(&self) -> usize {
        self.payload.as_str().len() + self.event_type.len() + self.trace_id.map_or(0, str::len)
    }
}

impl<'a> From<&'a Draft> for Content<'a> {
    fn from(draft: &'a Draft) -> Self {
        Self::new(&draft.event_type, draft.as_of, &draft.payload, draft.trace_id.as_deref())
    }
}

impl<'a> From<&'a Event> for Content<'a> {
    fn from(event: &'a Event) -> Self {
        Self::new(&event.event_type, event.as_of, &event.payload, event.trace_id.as_deref())
    }
}

/// Appends a canonical line to `out` and returns the checksum in it.
fn write_line(index: u64, content: Content<'_>, previous: Option<Checksum>, out: &mut String) -> Checksum {
    out.reserve(content.text_bytes() + FIXED_BYTES_ESTIMATE);
    let start = out.len();
    out.push_str(r#"{"as_of":"#);
    canonical::write_float(content.as_of, out);
    out.push(',');
    // The checksum is not part of what is hashed, so its member is inserted here at the end.
    let checksum_at = out.len();
    out.push_str(r#""event_id":""#);
    write_id(index, out);
    out.push_str(r#"","event_index":"#);
    write_decimal(index, 1, out);
    out.push_str(r#","event_type":"#);
    canonical::write_string(content.event_type, out);
    out.push_str(r#","payload":"#);
    out.push_str(content.payload.as_str());
    out.push_str(r#","previous_checksum":"#);
    write_previous(previous, out);
    out.push_str(r#","schema_version":""#);
    out.push_str(EVENT_SCHEMA);
    out.push('"');
    if let Some(trace_id) = content.trace_id {
        out.push_str(r#","trace_id":"#);
        canonical::write_string(trace_id, out);
    }
    out.push('}');
    let checksum = Checksum::of(&out.as_bytes()[start..]);
    checksum.insert_member(checksum_at, out);
    checksum
}
