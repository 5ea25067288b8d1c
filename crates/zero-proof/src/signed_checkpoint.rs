//! A checkpoint with the signatures of its log and the cosignatures of witnesses.

use crate::checkpoint::Checkpoint;
use crate::cosignature;
use crate::error::{Error, Result};
use crate::key::{SignatureType, VerifierKey};
use crate::note::{Note, Signature};
use crate::signing_key::SigningKey;

/// A signature without a time; later than every time that one can state.
const NO_TIME: u64 = u64::MAX;

/// A checkpoint and its signatures, which [`SignedCheckpoint::verify`] verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

/// A key whose signature is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// When it signed, in POSIX seconds, as the signer states it. `None` for type 0x01, and if the
    /// signer states no time.
    pub timestamp: Option<u64>,
}

impl SignedCheckpoint {
    /// Signs a checkpoint as its log: with type 0x01 and, if there is an ML-DSA key, with type 0x06
    /// at a time in POSIX seconds. The caller has checked that the checkpoint extends the last one
    /// that the key signed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the name of the key is not the origin, if there are extension lines,
    /// or if the time is not possible.
    pub fn sign(checkpoint: Checkpoint, key: &SigningKey, timestamp: u64) -> Result<Self> {
        if checkpoint.origin != key.name() {
            let problem =
                format!("the key `{}` does not sign for the origin `{}`", key.name(), checkpoint.origin);
            return Err(Error::invalid("key", problem));
        }
        if !checkpoint.extension_lines.is_empty() {
            return Err(Error::invalid("checkpoint", "has extension lines, which this log does not sign"));
        }
        if timestamp == 0 || timestamp > cosignature::MAX_TIMESTAMP {
            return Err(Error::invalid("time of a signature", format!("{timestamp} is not possible")));
        }
        let mut note = Note::sign(checkpoint.text(), key)?;
        note.add_signatures(cosignature::sign_ml_dsa(&checkpoint, key, timestamp)?)?;
        Ok(Self { checkpoint, note })
    }

    /// Reads a signed checkpoint.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line.
    pub fn parse(note: &[u8]) -> Result<Self> {
        let note = Note::parse(note)?;
        Ok(Self { checkpoint: Checkpoint::parse(note.text())?, note })
    }

    /// The text form.
    pub fn encode(&self) -> String {
        self.note.encode()
    }

    /// What was signed. Do not use it before the signatures were verified.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Adds cosignatures, see [`Note::add_signatures`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are too many.
    pub fn add_signatures(&mut self, signatures: impl IntoIterator<Item = Signature>) -> Result<()> {
        self.note.add_signatures(signatures)
    }

    /// Cosigns it as a witness, see [`cosignature::cosign`]. The signatures are not added.
    ///
    /// # Errors
    /// As [`cosignature::cosign`].
    pub fn cosign(&self, key: &SigningKey, timestamp: u64) -> Result<Vec<Signature>> {
        cosignature::cosign(&self.checkpoint, key, timestamp)
    }

    /// Verifies the signatures by these keys and returns those that have signed, in the order of
    /// the signatures. Signatures by other keys are ignored. Of several by one key, the earliest
    /// counts.
    ///
    /// # Errors
    /// [`Error::NotSigned`] if none of the keys has signed; [`Error::BadSignature`] if a signature
    /// bears the name and id of a key that has not made it.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey> + Clone,
    ) -> Result<Vec<Signed<'k>>> {
        let signed = self.note.verify_each(keys, |key, bytes| match key.signature_type() {
            SignatureType::Ed25519 => key.has_signed(self.note.text().as_bytes(), bytes).then_some(NO_TIME),
            _ => cosignature::verify(&self.checkpoint, key, bytes)
                .map(|time| if time > 0 { time } else { NO_TIME }),
        })?;
        let timed =
            |(key, timestamp)| Signed { key, timestamp: Some(timestamp).filter(|time| *time != NO_TIME) };
        Ok(signed.into_iter().map(timed).collect())
    }
}
