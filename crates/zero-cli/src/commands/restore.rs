//! `zero-bus restore`: write the log of a bus from a mirror.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use zero_bus::{Checksum, Json};
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
    /// Print one JSON object: {"bus", "events", "last_checksum", "mirror"}.
    #[arg(long)]
    json: bool,
}

/// The result as `--json` prints it.
#[derive(Serialize)]
struct Document<'a> {
    bus: Checksum,
    events: u64,
    last_checksum: Option<Checksum>,
    mirror: &'a str,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut mirror = open_for_reading(&arguments.from)?;
    let bus = select_bus(&mut mirror, arguments.bus.as_deref())?;
    let bar = Bar::of_events("restoring");
    let head = restore(&mut mirror, bus, &arguments.dir, &mut |progress| {
        bar.show_events(progress.events, progress.events_total);
    })?;
    drop(bar);
    if arguments.json {
        let document =
            Document { bus, events: head.index, last_checksum: head.checksum, mirror: &mirror.name() };
        return print(Json::of(&document)?.as_str(), Outcome::Passed);
    }
    let dir = arguments.dir.display();
    print(
        &format!("{dir}: {} of {bus}, from {}", counted(head.index, "event"), mirror.name()),
        Outcome::Passed,
    )
}
