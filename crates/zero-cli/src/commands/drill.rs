//! `zero-bus drill`: drill the limits of runs on market data.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use zero_bus::Json;
use zero_paper::limit_drills::{LimitDrill, LimitDrills, run as run_drills};
use zero_paper::market::run_file::RunFile;
use zero_paper::reached_limit::LimitNumbers;
use zero_paper::repeated_keys::describe_repeated;
use zero_paper::text::format_number;
use zero_program::message::print_warning;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::input::Input;
use crate::program::PROGRAM;
use crate::table::column_width;
use crate::terminal::{fail_mark, ok_mark};

/// Drill the limits of a run file, and show the numbers.
///
/// Each of the five limits that only runs on market data have is driven just below its bound, past
/// it and back, on made-up prices: gross exposure, daily loss, drawdown, order rate, data age. An
/// order below the limit and an order that reduces a position must be accepted, an order past the
/// limit must be rejected with its reason and its numbers. Limits that the file does not set are
/// drilled with an example. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus drill run.json
  zero-bus drill --json

Exit codes: 0 passed, 1 failed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The run file or the scenario with the limits; `-` is standard input. [default: examples]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object: {"drills": [{"bound", "bound_of_run_file", "failure", "limit",
    /// "steps"}], "passed", "schema_version"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let file = match &arguments.file {
        None => RunFile::default(),
        Some(path) => {
            let input = Input::open(path)?;
            let name = input.name.clone();
            let run = RunFile::parse(&input.read_all()?).map_err(|problem| anyhow!("{name}: {problem}"))?;
            for field in &run.ignored {
                print_warning(PROGRAM, &format!("{name}: {field}: is not known and has no effect"));
            }
            for field in &run.repeated {
                print_warning(PROGRAM, &format!("{name}: {}", describe_repeated(field)));
            }
            run
        }
    };
    let result = run_drills(&file);
    let text = if arguments.json { Json::of(&result)?.to_string() } else { render(&result) };
    print(&text, Outcome::of(result.passed))
}

fn render(result: &LimitDrills) -> String {
    let steps = result.drills.iter().flat_map(|drill| &drill.steps);
    let width = column_width(steps.map(|step| step.order), 80);
    let lines = result.drills.iter().flat_map(|drill| render_drill(drill, width));
    lines.collect::<Vec<_>>().join("\n")
}

fn render_drill(drill: &LimitDrill, width: usize) -> Vec<String> {
    let LimitDrill { bound, bound_of_run_file, failure, limit, steps } = drill;
    let mark = if failure.is_none() { ok_mark() } else { fail_mark() };
    let example = if *bound_of_run_file { "" } else { " (example; the limit is not set)" };
    let mut lines = vec![format!("{mark}  {limit} {}{example}", format_number(*bound))];
    lines.extend(steps.iter().map(|step| {
        let numbers = step.limit.clone().map(|limit| format!(" ({})", LimitNumbers::from(limit)));
        let decided = if step.allowed { "accepted".to_owned() } else { format!("rejected: {}", step.reason) };
        format!("      {:width$}  {decided}{}", step.order, numbers.unwrap_or_default())
    }));
    lines.extend(failure.iter().map(|failure| format!("      failed: {failure}")));
    lines
}
