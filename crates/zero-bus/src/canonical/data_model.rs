//! A canonical text in serde's data model, in both directions.
//!
//! Human-readable formats carry the value itself: objects as maps, integers as integers, floats as
//! `f64`. Binary formats carry the canonical text as a string, which loses nothing. This crate's
//! own serializer asks for the text in the same way and copies it.
//!
//! Serde's integers end at 128 bits, and many formats end at 64. A number that might change on the
//! way is refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

use super::error::{JsonError, MAX_DEPTH};
use super::parse::parse_document;
use super::serialize::CANONICAL_TEXT;
use super::value::{Integer, Value, write_value};

/// Serializes a canonical text.
pub(super) fn serialize<S: Serializer>(canonical: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_newtype_struct(CANONICAL_TEXT, &CanonicalText(canonical))
}

/// Deserializes a value and returns its canonical text.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    if !deserializer.is_human_readable() {
        return deserializer.deserialize_newtype_struct(CANONICAL_TEXT, TextVisitor);
    }
    let value = deserializer.deserialize_any(ValueVisitor { depth_left: MAX_DEPTH })?;
    let mut canonical = String::new();
    write_value(&value, MAX_DEPTH, &mut canonical).map_err(D::Error::custom)?;
    Ok(canonical)
}

struct CanonicalText<'a>(&'a str);

impl Serialize for CanonicalText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Tree(&Value::from_canonical(self.0)).serialize(serializer)
        } else {
            serializer.serialize_str(self.0)
        }
    }
}

struct Tree<'a>(&'a Value);

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Integer(integer) => serialize_integer(integer.as_str(), serializer),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Tree)),
            Value::Object(members) => {
                serializer.collect_map(members.iter().map(|(key, member)| (key, Tree(member))))
            }
        }
    }
}

/// Serializes an integer in the smallest type that holds it, since few formats know 128 bits.
fn serialize_integer<S: Serializer>(digits: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(number) = digits.parse() {
        return serializer.serialize_u64(number);
    }
    if let Ok(number) = digits.parse() {
        return serializer.serialize_i64(number);
    }
    if let Ok(number) = digits.parse() {
        return serializer.serialize_u128(number);
    }
    if let Ok(number) = digits.parse() {
        return serializer.serialize_i128(number);
    }
    let count = digits.trim_start_matches('-').len();
    Err(S::Error::custom(format!(
        "an integer of {count} digits exceeds 128 bits; use the canonical text instead"
    )))
}

/// Reads the canonical text that binary formats carry.
struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string that holds JSON text")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        parse_document(text, MAX_DEPTH).map_err(E::custom)
    }
}

/// Reads the value that human-readable formats carry.
struct ValueVisitor {
    /// Arrays and objects that may still be nested.
    depth_left: usize,
}

/// The first doubles beyond the 64-bit integers, on either side.
const BEYOND_U64: f64 = 18_446_744_073_709_551_616.0;
const BEYOND_I64: f64 = -9_223_372_036_854_775_808.0;

/// The key under which serde_json hands over every number if its feature `arbitrary_precision` is
/// on.
const SERDE_JSON_NUMBER: &str = "$serde_json::private::Number";

impl ValueVisitor {
    fn enter<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.depth_left.checked_sub(1).ok_or_else(|| E::custom(JsonError::too_deep(MAX_DEPTH)))
    }
}

impl<'de> DeserializeSeed<'de> for ValueVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: serde::de::Error>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(Integer::new(number)))
    }

    fn visit_i128<E: serde::de::Error>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(Integer::new(number)))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(Integer::new(number)))
    }

    fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Integer(Integer::new(number)))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        if !number.is_finite() {
            return Err(E::custom(JsonError::not_finite(number)));
        }
        // serde_json hands over an integer beyond 64 bits as the nearest double.
        if number >= BEYOND_U64 || number <= BEYOND_I64 {
            return Err(E::custom(format!(
                "{number:e} exceeds 64 bits and may be a rounded integer; parse the JSON text instead"
            )));
        }
        Ok(Value::Float(number))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth_left = self.enter()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Self { depth_left })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth_left = self.enter()?;
        let mut members = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if key == SERDE_JSON_NUMBER {
                return Err(A::Error::custom(
                    "numbers of serde_json's feature `arbitrary_precision` are ambiguous; parse the JSON text instead",
                ));
            }
            // Of repeated keys the last one wins, as in the canonical form.
            members.insert(key, access.next_value_seed(Self { depth_left })?);
        }
        Ok(Value::Object(members))
    }
}
