//! The state of a witness on disk: one file per log with the last checkpoint that it cosigned.
//!
//! A file is called `HASH.checkpoint`, where HASH is the SHA-256 of the origin in lower-case hex.
//! It holds what the witness serves: the checkpoint, the log's signatures and the witness's own.
//! Files are replaced atomically and durably. `HASH.conflict` is evidence against a log. A lock on
//! `witness.lock` keeps other processes off. `witness.id` tells one state from another, so that a
//! key can be bound to it.

use std::path::PathBuf;
use std::sync::Arc;

use zero_bus::storage::{Access, Lock, Storage, StorageFile, replace};
use zero_proof::{Hash, SignedCheckpoint};

use crate::error::{Error, Result};

const LOCK: &str = "witness.lock";
const IDENTITY: &str = "witness.id";
const IDENTITY_SCHEMA: &str = "zero.runtime.witness-state.v1";

/// Maximum bytes of a state file. A request is shorter, and the witness adds few signatures.
const MAX_STATE_BYTES: usize = 512 << 10;

/// A directory with the state of one witness. At most one value exists at a time, in any process.
pub struct StateDirectory {
    storage: Arc<dyn Storage>,
    /// Holds the exclusive lock.
    _lock: Box<dyn StorageFile>,
}

impl StateDirectory {
    /// Takes the lock of a directory, which may be empty.
    ///
    /// # Errors
    /// [`Error::Invalid`] if another process holds the lock, [`Error::Io`].
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let lock = storage.open(LOCK, Access::ReadWrite).map_err(Error::io("open", storage.path(LOCK)))?;
        if !lock.try_lock(Lock::Exclusive).map_err(Error::io("lock", storage.path(LOCK)))? {
            let problem = "another witness uses this state; stop it, or name another directory";
            return Err(Error::invalid(storage.path(LOCK).display().to_string(), problem));
        }
        Ok(Self { storage, _lock: lock })
    }

    /// The identity of this state, which moves and is restored with it. `None` if it has none yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file has another form, [`Error::Io`].
    pub fn identity(&self) -> Result<Option<Hash>> {
        let Some(content) = self.read(IDENTITY)? else { return Ok(None) };
        let text = String::from_utf8(content).unwrap_or_default();
        let line =
            text.strip_prefix(IDENTITY_SCHEMA).and_then(|rest| rest.strip_prefix('\n')?.strip_suffix('\n'));
        let identity = line.and_then(|line| line.parse().ok());
        let invalid = || {
            let problem = "is not the identity of a witness state; restore the file, or use a new key in a new directory";
            Error::invalid(self.storage.path(IDENTITY).display().to_string(), problem)
        };
        identity.map(Some).ok_or_else(invalid)
    }

    /// Gives the state an identity: 32 random bytes. It is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn set_identity(&self, identity: &Hash) -> Result<()> {
        let content = format!("{IDENTITY_SCHEMA}\n{identity}\n");
        replace(&*self.storage, IDENTITY, content.as_bytes())
            .map_err(Error::io("replace", self.storage.path(IDENTITY)))
    }

    /// Whether a file with this name can be one of a state. Others in the directory are foreign.
    pub fn is_state_file(name: &str) -> bool {
        let name = name.strip_suffix(".tmp").unwrap_or(name);
        let is_hash = |stem: &str| {
            stem.len() == 64 && stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let stem = name.strip_suffix(".checkpoint").or_else(|| name.strip_suffix(".conflict"));
        [LOCK, IDENTITY].contains(&name) || stem.is_some_and(is_hash)
    }

    /// The last checkpoint of a log; `None` before the first one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is not a checkpoint, [`Error::Io`].
    pub(crate) fn load(&self, origin_hash: &str) -> Result<Option<SignedCheckpoint>> {
        let name = checkpoint_name(origin_hash);
        let Some(content) = self.read(&name)? else { return Ok(None) };
        let checkpoint = SignedCheckpoint::parse(&content)
            .map_err(|error| self.unusable(origin_hash, &error.to_string()))?;
        Ok(Some(checkpoint))
    }

    /// Replaces the last checkpoint of a log. It is durable when this returns.
    pub(crate) fn store(&self, origin_hash: &str, checkpoint: &SignedCheckpoint) -> Result<()> {
        let name = checkpoint_name(origin_hash);
        replace(&*self.storage, &name, checkpoint.encode().as_bytes())
            .map_err(Error::io("replace", self.storage.path(&name)))
    }

    /// Keeps two checkpoints of one log that contradict each other. The first pair is kept, later
    /// ones are dropped, so that a log cannot fill the disk. Returns the path of the file, or
    /// `None` if there was one already.
    pub(crate) fn keep_conflict(
        &self,
        origin_hash: &str,
        cosigned: &SignedCheckpoint,
        refused: &SignedCheckpoint,
    ) -> Result<Option<PathBuf>> {
        let name = format!("{origin_hash}.conflict");
        if self.read(&name)?.is_some() {
            return Ok(None);
        }
        let content = format!("{}{}", cosigned.encode(), refused.encode());
        let path = self.storage.path(&name);
        replace(&*self.storage, &name, content.as_bytes()).map_err(Error::io("replace", path.clone()))?;
        Ok(Some(path))
    }

    /// The error of a state file that cannot be used.
    pub(crate) fn unusable(&self, origin_hash: &str, problem: &str) -> Error {
        let path = self.storage.path(&checkpoint_name(origin_hash));
        let problem = format!(
            "{problem}; the witness does not start, because without this file it would cosign any tree. Restore the file; \
             if that is impossible, use a new key in a new directory"
        );
        Error::invalid(path.display().to_string(), problem)
    }

    /// Reads a small file; `None` if it does not exist.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let failed = |error| Error::io("read", self.storage.path(name))(error);
        let file = match self.storage.open(name, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let size = usize::try_from(file.size().map_err(failed)?).unwrap_or(usize::MAX);
        if size > MAX_STATE_BYTES {
            let problem = format!("is longer than {MAX_STATE_BYTES} bytes; no witness writes such a file");
            return Err(Error::invalid(self.storage.path(name).display().to_string(), problem));
        }
        let mut content = vec![0; size];
        let mut read = 0;
        while read < size {
            match file.read_at(&mut content[read..], read as u64).map_err(failed)? {
                0 => break,
                more => read += more,
            }
        }
        content.truncate(read);
        Ok(Some(content))
    }
}

fn checkpoint_name(origin_hash: &str) -> String {
    format!("{origin_hash}.checkpoint")
}
