//! The roots of a log, computed from the log alone. Unlike the tiles, nothing is stored and nothing
//! but the log is believed, so this is what verifies a log against checkpoints.

use zero_bus::Reader;

use crate::disclosure::DisclosureSecret;
use crate::hash::Hash;
use crate::leaves::for_each_leaf;
use crate::store_error::{Difference, StoreError};
use crate::tile_store::TileStore;
use crate::tree::CompactRange;

/// The roots of a log at several sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRoots {
    /// The valid events of the log.
    pub events: u64,
    /// The root of the first events, for each size that was asked for and that the log has.
    pub roots: Vec<(u64, Hash)>,
}

/// Computes the roots of the first events of a log at these sizes, which must be in ascending
/// order. Reads and verifies the whole log, up to its first fault.
///
/// # Errors
/// [`StoreError::Bus`] if the system cannot read the log. Damage is not an error here: it ends the
/// valid events.
pub fn log_roots(reader: &Reader, secret: &DisclosureSecret, sizes: &[u64]) -> Result<LogRoots, StoreError> {
    read_roots(reader, secret, Growth { tree: CompactRange::empty(0), sizes, roots: Vec::new() })
}

/// Lets a tree grow with the events after those that it has.
fn read_roots(
    reader: &Reader,
    secret: &DisclosureSecret,
    mut growth: Growth<'_>,
) -> Result<LogRoots, StoreError> {
    growth.record();
    let read = for_each_leaf(reader, growth.tree.end() + 1, secret, |leaf| {
        growth.tree.push(leaf.hash, &mut |_, _| {})?;
        growth.record();
        Ok(())
    });
    match read {
        Err(StoreError::Bus(error @ (zero_bus::Error::Io { .. } | zero_bus::Error::Retired { .. }))) => {
            return Err(error.into());
        }
        Err(StoreError::Bus(_)) | Ok(_) => {}
        Err(error) => return Err(error),
    }
    Ok(LogRoots { events: growth.tree.end(), roots: growth.roots })
}

/// As [`log_roots`], for a log whose first events were retired: their tree is taken from the tiles
/// of the bus, and the log is read from its start on.
///
/// The tiles are believed for the retired events alone. If the root of a size after them is one
/// that was signed, they are those that were signed. The roots of smaller sizes are consistent with
/// that.
///
/// # Errors
/// As [`log_roots`]; [`StoreError::Proof`] if the tiles have fewer events than were retired, and
/// [`StoreError::DamagedTiles`].
pub fn log_roots_with_tiles(
    reader: &Reader,
    secret: &DisclosureSecret,
    sizes: &[u64],
    tiles: &TileStore,
) -> Result<LogRoots, StoreError> {
    let retired = reader.first_index()? - 1;
    let known = sizes.partition_point(|size| *size < retired);
    let mut roots = Vec::new();
    for size in &sizes[..known] {
        if *size > 0 {
            tiles.prove_consistency(*size, retired)?;
        }
        roots.push((*size, tiles.root(*size)?));
    }
    let tree = CompactRange::from_hashes(0, retired, &tiles.covering(0, retired)?)?;
    read_roots(reader, secret, Growth { tree, sizes: &sizes[known..], roots })
}

/// Finds out how a log differs from a checkpoint of `signed` events, by the roots of smaller ones:
/// pairs of size and root in ascending order. Reads and verifies the whole log. `None` if no event
/// is known to be the signed one although the log has enough of them; then the secret may be wrong.
///
/// # Errors
/// As [`log_roots`].
pub fn locate_difference(
    reader: &Reader,
    secret: &DisclosureSecret,
    signed: u64,
    smaller: &[(u64, Hash)],
) -> Result<Option<Difference>, StoreError> {
    let smaller: Vec<_> = smaller.iter().copied().filter(|(size, _)| *size < signed).collect();
    let sizes: Vec<u64> = smaller.iter().map(|(size, _)| *size).collect();
    let log = log_roots(reader, secret, &sizes)?;
    let mut equal = 0;
    for (size, root) in smaller.into_iter().filter(|(size, _)| *size <= log.events) {
        if !log.roots.contains(&(size, root)) {
            return Ok((equal > 0).then_some(Difference::Between { first: equal + 1, last: size }));
        }
        equal = size;
    }
    Ok(match log.events < signed {
        true => Some(Difference::Missing { event: log.events + 1, equal }),
        false => (equal > 0).then_some(Difference::Between { first: equal + 1, last: signed }),
    })
}

struct Growth<'a> {
    tree: CompactRange,
    /// The sizes that are still to come.
    sizes: &'a [u64],
    roots: Vec<(u64, Hash)>,
}

impl Growth<'_> {
    /// Records the root if the tree has one of the sizes.
    fn record(&mut self) {
        let size = self.tree.end();
        while let Some((next, rest)) = self.sizes.split_first().filter(|(next, _)| **next <= size) {
            self.sizes = rest;
            self.roots.extend(self.tree.root().filter(|_| *next == size).map(|root| (size, root)));
        }
    }
}
