//! The tiles of a bus in a directory of their own: a companion of the log. It can be deleted at any
//! time and is rebuilt from the log. It is never believed against the log.
//!
//! `tiles.LEVEL` holds the hashes of all tiles of a level, one after another. Hash i lies at byte
//! 32 * i, so that a file only grows. `tiles.head` records up to which leaf the files are synced;
//! bytes after that are overwritten. A crash therefore costs at most the work since the last
//! record.

use std::io::ErrorKind;
use std::sync::Arc;

use zero_bus::Reader;
use zero_bus::storage::{Access, Lock, Storage, StorageFile, replace};

use crate::disclosure::DisclosureSecret;
use crate::entry::Entry;
use crate::hash::Hash;
use crate::leaves::{Leaf, for_each_leaf};
use crate::store_error::StoreError;
use crate::tile::node_hash;
use crate::tree::{self, CompactRange, Node};
use crate::tree_head::{MAX_TREE_HEAD_BYTES, TreeHead};

/// The file that records size and root.
pub const TILES_HEAD: &str = "tiles.head";

const LOCK: &str = "tiles.lock";
const SCHEMA: &str = "zero.runtime.tiles.v1";
/// Levels of the tree in one file: the height of a tile.
const TILE_HEIGHT: u8 = 8;
/// A tree of the maximum size needs no more files.
const LEVELS: usize = 8;
const HASH_BYTES: u64 = 32;
/// Hashes of leaves that are written at a time: those of 8,192 events.
const BATCH_BYTES: usize = 256 << 10;

/// The tiles of one bus. At most one value exists at a time, in any process.
pub struct TileStore {
    storage: Arc<dyn Storage>,
    head: TreeHead,
    files: Vec<Box<dyn StorageFile>>,
    /// Gets the number of leaves after each batch.
    on_progress: Option<OnProgress>,
    /// Holds the exclusive lock.
    _lock: Box<dyn StorageFile>,
}

type OnProgress = Box<dyn FnMut(u64) + Send + Sync>;

