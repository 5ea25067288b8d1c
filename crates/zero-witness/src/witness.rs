//! The witness itself: which checkpoints it cosigns. No network and no clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zero_proof::key::SignatureType;
use zero_proof::note::{Note, Signature};
use zero_proof::tree::check_consistency;
use zero_proof::{AddCheckpoint, Hash, SignedCheckpoint, SigningKey, VerifierKey};

use crate::error::{Error, Result};
use crate::state::StateDirectory;

/// Maximum bytes of an origin: a cosignature of type 0x06 has room for no more.
const MAX_ORIGIN_BYTES: usize = 255;

/// A witness: its keys, the logs that it knows, and the last checkpoint of each that it cosigned.
pub struct Witness {
    key: SigningKey,
    /// By origin.
    logs: BTreeMap<String, Log>,
    state: StateDirectory,
}

/// Why a witness does not cosign a checkpoint. The variants are the status codes of C2SP
/// tlog-witness.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// 404: the witness does not know the origin.
    #[error("the witness does not know the log `{}`", origin.escape_debug())]
    UnknownLog {
        /// The origin of the checkpoint.
        origin: String,
    },
    /// 403: no key of the log has signed, or a signature that names one of them is not by it.
    #[error("{0}")]
    NotSigned(zero_proof::Error),
    /// 400: the old size is larger than that of the checkpoint.
    #[error("the old size, {old_size}, is larger than that of the checkpoint, {size}")]
    OldSizeTooLarge {
        /// The old size of the request.
        old_size: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// 409: the old size is not that of the last cosigned checkpoint.
    #[error("the last cosigned checkpoint has the size {size}")]
    Conflict {
        /// The size of the last cosigned checkpoint; 0 for none.
        size: u64,
    },
    /// 422: the checkpoint is not proven to extend the last cosigned one.
    #[error("{problem}")]
    Inconsistent {
        /// What is wrong.
        problem: String,
        /// Set if the log has signed two roots for one size, and this is the first time: the file
        /// with both, or why it could not be written.
        evidence: Option<Result<PathBuf>>,
    },
    /// 503: the clock of the witness is behind its last cosignature of the log. A cosignature now
    /// would be older than the one before.
    #[error(
        "the clock of the witness says {time}, before its last cosignature of this log, at {last} (seconds since 1970); its \
         operator must set the clock"
    )]
    ClockBehind {
        /// The time of the request, in POSIX seconds.
        time: u64,
        /// The time of the last cosignature.
        last: u64,
    },
    /// 500: the new checkpoint could not be persisted or signed. Nothing was given out.
    #[error(transparent)]
    Failed(Error),
}

/// A log that the witness knows.
struct Log {
    keys: Vec<VerifierKey>,
    /// SHA-256 of the origin in lower-case hex.
    origin_hash: String,
    /// Held from the check of the old size until the new checkpoint is persisted, so that two
    /// requests cannot both extend the same one.
    commit: Mutex<()>,
    /// Changed only under `commit`, after the checkpoint was persisted.
    last: Mutex<Option<Arc<Last>>>,
}

/// The last cosigned checkpoint of a log.
struct Last {
    /// With the signatures of the log and of the witness.
    signed: SignedCheckpoint,
    /// What the witness answered, and when. `None` after a restart.
    answered: Option<(u64, Vec<Signature>)>,
    /// The time of the witness's cosignature; 0 if another key made it.
    cosigned_at: u64,
}

impl Witness {
    /// A witness of the logs with these keys. A log may have several keys; the name of a key is the
    /// origin of its log. Logs that the state has but that are not listed are unknown until they
    /// are listed again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a key cannot be that of a log, or a state file was damaged;
    /// [`Error::Io`].
    pub fn open(key: SigningKey, log_keys: Vec<VerifierKey>, state: StateDirectory) -> Result<Self> {
        let mut logs = BTreeMap::<String, Log>::new();
        for log_key in log_keys {
            check_log_key(&log_key)?;
            let log = logs.entry(log_key.name().to_owned()).or_insert_with(|| Log::new(log_key.name()));
            if !log.keys.contains(&log_key) {
                log.keys.push(log_key);
            }
        }
        let witness = Self { key, logs, state };
        let own_keys = witness.verifier_keys();
        for (origin, log) in &witness.logs {
            let Some(signed) = witness.state.load(&log.origin_hash)? else { continue };
            if signed.checkpoint().origin != *origin {
                return Err(witness.state.unusable(&log.origin_hash, "is a checkpoint of another log"));
            }
            // Keys may have changed since, so a missing signature is no damage; an invalid one is.
            let cosigned_at = match signed.verify(&own_keys) {
                Err(error @ zero_proof::Error::BadSignature { .. }) => {
                    return Err(witness.state.unusable(&log.origin_hash, &error.to_string()));
                }
                verified => {
                    verified.unwrap_or_default().iter().filter_map(|by| by.timestamp).max().unwrap_or(0)
                }
            };
            *lock(&log.last) = Some(Arc::new(Last { signed, answered: None, cosigned_at }));
        }
        Ok(witness)
    }

