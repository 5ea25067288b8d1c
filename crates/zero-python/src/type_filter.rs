//! The argument `types`: which event types a reader returns.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Patterns in which `*` stands for any text. Matches every type if there is none.
#[derive(Clone, Default)]
pub(crate) struct TypeFilter(Option<Vec<String>>);

impl TypeFilter {
    pub(crate) fn matches(&self, event_type: &str) -> bool {
        let patterns = self.0.as_deref();
        patterns.is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, event_type)))
    }
}

impl<'py> FromPyObject<'_, 'py> for TypeFilter {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyString>() {
            return Ok(Self(Some(vec![value.extract()?])));
        }
        let patterns = value.try_iter().and_then(|items| items.map(|item| item?.extract()).collect());
        patterns.map(|patterns| Self(Some(patterns))).map_err(|_| {
            PyTypeError::new_err(
                "types: should be an event type, or a collection of them; * stands for any text",
            )
        })
    }
}

/// Whether a text matches a pattern. Greedy from both ends, and leftmost in between.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, end) = rest.rsplit_once('*').map_or(("", rest), |(middle, end)| (middle, end));
    let Some(text) = text.strip_prefix(start).and_then(|text| text.strip_suffix(end)) else { return false };
    let mut remaining = text;
    middle.split('*').all(|part| match remaining.find(part) {
        Some(at) => {
            remaining = &remaining[at + part.len()..];
            true
        }
        None => false,
    })
}
