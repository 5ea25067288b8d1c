//! Compares a log with the checkpoints that were signed and cosigned: what a chain alone cannot
//! show is that its end was not cut off and that the whole of it was not rewritten.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use zero_bus::Reader;
use zero_paper::rfc3339;
use zero_paper::text::counted;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::log_roots::log_roots;
use zero_proof::policy::Accepted;
use zero_proof::{Hash, Policy, SignedCheckpoint};

use crate::checkpoint_store::CheckpointStore;
use crate::proof_input::{read_policy, read_secret};

/// The options of a comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct AnchorArguments {
    /// Compare the log with its stored checkpoints, and fail unless one is accepted by this policy
    /// and none contradicts the log.
    #[arg(long, value_name = "FILE", requires = "secret")]
    policy: Option<PathBuf>,
    /// The disclosure secret of the bus, from which its checkpoints follow.
    #[arg(long, value_name = "FILE", requires = "policy")]
    secret: Option<PathBuf>,
    /// The state next to which the checkpoints are stored. [default: DIR.checkpoints/signed]
    #[arg(long, value_name = "FILE", requires = "policy")]
    state: Option<PathBuf>,
}

/// The result of a comparison. Programs read the field names.
#[derive(Debug, Serialize)]
pub(crate) struct Anchor {
    /// The events that the newest accepted checkpoint covers.
    pub(crate) anchored: u64,
    /// When the last of the witnesses cosigned it, in POSIX seconds; null without a time.
    pub(crate) cosigned_at: Option<u64>,
    /// The policy's names of the witnesses.
    pub(crate) cosigned_by: Vec<String>,
    /// The valid events of the log.
    pub(crate) events: u64,
    pub(crate) ok: bool,
    /// `ok`, or what is wrong.
    pub(crate) reason: String,
}

impl AnchorArguments {
    /// Compares the log; `None` if the options do not ask for it.
    pub(crate) fn compare(&self, dir: &Path, reader: &Reader) -> Result<Option<Anchor>> {
        let (Some(policy), Some(secret)) = (&self.policy, &self.secret) else { return Ok(None) };
        let policy = read_policy(policy)?;
        let secret = read_secret(secret)?;
        let store = CheckpointStore::of(dir, self.state.as_deref())?;
        compare(reader, &policy, &secret, &store).map(Some)
    }
}

impl Anchor {
    /// One line for a person.
    pub(crate) fn describe(&self) -> String {
        if !self.ok {
            return self.reason.clone();
        }
        let witnesses = match self.cosigned_by.len() {
            1 => "1 witness".to_owned(),
            count => format!("{count} witnesses"),
        };
        let time = match self.cosigned_at.and_then(|seconds| rfc3339(seconds as f64)) {
            Some(time) => format!(" at {time}"),
            None => ", at an unknown time".to_owned(),
        };
        let rest = match self.events - self.anchored {
            0 => String::new(),
            1 => "; the last event is not anchored".to_owned(),
            rest => format!("; the last {rest} events are not anchored"),
        };
        format!("anchored up to {} of {}, cosigned by {witnesses}{time}{rest}", self.anchored, self.events)
    }
}

fn compare(
    reader: &Reader,
    policy: &Policy,
    secret: &DisclosureSecret,
    store: &CheckpointStore,
) -> Result<Anchor> {
    let sizes = store.sizes()?;
    let mut stored = Vec::new();
    for size in &sizes {
        stored.extend(store.load(*size)?);
    }
    let log = log_roots(reader, secret, &sizes)?;
    let root_of = |size: u64| log.roots.iter().find(|(of, _)| *of == size).map(|(_, root)| *root);
    let matches =
        |signed: &SignedCheckpoint| root_of(signed.checkpoint().size) == Some(signed.checkpoint().root);
    let anchor = |anchored: u64, accepted: Option<Accepted<'_>>, problem: Option<String>| {
        let cosigners = accepted.map(|accepted| accepted.cosigners).unwrap_or_default();
        Anchor {
            anchored,
            cosigned_at: cosigners.iter().filter_map(|cosigner| cosigner.timestamp).max(),
            cosigned_by: cosigners.iter().map(|cosigner| cosigner.witness.name.clone()).collect(),
            events: log.events,
            ok: problem.is_none(),
            reason: problem.unwrap_or_else(|| "ok".to_owned()),
        }
    };
    // A stored checkpoint that the log has not signed says nothing about the log.
    if let Some(signed) = stored.iter().find(|signed| !matches(signed) && is_signed_by_log(policy, signed)) {
        let size = signed.checkpoint().size;
        let equal = stored.iter().rfind(|other| other.checkpoint().size < size && matches(other));
        let equal = equal.map_or(0, |other| other.checkpoint().size);
        let problem = describe_contradiction(size, equal, log.events, root_of(size));
        return Ok(anchor(equal, None, Some(format!("{problem} ({})", store.path(size).display()))));
    }
    let mut refusal = None;
    for signed in stored.iter().rev().filter(|signed| matches(signed)) {
        match policy.check(signed) {
            Ok(accepted) => return Ok(anchor(signed.checkpoint().size, Some(accepted), None)),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let problem = match (refusal, stored.is_empty()) {
        (Some(refusal), _) => {
            format!("no stored checkpoint is accepted by the policy; the newest is not: {refusal}")
        }
        (None, true) => format!("no checkpoint is stored next to {}", store.state_path().display()),
        (None, false) => "no stored checkpoint is signed by a log of the policy".to_owned(),
    };
    Ok(anchor(0, None, Some(problem)))
}

fn is_signed_by_log(policy: &Policy, signed: &SignedCheckpoint) -> bool {
    let origin = signed.checkpoint().origin.as_str();
    let keys = policy.logs().iter().map(|log| &log.key).filter(move |key| key.name() == origin);
    signed.verify(keys).is_ok()
}

/// Says how the log differs from a checkpoint that it signed. It agrees with one of `equal` events.
fn describe_contradiction(size: u64, equal: u64, events: u64, root: Option<Hash>) -> String {
    let signed = counted(size, "event");
    if root.is_none() {
        let events = counted(events, "valid event");
        return format!(
            "a checkpoint of {signed} was signed, but the log has only {events}: it was truncated or damaged"
        );
    }
    if equal == 0 {
        return format!(
            "the first {signed} are not those that were signed: the log was rewritten, or the secret is that of another bus"
        );
    }
    format!("events {} to {size} are not all those that were signed: the log was rewritten", equal + 1)
}
