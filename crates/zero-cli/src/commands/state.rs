//! `zero-bus state`: how it stood with the runtime after any event.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use zero_bus::{Json, Reader};
use zero_paper::state::State;
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// The runtime's state after an event, as the log tells it: {"cycle", "event_index", "health", "positions"}.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus state bus
  zero-bus state bus --at 4711")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// After the event at this index. Without it: the last one.
    #[arg(long, value_name = "INDEX", value_parser = clap::value_parser!(u64).range(1..))]
    at: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let state = after(&reader, &arguments.dir, arguments.at)?;
    print(Json::of(&state)?.as_str(), Outcome::Passed)
}

/// The state after the event at an index, which must be there; after the last one for `None`.
pub(crate) fn after(reader: &Reader, dir: &Path, index: Option<u64>) -> Result<State> {
    let last = reader.head()?.index;
    match index {
        Some(index) if index > last => {
            bail!("{}: there is no event {index}; the last one is {last}", dir.display())
        }
        index => Ok(State::at(reader, index)?),
    }
}
