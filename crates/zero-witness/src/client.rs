//! The client: asks the witnesses of a policy to cosign a checkpoint.
//!
//! Nothing that a witness answers is believed. A cosignature counts once it was verified against
//! the policy's key, responses have a maximum size, and redirects are not followed.

mod connection;
mod url;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use zero_proof::note::{Note, Signature};
use zero_proof::{AddCheckpoint, Hash, Policy, SignedCheckpoint, VerifierKey};

use crate::error::{Error, Result, SubmitError};
use connection::{Answer, Connection};
use url::WitnessUrl;

/// Maximum number of witnesses that are asked at the same time.
const MAX_PARALLEL_SUBMISSIONS: usize = 32;

/// Requests to one witness per submission. The first tells the size that the witness has, the
/// second succeeds unless another client of the log interferes.
const MAX_ATTEMPTS: usize = 4;

/// How a client reaches witnesses.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// A PEM file of certificate authorities to trust instead of the system's. The variable
    /// `SSL_CERT_FILE` does the same.
    pub ca: Option<PathBuf>,
    /// Maximum time for one witness, with all requests to it.
    pub timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { ca: None, timeout: Duration::from_secs(10) }
    }
}

/// The witnesses of a policy that have a URL. Connections are kept open between submissions.
pub struct WitnessClient {
    targets: Vec<Target>,
    connection: Connection,
    timeout: Duration,
    /// The names of all targets' witnesses, in the order of the policy.
    names: Vec<String>,
}

/// One URL, and the witnesses of the policy that have it: one for each type of key.
struct Target {
    url: WitnessUrl,
    /// Position in the policy, and key.
    witnesses: Vec<(usize, VerifierKey)>,
}

/// What became of a submission. Each witness that was asked is in one of the two lists; both are in
/// the order of the policy's lines.
#[derive(Debug, Default)]
pub struct Submission {
    /// The witnesses that have cosigned.
    pub cosigned: Vec<Cosigned>,
    /// The witnesses that have not, and why.
    pub failures: Vec<Failure>,
}

/// A witness that has cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The policy's name of the witness.
    pub witness: String,
    /// When, in POSIX seconds, as the witness states it. Not 0.
    pub timestamp: u64,
    /// The cosignature, which was verified against the policy's key.
    pub signature: Signature,
}

/// A witness that has not cosigned.
#[derive(Debug)]
pub struct Failure {
    /// The policy's name of the witness.
    pub witness: String,
    /// Why. The message begins with the URL.
    pub error: SubmitError,
}

impl Submission {
    /// The verified cosignatures, for
    /// [`SignedCheckpoint::add_signatures`](zero_proof::SignedCheckpoint::add_signatures).
    pub fn signatures(&self) -> impl Iterator<Item = Signature> {
        self.cosigned.iter().map(|cosigned| cosigned.signature.clone())
    }
}

impl WitnessClient {
    /// Nothing is connected before the first submission. Witnesses without a URL are left out.
    ///
    /// The URL of a witness is its submission prefix: `http(s)://HOST[:PORT][/PREFIX]`. Plain HTTP
    /// is allowed, because checkpoints are public and cosignatures are verified; but whoever is on
    /// the way can refuse in the witness's place. Over HTTPS the client uses the proxy that
    /// `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a URL or the file of certificate authorities cannot be used.
    pub fn new(policy: &Policy, options: ClientOptions) -> Result<Self> {
        let mut names = Vec::new();
        let mut targets = BTreeMap::<String, Target>::new();
        for witness in policy.witnesses() {
            let Some(text) = &witness.url else { continue };
            let url = WitnessUrl::parse(text).map_err(|problem| {
                Error::invalid(format!("the URL of witness `{}`", witness.name), problem)
            })?;
            let target = targets.entry(url.base.clone());
            let target = target.or_insert_with(|| Target { url, witnesses: Vec::new() });
            target.witnesses.push((names.len(), witness.key.clone()));
            names.push(witness.name.clone());
        }
        let targets: Vec<_> = targets.into_values().collect();
        let uses_https = targets.iter().any(|target| target.url.is_https);
        let connection = Connection::new(uses_https, options.ca.as_deref(), options.timeout)?;
        Ok(Self { targets, connection, timeout: options.timeout, names })
    }

