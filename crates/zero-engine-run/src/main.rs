//! `zero-engine-run`: the paper runtime, and the production-parity report.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use zero_bus::Json;
use zero_paper::{Clock, FixedClock, PauseEnd, RecordPaths, Runtime, Scenario, SystemClock, parity};
use zero_program::arguments::parse_arguments;
use zero_program::exit::{exit, is_damage};
use zero_program::message::{print_message, report_file_size_limits};
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// Run the paper trading runtime: observe, orient, decide, act, learn, and leave a record of it.
///
/// Standard output gets the last cycle's record (or the parity report), and nothing else. SIGINT, SIGTERM
/// and SIGHUP end the run after the cycle in hand; a second one at once.
#[derive(Debug, Parser)]
#[command(name = "zero-engine-run", version, after_help = EXAMPLES)]
struct Arguments {
    /// The scenario to trade.
    #[arg(long, value_name = "FILE", default_value = "examples/paper-trading/scenario.json")]
    scenario: PathBuf,
    /// Keep the decisions in this file, and go on from what is in it.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Append every cycle's record to this file.
    #[arg(long, value_name = "FILE")]
    cycle_journal: Option<PathBuf>,
    /// Publish every cycle on the bus in this directory.
    #[arg(long, value_name = "DIR")]
    runtime_bus: Option<PathBuf>,
    /// Make the decision journal again from the bus before starting; the old one is kept beside it.
    #[arg(long, requires = "journal", requires = "runtime_bus")]
    rebuild_journal: bool,
    /// Run one cycle.
    #[arg(long, conflicts_with = "max_cycles")]
    once: bool,
    /// Run this many cycles. Without it (and without --once) the run goes on until it is told to stop.
    #[arg(long, value_name = "N", value_parser = cycles, allow_negative_numbers = true)]
    max_cycles: Option<u64>,
    /// Wait this long between two cycles.
    #[arg(long, value_name = "SECONDS", default_value = "5.0", value_parser = interval, allow_negative_numbers = true)]
    interval: Duration,
    /// Every record carries this time, in seconds since the Unix epoch: a run that can be repeated to the byte.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    fixed_clock: Option<f64>,
    /// Write the production-parity report instead: the scenario on paper beside the closed live path.
    #[arg(long)]
    production_parity: bool,
    /// Where the parity report and its records go; of use with --production-parity only.
    #[arg(long, value_name = "DIR", default_value = "artifacts/runtime-parity")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  zero-engine-run --once
  zero-engine-run --scenario my.json --journal decisions.jsonl --runtime-bus bus --interval 1
  zero-engine-run --production-parity --scenario my.json --output parity

Exit codes: 0 fine, 1 the parity report is not ok or a record was found damaged, 2 it could not be done.";

fn cycles(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|cycles| *cycles > 0)
        .ok_or_else(|| "must be a whole number from 1 on".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => Ok(seconds),
        _ => Err("not a finite number of seconds".to_owned()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds(text)?)
        .map_err(|_| "must be 0 or more, and not beyond all time".to_owned())
}

const PROGRAM: &str = "zero-engine-run";

fn main() -> ExitCode {
    report_file_size_limits(PROGRAM);
    exit(PROGRAM, run(parse_arguments(PROGRAM)), is_damage)
}

fn run(arguments: Arguments) -> Result<Outcome> {
    let scenario =
        Scenario::load(&arguments.scenario).map_err(|error| match arguments.scenario.exists() {
            true => error.into(),
            false => anyhow!(
                "{}: there is no such scenario; name one with --scenario",
                arguments.scenario.display()
            ),
        })?;
    for field in &scenario.ignored {
        warn(&format!("{}: {field}: is not known and has no effect", arguments.scenario.display()));
    }
    let clock: Arc<dyn Clock> = match arguments.fixed_clock {
        Some(seconds) => Arc::new(FixedClock(seconds)),
        None => Arc::new(SystemClock),
    };
    let max_cycles = if arguments.once { Some(1) } else { arguments.max_cycles };
    if arguments.production_parity {
        return run_parity(&arguments, &scenario, max_cycles, clock);
    }
    let records = RecordPaths {
        journal: arguments.journal,
        cycle_journal: arguments.cycle_journal,
        runtime_bus: arguments.runtime_bus,
        rebuild_journal: arguments.rebuild_journal,
    };
    // Before anything is opened, so that no signal falls between the two.
    let (wake, mut pause) = pause_until_woken()?;
    let mut warnings = Vec::new();
    let started = Runtime::start_with_warnings(scenario, &records, clock, &mut warnings);
    let told = started.as_ref().map_or(&warnings[..], Runtime::warnings);
    told.iter().for_each(|warning| warn(warning));
    let mut runtime = started?;
    // Without an interval nobody waits, and every cycle looks for commands by itself.
    if !arguments.interval.is_zero() {
        runtime.notify_on_command(move |seen| match seen {
            // Who no longer waits needs not be woken.
            Ok(()) => drop(wake.send(Wake::Command)),
            Err(error) => warn(&format!("commands are seen before a cycle only from now on: {error}")),
        })?;
    }
    let last = runtime.run(max_cycles, arguments.interval, &mut pause)?;
    if let Some(command) = runtime.killed_by() {
        print_message(PROGRAM, &format!("stopped by the operator: {}", command.describe()));
    }
    match last {
        Some(cycle) => print(&Json::of(&cycle)?.pretty(), Outcome::Passed),
        None => Ok(Outcome::Passed),
    }
}

fn warn(text: &str) {
    print_message(PROGRAM, &format!("warning: {text}"));
}

fn run_parity(
    arguments: &Arguments,
    scenario: &Scenario,
    max_cycles: Option<u64>,
    clock: Arc<dyn Clock>,
) -> Result<Outcome> {
    let ignored = [
        ("--journal", arguments.journal.is_some()),
        ("--cycle-journal", arguments.cycle_journal.is_some()),
        ("--runtime-bus", arguments.runtime_bus.is_some()),
    ];
    for (option, _) in ignored.iter().filter(|(_, given)| *given) {
        let output = arguments.output.display();
        warn(&format!("{option} has no effect with --production-parity; its records go to {output}"));
    }
    let report = parity::run(scenario, &arguments.output, max_cycles, clock)?;
    for (check, _) in report.checks.iter().filter(|(_, holds)| !**holds) {
        print_message(PROGRAM, &format!("the check {check} does not hold"));
    }
    print(&Json::of(&report)?.pretty(), Outcome::of(report.ok))
}

/// What ends a pause.
enum Wake {
    Signal,
    Command,
}

/// Waits between two cycles, and no longer than until SIGINT, SIGTERM or SIGHUP, the second of which does not wait for
/// anything, or until somebody says that there is a command.
fn pause_until_woken() -> Result<(mpsc::Sender<Wake>, impl FnMut(Duration) -> PauseEnd)> {
    let ending = [SIGINT, SIGTERM, SIGHUP];
    let first_came = Arc::new(AtomicBool::new(false));
    for signal in ending {
        // In this order: the first one finds the flag still down, and puts it up.
        let exit = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&first_came));
        exit.and_then(|_| flag::register(signal, Arc::clone(&first_came)))
            .context("cannot wait for signals")?;
    }
    let mut signals = Signals::new(ending).context("cannot wait for signals")?;
    let (wake, woken) = mpsc::channel();
    let told = wake.clone();
    let listening = move || {
        for _ in signals.forever() {
            if told.send(Wake::Signal).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(listening).context("cannot begin a thread to wait for signals")?;
    let pause = move |at_most: Duration| {
        let begin = Instant::now();
        match woken.recv_timeout(at_most) {
            Err(RecvTimeoutError::Timeout) => PauseEnd::Elapsed,
            Ok(Wake::Command) => PauseEnd::Command { remaining: at_most.saturating_sub(begin.elapsed()) },
            Ok(Wake::Signal) | Err(RecvTimeoutError::Disconnected) => PauseEnd::Stop,
        }
    };
    Ok((wake, pause))
}