    /// The keys of its cosignatures: type 0x04 and, if the key file has an ML-DSA key, type 0x06.
    pub fn verifier_keys(&self) -> Vec<VerifierKey> {
        [SignatureType::CosignatureEd25519, SignatureType::CosignatureMlDsa44]
            .into_iter()
            .filter_map(|signature_type| self.key.verifier_key(signature_type))
            .collect()
    }

    /// The origins of the logs that sign with the witness's own key. Such a witness proves nothing
    /// about them: who holds the one key holds the other.
    pub fn logs_with_own_key(&self) -> Vec<&str> {
        let own: Vec<_> = self.verifier_keys().iter().map(VerifierKey::public_key).collect();
        let shares = |log: &Log| log.keys.iter().any(|key| own.contains(&key.public_key()));
        self.logs.iter().filter(|(_, log)| shares(log)).map(|(origin, _)| origin.as_str()).collect()
    }

    /// The origins of the logs that it knows, each with the size that it cosigned last.
    pub fn logs(&self) -> impl Iterator<Item = (&str, u64)> {
        self.logs.iter().map(|(origin, log)| (origin.as_str(), size_of(log.last().as_deref())))
    }

    /// Cosigns a checkpoint at a time in POSIX seconds, if it extends the last one that was
    /// cosigned for its log. The new checkpoint is persisted before this returns. Requests for one
    /// log are decided one after another.
    ///
    /// # Errors
    /// [`Rejection`]
    pub fn add_checkpoint(
        &self,
        request: &AddCheckpoint,
        timestamp: u64,
    ) -> Result<Vec<Signature>, Rejection> {
        let AddCheckpoint { old_size, proof, checkpoint: signed } = request;
        let (checkpoint, old_size) = (signed.checkpoint(), *old_size);
        let log = self.logs.get(&checkpoint.origin);
        let log = log.ok_or_else(|| Rejection::UnknownLog { origin: checkpoint.origin.clone() })?;
        signed.verify(&log.keys).map_err(Rejection::NotSigned)?;
        if old_size > checkpoint.size {
            return Err(Rejection::OldSizeTooLarge { old_size, size: checkpoint.size });
        }
        let _committing = lock(&log.commit);
        let last = log.last();
        if old_size != size_of(last.as_deref()) {
            return Err(Rejection::Conflict { size: size_of(last.as_deref()) });
        }
        if let Err(problem) = check_extends(last.as_deref(), proof, signed) {
            let evidence = self.keep_evidence(log, last.as_deref(), signed);
            return Err(Rejection::Inconsistent { problem, evidence });
        }
        if let Some(last) = &last
            && let Some((answered_at, cosignatures)) = &last.answered
            && *answered_at == timestamp
            && last.signed.checkpoint() == checkpoint
        {
            // The same checkpoint in the same second gets the same signatures, so they need not be
            // persisted again. Anybody can repeat a request; this bounds what it costs.
            return Ok(cosignatures.clone());
        }
        if let Some(last) = &last
            && timestamp < last.cosigned_at
        {
            return Err(Rejection::ClockBehind { time: timestamp, last: last.cosigned_at });
        }
        let last = self.cosign(log, signed, timestamp).map_err(Rejection::Failed)?;
        self.state.store(&log.origin_hash, &last.signed).map_err(Rejection::Failed)?;
        let cosignatures = last.answered.as_ref().map(|(_, cosignatures)| cosignatures.clone());
        *lock(&log.last) = Some(Arc::new(last));
        Ok(cosignatures.unwrap_or_default())
    }

