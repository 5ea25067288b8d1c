//! `zero-bus diff`: what changed in the runtime's state between two events.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Json, Reader};
use zero_paper::text::escape;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::commands::state::after;

/// What changed in the runtime's state between two events.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus diff bus 4706 4711
  zero-bus diff bus 1 4711 --json")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The index of the earlier event.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    earlier: u64,
    /// The index of the later event.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    later: u64,
    /// One JSON object a change: {"after", "before", "path"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let earlier = after(&reader, &arguments.dir, Some(arguments.earlier))?;
    let later = after(&reader, &arguments.dir, Some(arguments.later))?;
    let changes = earlier.difference(&later);
    let paths: Vec<String> = changes.iter().map(|change| escape(&change.path)).collect();
    // A hostile name does not push everything else out of sight.
    let width = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0).min(80);
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
