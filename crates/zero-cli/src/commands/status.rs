//! `zero-bus status`: say whether a runtime is alive on a bus.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use zero_bus::storage::Directory;
use zero_bus::{Head, Json, Reader};
use zero_paper::event_types::{CYCLE, OPERATOR_APPLIED, OPERATOR_COMMAND};
use zero_paper::operator::{Action, Command, CommandsInForce};
use zero_paper::risk::TradingMode;
use zero_paper::start_checkpoint::recorded_commands;
use zero_paper::{Clock, SystemClock};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::anchor::{Anchor, AnchorArguments};
use crate::liveness::{LastCycle, RuntimeLock, check_age};
use crate::terminal::{mark, report_torn_tail};
use crate::time_arg::parse_duration;

/// Show whether a runtime is alive, and what is in force.
///
/// A runtime is alive if a process holds the exclusive lock of the bus directory. Shows the age of
/// the last cycle, the operator's command in force and the head. Nothing is changed.
///
/// Of a long log, only the end is read: from the start-up checkpoint of the runtime on, if the log
/// has the event that it names. `zero-bus verify` reads all of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus status bus
  zero-bus status bus --max-age 5m
  zero-bus status bus --json

Exit codes: 0 passed, 1 failed (no runtime is alive, the last cycle is older than --max-age, or the end of the log is damaged),
2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory of the runtime.
    dir: PathBuf,
    /// Fail if the last cycle is older than this: 90s, 10m, 2h or 1d.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<f64>,
    #[command(flatten)]
    anchor: AnchorArguments,
    /// Print one JSON object: {"alive", "command", "head", "last_cycle", "ok", "process_id",
    /// "reasons", "trading_mode"}; with --policy also "anchor", as `zero-bus verify` prints it.
    #[arg(long)]
    json: bool,
}

/// Programs read the field names.
#[derive(Serialize)]
struct Document<'a> {
    alive: bool,
    /// Absent without --policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<&'a Anchor>,
    /// The governing command; null if none restricts trading.
    command: Option<CommandRecord>,
    head: Head,
    last_cycle: Option<CycleRecord>,
    ok: bool,
    /// Null if no runtime is alive, or if it runs in another container.
    process_id: Option<u32>,
    /// Why `ok` is false.
    reasons: Vec<String>,
    trading_mode: &'static str,
}

#[derive(Serialize)]
struct CommandRecord {
    action: Option<&'static str>,
    actor: String,
    event_index: u64,
    reason: String,
}

#[derive(Serialize)]
struct CycleRecord {
    age_s: f64,
    as_of: f64,
    cycle_id: Option<u64>,
    event_index: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    check(arguments, &reader).or_else(|error| {
        // What was signed is compared even if the log cannot be read otherwise.
        arguments.anchor.print_alone(&arguments.dir, &reader, arguments.json)?;
        Err(error)
    })
}

