//! Tiles (C2SP tlog-tiles): a tree as files of at most 256 hashes or entries, which never change.
//! Paths and contents as data; nothing here touches a file.

use std::ops::Range;

use crate::encoding::decode_decimal;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::tree::{MAX_SIZE, Node};

/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u64 = 256;

/// Levels of the tree in one level of tiles.
const TILE_HEIGHT: u8 = 8;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Entries, each after its length.
    Entries,
    /// Hashes of subtrees of `256^level` leaves. Level 0 holds the hashes of leaves.
    Hashes(u8),
}

/// A tile: up to 256 consecutive hashes or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub layer: Layer,
    /// Position in its layer, counted from 0.
    pub index: u64,
    /// Number of hashes or entries: 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The path below the prefix of the log, such as `tile/0/x001/x234/067.p/112`.
    ///
    /// ```
    /// use zero_proof::tile::{Layer, Tile};
    /// let tile = Tile { layer: Layer::Hashes(0), index: 1_234_067, width: 112 };
    /// assert_eq!(tile.path(), "tile/0/x001/x234/067.p/112");
    /// assert_eq!(Tile::parse("tile/0/x001/x234/067.p/112"), Ok(tile));
    /// ```
    pub fn path(&self) -> String {
        let mut elements = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            elements.insert(0, format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        let layer = match self.layer {
            Layer::Entries => "entries".to_owned(),
            Layer::Hashes(level) => level.to_string(),
        };
        let partial =
            if u64::from(self.width) < TILE_WIDTH { format!(".p/{}", self.width) } else { String::new() };
        format!("tile/{layer}/{}{partial}", elements.join("/"))
    }

    /// Parses a path that [`Tile::path`] writes.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the byte at which the path stops being one.
    pub fn parse(path: &str) -> Result<Self> {
        let error = |part: &str, problem: &str| {
            let offset = part.as_ptr() as usize - path.as_ptr() as usize;
            Error::at_byte("tile path", offset, problem)
        };
        let rest = path.strip_prefix("tile/").ok_or_else(|| error(path, "must begin with `tile/`"))?;
        let (layer_text, rest) = rest.split_once('/').ok_or_else(|| error(rest, "has no tile index"))?;
        let layer = match layer_text {
            "entries" => Layer::Entries,
            _ => decode_decimal(layer_text)
                .filter(|level| *level <= 63)
                .map(|level| Layer::Hashes(level as u8))
                .ok_or_else(|| error(layer_text, "a level is a decimal from 0 to 63, or `entries`"))?,
        };
        let (index_text, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((index_text, width)) => {
                let parsed = decode_decimal(width).filter(|width| (1..TILE_WIDTH).contains(width));
                (index_text, parsed.ok_or_else(|| error(width, "a width is a decimal from 1 to 255"))?)
            }
        };
        let mut index = 0_u64;
        let mut elements = index_text.split('/').peekable();
        while let Some(element) = elements.next() {
            let is_last = elements.peek().is_none();
            let digits = if is_last { Some(element) } else { element.strip_prefix('x') };
            let number = digits
                .filter(|digits| digits.len() == 3 && digits.bytes().all(|digit| digit.is_ascii_digit()))
                .and_then(|digits| digits.parse::<u64>().ok());
            index = number
                .and_then(|number| index.checked_mul(1000)?.checked_add(number))
                .ok_or_else(|| error(element, "an index is written as `x001/x234/067`"))?;
        }
        let tile = Self { layer, index, width: width as u16 };
        // Leading zeros would give one tile two paths.
        if tile.path() != path {
            return Err(error(index_text, "the index has leading zeros"));
        }
        Ok(tile)
    }

    /// The tile of a tree of `size` leaves at this place; `None` if the tree has none there.
    pub fn at(layer: Layer, index: u64, size: u64) -> Option<Self> {
        let width = count(layer, size).checked_sub(index.checked_mul(TILE_WIDTH)?)?.min(TILE_WIDTH);
        (width > 0).then_some(Self { layer, index, width: width as u16 })
    }

    /// Where the tiles of a tree of `size` leaves hold the hash of a perfect subtree: the tile, and
    /// the hashes in it from which [`node_hash`] computes it. `None` if the tree has no such node.
    pub fn of_node(node: Node, size: u64) -> Option<(Self, Range<usize>)> {
        let first = node.index.checked_shl(u32::from(node.level % TILE_HEIGHT))?;
        let tile = Self::at(Layer::Hashes(node.level / TILE_HEIGHT), first / TILE_WIDTH, size)?;
        let begin = (first % TILE_WIDTH) as usize;
        let hashes = begin..begin + (1 << (node.level % TILE_HEIGHT));
        (hashes.end <= usize::from(tile.width)).then_some((tile, hashes))
    }

    /// Whether the tile is full. A full tile never changes; a partial one has a longer successor.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// The hashes or entries that the tile holds, counted from 0 within its layer.
    pub fn range(&self) -> Range<u64> {
        let begin = self.index.saturating_mul(TILE_WIDTH);
        begin..begin.saturating_add(u64::from(self.width))
    }
}

