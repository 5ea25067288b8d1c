//! The idempotency keys that were used: the recent ones in memory, those before the start-up
//! checkpoint in a [`KeyIndex`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::key_index::{IndexIdentity, KeyIndex, key_hash};

/// A start that reads a long journal moves its keys to the index when memory holds this many.
const MAX_RECENT: usize = 1 << 16;

/// Every key that was used, with the place of its first use. The owner chooses what a place is;
/// places increase.
///
/// A clone shares the index but adds nothing to it.
#[derive(Clone, Default)]
pub(crate) struct UsedKeys {
    recent: HashMap<u128, u64>,
    index: Option<Arc<KeyIndex>>,
}

impl UsedKeys {
    /// Returns the keys of an index.
    pub(crate) fn in_index(index: KeyIndex) -> Self {
        Self { recent: HashMap::new(), index: Some(Arc::new(index)) }
    }

    /// Returns where a key was used first. An index may know keys that were used after its
    /// checkpoint, and whose records are about to be applied: places at or after `end` do not
    /// count.
    ///
    /// # Errors
    /// The index is damaged or cannot be read.
    pub(crate) fn place(&self, key: &str, end: u64) -> Result<Option<u64>> {
        let hash = key_hash(key);
        if let Some(place) = self.recent.get(&hash) {
            return Ok(Some(*place));
        }
        let Some(index) = &self.index else { return Ok(None) };
        Ok(index.get(hash)?.filter(|place| *place < end))
    }

    /// Adds a key that was not used before.
    pub(crate) fn insert(&mut self, key: &str, place: u64) {
        self.recent.insert(key_hash(key), place);
    }

    /// Returns the error of the first failed lookup.
    ///
    /// # Errors
    /// As [`KeyIndex::check`].
    pub(crate) fn check(&self) -> Result<()> {
        self.index.as_ref().map_or(Ok(()), |index| index.check())
    }

    /// Whether memory holds so many keys that they should be moved to the index.
    pub(crate) fn is_large(&self) -> bool {
        self.recent.len() >= MAX_RECENT
    }

    /// Returns the number of the keys in memory.
    pub(crate) fn recent(&self) -> u64 {
        self.recent.len() as u64
    }

    /// Moves the keys in memory to the index, which `create` creates if there is none yet. Returns
    /// the identity of the index. After an error the keys are still in memory.
    ///
    /// # Errors
    /// As [`KeyIndex::extend`], and those of `create`.
    pub(crate) fn move_to_index(
        &mut self,
        create: impl FnOnce() -> Result<KeyIndex>,
    ) -> Result<IndexIdentity> {
        let index = match &self.index {
            Some(index) => Arc::clone(index),
            None => Arc::clone(self.index.insert(Arc::new(create()?))),
        };
        index.extend(self.recent.iter().map(|(hash, place)| (*hash, *place)).collect())?;
        self.recent.clear();
        Ok(index.identity())
    }
}

impl fmt::Debug for UsedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsedKeys").field("recent", &self.recent.len()).finish_non_exhaustive()
    }
}
