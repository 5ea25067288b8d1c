//! Compares a log with the checkpoints that were signed and cosigned: what a chain alone cannot
//! show is that its end was not cut off and that the whole of it was not rewritten.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use zero_bus::{Json, Reader, Retired};
use zero_paper::rfc3339;
use zero_paper::text::counted;
use zero_program::message::print_warning;
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::log_roots::{LogRoots, log_roots, log_roots_with_tiles};
use zero_proof::policy::Accepted;
use zero_proof::{Hash, Policy, SignedCheckpoint, TreeHead};

use crate::checkpoint_store::CheckpointStore;
use crate::program::PROGRAM;
use crate::proof_input::{read_policy, read_secret};
use crate::terminal::mark;
use crate::tiles::{TILES, open_tiles};
use crate::witness_clock::warn_of_future;

/// The options of a comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct AnchorArguments {
    /// Compare the log with what was signed: the state and the stored checkpoints. Fail unless one
    /// checkpoint is accepted by this policy and nothing that was signed contradicts the log.
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
        compare(dir, reader, &policy, &secret, &store).map(Some)
    }
}

impl AnchorArguments {
    /// Prints the comparison alone, for a command that cannot read the log any further.
    pub(crate) fn print_alone(&self, dir: &Path, reader: &Reader, json: bool) -> Result<()> {
        #[derive(Serialize)]
        struct Document {
            anchor: Anchor,
            ok: bool,
        }
        let Some(anchor) = self.compare(dir, reader)? else { return Ok(()) };
        let text = match json {
            true => Json::of(&Document { anchor, ok: false })?.to_string(),
            false => format!("anchor      {}  {}", mark(anchor.ok), anchor.describe()),
        };
        print(&text, Outcome::Failed).map(drop)
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
    dir: &Path,
    reader: &Reader,
    policy: &Policy,
    secret: &DisclosureSecret,
    store: &CheckpointStore,
) -> Result<Anchor> {
    // Read before the log, which then holds all that was signed.
    let stored = load_stored(store)?;
    let state = store.read_state();
    let mut sizes: Vec<u64> = stored.iter().map(|signed| signed.checkpoint().size).collect();
    sizes.extend(state.iter().flatten().map(|state| state.size));
    sizes.sort_unstable();
    sizes.dedup();
    let log = match reader.retired()? {
        Some(retired) => roots_after(dir, reader, secret, &sizes, &retired)?,
        None => log_roots(reader, secret, &sizes)?,
    };
    let comparison = Comparison { policy, store, stored, log };
    let contradiction = comparison.find_contradiction(state);
    Ok(contradiction.unwrap_or_else(|| comparison.find_anchor()))
}

/// The roots of a log whose first events were retired, if the tiles have their tree.
fn roots_after(
    dir: &Path,
    reader: &Reader,
    secret: &DisclosureSecret,
    sizes: &[u64],
    retired: &Retired,
) -> Result<LogRoots> {
    let path = dir.join(TILES);
    let tiles = path.is_dir().then(|| open_tiles(dir, reader)).transpose()?;
    let Some(tiles) = tiles.filter(|tiles| tiles.head().size >= retired.head().index) else {
        bail!(
            "{}: does not have the tree of the retired events, so the log cannot be compared with what was signed: \
             {retired}. Verify that copy",
            path.display()
        );
    };
    Ok(log_roots_with_tiles(reader, secret, sizes, &tiles)?)
}

/// The stored checkpoints in ascending order of size. Warns of files that cannot be used.
fn load_stored(store: &CheckpointStore) -> Result<Vec<SignedCheckpoint>> {
    let mut stored = Vec::new();
    for size in store.sizes()? {
        match store.load(size) {
            Ok(signed) => stored.extend(signed),
            Err(error) => print_warning(PROGRAM, &format!("ignored: {error:#}")),
        }
    }
    Ok(stored)
}

/// A log and what was signed of it.
struct Comparison<'a> {
    policy: &'a Policy,
    store: &'a CheckpointStore,
    /// In ascending order of size.
    stored: Vec<SignedCheckpoint>,
    log: LogRoots,
}

