//! `zero-bus man`: print the manual page, or write all manual pages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_mangen::Man;
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// Print the manual page, or write one for each command.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus man | man -l -
  zero-bus man --to ~/.local/share/man/man1

Exit codes: 0 passed, 2 could not run.")]
pub(crate) struct Arguments {
    /// Write zero-bus.1, zero-bus-append.1 and so on into this directory. It is created if it does
    /// not exist.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, program: clap::Command) -> Result<Outcome> {
    let Some(to) = &arguments.to else {
        let mut text = Vec::new();
        Man::new(program).render(&mut text)?;
        let text = String::from_utf8(text)?;
        return print(text.strip_suffix('\n').unwrap_or(&text), Outcome::Passed);
    };
    std::fs::create_dir_all(to)
        .and_then(|()| clap_mangen::generate_to(program, to))
        .with_context(|| format!("{}: cannot write the manual pages", to.display()))?;
    Ok(Outcome::Passed)
}