/// Number of hashes or entries in a layer of a tree of `size` leaves.
fn count(layer: Layer, size: u64) -> u64 {
    match layer {
        Layer::Entries => size,
        Layer::Hashes(level) => size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0),
    }
}

/// The tiles that a tree of `size` leaves has and a tree of `old_size` leaves has not, level by
/// level. With an old size of 0 these are all tiles. Tiles of entries are not among them; they are
/// as those of level 0.
///
/// # Errors
/// [`Error::Invalid`] if the old size is the larger one.
pub fn new_tiles(old_size: u64, size: u64) -> Result<impl Iterator<Item = Tile>> {
    if old_size > size || size > MAX_SIZE {
        return Err(Error::invalid("tree size", format!("{size} leaves do not extend {old_size}")));
    }
    Ok((0..8).map(Layer::Hashes).flat_map(move |layer| {
        let (old_count, new_count) = (count(layer, old_size), count(layer, size));
        let end = if old_count == new_count { 0 } else { new_count.div_ceil(TILE_WIDTH) };
        (old_count / TILE_WIDTH..end).filter_map(move |index| Tile::at(layer, index, size))
    }))
}

/// The content of a tile of hashes.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Reads the content of a tile of hashes.
///
/// # Errors
/// [`Error::Malformed`] if it does not hold exactly the tile's width.
pub fn decode_hashes(tile: &Tile, content: &[u8]) -> Result<Vec<Hash>> {
    let (hashes, rest) = content.as_chunks::<32>();
    if hashes.len() != usize::from(tile.width) || !rest.is_empty() {
        let problem = format!(
            "{} has {} bytes instead of {}",
            tile.path(),
            content.len(),
            usize::from(tile.width) * 32
        );
        return Err(Error::at_byte("tile", content.len(), problem));
    }
    Ok(hashes.iter().copied().map(Hash::from_bytes).collect())
}

/// The hash over consecutive hashes of a tile, see [`Tile::of_node`]. Their number is a power of
/// two.
pub fn node_hash(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::EMPTY_TREE,
        [hash] => *hash,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Hash::of_node(&node_hash(left), &node_hash(right))
        }
    }
}

/// The content of a tile of entries.
///
/// # Errors
/// [`Error::Invalid`] for an entry longer than 65,535 bytes.
pub fn encode_entries<T: AsRef<[u8]>>(entries: &[T]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    for entry in entries.iter().map(AsRef::as_ref) {
        let length = u16::try_from(entry.len())
            .map_err(|_| Error::invalid("entry", format!("has {} bytes, more than 65535", entry.len())))?;
        content.extend_from_slice(&length.to_be_bytes());
        content.extend_from_slice(entry);
    }
    Ok(content)
}

/// Reads the content of a tile of entries.
///
/// # Errors
/// [`Error::Malformed`] if it does not hold exactly the tile's width.
pub fn decode_entries<'a>(tile: &Tile, content: &'a [u8]) -> Result<Vec<&'a [u8]>> {
    let mut rest = content;
    let mut entries = Vec::new();
    for number in 1..=tile.width {
        let truncated = || {
            let problem = format!("{} ends in entry {number} of {}", tile.path(), tile.width);
            Error::at_byte("tile of entries", content.len(), problem)
        };
        let (length, after) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
        let (entry, after) =
            after.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(truncated)?;
        entries.push(entry);
        rest = after;
    }
    if !rest.is_empty() {
        let problem = format!("{} has more than {} entries", tile.path(), tile.width);
        return Err(Error::at_byte("tile of entries", content.len() - rest.len(), problem));
    }
    Ok(entries)
}
