//! `zero-bus check`: check a proof that somebody hands over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use zero_bus::Json;
use zero_paper::rfc3339;
use zero_paper::text::{counted, escape};
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_proof::aggregates::{Aggregates, FieldAggregates};
use zero_proof::policy::Accepted;
use zero_proof::proof::{MAX_PROOF_BYTES, Proven};
use zero_proof::track_record::{MAX_TRACK_RECORD_BYTES, ProvenRecord, TRACK_RECORD_SCHEMA};
use zero_proof::{Policy, Proof, track_record};

use crate::proof_input::{read_file, read_policy};
use crate::terminal::{fail_mark, ok_mark, warn_mark};
use crate::witness_clock::warn_of_future;

/// Check a proof, and show what it discloses.
///
/// Needs the file and a policy, not the log. The policy lists the keys of the logs and of the
/// witnesses that you trust, and how many of them must have cosigned; get the keys from their
/// owners and not from whoever hands over the proof. Fields are shown only if everything is proven.
/// For a track record the sums over all its events are computed and shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus check decision.tlog-proof --policy policy
  zero-bus check track-record --policy policy --json

A proof does not show that what the log says is true: a dishonest runtime can record lies. See docs/PROOF.md.

Exit codes: 0 passed, 1 failed (nothing is proven), 2 could not run (a file or the policy cannot be read).")]
pub(crate) struct Arguments {
    /// The proof, or the track record.
    file: PathBuf,
    /// The policy: whom you trust.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Print one JSON object: {"accepted", "disclosures", "event_index", "events", "fields", "ok",
    /// "origin", "warnings", "withheld"}; of a track record {"accepted", "aggregates", "events",
    /// "first", "last", "names", "ok", "origin", "unproven", "warnings", "withheld"}; if nothing is
    /// proven {"ok", "reason"}. "unproven" has, by event type, the names that are neither disclosed
    /// nor proven absent. "withheld" is the number of fields that are not disclosed.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    match check_file(&arguments.file, &arguments.policy, arguments.json)? {
        Ok(text) => print(&text, Outcome::Passed),
        Err(error) => print(&render_failure(&error, arguments.json)?, Outcome::Failed),
    }
}

/// What `--json` prints for a file and a policy.
pub(crate) fn document(file: &Path, policy: &Path) -> Result<Json> {
    let text = check_file(file, policy, true)?.or_else(|error| render_failure(&error, true))?;
    Ok(Json::parse(&text)?)
}

fn check_file(file: &Path, policy: &Path, json: bool) -> Result<Checked> {
    let policy = read_policy(policy)?;
    let file = read_file(file, MAX_TRACK_RECORD_BYTES)?;
    let first_line = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match first_line == TRACK_RECORD_SCHEMA.as_bytes() {
        true => check_track_record(&file, &policy, json),
        false => check_proof(&file, &policy, json),
    }
}

/// What a check finds: the text to print, or why nothing is proven.
type Checked = Result<String, zero_proof::Error>;

fn render_failure(error: &zero_proof::Error, json: bool) -> Result<String> {
    #[derive(Serialize)]
    struct Document {
        ok: bool,
        reason: String,
    }
    let reason = error.to_string();
    Ok(match json {
        true => Json::of(&Document { ok: false, reason })?.to_string(),
        false => format!("{}  not proven: {}", fail_mark(), escape(&reason)),
    })
}

fn check_proof(file: &[u8], policy: &Policy, json: bool) -> Result<Checked> {
    if is_page(file) {
        let problem = "is a page; open it in a browser, give it the policy and press its button \"Save the proof file\", \
                       then check that file";
        return Ok(Err(zero_proof::Error::Invalid { what: "the file", problem: problem.to_owned() }));
    }
    // A longer file is read for track records only.
    let file = &file[..file.len().min(MAX_PROOF_BYTES + 1)];
    let proof = match Proof::parse(file) {
        Ok(proof) => proof,
        Err(error) => return Ok(Err(error)),
    };
    let proven = match proof.check(policy) {
        Ok(proven) => proven,
        Err(error) => return Ok(Err(error)),
    };
    let checkpoint = proof.checkpoint.checkpoint();
    let (origin, events) = (checkpoint.origin.as_str(), checkpoint.size);
    let withheld = (proven.fields - proven.disclosures.len()) as u64;
    let mut warnings = Vec::from_iter(warn_of_withheld(withheld));
    warnings.extend(warn_of_signers(&proven.accepted));
    if json {
        return Ok(Ok(proof_document(&proven, origin, events, &warnings)?));
    }
    let Proven { event_index, disclosures, fields, accepted } = &proven;
    let mut lines = vec![format!("event {event_index} of the log {}", escape(origin)), String::new()];
    let width = disclosures.iter().map(|field| field.name().chars().count()).max().unwrap_or(0).min(40);
    let disclosed = disclosures.iter();
    lines.extend(disclosed.map(|field| format!("{:<width$}  {}", visible(field.name()), field.value())));
    lines.push(format!("{} of {} disclosed", disclosures.len(), counted(*fields as u64, "field")));
    lines.push(String::new());
    let ok = ok_mark();
    lines.push(format!("{ok}  the disclosed fields are those that the log committed to"));
    lines.push(format!("{ok}  the event is in the tree of the first {}", counted(events, "event")));
    lines.extend(render_signers(accepted));
    lines.extend(render_warnings(&warnings));
    Ok(Ok(lines.join("\n")))
}