impl TileStore {
    /// Opens the tiles in a directory, which may be empty. Blocks while another process has them
    /// open. Tiles that are not intact count as missing. Where nothing can be written, they are
    /// opened for reading; [`TileStore::catch_up`] then fails unless they are up to date.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, StoreError> {
        let open = |name: &str| {
            let opened = storage.open(name, Access::ReadWrite).or_else(|error| match error.kind() {
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                    storage.open(name, Access::Read).map_err(|_| error)
                }
                _ => Err(error),
            });
            opened.map_err(StoreError::io("open", storage.path(name)))
        };
        let lock = open(LOCK)?;
        lock.lock(Lock::Exclusive).map_err(StoreError::io("lock", storage.path(LOCK)))?;
        let files = (0..LEVELS).map(|level| open(&level_name(level))).collect::<Result<_, _>>()?;
        let head = read_file(&*storage, TILES_HEAD)?
            .and_then(|text| TreeHead::parse("tiles", SCHEMA, &text).ok())
            .unwrap_or(TreeHead::EMPTY);
        let mut store = Self { storage, head, files, on_progress: None, _lock: lock };
        if !store.is_intact()? {
            store.head = TreeHead::EMPTY;
        }
        Ok(store)
    }

    /// Has [`TileStore::catch_up`] report how many leaves the tiles have, every few thousand
    /// events.
    pub fn report_progress(&mut self, on_progress: impl FnMut(u64) + Send + Sync + 'static) {
        self.on_progress = Some(Box::new(on_progress));
    }

    /// Brings the tiles up to the end of the log. Tiles of another log, or made with another
    /// secret, are rebuilt. Apart from that, the cost depends on the number of new events.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Bus`]. What was not recorded is done again next time.
    pub fn catch_up(&mut self, reader: &Reader, secret: &DisclosureSecret) -> Result<(), StoreError> {
        if !self.is_of(reader, secret)? {
            self.clear();
        }
        let frontier = self.covering(0, self.head.size)?;
        let mut growth = Growth {
            tree: CompactRange::from_hashes(0, self.head.size, &frontier)?,
            pending: std::array::from_fn(|_| Vec::new()),
            counts: std::array::from_fn(|level| self.head.size >> (level * usize::from(TILE_HEIGHT))),
            checksum: self.head.checksum,
        };
        for_each_leaf(reader, self.head.size + 1, secret, |leaf| {
            growth.add(leaf)?;
            if growth.pending[0].len() == BATCH_BYTES {
                growth.write(&self.storage, &self.files)?;
                if let Some(on_progress) = &mut self.on_progress {
                    on_progress(growth.tree.end());
                }
            }
            Ok(())
        })?;
        growth.write(&self.storage, &self.files)?;
        let head = TreeHead {
            size: growth.tree.end(),
            root: growth.tree.root().unwrap_or(Hash::EMPTY_TREE),
            checksum: growth.checksum,
        };
        if head != self.head {
            self.record(head)?;
        }
        Ok(())
    }

    /// Forgets all tiles. The next [`TileStore::catch_up`] builds them from the log.
    pub fn clear(&mut self) {
        self.head = TreeHead::EMPTY;
    }

    /// Size, root and last event.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The hash of a perfect subtree.
    ///
    /// # Errors
    /// [`StoreError::DamagedTiles`] if the files are too short, [`StoreError::Io`].
    pub fn node(&self, node: Node) -> Result<Hash, StoreError> {
        let level = usize::from(node.level / TILE_HEIGHT);
        let first = node.index << (node.level % TILE_HEIGHT);
        let mut bytes = vec![0; (HASH_BYTES << (node.level % TILE_HEIGHT)) as usize];
        let file = self.files.get(level).ok_or_else(|| self.damaged(level))?;
        let mut read = 0;
        while read < bytes.len() {
            let offset = first * HASH_BYTES + read as u64;
            let path = || self.storage.path(&level_name(level));
            match file
                .read_at(&mut bytes[read..], offset)
                .map_err(|error| StoreError::io("read", path())(error))?
            {
                0 => return Err(self.damaged(level)),
                more => read += more,
            }
        }
        let (hashes, _) = bytes.as_chunks::<32>();
        let hashes: Vec<Hash> = hashes.iter().copied().map(Hash::from_bytes).collect();
        Ok(node_hash(&hashes))
    }

    /// The root of the first `size` leaves.
    ///
    /// # Errors
    /// [`StoreError::Proof`] if there are fewer; as [`TileStore::node`].
    pub fn root(&self, size: u64) -> Result<Hash, StoreError> {
        self.check_size(size)?;
        tree::root(size, |node| self.node(node))
    }

    /// The hashes of the subtrees that cover a range of leaves, see [`Node::covering`].
    ///
    /// # Errors
    /// As [`TileStore::root`].
    pub fn covering(&self, begin: u64, end: u64) -> Result<Vec<Hash>, StoreError> {
        self.check_size(end)?;
        Node::covering(begin, end).map(|node| self.node(node)).collect()
    }

    /// The inclusion proof of a leaf in the tree of the first `size` leaves, after checking it.
    ///
    /// # Errors
    /// As [`TileStore::root`]; [`StoreError::DamagedTiles`] if the proof does not hold.
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let root = self.root(size)?;
        let path = tree::prove_inclusion(index, size, |node| self.node(node))?;
        tree::check_inclusion(&self.node(Node::leaf(index))?, index, size, &path, &root)
            .map_err(|_| self.damaged(0))?;
        Ok(path)
    }

    /// The consistency proof between two sizes, after checking it.
    ///
    /// # Errors
    /// As [`TileStore::prove_inclusion`].
    pub fn prove_consistency(&self, old_size: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let (old_root, root) = (self.root(old_size)?, self.root(size)?);
        let proof = tree::prove_consistency(old_size, size, |node| self.node(node))?;
        tree::check_consistency(old_size, &old_root, size, &root, &proof).map_err(|_| self.damaged(0))?;
        Ok(proof)
    }

    fn check_size(&self, size: u64) -> Result<(), StoreError> {
        if size > self.head.size {
            let problem = format!("the tiles have {} leaves, not {size}", self.head.size);
            return Err(crate::error::Error::invalid("tree size", problem).into());
        }
        Ok(())
    }

    fn damaged(&self, level: usize) -> StoreError {
        StoreError::DamagedTiles { path: self.storage.path(&level_name(level)) }
    }

    /// Whether the files lead to the recorded root.
    fn is_intact(&self) -> Result<bool, StoreError> {
        match self.root(self.head.size) {
            Ok(root) => Ok(root == self.head.root),
            Err(StoreError::DamagedTiles { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the last leaf is that of the log's event. The chain then vouches for those before.
    fn is_of(&self, reader: &Reader, secret: &DisclosureSecret) -> Result<bool, StoreError> {
        let size = self.head.size;
        if size == 0 {
            return Ok(true);
        }
        let event = match reader.event(size) {
            // The log is shorter. That is for others to judge; here it is another log.
            Err(zero_bus::Error::Missing { .. }) => None,
            event => event?,
        };
        let Some(event) = event.filter(|event| event.head() == self.head.head()) else { return Ok(false) };
        Ok(Entry::of(&event, secret).leaf_hash() == self.node(Node::leaf(size - 1))?)
    }

    /// The commit point: the files are synced, then the record is replaced.
    fn record(&mut self, head: TreeHead) -> Result<(), StoreError> {
        for (level, file) in self.files.iter().enumerate() {
            if head.size >> (level * usize::from(TILE_HEIGHT)) > 0 {
                file.sync().map_err(StoreError::io("sync", self.storage.path(&level_name(level))))?;
            }
        }
        replace(&*self.storage, TILES_HEAD, head.encode(SCHEMA).as_bytes())
            .map_err(StoreError::io("replace", self.storage.path(TILES_HEAD)))?;
        self.head = head;
        Ok(())
    }
}

/// New leaves on their way to the files.
struct Growth {
    tree: CompactRange,
    /// The hashes that each file gets next.
    pending: [Vec<u8>; LEVELS],
    /// The hashes that each file holds.
    counts: [u64; LEVELS],
    /// The checksum of the last event.
    checksum: Option<zero_bus::Checksum>,
}

impl Growth {
    fn add(&mut self, leaf: Leaf) -> Result<(), StoreError> {
        let pending = &mut self.pending;
        self.tree.push(leaf.hash, &mut |node, hash| {
            if node.level % TILE_HEIGHT == 0 {
                pending[usize::from(node.level / TILE_HEIGHT)].extend_from_slice(hash.as_bytes());
            }
        })?;
        self.checksum = Some(leaf.checksum);
        Ok(())
    }

    fn write(
        &mut self,
        storage: &Arc<dyn Storage>,
        files: &[Box<dyn StorageFile>],
    ) -> Result<(), StoreError> {
        for (level, file) in files.iter().enumerate() {
            let (bytes, count) = (&mut self.pending[level], &mut self.counts[level]);
            if bytes.is_empty() {
                continue;
            }
            file.write_at(bytes, *count * HASH_BYTES)
                .map_err(StoreError::io("write to", storage.path(&level_name(level))))?;
            *count += bytes.len() as u64 / HASH_BYTES;
            bytes.clear();
        }
        Ok(())
    }
}

fn level_name(level: usize) -> String {
    format!("tiles.{level}")
}

/// Reads a small file; `None` if it does not exist.
pub(crate) fn read_file(storage: &dyn Storage, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |error| StoreError::io("read", storage.path(name))(error);
    let file = match storage.open(name, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    // One byte more than allowed, so that the parser sees that it is too long.
    let mut content = vec![0; MAX_TREE_HEAD_BYTES + 1];
    let mut read = 0;
    while read < content.len() {
        match file.read_at(&mut content[read..], read as u64).map_err(failed)? {
            0 => break,
            more => read += more,
        }
    }
    content.truncate(read);
    Ok(Some(content))
}
