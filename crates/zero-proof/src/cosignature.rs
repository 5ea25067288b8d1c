//! Timestamped signatures of checkpoints (C2SP tlog-cosignature), types 0x04 and 0x06.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::key::{SignatureType, VerifierKey};
use crate::note::Signature;
use crate::signing_key::SigningKey;

/// Maximum timestamp in POSIX seconds.
pub const MAX_TIMESTAMP: u64 = i64::MAX as u64;

/// Cosigns a checkpoint of any log at a time in POSIX seconds: with type 0x04 and, if the signer
/// has an ML-DSA key, with type 0x06. The caller has checked that the checkpoint extends the last
/// one of its log.
///
/// # Errors
/// [`Error::Invalid`] if the time is 0 or too large, or the origin is longer than 255 bytes.
pub fn cosign(checkpoint: &Checkpoint, key: &SigningKey, timestamp: u64) -> Result<Vec<Signature>> {
    if timestamp == 0 || timestamp > MAX_TIMESTAMP {
        return Err(Error::invalid("time of a cosignature", format!("{timestamp} is not possible")));
    }
    let signature = key.sign_ed25519(&ed25519_message(checkpoint, timestamp));
    let ed25519 = Signature::new(key, SignatureType::CosignatureEd25519, encode(timestamp, &signature));
    Ok(ed25519.into_iter().chain(sign_ml_dsa(checkpoint, key, timestamp)?).collect())
}

/// The signature of type 0x06; `None` if the signer has no ML-DSA key.
pub(crate) fn sign_ml_dsa(
    checkpoint: &Checkpoint,
    key: &SigningKey,
    timestamp: u64,
) -> Result<Option<Signature>> {
    let message = ml_dsa_message(checkpoint, key.name(), timestamp).ok_or_else(|| {
        Error::invalid(
            "origin",
            format!("`{}` cannot be signed: it must have 1 to 255 bytes", checkpoint.origin),
        )
    })?;
    let Some(signature) = key.sign_ml_dsa(&message) else { return Ok(None) };
    Ok(Signature::new(key, SignatureType::CosignatureMlDsa44, encode(timestamp, &signature?)))
}

/// Verifies a cosignature without its key id and returns its time. `None` if it is invalid.
pub(crate) fn verify(checkpoint: &Checkpoint, key: &VerifierKey, signature: &[u8]) -> Option<u64> {
    let (timestamp, signature) = signature.split_first_chunk::<8>()?;
    let timestamp = u64::from_be_bytes(*timestamp);
    if timestamp > MAX_TIMESTAMP {
        return None;
    }
    let message = match key.signature_type() {
        SignatureType::CosignatureEd25519 => ed25519_message(checkpoint, timestamp),
        SignatureType::CosignatureMlDsa44 => ml_dsa_message(checkpoint, key.name(), timestamp)?,
        SignatureType::Ed25519 => return None,
    };
    key.has_signed(&message, signature).then_some(timestamp)
}

fn encode(timestamp: u64, signature: &[u8]) -> Vec<u8> {
    [&timestamp.to_be_bytes(), signature].concat()
}

fn ed25519_message(checkpoint: &Checkpoint, timestamp: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {timestamp}\n{}", checkpoint.text()).into_bytes()
}

/// Does not cover extension lines. `None` if a name has not 1 to 255 bytes.
fn ml_dsa_message(checkpoint: &Checkpoint, cosigner: &str, timestamp: u64) -> Option<Vec<u8>> {
    let mut message = b"subtree/v1\n\0".to_vec();
    push_opaque(&mut message, cosigner)?;
    message.extend_from_slice(&timestamp.to_be_bytes());
    push_opaque(&mut message, &checkpoint.origin)?;
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&checkpoint.size.to_be_bytes());
    message.extend_from_slice(checkpoint.root.as_bytes());
    Some(message)
}

/// Appends a text of 1 to 255 bytes after its length.
fn push_opaque(message: &mut Vec<u8>, text: &str) -> Option<()> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length > 0)?;
    message.push(length);
    message.extend_from_slice(text.as_bytes());
    Some(())
}
