//! The last checkpoint that a log's key signed, in a file outside the bus directory.
//!
//! A log must never sign two checkpoints of which neither extends the other. The state makes sure
//! of it across restarts and crashes: a new checkpoint is checked against the state, then recorded
//! durably, and only then signed. After a crash between the two, the next checkpoint must extend
//! the recorded one, signed or not.

use std::sync::Arc;

use zero_bus::Reader;
use zero_bus::storage::{Access, Lock, Storage, StorageFile, replace};

use crate::checkpoint::Checkpoint;
use crate::disclosure::DisclosureSecret;
use crate::entry::Entry;
use crate::signed_checkpoint::SignedCheckpoint;
use crate::signing_key::SigningKey;
use crate::store_error::StoreError;
use crate::tile_store::{TileStore, read_file};
use crate::tree::Node;
use crate::tree_head::TreeHead;

const SCHEMA: &str = "zero.runtime.checkpoint-state.v1";

/// The state of one log. At most one value exists for a file at a time, in any process.
pub struct CheckpointState {
    storage: Arc<dyn Storage>,
    name: String,
    last: Option<TreeHead>,
    /// Holds the exclusive lock.
    _lock: Box<dyn StorageFile>,
}

impl CheckpointState {
    /// Opens the file `name`, which need not exist. Blocks while another process has it open. Its
    /// lock is a file next to it with `.lock` in its name.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Proof`] with the line if the file has another form. Such a
    /// file must not be deleted without finding out what was signed.
    pub fn open(storage: Arc<dyn Storage>, name: &str) -> Result<Self, StoreError> {
        let lock_name = format!("{name}.lock");
        let lock = storage.open(&lock_name, Access::ReadWrite);
        let lock = lock.map_err(StoreError::io("open", storage.path(&lock_name)))?;
        lock.lock(Lock::Exclusive).map_err(StoreError::io("lock", storage.path(&lock_name)))?;
        let last = match read_file(&*storage, name)? {
            Some(text) => Some(TreeHead::parse("checkpoint state", SCHEMA, &text)?),
            None => None,
        };
        Ok(Self { storage, name: name.to_owned(), last, _lock: lock })
    }

    /// The last checkpoint that was signed or was about to be signed. `None` before the first one.
    pub fn last(&self) -> Option<&TreeHead> {
        self.last.as_ref()
    }

    /// Signs a checkpoint of the whole log at a time in POSIX seconds. The name of the key is the
    /// origin. Brings the tiles up to date. The cost depends on the number of new events.
    ///
    /// # Errors
    /// [`StoreError::LogChanged`] or [`StoreError::OtherTree`] if the log does not extend what was
    /// signed before; [`StoreError::Bus`], [`StoreError::Io`], [`StoreError::Proof`]. Nothing was
    /// signed then.
    pub fn sign_next(
        &mut self,
        reader: &Reader,
        tiles: &mut TileStore,
        secret: &DisclosureSecret,
        key: &SigningKey,
        timestamp: u64,
    ) -> Result<SignedCheckpoint, StoreError> {
        let last = self.last.clone().unwrap_or(TreeHead::EMPTY);
        check_log(&last, reader, tiles, secret)?;
        tiles.catch_up(reader, secret)?;
        if tiles.root(last.size)? != last.root {
            // The tiles that came before were damaged below what opening them checks.
            tiles.clear();
            tiles.catch_up(reader, secret)?;
        }
        if tiles.root(last.size)? != last.root {
            return Err(StoreError::OtherTree { signed: last.size });
        }
        tiles.prove_consistency(last.size, tiles.head().size)?;
        let next = tiles.head().clone();
        let checkpoint = Checkpoint::new(key.name(), next.size, next.root);
        // Recorded first, signed second.
        if self.last.as_ref() != Some(&next) {
            replace(&*self.storage, &self.name, next.encode(SCHEMA).as_bytes())
                .map_err(StoreError::io("replace", self.storage.path(&self.name)))?;
            self.last = Some(next);
        }
        Ok(SignedCheckpoint::sign(checkpoint, key, timestamp)?)
    }
}

/// Checks that the log still holds the last event that was signed. The chain then vouches for those
/// before it.
fn check_log(
    last: &TreeHead,
    reader: &Reader,
    tiles: &TileStore,
    secret: &DisclosureSecret,
) -> Result<(), StoreError> {
    if last.size == 0 {
        return Ok(());
    }
    let event = match reader.event(last.size) {
        Err(error @ zero_bus::Error::Io { .. }) => return Err(error.into()),
        // The log is damaged there, or has lost its end.
        Err(_) => None,
        Ok(event) => event,
    };
    // Only tiles of the signed tree tell which event differs.
    let has_signed_tiles = tiles.head().size >= last.size && tiles.root(last.size)? == last.root;
    match event {
        Some(event) if event.head() == last.head() => {
            // Before tiles are rebuilt with a wrong secret.
            let is_other = || -> Result<bool, StoreError> {
                Ok(tiles.node(Node::leaf(last.size - 1))? != Entry::of(&event, secret).leaf_hash())
            };
            if has_signed_tiles && is_other()? {
                return Err(StoreError::OtherTree { signed: last.size });
            }
            Ok(())
        }
        _ => {
            let first_difference = match has_signed_tiles {
                true => Some(first_difference(last.size, reader, tiles, secret)?),
                false => None,
            };
            Err(StoreError::LogChanged { signed: last.size, first_difference })
        }
    }
}

/// The first of the signed events that the log does not hold. Reads the log from the start.
fn first_difference(
    signed: u64,
    reader: &Reader,
    tiles: &TileStore,
    secret: &DisclosureSecret,
) -> Result<u64, StoreError> {
    let mut equal = 0;
    for event in reader.events(1)? {
        let event = match event {
            Err(error @ zero_bus::Error::Io { .. }) => return Err(error.into()),
            Err(_) => break,
            Ok(event) => event,
        };
        if equal == signed || tiles.node(Node::leaf(equal))? != Entry::of(&event, secret).leaf_hash() {
            break;
        }
        equal += 1;
    }
    Ok((equal + 1).min(signed))
}
