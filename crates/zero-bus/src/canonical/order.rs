//! Canonical text but for the order of some objects' members: put in order here.

use std::cmp::Ordering;
use std::ops::Range;

use super::scan;

/// An object whose members do not come in the order of their keys, or not each of them once.
pub(super) struct Unordered {
    /// Where it begins and ends in the text.
    pub(super) begin: usize,
    pub(super) end: usize,
    /// Where each of its members begins.
    pub(super) members: Vec<usize>,
}

/// The text with the members of every object in order; of those of one key the last. Costs one more text where there is
/// anything to do, each part of which is copied once, however deep it stands.
pub(super) fn put_in_order(text: String, mut unordered: Vec<Unordered>) -> String {
    if unordered.is_empty() {
        return text;
    }
    unordered.sort_unstable_by_key(|object| object.begin);
    let mut ordered = String::with_capacity(text.len());
    copy(&text, &unordered, 0..text.len(), &mut ordered);
    ordered
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
        &text.as_bytes()[member.start..end]
    };
    scan::compare_quoted(key(left), key(right))
}
