//! `zero-engine-run`: the paper trading runtime and the production-parity report.

#![forbid(unsafe_code)]

mod arguments;
mod display;
mod market;
mod market_display;
mod pause;
mod run_end;
mod scenario;
mod terminal;

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::Result;
use zero_bus::{Json, report_lock_waits};
use zero_paper::cycle::CycleRecord;
use zero_paper::order_source::Run;
use zero_paper::symbol::{describe_lookalikes, lookalikes};
use zero_paper::{Clock, FixedClock, Runtime, Scenario, SystemClock, parity};
use zero_program::arguments::parse_arguments;
use zero_program::exit::{exit, is_damage};
use zero_program::message::{print_error, print_message, print_warning, report_file_size_limits};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::arguments::{Arguments, PROGRAM};
use crate::display::Display;
use crate::pause::Pauser;
use crate::run_end::{RunEnd, report_checkpoint_problem, report_kill};
use crate::scenario::Source;

/// The exit code of a run that the operator's kill stopped, or whose start it blocks. A supervisor
/// must not restart such a run.
const EXIT_KILLED: u8 = 3;

/// Runs the program with these arguments, of which the first is its own name, and returns the exit
/// code. Ends the process itself for `--help` and invalid arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    report_file_size_limits(PROGRAM);
    report_lock_waits(|wait| print_warning(PROGRAM, &wait.to_string()));
    let outcome = match run(&parse_arguments(PROGRAM, arguments)) {
        Ok(RunEnd::Finished(outcome)) => Ok(outcome),
        Ok(RunEnd::Killed) => return EXIT_KILLED,
        Err(error) if matches!(error.downcast_ref(), Some(zero_paper::Error::Killed { .. })) => {
            print_error(PROGRAM, &error);
            return EXIT_KILLED;
        }
        Err(error) => Err(error),
    };
    exit(PROGRAM, outcome, is_damage)
}

fn run(arguments: &Arguments) -> Result<RunEnd> {
    let clock: Arc<dyn Clock> = match arguments.fixed_clock {
        Some(seconds) => Arc::new(FixedClock(seconds)),
        None => Arc::new(SystemClock),
    };
    if let (Some(feed), Some(strategy)) = (&arguments.market, &arguments.strategy) {
        return market::run(arguments, feed, strategy, clock);
    }
    if let Some(orders) = &arguments.orders {
        return market::run_orders(arguments, orders, clock);
    }
    let source = Source::choose(arguments.scenario.as_deref());
    let scenario = source.load()?;
    if arguments.production_parity {
        return run_parity(arguments, &scenario, clock).map(RunEnd::Finished);
    }
    run_paper(arguments, &source, scenario, clock)
}

fn run_paper(
    arguments: &Arguments,
    source: &Source,
    scenario: Scenario,
    clock: Arc<dyn Clock>,
) -> Result<RunEnd> {
    let records = arguments.records();
    // Before the records are opened, so that a signal cannot end the process while it changes them.
    let (pauser, command_waker) = Pauser::install()?;

    let mut warnings = Vec::new();
    let run = Run { reduce_only_rule: arguments.reduce_only_rule(), ..Run::from(scenario.clone()) };
    let started = Runtime::start_with_warnings(run, &records, clock, &mut warnings);
    let warnings = started.as_ref().map_or(&warnings[..], Runtime::warnings);
    warnings.iter().for_each(|warning| print_warning(PROGRAM, warning));
    let mut runtime = started?;

    warn_of_held_lookalikes(&scenario, &runtime);

    let display = Display::on_standard_error();
    display.show_start(&source.name(), &scenario, &records, runtime.engine());
    let cycle_display = display.clone();
    runtime.observe_cycles(move |cycle| cycle_display.show_cycle(cycle));

    // Without an interval there is no pause to end: the runtime reads its commands before each
    // cycle.
    if !arguments.interval.is_zero() {
        let warning = runtime.notify_on_command(move |result| match result {
            Ok(()) => command_waker.wake(),
            Err(error) => {
                let problem = "cannot follow the bus; commands are read before each cycle only";
                print_warning(PROGRAM, &format!("{problem}: {error}"));
            }
        })?;
        if let Some(warning) = warning {
            print_warning(PROGRAM, &warning);
        }
    }
    let result = runtime.run(arguments.cycles(), arguments.interval, |duration| pauser.pause(duration));
    report_checkpoint_problem(runtime.checkpoint_problem());
    let end = result.map_err(Into::into).and_then(|last| print_result(&runtime, last.as_ref()));
    // After the cycle record on standard output, which would push the summary off the screen.
    display.show_summary(runtime.engine());
    end
}

/// Warns of symbols of the scenario that look like the symbol of a recovered position.
fn warn_of_held_lookalikes(scenario: &Scenario, runtime: &Runtime) {
    let ordered: Vec<&str> = scenario.orders.iter().map(|order| order.symbol.as_str()).collect();
    let held = runtime.engine().book().iter().map(|(symbol, _)| symbol);
    for (first, second) in lookalikes(ordered.iter().copied().chain(held)) {
        // The scenario has warned of the pairs within it.
        if !ordered.contains(&second) {
            print_warning(PROGRAM, &describe_lookalikes(first, second));
        }
    }
}

/// Prints the last cycle record and, if the operator stopped the run, the command that did.
fn print_result(runtime: &Runtime, last: Option<&CycleRecord>) -> Result<RunEnd> {
    let killed_by = runtime.killed_by();
    report_kill(killed_by);
    let outcome = match last {
        Some(cycle) => print(&Json::of(cycle)?.pretty(), Outcome::Passed)?,
        None => Outcome::Passed,
    };
    Ok(RunEnd::of(killed_by, outcome))
}

fn run_parity(arguments: &Arguments, scenario: &Scenario, clock: Arc<dyn Clock>) -> Result<Outcome> {
    let ignored = [
        ("--journal", arguments.journal.is_some()),
        ("--cycle-journal", arguments.cycle_journal.is_some()),
        ("--runtime-bus", arguments.runtime_bus.is_some()),
    ];
    for (option, _) in ignored.iter().filter(|(_, given)| *given) {
        let output = arguments.output.display();
        let warning =
            format!("{option} has no effect with --production-parity; the records are written to {output}");
        print_warning(PROGRAM, &warning);
    }
    let report =
        parity::run(scenario, arguments.reduce_only_rule(), &arguments.output, arguments.cycles(), clock)?;
    for (check, _) in report.checks.iter().filter(|(_, passed)| !**passed) {
        print_message(PROGRAM, &format!("the check {check} failed"));
    }
    print(&Json::of(&report)?.pretty(), Outcome::of(report.ok))
}
