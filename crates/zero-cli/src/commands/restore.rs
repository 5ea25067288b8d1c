//! `zero-bus restore`: write the log of a bus from a mirror.

use std::path::PathBuf;

use anyhow::Result;
use zero_mirror::{Mirror, restore, select_bus};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use super::mirror::open_for_reading;
use crate::progress::Bar;

/// Restore the log of a bus from a mirror, byte for byte.
///
/// Every line is verified. The log gets its name only once it is complete and synced, so an
/// interrupted restore leaves no log; run the command again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus restore restored --from sqlite:bus.db
  zero-bus restore restored --from sqlite:fleet.db --bus 5c3a

Exit codes: 0 passed, 1 failed (the mirror is corrupt; nothing is restored), 2 could not run.")]
pub(crate) struct Arguments {
    /// The directory to write to. It must be empty, or is created.
    dir: PathBuf,
    /// The mirror.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The bus, by its id (the checksum of its first event) or a prefix of it. Optional if the
    /// mirror has only one.
    #[arg(long, value_name = "ID")]
    bus: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut mirror = open_for_reading(&arguments.from)?;
    let bus = select_bus(&mut mirror, arguments.bus.as_deref())?;
    let bar = Bar::of_events("restoring");
    let head = restore(&mut mirror, bus, &arguments.dir, &mut |progress| {
        bar.show_events(progress.events, progress.events_total);
    })?;
    drop(bar);
    let dir = arguments.dir.display();
    print(
        &format!("{dir}: {} of {bus}, from {}", counted(head.index, "event"), mirror.name()),
        Outcome::Passed,
    )
}
