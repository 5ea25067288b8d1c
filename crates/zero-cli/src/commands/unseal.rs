//! `zero-bus unseal`: write the whole log as one plain file.

use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Reader, UnsealError};
use zero_paper::text::counted;
use zero_program::message::print_warning;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::output_file::OutputFile;
use crate::program::PROGRAM;
use crate::progress::Bar;

/// Write the whole log of a bus as one plain file.
///
/// The file is the log byte for byte, as events.jsonl was before the bus was sealed. Retired events
/// are not in it. Programs that do not know segments can read it. The bus itself is not changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus unseal bus -o events.jsonl

Exit codes: 0 passed, 1 failed (a segment is damaged; no file is written), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Write the log to this file, which must not be inside the bus.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let output = OutputFile::resolve(&arguments.output, &arguments.dir)?;
    let bar = Bar::new("writing");
    let write = |out: &mut dyn std::io::Write| {
        reader.unseal(out, &mut |progress| bar.show(progress)).map_err(|error| match error {
            UnsealError::Write(error) => anyhow::Error::from(error).context(output.cannot_write()),
            UnsealError::Bus(error) => error.into(),
            error => error.into(),
        })
    };
    let bytes = match output.open_stream()? {
        Some(mut stream) => write(&mut stream)?,
        None => {
            let mut file = output.create()?;
            let bytes = write(&mut file)?;
            output.persist(file)?;
            bytes
        }
    };
    drop(bar);
    if let Some(retired) = reader.retired()? {
        print_warning(PROGRAM, &format!("{}: {retired}", arguments.dir.display()));
    }
    let text = format!("{}: {}", arguments.output.display(), counted(bytes, "byte"));
    print(&text, Outcome::Passed)
}
