//! A JSON value as a tree, for looking into what was read.

use std::collections::BTreeMap;

use super::parse::{self, JsonError};
use super::scan;

/// One JSON value. Integers and floats are kept apart, since `1` and `1.0` have different canonical forms.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number spelled without dot and exponent, of any size.
    Integer(Integer),
    /// A number spelled with a dot or an exponent. Values that come from [`Value::parse`] are finite.
    Float(f64),
    /// Text, escapes resolved.
    String(String),
    /// Values in order.
    Array(Vec<Value>),
    /// Members by key. Rust orders strings by UTF-8 byte, which is by code point, as the form wants it.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Reads one JSON value from text, white space around it allowed.
    ///
    /// # Errors
    /// [`JsonError`], see [`Json::parse`](super::Json::parse).
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::within(text, parse::MAX_DEPTH)
    }

    /// The same one level deeper: a line that holds a value which may be as deep as [`MAX_DEPTH`](super::MAX_DEPTH) by itself.
    ///
    /// # Errors
    /// As [`Value::parse`].
    pub fn parse_line(text: &str) -> Result<Self, JsonError> {
        Self::within(text, parse::MAX_DEPTH + 1)
    }

    fn within(text: &str, max_depth: usize) -> Result<Self, JsonError> {
        parse::document(text, max_depth).map(|canonical| Self::of_canonical(&canonical))
    }

    /// The value that a canonical text spells.
    pub(super) fn of_canonical(text: &str) -> Self {
        // The text was made by this module, which reads everything it writes.
        read(text, &mut 0).unwrap_or(Self::Null)
    }

    /// The member of an object; `None` where there is none, or where this is no object.
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

    /// A number as a double: a float as it is, an integer as the double nearest to it. `None` for
    /// everything else, and for an integer beyond every double.
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

    /// What kind of value this is, with its article, for an error's sentence: `a string`, `null`.
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

/// Reads the canonical value that begins at a place, and goes to its end. As deep as the text nests.
fn read(text: &str, at: &mut usize) -> Option<Value> {
    let bytes = text.as_bytes();
    let begin = *at;
    Some(match *bytes.get(begin)? {
        b'"' => {
            *at = scan::string(bytes, begin)?;
            Value::String(scan::resolved(&text[begin..*at]).into_owned())
        }
        b'-' | b'0'..=b'9' => {
            *at = scan::number(bytes, begin)?;
            let spelled = &text[begin..*at];
            match scan::is_float(spelled.as_bytes()) {
                true => Value::Float(spelled.parse().ok()?),
                false => Value::Integer(Integer(spelled.to_owned())),
            }
        }
        b'[' => {
            let mut items = Vec::new();
            while another(bytes, at, b']') {
                items.push(read(text, at)?);
            }
            Value::Array(items)
        }
        b'{' => {
            let mut members = Vec::new();
            while another(bytes, at, b'}') {
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

/// Goes from the opening bracket, or from behind an item or member, to the next one; behind the closing bracket where there
/// is none.
fn another(bytes: &[u8], at: &mut usize, closing: u8) -> bool {
    // A bracket, or a comma: no canonical text has one before a closing bracket.
    if bytes.get(*at) != Some(&closing) {
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
    /// The decimal digits, with a `-` in front where negative.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest double; `None` beyond the largest.
    pub fn as_f64(&self) -> Option<f64> {
        super::as_f64(&self.0)
    }
}

impl From<u64> for Integer {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}
