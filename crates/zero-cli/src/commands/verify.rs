//! `zero-bus verify`: verify the chain and the snapshot of a bus.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use zero_bus::{
    Finding, Head, Integrity, Json, LOG, Reader, Retired, RetiredPart, RetiredPayload, SinceLast,
    SnapshotIntegrity, Verdict,
};
use zero_paper::text::{counted, escape, format_date_and_time};
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::anchor::{Anchor, AnchorArguments};
use crate::head_arg::{parse_head, render_head};
use crate::program::PROGRAM;
use crate::progress::Bar;
use crate::terminal::mark;

/// Verify the whole chain and the snapshot.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus verify bus
  zero-bus verify bus --json
  zero-bus verify bus --since-last
  zero-bus verify bus --min-events 4711 --expect \"$(cat /offsite/bus.head)\"
  zero-bus verify bus --policy policy --secret bus.secret

Exit codes: 0 passed, 1 failed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Fail unless the log has this event: the index and the checksum of a head that was recorded
    /// earlier and kept elsewhere. Repeat it for several events.
    #[arg(long, value_name = "INDEX:CHECKSUM", value_parser = parse_head)]
    expect: Vec<Head>,
    /// Fail unless the log has at least N valid events.
    #[arg(long, value_name = "N")]
    min_events: Option<u64>,
    /// Verify only what came after the last verification with this option, which verified.json in
    /// the bus directory remembers. A change to earlier events is then not found. Without that
    /// file, or if the log does not match it, the whole log is verified.
    #[arg(long)]
    since_last: bool,
    #[command(flatten)]
    anchor: AnchorArguments,
    /// Print one JSON document: {"integrity", "snapshot_integrity"}, and with --expect or
    /// --min-events also {"expectations": [{"expect" or "min_events", "ok", "reason"}]}. Without a
    /// log also {"log_exists": false}. With --policy also {"anchor": {"anchored", "cosigned_at",
    /// "cosigned_by", "events", "ok", "reason"}}. With --since-last also {"since_last":
    /// {"full_because", "not_read_again"}}: why the whole log was read, or the last event that was
    /// not. If events were retired also {"retired": {"first_held", "head", "parts"}}: the first
    /// event of the log, the event before it, and what was retired when, by whom and where it is
    /// kept.
    #[arg(long)]
    json: bool,
}

/// The result of `--expect` or `--min-events`, under the name of the option.
#[derive(Serialize)]
struct Expectation {
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_events: Option<u64>,
    ok: bool,
    /// `ok`, or what is wrong.
    reason: String,
}

#[derive(Serialize)]
struct Document<'a> {
    /// Absent without --policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<&'a Anchor>,
    /// Absent without an expectation, so that the document is then the verdict alone.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    expectations: &'a [Expectation],
    integrity: &'a Integrity,
    /// False if the directory has no log. Absent otherwise, so that the document is then the
    /// verdict alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_exists: Option<bool>,
    /// Present if the log does not start at event 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    retired: Option<&'a Retired>,
    /// Present with `--since-last`.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_last: Option<Extent<'a>>,
    snapshot_integrity: &'a SnapshotIntegrity,
}

/// How much of the log `--since-last` has read.
#[derive(Serialize)]
struct Extent<'a> {
    /// Why the whole log was read; null if it was not.
    full_because: Option<&'a str>,
    /// Index of the last event that was not read again; 0 if the whole log was read.
    not_read_again: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("verifying");
    let mut show = |progress| bar.show(progress);
    let since_last = arguments.since_last.then(|| reader.verify_since_last(&mut show)).transpose()?;
    let verdict = match &since_last {
        Some(since_last) => since_last.verdict.clone(),
        None => reader.verify_with_progress(&mut show)?,
    };
    drop(bar);
    let log_exists = arguments.dir.join(LOG).exists();
    if !log_exists {
        print_message(PROGRAM, &format!("{}: has no {LOG}; the bus is empty", arguments.dir.display()));
    }
    let expectations = check_expectations(arguments, &reader, verdict.integrity.head)?;
    let anchor = arguments.anchor.compare(&arguments.dir, &reader)?;
    let passed = verdict.ok()
        && expectations.iter().all(|expectation| expectation.ok)
        && anchor.as_ref().is_none_or(|anchor| anchor.ok);
    if since_last.is_some() && passed {
        remember(&reader, verdict.integrity.head);
    }
    let text = if arguments.json {
        let Verdict { integrity, snapshot_integrity, retired, .. } = &verdict;
        Json::of(&Document {
            anchor: anchor.as_ref(),
            expectations: &expectations,
            integrity,
            log_exists: (!log_exists).then_some(false),
            retired: retired.as_ref(),
            since_last: since_last.as_ref().map(|since_last| Extent {
                full_because: since_last.full_because.as_deref(),
                not_read_again: since_last.not_read_again.index,
            }),
            snapshot_integrity,
        })?
        .to_string()
    } else {
        let mut lines = vec![render(&verdict, log_exists)];
        lines.extend(expectations.iter().map(render_expectation));
        lines.extend(
            anchor.iter().map(|anchor| format!("anchor    {}  {}", mark(anchor.ok), anchor.describe())),
        );
        match since_last.as_ref().and_then(describe_extent) {
            Some(extent) if passed => lines.push(extent),
            None if passed && verdict.retired.is_some() => lines.push(retired_scope(&verdict)),
            // An anchored chain shows what the scope of a chain alone excludes.
            None if passed && anchor.is_none() => lines.push(Verdict::SCOPE.to_owned()),
            _ => {}
        }
        if let Some(reason) = since_last.as_ref().and_then(|since_last| since_last.full_because.as_deref()) {
            lines.push(format!("The whole log was read: {reason}."));
        }
        lines.join("\n")
    };
    print(&text, Outcome::of(passed))
}