impl Comparison<'_> {
    /// The first thing that was signed and that the log does not hold: a stored checkpoint, then
    /// the state.
    fn find_contradiction(&self, state: Result<Option<TreeHead>>) -> Option<Anchor> {
        for signed in self.stored.iter().filter(|signed| !self.matches(signed)) {
            let size = signed.checkpoint().size;
            let path = self.store.path(size);
            if is_signed_by_log(self.policy, signed) {
                return Some(self.contradiction(size, &path));
            }
            // It says nothing about the log.
            let problem = "does not match the log, and no log of the policy has signed it";
            print_warning(PROGRAM, &format!("ignored: {}: {problem}", path.display()));
        }
        let path = self.store.state_path();
        match state {
            Err(error) => {
                let remedy = "restore it from a copy, or move it away and run zero-bus checkpoint, which then compares the \
                              log with the newest stored checkpoint";
                Some(self.failure(0, format!("{error:#}; {remedy}")))
            }
            Ok(Some(state)) if self.root_of(state.size) != Some(state.root) => {
                Some(self.contradiction(state.size, &path))
            }
            Ok(None) if !self.stored.is_empty() => {
                let problem = "does not exist, so that newer checkpoints could have been deleted unnoticed; the next \
                               zero-bus checkpoint makes it again";
                print_warning(PROGRAM, &format!("{}: {problem}", path.display()));
                None
            }
            Ok(_) => None,
        }
    }

    /// The newest stored checkpoint that the policy accepts, or why there is none.
    fn find_anchor(&self) -> Anchor {
        let mut refusal = None;
        for signed in self.stored.iter().rev().filter(|signed| self.matches(signed)) {
            match self.policy.check(signed) {
                Ok(Accepted { cosigners, .. }) => {
                    let future = warn_of_future(&cosigners);
                    future.iter().for_each(|problem| print_warning(PROGRAM, problem));
                    return Anchor {
                        anchored: signed.checkpoint().size,
                        cosigned_at: cosigners.iter().filter_map(|cosigner| cosigner.timestamp).max(),
                        cosigned_by: cosigners.iter().map(|cosigner| cosigner.witness.name.clone()).collect(),
                        events: self.log.events,
                        ok: true,
                        reason: "ok".to_owned(),
                    };
                }
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        let problem = match (refusal, self.stored.is_empty()) {
            (Some(refusal), _) => {
                format!("no stored checkpoint is accepted by the policy; the newest is not: {refusal}")
            }
            (None, true) => format!("no checkpoint is stored next to {}", self.store.state_path().display()),
            (None, false) => "no stored checkpoint is signed by a log of the policy".to_owned(),
        };
        self.failure(0, problem)
    }

    fn root_of(&self, size: u64) -> Option<Hash> {
        self.log.roots.iter().find(|(of, _)| *of == size).map(|(_, root)| *root)
    }

    fn matches(&self, signed: &SignedCheckpoint) -> bool {
        self.root_of(signed.checkpoint().size) == Some(signed.checkpoint().root)
    }

    /// The log does not hold the first `size` events that were signed, as the file at `path` says.
    fn contradiction(&self, size: u64, path: &Path) -> Anchor {
        let equal = self.stored.iter().rfind(|other| other.checkpoint().size < size && self.matches(other));
        let equal = equal.map_or(0, |other| other.checkpoint().size);
        let problem = describe_contradiction(size, equal, self.log.events, self.root_of(size));
        self.failure(equal, format!("{problem} ({})", path.display()))
    }

    fn failure(&self, anchored: u64, reason: String) -> Anchor {
        Anchor {
            anchored,
            cosigned_at: None,
            cosigned_by: Vec::new(),
            events: self.log.events,
            ok: false,
            reason,
        }
    }
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
        let missing = match events + 1 {
            first if first == size => format!("event {size} is missing or not valid"),
            first => format!("events {first} to {size} are missing or not valid"),
        };
        let events = counted(events, "valid event");
        return format!(
            "a checkpoint of {signed} was signed, but the log has only {events}: it was truncated or damaged, and {missing}"
        );
    }
    if equal == 0 {
        return format!(
            "the first {signed} are not those that were signed: the log was rewritten, or the secret is that of another bus"
        );
    }
    format!("events {} to {size} are not all those that were signed: the log was rewritten", equal + 1)
}
