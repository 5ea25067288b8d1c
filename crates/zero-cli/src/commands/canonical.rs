//! `zero-bus canonical`: print the canonical form of JSON values.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use zero_bus::Json;
use zero_program::message::describe_json_error;
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;

use crate::input::Input;
use crate::json_option::AlwaysJson;

/// Print the canonical form of JSON values, one per line.
///
/// Stops at the first line that has no canonical form, or none that --portable allows.
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
    /// Refuse values that Python's json cannot read with its default settings: integers of more
    /// than 4300 digits, and more than 900 levels of nesting.
    #[arg(long)]
    portable: bool,
    #[command(flatten)]
    _json: AlwaysJson,
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
                .and_then(|json| if arguments.portable { check_portable(json) } else { Ok(json) })
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

/// Python's limit for the digits of an integer (`sys.int_info.default_max_str_digits`).
const MAX_PORTABLE_DIGITS: usize = 4300;

/// Python's default recursion limit is 1000, less the depth of the call and the event around a
/// payload.
const MAX_PORTABLE_DEPTH: usize = 900;

/// Returns the value if readers with common limits accept it.
fn check_portable(json: Json) -> Result<Json, String> {
    let (mut depth, mut digits) = (0, 0);
    let mut bytes = json.as_str().bytes();
    while let Some(byte) = bytes.next() {
        // In the canonical form only integers have so many digits in a row.
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            // Skips the string.
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
        if digits > MAX_PORTABLE_DIGITS {
            return Err(format!("an integer has more than {MAX_PORTABLE_DIGITS} digits"));
        }
        if depth > MAX_PORTABLE_DEPTH {
            return Err(format!("nested deeper than {MAX_PORTABLE_DEPTH} levels"));
        }
    }
    Ok(json)
}