/// Remembers how far the log was verified. Without the right to write, the next run reads the same
/// events again.
fn remember(reader: &Reader, head: Head) {
    if let Err(error) = reader.remember_verified(head) {
        print_warning(PROGRAM, &format!("cannot remember what was verified: {error}"));
    }
}

/// Says what a verification of the new events covers; `None` if the whole log was read.
fn describe_extent(since_last: &SinceLast) -> Option<String> {
    let SinceLast { verdict, not_read_again, .. } = since_last;
    if not_read_again.index == 0 {
        return None;
    }
    let new = counted(verdict.integrity.head.index.saturating_sub(not_read_again.index), "new event");
    Some(format!(
        "ok means: {new} after event {index}, unmodified, in order and linked to it. Events 1 to {index} were verified \
         before and were not read again: a change to them since then would not be found. Run verify without \
         --since-last to check them too.",
        index = not_read_again.index
    ))
}

/// Compares the valid part of the log, which ends with `last_valid`, with the expectations.
fn check_expectations(arguments: &Arguments, reader: &Reader, last_valid: Head) -> Result<Vec<Expectation>> {
    let events = counted(last_valid.index, "valid event");
    let mut expectations = Vec::new();
    for head in &arguments.expect {
        // Events after the valid part do not count, whatever their checksums are.
        let problem = if head.index > last_valid.index {
            Some(format!("the log has only {events}"))
        } else if reader.contains(*head)? {
            None
        } else {
            Some(format!(
                "event {} has another checksum: the log was rewritten, or is another log",
                head.index
            ))
        };
        expectations.push(Expectation {
            expect: Some(render_head(*head)),
            min_events: None,
            ok: problem.is_none(),
            reason: problem.unwrap_or_else(|| "ok".to_owned()),
        });
    }
    if let Some(min_events) = arguments.min_events {
        let ok = last_valid.index >= min_events;
        expectations.push(Expectation {
            expect: None,
            min_events: Some(min_events),
            ok,
            reason: if ok { "ok".to_owned() } else { format!("the log has only {events}") },
        });
    }
    Ok(expectations)
}

fn render_expectation(expectation: &Expectation) -> String {
    let expected = match (&expectation.expect, expectation.min_events) {
        (Some(head), _) => format!("event {head}"),
        (None, min_events) => format!("at least {}", counted(min_events.unwrap_or(0), "event")),
    };
    let problem = if expectation.ok { String::new() } else { format!(": {}", expectation.reason) };
    format!("expected  {}  {expected}{problem}", mark(expectation.ok))
}

fn render(verdict: &Verdict, log_exists: bool) -> String {
    let Verdict { integrity, snapshot_integrity, retired, .. } = verdict;
    let head = &integrity.head;
    let last_event = match head.checksum {
        Some(checksum) if integrity.ok() => format!(", last {checksum}"),
        Some(checksum) => format!(", last sound {checksum}"),
        None => String::new(),
    };
    let missing = if log_exists { "" } else { ": there is no log" };
    let events = match retired {
        Some(retired) if head.index < retired.first_held() => "0 events".to_owned(),
        Some(retired) => format!("events {} to {}", retired.first_held(), head.index),
        None => counted(head.index, "event"),
    };
    let mut lines = vec![format!("log       {}  {events}{last_event}{missing}", mark(integrity.ok()))];
    let indent = " ".repeat(16);
    let first_part = retired.iter().flat_map(|retired| retired.parts().first()).next();
    if let Some(earlier) = first_part.map(|part| part.payload.first - 1).filter(|earlier| *earlier > 0) {
        lines.push(format!("retired         events 1 to {earlier} earlier; the copy tells by whom"));
    }
    for part in retired.iter().flat_map(|retired| retired.parts()) {
        lines.push(format!("retired         {}", describe_part(part)));
    }
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

/// Says which events were retired, when, by whom, and where they are kept.
fn describe_part(part: &RetiredPart) -> String {
    let RetiredPayload { first, last, by, kept_in, checksum, .. } = &part.payload;
    let kept = match kept_in {
        Some(place) => format!("kept in {}", escape(place)),
        None => "without a copy".to_owned(),
    };
    format!(
        "events {first} to {last} on {} by {}, {kept}; their last checksum {checksum}",
        format_date_and_time(part.as_of).0,
        escape(by)
    )
}

/// The events of a sound log that does not start at event 1, and why it does not.
pub(crate) fn describe_held(verdict: &Verdict) -> String {
    let held = match &verdict.retired {
        Some(retired) => format!(", each linked to the one before it; {retired}"),
        None => String::new(),
    };
    let first = verdict.retired.as_ref().map_or(1, Retired::first_held);
    format!("events {first} to {}{held}", verdict.integrity.head.index)
}

/// What a passed verification of such a log covers.
fn retired_scope(verdict: &Verdict) -> String {
    let first = verdict.retired.as_ref().map_or(1, Retired::first_held);
    format!(
        "ok means: every event from {first} to the last is unmodified, in order and linked, and event {first} is linked to \
         the last checksum above, which the chain records in bus.retired. The events before it are not checked: verify \
         the copy, with --expect {}:CHECKSUM. An unanchored chain cannot show that its end was cut off at an event \
         boundary or that the whole log was rewritten.",
        first - 1
    )
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
