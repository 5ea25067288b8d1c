//! `zero-bus checkpoint`: sign the tree of a bus.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zero_bus::{Json, Reader};
use zero_paper::text::counted;
use zero_paper::{Clock, SystemClock, rfc3339};
use zero_program::message::{print_message, print_warning, with_causes};
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_program::signals::on_stop_signal;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::key::SignatureType;
use zero_proof::log_roots::locate_difference;
use zero_proof::{Checkpoint, Hash, Policy, SignedCheckpoint, SigningKey, StoreError, VerifierKey};
use zero_witness::{ClientOptions, Failure, SubmitError, WitnessClient};

use crate::checkpoint_store::CheckpointStore;
use crate::key_use::{check_key_use, check_secret_use};
use crate::program::{PROGRAM, is_failed_check};
use crate::proof_input::{read_key, read_policy, read_secret};
use crate::tiles::open_tiles;
use crate::time_arg::parse_duration;
use crate::witness_clock::warn_of_wrong_clock;

/// Sign a checkpoint of a bus, and have it cosigned.
///
/// A checkpoint is the number of events and a hash over all of them. It is signed only if it
/// extends the last one that was signed: a log that was truncated, rewritten or restored from an
/// older copy is refused, with the first event that differs. The last one is recorded in the state,
/// outside the bus. The signed checkpoint is stored next to the state, as FILE.000000000042 for 42
/// events, and printed. The newest stored checkpoint must be extended, too, so that a state that
/// was lost can be moved away and is made again.
///
/// Only what is new is read. An old event that was changed in place, with its checksum as it was,
/// is not signed but not noticed either, except with --full-check and by `zero-bus verify`.
///
/// With --policy, the witnesses of the policy are asked to cosign it. A witness checks that the
/// checkpoint extends the one before, and states the time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus checkpoint bus --key desk-1.key --secret bus.secret
  zero-bus checkpoint bus --key desk-1.key --secret bus.secret --policy policy --every 10m

Keep the state where a restore of the bus does not reach it. SIGINT, SIGTERM or SIGHUP stops --every after the checkpoint in
progress; a second signal stops it at once. It survives errors of the system, such as a full disk: it reports each and tries
again.

Which bus a key and a secret are used for is recorded next to them, in FILE.used-for: each bus needs its own.

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
    /// A PEM file of certificate authorities for the witnesses' certificates, instead of the
    /// system's. The variable SSL_CERT_FILE does the same.
    #[arg(long, value_name = "FILE", requires = "policy")]
    ca_file: Option<PathBuf>,
    /// The state: what was signed last. Must be outside the bus. [default: DIR.checkpoints/signed]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Read the whole log again, and compare it with the last checkpoint. Takes as long as
    /// `zero-bus verify`.
    #[arg(long)]
    full_check: bool,
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
    let mut log = Log::open(arguments)?;
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
    run_service(arguments, &mut log, Duration::from_secs_f64(every_s))
}

/// Signs a checkpoint at once and whenever the time has passed, until a signal arrives.
fn run_service(arguments: &Arguments, log: &mut Log<'_>, every: Duration) -> Result<Outcome> {
    let (stop, stopped) = mpsc::channel();
    on_stop_signal(move |_| {
        let _ = stop.send(());
    })?;
    let mut reported = BTreeMap::new();
    let mut reported_error = None;
    let mut next = Instant::now();
    loop {
        match log.checkpoint() {
            Ok(made) => {
                if reported_error.take().is_some() {
                    print_message(PROGRAM, "checkpoints are signed again");
                }
                report_changes(&mut reported, &made.failures);
                if made.is_new || made.has_new_cosignatures {
                    let text = if arguments.json { made.json()? } else { made.line() };
                    print(&text, Outcome::Passed)?;
                }
            }
            Err(error) if may_pass(&error) => {
                let problem = with_causes(&error);
                if reported_error.as_ref() != Some(&problem) {
                    print_warning(PROGRAM, &format!("no checkpoint was signed: {problem}; trying again"));
                }
                reported_error = Some(problem);
            }
            Err(error) => return Err(error),
        }
        // A checkpoint that took longer than the interval is followed by the next one at once.
        next = (next + every).max(Instant::now());
        match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            _ => return Ok(Outcome::Passed),
        }
    }
}

