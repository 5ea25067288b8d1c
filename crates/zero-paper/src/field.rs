//! Looking into a JSON document while knowing where: every complaint names the way to the field.

use zero_bus::Value;

/// A value in a document, and the way to it.
pub(crate) struct Field<'a> {
    path: String,
    /// Its name in the object it is a member of.
    key: &'a str,
    value: &'a Value,
}

/// What is wrong, with the field in front.
pub(crate) type Problem = String;

impl<'a> Field<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), key: "", value }
    }

    /// What is wrong with this field.
    pub(crate) fn problem(&self, problem: &str) -> Problem {
        if self.path.is_empty() { problem.to_owned() } else { format!("{}: {problem}", self.path) }
    }

    fn expected(&self, expected: &str) -> Problem {
        self.problem(&format!("expected {expected}, found {}", self.value.kind()))
    }

    /// The members of an object.
    pub(crate) fn object(&self) -> Result<impl Iterator<Item = Field<'a>>, Problem> {
        let Value::Object(members) = self.value else { return Err(self.expected("an object")) };
        let path = self.path.clone();
        Ok(members.iter().map(move |(key, value)| Field { path: join(&path, key), key, value }))
    }

    /// Whether this is a member of one of these names.
    pub(crate) fn is_one_of(&self, keys: &[&str]) -> bool {
        keys.contains(&self.key)
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A member that may be missing.
    pub(crate) fn optional(&self, key: &'a str) -> Option<Self> {
        let value = self.value.get(key)?;
        Some(Self { path: join(&self.path, key), key, value })
    }

    /// A member that must be there.
    pub(crate) fn required(&self, key: &'a str) -> Result<Self, Problem> {
        self.optional(key).ok_or_else(|| format!("{}: is missing", join(&self.path, key)))
    }

    pub(crate) fn items(&self) -> Result<impl Iterator<Item = Field<'a>>, Problem> {
        let Value::Array(items) = self.value else { return Err(self.expected("an array")) };
        let path = self.path.clone();
        Ok(items.iter().enumerate().map(move |(at, value)| Field {
            path: format!("{path}[{at}]"),
            key: "",
            value,
        }))
    }

    pub(crate) fn text(&self) -> Result<&'a str, Problem> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    pub(crate) fn bool(&self) -> Result<bool, Problem> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// A number as a double. What comes from a parsed document is finite.
    pub(crate) fn number(&self) -> Result<f64, Problem> {
        match self.value {
            Value::Integer(_) => self.value.as_f64().ok_or_else(|| self.problem("is beyond a double")),
            Value::Float(number) => Ok(*number),
            _ => Err(self.expected("a number")),
        }
    }

    pub(crate) fn positive(&self) -> Result<f64, Problem> {
        let number = self.number()?;
        if number > 0.0 { Ok(number) } else { Err(self.problem(&format!("must be above 0, is {number}"))) }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
