//! `zero-bus replay`: re-run a recorded run and compare it with the record.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use zero_bus::{Checksum, Json, Progress, Reader};
use zero_paper::position::PositionRecord;
use zero_paper::reached_limit::LimitNumbers;
use zero_paper::repeated_keys::{describe_repeated, repeated_keys};
use zero_paper::replay::{
    Certificate, ChangedDecision, Difference, EngineIdentity, LimitOverrides, Replay, TakenFromRecord, Tally,
    WhatIf, replay, replay_strategy, what_if,
};
use zero_paper::strategy;
use zero_paper::text::{counted, escape, format_amounts_apart, format_number};
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::input::Input;
use crate::output_file::OutputFile;
use crate::program::PROGRAM;
use crate::progress::Bar;
use crate::retired_error::with_advice;
use crate::table::column_width;

/// Re-run a recorded run, and compare event by event.
///
/// Today's engine decides the recorded orders again. Cycle record, decision, fill or rejection,
/// positions and health must be the same; the first difference is shown field by field, with exit
/// code 1. With --limits, the recorded run and the run under the other limits are shown side by
/// side, and which decisions change.
///
/// With --strategy, a strategy decides again on the recorded bars, in place of the recorded orders.
/// A strategy whose decisions depend on anything but what the runtime showed it, such as the clock
/// or random numbers, gives other decisions. In a cycle in which it failed, the recorded failure
/// counts.
///
/// A run of `zero-engine-run --trust-reduce-only` can contain reduce-only orders that were accepted
/// although they did not reduce a position. They are replayed under that rule, and counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus replay bus
  zero-bus replay bus --limits wider.json      with wider.json: {\"max_notional_usd\": 5000}
  zero-bus replay bus --limits scenario.json --json
  zero-bus replay bus --strategy sma-cross:fast=5,slow=20,quantity=0.5
  zero-bus replay bus --strategy \"exec:python3 my_strategy.py\" --certificate certificate.json

Exit codes: 0 passed, 1 failed (an event differs, or the log is damaged), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The other limits: a JSON object of limits, or a scenario; `-` is standard input. Limits that
    /// it does not name stay as recorded.
    #[arg(long, value_name = "FILE", conflicts_with = "strategy")]
    limits: Option<PathBuf>,
    /// The strategy that decides again: close-above-open:FILE, sma-cross:fast=N,slow=M,quantity=Q,
    /// or exec:COMMAND, as the run had it.
    #[arg(long, value_name = "SPEC")]
    strategy: Option<String>,
    /// How long a strategy's program may take for an answer.
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "strategy", value_parser = parse_timeout)]
    strategy_timeout: Duration,
    /// Write a certificate of the result into this file (mode 0600), which is replaced as a whole.
    #[arg(long, value_name = "FILE", requires = "strategy")]
    certificate: Option<PathBuf>,
    /// Print one JSON object: {"cycles", "difference", "events", "events_missing",
    /// "trusted_reduce_only"}; with --limits: {"changed_decisions", "changes", "cycles",
    /// "recorded", "trusted_reduce_only", "what_if"}; with --strategy: the certificate.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    // The state of the engine follows from all events of a run.
    let advice = "replay that copy; this log lacks what the run began with";
    run_replay(arguments).map_err(|error| with_advice(error, advice))
}

fn run_replay(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("replaying");
    let mut show_progress = |progress| bar.show(progress);
    if let Some(path) = &arguments.limits {
        let comparison = what_if(&reader, read_limits(path)?, &mut show_progress)?;
        drop(bar);
        let text =
            if arguments.json { Json::of(&comparison)?.to_string() } else { render_what_if(&comparison) };
        return print(&text, Outcome::Passed);
    }
    if let Some(spec) = &arguments.strategy {
        return run_strategy(arguments, spec, &reader, &mut show_progress);
    }
    let result = replay(&reader, &mut show_progress)?;
    drop(bar);
    let text = if arguments.json { Json::of(&result)?.to_string() } else { render_replay(&result) };
    print(&text, Outcome::of(result.difference.is_none()))
}

