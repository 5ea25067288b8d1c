//! `zero-bus publish`: write the tree of a bus as static files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zero_bus::{Json, Reader};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::tile::{Layer, Tile, encode_entries, encode_hashes, new_tiles};
use zero_proof::tile_store::TileStore;
use zero_proof::{Entry, Node, SignedCheckpoint, StoreError};

use crate::output_file::check_directory_is_outside;
use crate::proof_input::{read_checkpoint, read_secret};
use crate::tiles::tiles_of_checkpoint;

/// Write the tree of a bus as static files for a web server.
///
/// The directory has the form of C2SP tlog-tiles: `checkpoint`, and tiles of hashes and of entries.
/// It reveals the number of events, the times of signatures and hashes, and nothing else about the
/// events. Published again, only what is new is written, and the checkpoint last, so that readers
/// always find a whole tree. Files can be read by everybody, subject to the umask.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus publish bus --secret bus.secret --checkpoint bus.checkpoints/signed.000000000042 --to /srv/log

Exit codes: 0 passed, 1 failed (the log does not lead to the checkpoint, or not to what is published), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The disclosure secret of the bus.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// The signed checkpoint to publish.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// The directory to write to. Created if it does not exist. It must not be inside the bus.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print one JSON object: {"events", "files_new", "origin"}.
    #[arg(long)]
    json: bool,
}

/// The name of the file that readers begin with.
const CHECKPOINT: &str = "checkpoint";

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let Arguments { dir, to, .. } = arguments;
    let reader = Reader::open(dir)?;
    let secret = read_secret(&arguments.secret)?;
    let signed = read_checkpoint(&arguments.checkpoint)?;
    check_directory_is_outside(to, dir)?;
    check_holds_no_state(to, &arguments.checkpoint)?;
    let tiles = tiles_of_checkpoint(dir, &reader, &secret, signed.checkpoint())?;
    let published = published_size(to, &signed, &tiles)?;
    let publication = Publication { to, reader, secret, tiles, size: signed.checkpoint().size };
    let files_new = publication.write_tiles(published)? + publication.write_checkpoint(&signed)?;
    let checkpoint = signed.checkpoint();
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'a> {
            events: u64,
            files_new: u64,
            origin: &'a str,
        }
        let document = Document { events: checkpoint.size, files_new, origin: &checkpoint.origin };
        return print(Json::of(&document)?.as_str(), Outcome::Passed);
    }
    let events = counted(checkpoint.size, "event");
    let files = counted(files_new, "new file");
    print(&format!("{}: {events} of {}, {files}", to.display(), checkpoint.origin), Outcome::Passed)
}

/// Refuses the directory with the state of the log: what is published is for everybody, and the
/// state is not.
fn check_holds_no_state(to: &Path, checkpoint: &Path) -> Result<()> {
    let stored = checkpoint.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    if to.canonicalize().ok().is_some_and(|to| Some(&to) == stored.as_ref() && !to.join(CHECKPOINT).exists())
    {
        bail!("{}: is the directory of the stored checkpoints; name another one", to.display());
    }
    Ok(())
}

/// The size of the tree that is published, after checking that the new one extends it.
fn published_size(to: &Path, signed: &SignedCheckpoint, tiles: &TileStore) -> Result<u64> {
    let path = to.join(CHECKPOINT);
    if !path.exists() {
        return Ok(0);
    }
    let published = read_checkpoint(&path)?;
    let (old, new) = (published.checkpoint(), signed.checkpoint());
    if old.origin != new.origin {
        bail!(
            "{}: is of the log `{}`, not of `{}`; name another directory",
            path.display(),
            old.origin,
            new.origin
        );
    }
    if old.size > new.size {
        bail!("{}: has {} already; name a newer checkpoint", path.display(), counted(old.size, "event"));
    }
    if tiles.root(old.size)? != old.root {
        return Err(StoreError::OtherTree { signed: old.size })
            .with_context(|| format!("{}: the log does not lead to what is published", path.display()));
    }
    Ok(old.size)
}

struct Publication<'a> {
    to: &'a Path,
    reader: Reader,
    secret: DisclosureSecret,
    tiles: TileStore,
    /// Events to publish.
    size: u64,
}

impl Publication<'_> {
    /// Writes the tiles that a tree of the published size lacks. Returns their number.
    fn write_tiles(&self, published: u64) -> Result<u64> {
        let mut files = 0;
        let mut events = None;
        for tile in new_tiles(published, self.size)? {
            let range = tile.range();
            let Layer::Hashes(level) = tile.layer else { continue };
            let hash = |index| self.tiles.node(Node { level: 8 * level, index });
            let hashes = range.clone().map(hash).collect::<Result<Vec<_>, _>>()?;
            self.write(&tile.path(), &encode_hashes(&hashes))?;
            files += 1;
            if level == 0 {
                // Tiles of level 0 come in order, so that one pass over the log makes the entries.
                if events.is_none() {
                    events = Some(self.reader.events(range.start + 1)?);
                }
                let mut entries = Vec::new();
                // In this order, the next event after the tile is not taken.
                for (hash, event) in hashes.iter().zip(events.iter_mut().flatten()) {
                    let entry = Entry::of(&event?, &self.secret);
                    if entry.leaf_hash() != *hash {
                        return Err(StoreError::OtherTree { signed: self.size }.into());
                    }
                    entries.push(entry.encode());
                }
                if entries.len() != hashes.len() {
                    let first_difference = Some(range.start + entries.len() as u64 + 1);
                    return Err(StoreError::LogChanged { signed: self.size, first_difference }.into());
                }
                let tile = Tile { layer: Layer::Entries, ..tile };
                self.write(&tile.path(), &encode_entries(&entries)?)?;
                files += 1;
            }
        }
        Ok(files)
    }

    /// Publishes the checkpoint, once all its tiles are durable. Returns the number of new files.
    fn write_checkpoint(&self, signed: &SignedCheckpoint) -> Result<u64> {
        let text = signed.encode();
        if fs::read(self.to.join(CHECKPOINT)).is_ok_and(|published| published == text.as_bytes()) {
            return Ok(0);
        }
        self.write(CHECKPOINT, text.as_bytes())?;
        Ok(1)
    }

    /// Writes a file as a whole, and makes it durable.
    fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        let path = self.to.join(path);
        let cannot_write = || format!("{}: cannot write it", path.display());
        let parent = path.parent().unwrap_or(self.to);
        fs::create_dir_all(parent).with_context(cannot_write)?;
        let temporary = path.with_added_extension("tmp");
        let mut file = File::create(&temporary).with_context(cannot_write)?;
        file.write_all(content).and_then(|()| file.sync_all()).with_context(cannot_write)?;
        fs::rename(&temporary, &path).with_context(cannot_write)?;
        File::open(parent).and_then(|parent| parent.sync_all()).with_context(cannot_write)
    }
}
