//! Typed access to a JSON document, with error messages that name the path of the field.

use zero_bus::{Json, Value};

/// A value in a document and its path, as in `orders[2].quantity`.
pub(crate) struct Field<'a> {
    path: String,
    /// The name of this member in its object; empty for the root and for array items.
    key: &'a str,
    value: &'a Value,
}

/// An error message that begins with the path of the field.
pub(crate) type Problem = String;

impl<'a> Field<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), key: "", value }
    }

    /// Puts this field's path in front of a problem.
    pub(crate) fn problem(&self, problem: &str) -> Problem {
        if self.path.is_empty() { problem.to_owned() } else { format!("{}: {problem}", self.path) }
    }

    fn expected(&self, expected: &str) -> Problem {
        self.problem(&format!("expected {expected}, found {}", self.value.kind()))
    }

    /// Returns the members of an object.
    pub(crate) fn object(&self) -> Result<impl Iterator<Item = Field<'a>>, Problem> {
        let Value::Object(members) = self.value else { return Err(self.expected("an object")) };
        let path = self.path.clone();
        Ok(members.iter().map(move |(key, value)| Field { path: join(&path, key), key, value }))
    }

    /// Returns whether this member has one of these names.
    pub(crate) fn is_one_of(&self, keys: &[&str]) -> bool {
        keys.contains(&self.key)
    }

    /// Returns the name of this member in its object.
    pub(crate) fn name(&self) -> &'a str {
        self.key
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the member with this name, or `None` if it is missing.
    pub(crate) fn optional(&self, key: &'a str) -> Option<Self> {
        let value = self.value.get(key)?;
        Some(Self { path: join(&self.path, key), key, value })
    }

    /// Returns the member with this name, or `None` if it is missing or null.
    pub(crate) fn optional_unless_null(&self, key: &'a str) -> Option<Self> {
        self.optional(key).filter(|member| *member.value != Value::Null)
    }

    /// Returns the member with this name, or an error if it is missing.
    pub(crate) fn required(&self, key: &'a str) -> Result<Self, Problem> {
        self.optional(key).ok_or_else(|| format!("{}: is missing", join(&self.path, key)))
    }

    pub(crate) fn items(&self) -> Result<impl Iterator<Item = Field<'a>>, Problem> {
        let Value::Array(items) = self.value else { return Err(self.expected("an array")) };
        let path = self.path.clone();
        Ok(items.iter().enumerate().map(move |(index, value)| Field {
            path: format!("{path}[{index}]"),
            key: "",
            value,
        }))
    }

    pub(crate) fn text(&self) -> Result<&'a str, Problem> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    /// Returns the text, or `None` if the value is not a string.
    pub(crate) fn optional_text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// Returns a text, or a number as it is written in canonical form.
    pub(crate) fn text_or_number(&self) -> Result<String, Problem> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Integer(integer) => Ok(integer.as_str().to_owned()),
            Value::Float(number) => Ok(format!("{number:?}")),
            _ => Err(self.expected("a string or a number")),
        }
    }

    pub(crate) fn bool(&self) -> Result<bool, Problem> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// Returns a number as a double. Numbers of a parsed document are finite.
    pub(crate) fn number(&self) -> Result<f64, Problem> {
        match self.value {
            Value::Integer(_) => self.value.as_f64().ok_or_else(|| self.problem("is too large for a double")),
            Value::Float(number) => Ok(*number),
            _ => Err(self.expected("a number")),
        }
    }

    /// Returns a number, or `None` for null.
    pub(crate) fn nullable_number(&self) -> Result<Option<f64>, Problem> {
        if *self.value == Value::Null { Ok(None) } else { self.number().map(Some) }
    }

    /// Returns the canonical text of the value.
    pub(crate) fn json(&self) -> Result<Json, Problem> {
        Json::try_from(self.value).map_err(|error| self.problem(error.problem()))
    }

    /// Returns an error unless `schema_version` is this schema.
    pub(crate) fn check_schema(&self, schema: &str) -> Result<(), Problem> {
        let found = self.required("schema_version")?;
        match found.text()? {
            text if text == schema => Ok(()),
            text => Err(found.problem(&format!("must be `{schema}`, is `{text}`"))),
        }
    }

    /// Returns a whole number that is not negative.
    pub(crate) fn count(&self) -> Result<u64, Problem> {
        self.value.as_u64().ok_or_else(|| self.expected("a whole number, 0 or more"))
    }

    pub(crate) fn positive(&self) -> Result<f64, Problem> {
        let number = self.number()?;
        if number > 0.0 { Ok(number) } else { Err(self.problem(&format!("must be above 0, is {number}"))) }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
