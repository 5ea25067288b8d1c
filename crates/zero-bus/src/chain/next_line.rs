//! The next-line matcher: the fast path of verification.
//!
//! Once a head is known, nearly every byte of the next line is known too. The matcher passes over a
//! line once, in the canonical order of its members:
//!
//! | part of the line | how it is matched |
//! |---|---|
//! | keys, punctuation, `schema_version` | compared with constants |
//! | `event_id`, `event_index` | compared with [`ExpectedIndex`], which counts up in place |
//! | `previous_checksum` | compared with the bytes of `checksum` in the line before |
//! | `as_of`, `event_type`, `trace_id` | scanned as one canonical number or string |
//! | `payload` | matched with a [`Template`] of its event type, or else fully checked |
//! | `checksum` | skipped by its length, then compared with the computed checksum |
//!
//! Two lines are hashed at a time, since two interleaved SHA-256 computations take little longer
//! than one (see [`PairHasher`]). To read the second line, the matcher trusts the checksum that the
//! first line claims. It verifies that claim before it accepts either line.
//!
//! The matcher never reports a fault. At the first line that differs from the expected one in any
//! way, even if it is a valid event in another spelling, it stops. The caller reads that line with
//! [`Line::read`] and [`Line::verify_after`], and continues with
//! [`NextLineMatcher::restart_after`].
//!
//! Everything that the matcher accepts, the slow path accepts with the same result. The property
//! test in `tests/it/chunks.rs` verifies logs with edited, misspelled and relinked lines both ways
//! and compares.

use std::ops::Range;

use super::layout::{Layout, float_end, is_quoted, member_value, object_end};
use super::line::Line;
use crate::canonical::{Template, string_end, unescaped_string_end};
use crate::checksum::{Checksum, PairHasher};
use crate::event::{EVENT_SCHEMA, MAX_LINE_BYTES, MAX_TYPE_CHARACTERS, event_id};
use crate::head::{Head, write_previous};

/// Lines from this length on are hashed alone: hashing in pairs copies both lines, which then costs
/// more than it saves.
const MIN_HASHED_ALONE_BYTES: usize = 64 << 10;

/// Matches the lines after a head.
pub(crate) struct NextLineMatcher {
    /// The head after the last accepted line.
    head: Head,
    /// The index of the next line. Like `expected_previous`, it moves on as soon as a line is read,
    /// before its checksum is verified. So both are stale after a line is rejected, until
    /// `restart_after`.
    expected_index: ExpectedIndex,
    /// The value of `previous_checksum` in the next line, quotes included.
    expected_previous: Vec<u8>,
    templates: PayloadTemplates,
    hasher: PairHasher,
}

impl NextLineMatcher {
    /// A matcher for the lines after `head`.
    pub(crate) fn after(head: Head) -> Self {
        Self {
            head,
            expected_index: ExpectedIndex::after(head.index),
            expected_previous: previous_value(head),
            templates: PayloadTemplates::default(),
            hasher: PairHasher::default(),
        }
    }

    /// Continues after another head, and keeps the payload templates.
    pub(crate) fn restart_after(&mut self, head: Head) {
        self.head = head;
        self.expected_index = ExpectedIndex::after(head.index);
        self.expected_previous = previous_value(head);
    }

    /// Matches as many of the given lines as it can, each with its line break, and returns their
    /// bytes. `accept` gets each verified line with the head after it; if it returns `false`, the
    /// line is left unmatched.
    ///
    /// If fewer bytes than given were matched, the caller must call
    /// [`NextLineMatcher::restart_after`] before the next call.
    pub(crate) fn match_lines(
        &mut self,
        lines: &[u8],
        mut accept: impl FnMut(Head, &Line<'_>) -> bool,
    ) -> usize {
        let mut at = 0;
        while let Some(first) = self.read(&lines[at..]) {
            let second = self.read(&lines[at + first.bytes().len() + 1..]);
            let hash_alone = |line: &Line<'_>| Checksum::of_parts(line.hashed_parts());
            let checksums = match &second {
                Some(second) if first.bytes().len().max(second.bytes().len()) < MIN_HASHED_ALONE_BYTES => {
                    self.hasher.hash(first.hashed_parts(), second.hashed_parts())
                }
                Some(second) => [hash_alone(&first), hash_alone(second)],
                None => [hash_alone(&first); 2],
            };
            for (line, checksum) in [Some(&first), second.as_ref()].into_iter().flatten().zip(checksums) {
                let Some(index) = self.head.index.checked_add(1) else { return at };
                let head = Head { index, checksum: Some(checksum) };
                if !line.has_checksum(checksum) || !accept(head, line) {
                    return at;
                }
                self.head = head;
                at += line.bytes().len() + 1;
            }
        }
        at
    }

    /// Reads the first of the given lines if it is the expected one. Does not verify its checksum,
    /// but expects the line after it from then on.
    fn read<'a>(&mut self, lines: &'a [u8]) -> Option<Line<'a>> {
        let as_of = member_value(lines, 0, br#"{"as_of":"#, float_end)?;
        // `match_lines` compares everything between the quotes with the computed checksum.
        let checksum = member_value(lines, as_of.end, br#","checksum":"#, |lines, at| {
            const QUOTED_BYTES: usize = Checksum::TEXT_BYTES + 2;
            (lines.get(at + QUOTED_BYTES - 1) == Some(&b'"')).then_some(at + QUOTED_BYTES)
        })?;
        let [id, index] = self.expected_index.match_at(lines, checksum.end)?;
        let event_type = member_value(lines, index.end, br#","event_type":"#, unescaped_string_end)?;
        let payload = member_value(lines, event_type.end, br#","payload":"#, |lines, at| {
            self.templates.payload_end(&lines[event_type.clone()], lines, at)
        })?;
        let previous = member_value(lines, payload.end, br#","previous_checksum":"#, |lines, at| {
            lines[at..].starts_with(&self.expected_previous).then_some(at + self.expected_previous.len())
        })?;
        let schema = member_value(lines, previous.end, br#","schema_version":"#, |lines, at| {
            let end = at + EVENT_SCHEMA.len() + 2;
            is_quoted(lines.get(at..end)?, EVENT_SCHEMA.as_bytes()).then_some(end)
        })?;
        let trace_id = member_value(lines, schema.end, br#","trace_id":"#, string_end);
        let end = trace_id.as_ref().map_or(schema.end, |trace| trace.end) + 1;
        // Lengths of strings include their quotes.
        let is_expected = event_type.len() > 2
            && event_type.len() <= MAX_TYPE_CHARACTERS + 2
            && trace_id.as_ref().is_none_or(|trace| trace.len() > 2)
            && end <= MAX_LINE_BYTES
            && lines[end - 1..].starts_with(b"}\n");
        if !is_expected {
            return None;
        }
        self.expected_index.advance();
        self.expected_previous.clear();
        self.expected_previous.extend_from_slice(&lines[checksum.clone()]);
        let layout = Layout { as_of, checksum, id, index, event_type, payload, previous, schema, trace_id };
        Some(Line::from_layout(&lines[..end], layout))
    }
}

