//! A line of a log: reading it, and holding it against the one before.

use std::borrow::Cow;
use std::ops::Range;

use super::Head;
use crate::canonical::{self, Json, scan};
use crate::checksum::Checksum;
use crate::event::{EVENT_SCHEMA, Event, MAX_TYPE_CHARACTERS, event_id, index_of_id, type_problem};
use crate::fault::FaultKind;

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
pub(super) struct Layout {
    pub(super) as_of: Range<usize>,
    pub(super) checksum: Range<usize>,
    pub(super) id: Range<usize>,
    pub(super) index: Range<usize>,
    pub(super) event_type: Range<usize>,
    pub(super) payload: Range<usize>,
    pub(super) previous: Range<usize>,
    pub(super) schema: Range<usize>,
    pub(super) trace_id: Option<Range<usize>>,
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

    /// A canonical line of which it is known where everything stands.
    pub(super) fn laid_out(text: &'a [u8], layout: Layout) -> Self {
        Line { text: Cow::Borrowed(text), layout, unknown: None }
    }

    /// The way for lines that are spelled differently, or wrong: brought to canonical form first.
    fn read_any_spelling(bytes: &[u8]) -> Result<Line<'static>, FaultKind> {
        let text = std::str::from_utf8(bytes).map_err(|error| FaultKind::NotUtf8(error.valid_up_to()))?;
        let found = canonical::respelled_line(text)
            .map_err(|error| FaultKind::NotJson(error.problem().to_owned(), error.offset().unwrap_or(0)))?;
        if !found.starts_with('{') {
            return Err(FaultKind::NotAnObject(canonical::kind(&found)));
        }
        let mut fields = [None; KNOWN.len()];
        let mut unknown = None;
        for (key, value) in canonical::members(&found) {
            match KNOWN.iter().position(|known| *known == key) {
                Some(nth) => fields[nth] = Some(value),
                None => unknown = unknown.or_else(|| Some(scan::resolved(key).into_owned())),
            }
        }
        let checked = check_fields(&fields);
        let schema = fields[SCHEMA_VERSION].and_then(canonical::as_text);
        // Another schema may have other fields, so it is judged before them.
        if checked.is_err() && schema.is_some_and(|schema| schema != EVENT_SCHEMA) {
            return Err(FaultKind::UnsupportedSchema);
        }
        checked?;
        // A time that is given as an integer counts as the float it equals.
        let mut as_of = String::new();
        canonical::write_float(fields[AS_OF].and_then(canonical::as_f64).unwrap_or_default(), &mut as_of);
        let spelled_so = fields[AS_OF] == Some(as_of.as_str());
        let spell = |unknown_too: bool| {
            let mut text = String::with_capacity(found.len() + as_of.len());
            for (key, value) in canonical::members(&found) {
                if unknown_too || KNOWN.contains(&key) {
                    let value = if key == KNOWN[AS_OF] { &as_of } else { value };
                    text.extend([if text.is_empty() { "{\"" } else { ",\"" }, key, "\":", value]);
                }
            }
            text + "}"
        };
        let (text, unknown) = match unknown {
            None => (if spelled_so { found } else { spell(true) }, None),
            Some(field) => {
                (spell(false), Some(Unknown { field, whole: if spelled_so { found } else { spell(true) } }))
            }
        };
        match Layout::of(text.as_bytes()) {
            Some(layout) => Ok(Line { text: Cow::Owned(text.into_bytes()), layout, unknown }),
            // Cannot be: every field was there and had its type. PathGuard not worth a panic.
            None => Err(FaultKind::NotAnObject("an object of another shape")),
        }
    }

    /// The line itself, as it was found or brought to canonical form, without fields the format does not know.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// What is hashed.
    pub(super) fn hashed(&self) -> [&[u8]; 2] {
        self.layout.hashed(&self.text)
    }

    /// Whether the line says that this is its checksum.
    pub(super) fn says_it_is(&self, checksum: Checksum) -> bool {
        is_quoted(self.get(&self.layout.checksum), checksum.spelled().as_bytes())
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
        let computed = Checksum::of_parts(self.hashed());
        if !self.says_it_is(computed) {
            return Err(FaultKind::ChecksumMismatch);
        }
        if let Some(unknown) = &self.unknown {
            return Err(FaultKind::UnknownField(unknown.field.clone()));
        }
        if index_of_id(scan::unquoted(self.text(&self.layout.id))) != Some(index) {
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
        Checksum::parse(scan::unquoted(self.text(&self.layout.checksum)))
    }

    /// The previous checksum as the line has it; `None` also where it is none.
    pub(crate) fn previous_checksum(&self) -> Option<Checksum> {
        Checksum::parse(scan::unquoted(self.text(&self.layout.previous)))
    }

    pub(crate) fn event_type(&self) -> Cow<'_, str> {
        scan::resolved(self.text(&self.layout.event_type))
    }

    pub(crate) fn trace_id(&self) -> Option<Cow<'_, str>> {
        self.layout.trace_id.as_ref().map(|trace| scan::resolved(self.text(trace)))
    }

    /// The whole line in canonical form, fields the format does not know included.
    pub(crate) fn canonical(&self) -> &[u8] {
        match &self.unknown {
            Some(unknown) => unknown.whole.as_bytes(),
            None => &self.text,
        }
    }

    /// Whether the line is what it was read from, byte by byte.
    pub(crate) fn is_as_found(&self) -> bool {
        matches!(self.text, Cow::Borrowed(_)) && self.unknown.is_none()
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
}

