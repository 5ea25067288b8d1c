//! `zero-bus command`: give a runtime an operator command.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use zero_bus::{Bus, Event, Reader, Value};
use zero_paper::event_types::{OPERATOR_APPLIED as APPLIED, OPERATOR_COMMAND as COMMAND};
use zero_paper::operator::{Action, Command, CommandsInForce, command};
use zero_paper::{Clock, SystemClock};
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::commands::append;
use crate::json_option::AlwaysJson;
use crate::liveness::RuntimeLock;
use crate::program::PROGRAM;

/// Give a runtime an operator command.
///
/// The runtime applies it before its next decision. pause: accept only orders that reduce a
/// position. reduce-only: the same, as a policy. flatten: close every position at the last known
/// price, then reduce-only. kill: accept nothing, end the runtime, and refuse a start until a
/// resume. resume: withdraw the commands that were applied before it. Of conflicting commands, the
/// safer one is in force. Warns if no runtime is alive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus command bus pause --actor ops --reason 'spread too wide'
  zero-bus command bus flatten --wait 5
  zero-bus command bus resume

Exit codes: 0 passed, 1 failed (not applied within --wait, or the log is damaged), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory of the runtime.
    dir: PathBuf,
    /// The command.
    #[arg(value_parser = PossibleValuesParser::new(Action::ALL.map(Action::name)).try_map(parse_action))]
    action: Action,
    /// Who gives the command.
    #[arg(long, value_name = "NAME", default_value = "operator")]
    actor: String,
    /// Why the command is given.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Wait up to this long until the runtime has applied the command, and print the event that
    /// says so; exit 1 if it has not.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    wait: Option<u64>,
    #[command(flatten)]
    _json: AlwaysJson,
}

fn parse_action(name: String) -> Result<Action, String> {
    Action::named(&name).ok_or_else(|| format!("`{name}` is not a command"))
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let dir = &arguments.dir;
    // An empty bus belongs to no runtime: a command on it would have no effect, and the path is
    // probably mistyped.
    if Reader::open(dir)?.head()?.index == 0 {
        bail!("{}: the bus is empty, so no runtime has run on it; name the bus of a runtime", dir.display());
    }
    let lock = RuntimeLock::of(dir)?;
    let now = SystemClock.now();
    let bus = append::open(dir)?;
    let given = bus.append(command(arguments.action, &arguments.actor, &arguments.reason, now)?)?;
    print(&given.line(), Outcome::Passed)?;
    if lock == RuntimeLock::Free {
        print_warning(
            PROGRAM,
            &format!(
                "no runtime holds {}, so nothing acts on the {} now; the next start applies it",
                dir.display(),
                arguments.action.name()
            ),
        );
    }
    if arguments.action == Action::Resume
        && let Some(unapplied) = unapplied_before(&bus.reader(), given.index)?
    {
        print_warning(
            PROGRAM,
            &format!(
                "{} is not applied yet, so this resume does not withdraw it; is the runtime running? give the resume again \
                 once it is",
                unapplied.describe()
            ),
        );
    }
    let Some(wait_s) = arguments.wait else { return Ok(Outcome::Passed) };
    match wait_until_applied(&bus, &given, Duration::from_secs(wait_s))? {
        Some(applied) => print(&applied.line(), Outcome::Passed),
        None => {
            print_message(
                PROGRAM,
                &format!(
                    "{} was not applied within {wait_s} s; is the runtime running? the command stays in force, and the \
                     runtime applies it at its next start",
                    given.id()
                ),
            );
            Ok(Outcome::Failed)
        }
    }
}

/// A command in force that was given before the event at `index` and that no runtime has applied.
fn unapplied_before(reader: &Reader, index: u64) -> Result<Option<Command>> {
    let mut commands_in_force = CommandsInForce::default();
    let is_operator_event =
        |event_type: &str, _: Option<&str>| event_type == COMMAND || event_type == APPLIED;
    reader.select(reader.first_index()?, is_operator_event, |event| {
        commands_in_force.apply(&event);
        Ok::<(), zero_bus::Error>(())
    })?;
    Ok(commands_in_force.first_pending_restriction().filter(|command| command.index < index).cloned())
}

/// Waits for the event that records that a command was applied. Returns `None` after the timeout.
fn wait_until_applied(bus: &Bus, given: &Event, timeout: Duration) -> Result<Option<Event>> {
    let mut follow = bus.reader().follow(given.index + 1)?;
    if let Some(warning) = follow.warning() {
        print_warning(PROGRAM, warning);
    }
    let deadline = Instant::now() + timeout;
    while let Some(event) = follow.next_timeout(deadline.saturating_duration_since(Instant::now()))? {
        let command_index = event.payload.value().get("command_index").and_then(Value::as_u64);
        if event.event_type == APPLIED && command_index == Some(given.index) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}
