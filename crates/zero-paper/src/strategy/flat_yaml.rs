//! The flat subset of YAML in which strategies are described: one `key: value` per line, and
//! mappings one level deep, indented or in braces. Everything else is refused.
//!
//! ```yaml
//! name: breakout            # text; quoted or not
//! quantity: 0.5             # numbers as in JSON
//! paper_only: true
//! condition:                # or: {type: close_above_open, min_move_pct: 0.25}
//!   type: close_above_open
//!   min_move_pct: 0.25
//! ```

use std::collections::BTreeMap;

use zero_bus::Value;

/// The members of a mapping, and the line of each member by its path.
pub(super) type Document = (Value, BTreeMap<String, usize>);

/// A line, counted from 1, and the problem with it.
pub(super) type LineProblem = (usize, String);

/// Parses a document.
pub(super) fn parse(text: &str) -> Result<Document, LineProblem> {
    let mut parser = Parser::default();
    for (index, line) in text.lines().enumerate() {
        parser.line = index + 1;
        let content = without_comment(line).map_err(|problem| (parser.line, problem))?.trim_end();
        if content.is_empty() {
            continue;
        }
        if !content.starts_with([' ', '\t']) {
            parser.close_nested()?;
        }
        parser.add_line(content).map_err(|problem| (parser.line, problem))?;
    }
    parser.close_nested()?;
    Ok((Value::Object(parser.members), parser.lines))
}

#[derive(Default)]
struct Parser {
    members: BTreeMap<String, Value>,
    lines: BTreeMap<String, usize>,
    /// The current line, counted from 1.
    line: usize,
    /// Whether a member or the line `---` was read.
    has_begun: bool,
    /// The key, the members and the indentation of the mapping that is being read.
    nested: Option<(String, BTreeMap<String, Value>, usize)>,
    /// The line of that key.
    nested_line: usize,
}

impl Parser {
    /// Reads a line that is not empty.
    fn add_line(&mut self, content: &str) -> Result<(), String> {
        if content == "---" && !self.has_begun {
            self.has_begun = true;
            return Ok(());
        }
        self.has_begun = true;
        let indentation = content.len() - content.trim_start_matches(' ').len();
        let content = &content[indentation..];
        if content.starts_with('\t') {
            return Err("is indented by a tab; use spaces".to_owned());
        }
        let (key, value) = split_member(content)?;
        if indentation == 0 {
            self.record(&key, None)?;
            if value.is_empty() {
                self.nested_line = self.line;
                self.nested = Some((key, BTreeMap::new(), 0));
                return Ok(());
            }
            let value = match value.strip_prefix('{') {
                Some(inner) => self.flow_mapping(&key, inner)?,
                None => scalar(value)?,
            };
            self.members.insert(key, value);
            return Ok(());
        }
        let Some((parent, members, expected)) = &mut self.nested else {
            return Err("is indented, but belongs to no mapping".to_owned());
        };
        if *expected != 0 && *expected != indentation {
            return Err(format!("is indented by {indentation} spaces, but the line before by {expected}"));
        }
        *expected = indentation;
        if value.is_empty() || value.starts_with('{') {
            return Err(format!("{key}: must be a text, a number, true or false"));
        }
        members.insert(key.clone(), scalar(value)?);
        let parent = parent.clone();
        self.record(&key, Some(&parent))
    }

    /// Reads the members of `{a: 1, b: x}` from behind the brace.
    fn flow_mapping(&mut self, parent: &str, inner: &str) -> Result<Value, String> {
        let Some(inner) = inner.strip_suffix('}') else {
            return Err("has a brace that is not closed on the same line".to_owned());
        };
        let mut members = BTreeMap::new();
        for member in inner.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            let (key, value) = split_member(member)?;
            self.record(&key, Some(parent))?;
            members.insert(key, scalar(value)?);
        }
        Ok(Value::Object(members))
    }

    /// Remembers the line of a member.
    fn record(&mut self, key: &str, parent: Option<&str>) -> Result<(), String> {
        let path = parent.map_or(key.to_owned(), |parent| format!("{parent}.{key}"));
        match self.lines.insert(path, self.line) {
            Some(earlier) => Err(format!("{key}: is given twice; the first is in line {earlier}")),
            None => Ok(()),
        }
    }

    /// Ends the mapping that is being read.
    fn close_nested(&mut self) -> Result<(), LineProblem> {
        let Some((key, members, _)) = self.nested.take() else { return Ok(()) };
        if members.is_empty() {
            return Err((self.nested_line, format!("{key}: has no value")));
        }
        self.members.insert(key, Value::Object(members));
        Ok(())
    }
}

