//! The Merkle tree of RFC 6962: roots, inclusion proofs, consistency proofs.
//!
//! The functions store nothing. A tree of any size is known by the hashes of a few perfect
//! subtrees: a [`CompactRange`]. Proofs are made from such hashes, which the caller provides.

use crate::error::{Error, Result};
use crate::hash::Hash;

/// Maximum number of leaves: what a signed 64-bit integer can count.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// Maximum number of hashes in an inclusion or consistency proof.
pub const MAX_PROOF_HASHES: usize = 63;

/// A perfect subtree: the `2^level` leaves from leaf `index * 2^level` on. Leaves have level 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Height of the subtree.
    pub level: u8,
    /// Position among the subtrees of this height, counted from 0.
    pub index: u64,
}

/// Consecutive leaves, known by the hashes of the largest perfect subtrees that they fill: at most
/// 126 hashes for any number of leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactRange {
    begin: u64,
    end: u64,
    /// From left to right.
    nodes: Vec<(Node, Hash)>,
}

impl Node {
    /// The node of a leaf.
    pub fn leaf(index: u64) -> Self {
        Self { level: 0, index }
    }

    /// The largest perfect subtrees that the leaves from `begin` to `end - 1` fill, from left to
    /// right.
    pub fn covering(begin: u64, end: u64) -> impl Iterator<Item = Self> {
        let mut begin = begin;
        std::iter::from_fn(move || {
            let leaves = end.checked_sub(begin).filter(|leaves| *leaves > 0)?;
            let level = begin.trailing_zeros().min(leaves.ilog2());
            let node = Self { level: level as u8, index: begin >> level };
            begin += 1 << level;
            Some(node)
        })
    }
}

impl CompactRange {
    /// No leaves, at position `begin`.
    pub fn empty(begin: u64) -> Self {
        Self { begin, end: begin, nodes: Vec::new() }
    }

    /// The leaves from `begin` to `end - 1`, given the hashes of [`Node::covering`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is invalid, or if the number of hashes is wrong.
    pub fn from_hashes(begin: u64, end: u64, hashes: &[Hash]) -> Result<Self> {
        if begin > end || end > MAX_SIZE {
            return Err(Error::invalid("range of leaves", format!("{begin} to {end} is no range")));
        }
        let nodes: Vec<_> = Node::covering(begin, end).collect();
        if nodes.len() != hashes.len() {
            let problem =
                format!("leaves {begin} to {end} need {} hashes, not {}", nodes.len(), hashes.len());
            return Err(Error::invalid("range of leaves", problem));
        }
        Ok(Self { begin, end, nodes: nodes.into_iter().zip(hashes.iter().copied()).collect() })
    }

    /// The first leaf.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// The leaf after the last one. For a range from leaf 0 it is the size of the tree.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The hashes of [`Node::covering`].
    pub fn hashes(&self) -> impl Iterator<Item = Hash> {
        self.nodes.iter().map(|(_, hash)| *hash)
    }

    /// Appends one leaf by its hash, see [`Hash::of_leaf`]. `complete` gets each perfect subtree
    /// that the leaf completes, the leaf included, from the leaf upwards.
    ///
    /// # Errors
    /// [`Error::Invalid`] beyond [`MAX_SIZE`].
    pub fn push(&mut self, leaf: Hash, complete: &mut impl FnMut(Node, Hash)) -> Result<()> {
        if self.end >= MAX_SIZE {
            return Err(Error::invalid("tree", format!("has {MAX_SIZE} leaves, more are impossible")));
        }
        self.append_node(Node::leaf(self.end), leaf, complete);
        Ok(())
    }

    /// Appends the range that begins where this one ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it begins elsewhere.
    pub fn append(&mut self, next: &Self) -> Result<()> {
        if next.begin != self.end {
            let problem = format!("leaf {} does not follow leaf {}", next.begin, self.end);
            return Err(Error::invalid("range of leaves", problem));
        }
        for (node, hash) in &next.nodes {
            self.append_node(*node, *hash, &mut |_, _| {});
        }
        Ok(())
    }

    /// The root of the tree. `None` if the range does not begin with leaf 0.
    pub fn root(&self) -> Option<Hash> {
        (self.begin == 0).then(|| fold(self.hashes().collect()))
    }

    fn append_node(&mut self, mut node: Node, mut hash: Hash, complete: &mut impl FnMut(Node, Hash)) {
        self.end += 1 << node.level;
        complete(node, hash);
        while let Some((_, left)) =
            self.nodes.pop_if(|(left, _)| left.level == node.level && left.index ^ 1 == node.index)
        {
            node = Node { level: node.level + 1, index: node.index >> 1 };
            hash = Hash::of_node(&left, &hash);
            complete(node, hash);
        }
        self.nodes.push((node, hash));
    }
}

