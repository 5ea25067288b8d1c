//! `zero-bus show`: one event.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use zero_bus::{Reader, index_of_id};
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// Print one event, laid out for reading.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus show bus 42
  zero-bus show bus evt-000000000042 --json")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Its index (42) or its id (evt-000000000042).
    event: String,
    /// The event's line as it is in the log.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let wanted = &arguments.event;
    let index = wanted.parse().ok().filter(|index| *index > 0).or_else(|| index_of_id(wanted));
    let index = index.ok_or_else(|| {
        anyhow!("{wanted}: is neither an index, which count from 1, nor an id, as in evt-000000000042")
    })?;
    let reader = Reader::open(&arguments.dir)?;
    let Some(event) = reader.event(index)? else {
        let dir = arguments.dir.display();
        bail!("{dir}: has no event {index}, its last one is {}", reader.head()?.index);
    };
    let text = if arguments.json { event.line() } else { event.to_json().pretty() };
    print(&text, Outcome::Passed)
}
