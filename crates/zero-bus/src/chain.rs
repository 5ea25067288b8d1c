//! The chain: how an event is linked to the one before it, and how a line is held against that. No file, no
//! clock.
//!
//! The checksum of an event is SHA-256 (FIPS 180-4) over the canonical form of the event without its
//! `checksum`. Since that holds the checksum of the event before, an event commits to all of its past.
//! What this can't show: that the end of a log is missing, and that somebody rewrote the log from some event
//! on with checksums of their own. For that a checksum must be known from elsewhere.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::canonical::{self, Json, Value, scan};
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::event::{
    Draft, EVENT_SCHEMA, Event, Id, MAX_LINE_BYTES, MAX_TYPE_CHARACTERS, event_id, index_of_id, type_problem,
};
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
    let start = out.len();
    out.push_str(r#"{"as_of":"#);
    canonical::write_float(as_of, out);
    out.push(',');
    let hashed_head = start..out.len();
    // The checksum's own place: filled with itself once it is known.
    out.push_str(r#""checksum":""#);
    let place = out.len();
    out.push_str(Checksum::UNKNOWN.spelled().as_str());
    out.push_str("\",");
    let rest = out.len();
    // Into a string, which takes everything.
    let _ = write!(out, r#""event_id":"{}","event_index":{index},"event_type":"#, Id(index));
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
    let mut hasher = Sha256::new();
    hasher.update(&out.as_bytes()[hashed_head]);
    hasher.update(&out.as_bytes()[rest..]);
    let checksum = Checksum::from_digest(hasher);
    let spelled = checksum.spelled();
    out.replace_range(place..place + spelled.as_str().len(), spelled.as_str());
    checksum
}

fn write_previous(previous: Option<Checksum>, out: &mut String) {
    match previous {
        None => out.push_str("null"),
        Some(previous) => {
            out.push('"');
            out.push_str(previous.spelled().as_str());
            out.push('"');
        }
    }
}

/// A line of a log that has the shape of an event, in canonical form. Whether its content is right is for
/// [`Line::follows`] to say.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// The canonical form of the known fields. Borrowed where the line was canonical already.
    text: Cow<'a, [u8]>,
    layout: Layout,
    unknown: Option<Unknown>,
}

#[derive(Debug)]
struct Unknown {
    field: String,
    /// The canonical form with it.
    whole: String,
}

/// Where each field's value stands in a canonical line.
#[derive(Debug)]
struct Layout {
    as_of: Range<usize>,
    /// With its key and the comma behind it: what is cut out for hashing.
    checksum_member: Range<usize>,
    checksum: Range<usize>,
    id: Range<usize>,
    index: Range<usize>,
    event_type: Range<usize>,
    payload: Range<usize>,
    previous: Range<usize>,
    schema: Range<usize>,
    trace_id: Option<Range<usize>>,
}

impl<'a> Line<'a> {
    /// Reads a line (without its line break). A canonical one, as every writer of this format leaves, is
    /// read without building anything.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, FaultKind> {
        match Layout::of(bytes) {
            Some(layout) => Ok(Line { text: Cow::Borrowed(bytes), layout, unknown: None }),
            None => Self::read_any_spelling(bytes),
        }
    }

    /// The way for lines that are spelled differently, or wrong: brought to canonical form first.
    fn read_any_spelling(bytes: &[u8]) -> Result<Line<'static>, FaultKind> {
        let text = std::str::from_utf8(bytes).map_err(|error| FaultKind::NotUtf8(error.valid_up_to()))?;
        let value = canonical::parse_line(text)
            .map_err(|error| FaultKind::NotJson(error.problem().to_owned(), error.offset().unwrap_or(0)))?;
        let Value::Object(mut fields) = value else { return Err(FaultKind::NotAnObject(value.kind())) };
        // Another schema may have other fields, so it is judged before them.
        if fields.get("schema_version").and_then(Value::as_str).is_some_and(|schema| schema != EVENT_SCHEMA)
            && check_fields(&fields).is_err()
        {
            return Err(FaultKind::UnsupportedSchema);
        }
        check_fields(&fields)?;
        if let Some(as_of) = fields.get("as_of").and_then(Value::as_f64) {
            fields.insert("as_of".to_owned(), Value::Float(as_of));
        }
        let unknown =
            fields.keys().find(|key| !KNOWN.contains(&key.as_str())).cloned().map(|field| Unknown {
                field,
                whole: Json::of_line(&Value::Object(fields.clone()))
                    .map(|json| json.to_string())
                    .unwrap_or_default(),
            });
        fields.retain(|key, _| KNOWN.contains(&key.as_str()));
        let text = Json::of_line(&Value::Object(fields)).map(|json| json.to_string()).unwrap_or_default();
        match Layout::of(text.as_bytes()) {
            Some(layout) => Ok(Line { text: Cow::Owned(text.into_bytes()), layout, unknown }),
            // Cannot be: every field was there and had its type. Still not worth a panic.
            None => Err(FaultKind::NotAnObject("an object of another shape")),
        }
    }

    /// Judges the line as the event behind `head`: the four texts other programs read first, in their
    /// order, then what they do not cover. Gives the new head.
    pub(crate) fn follows(&self, head: Head) -> Result<Head, FaultKind> {
        if !self.has_schema() {
            return Err(FaultKind::UnsupportedSchema);
        }
        let index = head.index.checked_add(1).ok_or(FaultKind::NonSequentialIndex)?;
        if self.index() != Some(index) {
            return Err(FaultKind::NonSequentialIndex);
        }
        if !self.names_before(head.checksum) {
            return Err(FaultKind::ChainBreak);
        }
        self.is_sound(index).map(|checksum| Head { index, checksum: Some(checksum) })
    }

    /// Judges the line by itself, as the event at `index` behind an unknown one. Gives its checksum.
    pub(crate) fn is_sound(&self, index: u64) -> Result<Checksum, FaultKind> {
        let computed = self.computed_checksum();
        if !is_quoted(self.get(&self.layout.checksum), computed.spelled().as_bytes()) {
            return Err(FaultKind::ChecksumMismatch);
        }
        if let Some(unknown) = &self.unknown {
            return Err(FaultKind::UnknownField(unknown.field.clone()));
        }
        if index_of_id(unquoted(self.text(&self.layout.id))) != Some(index) {
            return Err(FaultKind::WrongField("event_id", format!("should be `{}`", event_id(index))));
        }
        let event_type = self.get(&self.layout.event_type);
        // A canonical string that is short, not empty and has no escapes is a type.
        let is_plain = (3..=MAX_TYPE_CHARACTERS).contains(&event_type.len()) && !event_type.contains(&b'\\');
        if let Some(problem) = if is_plain { None } else { type_problem(&self.event_type()) } {
            return Err(FaultKind::WrongField("event_type", problem));
        }
        if self.layout.trace_id.as_ref().is_some_and(|trace| trace.len() == 2) {
            return Err(FaultKind::WrongField("trace_id", "should be absent rather than empty".to_owned()));
        }
        Ok(computed)
    }

    /// Whether this is an event as it should be, wherever it belongs.
    pub(crate) fn is_sound_somewhere(&self) -> bool {
        self.has_schema() && self.index().is_some_and(|index| self.is_sound(index).is_ok())
    }

    /// The event's index; `None` where it is no index at all.
    pub(crate) fn index(&self) -> Option<u64> {
        self.text(&self.layout.index).parse().ok().filter(|index| *index > 0)
    }

    /// Whether this line says it has our schema.
    pub(crate) fn has_schema(&self) -> bool {
        is_quoted(self.get(&self.layout.schema), EVENT_SCHEMA.as_bytes())
    }

    /// Whether the line says that this is the checksum before it.
    pub(crate) fn names_before(&self, previous: Option<Checksum>) -> bool {
        let named = self.get(&self.layout.previous);
        match previous {
            None => named == b"null",
            Some(previous) => is_quoted(named, previous.spelled().as_bytes()),
        }
    }

    /// The checksum as the line has it; `None` where it is none.
    pub(crate) fn checksum(&self) -> Option<Checksum> {
        Checksum::parse(unquoted(self.text(&self.layout.checksum)))
    }

    /// The previous checksum as the line has it; `None` also where it is none.
    pub(crate) fn previous_checksum(&self) -> Option<Checksum> {
        Checksum::parse(unquoted(self.text(&self.layout.previous)))
    }

    pub(crate) fn event_type(&self) -> Cow<'_, str> {
        resolved(self.text(&self.layout.event_type))
    }

    pub(crate) fn trace_id(&self) -> Option<Cow<'_, str>> {
        self.layout.trace_id.as_ref().map(|trace| resolved(self.text(trace)))
    }

    /// The whole line in canonical form, fields the format does not know included.
    pub(crate) fn canonical(&self) -> &str {
        match &self.unknown {
            Some(unknown) => &unknown.whole,
            None => self.text(&(0..self.text.len())),
        }
    }

    /// The event. Meaningful for a line that was judged and found right.
    pub(crate) fn event(&self, head: Head) -> Option<Event> {
        Some(Event {
            index: head.index,
            event_type: self.event_type().into_owned(),
            as_of: self.text(&self.layout.as_of).parse().ok()?,
            payload: Json::from_canonical(self.text(&self.layout.payload)),
            previous_checksum: self.previous_checksum(),
            checksum: head.checksum?,
            trace_id: self.trace_id().map(Cow::into_owned),
        })
    }

    fn get(&self, range: &Range<usize>) -> &[u8] {
        &self.text[range.clone()]
    }

    /// The same as text; ASCII, as everything canonical is.
    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(self.get(range)).unwrap_or_default()
    }

    fn computed_checksum(&self) -> Checksum {
        let cut = &self.layout.checksum_member;
        let mut hasher = Sha256::new();
        hasher.update(&self.text[..cut.start]);
        hasher.update(&self.text[cut.end..]);
        Checksum::from_digest(hasher)
    }
}

