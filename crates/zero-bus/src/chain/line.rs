//! Reading: a line of a log becomes a [`Line`], in any spelling, and is verified.
//!
//! Nearly every line is canonical already. Such a line is read in one pass that builds nothing. Any
//! other line is brought to canonical form first, and then read in the same way, since the checksum
//! covers the canonical form.

use std::borrow::Cow;
use std::ops::Range;

use super::layout::{Layout, is_quoted};
use crate::canonical::{self, Json};
use crate::checksum::Checksum;
use crate::event::{EVENT_SCHEMA, Event, MAX_TYPE_CHARACTERS, event_id, index_of_id, type_problem};
use crate::fault::FaultKind;
use crate::head::Head;

/// A line with the fields of an event, each of its type. Its content is not verified yet: see
/// [`Line::verify_after`] and [`Line::verify_alone`].
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// The canonical form, without unknown fields. Borrowed if the line was in this form already.
    bytes: Cow<'a, [u8]>,
    layout: Layout,
    unknown: Option<UnknownField>,
}

/// A field that the format does not define. It makes the event invalid, but its line can still be
/// shown.
#[derive(Debug)]
struct UnknownField {
    name: String,
    /// The canonical form of the line with its unknown fields.
    canonical: String,
}

impl<'a> Line<'a> {
    /// Reads a line without its line break. Copies nothing if the line is canonical.
    ///
    /// # Errors
    /// The line is not an object with the fields of an event, or it has another schema.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, FaultKind> {
        match Layout::of(bytes) {
            Some(layout) => Ok(Line::from_layout(bytes, layout)),
            None => Self::read_any_spelling(bytes),
        }
    }

    /// A canonical line whose layout is known.
    pub(super) fn from_layout(bytes: &'a [u8], layout: Layout) -> Self {
        Line { bytes: Cow::Borrowed(bytes), layout, unknown: None }
    }

    /// Reads a line that is spelled differently, or is invalid.
    fn read_any_spelling(bytes: &[u8]) -> Result<Line<'static>, FaultKind> {
        let text = std::str::from_utf8(bytes).map_err(|error| FaultKind::NotUtf8(error.valid_up_to()))?;
        if text.starts_with('\u{FEFF}') {
            let problem =
                "it starts with a UTF-8 byte order mark (BOM), which an editor may have added; remove it";
            return Err(FaultKind::NotJson(problem.to_owned(), 0));
        }
        let canonical = canonical::canonical_line(text)
            .map_err(|error| FaultKind::NotJson(error.problem().to_owned(), error.offset().unwrap_or(0)))?;
        if !canonical.starts_with('{') {
            return Err(FaultKind::NotAnObject(canonical::kind(&canonical)));
        }
        let mut values = [None; FIELDS.len()];
        let mut unknown_name = None;
        for (key, value) in canonical::members(&canonical) {
            match FIELDS.iter().position(|field| *field == key) {
                Some(field) => values[field] = Some(value),
                None => unknown_name = unknown_name.or_else(|| Some(canonical::decode(key).into_owned())),
            }
        }
        let fields = check_fields(&values);
        let schema = values[SCHEMA_VERSION].and_then(canonical::as_text);
        // Another schema may have other fields, so its fault comes first.
        if fields.is_err() && schema.is_some_and(|schema| schema != EVENT_SCHEMA) {
            return Err(FaultKind::UnsupportedSchema);
        }
        fields?;
        // An integer time is read as the equal float, so its member may have to be rewritten.
        let mut as_of = String::new();
        canonical::write_float(values[AS_OF].and_then(canonical::as_f64).unwrap_or_default(), &mut as_of);
        let is_float_time = values[AS_OF] == Some(as_of.as_str());
        let rebuild = |with_unknown: bool| {
            let mut line = String::with_capacity(canonical.len() + as_of.len());
            for (key, value) in canonical::members(&canonical) {
                if with_unknown || FIELDS.contains(&key) {
                    let value = if key == FIELDS[AS_OF] { &as_of } else { value };
                    line.extend([if line.is_empty() { "{\"" } else { ",\"" }, key, "\":", value]);
                }
            }
            line + "}"
        };
        let known = unknown_name.is_some().then(|| rebuild(false));
        let whole = if is_float_time { canonical } else { rebuild(true) };
        let (line, unknown) = match (known, unknown_name) {
            (Some(known), Some(name)) => (known, Some(UnknownField { name, canonical: whole })),
            _ => (whole, None),
        };
        match Layout::of(line.as_bytes()) {
            Some(layout) => Ok(Line { bytes: Cow::Owned(line.into_bytes()), layout, unknown }),
            // Unreachable: every field is present and has its type. An error is safer than a panic
            // here.
            None => Err(FaultKind::NotAnObject("an object of another shape")),
        }
    }

    /// Verifies the line as the event after `head`, and returns the new head.
    ///
    /// # Errors
    /// The first fault. The four that other programs know come first, in their order; then those
    /// that only this project defines.
    pub(crate) fn verify_after(&self, head: Head) -> Result<Head, FaultKind> {
        if !self.has_schema() {
            return Err(FaultKind::UnsupportedSchema);
        }
        let index = head.index.checked_add(1).ok_or(FaultKind::NonSequentialIndex)?;
        if self.index() != Some(index) {
            return Err(FaultKind::NonSequentialIndex);
        }
        if !self.links_to(head.checksum) {
            return Err(FaultKind::ChainBreak);
        }
        self.verify_alone(index).map(|checksum| Head { index, checksum: Some(checksum) })
    }

    /// Verifies the line as the event at `index`, without its link, and returns its checksum. The
    /// caller has checked the schema and the field `event_index`.
    ///
    /// # Errors
    /// As [`Line::verify_after`], without the schema, the index and the link.
    pub(crate) fn verify_alone(&self, index: u64) -> Result<Checksum, FaultKind> {
        let computed = Checksum::of_parts(self.hashed_parts());
        if !self.has_checksum(computed) {
            return Err(FaultKind::ChecksumMismatch);
        }
        if let Some(unknown) = &self.unknown {
            return Err(FaultKind::UnknownField(unknown.name.clone()));
        }
        if index_of_id(canonical::unquoted(self.value_text(&self.layout.id))) != Some(index) {
            return Err(FaultKind::WrongField("event_id", format!("should be `{}`", event_id(index))));
        }
        let event_type = self.value(&self.layout.event_type);
        // The fast path: a short canonical string without escapes, quotes included, is a valid
        // type.
        let is_plain = (3..=MAX_TYPE_CHARACTERS).contains(&event_type.len()) && !event_type.contains(&b'\\');
        if let Some(problem) = if is_plain { None } else { type_problem(&self.event_type()) } {
            return Err(FaultKind::WrongField("event_type", problem));
        }
        if self.layout.trace_id.as_ref().is_some_and(|trace| trace.len() == 2) {
            return Err(FaultKind::WrongField("trace_id", "should be absent rather than empty".to_owned()));
        }
        Ok(computed)
    }

    /// Whether this is a valid event at the index it names, whatever its link.
    pub(crate) fn is_valid_event(&self) -> bool {
        self.has_schema() && self.index().is_some_and(|index| self.verify_alone(index).is_ok())
    }

    /// Whether `schema_version` is the one of this format.
    pub(crate) fn has_schema(&self) -> bool {
        is_quoted(self.value(&self.layout.schema), EVENT_SCHEMA.as_bytes())
    }

    /// Whether `previous_checksum` is this one.
    fn links_to(&self, previous: Option<Checksum>) -> bool {
        let value = self.value(&self.layout.previous);
        match previous {
            None => value == b"null",
            Some(previous) => is_quoted(value, previous.to_text().as_bytes()),
        }
    }

    /// Whether `checksum` is this one.
    pub(super) fn has_checksum(&self, checksum: Checksum) -> bool {
        is_quoted(self.value(&self.layout.checksum), checksum.to_text().as_bytes())
    }

    /// The field `event_index`; `None` if it is not positive or exceeds 64 bits.
    pub(crate) fn index(&self) -> Option<u64> {
        self.value_text(&self.layout.index).parse().ok().filter(|index| *index > 0)
    }

    /// The field `checksum`; `None` if it is not a checksum.
    pub(crate) fn checksum(&self) -> Option<Checksum> {
        Checksum::parse(canonical::unquoted(self.value_text(&self.layout.checksum)))
    }

    /// The field `previous_checksum`; `None` if it is null or not a checksum.
    pub(crate) fn previous_checksum(&self) -> Option<Checksum> {
        Checksum::parse(canonical::unquoted(self.value_text(&self.layout.previous)))
    }

    /// The field `as_of`. 0 if it is not a number, which no event has.
    pub(crate) fn as_of(&self) -> f64 {
        self.value_text(&self.layout.as_of).parse().unwrap_or_default()
    }

    /// The canonical form of the field `as_of`.
    pub(crate) fn as_of_text(&self) -> &[u8] {
        self.value(&self.layout.as_of)
    }

    /// The field `event_type`.
    pub(crate) fn event_type(&self) -> Cow<'_, str> {
        canonical::decode(self.value_text(&self.layout.event_type))
    }

    /// The field `trace_id`.
    pub(crate) fn trace_id(&self) -> Option<Cow<'_, str>> {
        self.layout.trace_id.as_ref().map(|trace| canonical::decode(self.value_text(trace)))
    }

    /// The event. `head` is the one that verifying this line returned.
    pub(crate) fn event(&self, head: Head) -> Option<Event> {
        Some(Event {
            index: head.index,
            event_type: self.event_type().into_owned(),
            as_of: self.value_text(&self.layout.as_of).parse().ok()?,
            payload: Json::from_canonical(self.value_text(&self.layout.payload)),
            previous_checksum: self.previous_checksum(),
            checksum: head.checksum?,
            trace_id: self.trace_id().map(Cow::into_owned),
        })
    }

    /// The canonical form of the whole line, unknown fields included.
    pub(crate) fn canonical(&self) -> &[u8] {
        match &self.unknown {
            Some(unknown) => unknown.canonical.as_bytes(),
            None => &self.bytes,
        }
    }

    /// Whether [`Line::canonical`] is the line as it was read, byte for byte.
    pub(crate) fn is_verbatim(&self) -> bool {
        matches!(self.bytes, Cow::Borrowed(_)) && self.unknown.is_none()
    }

    /// The canonical form without unknown fields.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes that the checksum covers.
    pub(super) fn hashed_parts(&self) -> [&[u8]; 2] {
        self.layout.hashed_parts(&self.bytes)
    }

    fn value(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    fn value_text(&self, range: &Range<usize>) -> &str {
        // Canonical bytes are ASCII.
        std::str::from_utf8(self.value(range)).unwrap_or_default()
    }
}

