//! `zero-bus show`: print one event.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::Reader;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::event_ref::{no_such_event, parse_event_index};

/// Print one event, indented for reading.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus show bus 42
  zero-bus show bus evt-000000000042 --json

Exit codes: 0 passed, 1 failed (the log is damaged at the event or before it), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The event, by its index (42) or its id (evt-000000000042).
    #[arg(value_parser = parse_event_index)]
    event: u64,
    /// Print the event's line as it is in the log.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let event = reader.event(arguments.event)?.ok_or_else(|| no_such_event(&reader, arguments.event))?;
    let text = if arguments.json { event.line() } else { event.to_json().pretty() };
    print(&text, Outcome::Passed)
}