fn check(arguments: &Arguments, reader: &Reader) -> Result<Outcome> {
    let dir = &arguments.dir;
    // The lock comes before the log: the last cycle of a runtime that ends meanwhile is then read.
    let lock = RuntimeLock::of(dir)?;
    let LogEnd { commands_in_force, last_cycle, torn_bytes } = LogEnd::read(dir, reader)?;
    report_torn_tail(torn_bytes);

    let process_id = match lock {
        RuntimeLock::Held { process_id } => process_id,
        RuntimeLock::Free => None,
    };
    let alive = lock != RuntimeLock::Free;
    let now = SystemClock.now();
    let cycle = match last_cycle {
        Some(cycle) => check_age(cycle.age_s(now), arguments.max_age),
        None if arguments.max_age.is_some() => Err("none on the bus".to_owned()),
        None => Ok("none on the bus".to_owned()),
    };
    let mut reasons = Vec::new();
    if !alive {
        reasons.push(lock.describe());
    }
    if let Err(problem) = &cycle {
        reasons.push(format!("last cycle: {problem}"));
    }
    let anchor = arguments.anchor.compare(dir, reader)?;
    reasons
        .extend(anchor.iter().filter(|anchor| !anchor.ok).map(|anchor| format!("anchor: {}", anchor.reason)));
    let ok = reasons.is_empty();
    let governing = commands_in_force.governing();
    if arguments.json {
        let document = Document {
            alive,
            anchor: anchor.as_ref(),
            command: governing.map(command_record),
            head: reader.head()?,
            last_cycle: last_cycle.map(|cycle| CycleRecord {
                age_s: cycle.age_s(now),
                as_of: cycle.as_of,
                cycle_id: cycle.cycle_id,
                event_index: cycle.event_index,
            }),
            ok,
            process_id,
            reasons,
            trading_mode: mode_name(commands_in_force.trading_mode()),
        };
        return print(Json::of(&document)?.as_str(), Outcome::of(ok));
    }
    let (cycle_ok, Ok(age) | Err(age)) = (cycle.is_ok(), cycle);
    let number = match last_cycle.and_then(|cycle| cycle.cycle_id) {
        Some(cycle_id) => format!("cycle {cycle_id}, "),
        None => String::new(),
    };
    let command = governing.map_or("no command in force".to_owned(), Command::describe);
    let mut lines = vec![
        format!("runtime     {}  {}", mark(alive), lock.describe()),
        format!("last cycle  {}  {number}{age}", mark(cycle_ok)),
        format!("operator          {command}"),
        format!("head              {}", reader.head()?),
    ];
    lines.extend(anchor.map(|anchor| format!("anchor      {}  {}", mark(anchor.ok), anchor.describe())));
    print(&lines.join("\n"), Outcome::of(ok))
}

/// How many events before the start-up checkpoint are read first, in search of a cycle.
const EVENTS_BEFORE_CHECKPOINT: u64 = 64;

/// What the end of a log says.
struct LogEnd {
    commands_in_force: CommandsInForce,
    last_cycle: Option<LastCycle>,
    torn_bytes: u64,
}

impl LogEnd {
    /// Reads the log from the start-up checkpoint on, and before it as far as the last cycle.
    fn read(dir: &Path, reader: &Reader) -> Result<Self> {
        let directory = Directory::open(dir).with_context(|| format!("{}: cannot open it", dir.display()))?;
        let (known_commands, known_until) = recorded_commands(Arc::new(directory), reader)?;
        let first = reader.first_index()?;
        let mut events_before = EVENTS_BEFORE_CHECKPOINT;
        loop {
            let from = (known_until.saturating_sub(events_before) + 1).max(first);
            let mut commands_in_force = known_commands.clone();
            let mut last_cycle = None;
            let is_needed = |event_type: &str, _: Option<&str>| {
                [CYCLE, OPERATOR_COMMAND, OPERATOR_APPLIED].contains(&event_type)
            };
            let selected = reader.select(from, is_needed, |event| {
                if event.index > known_until {
                    commands_in_force.apply(&event);
                }
                last_cycle = LastCycle::of(&event).or(last_cycle);
                Ok::<(), zero_bus::Error>(())
            })?;
            if last_cycle.is_some() || from == first {
                return Ok(Self { commands_in_force, last_cycle, torn_bytes: selected.torn_bytes });
            }
            events_before = events_before.saturating_mul(4);
        }
    }
}

fn command_record(command: &Command) -> CommandRecord {
    CommandRecord {
        action: command.action.map(Action::name),
        actor: command.actor.clone(),
        event_index: command.index,
        reason: command.reason.clone(),
    }
}

/// The trading mode in the document. Other programs read these names.
fn mode_name(mode: TradingMode) -> &'static str {
    match mode {
        TradingMode::Open => "open",
        TradingMode::ReduceOnly => "reduce-only",
        TradingMode::Paused => "paused",
        TradingMode::Killed => "killed",
    }
}
