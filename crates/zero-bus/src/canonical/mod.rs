//! Canonical JSON: one byte form for each JSON value, which is what gets hashed and written.
//!
//! It is the form of Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))`:
//!
//! - object keys sorted by Unicode code point at every level; of repeated keys the last one wins;
//! - no white space; everything outside printable ASCII as lower-case `\uXXXX` (surrogate pairs
//!   above U+FFFF, U+007F included), short escapes for `\" \\ \b \f \n \r \t`, `/` unescaped;
//! - integers exact, whatever their size, `-0` as `0`;
//! - a number with a dot or an exponent is an IEEE double, in the shortest digits that read back
//!   the same, always with a dot or an exponent: `1.0`, `1e+16`, `1e-05`;
//! - NaN, infinities, numbers beyond the largest double and lone surrogates are refused.
//!
//! There are three ways to the canonical form, with the same result: [`Json::parse`] from text,
//! [`Json::of`] from any [`serde::Serialize`] type, and `Json::try_from` from a [`Value`].
//!
//! ```
//! use zero_bus::Json;
//!
//! let json = Json::parse(r#"{ "price": 1E2, "bid": -0, "name": "é" }"#)?;
//! assert_eq!(json.as_str(), r#"{"bid":0,"name":"\u00e9","price":100.0}"#);
//! # Ok::<(), zero_bus::JsonError>(())
//! ```

// Each module uses only modules above it.
mod error;
mod number;
mod pretty;
mod string;

mod builder;
mod check;
mod parse;
mod serialize;
mod template;
mod value;

mod data_model;

pub(crate) use check::value_end;
pub use error::{JsonError, MAX_DEPTH};
pub(crate) use number::{as_f64, is_float, number_end, write_float};
pub(crate) use string::{decode, string_end, unescaped_string_end, unquoted, write_string};
pub(crate) use template::Template;
pub use value::{Integer, Value};

use std::borrow::Cow;
use std::fmt;

/// The canonical text of one JSON value. It is ASCII, and two values are equal exactly if their
/// texts are. See [`canonical`](crate::canonical) for the form.
///
/// # Serde
///
/// In a human-readable format (JSON, YAML, TOML) a `Json` is the value it holds: an object is a
/// map. In a binary format it is a string that holds the canonical text, which is exact for every
/// value.
///
/// A number is never silently changed:
///
/// - An integer beyond 128 bits cannot be serialized to a human-readable format, since serde has no
///   type for it. An integer beyond 64 bits needs a format with 128-bit integers, such as
///   serde_json.
/// - serde_json hands over an integer beyond 64 bits as the nearest double. So a number at or
///   beyond `-2^63` or `2^64` that arrives as `f64` is refused, even if it was written as a float.
/// - With serde_json's feature `arbitrary_precision`, every number is refused: serde_json then
///   hands them over as objects.
///
/// In these cases pass on [`Json::as_str`], and read it with [`Json::parse`], which accepts all of
/// them. One spelling is read differently: serde_json hands over the integer `-0` as the double
/// `-0.0`.
///
/// ```
/// use zero_bus::Json;
///
/// let json = Json::parse(r#"{"b":[1,2.0],"a":"é"}"#)?;
/// let text = serde_json::to_string(&json).unwrap();
/// assert_eq!(text, r#"{"a":"é","b":[1,2.0]}"#);
/// assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), json);
///
/// let rounded = serde_json::from_str::<Json>("123456789012345678901234567890");
/// assert!(rounded.is_err());
/// # Ok::<(), zero_bus::JsonError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(String);