/// The value of `previous_checksum` in the line after a head.
fn previous_value(head: Head) -> Vec<u8> {
    let mut value = String::new();
    write_previous(head.checksum, &mut value);
    value.into_bytes()
}

/// The members `event_id` and `event_index` of the next line, as text.
struct ExpectedIndex {
    next: u64,
    /// `,"event_id":"evt-000000000042","event_index":42`
    text: Vec<u8>,
    /// The values of both members in `text`.
    id: Range<usize>,
    index: Range<usize>,
}

impl ExpectedIndex {
    fn after(index: u64) -> Self {
        // At the largest index `match_lines` stops before it accepts a line, so saturating is safe.
        let next = index.saturating_add(1);
        let id = format!(r#""{}""#, event_id(next));
        let text = format!(r#","event_id":{id},"event_index":{next}"#).into_bytes();
        let id_begin = r#","event_id":"#.len();
        let id_end = id_begin + id.len();
        let index_begin = id_end + r#","event_index":"#.len();
        Self { next, id: id_begin..id_end, index: index_begin..text.len(), text }
    }

    /// The values of both members in a line, if the members begin at `at` and have the expected
    /// values.
    fn match_at(&self, line: &[u8], at: usize) -> Option<[Range<usize>; 2]> {
        line.get(at..)?
            .starts_with(&self.text)
            .then(|| [at + self.id.start..at + self.id.end, at + self.index.start..at + self.index.end])
    }

    /// Moves to the next index. Increments the digits in place, unless a number grows by a digit.
    fn advance(&mut self) {
        self.next = self.next.saturating_add(1);
        let id_digits = self.id.start..self.id.end - 1;
        let in_place = increment_decimal(&mut self.text[id_digits])
            && increment_decimal(&mut self.text[self.index.clone()]);
        if !in_place {
            *self = Self::after(self.next - 1);
        }
    }
}

/// Adds one to the decimal number that ends the text. Returns `false` if it needs one more digit;
/// the digits are then invalid.
fn increment_decimal(text: &mut [u8]) -> bool {
    for digit in text.iter_mut().rev() {
        match digit {
            b'0'..=b'8' => {
                *digit += 1;
                return true;
            }
            b'9' => *digit = b'0',
            _ => return false,
        }
    }
    false
}

/// One payload template per event type: that of the newest payload which did not match the one
/// before.
#[derive(Default)]
struct PayloadTemplates {
    by_type: Vec<TypeTemplate>,
}

struct TypeTemplate {
    /// The value of `event_type`, quotes included.
    event_type: Vec<u8>,
    template: Option<Template>,
    /// How many more templates may be built for this type. At zero there is none any more.
    rebuilds_left: u32,
}

impl PayloadTemplates {
    const MAX_EVENT_TYPES: usize = 16;
    /// A type whose payloads keep changing their structure gains nothing from templates, so
    /// building them stops.
    const MAX_REBUILDS: u32 = 16;

    /// The end of the canonical object that begins at `at`: by the template of its event type, or
    /// else by the full check, whose result becomes the new template.
    fn payload_end(&mut self, event_type: &[u8], text: &[u8], at: usize) -> Option<usize> {
        let position = self.by_type.iter().position(|entry| entry.event_type == event_type);
        let template = position.and_then(|position| self.by_type[position].template.as_ref());
        if let Some(end) = template.and_then(|template| template.match_end(text, at)) {
            return Some(end);
        }
        let end = object_end(text, at)?;
        let entry = match position {
            Some(position) => &mut self.by_type[position],
            None if self.by_type.len() < Self::MAX_EVENT_TYPES => {
                let event_type = event_type.to_owned();
                self.by_type.push(TypeTemplate {
                    event_type,
                    template: None,
                    rebuilds_left: Self::MAX_REBUILDS,
                });
                self.by_type.last_mut()?
            }
            None => return Some(end),
        };
        entry.rebuilds_left = entry.rebuilds_left.saturating_sub(1);
        entry.template = if entry.rebuilds_left > 0 { Template::of(&text[at..end]) } else { None };
        Some(end)
    }
}
