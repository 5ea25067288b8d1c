//! Whether checkpoints of a bus can still be signed once its first events are retired: only if the
//! tree of these events is kept, and is the one that was signed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zero_bus::{Head, Reader};
use zero_paper::text::counted;
use zero_proof::Hash;

use crate::checkpoint_store::CheckpointStore;
use crate::key_use::uses_next_to;
use crate::tiles::{TILES, open_tiles};

/// Refuses to retire the events up to `last` if checkpoints of the bus could not be signed
/// afterwards. Looks for what was signed next to `state`, at the default place, and where a record
/// of a key next to the bus says.
pub(crate) fn check_signing_goes_on(
    dir: &Path,
    state: Option<&Path>,
    reader: &Reader,
    last: u64,
) -> Result<()> {
    let (signed, evidence) = find_signed(dir, state, reader)?;
    let tiles_path = dir.join(TILES);
    if !tiles_path.is_dir() {
        let Some(evidence) = evidence else { return Ok(()) };
        bail!(
            "{}: is missing, but {} shows that this bus is signed. Without the tree of the events that are to be \
             retired, no checkpoint could be signed any more. Sign one first, which builds the tree; or move {1} away \
             if no checkpoint is needed any more",
            tiles_path.display(),
            evidence.display()
        );
    }
    let tiles = open_tiles(dir, reader)?;
    let head = tiles.head().clone();
    if head.size <= last {
        bail!(
            "{}: has the tree of {}, and needs that of more than {last} to prove anything later. Sign a checkpoint \
             first, or remove the directory if you need no proofs",
            tiles_path.display(),
            counted(head.size, "event"),
        );
    }
    let remedy =
        "Run zero-bus checkpoint --full-check first, which builds the tree again or says what is wrong";
    if !reader.contains(Head { index: head.size, checksum: head.checksum })? {
        bail!("{}: is not the tree of this log. {remedy}", tiles_path.display());
    }
    for Signed { path, size, root } in signed {
        if size > head.size || tiles.root(size)? != root {
            bail!(
                "{}: is not the tree that was signed, as {} says. {remedy}",
                tiles_path.display(),
                path.display()
            );
        }
    }
    Ok(())
}

/// A tree that was signed, or was about to be.
struct Signed {
    /// The file that says so.
    path: PathBuf,
    size: u64,
    root: Hash,
}

/// Returns the trees that were signed last, and a file that shows that something was signed or was
/// to be.
fn find_signed(dir: &Path, state: Option<&Path>, reader: &Reader) -> Result<(Vec<Signed>, Option<PathBuf>)> {
    let mut stores = vec![CheckpointStore::of(dir, state)?];
    let mut evidence = None;
    for key_use in uses_next_to(dir, reader)? {
        evidence = evidence.or(Some(key_use.record));
        if let Some(state) = key_use.state {
            stores.push(CheckpointStore::of(dir, Some(&state))?);
        }
    }
    let mut signed = Vec::new();
    for store in stores {
        let state = store.read_state().context(
            "the state of the checkpoints cannot be used; restore it from a copy, or move it away once you know what \
             it was",
        )?;
        if let Some(state) = state {
            signed.push(Signed { path: store.state_path(), size: state.size, root: state.root });
        }
        if let Some(newest) = store.newest()? {
            let newest = newest.checkpoint();
            signed.push(Signed { path: store.path(newest.size), size: newest.size, root: newest.root });
        }
    }
    let evidence = signed.first().map(|signed| signed.path.clone()).or(evidence);
    Ok((signed, evidence))
}
