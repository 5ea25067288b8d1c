//! `zero-bus show`: print one event.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::Reader;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::event_ref::{EventRef, no_such_event};

/// Print one event, indented for reading.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus show bus 42
  zero-bus show bus evt-000000000042 --json
  zero-bus show bus last

Exit codes: 0 passed, 1 failed (the log is damaged at the event or before it), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The event: its index (42), its id (evt-000000000042), `last`, or an offset from the end
    /// (-1).
    #[arg(value_parser = EventRef::parse, allow_negative_numbers = true)]
    event: EventRef,
    /// Print the event's line as it is in the log.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let index = arguments.event.index(&reader)?;
    let event = reader.event(index)?.ok_or_else(|| no_such_event(&reader, index))?;
    let text = if arguments.json { event.line() } else { event.to_json().pretty() };
    print(&text, Outcome::Passed)
}
