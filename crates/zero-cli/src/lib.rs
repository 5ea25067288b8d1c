//! The program `zero-bus`: one subcommand, one file in `commands`.

#![forbid(unsafe_code)]

mod commands;
mod input;
mod progress;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use zero_program::arguments::parse_arguments;
use zero_program::exit::{exit, is_damage};
use zero_program::message::report_file_size_limits;
use zero_program::outcome::Outcome;

/// Look at a runtime bus, and write to it.
///
/// A bus is a directory with an append-only log of events, each bound to all before it by a checksum.
#[derive(Debug, Parser)]
#[command(
    name = "zero-bus",
    version,
    after_help = "Exit codes: 0 fine, 1 judged and found wanting, 2 could not be done."
)]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
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

/// Runs the program: reads the arguments, carries out the command, and gives the exit code.
pub fn main() -> ExitCode {
    report_file_size_limits(PROGRAM);
    exit(PROGRAM, run(parse_arguments::<Arguments>(PROGRAM).job), is_failed_check)
}

fn run(job: Job) -> Result<Outcome> {
    match job {
        Job::Append(arguments) => commands::append::run(arguments),
        Job::Verify(arguments) => commands::verify::run(&arguments),
        Job::Doctor(arguments) => commands::doctor::run(&arguments),
        Job::Tail(arguments) => commands::tail::run(&arguments),
        Job::Show(arguments) => commands::show::run(&arguments),
        Job::Stats(arguments) => commands::stats::run(&arguments),
        Job::Audit(arguments) => commands::audit::run(&arguments),
        Job::Backup(arguments) => commands::backup::run(&arguments),
        Job::Repair(arguments) => commands::repair::run(&arguments),
        Job::Canonical(arguments) => commands::canonical::run(&arguments),
        Job::Explain(arguments) => commands::explain::run(&arguments),
        Job::Replay(arguments) => commands::replay::run(&arguments),
        Job::State(arguments) => commands::state::run(&arguments),
        Job::Diff(arguments) => commands::diff::run(&arguments),
        Job::Command(arguments) => commands::command::run(&arguments),
        Job::Mirror(arguments) => commands::mirror::run(&arguments),
        Job::MirrorVerify(arguments) => commands::mirror_verify::run(&arguments),
        Job::Restore(arguments) => commands::restore::run(&arguments),
        Job::Ingest(arguments) => commands::ingest::run(arguments),
        Job::Completions(arguments) => commands::completions::run(&arguments),
        Job::Man(arguments) => commands::man::run(&arguments),
    }
}

/// Whether an error is what a command looked for and found (exit code 1): damage to a log, or a mirror that contradicts it.
pub(crate) fn is_failed_check(error: &anyhow::Error) -> bool {
    use zero_mirror::Error::{Corrupt, Fork, LogShorter};
    is_damage(error)
        || error.chain().any(|cause| match cause.downcast_ref() {
            Some(Fork { .. } | LogShorter { .. } | Corrupt { .. }) => true,
            Some(zero_mirror::Error::Bus(inner)) => zero_program::exit::is_damaged_log(inner),
            _ => false,
        })
}
