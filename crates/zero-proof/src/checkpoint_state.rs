//! The last checkpoint that a log's key signed, in a file outside the bus directory.
//!
//! A log must never sign two checkpoints of which neither extends the other. The state makes sure
//! of it across restarts and crashes: a new checkpoint is checked against the state, then recorded
//! durably, and only then signed. After a crash between the two, the next checkpoint must extend
//! the recorded one, signed or not.
//!
//! The newest stored checkpoint, which the caller passes in, is compared like the state. Whoever
//! wants another log signed must therefore remove both.

use std::cmp::Reverse;
use std::sync::Arc;

use zero_bus::storage::{Access, Lock, Storage, StorageFile, replace};
use zero_bus::{Checksum, Event, Reader};

use crate::checkpoint::Checkpoint;
use crate::disclosure::DisclosureSecret;
use crate::entry::Entry;
use crate::error::Result;
use crate::hash::Hash;
use crate::signed_checkpoint::SignedCheckpoint;
use crate::signing_key::SigningKey;
use crate::store_error::StoreError;
use crate::tile_store::{TileStore, read_file};
use crate::tree::Node;
use crate::tree_head::{MAX_TREE_HEAD_BYTES, TreeHead};

const SCHEMA: &str = "zero.runtime.checkpoint-state.v1";

/// Maximum bytes of a state file.
pub const MAX_STATE_BYTES: usize = MAX_TREE_HEAD_BYTES;

/// Reads the content of a state file: the last tree that was signed, or was about to be signed.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) with the line.
pub fn parse_state(content: &[u8]) -> Result<TreeHead> {
    TreeHead::parse("checkpoint state", SCHEMA, content)
}

/// The state of one log. At most one value exists for a file at a time, in any process.
pub struct CheckpointState {
    storage: Arc<dyn Storage>,
    name: String,
    last: Option<TreeHead>,
    /// See [`CheckpointState::check_all`].
    checks_all: bool,
    /// A signed checkpoint that is kept elsewhere, see [`CheckpointState::must_extend`].
    stored: Option<Checkpoint>,
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
            Some(content) => Some(parse_state(&content)?),
            None => None,
        };
        Ok(Self { storage, name: name.to_owned(), last, checks_all: false, stored: None, _lock: lock })
    }

    /// The last checkpoint that was signed or was about to be signed. `None` before the first one.
    pub fn last(&self) -> Option<&TreeHead> {
        self.last.as_ref()
    }

    /// Has the next checkpoint extend this one, too: the newest that is stored. A state that was
    /// lost or replaced by an older copy then does not let another log be signed.
    pub fn must_extend(&mut self, stored: &Checkpoint) {
        self.stored = Some(stored.clone());
    }

    /// Has the next checkpoint read the whole log again. The kept tiles are used only to find the
    /// first event that differs.
    pub fn check_all(&mut self) {
        self.checks_all = true;
    }

    /// Signs a checkpoint of the whole log at a time in POSIX seconds. The name of the key is the
    /// origin. Brings the tiles up to date. The cost depends on the number of new events.
    ///
    /// Of the events that were signed before, only the last one is read. A change to earlier ones
    /// that leaves the chain's checksums as they were is not found, and not signed either: the root
    /// is that of the kept tiles. After [`CheckpointState::check_all`], the whole log is read.
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
        let signed = self.signed();
        for tree in &signed {
            check_log(tree, reader, tiles, secret)?;
        }
        if self.checks_all {
            tiles.clear();
        }
        tiles.catch_up(reader, secret)?;
        for tree in &signed {
            if tiles.root(tree.size)? != tree.root {
                // The tiles that came before were damaged below what opening them checks.
                tiles.clear();
                tiles.catch_up(reader, secret)?;
            }
            if tiles.root(tree.size)? != tree.root {
                return Err(StoreError::OtherTree { signed: tree.size });
            }
            tiles.prove_consistency(tree.size, tiles.head().size)?;
        }
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

    /// The trees that the next one must extend, the largest first, so that its size is in the
    /// message.
    fn signed(&self) -> Vec<SignedTree> {
        let state = self.last.iter().map(|last| SignedTree {
            size: last.size,
            root: last.root,
            checksum: last.checksum,
        });
        let mut signed: Vec<_> = state.collect();
        if let Some(Checkpoint { size, root, .. }) = &self.stored
            && !signed.iter().any(|tree| (tree.size, tree.root) == (*size, *root))
        {
            signed.push(SignedTree { size: *size, root: *root, checksum: None });
        }
        signed.sort_by_key(|tree| Reverse(tree.size));
        signed
    }
}

/// A tree that was signed, or was about to be signed.
struct SignedTree {
    size: u64,
    root: Hash,
    /// The checksum of its last event, if that is known.
    checksum: Option<Checksum>,
}

/// Checks that the log still holds the last event that was signed. The chain then vouches for those
/// before it.
fn check_log(
    signed: &SignedTree,
    reader: &Reader,
    tiles: &TileStore,
    secret: &DisclosureSecret,
) -> Result<(), StoreError> {
    let size = signed.size;
    if size == 0 {
        return Ok(());
    }
    // Only tiles of the signed tree tell which event differs.
    let has_signed_tiles = tiles.head().size >= size && tiles.root(size)? == signed.root;
    let event = match reader.event(size) {
        Err(error @ zero_bus::Error::Io { .. }) => return Err(error.into()),
        // The tiles hold the tree that was signed, and the last event that they have is compared
        // with the log.
        Err(zero_bus::Error::Retired { .. }) if has_signed_tiles => return Ok(()),
        Err(error @ zero_bus::Error::Retired { .. }) => return Err(error.into()),
        // The log is damaged there, or has lost its end.
        Err(_) => None,
        Ok(event) => event,
    };
    let is_last = |event: &Event| signed.checksum.is_none_or(|checksum| event.checksum == checksum);
    match event.filter(is_last) {
        Some(event) => {
            // Before tiles are rebuilt with a wrong secret.
            let leaf_hash = Entry::of(&event, secret).leaf_hash();
            if !has_signed_tiles || tiles.node(Node::leaf(size - 1))? == leaf_hash {
                return Ok(());
            }
            match signed.checksum {
                // It is the event, so that the secret is another one.
                Some(_) => Err(StoreError::OtherTree { signed: size }),
                None => match first_difference(size, reader, tiles, secret)? {
                    1 => Err(StoreError::OtherTree { signed: size }),
                    index => Err(StoreError::LogChanged { signed: size, first_difference: Some(index) }),
                },
            }
        }
        None => {
            let first_difference = match has_signed_tiles {
                true => Some(first_difference(size, reader, tiles, secret)?),
                false => None,
            };
            Err(StoreError::LogChanged { signed: size, first_difference })
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