/// Whether a token is this text in quotes.
fn is_quoted(token: &[u8], text: &[u8]) -> bool {
    matches!(token, [b'"', within @ .., b'"'] if within == text)
}

fn unquoted(token: &str) -> &str {
    token.strip_prefix('"').and_then(|token| token.strip_suffix('"')).unwrap_or(token)
}

/// The text of a canonical string token.
fn resolved(token: &str) -> Cow<'_, str> {
    if !token.contains('\\') {
        return Cow::Borrowed(unquoted(token));
    }
    match Value::parse(token) {
        Ok(Value::String(text)) => Cow::Owned(text),
        _ => Cow::Borrowed(unquoted(token)),
    }
}

/// All fields of an event. Only the last may be missing.
const KNOWN: [&str; 9] = [
    "as_of",
    "checksum",
    "event_id",
    "event_index",
    "event_type",
    "payload",
    "previous_checksum",
    "schema_version",
    "trace_id",
];

/// Whether every field is there and has its type.
fn check_fields(fields: &std::collections::BTreeMap<String, Value>) -> Result<(), FaultKind> {
    for field in KNOWN {
        let expected = match (field, fields.get(field)) {
            ("trace_id", None) => continue,
            (_, None) => return Err(FaultKind::MissingField(field)),
            ("as_of", Some(Value::Float(_))) | ("event_index", Some(Value::Integer(_))) => continue,
            ("payload", Some(Value::Object(_)))
            | ("previous_checksum", Some(Value::Null | Value::String(_))) => continue,
            ("as_of", Some(value)) if value.as_f64().is_some() => continue,
            ("as_of", Some(_)) => "a number that fits a double",
            ("event_index", Some(_)) => "an integer",
            ("payload", Some(_)) => "an object",
            ("previous_checksum", Some(_)) => "a string or null",
            (_, Some(Value::String(_))) => continue,
            (_, Some(_)) => "a string",
        };
        let found = fields.get(field).map_or("nothing", Value::kind);
        return Err(FaultKind::WrongField(field, format!("found {found}, should be {expected}")));
    }
    Ok(())
}

