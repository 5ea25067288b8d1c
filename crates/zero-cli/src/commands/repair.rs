//! `zero-bus repair`: what is wrong with the end of a log, and the way out.

use std::path::PathBuf;

use crate::progress::Bar;
use anyhow::Result;
use zero_bus::{Bus, Finding, Reader, Verdict};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// Say what is wrong with the end of a log; with --yes, set it aside where that is the way out.
///
/// Nothing is ever removed: what is cut off is kept in a file next to the log. Damage before the end is not mended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus repair bus
  zero-bus repair bus --yes

Exit codes: 0 nothing is wrong any more, 1 something is, 2 could not be done.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Set a torn or undecided end aside.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("looking");
    let Verdict { integrity, snapshot_integrity } =
        reader.verify_with_progress(&mut |progress| bar.show(progress))?;
    drop(bar);
    let reason = integrity.reason();
    let (found, byte_offset) = match &integrity.finding {
        Finding::Sound if !snapshot_integrity.consistent => {
            let meaning = "restore the log; or remove the snapshot beside it to go on without";
            return print(&format!("{}\n{meaning}", snapshot_integrity.reason), Outcome::Failed);
        }
        Finding::Sound => {
            return print(
                &format!("nothing to repair: {}", counted(integrity.head.index, "event")),
                Outcome::Passed,
            );
        }
        Finding::Torn { byte_offset, .. } | Finding::Truncated { byte_offset, .. } => (reason, *byte_offset),
        Finding::Ambiguous(fault) => {
            let meaning = "a crash may have left this, or somebody; --yes sets all from there on aside, sound events too";
            (format!("{reason}\n{meaning}"), fault.byte_offset)
        }
        Finding::Fault(fault) => {
            let meaning = "this is no end that a crash leaves, and is not mended: restore the log, or keep it as evidence";
            let found = format!("{reason} (byte {} of the log)\n{meaning}", fault.byte_offset);
            return print(&found, Outcome::Failed);
        }
        Finding::Missing(_) => {
            let meaning = "restore the log; or remove bus.lock and the snapshot beside it to go on without";
            return print(&format!("{reason}\n{meaning}"), Outcome::Failed);
        }
    };
    let place = format!("{found}\nit begins at byte {byte_offset} of the log");
    if !arguments.yes {
        return print(&format!("{place}\nrun again with --yes to set it aside"), Outcome::Failed);
    }
    let bus = Bus::open_quarantining(&arguments.dir, byte_offset)?;
    let kept: Vec<String> = bus.quarantined().iter().map(ToString::to_string).collect();
    print(
        &format!("{place}\n{}\nthe log holds {}", kept.join("\n"), counted(bus.head().index, "event")),
        Outcome::Passed,
    )
}
