//! Why a text or a value has no canonical form, and the nesting limit that every module enforces.

use std::fmt;

/// How deep arrays and objects may nest. The Python implementation of this format stops at about
/// the same depth, so every payload that it can write is accepted. Parsing to this depth takes less
/// than 2 MiB of stack.
pub const MAX_DEPTH: usize = 1_000;

/// Path steps that an error keeps, counted from the fault outwards.
const MAX_PATH_STEPS: usize = 16;

/// Why a text or a value has no canonical form, and where the problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    problem: String,
    /// Path steps from the fault outwards: `.quantity`, `[2]`, `.orders`.
    steps: Vec<String>,
    /// Position in the parsed text; `None` if the value did not come from text.
    position: Option<TextPosition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TextPosition {
    /// Bytes before the fault.
    offset: usize,
    /// Counted from 1.
    line: usize,
    /// In bytes, counted from 1.
    column: usize,
}

impl JsonError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(Box::new(Inner { problem: problem.into(), steps: Vec::new(), position: None }))
    }

    pub(super) fn too_deep(max_depth: usize) -> Self {
        Self::new(format!("nested deeper than {max_depth} levels"))
    }

    pub(super) fn not_finite(number: f64) -> Self {
        Self::new(format!("{number} is not a finite number"))
    }

    /// What is wrong, without the position.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// The path to the fault inside the document, as in `orders[2].quantity`. Empty if the whole
    /// document is at fault.
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

    /// Bytes of the text before the fault; `None` if the value did not come from text.
    pub fn offset(&self) -> Option<usize> {
        self.0.position.map(|position| position.offset)
    }

    /// Adds the position in the text that was parsed.
    pub(crate) fn at_offset(mut self, text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        self.0.position = Some(TextPosition { offset, line, column: 1 + offset - line_start });
        self
    }

    /// Adds the next outer step of the path.
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
        match self.0.position {
            Some(position) => write!(f, " (line {}, column {})", position.line, position.column),
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
