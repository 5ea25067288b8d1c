//! Where the fields of a canonical line are, and the functions that find them.
//!
//! Each `*_end` function returns the offset after the token that begins at `at`, or `None` if no
//! such token begins there.

use std::ops::Range;

use crate::canonical::{is_float, number_end, string_end, value_end};

/// The value of each field of a canonical line, as a range of its bytes.
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

impl Layout {
    /// Finds the fields of a line that is canonical and has exactly the fields of an event, each of
    /// its type. `None` for every other line.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let as_of = member_value(text, 0, br#"{"as_of":"#, float_end)?;
        let checksum = member_value(text, as_of.end, br#","checksum":"#, string_end)?;
        let id = member_value(text, checksum.end, br#","event_id":"#, string_end)?;
        let index = member_value(text, id.end, br#","event_index":"#, integer_end)?;
        let event_type = member_value(text, index.end, br#","event_type":"#, string_end)?;
        let payload = member_value(text, event_type.end, br#","payload":"#, object_end)?;
        let previous = member_value(text, payload.end, br#","previous_checksum":"#, string_or_null_end)?;
        let schema = member_value(text, previous.end, br#","schema_version":"#, string_end)?;
        let trace_id = member_value(text, schema.end, br#","trace_id":"#, string_end);
        let end = trace_id.as_ref().map_or(schema.end, |trace| trace.end);
        if &text[end..] != b"}" {
            return None;
        }
        Some(Self { as_of, checksum, id, index, event_type, payload, previous, schema, trace_id })
    }

    /// The bytes of a line that its checksum covers: all except the member `checksum` and the comma
    /// after it.
    pub(super) fn hashed_parts<'a>(&self, text: &'a [u8]) -> [&'a [u8]; 2] {
        [&text[..self.as_of.end + 1], &text[self.checksum.end + 1..]]
    }
}

/// The value of a member. `key` begins at `at` and includes the punctuation on both sides of the
/// key.
#[inline]
pub(super) fn member_value<const N: usize>(
    text: &[u8],
    at: usize,
    key: &[u8; N],
    end_of_value: impl FnOnce(&[u8], usize) -> Option<usize>,
) -> Option<Range<usize>> {
    let start = at + N;
    // The compiler knows the length, so it compares without calling a function.
    (text.get(at..)?.first_chunk() == Some(key)).then_some(())?;
    end_of_value(text, start).map(|end| start..end)
}

#[inline]
pub(super) fn float_end(text: &[u8], at: usize) -> Option<usize> {
    number_end(text, at).filter(|end| is_float(&text[at..*end]))
}

fn integer_end(text: &[u8], at: usize) -> Option<usize> {
    number_end(text, at).filter(|end| !is_float(&text[at..*end]))
}

#[inline]
pub(super) fn object_end(text: &[u8], at: usize) -> Option<usize> {
    (text.get(at) == Some(&b'{')).then(|| value_end(text, at))?
}

fn string_or_null_end(text: &[u8], at: usize) -> Option<usize> {
    if text[at..].starts_with(b"null") { Some(at + 4) } else { string_end(text, at) }
}

/// Whether a token is this text in quotes.
#[inline]
pub(super) fn is_quoted(token: &[u8], text: &[u8]) -> bool {
    matches!(token, [b'"', quoted @ .., b'"'] if quoted == text)
}
