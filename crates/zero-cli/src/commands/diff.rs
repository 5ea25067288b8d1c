//! `zero-bus diff`: print what changed in the runtime's state between two events.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Json, Reader};
use zero_paper::text::escape;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::commands::state::{report_rounding_residues, state_after};
use crate::event_ref::EventRef;
use crate::table::column_width;

/// Print what changed in the runtime's state between two events.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus diff bus 4706 4711
  zero-bus diff bus 1 4711 --json

Exit codes: 0 passed, 1 failed (the log is damaged at an event or before it), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The earlier event, as its index (42), its id (evt-000000000042), `last`, or an offset from
    /// the end (-1).
    #[arg(value_name = "EVENT", value_parser = EventRef::parse, allow_negative_numbers = true)]
    earlier: EventRef,
    /// The later event.
    #[arg(value_name = "EVENT", value_parser = EventRef::parse, allow_negative_numbers = true)]
    later: EventRef,
    /// Print one JSON object per change: {"after", "before", "path"}.
    #[arg(long)]
    json: bool,
}

/// The longest path that is aligned.
const MAX_PATH_WIDTH: usize = 80;

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let earlier = state_after(&reader, Some(arguments.earlier.index(&reader)?))?;
    let later = state_after(&reader, Some(arguments.later.index(&reader)?))?;
    report_rounding_residues(&later);
    let changes = earlier.difference(&later);
    let paths: Vec<String> = changes.iter().map(|change| escape(&change.path)).collect();
    let width = column_width(paths.iter().map(String::as_str), MAX_PATH_WIDTH);
    let lines: Vec<String> = changes
        .iter()
        .zip(&paths)
        .map(|(change, path)| {
            if arguments.json {
                return Ok(Json::of(change)?.to_string());
            }
            Ok(format!("{path:width$}  {} -> {}", change.before, change.after))
        })
        .collect::<Result<_>>()?;
    match lines.is_empty() {
        true if arguments.json => Ok(Outcome::Passed),
        true => print("no difference", Outcome::Passed),
        false => print(&lines.join("\n"), Outcome::Passed),
    }
}
