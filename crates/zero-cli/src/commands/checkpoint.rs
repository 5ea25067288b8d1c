//! `zero-bus checkpoint`: sign the tree of a bus.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zero_bus::{Json, Reader};
use zero_paper::text::counted;
use zero_paper::{Clock, SystemClock, rfc3339};
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_program::signals::on_stop_signal;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::key::SignatureType;
use zero_proof::{Hash, Policy, SignedCheckpoint, SigningKey, VerifierKey};
use zero_witness::{ClientOptions, Failure, SubmitError, WitnessClient};

use crate::checkpoint_store::CheckpointStore;
use crate::program::PROGRAM;
use crate::proof_input::{read_key, read_policy, read_secret};
use crate::tiles::open_tiles;
use crate::time_arg::parse_duration;

/// Sign a checkpoint of a bus, and have it cosigned.
///
/// A checkpoint is the number of events and a hash over all of them. It is signed only if it
/// extends the last one that was signed: a log that was truncated, rewritten or restored from an
/// older copy is refused, with the first event that differs. The last one is recorded in the state,
/// outside the bus. The signed checkpoint is stored next to the state, as FILE.000000000042 for 42
/// events, and printed.
///
/// With --policy, the witnesses of the policy are asked to cosign it. A witness checks that the
/// checkpoint extends the one before, and states the time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus checkpoint bus --key desk-1.key --secret bus.secret
  zero-bus checkpoint bus --key desk-1.key --secret bus.secret --policy policy --every 10m

Keep the state where a restore of the bus does not reach it. SIGINT, SIGTERM or SIGHUP stops --every after the checkpoint in
progress; a second signal stops it at once.

Exit codes: 0 passed (or --every was stopped), 1 failed (nothing was signed because the log does not extend what was signed
or is damaged; or the checkpoint was signed, but too few witnesses cosigned it), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The key file of the log, see `zero-bus key new`. Its name is the origin of the log.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The disclosure secret of the bus, see `zero-bus secret new`.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// Refuse to sign unless this is the origin, which is the name of the key.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// The policy that lists the log and its witnesses. Exit 1 if its quorum has not cosigned.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The state: what was signed last. Must be outside the bus. [default: DIR.checkpoints/signed]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Keep running: look for new events after each such time (90s, 10m, 2h or 1d), and print one
    /// line per checkpoint.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    every: Option<f64>,
    /// Print one JSON object per checkpoint: {"checkpoint", "cosigned_by": [{"timestamp",
    /// "witness"}], "events", "origin", "quorum", "stored"}; "quorum" is null without --policy.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Whether the command runs until it is stopped.
    pub(crate) fn is_service(&self) -> bool {
        self.every.is_some()
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let log = Log::open(arguments)?;
    let Some(every_s) = arguments.every else {
        let made = log.checkpoint()?;
        made.failures
            .iter()
            .for_each(|(witness, failure)| print_warning(PROGRAM, &format!("{witness}: {failure}")));
        let text = if arguments.json { made.json()? } else { made.signed.encode().trim_end().to_owned() };
        if let Some(Err(problem)) = &made.quorum {
            print_message(
                PROGRAM,
                &format!("{}; run the command again to ask the missing witnesses", problem),
            );
        }
        return print(&text, Outcome::of(!matches!(made.quorum, Some(Err(_))) && !made.is_contradicted));
    };
    if every_s < 1.0 {
        bail!("--every: must be at least 1s");
    }
    run_service(arguments, &log, Duration::from_secs_f64(every_s))
}

/// Signs a checkpoint at once and whenever the time has passed, until a signal arrives.
fn run_service(arguments: &Arguments, log: &Log<'_>, every: Duration) -> Result<Outcome> {
    let (stop, stopped) = mpsc::channel();
    on_stop_signal(move |_| {
        let _ = stop.send(());
    })?;
    let mut reported = BTreeMap::new();
    let mut next = Instant::now();
    loop {
        let made = log.checkpoint()?;
        report_changes(&mut reported, &made.failures);
        if made.is_new || made.has_new_cosignatures {
            let text = if arguments.json { made.json()? } else { made.line() };
            print(&text, Outcome::Passed)?;
        }
        // A checkpoint that took longer than the interval is followed by the next one at once.
        next = (next + every).max(Instant::now());
        match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            _ => return Ok(Outcome::Passed),
        }
    }
}

