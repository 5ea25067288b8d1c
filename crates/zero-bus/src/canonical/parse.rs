//! Any JSON text to canonical text: a recursive descent (RFC 8259, sections 2 to 7) with bounded
//! depth that writes while it reads. The [`Builder`] sorts members that are out of order.

use super::builder::Builder;
use super::error::JsonError;
use super::number::{parse_double, write_float};
use super::string::{decode, write_unquoted};

/// The canonical form of a text that is one value, optionally surrounded by white space.
///
/// Allocates the form and eight bytes for each member of the objects that are open. If members are
/// out of order, each of those costs some thirty bytes more, and the form is copied once.
pub(super) fn parse_document(text: &str, max_depth: usize) -> Result<String, JsonError> {
    let mut parser =
        Parser { text, bytes: text.as_bytes(), at: 0, max_depth, out: Builder::with_capacity(text.len()) };
    match parser.document() {
        Ok(()) => Ok(parser.out.finish()),
        Err(error) => Err(error.at_offset(text, parser.at)),
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Offset of the next byte. After an error, the offset of the fault.
    at: usize,
    max_depth: usize,
    out: Builder,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        self.skip_white_space();
        self.value(0)?;
        self.skip_white_space();
        if self.at < self.bytes.len() {
            return Err(JsonError::new("something follows the value"));
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Consumes one byte and writes it unchanged.
    fn copy_byte(&mut self, byte: u8) {
        self.at += 1;
        self.out.text.push(char::from(byte));
    }

    /// An error at an earlier offset.
    fn error_at<T>(&mut self, offset: usize, problem: &str) -> Result<T, JsonError> {
        self.at = offset;
        Err(JsonError::new(problem))
    }

    /// Reads a value inside `depth` arrays and objects.
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
            self.out.text.push_str(word);
            return Ok(());
        }
        for word in ["NaN", "Infinity"] {
            if rest.starts_with(word) {
                return Err(JsonError::new(format!("{word} is not a finite number")));
            }
        }
        Err(JsonError::new("expected a value"))
    }

    fn check_depth(&self, depth: usize) -> Result<(), JsonError> {
        if depth > self.max_depth {
            return Err(JsonError::too_deep(self.max_depth));
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.check_depth(depth)?;
        self.copy_byte(b'[');
        self.skip_white_space();
        if self.peek() == Some(b']') {
            self.copy_byte(b']');
            return Ok(());
        }
        for position in 0_usize.. {
            self.value(depth).map_err(|error| error.inside(|| format!("[{position}]")))?;
            self.skip_white_space();
            match self.peek() {
                Some(b',') => self.copy_byte(b','),
                Some(b']') => {
                    self.copy_byte(b']');
                    break;
                }
                _ => return Err(JsonError::new("expected `,` or `]` after an array's item")),
            }
            self.skip_white_space();
        }
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.check_depth(depth)?;
        let mut object = self.out.begin_object();
        self.at += 1;
        self.skip_white_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.out.end_object(object);
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(JsonError::new("expected a key in double quotes"));
            }
            let begin = self.out.text.len();
            self.string()?;
            self.out.add_member(&mut object, begin);
            self.skip_white_space();
            if self.peek() != Some(b':') {
                return Err(JsonError::new("expected `:` after a key"));
            }
            self.copy_byte(b':');
            self.skip_white_space();
            if let Err(error) = self.value(depth) {
                let key = decode(&self.out.text[object.key()]);
                return Err(error.inside(|| format!(".{}", key.escape_debug())));
            }
            self.skip_white_space();
            match self.peek() {
                Some(b',') => self.copy_byte(b','),
                Some(b'}') => {
                    self.at += 1;
                    self.out.end_object(object);
                    return Ok(());
                }
                _ => return Err(JsonError::new("expected `,` or `}` after an object's member")),
            }
            self.skip_white_space();
        }
    }

    /// Skips digits and returns how many there were.
    fn skip_digits(&mut self) -> usize {
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
        match self.skip_digits() {
            0 => return Err(JsonError::new("expected a digit")),
            1 => {}
            _ if leading_zero => return self.error_at(start, "a number must not begin with zeros"),
            _ => {}
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            if self.skip_digits() == 0 {
                return Err(JsonError::new("expected a digit after the decimal point"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.skip_digits() == 0 {
                return Err(JsonError::new("expected a digit in the exponent"));
            }
        }
        let token = &self.text[start..self.at];
        if is_integer {
            // Integers have no negative zero.
            self.out.text.push_str(if token == "-0" { "0" } else { token });
            return Ok(());
        }
        match parse_double(token) {
            Some(number) => {
                write_float(number, &mut self.out.text);
                Ok(())
            }
            None => self.error_at(start, "the number is beyond a double"),
        }
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let opening = self.at;
        self.copy_byte(b'"');
        loop {
            let run = self.at;
            while let Some(byte) = self.peek() {
                if byte == b'"' || byte == b'\\' || byte < 0x20 {
                    break;
                }
                self.at += 1;
            }
            // A run starts after and ends before an ASCII byte, so both ends are character
            // boundaries.
            write_unquoted(&self.text[run..self.at], &mut self.out.text);
            match self.peek() {
                Some(b'"') => {
                    self.copy_byte(b'"');
                    return Ok(());
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    write_unquoted(character.encode_utf8(&mut [0; 4]), &mut self.out.text);
                }
                Some(_) => return Err(JsonError::new("a control character inside a string must be escaped")),
                None => return self.error_at(opening, "a string is not closed"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => return self.error_at(start, "no such escape"),
        };
        self.at += 1;
        Ok(character)
    }

    /// Reads `\uXXXX`, or two of them that form a surrogate pair (RFC 8259, section 7).
    fn unicode_escape(&mut self, start: usize) -> Result<char, JsonError> {
        const LONE_SURROGATE: &str = "a lone surrogate has no portable form";
        let first = self.hex_after_u()?;
        let code_point = match first {
            0xd800..=0xdbff => {
                if !self.text[self.at..].starts_with("\\u") {
                    return self.error_at(start, LONE_SURROGATE);
                }
                self.at += 1;
                let second = self.hex_after_u()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.error_at(start, LONE_SURROGATE);
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        match char::from_u32(code_point) {
            Some(character) => Ok(character),
            None => self.error_at(start, LONE_SURROGATE),
        }
    }

    /// Consumes the `u` of an escape and its four hex digits.
    fn hex_after_u(&mut self) -> Result<u32, JsonError> {
        const PROBLEM: &str = "expected four hex digits after `\\u`";
        self.at += 1;
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let mut unit = 0;
        for digit in digits {
            let Some(value) = char::from(*digit).to_digit(16) else { return Err(JsonError::new(PROBLEM)) };
            unit = unit * 16 + value;
        }
        if digits.len() < 4 {
            return Err(JsonError::new(PROBLEM));
        }
        self.at += 4;
        Ok(unit)
    }
}
