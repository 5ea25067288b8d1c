//! `zero-bus state`: print the runtime's state after an event.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Json, Reader};
use zero_paper::state::State;
use zero_paper::text::format_number;
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::event_or_time::EventOrTime;
use crate::event_ref::no_such_event;
use crate::json_option::AlwaysJson;
use crate::program::PROGRAM;

/// Print the runtime's state after an event.
///
/// The result is one JSON object: {"cycle", "event_index", "health", "positions"}.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus state bus
  zero-bus state bus --at 4711
  zero-bus state bus --at 2026-05-01T09:00:00Z

Exit codes: 0 passed, 1 failed (the log is damaged at the event or before it), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The event, as its index (42), its id (evt-000000000042), or an offset from the end (-1). Or
    /// a time, for the last event at or before it: RFC 3339 (2026-05-01T09:00:00Z), an age such as
    /// 10m, or Unix seconds (a whole number of 10 digits or more). [default: the last event]
    #[arg(long, value_name = "EVENT|TIME", value_parser = EventOrTime::parse, allow_negative_numbers = true)]
    at: Option<EventOrTime>,
    #[command(flatten)]
    _json: AlwaysJson,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let index = arguments.at.map(|at| at.index(&reader)).transpose()?;
    let state = state_after(&reader, index)?;
    report_rounding_residues(&state);
    print(Json::of(&state)?.as_str(), Outcome::Passed)
}

/// Names the positions that are open only because sums of doubles are rounded.
pub(crate) fn report_rounding_residues(state: &State) {
    for (symbol, quantity) in state.rounding_residues() {
        let quantity = format_number(quantity);
        print_message(PROGRAM, &format!("{symbol} {quantity} is a rounding residue of a closed position"));
    }
}

/// The state after the event at `index`, which must exist, or after the last event.
pub(crate) fn state_after(reader: &Reader, index: Option<u64>) -> Result<State> {
    let last = reader.head()?.index;
    match index {
        Some(index) if index > last => Err(no_such_event(reader, index)),
        index => Ok(State::at(reader, index)?),
    }
}
