//! The program `zero-bus`: each subcommand is one file in `commands`.

#![forbid(unsafe_code)]

mod commands;
mod event_ref;
mod head_arg;
mod input;
mod progress;
mod table;
mod terminal;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use zero_program::arguments::parse_arguments;
use zero_program::exit::{exit, is_damage};
use zero_program::message::report_file_size_limits;
use zero_program::outcome::Outcome;

/// Read a runtime bus, and write to it.
///
/// A bus is a directory with an append-only log of events. Each event is linked to all earlier ones
/// by a checksum.
#[derive(Debug, Parser)]
#[command(name = "zero-bus", version, after_help = "Exit codes: 0 passed, 1 failed, 2 could not run.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Append(commands::append::Arguments),
    Verify(commands::verify::Arguments),
    Doctor(commands::doctor::Arguments),
    Tail(commands::tail::Arguments),
    Show(commands::show::Arguments),
    Stats(commands::stats::Arguments),
    Audit(commands::audit::Arguments),
    Backup(commands::backup::Arguments),
    Repair(commands::repair::Arguments),
    Canonical(commands::canonical::Arguments),
    Explain(commands::explain::Arguments),
    Replay(commands::replay::Arguments),
    State(commands::state::Arguments),
    Diff(commands::diff::Arguments),
    Command(commands::command::Arguments),
    Mirror(commands::mirror::Arguments),
    MirrorVerify(commands::mirror_verify::Arguments),
    Restore(commands::restore::Arguments),
    Ingest(commands::ingest::Arguments),
    Completions(commands::completions::Arguments),
    Man(commands::man::Arguments),
}

const PROGRAM: &str = "zero-bus";

/// Runs the program: reads the arguments, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    report_file_size_limits(PROGRAM);
    exit(PROGRAM, run(parse_arguments::<Arguments>(PROGRAM).command), is_failed_check)
}

fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Append(arguments) => commands::append::run(arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
        Command::Tail(arguments) => commands::tail::run(&arguments),
        Command::Show(arguments) => commands::show::run(&arguments),
        Command::Stats(arguments) => commands::stats::run(&arguments),
        Command::Audit(arguments) => commands::audit::run(&arguments),
        Command::Backup(arguments) => commands::backup::run(&arguments),
        Command::Repair(arguments) => commands::repair::run(&arguments),
        Command::Canonical(arguments) => commands::canonical::run(&arguments),
        Command::Explain(arguments) => commands::explain::run(&arguments),
        Command::Replay(arguments) => commands::replay::run(&arguments),
        Command::State(arguments) => commands::state::run(&arguments),
        Command::Diff(arguments) => commands::diff::run(&arguments),
        Command::Command(arguments) => commands::command::run(&arguments),
        Command::Mirror(arguments) => commands::mirror::run(&arguments),
        Command::MirrorVerify(arguments) => commands::mirror_verify::run(&arguments),
        Command::Restore(arguments) => commands::restore::run(&arguments),
        Command::Ingest(arguments) => commands::ingest::run(arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments),
        Command::Man(arguments) => commands::man::run(&arguments),
    }
}

/// Whether an error is the finding of a check (exit code 1): damage to a log, or a mirror that
/// contradicts it.
pub(crate) fn is_failed_check(error: &anyhow::Error) -> bool {
    use zero_mirror::Error::{Corrupt, Fork, LogEmptied, LogReplaced, LogShorter};
    is_damage(error)
        || error.chain().any(|cause| match cause.downcast_ref() {
            Some(
                Fork { .. } | LogShorter { .. } | LogEmptied { .. } | LogReplaced { .. } | Corrupt { .. },
            ) => true,
            Some(zero_mirror::Error::Bus(inner)) => zero_program::exit::is_damaged_log(inner),
            _ => false,
        })
}
