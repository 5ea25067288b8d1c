//! Where a runtime keeps its records, and whether those files can coexist.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use zero_bus::AmbiguousTail;

use crate::error::{Error, Result};
use crate::start_checkpoint::{CHECKPOINT, CheckpointOptions, KEY_INDEX, MAX_NAME_BYTES};

/// Where a runtime keeps its records. A record without a path is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPaths {
    /// The decision journal.
    pub journal: Option<PathBuf>,
    /// The cycle journal: the cycle records, one per line.
    pub cycle_journal: Option<PathBuf>,
    /// The bus directory.
    pub runtime_bus: Option<PathBuf>,
    /// Rebuild the decision journal from the bus before starting. The old journal is kept under
    /// another name.
    pub rebuild_journal: bool,
    /// What to do about an ambiguous tail of the bus.
    pub on_ambiguous_tail: AmbiguousTail,
    /// How start-up checkpoints are used.
    pub checkpoint: CheckpointOptions,
}

impl RecordPaths {
    /// Checks that no file has two roles, that recovery can name its files, and that the bus exists
    /// if the journal is to be rebuilt from it. Creates nothing.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`zero_bus::Error::NotABus`] if the bus path is a file.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = |path: &Path, problem: &str| {
            Err(Error::Refused { path: path.to_owned(), problem: problem.to_owned() })
        };
        if let (Some(journal), Some(cycle_journal)) = (&self.journal, &self.cycle_journal)
            && journal == cycle_journal
        {
            return refused(journal, "is named as both journals; name another file");
        }
        for journal in [&self.journal, &self.cycle_journal].into_iter().flatten() {
            check_name_length(journal)?;
        }
        let Some(bus) = &self.runtime_bus else { return Ok(()) };
        if bus.exists() && !bus.is_dir() {
            let reason = "it is a file, not a directory".to_owned();
            return Err(zero_bus::Error::NotABus { path: bus.clone(), reason }.into());
        }
        if self.rebuild_journal && !bus.is_dir() {
            return refused(bus, "cannot rebuild the journal: this bus does not exist; name another bus");
        }
        for journal in [&self.journal, &self.cycle_journal].into_iter().flatten() {
            if is_bus_file(journal, bus) {
                return refused(journal, "is a file of the bus; name another file");
            }
        }
        Ok(())
    }
}

/// The longest name that is derived from a journal's: `.torn-at-`, an offset of 20 digits, `-` and
/// a number of 10 digits.
const MAX_SUFFIX_BYTES: usize = 40;

/// Refuses to create a journal whose name is so long that a later start could not keep its torn
/// tail, or the journal before a rebuild, under a longer name.
fn check_name_length(journal: &Path) -> Result<()> {
    let length = journal.file_name().map_or(0, OsStr::len);
    let max_length = MAX_NAME_BYTES - MAX_SUFFIX_BYTES;
    if length <= max_length || journal.exists() {
        return Ok(());
    }
    let problem = format!(
        "the file name has {length} bytes, and files next to it will have longer ones; name a file with at most \
         {max_length} bytes"
    );
    Err(Error::Refused { path: journal.to_owned(), problem })
}

/// Whether a path leads to a file of a bus, under whatever name, or has the name of one in the bus
/// directory.
fn is_bus_file(path: &Path, bus: &Path) -> bool {
    const BUS_FILES: [&str; 5] = [zero_bus::LOG, zero_bus::LOCK, zero_bus::SNAPSHOT, CHECKPOINT, KEY_INDEX];
    let inode = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let same_file = |a: &Path, b: &Path| inode(a).is_some_and(|inode_a| Some(inode_a) == inode(b));
    // The bus also owns names that extend those of its files: `snapshot.json.tmp`,
    // `events.jsonl.torn-at-7`.
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let has_bus_name = BUS_FILES.iter().any(|file| name.starts_with(file));
    let directory = resolve(path.parent().unwrap_or(Path::new("")));
    let in_bus_directory = directory == resolve(bus) || same_file(&directory, bus);
    (has_bus_name && in_bus_directory) || BUS_FILES.iter().any(|file| same_file(path, &bus.join(file)))
}

/// Resolves a path as `canonicalize` does, but accepts components that do not exist yet.
fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::from(".").canonicalize().unwrap_or_default();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            part => resolved.push(part),
        }
        resolved = resolved.canonicalize().unwrap_or(resolved);
    }
    resolved
}
