//! Is this text canonical already? Answers without building anything, so that the lines of a log, which
//! nearly always are, can be checked at the speed of reading them.

use std::cmp::Ordering;

use super::parse::MAX_DEPTH;
use super::write;

/// The end of the canonical value that begins at `at`; `None` where there is none. Agrees with the parser:
/// `value(text) == text.len()` exactly where `Json::parse(text)` gives back `text`.
pub(crate) fn value(text: &[u8], at: usize) -> Option<usize> {
    nested(text, at, 0)
}

/// The end of the canonical value that this text begins with, where it stands inside of `depth` others.
pub(super) fn inside(text: &[u8], depth: usize) -> Option<usize> {
    nested(text, 0, depth)
}

/// The end of the canonical string that begins at `at`, both quotes included.
pub(crate) fn string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at = escape(text, at)?,
            b' '..=b'~' => at += 1,
            _ => return None,
        }
    }
}

fn nested(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    match *text.get(at)? {
        b'"' => string(text, at),
        b'{' => object(text, at, depth + 1),
        b'[' => array(text, at, depth + 1),
        b'-' | b'0'..=b'9' => number(text, at),
        b'n' => word(text, at, b"null"),
        b't' => word(text, at, b"true"),
        b'f' => word(text, at, b"false"),
        _ => None,
    }
}

fn word(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text[at..].starts_with(word).then_some(at + word.len())
}

fn array(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut at = at + 1;
    if text.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = nested(text, at, depth)?;
        match *text.get(at)? {
            b',' => at += 1,
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn object(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut at = at + 1;
    if text.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    let mut previous: Option<&[u8]> = None;
    loop {
        let key_end = string(text, at)?;
        let key = &text[at + 1..key_end - 1];
        if previous.is_some_and(|previous| compare_keys(previous, key) != Ordering::Less) {
            return None;
        }
        previous = Some(key);
        if text.get(key_end) != Some(&b':') {
            return None;
        }
        at = nested(text, key_end + 1, depth)?;
        match *text.get(at)? {
            b',' => at += 1,
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// By code point, of two strings in their canonical spelling.
fn compare_keys(left: &[u8], right: &[u8]) -> Ordering {
    if !left.contains(&b'\\') && !right.contains(&b'\\') {
        return left.cmp(right);
    }
    Characters(left).cmp(Characters(right))
}

/// The code points of a string in canonical spelling.
struct Characters<'a>(&'a [u8]);

impl Iterator for Characters<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (&first, rest) = self.0.split_first()?;
        if first != b'\\' {
            self.0 = rest;
            return Some(u32::from(first));
        }
        let (&kind, rest) = rest.split_first()?;
        self.0 = rest;
        Some(match kind {
            b'b' => 0x8,
            b't' => 0x9,
            b'n' => 0xa,
            b'f' => 0xc,
            b'r' => 0xd,
            b'u' => {
                let high = hex(rest.get(..4)?)?;
                self.0 = &rest[4..];
                if !(0xd800..0xdc00).contains(&high) {
                    return Some(high);
                }
                let low = hex(self.0.get(2..6)?)?;
                self.0 = &self.0[6..];
                0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            other => u32::from(other),
        })
    }
}

/// The end of an escape that is the one its character has.
fn escape(text: &[u8], at: usize) -> Option<usize> {
    match *text.get(at + 1)? {
        b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => {
            let unit = hex(text.get(at + 2..at + 6)?)?;
            match unit {
                0x8 | 0x9 | 0xa | 0xc | 0xd | 0x20..=0x7e | 0xdc00..=0xdfff => None,
                0xd800..=0xdbff => {
                    let low = text.get(at + 6..at + 12)?;
                    let unit = hex(low.strip_prefix(b"\\u")?)?;
                    (0xdc00..=0xdfff).contains(&unit).then_some(at + 12)
                }
                _ => Some(at + 6),
            }
        }
        _ => None,
    }
}

/// Lower-case hex digits.
fn hex(digits: &[u8]) -> Option<u32> {
    let mut code = 0;
    for digit in digits {
        code = code * 16
            + match digit {
                b'0'..=b'9' => u32::from(digit - b'0'),
                b'a'..=b'f' => u32::from(digit - b'a') + 10,
                _ => return None,
            };
    }
    Some(code)
}

/// The end of a number in its canonical spelling.
pub(crate) fn number(text: &[u8], at: usize) -> Option<usize> {
    let length = text[at..]
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'))
        .unwrap_or(text.len() - at);
    let spelled = &text[at..at + length];
    let digits = spelled.strip_prefix(b"-").unwrap_or(spelled);
    let canonical = if digits.iter().all(u8::is_ascii_digit) {
        match digits {
            [] => false,
            [b'0'] => spelled.len() == 1,
            [first, ..] => *first != b'0',
        }
    } else {
        is_canonical_float(spelled)
    };
    canonical.then_some(at + length)
}

/// Whether this is how the double that it spells is written.
fn is_canonical_float(spelled: &[u8]) -> bool {
    let Ok(spelled) = std::str::from_utf8(spelled) else { return false };
    let Ok(number) = spelled.parse::<f64>() else { return false };
    if !number.is_finite() {
        return false;
    }
    let mut form = String::with_capacity(32);
    write::float(number, &mut form);
    form == spelled
}