/// Whether a line without its line break is the beginning of one, rather than a whole one that is wrong.
pub(crate) fn is_unfinished(bytes: Option<&[u8]>) -> bool {
    match bytes.map(Line::read) {
        None => true,
        Some(Err(kind)) => matches!(kind, FaultKind::NotJson(..) | FaultKind::NotUtf8(_)),
        Some(Ok(_)) => false,
    }
}

impl Layout {
    /// Finds the fields of a line that is canonical and has exactly the fields of an event, each of its
    /// type. `None` for everything else.
    fn of(text: &[u8]) -> Option<Self> {
        let as_of = token(text, 0, br#"{"as_of":"#, float)?;
        let checksum = token(text, as_of.end, br#","checksum":"#, scan::string)?;
        let id = token(text, checksum.end, br#","event_id":"#, scan::string)?;
        let index = token(text, id.end, br#","event_index":"#, integer)?;
        let event_type = token(text, index.end, br#","event_type":"#, scan::string)?;
        let payload = token(text, event_type.end, br#","payload":"#, object)?;
        let previous = token(text, payload.end, br#","previous_checksum":"#, string_or_null)?;
        let schema = token(text, previous.end, br#","schema_version":"#, scan::string)?;
        let trace_id = token(text, schema.end, br#","trace_id":"#, scan::string);
        let end = trace_id.as_ref().map_or(schema.end, |trace| trace.end);
        if &text[end..] != b"}" {
            return None;
        }
        let checksum_member = as_of.end + 1..checksum.end + 1;
        Some(Self {
            as_of,
            checksum_member,
            checksum,
            id,
            index,
            event_type,
            payload,
            previous,
            schema,
            trace_id,
        })
    }
}

/// Where the value stands behind a key that stands at a place.
#[inline]
fn token<const N: usize>(
    text: &[u8],
    at: usize,
    key: &[u8; N],
    end: impl FnOnce(&[u8], usize) -> Option<usize>,
) -> Option<Range<usize>> {
    let start = at + N;
    // Of a length that is known when this is compiled, so that comparing takes no call.
    (text.get(at..)?.first_chunk() == Some(key)).then_some(())?;
    end(text, start).map(|end| start..end)
}

fn is_float(token: &[u8]) -> bool {
    token.iter().any(|byte| matches!(byte, b'.' | b'e'))
}

fn float(text: &[u8], at: usize) -> Option<usize> {
    scan::number(text, at).filter(|end| is_float(&text[at..*end]))
}

fn integer(text: &[u8], at: usize) -> Option<usize> {
    scan::number(text, at).filter(|end| !is_float(&text[at..*end]))
}

fn object(text: &[u8], at: usize) -> Option<usize> {
    (text.get(at) == Some(&b'{')).then(|| scan::value(text, at))?
}

fn string_or_null(text: &[u8], at: usize) -> Option<usize> {
    if text[at..].starts_with(b"null") { Some(at + 4) } else { scan::string(text, at) }
}
