//! `zero-bus prove`: write a proof that outsiders can check.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use zero_bus::{Json, Reader};
use zero_paper::text::counted;
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::entry::disclosures;
use zero_proof::policy::Accepted;
use zero_proof::proof::PROOF_HEADER;
use zero_proof::tile_store::TileStore;
use zero_proof::track_record::{TRACK_RECORD_SCHEMA, TrackRecordBuilder};
use zero_proof::{Policy, Proof, SignedCheckpoint, page};

use crate::checkpoint_store::CheckpointStore;
use crate::event_ref::{EventRef, no_such_event};
use crate::key_use::check_secret_use;
use crate::output_file::OutputFile;
use crate::program::PROGRAM;
use crate::progress::Bar;
use crate::proof_input::{read_checkpoint, read_policy, read_secret};
use crate::tiles::tiles_of_checkpoint;

/// Write a proof of an event, or of all events.
///
/// The proof of an event shows that the event is in the log of a signed checkpoint, and discloses
/// the fields that --reveal names. With --all it is a track record: it discloses these fields of
/// every event, so that none can be left out, and whoever checks it computes sums over them.
/// Everything else stays private. `zero-bus check` checks both.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus prove bus 98 --secret bus.secret --reveal event_type,payload/allowed,payload/reason -o decision.tlog-proof
  zero-bus prove bus 98 --secret bus.secret --reveal '*' --policy policy -o decision.html
  zero-bus prove bus --all --secret bus.secret --reveal payload/allowed,payload/notional_usd -o track-record

Exit codes: 0 passed, 1 failed (the log does not lead to the checkpoint, or is damaged, or the policy accepts no checkpoint),
2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    pub(crate) dir: PathBuf,
    /// The event: an index (98), an id (evt-000000000098), `last`, or an offset from the end (-1).
    #[arg(value_parser = EventRef::parse, allow_negative_numbers = true, required_unless_present = "all")]
    pub(crate) event: Option<EventRef>,
    /// Prove all events.
    #[arg(long, conflicts_with = "event")]
    pub(crate) all: bool,
    /// The first event of a track record. Every statement is then about the range. [default: the
    /// first of the log]
    #[arg(long, value_name = "EVENT", value_parser = EventRef::parse, allow_negative_numbers = true, requires = "all")]
    pub(crate) from: Option<EventRef>,
    /// The last event of a track record. [default: the last of the checkpoint]
    #[arg(long, value_name = "EVENT", value_parser = EventRef::parse, allow_negative_numbers = true, requires = "all")]
    pub(crate) to: Option<EventRef>,
    /// The disclosure secret of the bus.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret: PathBuf,
    /// The fields to disclose, separated by commas: event_type, as_of, trace_id, checksum, or
    /// payload/NAME for a whole member of the payload; `*` for all fields of an event.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) reveal: Vec<String>,
    /// The signed checkpoint. [default: the newest one that is stored and that the policy accepts]
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// The policy of those who will check the proof. Exit 1 if it does not accept the checkpoint.
    /// Without it, nothing shows whether enough witnesses have cosigned.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The state next to which checkpoints are stored. [default: DIR.checkpoints/signed]
    #[arg(long, value_name = "FILE", conflicts_with = "checkpoint")]
    pub(crate) state: Option<PathBuf>,
    /// The file to write. It must not be inside the bus. With the extension `html` it is a page
    /// that verifies itself in a browser.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Print one JSON object: {"bytes", "checkpoint", "cosigned_by", "events", "first", "last",
    /// "output", "reveal"}; "checkpoint" is its file, and "cosigned_by" is null without --policy.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let text = match write(arguments)? {
        Ok(text) => text,
        Err(problem) => {
            print_message(PROGRAM, &problem);
            return Ok(Outcome::Failed);
        }
    };
    if arguments.reveal.is_empty() {
        print_warning(
            PROGRAM,
            match arguments.all {
                true => "discloses only the type of each event; name further fields with --reveal",
                false => {
                    "discloses no field, and proves only that the event exists; name fields with --reveal, or all with \
                      --reveal '*'"
                }
            },
        );
    }
    print(&text, Outcome::Passed)
}