/// Reports each failure of a witness once, and when it has passed.
fn report_changes(reported: &mut BTreeMap<String, String>, failures: &BTreeMap<String, String>) {
    for (witness, failure) in failures {
        if reported.get(witness) != Some(failure) {
            print_warning(PROGRAM, &format!("{witness}: {failure}; going on without its cosignature"));
        }
    }
    for witness in reported.keys().filter(|witness| !failures.contains_key(*witness)) {
        print_message(PROGRAM, &format!("{witness}: cosigns again"));
    }
    *reported = failures.clone();
}

/// A log that is signed.
struct Log<'a> {
    arguments: &'a Arguments,
    key: SigningKey,
    secret: DisclosureSecret,
    policy: Option<Policy>,
    /// The witnesses of the policy.
    witnesses: Option<WitnessClient>,
    store: CheckpointStore,
}

/// A checkpoint that was signed.
struct Made {
    signed: SignedCheckpoint,
    /// It was not signed and stored before.
    is_new: bool,
    has_new_cosignatures: bool,
    /// The witnesses that have cosigned, with their times.
    cosigned_by: Vec<Cosigner>,
    /// Why witnesses that were asked have not cosigned, by witness.
    failures: BTreeMap<String, String>,
    /// A witness has seen a log that this one does not extend.
    is_contradicted: bool,
    /// Whether the policy accepts it; `None` without a policy.
    quorum: Option<Result<(), zero_proof::Error>>,
    stored: PathBuf,
}

#[derive(Serialize)]
struct Cosigner {
    timestamp: Option<u64>,
    witness: String,
}

impl<'a> Log<'a> {
    fn open(arguments: &'a Arguments) -> Result<Self> {
        let dir = &arguments.dir;
        // Fails for a directory that is not a bus, before anything is created.
        Reader::open(dir)?;
        let key = read_key(&arguments.key)?;
        if let Some(origin) = arguments.origin.as_deref().filter(|origin| *origin != key.name()) {
            bail!("--origin: the key signs as `{}`, not as `{origin}`; name the key of that log", key.name());
        }
        let policy = arguments.policy.as_deref().map(read_policy).transpose()?;
        if let (Some(policy), Some(path)) = (&policy, &arguments.policy) {
            check_policy_lists(policy, &key).with_context(|| path.display().to_string())?;
        }
        let client = |policy| WitnessClient::new(policy, ClientOptions::default());
        let witnesses = policy.as_ref().map(client).transpose()?;
        let secret = read_secret(&arguments.secret)?;
        let store = CheckpointStore::of(dir, arguments.state.as_deref())?;
        Ok(Self { arguments, key, secret, policy, witnesses, store })
    }

    /// Signs the log as it is now, stores the checkpoint, and has it cosigned.
    fn checkpoint(&self) -> Result<Made> {
        // Held to the end, so that no other process stores a checkpoint meanwhile.
        let mut state = self.store.open_state()?;
        self.check_origin()?;
        let reader = Reader::open(&self.arguments.dir)?;
        let mut tiles = open_tiles(&self.arguments.dir, &reader)?;
        let now_s = SystemClock.now() as u64;
        let signed = state.sign_next(&reader, &mut tiles, &self.secret, &self.key, now_s)?;
        drop(tiles);
        let size = signed.checkpoint().size;
        let stored = self.store.load(size)?.filter(|stored| self.has_signed(stored, &signed));
        let is_new = stored.is_none();
        let signed = stored.unwrap_or(signed);
        if is_new {
            self.store.store(&signed)?;
        }
        let mut made = Made {
            signed,
            is_new,
            has_new_cosignatures: false,
            cosigned_by: Vec::new(),
            failures: BTreeMap::new(),
            is_contradicted: false,
            quorum: None,
            stored: self.store.path(size),
        };
        if let (Some(policy), Some(witnesses)) = (&self.policy, &self.witnesses) {
            made.examine(policy)?;
            self.collect_cosignatures(&mut made, witnesses)?;
            made.examine(policy)?;
        }
        Ok(made)
    }

