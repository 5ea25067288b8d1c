//! `zero-bus completions`: print a shell's completion script.

use anyhow::Result;
use clap_complete::Shell;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::program::PROGRAM;

/// Print the completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus completions bash > ~/.local/share/bash-completion/completions/zero-bus
  zero-bus completions zsh > ~/.zfunc/_zero-bus
  zero-bus completions fish > ~/.config/fish/completions/zero-bus.fish

Exit codes: 0 passed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, mut program: clap::Command) -> Result<Outcome> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, PROGRAM, &mut text);
    let mut text = String::from_utf8(text)?;
    if arguments.shell == Shell::Bash {
        // The generator spells a hyphen in the program's name in two ways, so that the function's
        // labels for subcommands do not match its variable.
        text = text.replace("zero__subcmd__bus", "zero__bus");
    }
    print(text.strip_suffix('\n').unwrap_or(&text), Outcome::Passed)
}