/// An entry does not show that the names of its fields differ: who writes a log with a program of
/// his own can commit two values under one name, and choose later which to disclose.
fn warn_of_withheld(withheld: u64) -> Option<String> {
    (withheld > 0).then(|| {
        let fields = counted(withheld, "field");
        format!(
            "{fields} withheld; a withheld field can have the same name as a disclosed one, and another value"
        )
    })
}

/// Text as it is, except that nothing in it is invisible, not even a space at its end.
fn visible(text: &str) -> String {
    let escaped = escape(text);
    match escaped.strip_suffix(' ') {
        Some(rest) => format!("{rest}\\u{{20}}"),
        None => escaped,
    }
}

/// Whether a file is a page that `zero-bus prove` has made, or another one.
fn is_page(file: &[u8]) -> bool {
    let start: Vec<u8> = file.iter().copied().skip_while(u8::is_ascii_whitespace).take(9).collect();
    start.eq_ignore_ascii_case(b"<!doctype")
}

/// Written member by member, because a value may be nested as deep as JSON may be.
fn proof_document(proven: &Proven<'_>, origin: &str, events: u64, warnings: &[String]) -> Result<String> {
    let mut disclosures = BTreeMap::new();
    for field in &proven.disclosures {
        disclosures.insert(field.name(), format!("{}:{}", Json::of(&field.name())?, field.value()));
    }
    let disclosures: Vec<String> = disclosures.into_values().collect();
    let (withheld, warnings) = (proven.fields - disclosures.len(), Json::of(&warnings)?);
    let (accepted, origin) = (Json::of(&Signers::of(&proven.accepted))?, Json::of(&origin)?);
    let (disclosures, event_index, fields) = (disclosures.join(","), proven.event_index, proven.fields);
    Ok(format!(
        r#"{{"accepted":{accepted},"disclosures":{{{disclosures}}},"event_index":{event_index},"events":{events},"#
    ) + &format!(
        r#""fields":{fields},"ok":true,"origin":{origin},"warnings":{warnings},"withheld":{withheld}}}"#
    ))
}

fn check_track_record(file: &[u8], policy: &Policy, json: bool) -> Result<Checked> {
    let proven = match track_record::check(file, policy) {
        Ok(proven) => proven,
        Err(error) => return Ok(Err(error)),
    };
    // The origin is that of every key that has signed.
    let origin = proven.accepted.log_keys.first().map_or("", |key| key.name());
    let ProvenRecord { first, last, size, aggregates, unproven, withheld, accepted, .. } = &proven;
    let mut warnings = Vec::new();
    if (*first, *last) != (1, *size) {
        warnings.push(format!("nothing is stated about the other events, before {first} or after {last}"));
    }
    warnings.extend(warn_of_withheld(*withheld));
    warnings.extend(warn_of_signers(accepted));
    if json {
        return Ok(Ok(record_document(&proven, origin, &warnings)?));
    }
    let mut lines = vec![format!("events {first} to {last} of the log {}", escape(origin)), String::new()];
    lines.extend(render_aggregates(aggregates));
    lines.push(String::new());
    let ok = ok_mark();
    lines.push(format!("{ok}  these are all events from {first} to {last}; none is left out"));
    lines.push(format!("{ok}  they are in the tree of the first {}", counted(*size, "event")));
    lines.extend(render_signers(accepted));
    let unproven = unproven.iter().map(|(event_type, names)| {
        let names: Vec<String> = names.iter().map(|name| visible(name)).collect();
        format!("{}: neither disclosed nor proven absent: {}", visible(event_type), names.join(", "))
    });
    warnings.splice(0..0, unproven);
    lines.extend(render_warnings(&warnings));
    Ok(Ok(lines.join("\n")))
}

