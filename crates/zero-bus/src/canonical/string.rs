//! Canonical strings: writing, recognizing, comparing and decoding them.
//!
//! A canonical string is printable ASCII in quotes. Every other character has exactly one spelling:
//! its short escape if it has one, otherwise `\uXXXX` in lower case, as a surrogate pair above
//! U+FFFF.
//!
//! Each `*_end` function returns the offset after the token that begins at `at`, or `None` if no
//! such token begins there. Recognizing builds nothing.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Appends a text as a canonical string.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    write_unquoted(text, out);
    out.push('"');
}

/// Appends the part of a canonical string between its quotes.
pub(super) fn write_unquoted(text: &str, out: &mut String) {
    let mut rest = text;
    loop {
        let (special, _) = plain_run(rest.as_bytes(), 0);
        out.push_str(&rest[..special]);
        // `special` is a character boundary: everything before it is ASCII.
        let Some(character) = rest[special..].chars().next() else { break };
        write_escape(character, out);
        rest = &rest[special + character.len_utf8()..];
    }
}

fn write_escape(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    out.push(char::from(HEX[usize::from(*unit >> shift) & 15]));
                }
            }
        }
    }
}

/// The end of a canonical string, both quotes included.
#[inline]
pub(crate) fn string_end(text: &[u8], at: usize) -> Option<usize> {
    string_end_and_escaped(text, at).map(|(end, _)| end)
}

/// The end of a canonical string that contains no escape.
#[inline]
pub(crate) fn unescaped_string_end(text: &[u8], at: usize) -> Option<usize> {
    string_end_and_escaped(text, at).filter(|(_, escaped)| !escaped).map(|(end, _)| end)
}

/// The end of a canonical string, and whether it contains an escape.
#[inline]
pub(super) fn string_end_and_escaped(text: &[u8], at: usize) -> Option<(usize, bool)> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let (mut at, mut closed) = plain_run(text, at + 1);
    let mut escaped = false;
    while !closed {
        if text.get(at) != Some(&b'\\') {
            return None;
        }
        escaped = true;
        (at, closed) = plain_run(text, escape_end(text, at)?);
    }
    Some((at + 1, escaped))
}

/// Skips bytes that are their own canonical spelling: printable ASCII except quote and backslash.
/// Returns where the run ends, and whether a quote ends it.
///
/// Tests eight bytes at a time. The bit tricks find the bytes of a word that equal or exceed a
/// value (Mycroft 1987; Warren, Hacker's Delight, 6-1).
#[inline]
fn plain_run(text: &[u8], mut at: usize) -> (usize, bool) {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH_BITS;
        let quotes = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let backslashes = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        // A byte above `~` is 0x7f or has its high bit set; adding 1 sets the high bit of both.
        let above_tilde = word.wrapping_add(ONES) | word;
        // Borrows and carries only travel upwards, so the first hit is exact and later ones may not
        // be.
        let hits = quotes | backslashes | ((below_space | above_tilde) & HIGH_BITS);
        if hits != 0 {
            let first = hits & hits.wrapping_neg();
            return (at + hits.trailing_zeros() as usize / 8, quotes & first != 0);
        }
        at += 8;
    }
    loop {
        match text.get(at) {
            Some(b'"') => return (at, true),
            Some(b' '..=b'~') if text[at] != b'\\' => at += 1,
            _ => return (at, false),
        }
    }
}

/// The end of an escape that is the canonical spelling of its character.
fn escape_end(text: &[u8], at: usize) -> Option<usize> {
    match *text.get(at + 1)? {
        b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => {
            let unit = hex_unit(text.get(at + 2..at + 6)?)?;
            match unit {
                // These have a shorter spelling, or are a low surrogate without its high one.
                0x8 | 0x9 | 0xa | 0xc | 0xd | 0x20..=0x7e | 0xdc00..=0xdfff => None,
                0xd800..=0xdbff => {
                    let low = text.get(at + 6..at + 12)?;
                    let unit = hex_unit(low.strip_prefix(b"\\u")?)?;
                    (0xdc00..=0xdfff).contains(&unit).then_some(at + 12)
                }
                _ => Some(at + 6),
            }
        }
        _ => None,
    }
}

/// The number that lower-case hex digits spell.
fn hex_unit(digits: &[u8]) -> Option<u32> {
    let mut unit = 0;
    for digit in digits {
        unit = unit * 16
            + match digit {
                b'0'..=b'9' => u32::from(digit - b'0'),
                b'a'..=b'f' => u32::from(digit - b'a') + 10,
                _ => return None,
            };
    }
    Some(unit)
}

/// A canonical string without its quotes; other text as it is.
pub(crate) fn unquoted(token: &str) -> &str {
    token.strip_prefix('"').and_then(|token| token.strip_suffix('"')).unwrap_or(token)
}

/// The text that a canonical string spells, given with or without its quotes.
pub(crate) fn decode(token: &str) -> Cow<'_, str> {
    let token = unquoted(token);
    if !token.contains('\\') {
        return Cow::Borrowed(token);
    }
    CodePoints(token.as_bytes()).filter_map(char::from_u32).collect()
}

/// Compares two canonical strings, given with their quotes, by code point.
pub(super) fn compare_quoted(left: &str, right: &str) -> Ordering {
    compare_unquoted(unquoted(left).as_bytes(), unquoted(right).as_bytes())
}

/// Compares two canonical strings, given without their quotes, by code point.
pub(super) fn compare_unquoted(left: &[u8], right: &[u8]) -> Ordering {
    // Up to the first escape, bytes are code points.
    match left.iter().zip(right).find(|(left, right)| left != right || **left == b'\\') {
        Some((b'\\', _) | (_, b'\\')) => CodePoints(left).cmp(CodePoints(right)),
        Some((left, right)) => left.cmp(right),
        None => left.len().cmp(&right.len()),
    }
}

/// The code points of a canonical string without its quotes.
struct CodePoints<'a>(&'a [u8]);

impl Iterator for CodePoints<'_> {
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
                let high = hex_unit(rest.get(..4)?)?;
                self.0 = &rest[4..];
                if !(0xd800..0xdc00).contains(&high) {
                    return Some(high);
                }
                let low = hex_unit(self.0.get(2..6)?)?;
                self.0 = &self.0[6..];
                0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            other => u32::from(other),
        })
    }
}
