//! Builds canonical text from members in any order: they are written as they arrive, and sorted at
//! the end if necessary.

use std::cmp::Ordering;
use std::ops::Range;

use super::string::{compare_quoted, string_end};

/// A canonical text under construction.
pub(super) struct Builder {
    /// Everything written so far, canonical except for the order of members.
    pub(super) text: String,
    /// Offsets of the members of all open objects, outer objects first.
    members: Vec<usize>,
    unsorted: Vec<UnsortedObject>,
}

/// An object whose end has not been written yet.
pub(super) struct OpenObject {
    /// Offset of its bracket.
    begin: usize,
    /// Length of [`Builder::members`] when the object began: the members of the objects around it.
    outer_members: usize,
    /// The key of the newest member; empty before the first one.
    key: Range<usize>,
    is_sorted: bool,
}

/// A complete object with keys that are repeated or out of order.
struct UnsortedObject {
    begin: usize,
    end: usize,
    /// Offset of each member.
    members: Vec<usize>,
}

impl Builder {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), members: Vec::new(), unsorted: Vec::new() }
    }

    pub(super) fn begin_object(&mut self) -> OpenObject {
        let begin = self.text.len();
        self.text.push('{');
        OpenObject { begin, outer_members: self.members.len(), key: 0..0, is_sorted: true }
    }

    /// Registers a member. The caller has written its key, which begins at `begin` and ends the
    /// text.
    pub(super) fn add_member(&mut self, object: &mut OpenObject, begin: usize) {
        let key = begin..self.text.len();
        let text = |key: &Range<usize>| &self.text[key.clone()];
        if !object.is_empty() {
            object.is_sorted &= compare_quoted(text(&object.key), text(&key)).is_lt();
        }
        self.members.push(begin);
        object.key = key;
    }

    pub(super) fn end_object(&mut self, object: OpenObject) {
        self.text.push('}');
        if object.is_sorted {
            self.members.truncate(object.outer_members);
        } else {
            let (begin, end) = (object.begin, self.text.len());
            let members = self.members.split_off(object.outer_members);
            self.unsorted.push(UnsortedObject { begin, end, members });
        }
    }

    /// The text with the members of every object sorted; of members with the same key the last one
    /// wins.
    ///
    /// If everything is sorted already, the text is returned as it is. Otherwise it is copied once
    /// into a second text, each byte at most once, however deep it is nested.
    pub(super) fn finish(self) -> String {
        let Self { text, mut unsorted, .. } = self;
        if unsorted.is_empty() {
            return text;
        }
        unsorted.sort_unstable_by_key(|object| object.begin);
        let mut sorted = String::with_capacity(text.len());
        copy_sorted(&text, &unsorted, 0..text.len(), &mut sorted);
        sorted
    }
}

impl OpenObject {
    /// Whether no member was added yet.
    pub(super) fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    /// The key of the newest member, as a range of [`Builder::text`].
    pub(super) fn key(&self) -> Range<usize> {
        self.key.clone()
    }
}

/// Copies a part of the text and sorts the objects that begin in it. Recurses as deep as the text
/// nests.
fn copy_sorted(text: &str, unsorted: &[UnsortedObject], part: Range<usize>, out: &mut String) {
    let mut at = part.start;
    let next_unsorted = |at| unsorted.get(unsorted.partition_point(|object| object.begin < at));
    while let Some(object) = next_unsorted(at).filter(|object| object.begin < part.end) {
        out.push_str(&text[at..=object.begin]);
        // Each member is followed by one byte, a comma or the closing bracket.
        let ends = object.members[1..].iter().copied().chain([object.end]);
        let mut members: Vec<_> =
            object.members.iter().zip(ends).map(|(begin, end)| *begin..end - 1).collect();
        // The sort is stable, so the last member of a key stays the last.
        members.sort_by(|left, right| compare_keys(text, left, right));
        let mut is_first = true;
        for (position, member) in members.iter().enumerate() {
            let is_repeated = |next| compare_keys(text, member, next) == Ordering::Equal;
            if members.get(position + 1).is_some_and(is_repeated) {
                continue;
            }
            if !is_first {
                out.push(',');
            }
            is_first = false;
            copy_sorted(text, unsorted, member.clone(), out);
        }
        out.push('}');
        at = object.end;
    }
    out.push_str(&text[at..part.end]);
}

/// Compares two members by their keys.
fn compare_keys(text: &str, left: &Range<usize>, right: &Range<usize>) -> Ordering {
    let key = |member: &Range<usize>| {
        let end = string_end(text.as_bytes(), member.start).unwrap_or(member.end);
        &text[member.start..end]
    };
    compare_quoted(key(left), key(right))
}
