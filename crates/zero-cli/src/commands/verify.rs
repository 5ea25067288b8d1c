//! `zero-bus verify`: verify the chain and the snapshot of a bus.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Finding, Integrity, Json, LOG, Reader, Verdict};
use zero_paper::text::counted;
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::PROGRAM;
use crate::progress::Bar;
use crate::terminal::mark;

/// Verify the whole chain and the snapshot.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus verify bus
  zero-bus verify bus --json

Exit codes: 0 passed, 1 failed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Print one JSON document: {"integrity", "snapshot_integrity"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("verifying");
    let verdict = reader.verify_with_progress(&mut |progress| bar.show(progress))?;
    drop(bar);
    if verdict.integrity.head.index == 0 && !arguments.dir.join(LOG).exists() {
        print_message(PROGRAM, &format!("{}: has no {LOG}; the bus is empty", arguments.dir.display()));
    }
    let text = if arguments.json { Json::of(&verdict)?.to_string() } else { render(&verdict) };
    print(&text, Outcome::of(verdict.ok()))
}

fn render(verdict: &Verdict) -> String {
    let Verdict { integrity, snapshot_integrity } = verdict;
    let head = &integrity.head;
    let last_event = match head.checksum {
        Some(checksum) if integrity.ok() => format!(", last {checksum}"),
        Some(checksum) => format!(", last sound {checksum}"),
        None => String::new(),
    };
    let mut lines =
        vec![format!("log       {}  {}{last_event}", mark(integrity.ok()), counted(head.index, "event"))];
    let indent = " ".repeat(16);
    if let Some(meaning) = explain_finding(&integrity.finding) {
        let place = byte_offset(&integrity.finding);
        let place = place.map_or(String::new(), |offset| format!(" (byte {offset} of the log)"));
        lines.push(format!("{indent}{}{place}", integrity.reason()));
        lines.push(format!("{indent}{meaning}"));
    }
    let snapshot = match snapshot_integrity.reason.as_str() {
        "ok" => describe_consistent_snapshot(integrity),
        reason => reason,
    };
    lines.push(format!("snapshot  {}  {snapshot}", mark(snapshot_integrity.consistent)));
    lines.join("\n")
}

/// Where the finding starts, in bytes from the start of the log. A missing tail has no position in
/// it.
pub(crate) fn byte_offset(finding: &Finding) -> Option<u64> {
    match finding {
        Finding::Sound | Finding::Missing(_) => None,
        Finding::Torn { byte_offset, .. } | Finding::Truncated { byte_offset, .. } => Some(*byte_offset),
        Finding::Fault(fault) | Finding::Ambiguous(fault) => Some(fault.byte_offset),
    }
}

/// What a finding means; `None` for a sound log.
pub(crate) fn explain_finding(finding: &Finding) -> Option<&'static str> {
    match finding {
        Finding::Sound => None,
        Finding::Torn { .. } => Some("left by a crash; the next append quarantines it"),
        Finding::Truncated { .. } => {
            Some("the disk lost the rest of the event, or the log was cut; the events before it are sound")
        }
        Finding::Ambiguous(_) => {
            Some("a crash or tampering could have left this; the bytes alone cannot tell")
        }
        Finding::Missing(_) => Some("the sync mark in bus.lock counts them; the events before it are sound"),
        Finding::Fault(_) => Some("damage or tampering; the events before it are sound"),
    }
}

/// The text for a snapshot that does not contradict the log.
pub(crate) fn describe_consistent_snapshot(integrity: &Integrity) -> &'static str {
    if integrity.ok() { "matches the log" } else { "names an event that is in the log" }
}
