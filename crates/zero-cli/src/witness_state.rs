//! The state directory of a witness, and the record next to the witness's key of which state it is
//! used with.
//!
//! A witness that starts with an empty state would cosign any tree with its old key. The first
//! start therefore gives the state an identity and records it in `KEY.used-for`; later starts
//! refuse every other state. The state gets its identity first: after a crash in between, the next
//! start records it. The identity lies in the state, so that the directory can be moved.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use zero_bus::storage::Directory;
use zero_program::message::print_warning;
use zero_proof::Hash;
use zero_witness::StateDirectory;
use zeroize::Zeroizing;

use crate::key_use::{self, MAX_RECORD_BYTES, WITNESS_SCHEMA, record_path};
use crate::private_file::{check_is_outside_a_bus, create_private_file, replace_private_file};
use crate::program::PROGRAM;
use crate::proof_input::read_file;

/// With which state a witness uses its key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StateUse {
    identity: Hash,
    /// Where the state was last, for messages.
    directory: PathBuf,
}

/// Opens the state of a witness, which is created at the first start with this key. `random` makes
/// the identity of a new state.
///
/// # Errors
/// The key is used with another state, this one is missing or empty, or the directory holds what is
/// not of a witness, or others may write to it.
pub(crate) fn open_witness_state(
    directory: &Path,
    key: &Path,
    random: impl FnOnce() -> Result<Zeroizing<[u8; 32]>>,
) -> Result<StateDirectory> {
    let record = record_path(key)?;
    let recorded = StateUse::read(&record)?;
    let cannot_open = || format!("{}: cannot open the state", directory.display());
    match (directory.symlink_metadata().is_ok(), &recorded) {
        (true, _) => check_directory(directory)?,
        (false, Some(recorded)) => return Err(recorded.refuse(key, directory, "does not exist")),
        (false, None) => {
            let absolute = std::path::absolute(directory).with_context(cannot_open)?;
            let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&absolute);
            check_is_outside_a_bus(&existing.join("state"))?;
        }
    }
    let storage = Directory::create(directory).with_context(cannot_open)?;
    let state = StateDirectory::open(Arc::new(storage))?;
    let identity = match (state.identity()?, &recorded) {
        (Some(identity), Some(recorded)) if identity != recorded.identity => {
            return Err(recorded.refuse(key, directory, "is another state"));
        }
        (None, Some(recorded)) => {
            return Err(recorded.refuse(
                key,
                directory,
                "is not that state, or has lost its file witness.id",
            ));
        }
        (Some(identity), _) => identity,
        (None, None) => {
            let identity = Hash::from_bytes(*random()?);
            state.set_identity(&identity)?;
            identity
        }
    };
    let current = StateUse { identity, directory: directory.canonicalize().with_context(cannot_open)? };
    if recorded.as_ref() != Some(&current) {
        current.write(key, &record, recorded.is_none())?;
    }
    Ok(state)
}

/// Refuses a directory that is not that of a witness, or that others may write to: they could
/// replace the state.
fn check_directory(directory: &Path) -> Result<()> {
    let name = directory.display();
    check_is_outside_a_bus(&directory.join("state"))?;
    check_mode(directory)?;
    let cannot_list = || format!("{name}: cannot list it");
    for entry in fs::read_dir(directory).with_context(cannot_list)? {
        let entry = entry.with_context(cannot_list)?;
        if !entry.file_name().to_str().is_some_and(StateDirectory::is_state_file) {
            bail!(
                "{name}: holds {}, which no witness writes; name a directory of its own for the state",
                entry.file_name().display()
            );
        }
        check_mode(&entry.path())?;
    }
    Ok(())
}

fn check_mode(path: &Path) -> Result<()> {
    let name = path.display();
    let metadata = match fs::metadata(path) {
        // Another witness has just replaced it; the lock will tell.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata.with_context(|| format!("{name}: cannot look it up"))?,
    };
    if metadata.mode() & 0o022 != 0 {
        bail!("{name}: other users may change it; run: chmod go-w {name}");
    }
    Ok(())
}

impl StateUse {
    fn refuse(&self, key: &Path, directory: &Path, problem: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "{}: {problem}; the key {} is used with the state that was in {}, and without it the witness would cosign \
             any tree. Name that state with --state; if it is lost, create a new key under a new name for a new state",
            directory.display(),
            key.display(),
            self.directory.display()
        )
    }

    /// Writes the record. A first one is not written over another that a second witness with this
    /// key has just written.
    fn write(&self, key: &Path, record: &Path, is_first: bool) -> Result<()> {
        let content = format!("{WITNESS_SCHEMA}\n{}\n{}\n", self.identity, self.directory.display());
        let written = match is_first {
            true => create_private_file(record, content.as_bytes()),
            false => replace_private_file(record, content.as_bytes()),
        };
        let Err(error) = written else { return Ok(()) };
        match Self::read(record)? {
            Some(other) if other.identity != self.identity => {
                Err(other.refuse(key, &self.directory, "is another state"))
            }
            Some(_) => Ok(()),
            None => {
                let problem =
                    format!("{error:#}; see to it that {} is used with this state only", key.display());
                print_warning(PROGRAM, &problem);
                Ok(())
            }
        }
    }

    fn read(record: &Path) -> Result<Option<Self>> {
        if record.symlink_metadata().is_err() {
            return Ok(None);
        }
        let content = read_file(record, MAX_RECORD_BYTES)?;
        let name = record.display();
        if content.starts_with(key_use::SCHEMA.as_bytes()) {
            bail!(
                "{name}: says that the key is that of a log; a witness needs another one: zero-bus key new"
            );
        }
        Self::parse(&content).map(Some).with_context(|| {
            format!(
                "{name}: does not say with which state the key of a witness is used; restore it from a copy"
            )
        })
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?.strip_prefix(WITNESS_SCHEMA)?.strip_prefix('\n')?;
        let (identity, directory) = text.strip_suffix('\n')?.split_once('\n')?;
        Some(Self { identity: identity.parse().ok()?, directory: directory.into() })
    }
}
