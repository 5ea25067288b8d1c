//! Where an operator keeps what was signed: outside the bus, so that whoever restores or rewrites
//! the bus does not also reset what it signed.
//!
//! The state file records the last tree that was signed or about to be signed. Next to it is each
//! signed checkpoint with its cosignatures, in a file with the name of the state, a dot, and the
//! number of events in twelve digits. A lost state is made again from the newest of them. They
//! cannot be made again: the times are the witnesses'.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use zero_bus::storage::{Directory, replace};
use zero_proof::checkpoint_state::{CheckpointState, MAX_STATE_BYTES, parse_state};
use zero_proof::{SignedCheckpoint, StoreError, TreeHead};

use crate::output_file::check_directory_is_outside;
use crate::proof_input::{read_checkpoint, read_file};

/// The state and the signed checkpoints of one log.
pub(crate) struct CheckpointStore {
    directory: PathBuf,
    /// The name of the state file.
    name: String,
}

impl CheckpointStore {
    /// The store with this state file or, by default, `signed` in a directory next to the bus: the
    /// path of the bus and `.checkpoints`.
    ///
    /// # Errors
    /// The state is inside the bus, or its name is not UTF-8.
    pub(crate) fn of(bus: &Path, state: Option<&Path>) -> Result<Self> {
        let state = match state {
            Some(state) => state.to_owned(),
            None => Self::default_state(bus)?,
        };
        let directory = state.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        check_directory_is_outside(directory, bus)?;
        let Some(name) = state.file_name().and_then(|name| name.to_str()) else {
            bail!("{}: not the name of a file in UTF-8", state.display());
        };
        Ok(Self { directory: directory.to_owned(), name: name.to_owned() })
    }

    fn default_state(bus: &Path) -> Result<PathBuf> {
        let resolved = bus.canonicalize().with_context(|| format!("{}: cannot look it up", bus.display()))?;
        let Some(name) = resolved.file_name() else {
            bail!(
                "{}: has no directory next to it for the checkpoints; name one with --state",
                bus.display()
            );
        };
        let mut name = name.to_owned();
        name.push(".checkpoints");
        // As the user typed it, for messages, if the path ends with the name.
        let parent = match bus.file_name() {
            Some(_) if !bus.is_symlink() => bus.parent().unwrap_or(Path::new("")).to_owned(),
            _ => resolved.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        Ok(parent.join(name).join("signed"))
    }

    /// Opens the state. Creates its directory (mode 0700) if it does not exist. Waits while another
    /// process has the state open.
    pub(crate) fn open_state(&self) -> Result<CheckpointState> {
        match CheckpointState::open(Arc::new(self.create_directory()?), &self.name) {
            Err(StoreError::Proof(error)) => Err(error).with_context(|| {
                let state = self.state_path();
                format!(
                    "{}: cannot be used; restore it from a copy, or move it away: the next checkpoint is then compared \
                     with the newest stored one",
                    state.display()
                )
            }),
            state => Ok(state?),
        }
    }

    /// What the state records; `None` if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or has another form. The message names it.
    pub(crate) fn read_state(&self) -> Result<Option<TreeHead>> {
        let path = self.state_path();
        if !is_there(&path) {
            return Ok(None);
        }
        let content = read_file(&path, MAX_STATE_BYTES)?;
        parse_state(&content).map(Some).with_context(|| path.display().to_string())
    }

    /// The path of the state without links. Its directory need not exist.
    pub(crate) fn resolved_state_path(&self) -> Result<PathBuf> {
        let cannot_look_up = || format!("{}: cannot look it up", self.directory.display());
        let absolute = std::path::absolute(&self.directory).with_context(cannot_look_up)?;
        let resolved = absolute.ancestors().find_map(|ancestor| {
            let missing = absolute.strip_prefix(ancestor).ok()?;
            Some(ancestor.canonicalize().ok()?.join(missing))
        });
        Ok(resolved.unwrap_or(absolute).join(&self.name))
    }

    /// Stores a signed checkpoint in place of one of the same size.
    pub(crate) fn store(&self, signed: &SignedCheckpoint) -> Result<()> {
        let name = self.file_name(signed.checkpoint().size);
        replace(&self.create_directory()?, &name, signed.encode().as_bytes())
            .with_context(|| format!("{}: cannot write it", self.directory.join(&name).display()))
    }

    /// The stored checkpoint with the most events. What is not a checkpoint is an error, because it
    /// could have been the newest one.
    pub(crate) fn newest(&self) -> Result<Option<SignedCheckpoint>> {
        let Some(size) = self.sizes()?.last().copied() else { return Ok(None) };
        self.load(size).with_context(|| {
            "the newest stored checkpoint cannot be used; restore it from a copy, or move it away once you know what it was"
        })
    }

    /// The stored checkpoint of this size.
    pub(crate) fn load(&self, size: u64) -> Result<Option<SignedCheckpoint>> {
        let path = self.path(size);
        if !is_there(&path) {
            return Ok(None);
        }
        let signed = read_checkpoint(&path)?;
        if signed.checkpoint().size != size {
            bail!("{}: is a checkpoint of {} events", path.display(), signed.checkpoint().size);
        }
        Ok(Some(signed))
    }

    /// The sizes of the stored checkpoints, in ascending order.
    pub(crate) fn sizes(&self) -> Result<Vec<u64>> {
        let cannot_list = || format!("{}: cannot list it", self.directory.display());
        let mut sizes = Vec::new();
        if !self.directory.exists() {
            return Ok(sizes);
        }
        for entry in fs::read_dir(&self.directory).with_context(cannot_list)? {
            let name = entry.with_context(cannot_list)?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_prefix(&self.name)?.strip_prefix('.'));
            let size = digits.and_then(|digits| digits.parse().ok());
            sizes.extend(size.filter(|size| Some(self.file_name(*size).as_str()) == name.to_str()));
        }
        sizes.sort_unstable();
        Ok(sizes)
    }

    /// The path of the stored checkpoint of this size.
    pub(crate) fn path(&self, size: u64) -> PathBuf {
        self.directory.join(self.file_name(size))
    }

    /// The path of the state, for messages.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    fn file_name(&self, size: u64) -> String {
        format!("{}.{size:012}", self.name)
    }

    fn create_directory(&self) -> Result<Directory> {
        Directory::create(&self.directory)
            .with_context(|| format!("{}: cannot open the directory", self.directory.display()))
    }
}

/// A link without a target is there, too: what it led to may be what was signed.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
