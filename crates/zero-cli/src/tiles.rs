//! The tiles of a bus: its tree on disk, in a directory inside the bus. They can be deleted at any
//! time and are rebuilt from the log.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use zero_bus::Reader;
use zero_bus::storage::Directory;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::tile_store::TileStore;
use zero_proof::{Checkpoint, StoreError};

use crate::progress::Bar;

/// The directory of the tiles inside the bus.
pub(crate) const TILES: &str = "tiles";

/// Opens the tiles of a bus. Waits while another process has them open. On a terminal, the progress
/// of long work is shown.
pub(crate) fn open_tiles(bus: &Path, reader: &Reader) -> Result<TileStore> {
    let path = bus.join(TILES);
    let directory =
        Directory::create(&path).with_context(|| format!("{}: cannot open the directory", path.display()))?;
    let mut tiles = TileStore::open(Arc::new(directory))?;
    // A log whose head cannot be read is reported by whatever reads it next.
    let events = reader.head().map_or(0, |head| head.index);
    let bar = Bar::of_events("building the tree");
    tiles.report_progress(move |leaves| bar.show_events(leaves, events));
    Ok(tiles)
}

/// The tiles of a bus, after checking that its first events lead to the root of a checkpoint.
///
/// # Errors
/// [`StoreError::LogChanged`] if the log has fewer events than the checkpoint,
/// [`StoreError::OtherTree`] if it leads to another root.
pub(crate) fn tiles_of_checkpoint(
    bus: &Path,
    reader: &Reader,
    secret: &DisclosureSecret,
    checkpoint: &Checkpoint,
) -> Result<TileStore> {
    let mut tiles = open_tiles(bus, reader)?;
    tiles.catch_up(reader, secret)?;
    let (size, events) = (checkpoint.size, tiles.head().size);
    if events < size {
        return Err(StoreError::LogChanged { signed: size, first_difference: Some(events + 1) }.into());
    }
    if tiles.root(size)? != checkpoint.root {
        // The tiles may be damaged below what opening them checks.
        tiles.clear();
        tiles.catch_up(reader, secret)?;
    }
    if tiles.root(size)? != checkpoint.root {
        return Err(StoreError::OtherTree { signed: size }.into());
    }
    Ok(tiles)
}