/// Writes the proof. Returns what is to be printed, or why there is no checkpoint for it.
pub(crate) fn write(arguments: &Arguments) -> Result<Result<String, String>> {
    let reader = Reader::open(&arguments.dir)?;
    let secret = read_secret(&arguments.secret)?;
    check_secret_use(&arguments.secret, &reader)?;
    let policy = arguments.policy.as_deref().map(read_policy).transpose()?;
    let output = OutputFile::resolve(&arguments.output, &arguments.dir)?;
    output.check_replaces_only(&[PROOF_HEADER, TRACK_RECORD_SCHEMA, PAGE_START], "proof")?;
    let is_page = arguments.output.extension().is_some_and(|extension| extension == "html");
    if is_page && arguments.all {
        bail!("{}: a track record has no page; name another file", arguments.output.display());
    }
    let chosen = match choose_checkpoint(arguments, policy.as_ref())? {
        Ok(chosen) => chosen,
        Err(problem) => return Ok(Err(problem)),
    };
    let names: Vec<String> = arguments.reveal.iter().map(|name| field_name(name)).collect();
    let tiles = tiles_of_checkpoint(&arguments.dir, &reader, &secret, chosen.signed.checkpoint())?;
    let prover = Prover { reader, secret, tiles, checkpoint: chosen.signed.clone() };
    let proven = match arguments.event {
        Some(event) => prover.prove(event, &names, is_page)?,
        None => prover.prove_all(arguments.from, arguments.to, &names)?,
    };
    output.write(proven.file.as_bytes())?;
    proven.render(arguments, &chosen).map(Ok)
}

/// A name as `--reveal` takes it, as a JSON Pointer.
fn field_name(name: &str) -> String {
    if name == ALL_FIELDS || name.starts_with('/') { name.to_owned() } else { format!("/{name}") }
}

const ALL_FIELDS: &str = "*";

/// What the page of a proof starts with.
const PAGE_START: &str = "<!DOCTYPE html>\n<html lang=\"en\">";

/// The checkpoint of a proof.
struct Chosen<'p> {
    path: PathBuf,
    signed: SignedCheckpoint,
    /// What the policy accepted. `None` without a policy.
    accepted: Option<Accepted<'p>>,
}

/// The named checkpoint, or the newest stored one that the policy accepts. The inner error says why
/// it accepts none.
fn choose_checkpoint<'p>(
    arguments: &Arguments,
    policy: Option<&'p Policy>,
) -> Result<Result<Chosen<'p>, String>> {
    let mut refusal = None;
    let mut accept = |path: PathBuf, signed: SignedCheckpoint| {
        match policy.map(|policy| policy.check(&signed)).transpose() {
            Ok(accepted) => return Some(Chosen { path, signed, accepted }),
            Err(error) => {
                refusal.get_or_insert(format!("{}: the policy does not accept it: {error}", path.display()))
            }
        };
        None
    };
    if let Some(path) = &arguments.checkpoint {
        let chosen = accept(path.clone(), read_checkpoint(path)?);
        return Ok(chosen.ok_or_else(|| refusal.unwrap_or_default()));
    }
    let store = CheckpointStore::of(&arguments.dir, arguments.state.as_deref())?;
    for size in store.sizes()?.into_iter().rev() {
        let Some(signed) = store.load(size)? else { continue };
        if let Some(chosen) = accept(store.path(size), signed) {
            return Ok(Ok(chosen));
        }
    }
    match refusal {
        Some(refusal) => Ok(Err(format!(
            "no stored checkpoint is accepted by the policy; the newest is not: {refusal}; run zero-bus checkpoint --policy"
        ))),
        None => {
            let state = store.state_path();
            bail!("{}: no checkpoint is stored next to it; run zero-bus checkpoint first", state.display())
        }
    }
}

struct Prover {
    reader: Reader,
    secret: DisclosureSecret,
    tiles: TileStore,
    checkpoint: SignedCheckpoint,
}

/// A proof that is to be written.
struct Proven {
    file: String,
    first: u64,
    last: u64,
    names: Vec<String>,
}

