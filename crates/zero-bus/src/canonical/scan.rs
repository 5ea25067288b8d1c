//! Is this text canonical already? Answers without building anything, so that the lines of a log, which
//! nearly always are, can be checked at the speed of reading them.

use std::borrow::Cow;
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
    string_or_key(text, at).map(|(end, _)| end)
}

/// The same for a string without escapes.
pub(crate) fn plain_string(text: &[u8], at: usize) -> Option<usize> {
    string_or_key(text, at).filter(|(_, escaped)| !escaped).map(|(end, _)| end)
}

/// The same, and whether there are escapes in it.
fn string_or_key(text: &[u8], at: usize) -> Option<(usize, bool)> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let (mut at, mut ended) = pass_plain(text, at + 1);
    let mut escaped = false;
    while !ended {
        if text.get(at) != Some(&b'\\') {
            return None;
        }
        escaped = true;
        (at, ended) = pass_plain(text, escape(text, at)?);
    }
    Some((at + 1, escaped))
}

/// How many bytes a text begins with that stand for themselves in a canonical string.
pub(super) fn plain(text: &[u8]) -> usize {
    pass_plain(text, 0).0
}

/// Passes over bytes that stand for themselves in a canonical string: ASCII that can be printed, but for quote and
/// backslash. Gives where they end, and whether a quote ends them. Eight at a time, by the sums that tell of each byte of
/// a word whether it is one of some (Mycroft 1987, as in Warren: Hacker's Delight, 6-1).
fn pass_plain(text: &[u8], mut at: usize) -> (usize, bool) {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
        let quotes = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let backslashes = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        // A byte above `~` is 0x7f or has its high bit: then adding 1 sets it.
        let above = word.wrapping_add(ONES) | word;
        // A borrow or a carry may spoil what stands behind the first hit, never before it.
        let hits = quotes | backslashes | ((below_space | above) & HIGHS);
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
    let mut previous: Option<(&[u8], bool)> = None;
    loop {
        let (key_end, escaped) = string_or_key(text, at)?;
        let key = &text[at + 1..key_end - 1];
        if let Some((previous, previous_escaped)) = previous {
            let ascends = match (previous.first(), key.first()) {
                _ if escaped || previous_escaped => compare_keys(previous, key) == Ordering::Less,
                // Mostly the first byte tells, without a call.
                (Some(before), Some(first)) if before != first => before < first,
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
        at = nested(text, key_end + 1, depth)?;
        match *text.get(at)? {
            b',' => at += 1,
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// By code point, of two strings in quotes.
pub(super) fn compare_quoted(left: &str, right: &str) -> Ordering {
    compare_keys(unquoted(left).as_bytes(), unquoted(right).as_bytes())
}

/// A canonical string without its quotes, where it has some.
pub(crate) fn unquoted(token: &str) -> &str {
    token.strip_prefix('"').and_then(|token| token.strip_suffix('"')).unwrap_or(token)
}

/// The text of a canonical string, its quotes included or not.
pub(crate) fn resolved(token: &str) -> Cow<'_, str> {
    let token = unquoted(token);
    if !token.contains('\\') {
        return Cow::Borrowed(token);
    }
    Characters(token.as_bytes()).filter_map(char::from_u32).collect()
}

/// By code point, of two strings in their canonical spelling.
fn compare_keys(left: &[u8], right: &[u8]) -> Ordering {
    // As far as there is no escape, bytes are code points.
    match left.iter().zip(right).find(|(left, right)| left != right || **left == b'\\') {
        Some((b'\\', _) | (_, b'\\')) => Characters(left).cmp(Characters(right)),
        Some((left, right)) => left.cmp(right),
        None => left.len().cmp(&right.len()),
    }
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
    let whole = at + usize::from(text.get(at) == Some(&b'-'));
    let [point, end] = digits(text, whole);
    let leads_with_zero = text.get(whole) == Some(&b'0');
    if point == whole || (leads_with_zero && point > whole + 1) {
        return None;
    }
    match text.get(point) {
        Some(b'.') => {}
        Some(b'e' | b'+' | b'-') => return float(text, at),
        // `-0` is written `0`.
        _ => return (!leads_with_zero || whole == at).then_some(point),
    }
    let fraction = &text[point + 1..end];
    let last_counts = fraction.last().is_some_and(|last| *last != b'0' || fraction.len() == 1);
    // Below 0.0001 there is an exponent.
    let large_enough = !leads_with_zero || !fraction.starts_with(b"0000");
    // A decimal of at most 15 digits, written as shortly as it can be: no two of these are the same double (IEEE 754: 15
    // decimal digits survive the way there and back), so none has a shorter spelling.
    if last_counts
        && large_enough
        && end - whole <= 16
        && !matches!(text.get(end), Some(b'e' | b'+' | b'-' | b'.'))
    {
        return Some(end);
    }
    float(text, at)
}

/// Whether a number in its canonical spelling is a float, and not an integer.
pub(crate) fn is_float(token: &[u8]) -> bool {
    token.iter().any(|byte| matches!(byte, b'.' | b'e'))
}

/// Where the digits end that stand at a place, and where those do that stand behind the byte that ends them.
fn digits(text: &[u8], at: usize) -> [usize; 2] {
    if let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        const fn bytes(byte: u8) -> u128 {
            u128::from_le_bytes([byte; 16])
        }
        // Digits become 0 to 9; adding 0x76 sets the high bit from 10 on, and nothing beyond it.
        let values = u128::from_le_bytes(*word) ^ bytes(b'0');
        let others = (((values & bytes(0x7f)) + bytes(0x76)) | values) & bytes(0x80);
        let behind_the_first = others & others.wrapping_sub(1);
        if behind_the_first != 0 {
            return [others, behind_the_first].map(|others| at + others.trailing_zeros() as usize / 8);
        }
    }
    let first = pass_digits(text, at);
    [first, pass_digits(text, first + 1)]
}

fn pass_digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// The end of what spells a double, where that is how it is written.
fn float(text: &[u8], at: usize) -> Option<usize> {
    let length = text[at..]
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'))
        .unwrap_or(text.len() - at);
    is_canonical_of_its_double(&text[at..at + length]).then_some(at + length)
}

/// Whether this is how the double that it spells is written.
fn is_canonical_of_its_double(spelled: &[u8]) -> bool {
    let Ok(spelled) = std::str::from_utf8(spelled) else { return false };
    let Ok(number) = spelled.parse::<f64>() else { return false };
    if !number.is_finite() {
        return false;
    }
    let mut form = String::with_capacity(32);
    write::float(number, &mut form);
    form == spelled
}