/// The root over perfect subtrees that decrease in size, from left to right.
fn fold(mut hashes: Vec<Hash>) -> Hash {
    let Some(mut root) = hashes.pop() else { return Hash::EMPTY_TREE };
    while let Some(left) = hashes.pop() {
        root = Hash::of_node(&left, &root);
    }
    root
}

/// The root of the tree of `size` leaves, from the hashes of perfect subtrees.
///
/// # Errors
/// Those of `node`.
pub fn root<E>(size: u64, mut node: impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    range_hash((0, size), &mut node)
}

/// The inclusion proof of a leaf: the hashes from the sibling of the leaf up to the child of the
/// root. `node` returns the hash of a perfect subtree; it is asked for at most 126.
///
/// # Errors
/// [`Error::Invalid`] if the tree has no such leaf; those of `node`.
pub fn prove_inclusion<E: From<Error>>(
    index: u64,
    size: u64,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if index >= size || size > MAX_SIZE {
        return Err(
            Error::invalid("leaf index", format!("a tree of {size} leaves has no leaf {index}")).into()
        );
    }
    let (mut begin, mut end, mut siblings) = (0, size, Vec::new());
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            siblings.push((middle, end));
            end = middle;
        } else {
            siblings.push((begin, middle));
            begin = middle;
        }
    }
    siblings.into_iter().rev().map(|range| range_hash(range, &mut node)).collect()
}

/// Checks an inclusion proof (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`Error::NotIncluded`] if it does not prove that leaf `index` has the hash `leaf`.
pub fn check_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> Result<()> {
    let failed = Error::NotIncluded { index, size };
    if index >= size || size > MAX_SIZE {
        return Err(failed);
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(failed);
        }
        if at & 1 == 1 || at == last {
            hash = Hash::of_node(sibling, &hash);
            // A last node without a right sibling moves up unchanged.
            let levels = at.trailing_zeros().min(63);
            (at, last) = (at >> levels, last >> levels);
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(failed) }
}

/// The consistency proof between the first `old_size` leaves of a tree and all `size` leaves. It is
/// empty if the sizes are equal, or if the old one is 0. `node` is as in [`prove_inclusion`].
///
/// # Errors
/// [`Error::Invalid`] if the old size is the larger one; those of `node`.
pub fn prove_consistency<E: From<Error>>(
    old_size: u64,
    size: u64,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if old_size > size || size > MAX_SIZE {
        let problem = format!("a tree of {size} leaves does not extend one of {old_size}");
        return Err(Error::invalid("tree size", problem).into());
    }
    if old_size == 0 {
        return Ok(Vec::new());
    }
    let (mut begin, mut end, mut ranges) = (0, size, Vec::new());
    while old_size < end {
        let middle = begin + split(end - begin);
        if old_size <= middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((begin, middle));
            begin = middle;
        }
    }
    // The verifier knows the old root. If that is the first subtree, the proof leaves it out.
    if begin > 0 {
        ranges.push((begin, end));
    }
    ranges.into_iter().rev().map(|range| range_hash(range, &mut node)).collect()
}

/// Checks a consistency proof (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// [`Error::Inconsistent`] if it does not prove that the tree with `root` extends the one with
/// `old_root`.
pub fn check_consistency(
    old_size: u64,
    old_root: &Hash,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<()> {
    let failed = Error::Inconsistent { old_size, size };
    let holds = match old_size {
        _ if old_size > size || size > MAX_SIZE => false,
        _ if old_size == size => proof.is_empty() && old_root == root,
        0 => proof.is_empty() && *old_root == Hash::EMPTY_TREE,
        _ => roots_of_consistency(old_size, old_root, size, proof) == Some((*old_root, *root)),
    };
    if holds { Ok(()) } else { Err(failed) }
}

/// The two roots to which a consistency proof leads.
fn roots_of_consistency(old_size: u64, old_root: &Hash, size: u64, proof: &[Hash]) -> Option<(Hash, Hash)> {
    let (seed, rest) = match old_size.is_power_of_two() {
        true => (old_root, proof),
        false => proof.split_first()?,
    };
    let levels = (old_size - 1).trailing_ones();
    let (mut at, mut last) = ((old_size - 1) >> levels, (size - 1) >> levels);
    let (mut old_hash, mut hash) = (*seed, *seed);
    for sibling in rest {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            old_hash = Hash::of_node(sibling, &old_hash);
            hash = Hash::of_node(sibling, &hash);
            let levels = at.trailing_zeros().min(63);
            (at, last) = (at >> levels, last >> levels);
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some((old_hash, hash))
}

/// The largest power of two that is smaller than `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The hash over a range of leaves that begins at a multiple of a power of two not smaller than it.
fn range_hash<E>(
    (begin, end): (u64, u64),
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Hash, E> {
    Ok(fold(Node::covering(begin, end).map(node).collect::<Result<_, _>>()?))
}
