//! The chain: how an event is linked to the one before it, and how a line is held against that. No file, no
//! clock.
//!
//! The checksum of an event is SHA-256 (FIPS 180-4) over the canonical form of the event without its
//! `checksum`. Since that holds the checksum of the event before, an event commits to all of its past.
//! What this can't show: that the end of a log is missing, and that somebody rewrote the log from some event
//! on with checksums of their own. For that a checksum must be known from elsewhere.

mod line;
mod next_line;

pub(crate) use line::{Line, is_unfinished};
pub(crate) use next_line::NextLineMatcher;

use crate::canonical::{self, Json};
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::event::{Draft, EVENT_SCHEMA, Event, MAX_LINE_BYTES, type_problem, write_decimal, write_id};
use crate::fault::{Fault, FaultKind};

/// Where a chain stands: how many events it has, and the checksum of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Events so far, which is the index of the last one; 0 for an empty chain.
    pub index: u64,
    /// The checksum of the last event; `None` for an empty chain.
    pub checksum: Option<Checksum>,
}

impl Draft {
    /// Whether this can become an event. Appending checks it too.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    ///
    /// ```
    /// use zero_bus::{Draft, Error};
    /// let draft = Draft::new("", 0.0, &())?;
    /// assert!(matches!(draft.check(), Err(Error::Invalid { field: "event_type", .. })));
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn check(&self) -> Result<()> {
        if let Some(reason) = type_problem(&self.event_type) {
            return Err(Error::invalid("event_type", reason));
        }
        if !self.as_of.is_finite() {
            return Err(Error::invalid("as_of", format!("{} is not a time", self.as_of)));
        }
        if !self.payload.is_object() {
            return Err(Error::invalid("payload", "must be an object"));
        }
        // As the first event of a bus it would have the shortest line; exactly it is known in its place.
        let mut line = String::new();
        let trace = self.trace_id.as_deref().unwrap_or_default();
        let texts = self.payload.as_str().len() + self.event_type.len() + trace.len();
        if texts > MAX_LINE_BYTES / 16 {
            write_line(1, self, None, &mut line);
        }
        if line.len() > MAX_LINE_BYTES {
            let reason = format!("makes a line of {} bytes, more than {MAX_LINE_BYTES}", line.len());
            return Err(Error::invalid("payload", reason));
        }
        Ok(())
    }
}

impl Event {
    /// The canonical line as a value, to be looked into or laid out.
    pub fn to_json(&self) -> Json {
        Json::from_canonical_line(self.line())
    }

    /// Reads the line of an event, in any spelling that a log may hold and without its line break, and judges it as the
    /// event behind `head`: what a receiver of somebody else's lines does with each. Costs one hash, and memory for the
    /// event.
    ///
    /// # Errors
    /// The first fault. `event` counts from `head`, `byte_offset` is 0.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::{Bus, Draft, Event, Head};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &std::collections::BTreeMap::from([("by", "cat")]))?)?;
    /// let line = event.line();
    /// assert_eq!(Event::read(line.as_bytes(), Head::default()), Ok(event));
    /// assert!(Event::read(line.replace("cat", "dog").as_bytes(), Head::default()).is_err());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn read(line: &[u8], head: Head) -> Result<Self, Fault> {
        Self::judge(line, |line| line.follows(head)).map_err(|kind| Fault {
            event: head.index.saturating_add(1),
            byte_offset: 0,
            kind,
        })
    }

    /// The same for an event at an index whose predecessor is not known: judged by itself.
    ///
    /// # Errors
    /// As [`Event::read`].
    pub fn read_alone(line: &[u8], index: u64) -> Result<Self, Fault> {
        Self::judge(line, |line| {
            if !line.has_schema() {
                return Err(FaultKind::UnsupportedSchema);
            }
            if line.index() != Some(index) {
                return Err(FaultKind::NonSequentialIndex);
            }
            line.is_sound(index).map(|checksum| Head { index, checksum: Some(checksum) })
        })
        .map_err(|kind| Fault { event: index, byte_offset: 0, kind })
    }

    fn judge(
        line: &[u8],
        judge: impl FnOnce(&Line<'_>) -> Result<Head, FaultKind>,
    ) -> Result<Self, FaultKind> {
        if line.len() > MAX_LINE_BYTES {
            return Err(FaultKind::LineTooLong);
        }
        let line = Line::read(line)?;
        let head = judge(&line)?;
        // Its time was read already, in canonical form.
        line.event(head).ok_or_else(|| FaultKind::WrongField("as_of", "is no number".to_owned()))
    }

    /// The head of a chain whose last event this is.
    pub fn head(&self) -> Head {
        Head { index: self.index, checksum: Some(self.checksum) }
    }

    /// The canonical line, as it is written, without its line break.
    pub fn line(&self) -> String {
        let mut line = String::new();
        write_line(self.index, self, self.previous_checksum, &mut line);
        line
    }
}

