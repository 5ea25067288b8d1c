//! Finds keys that a JSON document repeats in one object.
//!
//! The last value counts, as everywhere else. In a file that a person writes, the others are
//! probably a mistake, so they are worth a warning.

use std::collections::HashSet;

use zero_bus::Value;

/// An object or an array that is not closed yet.
struct Open<'a> {
    path: String,
    /// The keys so far; `None` for an array.
    keys: Option<HashSet<String>>,
    /// The present key of an object.
    key: &'a str,
    /// The index of the present item of an array.
    index: usize,
}

impl Open<'_> {
    /// The path of the present member or item.
    fn child(&self) -> String {
        match (&self.keys, self.path.is_empty()) {
            (None, _) => format!("{}[{}]", self.path, self.index),
            (Some(_), true) => self.key.to_owned(),
            (Some(_), false) => format!("{}.{}", self.path, self.key),
        }
    }
}

/// Returns the paths of the members whose key occurred before in the same object, as in
/// `orders[0].price`. `text` must be valid JSON.
pub fn repeated_keys(text: &str) -> Vec<String> {
    let (bytes, mut repeated) = (text.as_bytes(), Vec::new());
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        let path = || open.last().map(Open::child).unwrap_or_default();
        match byte {
            b'{' => {
                let path = path();
                open.push(Open { path, keys: Some(HashSet::new()), key: "", index: 0 });
            }
            b'[' => {
                let path = path();
                open.push(Open { path, keys: None, key: "", index: 0 });
            }
            b'}' | b']' => drop(open.pop()),
            b',' => open.iter_mut().next_back().into_iter().for_each(|array| array.index += 1),
            b'"' => {
                let end = end_of_string(bytes, position);
                let is_key = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                if let Some(object) = open.last_mut().filter(|_| is_key) {
                    object.key = &text[position + 1..end - 1];
                    // Two spellings can be one key: `"a"` and `"\u0061"`.
                    let parsed = Value::parse(&text[position..end]).ok();
                    let key = parsed.as_ref().and_then(Value::as_str).unwrap_or(object.key).to_owned();
                    if object.keys.as_mut().is_some_and(|keys| !keys.insert(key)) {
                        repeated.push(object.child());
                    }
                }
                position = end;
                continue;
            }
            _ => {}
        }
        position += 1;
    }
    repeated
}

/// Returns the warning for a path that [`repeated_keys`] returned.
pub fn describe_repeated(path: &str) -> String {
    format!("{path}: is given more than once; the last one counts")
}

/// Returns the position after the string that starts at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut position = start + 1;
    while let Some(&byte) = bytes.get(position) {
        match byte {
            b'"' => return position + 1,
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::repeated_keys;

    #[test]
    fn repeated_keys_are_named_with_their_path() {
        for (text, expected) in [
            (r#"{"a": 1, "b": [1, 2, {"a": 3}], "c": "a"}"#, &[][..]),
            (r#"{"a": 1, "a" : 2}"#, &["a"]),
            (r#"{"orders": [{"price": 1}, {"price": 1, "x": ",{}[]\"", "price": 2}]}"#, &["orders[1].price"]),
            (r#"{"limits": {"a": {"b": 1, "b": 2}}, "limits": {}}"#, &["limits.a.b", "limits"]),
            (r#"{"a": 1, "\u0061": 2}"#, &["\\u0061"]),
            (r#"[["x", "x"], {"k": "k", "k": [[{"k": 1, "k": 2}]]}]"#, &["[1].k", "[1].k[0][0].k"]),
            ("7", &[]),
        ] {
            assert_eq!(repeated_keys(text), expected, "{text}");
        }
    }
}
