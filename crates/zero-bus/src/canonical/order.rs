//! Canonical text whose members come in whatever order they come in, and are put in order in the end.

use std::cmp::Ordering;
use std::ops::Range;

use super::scan;

/// A text that is being written.
pub(super) struct Form {
    /// Everything written so far, canonical but for the order of members.
    pub(super) text: String,
    /// Where in it the members begin of the objects that are being written, one object's behind the other's.
    members: Vec<usize>,
    unordered: Vec<Unordered>,
}

/// An object that is being written.
pub(super) struct Object {
    /// Where it begins.
    begin: usize,
    /// How many members of the objects around it were begun before it.
    around: usize,
    /// Where the key of the member stands that was begun last; nowhere yet.
    key: Range<usize>,
    in_order: bool,
}

/// An object whose members did not come in the order of their keys, or not each of them once.
struct Unordered {
    begin: usize,
    end: usize,
    /// Where each of its members begins.
    members: Vec<usize>,
}

impl Form {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), members: Vec::new(), unordered: Vec::new() }
    }

    /// Begins an object.
    pub(super) fn open(&mut self) -> Object {
        let begin = self.text.len();
        self.text.push('{');
        Object { begin, around: self.members.len(), key: 0..0, in_order: true }
    }

    /// Begins a member, whose key was just written and begins at a place.
    pub(super) fn name(&mut self, object: &mut Object, begin: usize) {
        let key = begin..self.text.len();
        let spelled = |key: &Range<usize>| &self.text[key.clone()];
        if !object.is_empty() {
            object.in_order &= scan::compare_quoted(spelled(&object.key), spelled(&key)).is_lt();
        }
        self.members.push(begin);
        object.key = key;
    }

    pub(super) fn close(&mut self, object: Object) {
        self.text.push('}');
        if object.in_order {
            self.members.truncate(object.around);
        } else {
            let (begin, end) = (object.begin, self.text.len());
            let members = self.members.split_off(object.around);
            self.unordered.push(Unordered { begin, end, members });
        }
    }

    /// The text with the members of every object in order; of those of one key the last. Costs one more text where there is
    /// anything to do, each part of which is copied once, however deep it stands.
    pub(super) fn finish(self) -> String {
        let Self { text, mut unordered, .. } = self;
        if unordered.is_empty() {
            return text;
        }
        unordered.sort_unstable_by_key(|object| object.begin);
        let mut ordered = String::with_capacity(text.len());
        copy(&text, &unordered, 0..text.len(), &mut ordered);
        ordered
    }
}

impl Object {
    /// Whether no member was begun yet.
    pub(super) fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    /// Where the key of the last member stands.
    pub(super) fn key(&self) -> Range<usize> {
        self.key.clone()
    }
}

/// Copies a part of the text, and puts in order what begins in it. Goes as deep as the text nests.
fn copy(text: &str, unordered: &[Unordered], part: Range<usize>, out: &mut String) {
    let mut at = part.start;
    let next = |at| unordered.get(unordered.partition_point(|object| object.begin < at));
    while let Some(object) = next(at).filter(|object| object.begin < part.end) {
        out.push_str(&text[at..=object.begin]);
        // Behind each member stands one byte, a comma or the bracket.
        let ends = object.members[1..].iter().copied().chain([object.end]);
        let mut members: Vec<_> =
            object.members.iter().zip(ends).map(|(begin, end)| *begin..end - 1).collect();
        // Stable, so that the last of one key stays the last.
        members.sort_by(|left, right| compare(text, left, right));
        let mut is_first = true;
        for (position, member) in members.iter().enumerate() {
            if members.get(position + 1).is_some_and(|next| compare(text, member, next) == Ordering::Equal) {
                continue;
            }
            if !is_first {
                out.push(',');
            }
            is_first = false;
            copy(text, unordered, member.clone(), out);
        }
        out.push('}');
        at = object.end;
    }
    out.push_str(&text[at..part.end]);
}

/// Two members by their keys.
fn compare(text: &str, left: &Range<usize>, right: &Range<usize>) -> Ordering {
    let key = |member: &Range<usize>| {
        let end = scan::string(text.as_bytes(), member.start).unwrap_or(member.end);
        &text[member.start..end]
    };
    scan::compare_quoted(key(left), key(right))
}
