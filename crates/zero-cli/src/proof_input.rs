//! The files that the commands about proofs read: keys, secrets, policies, checkpoints.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::note::MAX_NOTE_BYTES;
use zero_proof::policy::MAX_POLICY_BYTES;
use zero_proof::signing_key::MAX_KEY_FILE_BYTES;
use zero_proof::{Policy, SignedCheckpoint, SigningKey};

use crate::private_file::read_private_file;

/// Bytes of a secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// Reads a key file.
pub(crate) fn read_key(path: &Path) -> Result<SigningKey> {
    let content = read_private_file(path, MAX_KEY_FILE_BYTES)?;
    SigningKey::parse(&content).with_context(|| path.display().to_string())
}

/// Reads the disclosure secret of a bus.
pub(crate) fn read_secret(path: &Path) -> Result<DisclosureSecret> {
    let content = read_private_file(path, SECRET_BYTES)?;
    DisclosureSecret::parse(&content).with_context(|| path.display().to_string())
}

/// Reads a policy.
pub(crate) fn read_policy(path: &Path) -> Result<Policy> {
    Policy::parse(&read_file(path, MAX_POLICY_BYTES)?).with_context(|| path.display().to_string())
}

/// Reads a checkpoint, whose signatures are not verified.
pub(crate) fn read_checkpoint(path: &Path) -> Result<SignedCheckpoint> {
    SignedCheckpoint::parse(&read_file(path, MAX_NOTE_BYTES)?).with_context(|| path.display().to_string())
}

/// Reads a file of at most `max_bytes`.
pub(crate) fn read_file(path: &Path, max_bytes: usize) -> Result<Vec<u8>> {
    let cannot_read = || format!("{}: cannot read it", path.display());
    let file = File::open(path).with_context(cannot_read)?;
    let mut content = Vec::new();
    file.take(max_bytes as u64 + 1).read_to_end(&mut content).with_context(cannot_read)?;
    if content.len() > max_bytes {
        bail!("{}: longer than {max_bytes} bytes", path.display());
    }
    Ok(content)
}