fn record_document(proven: &ProvenRecord<'_>, origin: &str, warnings: &[String]) -> Result<String> {
    #[derive(Serialize)]
    struct Document<'a> {
        accepted: Signers,
        aggregates: &'a Aggregates,
        events: u64,
        first: u64,
        last: u64,
        names: &'a [String],
        ok: bool,
        origin: &'a str,
        unproven: &'a BTreeMap<String, Vec<String>>,
        warnings: &'a [String],
        withheld: u64,
    }
    let document = Document {
        accepted: Signers::of(&proven.accepted),
        aggregates: &proven.aggregates,
        events: proven.size,
        first: proven.first,
        last: proven.last,
        names: &proven.names,
        ok: true,
        origin,
        unproven: &proven.unproven,
        warnings,
        withheld: proven.withheld,
    };
    Ok(Json::of(&document)?.to_string())
}

fn render_aggregates(aggregates: &Aggregates) -> Vec<String> {
    let mut lines = Vec::new();
    for (event_type, of_type) in &aggregates.event_types {
        lines.push(format!("{}: {}", visible(event_type), counted(of_type.events, "event")));
        let fields = of_type.fields.iter().filter(|(name, _)| *name != "/event_type");
        lines.extend(fields.map(|(name, field)| format!("  {:<28} {}", visible(name), render_field(field))));
    }
    lines
}

/// The aggregates of a field that are not zero.
fn render_field(field: &FieldAggregates) -> String {
    let mut parts = Vec::new();
    if field.numbers > 0 {
        let sum = match (field.sum_exact, field.sum) {
            (Some(sum), _) => sum.to_string(),
            (None, Some(sum)) => format!("about {sum:e}"),
            (None, None) => "beyond the largest number".to_owned(),
        };
        let [min, max] = [field.min, field.max].map(|number| number.map_or_else(String::new, render_number));
        let numbers = counted(field.numbers, "number");
        parts.push(format!("{numbers}, sum {sum}, smallest {min}, largest {max}"));
    }
    parts.extend((field.trues > 0).then(|| format!("{} true", field.trues)));
    parts.extend((field.falses > 0).then(|| format!("{} false", field.falses)));
    parts.extend(field.texts.iter().map(|(text, count)| format!("{count} \"{}\"", escape(text))));
    parts.extend((field.others > 0).then(|| format!("{} others", field.others)));
    parts.join(", ")
}

/// All digits that a double has. Integers beyond 2^53 may have been rounded to one.
fn render_number(number: f64) -> String {
    match number.abs() {
        size if size > (1_u64 << 53) as f64 => format!("about {number:e}"),
        size if size > 0.0 && size < 1e-9 => format!("{number:e}"),
        _ => number.to_string(),
    }
}

fn render_warnings(warnings: &[String]) -> impl Iterator<Item = String> {
    warnings.iter().map(|warning| format!("{}  {warning}", warn_mark()))
}

fn warn_of_signers(accepted: &Accepted<'_>) -> Vec<String> {
    if accepted.cosigners.is_empty() {
        let text = "no witness has cosigned: the time is unknown, and the owner can show others another log";
        return vec![text.to_owned()];
    }
    warn_of_future(&accepted.cosigners)
}

fn render_signers(accepted: &Accepted<'_>) -> Vec<String> {
    let ok = ok_mark();
    let log_keys = accepted.log_keys.iter();
    let mut lines: Vec<String> =
        log_keys.map(|key| format!("{ok}  signed by the log, key {}", escape(&key_label(key)))).collect();
    for cosigner in &accepted.cosigners {
        let time = cosigner.timestamp.and_then(time_text).unwrap_or_else(|| "an unknown time".to_owned());
        let (name, key) = (escape(&cosigner.witness.name), escape(&key_label(&cosigner.witness.key)));
        lines.push(format!("{ok}  cosigned by witness {name} at {time}, key {key}"));
    }
    lines
}

/// Name and id, which tell keys apart.
fn key_label(key: &zero_proof::VerifierKey) -> String {
    format!("{}+{}", key.name(), key.id())
}

fn time_text(seconds: u64) -> Option<String> {
    rfc3339(seconds as f64)
}

/// The signers as `--json` prints them.
#[derive(Serialize)]
struct Signers {
    cosigners: Vec<SignerDocument>,
    log_keys: Vec<String>,
}

#[derive(Serialize)]
struct SignerDocument {
    /// RFC 3339; null if the witness states no time.
    at: Option<String>,
    key: String,
    timestamp: Option<u64>,
    witness: String,
}

impl Signers {
    fn of(accepted: &Accepted<'_>) -> Self {
        let cosigners = accepted.cosigners.iter().map(|cosigner| SignerDocument {
            at: cosigner.timestamp.and_then(time_text),
            key: key_label(&cosigner.witness.key),
            timestamp: cosigner.timestamp,
            witness: cosigner.witness.name.clone(),
        });
        Self {
            cosigners: cosigners.collect(),
            log_keys: accepted.log_keys.iter().map(|key| key_label(key)).collect(),
        }
    }
}
