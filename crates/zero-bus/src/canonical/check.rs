//! Is this text canonical already? The check builds nothing, so lines of a log, which nearly always
//! are canonical, are checked at reading speed.

use std::cmp::Ordering;

use super::error::MAX_DEPTH;
use super::number::number_end;
use super::string::{compare_unquoted, string_end, string_end_and_escaped};

/// The offset after the canonical value that begins at `at`; `None` if no canonical value begins
/// there.
///
/// Agrees with the parser: `value_end(text, 0) == Some(text.len())` exactly if `Json::parse(text)`
/// returns `text` unchanged. Property tests compare the two.
pub(crate) fn value_end(text: &[u8], at: usize) -> Option<usize> {
    value_end_at_depth(text, at, 0)
}

/// As [`value_end`], for a value inside `depth` arrays and objects.
pub(super) fn value_end_at_depth(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    match *text.get(at)? {
        b'"' => string_end(text, at),
        b'{' => object_end(text, at, depth + 1),
        b'[' => array_end(text, at, depth + 1),
        b'-' | b'0'..=b'9' => number_end(text, at),
        b'n' => word_end(text, at, b"null"),
        b't' => word_end(text, at, b"true"),
        b'f' => word_end(text, at, b"false"),
        _ => None,
    }
}

fn word_end(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text[at..].starts_with(word).then_some(at + word.len())
}

fn array_end(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut at = at + 1;
    if text.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = value_end_at_depth(text, at, depth)?;
        match *text.get(at)? {
            b',' => at += 1,
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn object_end(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut at = at + 1;
    if text.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    let mut previous: Option<(&[u8], bool)> = None;
    loop {
        let (key_end, escaped) = string_end_and_escaped(text, at)?;
        let key = &text[at + 1..key_end - 1];
        if let Some((previous, previous_escaped)) = previous {
            let ascends = match (previous.first(), key.first()) {
                _ if escaped || previous_escaped => compare_unquoted(previous, key) == Ordering::Less,
                // The first bytes usually differ, which saves a call.
                (Some(previous_first), Some(first)) if previous_first != first => previous_first < first,
                _ => previous < key,
            };
            if !ascends {
                return None;
            }
        }
        previous = Some((key, escaped));
        if text.get(key_end) != Some(&b':') {
            return None;
        }
        at = value_end_at_depth(text, key_end + 1, depth)?;
        match *text.get(at)? {
            b',' => at += 1,
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}
