//! Canonical JSON: the one byte form of a JSON value, which is what gets hashed and written.
//!
//! The form is the one Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))` gives:
//!
//! - object keys sorted by Unicode code point at every level; of a repeated key the last one counts;
//! - no white space; everything outside printable ASCII as lower-case `\uXXXX` (surrogate pairs above
//!   U+FFFF, U+007F included), `\" \\ \b \f \n \r \t` short, `/` as it is;
//! - integers exact, whatever their size, `-0` as `0`;
//! - a number spelled with a dot or an exponent is an IEEE double, in the shortest digits that read back
//!   the same, always with a dot or an exponent: `1.0`, `1e+16`, `1e-05`;
//! - NaN, infinities, numbers beyond a double and lone surrogates have no canonical form.
//!
//! Three ways lead to it, and they agree: [`Json::parse`] from text, [`Json::of`] from any
//! [`serde::Serialize`], and `Json::try_from` from a [`Value`].
//!
//! ```
//! use zero_bus::Json;
//!
//! let json = Json::parse(r#"{ "price": 1E2, "bid": -0, "name": "é" }"#)?;
//! assert_eq!(json.as_str(), r#"{"bid":0,"name":"\u00e9","price":100.0}"#);
//! # Ok::<(), zero_bus::JsonError>(())
//! ```

mod order;
mod parse;
pub(crate) mod scan;
mod serialize;
mod template;
mod value;
mod write;

pub use parse::{JsonError, MAX_DEPTH};
pub(crate) use template::Template;
pub use value::{Integer, Value};

use std::borrow::Cow;
use std::fmt;

/// The canonical text of one JSON value. Always ASCII, always in the one form described in
/// [`canonical`](crate::canonical): two values are the same exactly when their texts are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(String);

impl Json {
    /// Reads one JSON value from text, white space around it allowed, and keeps its canonical form.
    ///
    /// Costs one pass over the text and memory for the form, no tree; a second pass where keys do not come in order.
    ///
    /// # Errors
    /// [`JsonError`] where the text is no JSON value, nests deeper than [`MAX_DEPTH`], or has no canonical
    /// form; it names the path inside the document, the line and the byte.
    ///
    /// ```
    /// use zero_bus::Json;
    /// assert_eq!(Json::parse(" [1.50, 1E2, -0] ")?.as_str(), "[1.5,100.0,0]");
    /// assert_eq!(Json::parse("[1,]").unwrap_err().to_string(), "[1]: expected a value (line 1, column 4)");
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        parse::document(text, MAX_DEPTH).map(Self)
    }

    /// The canonical form of anything serializable. Structs become objects, `Option::None` null, enums
    /// what `serde_json` makes of them; `f32` counts as the double it equals.
    ///
    /// Costs no tree: members are written as they come and put in order afterwards.
    ///
    /// # Errors
    /// [`JsonError`] for NaN and infinities, for map keys that are no strings, numbers or booleans, for
    /// nesting beyond [`MAX_DEPTH`], and for what the type's own `Serialize` reports.
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

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as a tree to look into.
    pub fn value(&self) -> Value {
        Value::of_canonical(&self.0)
    }

    /// Whether the value is an object, as an event's payload must be.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// The same value laid out for people: indented by two, keys sorted, as Python's
    /// `json.dumps(value, indent=2, sort_keys=True)` has it. No line break at the end.
    ///
    /// ```
    /// let json = zero_bus::Json::parse(r#"{"b":[],"a":[1]}"#)?;
    /// assert_eq!(json.pretty(), "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}");
    /// # Ok::<(), zero_bus::JsonError>(())
    /// ```
    pub fn pretty(&self) -> String {
        write::pretty(&self.0)
    }

    /// Takes over a canonical line of a log, see [`respelled_line`].
    pub(crate) fn from_canonical_line(line: String) -> Self {
        Self(line)
    }

    /// Takes over text that is known to be canonical, because the scanner accepted it.
    pub(crate) fn from_canonical(text: &str) -> Self {
        debug_assert_eq!(scan::value(text.as_bytes(), 0), Some(text.len()));
        Self(text.to_owned())
    }
}

impl TryFrom<&Value> for Json {
    type Error = JsonError;

    /// Fails for floats that are not finite and for nesting beyond [`MAX_DEPTH`]; what was parsed has
    /// neither.
    fn try_from(value: &Value) -> Result<Self, JsonError> {
        let mut out = String::new();
        write::value(value, MAX_DEPTH, &mut out)?;
        Ok(Self(out))
    }
}

/// Goes into another [`Json`] as the value it is. For the serializers of other formats it is a string that
/// holds JSON text.
impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(serialize::CANONICAL_TEXT, &self.0)
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

/// Whether a text is in canonical form already. Builds nothing, and costs one pass over the text.
///
/// ```
/// use zero_bus::canonical::is_canonical;
/// assert!(is_canonical(r#"{"a":1.0}"#));
/// assert!(!is_canonical(r#"{"a": 1.0}"#) && !is_canonical(r#"{"a":1.00}"#));
/// ```
pub fn is_canonical(text: &str) -> bool {
    scan::value(text.as_bytes(), 0) == Some(text.len())
}

/// The canonical form of a line of a log, which may nest one level deeper than the payload it holds.
pub(crate) fn respelled_line(text: &str) -> Result<String, JsonError> {
    parse::document(text, MAX_DEPTH + 1)
}

/// The members of an object in canonical form, each with its key, quotes left out, and the text of its value; none of
/// anything else.
pub(crate) fn members(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut at = 1;
    std::iter::from_fn(move || {
        let key_end = scan::string(text.as_bytes(), at).filter(|_| text.starts_with('{'))?;
        let end = scan::value(text.as_bytes(), key_end + 1)?;
        let member = (text.get(at + 1..key_end - 1)?, text.get(key_end + 1..end)?);
        at = end + 1;
        Some(member)
    })
}

/// What kind of value a canonical text is, see [`Value::kind`].
pub(crate) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => Value::Object(Default::default()),
        Some(b'[') => Value::Array(Vec::new()),
        Some(b'"') => Value::String(String::new()),
        Some(b't' | b'f') => Value::Bool(true),
        Some(b'n') | None => Value::Null,
        Some(_) if scan::is_float(text.as_bytes()) => Value::Float(0.0),
        Some(_) => Value::Integer(Integer::from(0)),
    }
    .kind()
}

/// The double that a canonical text is or is nearest to, see [`Value::as_f64`].
pub(crate) fn as_f64(text: &str) -> Option<f64> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

/// The text of a canonical string; `None` of anything else.
pub(crate) fn as_text(text: &str) -> Option<Cow<'_, str>> {
    text.starts_with('"').then(|| scan::resolved(text))
}

pub(crate) use write::{float as write_float, string as write_string};