/// Whether an error may pass without anybody's work on keys, state or log: the system refused an
/// operation, or another program held a lock.
fn may_pass(error: &anyhow::Error) -> bool {
    !is_failed_check(error)
        && error.chain().any(|cause| {
            cause.is::<io::Error>()
                || matches!(
                    cause.downcast_ref(),
                    Some(zero_bus::Error::Locked { .. } | zero_bus::Error::NotABus { .. })
                )
        })
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
    /// Whether key and secret are known to be used for this bus alone.
    is_use_checked: bool,
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
        let options = ClientOptions { ca: arguments.ca_file.clone(), ..ClientOptions::default() };
        let client = |policy| WitnessClient::new(policy, options.clone());
        let witnesses = policy.as_ref().map(client).transpose()?;
        let secret = read_secret(&arguments.secret)?;
        let store = CheckpointStore::of(dir, arguments.state.as_deref())?;
        Ok(Self { arguments, key, secret, policy, witnesses, store, is_use_checked: false })
    }

    /// Signs the log as it is now, stores the checkpoint, and has it cosigned.
    fn checkpoint(&mut self) -> Result<Made> {
        let dir = &self.arguments.dir;
        let reader = Reader::open(dir)?;
        if !self.is_use_checked {
            let state = self.store.resolved_state_path()?;
            check_secret_use(&self.arguments.secret, &reader)?;
            self.is_use_checked = check_key_use(&self.arguments.key, &reader, &state)?;
        }
        // Held to the end, so that no other process stores a checkpoint meanwhile.
        let mut state = self.store.open_state()?;
        if let Some(newest) = self.store.newest()? {
            self.check_origin(newest.checkpoint())?;
            state.must_extend(newest.checkpoint());
            if state.last().is_none() {
                self.report_missing_state(newest.checkpoint().size);
            }
        }
        let mut tiles = open_tiles(dir, &reader)?;
        if self.arguments.full_check {
            state.check_all();
        }
        let now_s = SystemClock.now() as u64;
        let signed = state.sign_next(&reader, &mut tiles, &self.secret, &self.key, now_s);
        drop(tiles);
        let signed = signed.map_err(|error| self.locate_difference(&reader, error))?;
        let size = signed.checkpoint().size;
        let (signed, is_new) = self.store_signed(signed)?;
        if is_new && size == 0 {
            let problem = "holds no event; the checkpoint is that of an empty log";
            print_warning(PROGRAM, &format!("{}: {problem}", dir.display()));
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
        let new: Vec<_> = submission
            .cosigned
            .into_iter()
            .filter(|cosigned| !has_cosigned(made, &cosigned.witness))
            .collect();
        let wrong_clocks = new.iter().filter_map(|new| warn_of_wrong_clock(&new.witness, new.timestamp));
        wrong_clocks.for_each(|problem| print_warning(PROGRAM, &problem));
        let new: Vec<_> = new.into_iter().map(|cosigned| cosigned.signature).collect();
        if !new.is_empty() {
            made.signed.add_signatures(new)?;
            self.store.store(&made.signed)?;
            made.has_new_cosignatures = true;
        }
        for Failure { witness, error } in submission.failures {
            // One that has cosigned this checkpoint before need not be there again.
            if !has_cosigned(made, &witness) {
                let mut problem = error.to_string();
                if matches!(error, SubmitError::Inconsistent { .. }) {
                    match self.has_stored_cosignature(&witness) {
                        true => made.is_contradicted = true,
                        false => {
                            problem +=
                                "; nothing here confirms it, for no stored checkpoint has its cosignature"
                        }
                    }
                }
                made.failures.insert(witness, problem);
            }
        }
        Ok(())
    }

    /// Whether a witness of the policy is known to have cosigned this log. A witness that has not
    /// can say anything about it.
    fn has_stored_cosignature(&self, witness: &str) -> bool {
        let (Some(policy), Ok(sizes)) = (&self.policy, self.store.sizes()) else { return false };
        let mut stored = sizes.into_iter().rev().filter_map(|size| self.store.load(size).ok()?);
        stored.any(|stored| {
            let cosigners = policy.cosigners(&stored).unwrap_or_default();
            cosigners.iter().any(|cosigner| cosigner.witness.name == witness)
        })
    }

    /// Stores a new checkpoint. The signatures of one of the same tree that is stored already are
    /// kept: witnesses do not give theirs again. Returns what is stored, and whether it was not
    /// before.
    fn store_signed(&self, signed: SignedCheckpoint) -> Result<(SignedCheckpoint, bool)> {
        let size = signed.checkpoint().size;
        let Some(mut stored) = self.store.load(size)? else {
            self.store.store(&signed)?;
            return Ok((signed, true));
        };
        let path = || self.store.path(size).display().to_string();
        if stored.checkpoint() != signed.checkpoint() {
            bail!("{}: is a checkpoint of another tree, and is not replaced; move it away", path());
        }
        let mut missing = Vec::new();
        for vkey in verifier_keys(&self.key) {
            match stored.verify([&vkey]) {
                Ok(_) => {}
                Err(zero_proof::Error::NotSigned { .. }) => {
                    let by_key = signed.note().signatures().iter();
                    missing.extend(by_key.filter(|signature| signature.key_id == vkey.id()).cloned());
                }
                Err(error) => return Err(error).with_context(path),
            }
        }
        let is_new = !missing.is_empty();
        if is_new {
            stored.add_signatures(missing).with_context(path)?;
            self.store.store(&stored)?;
        }
        Ok((stored, is_new))
    }

    /// A state belongs to one origin.
    fn check_origin(&self, newest: &Checkpoint) -> Result<()> {
        let (origin, name) = (&newest.origin, self.key.name());
        if origin != name {
            let stored = self.store.path(newest.size);
            bail!(
                "{}: is a checkpoint of the origin `{origin}`, and the key signs as `{name}`; name another state with --state",
                stored.display()
            );
        }
        Ok(())
    }

    /// Without tiles of the signed log, the stored checkpoints tell where it differs.
    fn locate_difference(&self, reader: &Reader, error: StoreError) -> StoreError {
        let (StoreError::LogChanged { signed, first_difference: None } | StoreError::OtherTree { signed }) =
            error
        else {
            return error;
        };
        let sizes = self.store.sizes().unwrap_or_default();
        let stored = sizes.into_iter().filter_map(|size| self.store.load(size).ok()?);
        // Only the log's own word counts.
        let vkeys = verifier_keys(&self.key);
        let stored = stored.filter(|stored| stored.verify(&vkeys).is_ok());
        let roots: Vec<_> =
            stored.map(|stored| (stored.checkpoint().size, stored.checkpoint().root)).collect();
        match locate_difference(reader, &self.secret, signed, &roots) {
            Ok(Some(difference)) => StoreError::LogDiffers { signed, difference },
            _ => error,
        }
    }

    fn report_missing_state(&self, newest: u64) {
        let (state, events) = (self.store.state_path(), counted(newest, "event"));
        let problem = format!(
            "{}: does not exist; the log is compared with the newest stored checkpoint instead, of {events}",
            state.display()
        );
        print_warning(PROGRAM, &problem);
    }
}

/// The public keys with which a key signs checkpoints.
fn verifier_keys(key: &SigningKey) -> Vec<VerifierKey> {
    let types = [SignatureType::Ed25519, SignatureType::CosignatureMlDsa44];
    types.into_iter().filter_map(|signature_type| key.verifier_key(signature_type)).collect()
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
    let vkeys = verifier_keys(key);
    if policy.logs().iter().any(|log| vkeys.contains(&log.key)) {
        return Ok(());
    }
    let line = vkeys.first().map_or_else(String::new, |vkey| format!("log {vkey}"));
    bail!("the policy does not list the key of this log; add the line: {line}")
}
