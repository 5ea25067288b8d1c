//! `zero-bus restore`: a log again, from a mirror.

use std::path::PathBuf;

use crate::progress::Bar;
use anyhow::Result;
use zero_mirror::{open_read_only, restore, select_bus};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// Write the log of a bus again, byte for byte, from a mirror, into an empty directory.
///
/// Every line is judged on the way, and the log is put in its place when it is whole: one that was interrupted is simply
/// done again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus restore restored --from sqlite:bus.db
  zero-bus restore restored --from sqlite:fleet.db --bus 5c3a

Exit codes: 0 restored, 1 the mirror is not sound (nothing is restored), 2 could not be done.")]
pub(crate) struct Arguments {
    /// The directory, empty or not there yet.
    dir: PathBuf,
    /// The mirror.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The bus, by its id (the checksum of its first event) or the beginning of it. May be left out where there is one.
    #[arg(long, value_name = "ID")]
    bus: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut mirror = open_read_only(&arguments.from)?;
    let bus = select_bus(&mut *mirror, arguments.bus.as_deref())?;
    let bar = Bar::of_events("restoring");
    let head = restore(&mut *mirror, bus, &arguments.dir, &mut |walk| {
        bar.show_events(walk.events, walk.events_total);
    })?;
    drop(bar);
    let dir = arguments.dir.display();
    print(
        &format!("{dir}: {} of {bus}, from {}", counted(head.index, "event"), mirror.name()),
        Outcome::Passed,
    )
}
