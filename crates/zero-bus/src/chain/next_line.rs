//! The lines behind a head, as long as each is just what must come next: spelled as every writer of this format spells it,
//! with the index, the id and the link that its place asks for. That is nearly all there is to say of nearly all lines, so
//! most of a line is compared with what it must be instead of being read, and two are hashed at a time.
//!
//! A line that is anything else is left to [`Line::read`] and [`Line::follows`], which know what to call it.

use std::ops::Range;

use super::line::{Layout, Line, float, is_quoted, object, token};
use super::{Head, write_previous};
use crate::canonical::{Template, scan};
use crate::checksum::{Checksum, Pair};
use crate::event::{EVENT_SCHEMA, MAX_LINE_BYTES, MAX_TYPE_CHARACTERS, event_id};

/// Bytes of a line from which on it is hashed by itself: two that are hashed together are copied.
const LONG: usize = 64 << 10;

/// What must come behind a head.
pub(crate) struct NextLineMatcher {
    head: Head,
    /// What the next line must say of its place, and then name as the checksum before it.
    place: Place,
    named: Vec<u8>,
    shapes: Shapes,
    pair: Pair,
}

impl NextLineMatcher {
    pub(crate) fn behind(head: Head) -> Self {
        let (place, named) = (Place::behind(head.index), named(head));
        Self { head, place, named, shapes: Shapes::default(), pair: Pair::default() }
    }

    /// Goes on behind another head, with what it knows of payloads.
    pub(crate) fn go_to(&mut self, head: Head) {
        (self.head, self.place, self.named) = (head, Place::behind(head.index), named(head));
    }

    /// Goes through whole lines, as far as they are what must come next and `each` says yes to them. Gives their bytes; if
    /// those are not all, it is to be [led on](NextLineMatcher::go_to).
    pub(crate) fn judge(&mut self, lines: &[u8], mut each: impl FnMut(Head, &Line<'_>) -> bool) -> usize {
        let mut at = 0;
        while let Some(first) = self.read(&lines[at..]) {
            // What the second names is what the first only says of itself so far, so their hashes need not wait.
            let second = self.read(&lines[at + first.bytes().len() + 1..]);
            let alone = |line: &Line<'_>| Checksum::of_parts(line.hashed());
            let checksums = match &second {
                Some(second) if first.bytes().len().max(second.bytes().len()) < LONG => {
                    self.pair.of(first.hashed(), second.hashed())
                }
                Some(second) => [alone(&first), alone(second)],
                None => [alone(&first); 2],
            };
            for (line, checksum) in [Some(&first), second.as_ref()].into_iter().flatten().zip(checksums) {
                let Some(index) = self.head.index.checked_add(1) else { return at };
                let head = Head { index, checksum: Some(checksum) };
                if !line.says_it_is(checksum) || !each(head, line) {
                    return at;
                }
                self.head = head;
                at += line.bytes().len() + 1;
            }
        }
        at
    }

    /// Reads the first of some whole lines, if it is what must come next but for its checksum, and goes on to what must
    /// come behind it.
    fn read<'a>(&mut self, lines: &'a [u8]) -> Option<Line<'a>> {
        let as_of = token(lines, 0, br#"{"as_of":"#, float)?;
        // What is between the quotes will be compared with what it must be.
        let checksum = token(lines, as_of.end, br#","checksum":"#, |lines, at| {
            const QUOTED: usize = Checksum::SPELLED_BYTES + 2;
            (lines.get(at + QUOTED - 1) == Some(&b'"')).then_some(at + QUOTED)
        })?;
        let [id, index] = self.place.find(lines, checksum.end)?;
        let event_type = token(lines, index.end, br#","event_type":"#, scan::plain_string)?;
        let payload = token(lines, event_type.end, br#","payload":"#, |lines, at| {
            self.shapes.payload(&lines[event_type.clone()], lines, at)
        })?;
        let previous = token(lines, payload.end, br#","previous_checksum":"#, |lines, at| {
            lines[at..].starts_with(&self.named).then_some(at + self.named.len())
        })?;
        let schema = token(lines, previous.end, br#","schema_version":"#, |lines, at| {
            let end = at + EVENT_SCHEMA.len() + 2;
            is_quoted(lines.get(at..end)?, EVENT_SCHEMA.as_bytes()).then_some(end)
        })?;
        let trace_id = token(lines, schema.end, br#","trace_id":"#, scan::string);
        let end = trace_id.as_ref().map_or(schema.end, |trace| trace.end) + 1;
        let is_plain = event_type.len() > 2
            && event_type.len() <= MAX_TYPE_CHARACTERS + 2
            && trace_id.as_ref().is_none_or(|trace| trace.len() > 2)
            && end <= MAX_LINE_BYTES
            && lines[end - 1..].starts_with(b"}\n");
        if !is_plain {
            return None;
        }
        self.place.go_on();
        self.named.clear();
        self.named.extend_from_slice(&lines[checksum.clone()]);
        let layout = Layout { as_of, checksum, id, index, event_type, payload, previous, schema, trace_id };
        Some(Line::laid_out(&lines[..end], layout))
    }
}