impl Prover {
    /// Proves one event: as a page that verifies itself in a browser, or as a proof file.
    fn prove(&self, event: EventRef, names: &[String], is_page: bool) -> Result<Proven> {
        let size = self.checkpoint.checkpoint().size;
        let index = event.index(&self.reader)?;
        let event = self.reader.event(index)?.ok_or_else(|| no_such_event(&self.reader, index))?;
        if index > size {
            bail!("event {index} is not in the checkpoint, which ends with event {size}; sign a newer one");
        }
        let mut names = names.to_vec();
        if names == [ALL_FIELDS] {
            names = disclosures(&event, &self.secret).iter().map(|field| field.name().to_owned()).collect();
        }
        let path = self.tiles.prove_inclusion(index - 1, size)?;
        let proof = Proof::prove(&event, &self.secret, &names, path, self.checkpoint.clone())?;
        let file = if is_page { page::html(&proof) } else { proof.encode() };
        Ok(Proven { file, first: index, last: index, names })
    }

    fn prove_all(&self, from: Option<EventRef>, to: Option<EventRef>, names: &[String]) -> Result<Proven> {
        let size = self.checkpoint.checkpoint().size;
        let first = from.map_or(Ok(1), |from| from.first_index(&self.reader))?;
        let last = to.map_or(Ok(size), |to| to.index(&self.reader))?;
        if last > size {
            bail!(
                "--to: event {last} is not in the checkpoint, which ends with event {size}; sign a newer one"
            );
        }
        if first == 0 || first > last {
            bail!("there is no event from {first} to {last}");
        }
        if names.iter().any(|name| name == ALL_FIELDS) {
            bail!("--reveal: with --all, name the fields; `*` is for one event");
        }
        let mut builder = TrackRecordBuilder::new(first, names)?;
        let bar = Bar::of_events("proving");
        for event in self.reader.events(first)? {
            let event = event?;
            if event.index > last {
                break;
            }
            builder.push(&event, &self.secret)?;
            if event.index % 1024 == 0 {
                bar.show_events(event.index - first, last - first + 1);
            }
        }
        drop(bar);
        if let Some(name) = names.iter().find(|name| !builder.discloses(name)) {
            bail!(
                "--reveal: no event from {first} to {last} has the field {name}; leave it out, or correct the name"
            );
        }
        let before = self.tiles.covering(0, first - 1)?;
        let after = self.tiles.covering(last, size)?;
        let file = builder.finish(&before, &after, &self.checkpoint)?;
        Ok(Proven { file, first, last, names: names.to_vec() })
    }
}

impl Proven {
    fn render(&self, arguments: &Arguments, chosen: &Chosen<'_>) -> Result<String> {
        let output: &Path = &arguments.output;
        let events = chosen.signed.checkpoint().size;
        let cosigners = chosen.accepted.as_ref().map(|accepted| &accepted.cosigners);
        let cosigned_by: Option<Vec<&str>> =
            cosigners.map(|cosigners| cosigners.iter().map(|cosigner| &*cosigner.witness.name).collect());
        if arguments.json {
            #[derive(Serialize)]
            struct Document<'a> {
                bytes: usize,
                checkpoint: String,
                cosigned_by: Option<Vec<&'a str>>,
                events: u64,
                first: u64,
                last: u64,
                output: String,
                reveal: &'a [String],
            }
            let document = Document {
                bytes: self.file.len(),
                checkpoint: chosen.path.display().to_string(),
                cosigned_by,
                events,
                first: self.first,
                last: self.last,
                output: output.display().to_string(),
                reveal: &self.names,
            };
            return Ok(Json::of(&document)?.to_string());
        }
        let what = match arguments.all {
            true => format!("events {} to {}", self.first, self.last),
            false => format!("event {}", self.first),
        };
        let names = if self.names.is_empty() { "no field".to_owned() } else { self.names.join(", ") };
        let accepted = match cosigned_by.as_deref() {
            None => "without --policy, its cosignatures were not checked".to_owned(),
            Some([]) => "accepted by the policy, cosigned by nobody".to_owned(),
            Some(witnesses) => format!("accepted by the policy, cosigned by {}", witnesses.join(", ")),
        };
        Ok(format!(
            "{}: {what} of {}; discloses {names}\ncheckpoint: {}; {accepted}",
            output.display(),
            counted(events, "event"),
            chosen.path.display()
        ))
    }
}
