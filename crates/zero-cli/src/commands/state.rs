//! `zero-bus state`: print the runtime's state after an event.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Json, Reader};
use zero_paper::state::State;
use zero_paper::text::format_number;
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::event_ref::{EventRef, no_such_event};
use crate::program::PROGRAM;

/// Print the runtime's state after an event.
///
/// The result is one JSON object: {"cycle", "event_index", "health", "positions"}.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus state bus
  zero-bus state bus --at 4711

Exit codes: 0 passed, 1 failed (the log is damaged at the event or before it), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The event, as its index (42), its id (evt-000000000042), or an offset from the end (-1).
    /// [default: the last one]
    #[arg(long, value_name = "EVENT", value_parser = EventRef::parse, allow_negative_numbers = true)]
    at: Option<EventRef>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let state = state_after(&reader, arguments.at)?;
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
pub(crate) fn state_after(reader: &Reader, event: Option<EventRef>) -> Result<State> {
    let last = reader.head()?.index;
    match event.map(|event| event.index(reader)).transpose()? {
        Some(index) if index > last => Err(no_such_event(reader, index)),
        index => Ok(State::at(reader, index)?),
    }
}