/// All fields of an event in canonical order. Only the last one is optional.
const FIELDS: [&str; 9] = [
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

/// Checks that every required field is present, and that every field has its type.
fn check_fields(values: &[Option<&str>; FIELDS.len()]) -> Result<(), FaultKind> {
    for (field, value) in FIELDS.into_iter().zip(values) {
        let Some(value) = *value else {
            if field == "trace_id" {
                continue;
            }
            return Err(FaultKind::MissingField(field));
        };
        let kind = canonical::kind(value);
        let (has_type, expected) = match field {
            "as_of" => (canonical::as_f64(value).is_some(), "a number that fits a double"),
            "event_index" => (kind == "an integer", "an integer"),
            "payload" => (value.starts_with('{'), "an object"),
            "previous_checksum" => (value.starts_with('"') || value == "null", "a string or null"),
            _ => (value.starts_with('"'), "a string"),
        };
        if !has_type {
            return Err(FaultKind::WrongField(field, format!("found {kind}, should be {expected}")));
        }
    }
    Ok(())
}

/// Returns the head that a line makes, if it is a valid event by itself.
pub(crate) fn head_of(line: &[u8]) -> Option<Head> {
    let line = Line::read(line).ok()?;
    let index = line.index()?;
    Some(Head { index, checksum: Some(line.verify_alone(index).ok()?) })
}

/// Whether a last line without its line break is truncated, rather than complete and invalid.
/// `None` is a line longer than [`MAX_LINE_BYTES`](crate::MAX_LINE_BYTES), which no complete line
/// is.
pub(crate) fn is_unfinished(bytes: Option<&[u8]>) -> bool {
    match bytes.map(Line::read) {
        None => true,
        Some(Err(kind)) => matches!(kind, FaultKind::NotJson(..) | FaultKind::NotUtf8(_)),
        Some(Ok(_)) => false,
    }
}
