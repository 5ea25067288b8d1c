//! Value to canonical text.

use super::parse::JsonError;
use super::scan;
use super::value::Value;

/// The canonical form of a value that nests no deeper than this.
pub(super) fn value(value: &Value, max_depth: usize, out: &mut String) -> Result<(), JsonError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Integer(integer) => out.push_str(integer.as_str()),
        Value::Float(number) if number.is_finite() => float(*number, out),
        Value::Float(number) => return Err(JsonError::new(format!("{number} is not a finite number"))),
        Value::String(text) => string(text, out),
        Value::Array(_) | Value::Object(_) if max_depth == 0 => {
            return Err(JsonError::new("nested too deep"));
        }
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                self::value(item, max_depth - 1, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (position, (key, member)) in members.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                string(key, out);
                out.push(':');
                self::value(member, max_depth - 1, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// A string in quotes, ASCII only.
pub(crate) fn string(text: &str, out: &mut String) {
    out.push('"');
    within_quotes(text, out);
    out.push('"');
}

/// What stands between the quotes.
pub(super) fn within_quotes(text: &str, out: &mut String) {
    let mut rest = text;
    loop {
        let special = scan::plain(rest.as_bytes());
        out.push_str(&rest[..special]);
        // `special` is the first byte of a character: everything before it is ASCII.
        let Some(character) = rest[special..].chars().next() else { break };
        escape(character, out);
        rest = &rest[special + character.len_utf8()..];
    }
}

fn escape(character: char, out: &mut String) {
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

/// A finite double in its shortest digits, laid out as Python's `repr` does it: scientific where the
/// decimal exponent is below -4 or at least 16, with an exponent of at least two digits.
///
/// The digits are Ryu's (Adams, PLDI 2018): the shortest that read back the same, of two equally near ones
/// the even. The standard library's take the upper one there, as in 1811028892944024.25.
pub(crate) fn float(number: f64, out: &mut String) {
    debug_assert!(number.is_finite());
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(number);
    if let Some((mantissa, exponent)) = text.split_once('e') {
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        scientific(mantissa, sign, digits, out);
        return;
    }
    // Where Ryu still writes 0.0000123, Python has 1.23e-05 already.
    let (minus, absolute) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    match absolute.strip_prefix("0.0000").filter(|digits| !digits.is_empty()) {
        None => out.push_str(text),
        Some(digits) => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            out.push_str(minus);
            scientific(&[first, point, rest].concat(), "-", "5", out);
        }
    }
}

fn scientific(mantissa: &str, sign: &str, exponent: &str, out: &mut String) {
    out.push_str(mantissa);
    out.push('e');
    out.push_str(sign);
    if exponent.len() < 2 {
        out.push('0');
    }
    out.push_str(exponent);
}

/// Canonical text with line breaks and an indent of two put between its tokens.
pub(super) fn pretty(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut bytes = canonical.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(char::from(byte));
            match byte {
                b'\\' => out.extend(bytes.next().map(char::from)),
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => {
                in_string = true;
                out.push('"');
            }
            b'{' | b'[' => {
                out.push(char::from(byte));
                if let Some(closing) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(char::from(closing));
                } else {
                    depth += 1;
                    new_line(depth, &mut out);
                }
            }
            b'}' | b']' => {
                depth -= 1;
                new_line(depth, &mut out);
                out.push(char::from(byte));
            }
            b',' => {
                out.push(',');
                new_line(depth, &mut out);
            }
            b':' => out.push_str(": "),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn new_line(depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}