/// Whether a token is this text in quotes.
pub(super) fn is_quoted(token: &[u8], text: &[u8]) -> bool {
    matches!(token, [b'"', within @ .., b'"'] if within == text)
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

const AS_OF: usize = 0;
const SCHEMA_VERSION: usize = 7;

/// Whether every field is there and has its type.
fn check_fields(fields: &[Option<&str>; KNOWN.len()]) -> Result<(), FaultKind> {
    for (field, value) in KNOWN.into_iter().zip(fields) {
        let Some(value) = *value else {
            if field == "trace_id" {
                continue;
            }
            return Err(FaultKind::MissingField(field));
        };
        let found = canonical::kind(value);
        let (fits, expected) = match field {
            "as_of" => (canonical::as_f64(value).is_some(), "a number that fits a double"),
            "event_index" => (found == "an integer", "an integer"),
            "payload" => (value.starts_with('{'), "an object"),
            "previous_checksum" => (value.starts_with('"') || value == "null", "a string or null"),
            _ => (value.starts_with('"'), "a string"),
        };
        if !fits {
            return Err(FaultKind::WrongField(field, format!("found {found}, should be {expected}")));
        }
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
        Some(Self { as_of, checksum, id, index, event_type, payload, previous, schema, trace_id })
    }

    /// The two parts of a line that are hashed: all but the member `checksum` and the comma behind it.
    pub(super) fn hashed<'a>(&self, text: &'a [u8]) -> [&'a [u8]; 2] {
        [&text[..self.as_of.end + 1], &text[self.checksum.end + 1..]]
    }
}

/// Where the value stands behind a key that stands at a place.
#[inline]
pub(super) fn token<const N: usize>(
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

pub(super) fn float(text: &[u8], at: usize) -> Option<usize> {
    scan::number(text, at).filter(|end| scan::is_float(&text[at..*end]))
}

fn integer(text: &[u8], at: usize) -> Option<usize> {
    scan::number(text, at).filter(|end| !scan::is_float(&text[at..*end]))
}

pub(super) fn object(text: &[u8], at: usize) -> Option<usize> {
    (text.get(at) == Some(&b'{')).then(|| scan::value(text, at))?
}

fn string_or_null(text: &[u8], at: usize) -> Option<usize> {
    if text[at..].starts_with(b"null") { Some(at + 4) } else { scan::string(text, at) }
}
