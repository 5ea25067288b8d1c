//! `zero-bus`: look at a runtime bus, and write to it.

#![forbid(unsafe_code)]

mod append;
mod audit;
mod backup;
mod canonical;
mod command;
mod completions;
mod diff;
mod doctor;
mod explain;
mod ingest;
mod input;
mod man;
mod mirror;
mod mirror_verify;
mod repair;
mod replay;
mod restore;
mod show;
mod state;
mod stats;
mod tail;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use zero_cli::end::{Judgement, arguments, exit, survive_size_limits};

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
    Append(append::Arguments),
    Verify(verify::Arguments),
    Doctor(doctor::Arguments),
    Tail(tail::Arguments),
    Show(show::Arguments),
    Stats(stats::Arguments),
    Audit(audit::Arguments),
    Backup(backup::Arguments),
    Repair(repair::Arguments),
    Canonical(canonical::Arguments),
    Explain(explain::Arguments),
    Replay(replay::Arguments),
    State(state::Arguments),
    Diff(diff::Arguments),
    Command(command::Arguments),
    Mirror(mirror::Arguments),
    MirrorVerify(mirror_verify::Arguments),
    Restore(restore::Arguments),
    Ingest(ingest::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

pub(crate) const PROGRAM: &str = "zero-bus";

fn main() -> ExitCode {
    survive_size_limits(PROGRAM);
    exit(PROGRAM, run(arguments::<Arguments>(PROGRAM).job))
}

fn run(job: Job) -> Result<Judgement> {
    match job {
        Job::Append(arguments) => append::run(arguments),
        Job::Verify(arguments) => verify::run(&arguments),
        Job::Doctor(arguments) => doctor::run(&arguments),
        Job::Tail(arguments) => tail::run(&arguments),
        Job::Show(arguments) => show::run(&arguments),
        Job::Stats(arguments) => stats::run(&arguments),
        Job::Audit(arguments) => audit::run(&arguments),
        Job::Backup(arguments) => backup::run(&arguments),
        Job::Repair(arguments) => repair::run(&arguments),
        Job::Canonical(arguments) => canonical::run(&arguments),
        Job::Explain(arguments) => explain::run(&arguments),
        Job::Replay(arguments) => replay::run(&arguments),
        Job::State(arguments) => state::run(&arguments),
        Job::Diff(arguments) => diff::run(&arguments),
        Job::Command(arguments) => command::run(&arguments),
        Job::Mirror(arguments) => mirror::run(&arguments),
        Job::MirrorVerify(arguments) => mirror_verify::run(&arguments),
        Job::Restore(arguments) => restore::run(&arguments),
        Job::Ingest(arguments) => ingest::run(arguments),
        Job::Completions(arguments) => completions::run(&arguments),
        Job::Man(arguments) => man::run(&arguments),
    }
}