/// Cuts a comment: a `#` at the beginning of a line or after white space, outside of quotes.
fn without_comment(line: &str) -> Result<&str, String> {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '#' && before.is_whitespace() => return Ok(&line[..at]),
            // Within a word, an apostrophe is no quote.
            None if matches!(c, '"' | '\'') && (before.is_whitespace() || matches!(before, '{' | ',')) => {
                quote = Some(c)
            }
            _ => {}
        }
        before = c;
    }
    match quote {
        Some(_) => Err("has a quote that is not closed on the same line".to_owned()),
        None => Ok(line),
    }
}

/// Splits `key: value`. The value may be missing.
fn split_member(content: &str) -> Result<(String, &str), String> {
    if content == "-" || content.starts_with("- ") {
        return Err("is an item of a list, which is not supported".to_owned());
    }
    let (key, value) = match content.split_once(": ") {
        Some((key, value)) => (key, value.trim()),
        None => match content.strip_suffix(':') {
            Some(key) => (key, ""),
            None => return Err("is not of the form `key: value`".to_owned()),
        },
    };
    let key = key.trim();
    let unquoted = ['"', '\''].into_iter().find_map(|quote| key.strip_prefix(quote)?.strip_suffix(quote));
    let key = unquoted.unwrap_or(key);
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(format!("`{key}` is not a key; a key has letters, digits, `_` and `-`"));
    }
    Ok((key.to_owned(), value))
}

/// Reads a text, a number, true or false.
fn scalar(text: &str) -> Result<Value, String> {
    let refused = |what: &str| Err(format!("`{text}` is {what}, which is not supported"));
    match text.chars().next() {
        None => return Err("has no value".to_owned()),
        Some('"') => return double_quoted(text),
        Some('\'') => return single_quoted(text),
        Some('|' | '>') => {
            return Err(format!("`{text}` begins a text over several lines; write it on one line"));
        }
        Some('&' | '*') => return refused("an anchor or alias"),
        Some('!') => return refused("a tag"),
        Some('[') => return refused("a list"),
        Some('%' | '@' | '`' | '{' | '}' | ']' | ',' | '?') => return refused("not plain text; quote it"),
        Some('-') if text == "-" || text.starts_with("- ") => return refused("a list"),
        Some(_) => {}
    }
    match text {
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        "null" | "Null" | "NULL" | "~" => return Err("has no value".to_owned()),
        _ => {}
    }
    match Value::parse(text) {
        Ok(number @ (Value::Integer(_) | Value::Float(_))) => Ok(number),
        _ if text.contains(": ") || text.ends_with(':') => {
            Err(format!("`{text}` contains a colon; quote the text"))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Reads a text in double quotes. Its escapes are those that YAML and JSON share.
fn double_quoted(text: &str) -> Result<Value, String> {
    match Value::parse(text) {
        Ok(value @ Value::String(_)) => Ok(value),
        _ => Err(format!("{text} is not a quoted text; after `\\`, only the escapes of JSON are supported")),
    }
}

/// Reads a text in single quotes, within which `''` is one quote.
fn single_quoted(text: &str) -> Result<Value, String> {
    let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    match inner.map(|inner| (inner.replace("''", ""), inner)) {
        Some((rest, inner)) if text.len() > 1 && !rest.contains('\'') => {
            Ok(Value::String(inner.replace("''", "'")))
        }
        _ => Err(format!("{text} is not a quoted text")),
    }
}