    /// The policy's names of the witnesses that it asks, in the order of the policy's lines.
    pub fn witnesses(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Submits a signed checkpoint to all witnesses in parallel. Returns once all have answered or
    /// their time is over.
    ///
    /// `previous_size` is the size that the witnesses probably cosigned last, such as that of the
    /// last published checkpoint; 0 if it is unknown. A witness that has another size is asked
    /// again. `prove` makes the consistency proof from a size to that of the checkpoint. It is
    /// called from several threads, and only for sizes between 0 and that of the checkpoint.
    pub fn submit<E: Display>(
        &self,
        checkpoint: &SignedCheckpoint,
        previous_size: u64,
        prove: impl Fn(u64) -> Result<Vec<Hash>, E> + Sync,
    ) -> Submission {
        let results = Mutex::new(Vec::with_capacity(self.names.len()));
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(target) = self.targets.get(next.fetch_add(1, Relaxed)) {
                let answered = self.ask(target, checkpoint, previous_size, &prove);
                let verified = target.verify(checkpoint, answered, &self.names);
                results.lock().unwrap_or_else(PoisonError::into_inner).extend(verified);
            }
        };
        thread::scope(|scope| {
            // This thread works too, so that a system that refuses threads costs only time.
            for _ in 1..self.targets.len().min(MAX_PARALLEL_SUBMISSIONS) {
                if thread::Builder::new().name("submit".to_owned()).spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(position, _)| *position);
        let mut submission = Submission::default();
        for (_, result) in results {
            match result {
                Ok(cosigned) => submission.cosigned.push(cosigned),
                Err(failure) => submission.failures.push(failure),
            }
        }
        submission
    }

    /// The signatures that a witness answers with, verified by nobody yet.
    fn ask<E: Display>(
        &self,
        target: &Target,
        checkpoint: &SignedCheckpoint,
        previous_size: u64,
        prove: &impl Fn(u64) -> Result<Vec<Hash>, E>,
    ) -> Result<Vec<Signature>, SubmitError> {
        let deadline = Instant::now() + self.timeout;
        let size = checkpoint.checkpoint().size;
        let mut old_size = previous_size.min(size);
        for _ in 0..MAX_ATTEMPTS {
            let proof = match old_size {
                0 => Vec::new(),
                _ if old_size == size => Vec::new(),
                _ => prove(old_size).map_err(|error| target.no_proof(old_size, &error))?,
            };
            let request = AddCheckpoint { old_size, proof, checkpoint: checkpoint.clone() };
            match self.connection.add_checkpoint(&target.url, &request, deadline)? {
                Answer::Cosignatures(signatures) => return Ok(signatures),
                Answer::Size(its_size) if its_size > size => {
                    let problem = format!(
                        "the witness says that it has cosigned {its_size} events of this log, but the checkpoint has \
                         {size}: if so, the log was truncated or restored from an older copy, or its key signs another \
                         log too"
                    );
                    return Err(SubmitError::Inconsistent { url: target.url.base.clone(), problem });
                }
                Answer::Size(its_size) if its_size == old_size => {
                    let problem =
                        format!("the witness refuses the old size {old_size}, which it states itself");
                    return Err(target.refused(problem));
                }
                Answer::Size(its_size) => old_size = its_size,
            }
        }
        let problem = "the size that the witness has changes with each request; does another program submit \
                       checkpoints of this log?";
        Err(SubmitError::Unavailable { url: target.url.base.clone(), problem: problem.to_owned() })
    }
}

impl Target {
    /// What the answer means for each witness of this URL, by its position in the policy.
    fn verify(
        &self,
        checkpoint: &SignedCheckpoint,
        answered: Result<Vec<Signature>, SubmitError>,
        names: &[String],
    ) -> Vec<(usize, Result<Cosigned, Failure>)> {
        let verify = |(position, key): &(usize, VerifierKey)| {
            let witness = names[*position].clone();
            let verified = match &answered {
                Ok(signatures) => self.cosignature(checkpoint, signatures, key),
                Err(error) => Err(error.clone()),
            };
            let result = match verified {
                Ok((timestamp, signature)) => Ok(Cosigned { witness, timestamp, signature }),
                Err(error) => Err(Failure { witness, error }),
            };
            (*position, result)
        };
        self.witnesses.iter().map(verify).collect()
    }

    /// The cosignature by one key. Signatures by other keys are ignored.
    fn cosignature(
        &self,
        checkpoint: &SignedCheckpoint,
        signatures: &[Signature],
        key: &VerifierKey,
    ) -> Result<(u64, Signature), SubmitError> {
        let key_label = format!("{}+{}", key.name(), key.id());
        let is_by_key =
            |signature: &&Signature| (&*signature.key_name, signature.key_id) == (key.name(), key.id());
        let Some(signature) = signatures.iter().find(is_by_key) else {
            return Err(self.refused(format!("the answer has no signature by the policy's key {key_label}")));
        };
        let lines = Note::encode_signatures(std::slice::from_ref(signature));
        let note = format!("{}\n{lines}", checkpoint.note().text());
        let refused =
            |error: zero_proof::Error| self.refused(format!("the answer is no cosignature: {error}"));
        let signed = SignedCheckpoint::parse(note.as_bytes()).map_err(refused)?;
        let verified = signed.verify([key]).map_err(refused)?;
        let timestamp = verified.first().and_then(|signed| signed.timestamp);
        let timestamp = timestamp
            .ok_or_else(|| self.refused(format!("the cosignature by {key_label} does not state a time")))?;
        Ok((timestamp, signature.clone()))
    }

    fn refused(&self, problem: String) -> SubmitError {
        SubmitError::Refused { url: self.url.base.clone(), problem }
    }

    fn no_proof(&self, old_size: u64, problem: &dyn Display) -> SubmitError {
        SubmitError::NoProof { url: self.url.base.clone(), old_size, problem: problem.to_string() }
    }
}
