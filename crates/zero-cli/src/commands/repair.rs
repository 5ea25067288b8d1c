//! `zero-bus repair`: report what is wrong with the tail of a log, and quarantine it.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use zero_bus::{
    AmbiguousTail, Finding, Json, LostRecord, OpenOptions, QuarantinedTail, RETIRED, Reader, Verdict,
};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::progress::Bar;

/// Report a broken tail or lost record; with --yes, repair it.
///
/// A tail is quarantined: nothing is deleted, and the bytes are kept in a file next to the log. If
/// the record of retired events is missing or was changed, it is written again from the events
/// bus.retired, which the chain holds. Other damage before the tail is not repaired.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus repair bus
  zero-bus repair bus --yes

Exit codes: 0 passed (nothing is wrong, or it was repaired), 1 failed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Quarantine a torn or ambiguous tail, or write the record of retired events again.
    #[arg(long)]
    yes: bool,
    /// Print one JSON object: {"byte_offset", "events", "ok", "quarantined", "reason",
    /// "repairable"}.
    #[arg(long)]
    json: bool,
}

/// The result as `--json` prints it.
#[derive(Serialize)]
struct Document {
    /// Where the faulty part of the log starts.
    byte_offset: Option<u64>,
    /// Valid events of the log, and after a repair also its record.
    events: u64,
    /// Nothing is wrong, or it was repaired.
    ok: bool,
    quarantined: Vec<QuarantinedTail>,
    /// `ok`, or what is wrong.
    reason: String,
    /// `--yes` repairs what is wrong, or has done so.
    repairable: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("verifying");
    let Verdict { integrity, snapshot_integrity, .. } =
        reader.verify_with_progress(&mut |progress| bar.show(progress))?;
    drop(bar);
    let mut document = Document {
        byte_offset: None,
        events: integrity.head.index,
        ok: false,
        quarantined: Vec::new(),
        reason: integrity.reason(),
        repairable: false,
    };
    let reason = integrity.reason();
    let finding = match &integrity.finding {
        Finding::Sound if !snapshot_integrity.consistent => {
            document.reason = snapshot_integrity.reason;
            let advice = "restore the log; or remove the snapshot next to it to continue without";
            let text = format!("{}\n{advice}", document.reason);
            return print_result(arguments, &text, &document);
        }
        Finding::Sound => {
            document.ok = true;
            let text = format!("nothing to repair: {}", counted(document.events, "event"));
            return print_result(arguments, &text, &document);
        }
        Finding::Fault(fault) => {
            document.byte_offset = Some(fault.byte_offset);
            let bar = Bar::new("looking for what was retired");
            let lost = reader.lost_record(&mut |progress| bar.show(progress))?;
            drop(bar);
            if let Some(lost) = lost {
                return write_record(arguments, &reader, &lost, document);
            }
            let advice = "a crash cannot have left this, and it is not repaired: restore the log, or keep it as evidence";
            let text = format!("{reason} (byte {} of the log)\n{advice}", fault.byte_offset);
            return print_result(arguments, &text, &document);
        }
        Finding::Missing(_) => {
            let advice =
                "restore the log; or remove bus.lock and the snapshot next to it to continue without";
            return print_result(arguments, &format!("{reason}\n{advice}"), &document);
        }
        Finding::Torn { byte_offset, .. } | Finding::Truncated { byte_offset, .. } => {
            document.byte_offset = Some(*byte_offset);
            reason
        }
        Finding::Ambiguous(fault) => {
            document.byte_offset = Some(fault.byte_offset);
            let meaning = "an ambiguous tail: a crash or tampering could have left this; --yes quarantines everything \
                           from there on, also valid events";
            format!("{reason}\n{meaning}")
        }
    };
    repair(arguments, &finding, document)
}

/// Writes the record of retired events again, or says how to.
fn write_record(
    arguments: &Arguments,
    reader: &Reader,
    lost: &LostRecord,
    mut document: Document,
) -> Result<Outcome> {
    document.repairable = true;
    let finding = format!("{}\nthe chain records it: {}", document.reason, lost.retired());
    if !arguments.yes {
        let text = format!("{finding}\nrun again with --yes to write {RETIRED} again");
        return print_result(arguments, &text, &document);
    }
    lost.write()?;
    let integrity = reader.verify()?.integrity;
    document.events = integrity.head.index;
    document.ok = integrity.ok();
    let rest = match document.ok {
        true => String::new(),
        false => format!("\nthat was not all: {}; run repair again", integrity.reason()),
    };
    let (first, last) = (lost.retired().first_held(), document.events);
    let text = format!("{finding}\nwrote {RETIRED} again; the log holds the events {first} to {last}{rest}");
    print_result(arguments, &text, &document)
}

/// Quarantines the tail that `document` describes, or says how to.
fn repair(arguments: &Arguments, finding: &str, mut document: Document) -> Result<Outcome> {
    document.repairable = true;
    let byte_offset = document.byte_offset.unwrap_or(0);
    let finding = format!("{finding}\nit starts at byte {byte_offset} of the log");
    if !arguments.yes {
        let text = format!("{finding}\nrun again with --yes to quarantine it");
        return print_result(arguments, &text, &document);
    }
    let bus = OpenOptions::new()
        .create(false)
        .on_ambiguous_tail(AmbiguousTail::QuarantineFrom(byte_offset))
        .open(&arguments.dir)?;
    document.quarantined = bus.quarantined();
    document.events = bus.head().index;
    document.ok = true;
    let quarantined: Vec<String> = document.quarantined.iter().map(ToString::to_string).collect();
    let events = counted(document.events, "event");
    let text = format!("{finding}\n{}\nthe log holds {events}", quarantined.join("\n"));
    print_result(arguments, &text, &document)
}

fn print_result(arguments: &Arguments, text: &str, document: &Document) -> Result<Outcome> {
    let outcome = Outcome::of(document.ok);
    match arguments.json {
        true => print(Json::of(document)?.as_str(), outcome),
        false => print(text, outcome),
    }
}