/// The checksum of a head as a line names it.
fn named(head: Head) -> Vec<u8> {
    let mut named = String::new();
    write_previous(head.checksum, &mut named);
    named.into_bytes()
}

/// The members `event_id` and `event_index` of the next line.
struct Place {
    text: Vec<u8>,
    id: Range<usize>,
    index: Range<usize>,
    next: u64,
}

impl Place {
    fn behind(index: u64) -> Self {
        // No line gets as far as the last index there is.
        let next = index.saturating_add(1);
        let id = format!(r#""{}""#, event_id(next));
        let text = format!(r#","event_id":{id},"event_index":{next}"#).into_bytes();
        let begin = r#","event_id":"#.len();
        let index = begin + id.len() + r#","event_index":"#.len()..text.len();
        Self { id: begin..begin + id.len(), index, text, next }
    }

    /// Where the values of both members stand in a line, if they stand at a place and are these.
    fn find(&self, line: &[u8], at: usize) -> Option<[Range<usize>; 2]> {
        line.get(at..)?
            .starts_with(&self.text)
            .then(|| [at + self.id.start..at + self.id.end, at + self.index.start..at + self.index.end])
    }

    /// Counts on, in place: as nearly every time both numbers keep their lengths.
    fn go_on(&mut self) {
        self.next = self.next.saturating_add(1);
        let counted = count_on(&mut self.text[self.id.start..self.id.end - 1]);
        if !(counted && count_on(&mut self.text[self.index.clone()])) {
            *self = Self::behind(self.next - 1);
        }
    }
}

/// Adds one to a decimal number; `false` where it would need another digit, or there is something else before it.
fn count_on(digits: &mut [u8]) -> bool {
    for digit in digits.iter_mut().rev() {
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

/// Payloads as they were found before: most are of the shape that the last one of an event of their type had.
#[derive(Default)]
struct Shapes {
    known: Vec<Known>,
}

struct Known {
    event_type: Vec<u8>,
    shape: Option<Template>,
    /// How often another one is still taken in its place.
    patience: u32,
}

impl Shapes {
    /// How many types it keeps, and how often it takes another shape for one, which costs more than it may bring.
    const MOST: usize = 16;
    const PATIENCE: u32 = 16;

    /// The end of the canonical object that begins at a place and is an event's payload.
    fn payload(&mut self, event_type: &[u8], text: &[u8], at: usize) -> Option<usize> {
        let nth = self.known.iter().position(|known| known.event_type == event_type);
        let shape = nth.and_then(|nth| self.known[nth].shape.as_ref());
        if let Some(end) = shape.and_then(|shape| shape.find(text, at)) {
            return Some(end);
        }
        let end = object(text, at)?;
        let known = match nth {
            Some(nth) => &mut self.known[nth],
            None if self.known.len() < Self::MOST => {
                let event_type = event_type.to_owned();
                self.known.push(Known { event_type, shape: None, patience: Self::PATIENCE });
                self.known.last_mut()?
            }
            None => return Some(end),
        };
        // Where there are too many shapes, none is looked for any more.
        known.patience = known.patience.saturating_sub(1);
        known.shape = if known.patience > 0 { Template::of(&text[at..end]) } else { None };
        Some(end)
    }
}
