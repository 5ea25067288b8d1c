//! `zero-bus canonical`: print the canonical form of JSON values.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use zero_bus::Json;
use zero_program::message::describe_json_error;
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;

use crate::input::Input;

/// Print the canonical form of JSON values, one per line.
///
/// Stops at the first line that has no canonical form.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus canonical values.jsonl
  echo '{\"b\": 1, \"a\": 1e2}' | zero-bus canonical

Exit codes: 0 passed, 2 could not run (a line has no canonical form).")]
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
            let json = line
                .text
                .and_then(|text| Json::parse(&text).map_err(|error| describe_json_error(&error)))
                .map_err(|problem| input.error_in_line(line.number, &problem));
            match json {
                Ok(json) => writeln!(out, "{json}").map_err(OutputClosed)?,
                Err(error) => {
                    out.flush().map_err(OutputClosed)?;
                    return Err(error);
                }
            }
        }
        out.flush().map_err(OutputClosed)?;
    }
}
