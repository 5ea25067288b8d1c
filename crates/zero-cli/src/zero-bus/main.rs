//! `zero-bus`: look at a runtime bus, and write to it.

#![forbid(unsafe_code)]

mod append;
mod audit;
mod canonical;
mod input;
mod repair;
mod show;
mod stats;
mod tail;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use zero_cli::end::{Judgement, arguments, exit};

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
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Append(append::Arguments),
    Verify(verify::Arguments),
    Tail(tail::Arguments),
    Show(show::Arguments),
    Stats(stats::Arguments),
    Audit(audit::Arguments),
    Repair(repair::Arguments),
    Canonical(canonical::Arguments),
}

pub(crate) const PROGRAM: &str = "zero-bus";

fn main() -> ExitCode {
    exit(PROGRAM, run(arguments::<Arguments>(PROGRAM).command))
}

fn run(command: Command) -> Result<Judgement> {
    match command {
        Command::Append(arguments) => append::run(arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Repair(arguments) => repair::run(&arguments),
        Command::Canonical(arguments) => canonical::run(&arguments),
    }
}