fn run_strategy(
    arguments: &Arguments,
    spec: &str,
    reader: &Reader,
    show_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Outcome> {
    let file = arguments.certificate.as_deref();
    let file = file.map(|path| OutputFile::resolve(path, &arguments.dir)).transpose()?;
    let mut strategy = strategy::open(spec, arguments.strategy_timeout)?;
    let result = replay_strategy(reader, &mut *strategy, this_program()?, show_progress)?;
    result.warnings.iter().for_each(|warning| print_message(PROGRAM, &escape(warning)));
    let certificate = &result.certificate;
    let document = Json::of(certificate)?;
    if let Some(file) = file {
        file.write(format!("{document}\n").as_bytes())?;
    }
    let text = if arguments.json { document.to_string() } else { render_certificate(certificate) };
    print(&text, Outcome::of(certificate.difference.is_none()))
}

/// This program, as the certificate names it.
fn this_program() -> Result<EngineIdentity> {
    let read = || std::fs::read(std::env::current_exe()?);
    let program = read().context("cannot read this program's own file for its checksum")?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(EngineIdentity { name: PROGRAM.to_owned(), sha256: Checksum::of(&program), version })
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    timeout.ok_or_else(|| format!("`{text}` is not a number of seconds above 0"))
}

fn read_limits(path: &Path) -> Result<LimitOverrides> {
    let input = Input::open(path)?;
    let name = input.name.clone();
    let text = input.read_all()?;
    let limits = LimitOverrides::parse(&text).map_err(|problem| anyhow!("{name}: {problem}"))?;
    for field in repeated_keys(&text) {
        print_warning(PROGRAM, &format!("{name}: {}", describe_repeated(&field)));
    }
    Ok(limits)
}

fn render_replay(result: &Replay) -> String {
    let Replay { cycles, events, events_missing, .. } = result;
    if result.difference.is_none() && *cycles == 0 {
        return "nothing to replay: no cycle is recorded".to_owned();
    }
    let trusted = render_trusted(result.trusted_reduce_only, "replayed");
    let Some(difference) = &result.difference else {
        let incomplete = match events_missing {
            0 => String::new(),
            missing => format!(
                "; the last cycle lacks {}: it is in progress, or a crash cut it short",
                counted(*missing, "event")
            ),
        };
        let (cycles, events) = (counted(*cycles, "cycle"), counted(*events, "event"));
        return format!("{cycles}, {events}: all as recorded{incomplete}{trusted}");
    };
    let lines = render_difference(difference);
    format!("{lines}\nevents before it that are as recorded: {events}{trusted}")
}

/// Renders an event that differs, field by field.
fn render_difference(difference: &Difference) -> String {
    let Difference { cycle_id, event_id, event_type, fields } = difference;
    let event_type = escape(event_type);
    let mut lines = vec![format!("cycle {cycle_id}: {event_id} {event_type} differs from the record")];
    let paths: Vec<String> = fields.iter().map(|field| escape(&field.path)).collect();
    let width = column_width(paths.iter().map(String::as_str), 60).max(5);
    for (field, path) in fields.iter().zip(&paths) {
        lines.push(format!("  {path:width$}  recorded  {}", field.before));
        lines.push(format!("  {:width$}  replayed  {}", "", field.after));
    }
    lines.join("\n")
}

fn render_certificate(certificate: &Certificate) -> String {
    let Certificate { cycles, decisions, difference, strategy, taken_from_record, .. } = certificate;
    let name = format!("{} {}", strategy.name, strategy.version);
    let mut lines = vec![
        format!("strategy   {}", escape(name.trim_end())),
        format!("decisions  {} of {} reproduced", decisions.reproduced, decisions.recorded),
        format!("cycles     {} of {} reproduced", cycles.reproduced, cycles.recorded),
    ];
    let TakenFromRecord { failures, orders } = taken_from_record;
    for (count, what) in
        [(failures, "in which the strategy failed"), (orders, "about an order of another program")]
    {
        if *count > 0 {
            lines.push(format!("           {} {what} taken from the record", counted(*count, "cycle")));
        }
    }
    lines.extend(difference.as_ref().map(render_difference));
    lines.join("\n")
}

/// Renders that a run needs the legacy reduce-only rule, on a line of its own, or returns nothing.
fn render_trusted(trusted_reduce_only: u64, what: &str) -> String {
    match trusted_reduce_only {
        0 => String::new(),
        count => format!(
            "\n{what} under the legacy rule (--trust-reduce-only): {} accepted without reducing a position",
            counted(count, "reduce-only order")
        ),
    }
}

/// Renders a table of three columns: name, recorded, what if.
fn render_what_if(comparison: &WhatIf) -> String {
    let WhatIf { cycles, recorded, trusted_reduce_only, what_if, .. } = comparison;
    let mut rows = vec![[String::new(), "recorded".to_owned(), "what if".to_owned()]];
    let mut add_row = |name: &str, cell: &dyn Fn(&Tally) -> String| {
        rows.push([name.to_owned(), cell(recorded), cell(what_if)]);
    };
    add_row("cycles", &|_| cycles.to_string());
    add_row("fills", &|tally| tally.fills.to_string());
    add_row("rejections", &|tally| tally.rejections.values().sum::<u64>().to_string());
    let reasons: BTreeSet<&String> = recorded.rejections.keys().chain(what_if.rejections.keys()).collect();
    for reason in reasons {
        add_row(&format!("  {}", escape(reason)), &|tally| {
            tally.rejections.get(reason).copied().unwrap_or_default().to_string()
        });
    }
    let mut add_amounts = |name: &str, amount: fn(&Tally) -> f64| {
        let [recorded, what_if] = format_amounts_apart([amount(recorded), amount(what_if)]);
        rows.push([name.to_owned(), recorded, what_if]);
    };
    add_amounts("max exposure, USD", |tally| tally.exposure_max_usd);
    add_amounts("last exposure, USD", |tally| tally.exposure_last_usd);
    if recorded.equity_usd.is_some() {
        add_amounts("equity, USD", |tally| tally.equity_usd.unwrap_or_default());
    }
    let symbols: BTreeSet<&String> = [recorded, what_if]
        .into_iter()
        .flat_map(|tally| tally.positions.iter().map(|position| &position.symbol))
        .collect();
    for symbol in symbols {
        let positions = [recorded, what_if]
            .map(|tally| tally.positions.iter().find(|position| position.symbol == *symbol));
        let [recorded_price, what_if_price] =
            format_amounts_apart(positions.map(|position| position.map_or(0.0, |record| record.avg_price)));
        let cell = |position: Option<&PositionRecord>, price| match position {
            Some(record) => format!("{} @ {price}{}", record.quantity, record.position().residue_note()),
            None => "-".to_owned(),
        };
        rows.push([
            format!("  {}", escape(symbol)),
            cell(positions[0], recorded_price),
            cell(positions[1], what_if_price),
        ]);
    }
    let width = |column: usize| column_width(rows.iter().map(|row| row[column].as_str()), 60);
    let (first, second, third) = (width(0), width(1), width(2));
    let render_row = |[name, recorded, what_if]: &[String; 3]| {
        format!("{name:first$}  {recorded:>second$}  {what_if:>third$}")
    };
    let table = rows.iter().map(render_row).collect::<Vec<_>>().join("\n");
    table + &render_changes(comparison) + &render_trusted(*trusted_reduce_only, "both")
}

/// The changed decisions that the text names.
const MAX_RENDERED_CHANGES: usize = 20;

/// Renders the decisions that change, on lines of their own.
fn render_changes(comparison: &WhatIf) -> String {
    let WhatIf { changed_decisions, changes, .. } = comparison;
    if changes.is_empty() {
        return String::new();
    }
    let mut lines = vec![String::new(), format!("{}:", counted(*changed_decisions, "changed decision"))];
    let outcome = |outcome: &Option<zero_paper::replay::Outcome>| match outcome {
        None => "no such order".to_owned(),
        Some(outcome) => {
            let numbers = outcome.limit.clone().map(|limit| format!(" ({})", LimitNumbers::from(limit)));
            escape(&outcome.reason) + &numbers.unwrap_or_default()
        }
    };
    let rendered = changes.iter().take(MAX_RENDERED_CHANGES);
    lines.extend(rendered.map(|change| {
        let ChangedDecision { cycle_id, quantity, recorded, side, symbol, what_if } = change;
        let (quantity, symbol) = (format_number(*quantity), escape(symbol));
        let (recorded, what_if) = (outcome(recorded), outcome(what_if));
        format!("  cycle {cycle_id}  {side} {quantity} {symbol}: {recorded} -> {what_if}")
    }));
    let more = changed_decisions - changed_decisions.min(&(MAX_RENDERED_CHANGES as u64));
    if more > 0 {
        lines.push(format!("  and {more} more; --json names up to 1000 of them"));
    }
    lines.join("\n")
}
