//! Text to value. A plain descent (RFC 8259, section 2 to 7), bounded in depth, that remembers where it was.

use std::collections::BTreeMap;
use std::fmt;

use super::value::{Integer, Value};

/// How deep arrays and objects may nest. The implementation these files come from gives up at about the
/// same depth, so nothing it could write is refused here. Reading that deep takes less than 2 MiB of stack.
pub const MAX_DEPTH: usize = 1_000;

/// How many steps of a path an error keeps, counted from the fault outwards.
const MAX_PATH_STEPS: usize = 16;

/// Why a text has no canonical form, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    problem: String,
    /// Steps from the fault outwards: `.quantity`, `[2]`, `orders`.
    steps: Vec<String>,
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: usize,
    line: usize,
    column: usize,
}

impl JsonError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self(Box::new(Inner { problem: problem.into(), steps: Vec::new(), place: None }))
    }

    /// What is wrong, without the place.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// The way to the fault inside the document, as in `orders[2].quantity`; empty at the top.
    ///
    /// ```
    /// let error = zero_bus::Json::parse(r#"{"orders":[{"price":NaN}]}"#).unwrap_err();
    /// assert_eq!((error.path().as_str(), error.offset()), ("orders[0].price", Some(20)));
    /// ```
    pub fn path(&self) -> String {
        let mut path = String::new();
        if self.0.steps.len() >= MAX_PATH_STEPS {
            path.push('…');
        }
        for step in self.0.steps.iter().rev() {
            path.push_str(step);
        }
        path.strip_prefix('.').unwrap_or(&path).to_owned()
    }

    /// Bytes before the fault; `None` for what did not come from text.
    pub fn offset(&self) -> Option<usize> {
        self.0.place.map(|place| place.offset)
    }

    fn at(mut self, text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        self.0.place = Some(Place { offset, line, column: 1 + offset - line_start });
        self
    }

    pub(super) fn inside(mut self, step: impl FnOnce() -> String) -> Self {
        if self.0.steps.len() < MAX_PATH_STEPS {
            self.0.steps.push(step());
        }
        self
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.0.problem)?;
        match self.0.place {
            Some(place) => write!(f, " (line {}, column {})", place.line, place.column),
            None => Ok(()),
        }
    }
}

impl std::error::Error for JsonError {}

impl serde::ser::Error for JsonError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

/// One value and nothing but white space around it.
pub(super) fn document(text: &str, max_depth: usize) -> Result<Value, JsonError> {
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, max_depth };
    parser.white_space();
    let value = parser.value(0);
    let end = value.and_then(|value| {
        parser.white_space();
        if parser.at == parser.bytes.len() {
            Ok(value)
        } else {
            Err(JsonError::new("something follows the value"))
        }
    });
    end.map_err(|error| error.at(text, parser.at))
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Where reading stands; at an error, the place that is at fault.
    at: usize,
    max_depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
            None => Err(JsonError::new("the text ends where a value should be")),
        }
    }

    fn word(&mut self) -> Result<Value, JsonError> {
        let rest = &self.text[self.at..];
        for (word, value) in
            [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
        {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        for word in ["NaN", "Infinity"] {
            if rest.starts_with(word) {
                return Err(JsonError::new(format!("{word} is not a finite number")));
            }
        }
        Err(JsonError::new("expected a value"))
    }

    fn enter(&self, depth: usize) -> Result<(), JsonError> {
        if depth <= self.max_depth {
            return Ok(());
        }
        Err(JsonError::new(format!("nested deeper than {} levels", self.max_depth)))
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.enter(depth)?;
        self.at += 1;
        let mut items = Vec::new();
        self.white_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            let item = self.value(depth).map_err(|error| error.inside(|| format!("[{}]", items.len())))?;
            items.push(item);
            self.white_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                _ => return Err(JsonError::new("expected `,` or `]` after an array's item")),
            }
            self.white_space();
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.enter(depth)?;
        self.at += 1;
        let mut members = BTreeMap::new();
        self.white_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(JsonError::new("expected a key in double quotes"));
            }
            let key = self.string()?;
            self.white_space();
            if self.peek() != Some(b':') {
                return Err(JsonError::new("expected `:` after a key"));
            }
            self.at += 1;
            self.white_space();
            let member =
                self.value(depth).map_err(|error| error.inside(|| format!(".{}", key.escape_debug())))?;
            members.insert(key, member);
            self.white_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                _ => return Err(JsonError::new("expected `,` or `}` after an object's member")),
            }
            self.white_space();
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.text[self.at..].starts_with("Infinity") {
            return Err(JsonError::new("-Infinity is not a finite number"));
        }
        let leading_zero = self.peek() == Some(b'0');
        match self.digits() {
            0 => return Err(JsonError::new("expected a digit")),
            1 => {}
            _ if leading_zero => {
                self.at = start;
                return Err(JsonError::new("a number must not begin with zeros"));
            }
            _ => {}
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return Err(JsonError::new("expected a digit after the decimal point"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(JsonError::new("expected a digit in the exponent"));
            }
        }
        let spelled = &self.text[start..self.at];
        if integer {
            return Ok(Value::Integer(Integer::from_checked(spelled)));
        }
        match spelled.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Value::Float(float)),
            _ => {
                self.at = start;
                Err(JsonError::new("the number is beyond a double"))
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let opening = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let run = self.at;
            while let Some(byte) = self.peek() {
                if byte == b'"' || byte == b'\\' || byte < 0x20 {
                    break;
                }
                self.at += 1;
            }
            // Runs end at ASCII bytes only, so both ends are character boundaries.
            out.push_str(&self.text[run..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(JsonError::new("a control character inside a string must be escaped")),
                None => {
                    self.at = opening;
                    return Err(JsonError::new("a string is not closed"));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let short = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => {
                self.at = start;
                return Err(JsonError::new("no such escape"));
            }
        };
        self.at += 1;
        Ok(short)
    }

    /// `\uXXXX`, or a surrogate pair of two of them (RFC 8259, section 7).
    fn unicode_escape(&mut self, start: usize) -> Result<char, JsonError> {
        let lone = JsonError::new("a lone surrogate has no portable form");
        let first = self.hex_after_u()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.text[self.at..].starts_with("\\u") {
                    self.at = start;
                    return Err(lone);
                }
                self.at += 1;
                let second = self.hex_after_u()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    self.at = start;
                    return Err(lone);
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| {
            self.at = start;
            lone
        })
    }

    /// Four hex digits behind the `u` that reading stands at.
    fn hex_after_u(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let mut code = 0;
        for digit in digits {
            let Some(value) = char::from(*digit).to_digit(16) else {
                return Err(JsonError::new("expected four hex digits after `\\u`"));
            };
            code = code * 16 + value;
        }
        if digits.len() < 4 {
            return Err(JsonError::new("expected four hex digits after `\\u`"));
        }
        self.at += 4;
        Ok(code)
    }
}
