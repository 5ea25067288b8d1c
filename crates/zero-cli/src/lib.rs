//! The program `zero-bus`: each subcommand is one file in `commands`.

#![forbid(unsafe_code)]

mod anchor;
mod checkpoint_store;
mod commands;
mod event_or_time;
mod event_ref;
mod head_arg;
mod input;
mod json_option;
mod key_use;
mod liveness;
mod output_file;
mod private_file;
mod program;
mod progress;
mod proof_input;
pub mod proofs;
mod retired_error;
mod signing_check;
mod table;
mod terminal;
mod tiles;
mod time_arg;
mod witness_clock;
mod witness_state;

use std::ffi::OsString;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use zero_bus::report_lock_waits;
use zero_program::arguments::parse_arguments;
use zero_program::exit::exit;
use zero_program::message::{print_warning, report_file_size_limits};
use zero_program::outcome::Outcome;
use zero_program::signals::end_as_init_on_stop_signal;

use crate::program::{PROGRAM, is_failed_check};

/// Read a runtime bus, and write to it.
///
/// A bus is a directory with an append-only log of events. Each event is linked to all earlier ones
/// by a checksum.
#[derive(Debug, Parser)]
#[command(name = "zero-bus", version, after_help = "Exit codes: 0 passed, 1 failed, 2 could not run.")]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Append(commands::append::Arguments),
    Verify(commands::verify::Arguments),
    Status(commands::status::Arguments),
    Doctor(commands::doctor::Arguments),
    Drill(commands::drill::Arguments),
    Tail(commands::tail::Arguments),
    Show(commands::show::Arguments),
    Stats(commands::stats::Arguments),
    Audit(commands::audit::Arguments),
    Backup(commands::backup::Arguments),
    Export(commands::export::Arguments),
    Repair(commands::repair::Arguments),
    Seal(commands::seal::Arguments),
    Unseal(commands::unseal::Arguments),
    Retire(commands::retire::Arguments),
    Canonical(commands::canonical::Arguments),
    Explain(commands::explain::Arguments),
    Replay(commands::replay::Arguments),
    Report(commands::report::Arguments),
    State(commands::state::Arguments),
    Diff(commands::diff::Arguments),
    Command(commands::command::Arguments),
    Mirror(commands::mirror::Arguments),
    MirrorVerify(commands::mirror_verify::Arguments),
    Restore(commands::restore::Arguments),
    Ingest(commands::ingest::Arguments),
    Key(commands::key::Arguments),
    Secret(commands::secret::Arguments),
    Checkpoint(commands::checkpoint::Arguments),
    Prove(commands::prove::Arguments),
    Check(commands::check::Arguments),
    Publish(commands::publish::Arguments),
    Witness(commands::witness::Arguments),
    Public(commands::public::Arguments),
    Completions(commands::completions::Arguments),
    Man(commands::man::Arguments),
}

/// Runs the program with these arguments, of which the first is its own name, and returns the exit
/// code. Ends the process itself for `--help` and invalid arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    report_file_size_limits(PROGRAM);
    report_lock_waits(|wait| print_warning(PROGRAM, &wait.to_string()));
    let command = parse_arguments::<Arguments>(PROGRAM, arguments).command;
    // These commands handle the signals themselves.
    let handles_signals = match &command {
        Subcommands::Audit(_) | Subcommands::Mirror(_) | Subcommands::Ingest(_) | Subcommands::Witness(_) => {
            true
        }
        Subcommands::Checkpoint(arguments) => arguments.is_service(),
        _ => false,
    };
    let result = if handles_signals { Ok(()) } else { end_as_init_on_stop_signal() };
    exit(PROGRAM, result.and_then(|()| run(command)), is_failed_check)
}

fn run(command: Subcommands) -> Result<Outcome> {
    match command {
        Subcommands::Append(arguments) => commands::append::run(arguments),
        Subcommands::Status(arguments) => commands::status::run(&arguments),
        Subcommands::Verify(arguments) => commands::verify::run(&arguments),
        Subcommands::Doctor(arguments) => commands::doctor::run(&arguments),
        Subcommands::Drill(arguments) => commands::drill::run(&arguments),
        Subcommands::Tail(arguments) => commands::tail::run(&arguments),
        Subcommands::Show(arguments) => commands::show::run(&arguments),
        Subcommands::Stats(arguments) => commands::stats::run(&arguments),
        Subcommands::Audit(arguments) => commands::audit::run(&arguments),
        Subcommands::Backup(arguments) => commands::backup::run(&arguments),
        Subcommands::Export(arguments) => commands::export::run(&arguments),
        Subcommands::Repair(arguments) => commands::repair::run(&arguments),
        Subcommands::Seal(arguments) => commands::seal::run(&arguments),
        Subcommands::Unseal(arguments) => commands::unseal::run(&arguments),
        Subcommands::Retire(arguments) => commands::retire::run(&arguments),
        Subcommands::Canonical(arguments) => commands::canonical::run(&arguments),
        Subcommands::Explain(arguments) => commands::explain::run(&arguments),
        Subcommands::Replay(arguments) => commands::replay::run(&arguments),
        Subcommands::Report(arguments) => commands::report::run(&arguments),
        Subcommands::State(arguments) => commands::state::run(&arguments),
        Subcommands::Diff(arguments) => commands::diff::run(&arguments),
        Subcommands::Command(arguments) => commands::command::run(&arguments),
        Subcommands::Mirror(arguments) => commands::mirror::run(&arguments),
        Subcommands::MirrorVerify(arguments) => commands::mirror_verify::run(&arguments),
        Subcommands::Restore(arguments) => commands::restore::run(&arguments),
        Subcommands::Ingest(arguments) => commands::ingest::run(arguments),
        Subcommands::Key(arguments) => commands::key::run(&arguments),
        Subcommands::Secret(arguments) => commands::secret::run(&arguments),
        Subcommands::Checkpoint(arguments) => commands::checkpoint::run(&arguments),
        Subcommands::Prove(arguments) => commands::prove::run(&arguments),
        Subcommands::Check(arguments) => commands::check::run(&arguments),
        Subcommands::Publish(arguments) => commands::publish::run(&arguments),
        Subcommands::Witness(arguments) => commands::witness::run(arguments),
        Subcommands::Public(arguments) => commands::public::run(&arguments),
        Subcommands::Completions(arguments) => commands::completions::run(&arguments, Arguments::command()),
        Subcommands::Man(arguments) => commands::man::run(&arguments, Arguments::command()),
    }
}
