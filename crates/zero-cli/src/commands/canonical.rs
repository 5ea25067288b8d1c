//! `zero-bus canonical`: the canonical form of JSON values.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use zero_bus::Json;
use zero_program::message::describe_json_error;
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;

use crate::input::Input;

/// Print the canonical form of JSON values, one a line; ends at the first that has none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus canonical values.jsonl
  echo '{\"b\": 1, \"a\": 1e2}' | zero-bus canonical")]
pub(crate) struct Arguments {
    /// The file, or `-` for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut input = Input::open(&arguments.file)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    loop {
        let group = input.next_group()?;
        if group.is_empty() {
            return Ok(Outcome::Passed);
        }
        for line in group {
            match Json::parse(&line.text) {
                Ok(json) => writeln!(out, "{json}").map_err(OutputClosed)?,
                Err(error) => {
                    out.flush().map_err(OutputClosed)?;
                    return Err(anyhow!(
                        "{}: line {}: {}",
                        input.name,
                        line.number,
                        describe_json_error(&error)
                    ));
                }
            }
        }
        out.flush().map_err(OutputClosed)?;
    }
}