impl Json {
    /// Parses a text that is one JSON value, optionally surrounded by white space, and keeps its
    /// canonical form.
    ///
    /// Costs one pass over the text and memory for the form, without a tree. If keys are out of
    /// order, the form is copied once.
    ///
    /// # Errors
    /// [`JsonError`] if the text is not a JSON value, nests deeper than [`MAX_DEPTH`], or has no
    /// canonical form. The error names the path inside the document, the line and the column.
    ///
    /// ```
    /// use zero_bus::Json;
    /// assert_eq!(Json::parse(" [1.50, 1E2, -0] ")?.as_str(), "[1.5,100.0,0]");
    /// let error = Json::parse("[1,]").unwrap_err();
    /// assert_eq!(error.to_string(), "[1]: expected a value (line 1, column 4)");
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        parse::parse_document(text, MAX_DEPTH).map(Self)
    }

    /// The canonical form of a serializable value. Structs become objects, `Option::None` becomes
    /// null, enums are represented as serde_json represents them, and an `f32` becomes the equal
    /// double.
    ///
    /// Builds no tree: members are written as they arrive, and sorted at the end if necessary.
    ///
    /// # Errors
    /// [`JsonError`] for NaN and infinities, for map keys other than strings, integers and
    /// booleans, for nesting beyond [`MAX_DEPTH`], and for errors of the type's own `Serialize`.
    ///
    /// ```
    /// use serde::Serialize;
    /// use zero_bus::Json;
    ///
    /// #[derive(Serialize)]
    /// struct Reading {
    ///     sensor: &'static str,
    ///     celsius: f64,
    /// }
    /// let reading = Reading { sensor: "roof", celsius: 21.0 };
    /// assert_eq!(Json::of(&reading)?.as_str(), r#"{"celsius":21.0,"sensor":"roof"}"#);
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn of<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        serialize::to_canonical(value).map(Self)
    }

    /// `{}`
    pub fn empty_object() -> Self {
        Self("{}".to_owned())
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as a tree.
    pub fn value(&self) -> Value {
        Value::from_canonical(&self.0)
    }

    /// Whether the value is an object, as an event's payload must be.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// The members of an object in order: each key as it is spelled between its quotes, and the
    /// canonical text of its value. Empty for other values. Builds no tree.
    ///
    /// ```
    /// let json = zero_bus::Json::parse(r#"{"b":[1],"a\n":2}"#)?;
    /// assert_eq!(json.members().collect::<Vec<_>>(), [("a\\n", "2"), ("b", "[1]")]);
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        members(&self.0)
    }

    /// The value laid out for people, as Python's `json.dumps(value, indent=2, sort_keys=True)`
    /// does it. Does not end with a line break.
    ///
    /// ```
    /// let json = zero_bus::Json::parse(r#"{"b":[],"a":[1]}"#)?;
    /// assert_eq!(json.pretty(), "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}");
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn pretty(&self) -> String {
        pretty::pretty(&self.0)
    }

    /// Deserializes the value with serde_json, see [`Event::payload_as`](crate::Event::payload_as).
    pub(crate) fn deserialize_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, JsonError> {
        serde_json::from_str(&self.0).map_err(|error| {
            let message = error.to_string();
            // The position moves from serde_json's message to the error's own fields.
            let position = format!(" at line {} column {}", error.line(), error.column());
            match message.strip_suffix(&position) {
                Some(problem) => {
                    let offset = error.column().saturating_sub(1).min(self.0.len());
                    JsonError::new(problem).at_offset(&self.0, offset)
                }
                None => JsonError::new(message),
            }
        })
    }

    /// Wraps the canonical line of an event or a snapshot, which may nest one level deeper than
    /// [`MAX_DEPTH`].
    pub(crate) fn from_canonical_line(line: String) -> Self {
        Self(line)
    }

    /// Wraps text that [`value_end`] has accepted as canonical.
    pub(crate) fn from_canonical(text: &str) -> Self {
        debug_assert_eq!(value_end(text.as_bytes(), 0), Some(text.len()));
        Self(text.to_owned())
    }
}

impl TryFrom<&Value> for Json {
    type Error = JsonError;

    /// Fails for floats that are not finite and for nesting beyond [`MAX_DEPTH`]. A value from
    /// [`Value::parse`] has neither.
    fn try_from(value: &Value) -> Result<Self, JsonError> {
        let mut out = String::new();
        value::write_value(value, MAX_DEPTH, &mut out)?;
        Ok(Self(out))
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        data_model::serialize(&self.0, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        data_model::deserialize(deserializer).map(Self)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is in canonical form. Costs one pass over the text and no memory.
///
/// ```
/// use zero_bus::canonical::is_canonical;
/// assert!(is_canonical(r#"{"a":1.0}"#));
/// assert!(!is_canonical(r#"{"a": 1.0}"#) && !is_canonical(r#"{"a":1.00}"#));
/// ```
pub fn is_canonical(text: &str) -> bool {
    value_end(text.as_bytes(), 0) == Some(text.len())
}

/// The canonical form of a line of a log, which may nest one level deeper than the payload in it.
pub(crate) fn canonical_line(text: &str) -> Result<String, JsonError> {
    parse::parse_document(text, MAX_DEPTH + 1)
}

/// The members of a canonical object: each key without its quotes, and the text of its value. Empty
/// for other values.
pub(crate) fn members(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut at = 1;
    std::iter::from_fn(move || {
        let key_end = string_end(text.as_bytes(), at).filter(|_| text.starts_with('{'))?;
        let end = value_end(text.as_bytes(), key_end + 1)?;
        let member = (text.get(at + 1..key_end - 1)?, text.get(key_end + 1..end)?);
        at = end + 1;
        Some(member)
    })
}

/// The kind of a canonical value, see [`Value::kind`].
pub(crate) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => Value::Object(Default::default()),
        Some(b'[') => Value::Array(Vec::new()),
        Some(b'"') => Value::String(String::new()),
        Some(b't' | b'f') => Value::Bool(true),
        Some(b'n') | None => Value::Null,
        Some(_) if is_float(text.as_bytes()) => Value::Float(0.0),
        Some(_) => Value::Integer(Integer::from(0)),
    }
    .kind()
}

/// The text that a canonical string spells; `None` for other values.
pub(crate) fn as_text(text: &str) -> Option<Cow<'_, str>> {
    text.starts_with('"').then(|| decode(text))
}