/// Links a draft to a head: appends its line (with its line break) to `out` and gives the event. The draft
/// must have passed [`Draft::check`].
pub(crate) fn link(head: Head, draft: Draft, out: &mut String) -> Result<Event> {
    let full = || Error::invalid("event_index", "there is no index behind the last one");
    let index = head.index.checked_add(1).ok_or_else(full)?;
    let checksum = write_line(index, &draft, head.checksum, out);
    out.push('\n');
    let Draft { event_type, as_of, payload, trace_id } = draft;
    let trace_id = trace_id.filter(|trace| !trace.is_empty());
    Ok(Event { index, event_type, as_of, payload, previous_checksum: head.checksum, checksum, trace_id })
}

/// Bytes of a line beside its texts, about: keys, numbers, checksums.
const ROOM_FOR_THE_REST: usize = 400;

/// The parts that a draft and an event have in common.
pub(crate) trait Content {
    fn content(&self) -> (&str, f64, &Json, Option<&str>);
}

impl Content for Draft {
    fn content(&self) -> (&str, f64, &Json, Option<&str>) {
        (&self.event_type, self.as_of, &self.payload, self.trace_id.as_deref())
    }
}

impl Content for Event {
    fn content(&self) -> (&str, f64, &Json, Option<&str>) {
        (&self.event_type, self.as_of, &self.payload, self.trace_id.as_deref())
    }
}

/// Appends the canonical line of an event to `out`, computing its checksum on the way.
pub(crate) fn write_line(
    index: u64,
    content: &impl Content,
    previous: Option<Checksum>,
    out: &mut String,
) -> Checksum {
    let (event_type, as_of, payload, trace_id) = content.content();
    let texts = payload.as_str().len() + event_type.len() + trace_id.map_or(0, str::len);
    out.reserve(texts + ROOM_FOR_THE_REST);
    let start = out.len();
    out.push_str(r#"{"as_of":"#);
    canonical::write_float(as_of, out);
    out.push(',');
    // Where the checksum will be put, once it is known: it is not part of what is hashed.
    let place = out.len();
    out.push_str(r#""event_id":""#);
    write_id(index, out);
    out.push_str(r#"","event_index":"#);
    write_decimal(index, 1, out);
    out.push_str(r#","event_type":"#);
    canonical::write_string(event_type, out);
    out.push_str(r#","payload":"#);
    out.push_str(payload.as_str());
    out.push_str(r#","previous_checksum":"#);
    write_previous(previous, out);
    out.push_str(r#","schema_version":""#);
    out.push_str(EVENT_SCHEMA);
    out.push('"');
    if let Some(trace_id) = trace_id.filter(|trace| !trace.is_empty()) {
        out.push_str(r#","trace_id":"#);
        canonical::write_string(trace_id, out);
    }
    out.push('}');
    let checksum = Checksum::of(&out.as_bytes()[start..]);
    checksum.insert_member(place, out);
    checksum
}

/// Appends a checksum as an event names the one before it.
pub(crate) fn write_previous(previous: Option<Checksum>, out: &mut String) {
    match previous {
        None => out.push_str("null"),
        Some(previous) => {
            out.push('"');
            out.push_str(previous.spelled().as_str());
            out.push('"');
        }
    }
}