    /// The last cosigned checkpoint of a log, by the SHA-256 of its origin in lower-case hex, with
    /// the signatures of the log and of the witness. `None` if there is none.
    pub fn checkpoint(&self, origin_hash: &str) -> Option<String> {
        let log = self.logs.values().find(|log| log.origin_hash == origin_hash)?;
        Some(log.last()?.signed.encode())
    }

    /// Cosigns, and leaves out the signatures that nobody has verified.
    fn cosign(&self, log: &Log, signed: &SignedCheckpoint, timestamp: u64) -> Result<Last> {
        let failed =
            |error: zero_proof::Error| Error::invalid(&signed.checkpoint().origin, error.to_string());
        let cosignatures = signed.cosign(&self.key, timestamp).map_err(failed)?;
        // One by each key, since a client may repeat them.
        let by_key = |key: &VerifierKey| {
            let is_by_key =
                |signature: &&Signature| (&*signature.key_name, signature.key_id) == (key.name(), key.id());
            signed.note().signatures().iter().find(is_by_key).cloned()
        };
        let by_log: Vec<_> = log.keys.iter().filter_map(by_key).collect();
        let text = signed.note().text();
        let note = format!("{text}\n{}", Note::encode_signatures(&by_log));
        let mut stored = SignedCheckpoint::parse(note.as_bytes()).map_err(failed)?;
        stored.add_signatures(cosignatures.iter().cloned()).map_err(failed)?;
        Ok(Last { signed: stored, answered: Some((timestamp, cosignatures)), cosigned_at: timestamp })
    }

    /// Two roots that a log has signed for one size prove that it misbehaves.
    fn keep_evidence(
        &self,
        log: &Log,
        last: Option<&Last>,
        refused: &SignedCheckpoint,
    ) -> Option<Result<PathBuf>> {
        let cosigned = last.map(|last| &last.signed)?;
        let (ours, theirs) = (cosigned.checkpoint(), refused.checkpoint());
        if ours.size != theirs.size || ours.root == theirs.root {
            return None;
        }
        self.state.keep_conflict(&log.origin_hash, cosigned, refused).transpose()
    }
}

impl Log {
    fn new(origin: &str) -> Self {
        let origin_hash = hash_origin(origin);
        Self { keys: Vec::new(), origin_hash, commit: Mutex::default(), last: Mutex::default() }
    }

    fn last(&self) -> Option<Arc<Last>> {
        lock(&self.last).clone()
    }
}

/// The SHA-256 of an origin in lower-case hex, by which a witness serves the checkpoint of a log.
pub fn hash_origin(origin: &str) -> String {
    let mut hex = String::new();
    for byte in Hash::of(origin.as_bytes()).as_bytes() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Checks the roots and the proof. The old size is that of `last`.
fn check_extends(last: Option<&Last>, proof: &[Hash], signed: &SignedCheckpoint) -> Result<(), String> {
    let checkpoint = signed.checkpoint();
    if checkpoint.size == 0 && checkpoint.root != Hash::EMPTY_TREE {
        return Err("the checkpoint of no events does not have the root of the empty tree".to_owned());
    }
    let (old_size, old_root) = match last.map(|last| last.signed.checkpoint()) {
        Some(last) if last.size > 0 => (last.size, last.root),
        _ if proof.is_empty() => return Ok(()),
        _ => return Err("the proof must be empty if the old size is 0".to_owned()),
    };
    if old_size == checkpoint.size && old_root != checkpoint.root {
        return Err(format!("the tree of {old_size} events that was cosigned has another root"));
    }
    check_consistency(old_size, &old_root, checkpoint.size, &checkpoint.root, proof)
        .map_err(|error| error.to_string())
}

fn check_log_key(key: &VerifierKey) -> Result<()> {
    let invalid = |problem: String| Err(Error::invalid(format!("log `{}`", key.name()), problem));
    if key.signature_type() == SignatureType::CosignatureEd25519 {
        return invalid("a key of type 0x04 is for witnesses; name the vkey of the log".to_owned());
    }
    if key.name().len() > MAX_ORIGIN_BYTES {
        return invalid(format!("the origin is longer than {MAX_ORIGIN_BYTES} bytes"));
    }
    Ok(())
}

fn size_of(last: Option<&Last>) -> u64 {
    last.map_or(0, |last| last.signed.checkpoint().size)
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
