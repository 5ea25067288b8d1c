//! `zero-bus repair`: report what is wrong with the tail of a log, and quarantine it.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{AmbiguousTail, Finding, OpenOptions, Reader, Verdict};
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
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("verifying");
    let Verdict { integrity, snapshot_integrity } =
        reader.verify_with_progress(&mut |progress| bar.show(progress))?;
    drop(bar);
    let reason = integrity.reason();
    let not_repairable =
        |problem: &str, advice: &str| print(&format!("{problem}\n{advice}"), Outcome::Failed);
    let (finding, byte_offset) = match &integrity.finding {
        Finding::Sound if !snapshot_integrity.consistent => {
            return not_repairable(
                &snapshot_integrity.reason,
                "restore the log; or remove the snapshot next to it to continue without",
            );
        }
        Finding::Sound => {
            let text = format!("nothing to repair: {}", counted(integrity.head.index, "event"));
            return print(&text, Outcome::Passed);
        }
        Finding::Fault(fault) => {
            return not_repairable(
                &format!("{reason} (byte {} of the log)", fault.byte_offset),
                "a crash cannot have left this, and it is not repaired: restore the log, or keep it as evidence",
            );
        }
        Finding::Missing(_) => {
            return not_repairable(
                &reason,
                "restore the log; or remove bus.lock and the snapshot next to it to continue without",
            );
        }
        Finding::Torn { byte_offset, .. } | Finding::Truncated { byte_offset, .. } => (reason, *byte_offset),
        Finding::Ambiguous(fault) => {
            let meaning = "an ambiguous tail: a crash or tampering could have left this; --yes quarantines everything \
                           from there on, also valid events";
            (format!("{reason}\n{meaning}"), fault.byte_offset)
        }
    };
    let finding = format!("{finding}\nit starts at byte {byte_offset} of the log");
    if !arguments.yes {
        return print(&format!("{finding}\nrun again with --yes to quarantine it"), Outcome::Failed);
    }
    let bus = OpenOptions::new()
        .create(false)
        .on_ambiguous_tail(AmbiguousTail::QuarantineFrom(byte_offset))
        .open(&arguments.dir)?;
    let quarantined: Vec<String> = bus.quarantined().iter().map(ToString::to_string).collect();
    let events = counted(bus.head().index, "event");
    print(&format!("{finding}\n{}\nthe log holds {events}", quarantined.join("\n")), Outcome::Passed)
}
