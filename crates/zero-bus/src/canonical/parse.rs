//! Text to canonical text. A plain descent (RFC 8259, section 2 to 7), bounded in depth, that remembers where it was and
//! writes as it reads; what does not come in order is moved afterwards.

use std::fmt;

use super::order::Form;
use super::{scan, write};

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

/// The canonical form of one value with nothing but white space around it.
///
/// Costs memory for the form, eight bytes for each member of an object that is being read, and where members do not come in
/// order some thirty for each of those and the form once more.
pub(super) fn document(text: &str, max_depth: usize) -> Result<String, JsonError> {
    let mut parser =
        Parser { text, bytes: text.as_bytes(), at: 0, max_depth, form: Form::with_capacity(text.len()) };
    parser.white_space();
    let value = parser.value(0);
    let end = value.and_then(|()| {
        parser.white_space();
        if parser.at == parser.bytes.len() {
            Ok(())
        } else {
            Err(JsonError::new("something follows the value"))
        }
    });
    match end {
        Ok(()) => Ok(parser.form.finish()),
        Err(error) => Err(error.at(text, parser.at)),
    }
}

/// The finite double nearest to a number in JSON's spelling.
fn double(spelled: &str) -> Option<f64> {
    let finite = |spelled: &str| spelled.parse().ok().filter(|number: &f64| number.is_finite());
    let Some((digits, exponent)) = spelled.split_once(['e', 'E']) else { return finite(spelled) };
    if exponent.len() < 6 {
        return finite(spelled);
    }
    // The library reads no exponent beyond five digits right, and as many digits before it may take it back: so the point
    // is moved in front of the first digit that counts.
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = [whole, fraction].concat();
    let counting = digits.trim_start_matches('0');
    let point = whole.len() as i64 - (digits.len() - counting.len()) as i64;
    // One that does not fit is larger than there can be digits.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    // The least double is above 1e-400, the largest below 1e+400.
    let exponent = exponent.saturating_add(point).clamp(-400, 400);
    finite(&format!("{sign}0.{counting}e{exponent}"))
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Where reading stands; at an error, the place that is at fault.
    at: usize,
    max_depth: usize,
    form: Form,
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

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
            None => Err(JsonError::new("the text ends where a value should be")),
        }
    }

    fn word(&mut self) -> Result<(), JsonError> {
        let rest = &self.text[self.at..];
        if let Some(word) = ["null", "true", "false"].into_iter().find(|word| rest.starts_with(word)) {
            self.at += word.len();
            self.form.text.push_str(word);
            return Ok(());
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

    /// Passes over a byte that is written as it is.
    fn keep(&mut self, byte: u8) {
        self.at += 1;
        self.form.text.push(char::from(byte));
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.enter(depth)?;
        self.keep(b'[');
        self.white_space();
        if self.peek() == Some(b']') {
            self.keep(b']');
            return Ok(());
        }
        for position in 0_usize.. {
            self.value(depth).map_err(|error| error.inside(|| format!("[{position}]")))?;
            self.white_space();
            match self.peek() {
                Some(b',') => self.keep(b','),
                Some(b']') => {
                    self.keep(b']');
                    break;
                }
                _ => return Err(JsonError::new("expected `,` or `]` after an array's item")),
            }
            self.white_space();
        }
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.enter(depth)?;
        let mut object = self.form.open();
        self.at += 1;
        self.white_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.form.close(object);
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(JsonError::new("expected a key in double quotes"));
            }
            let begin = self.form.text.len();
            self.string()?;
            self.form.name(&mut object, begin);
            self.white_space();
            if self.peek() != Some(b':') {
                return Err(JsonError::new("expected `:` after a key"));
            }
            self.keep(b':');
            self.white_space();
            if let Err(error) = self.value(depth) {
                let name = scan::resolved(&self.form.text[object.key()]);
                return Err(error.inside(|| format!(".{}", name.escape_debug())));
            }
            self.white_space();
            match self.peek() {
                Some(b',') => self.keep(b','),
                Some(b'}') => {
                    self.at += 1;
                    self.form.close(object);
                    return Ok(());
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

    fn number(&mut self) -> Result<(), JsonError> {
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
            // Of the two zeros only one is an integer.
            self.form.text.push_str(if spelled == "-0" { "0" } else { spelled });
            return Ok(());
        }
        match double(spelled) {
            Some(float) => {
                write::float(float, &mut self.form.text);
                Ok(())
            }
            _ => {
                self.at = start;
                Err(JsonError::new("the number is beyond a double"))
            }
        }
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let opening = self.at;
        self.keep(b'"');
        loop {
            let run = self.at;
            while let Some(byte) = self.peek() {
                if byte == b'"' || byte == b'\\' || byte < 0x20 {
                    break;
                }
                self.at += 1;
            }
            // Runs end at ASCII bytes only, so both ends are character boundaries.
            write::within_quotes(&self.text[run..self.at], &mut self.form.text);
            match self.peek() {
                Some(b'"') => {
                    self.keep(b'"');
                    return Ok(());
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    write::within_quotes(character.encode_utf8(&mut [0; 4]), &mut self.form.text);
                }
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
