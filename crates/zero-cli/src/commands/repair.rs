//! `zero-bus repair`: report what is wrong with the tail of a log, and quarantine it.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use zero_bus::{AmbiguousTail, Finding, Json, OpenOptions, QuarantinedTail, Reader, Verdict};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::progress::Bar;

/// Report a broken tail; with --yes, quarantine it.
///
/// Nothing is deleted: the quarantined bytes are kept in a file next to the log. Damage before the
/// tail is not repaired.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus repair bus
  zero-bus repair bus --yes

Exit codes: 0 passed (nothing is wrong, or it was quarantined), 1 failed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Quarantine a torn or ambiguous tail.
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
    /// Nothing is wrong, or it was quarantined.
    ok: bool,
    quarantined: Vec<QuarantinedTail>,
    /// `ok`, or what is wrong.
    reason: String,
    /// `--yes` quarantines what is wrong, or has done so.
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
