//! A JSON value as a tree, for looking into what was read.

use std::collections::BTreeMap;

use super::error::{JsonError, MAX_DEPTH};
use super::number::{as_f64, is_float, number_end, write_float};
use super::parse::parse_document;
use super::string::{decode, string_end, write_string};

/// One JSON value. Integers and floats are distinct, since `1` and `1.0` have different canonical
/// forms.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number spelled without dot and exponent, of any size.
    Integer(Integer),
    /// A number spelled with a dot or an exponent. [`Value::parse`] returns finite ones only.
    Float(f64),
    /// Text, with its escapes resolved.
    String(String),
    /// Values in order.
    Array(Vec<Value>),
    /// Members by key. Rust orders strings by UTF-8 byte, which is by code point, as in the
    /// canonical form.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Parses a text that is one JSON value, optionally surrounded by white space.
    ///
    /// # Errors
    /// [`JsonError`], as [`Json::parse`](crate::Json::parse).
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::parse_within(text, MAX_DEPTH)
    }

    /// As [`Value::parse`], one level deeper: for a line whose payload alone may nest to
    /// [`MAX_DEPTH`].
    ///
    /// # Errors
    /// As [`Value::parse`].
    pub fn parse_line(text: &str) -> Result<Self, JsonError> {
        Self::parse_within(text, MAX_DEPTH + 1)
    }

    fn parse_within(text: &str, max_depth: usize) -> Result<Self, JsonError> {
        parse_document(text, max_depth).map(|canonical| Self::from_canonical(&canonical))
    }

    /// The value that a canonical text spells.
    pub(super) fn from_canonical(text: &str) -> Self {
        // This crate can read every text that it writes, so the default is never used.
        read(text, &mut 0).unwrap_or(Self::Null)
    }

    /// The value of an object's member. `None` if the member is missing or the value is not an
    /// object.
    ///
    /// ```
    /// use zero_bus::Value;
    /// let value = Value::parse(r#"{"symbol":"BTC","price":1}"#)?;
    /// assert_eq!(value.get("symbol").and_then(Value::as_str), Some("BTC"));
    /// assert_eq!(value.get("price").and_then(Value::as_f64), Some(1.0));
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A number as a double: a float as it is, an integer as the nearest double. `None` for other
    /// values, and for an integer beyond the largest double.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(float) => Some(*float),
            Self::Integer(integer) => integer.as_f64(),
            _ => None,
        }
    }

    /// A non-negative integer that fits 64 bits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(integer) => integer.as_str().parse().ok(),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    /// The kind of this value with its article, for error messages: `a string`, `null`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Appends the canonical form of a value that nests at most `max_depth` deep.
pub(super) fn write_value(value: &Value, max_depth: usize, out: &mut String) -> Result<(), JsonError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Integer(integer) => out.push_str(integer.as_str()),
        Value::Float(number) if number.is_finite() => write_float(*number, out),
        Value::Float(number) => return Err(JsonError::not_finite(*number)),
        Value::String(text) => write_string(text, out),
        Value::Array(_) | Value::Object(_) if max_depth == 0 => {
            return Err(JsonError::too_deep(MAX_DEPTH));
        }
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_value(item, max_depth - 1, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (position, (key, member)) in members.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(member, max_depth - 1, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Reads the canonical value that begins at `at`, and advances `at` to its end. Recurses as deep as
/// the text nests.
fn read(text: &str, at: &mut usize) -> Option<Value> {
    let bytes = text.as_bytes();
    let begin = *at;
    Some(match *bytes.get(begin)? {
        b'"' => {
            *at = string_end(bytes, begin)?;
            Value::String(decode(&text[begin..*at]).into_owned())
        }
        b'-' | b'0'..=b'9' => {
            *at = number_end(bytes, begin)?;
            let token = &text[begin..*at];
            match is_float(token.as_bytes()) {
                true => Value::Float(token.parse().ok()?),
                false => Value::Integer(Integer(token.to_owned())),
            }
        }
        b'[' => {
            let mut items = Vec::new();
            while advance_to_next(bytes, at, b']') {
                items.push(read(text, at)?);
            }
            Value::Array(items)
        }
        b'{' => {
            let mut members = Vec::new();
            while advance_to_next(bytes, at, b'}') {
                let Value::String(key) = read(text, at)? else { return None };
                *at += 1;
                members.push((key, read(text, at)?));
            }
            Value::Object(members.into_iter().collect())
        }
        _ => {
            let words = [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
            let (word, value) = words.into_iter().find(|(word, _)| text[begin..].starts_with(word))?;
            *at += word.len();
            value
        }
    })
}

/// Advances from the opening bracket, or from the end of an item, to the next item. At the closing
/// bracket it advances past that and returns `false`.
fn advance_to_next(bytes: &[u8], at: &mut usize, closing: u8) -> bool {
    if bytes.get(*at) != Some(&closing) {
        // An opening bracket or a comma. No canonical text has a comma before a closing bracket.
        *at += 1;
        if bytes.get(*at) != Some(&closing) {
            return true;
        }
    }
    *at += 1;
    false
}

/// An integer of any size, kept as its decimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integer(String);

impl Integer {
    pub(super) fn new(number: impl ToString) -> Self {
        Self(number.to_string())
    }

    /// The decimal digits, after a `-` if negative.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest double; `None` beyond the largest.
    pub fn as_f64(&self) -> Option<f64> {
        as_f64(&self.0)
    }
}

impl From<u64> for Integer {
    fn from(number: u64) -> Self {
        Self::new(number)
    }
}