    /// Asks the witnesses, unless all of them have cosigned, and stores the new cosignatures. The
    /// first cosignature of a witness is kept, because its time is the earliest.
    fn collect_cosignatures(&self, made: &mut Made, witnesses: &WitnessClient) -> Result<()> {
        let has_cosigned = |made: &Made, name: &str| made.cosigned_by.iter().any(|by| by.witness == name);
        if witnesses.witnesses().all(|name| has_cosigned(made, name)) {
            return Ok(());
        }
        let size = made.signed.checkpoint().size;
        let previous = self.store.sizes()?.into_iter().rfind(|stored| *stored < size).unwrap_or(0);
        let dir = &self.arguments.dir;
        let prove = |old_size| -> Result<Vec<Hash>> {
            // The tiles are not kept open, so that other commands need not wait for witnesses.
            Ok(open_tiles(dir, &Reader::open(dir)?)?.prove_consistency(old_size, size)?)
        };
        let submission = witnesses.submit(&made.signed, previous, prove);
        let new = submission.cosigned.into_iter().filter(|cosigned| !has_cosigned(made, &cosigned.witness));
        let new: Vec<_> = new.map(|cosigned| cosigned.signature).collect();
        if !new.is_empty() {
            made.signed.add_signatures(new)?;
            self.store.store(&made.signed)?;
            made.has_new_cosignatures = true;
        }
        for Failure { witness, error } in submission.failures {
            // One that has cosigned this checkpoint before need not be there again.
            if !has_cosigned(made, &witness) {
                made.is_contradicted |= matches!(error, SubmitError::Inconsistent { .. });
                made.failures.insert(witness, error.to_string());
            }
        }
        Ok(())
    }

    /// A state belongs to one origin.
    fn check_origin(&self) -> Result<()> {
        let Some(newest) = self.store.sizes()?.last().copied() else { return Ok(()) };
        let Some(stored) = self.store.load(newest)? else { return Ok(()) };
        let origin = &stored.checkpoint().origin;
        if origin != self.key.name() {
            let (stored, name) = (self.store.path(newest), self.key.name());
            bail!(
                "{}: is a checkpoint of the origin `{origin}`, and the key signs as `{name}`; name another state with --state",
                stored.display()
            );
        }
        Ok(())
    }

    /// Whether a stored checkpoint is the same as a new one and has the signatures of all keys.
    fn has_signed(&self, stored: &SignedCheckpoint, signed: &SignedCheckpoint) -> bool {
        let keys: Vec<VerifierKey> = [SignatureType::Ed25519, SignatureType::CosignatureMlDsa44]
            .into_iter()
            .filter_map(|signature_type| self.key.verifier_key(signature_type))
            .collect();
        stored.checkpoint() == signed.checkpoint()
            && stored.verify(&keys).is_ok_and(|signed| signed.len() == keys.len())
    }
}

impl Made {
    /// Finds out who has cosigned and whether that is a quorum.
    fn examine(&mut self, policy: &Policy) -> Result<()> {
        self.cosigned_by = policy
            .cosigners(&self.signed)?
            .iter()
            .map(|cosigner| Cosigner {
                timestamp: cosigner.timestamp,
                witness: cosigner.witness.name.clone(),
            })
            .collect();
        self.quorum = Some(policy.check(&self.signed).map(drop));
        Ok(())
    }

    fn json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Document<'a> {
            checkpoint: String,
            cosigned_by: &'a [Cosigner],
            events: u64,
            origin: &'a str,
            quorum: Option<bool>,
            stored: String,
        }
        let checkpoint = self.signed.checkpoint();
        let document = Document {
            checkpoint: self.signed.encode(),
            cosigned_by: &self.cosigned_by,
            events: checkpoint.size,
            origin: &checkpoint.origin,
            quorum: self.quorum.as_ref().map(Result::is_ok),
            stored: self.stored.display().to_string(),
        };
        Ok(Json::of(&document)?.to_string())
    }

    /// One line for a person.
    fn line(&self) -> String {
        let now = rfc3339(SystemClock.now()).unwrap_or_default();
        let events = counted(self.signed.checkpoint().size, "event");
        let names: Vec<&str> = self.cosigned_by.iter().map(|cosigner| cosigner.witness.as_str()).collect();
        let cosigned = match (&self.quorum, names.is_empty()) {
            (None, _) => String::new(),
            (Some(_), true) => ", not cosigned".to_owned(),
            (Some(_), false) => format!(", cosigned by {}", names.join(", ")),
        };
        let quorum = if matches!(self.quorum, Some(Err(_))) { "; no quorum yet" } else { "" };
        format!("{now}  {events}{cosigned}{quorum}")
    }
}

/// Checks that the policy lists the log, which would otherwise accept none of its checkpoints.
fn check_policy_lists(policy: &Policy, key: &SigningKey) -> Result<()> {
    let vkeys = [SignatureType::Ed25519, SignatureType::CosignatureMlDsa44];
    let vkeys: Vec<_> =
        vkeys.into_iter().filter_map(|signature_type| key.verifier_key(signature_type)).collect();
    if policy.logs().iter().any(|log| vkeys.contains(&log.key)) {
        return Ok(());
    }
    let line = vkeys.first().map_or_else(String::new, |vkey| format!("log {vkey}"));
    bail!("the policy does not list the key of this log; add the line: {line}")
}
