//! What a file remembers of a tree: its size and root, and the last event of the log.

use zero_bus::{Checksum, Head};

use crate::encoding::decode_decimal;
use crate::error::Result;
use crate::hash::Hash;
use crate::lines::Lines;
use crate::tree::MAX_SIZE;

/// Maximum bytes of the text form.
pub(crate) const MAX_TREE_HEAD_BYTES: usize = 4 << 10;

/// Stands for the checksum of no event.
const NO_EVENT: &str = "-";

/// A tree and the head of the log that it was built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Leaves of the tree: events of the log.
    pub size: u64,
    /// The root of the tree.
    pub root: Hash,
    /// The checksum of the last event; `None` without events.
    pub checksum: Option<Checksum>,
}

impl TreeHead {
    /// The tree of an empty log.
    pub const EMPTY: Self = Self { size: 0, root: Hash::EMPTY_TREE, checksum: None };

    /// The head of the log.
    pub(crate) fn head(&self) -> Head {
        Head { index: self.size, checksum: self.checksum }
    }

    /// Four lines: `schema`, size, root, checksum.
    pub(crate) fn encode(&self, schema: &str) -> String {
        let checksum = self.checksum.map_or(NO_EVENT.to_owned(), |checksum| checksum.to_string());
        format!("{schema}\n{}\n{}\n{checksum}\n", self.size, self.root)
    }

    /// Reads the four lines. `what` names the file in errors.
    pub(crate) fn parse(what: &'static str, schema: &str, text: &[u8]) -> Result<Self> {
        let mut lines = Lines::new(what, text, MAX_TREE_HEAD_BYTES)?;
        if lines.expect("the schema")? != schema {
            return Err(lines.error(format!("must be `{schema}`")));
        }
        let size = decode_decimal(lines.expect("the size")?).filter(|size| *size <= MAX_SIZE);
        let size = size.ok_or_else(|| lines.error("the size must be a decimal"))?;
        let root = lines.expect("the root")?;
        let root = root.parse().map_err(|_| lines.error("the root must be the base64 of 32 bytes"))?;
        let checksum = match (size, lines.expect("the checksum")?) {
            (0, NO_EVENT) => None,
            (0, _) => return Err(lines.error(format!("must be `{NO_EVENT}` for an empty log"))),
            (_, text) => Some(text.parse().map_err(|error| lines.error(format!("{error}")))?),
        };
        if lines.next()?.is_some() {
            return Err(lines.error("nothing may follow the checksum"));
        }
        Ok(Self { size, root, checksum })
    }
}
