//! Checkpoints (C2SP tlog-checkpoint): the text that a log signs.

use crate::encoding::decode_decimal;
use crate::error::Result;
use crate::hash::Hash;
use crate::lines::Lines;
use crate::note::MAX_NOTE_BYTES;
use crate::tree::MAX_SIZE;

const WHAT: &str = "checkpoint";

/// The size and root of a log, without signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The identity of the log: one line, not empty.
    pub origin: String,
    /// Leaves of the tree, at most [`MAX_SIZE`].
    pub size: u64,
    /// The root of the tree.
    pub root: Hash,
    /// Lines after the root. Logs of this project write none. Those of other logs are kept
    /// unchecked.
    pub extension_lines: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    pub fn new(origin: impl Into<String>, size: u64, root: Hash) -> Self {
        Self { origin: origin.into(), size, root, extension_lines: Vec::new() }
    }

    /// The text of the note.
    ///
    /// ```
    /// use zero_proof::{Checkpoint, Hash};
    /// let checkpoint = Checkpoint::new("example.com/bus", 0, Hash::EMPTY_TREE);
    /// let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    /// assert_eq!(checkpoint.text(), format!("example.com/bus\n0\n{root}\n"));
    /// assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint));
    /// ```
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extension_lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) with the line. A tree without leaves whose
    /// root is not [`Hash::EMPTY_TREE`] is well-formed, but no proof leads to it.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = Lines::new(WHAT, text.as_bytes(), MAX_NOTE_BYTES)?;
        let origin = lines.expect("the origin")?.to_owned();
        if origin.is_empty() {
            return Err(lines.error("the origin is empty"));
        }
        let size = decode_decimal(lines.expect("the tree size")?)
            .filter(|size| *size <= MAX_SIZE)
            .ok_or_else(|| lines.error(format!("the tree size must be a decimal of at most {MAX_SIZE}")))?;
        let root = lines.expect("the root hash")?;
        let root = root.parse().map_err(|_| lines.error("the root hash must be the base64 of 32 bytes"))?;
        let mut extension_lines = Vec::new();
        while let Some(line) = lines.next()? {
            if line.is_empty() {
                return Err(lines.error("an extension line is empty"));
            }
            extension_lines.push(line.to_owned());
        }
        Ok(Self { origin, size, root, extension_lines })
    }
}
