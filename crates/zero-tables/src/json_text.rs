//! Looks into canonical JSON without building a tree.
//!
//! The text must be the canonical form of a value, as every payload is. For other text, the results
//! are meaningless, but nothing panics.

use std::borrow::Cow;

use zero_bus::Value;

/// The members of an object: each key as it is spelled between its quotes, and the text of its
/// value. Empty for other values.
pub(crate) fn members(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = object.strip_prefix('{').unwrap_or_default();
    std::iter::from_fn(move || {
        let (key, after_key) = take_value(rest)?;
        let (value, after_value) = take_value(after_key.strip_prefix(':')?)?;
        rest = after_value.strip_prefix(',').unwrap_or_default();
        Some((key.strip_prefix('"')?.strip_suffix('"')?, value))
    })
}

/// The items of an array. Empty for other values.
pub(crate) fn items(array: &str) -> impl Iterator<Item = &str> {
    let mut rest = array.strip_prefix('[').unwrap_or_default();
    std::iter::from_fn(move || {
        let (item, after) = take_value(rest)?;
        rest = after.strip_prefix(',').unwrap_or_default();
        Some(item)
    })
}

/// A string, with its escapes resolved.
pub(crate) fn text(value: &str) -> Option<Cow<'_, str>> {
    let spelled = value.strip_prefix('"')?.strip_suffix('"')?;
    if !spelled.contains('\\') {
        return Some(Cow::Borrowed(spelled));
    }
    match Value::parse(value).ok()? {
        Value::String(text) => Some(Cow::Owned(text)),
        _ => None,
    }
}

/// A number as a double. An integer is the nearest one; `None` beyond the largest.
pub(crate) fn number(value: &str) -> Option<f64> {
    is_number(value).then(|| value.parse().ok()).flatten().filter(|number: &f64| number.is_finite())
}

/// A number that is spelled as an integer and fits 64 bits.
pub(crate) fn integer(value: &str) -> Option<i64> {
    is_number(value).then(|| value.parse().ok()).flatten()
}

/// A boolean.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn is_number(value: &str) -> bool {
    matches!(value.as_bytes().first(), Some(b'-' | b'0'..=b'9'))
}

/// Splits the value that a text begins with from the rest. `None` at the end of an object or array.
fn take_value(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = match bytes.first()? {
        b'"' => string_end(bytes, 0)?,
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0_usize);
            loop {
                match bytes.get(at)? {
                    b'"' => at = string_end(bytes, at)?,
                    b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
                    b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
                    _ => at += 1,
                }
                if depth == 0 {
                    break at;
                }
            }
        }
        b'}' | b']' => return None,
        _ => bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b':')).unwrap_or(bytes.len()),
    };
    text.split_at_checked(end)
}

/// The offset after the string that begins at `begin`.
fn string_end(bytes: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use zero_bus::{Json, Value};

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<u64>().prop_map(|number| Value::Integer(number.into())),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Float),
            ".*".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map(".*", inner, 0..5).prop_map(Value::Object),
            ]
        })
    }

    /// Checks every value of a tree against its text.
    fn check(value: &Value, found: &str) {
        assert_eq!(Json::try_from(value).unwrap().as_str(), found);
        assert_eq!(text(found).as_deref(), value.as_str());
        assert_eq!(number(found), value.as_f64());
        assert_eq!(boolean(found), value.as_bool());
        let as_integer = match value {
            Value::Integer(integer) => integer.as_str().parse().ok(),
            _ => None,
        };
        assert_eq!(integer(found), as_integer);
        let (found_items, found_members) =
            (items(found).collect::<Vec<_>>(), members(found).collect::<Vec<_>>());
        let (values, by_key) = match value {
            Value::Array(values) => (values.iter().collect(), Vec::new()),
            Value::Object(members) => (Vec::new(), members.iter().collect()),
            _ => (Vec::<&Value>::new(), Vec::<(&String, &Value)>::new()),
        };
        assert_eq!((found_items.len(), found_members.len()), (values.len(), by_key.len()));
        values.into_iter().zip(found_items).for_each(|(value, found)| check(value, found));
        for ((key, value), (found_key, found)) in by_key.into_iter().zip(found_members) {
            assert_eq!(text(&format!("\"{found_key}\"")).unwrap(), *key);
            check(value, found);
        }
    }

    proptest! {
        #[test]
        fn what_is_found_in_the_text_is_what_a_tree_holds(value in json()) {
            let canonical = Json::try_from(&value).unwrap();
            check(&value, canonical.as_str());
        }

        #[test]
        fn text_that_is_not_canonical_does_no_harm(hostile in "[\\[\\]{}\":,\\\\a1é-]{0,40}") {
            members(&hostile).chain(items(&hostile).map(|item| ("", item))).for_each(|(key, value)| {
                let _ = (text(key), text(value), number(value), integer(value));
            });
        }
    }
}
