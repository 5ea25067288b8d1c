//! `zero-bus command`: tell a running runtime what to do.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use zero_bus::{Bus, Event, Reader, Value};
use zero_paper::event_types::{OPERATOR_APPLIED as APPLIED, OPERATOR_COMMAND as COMMAND};
use zero_paper::operator::{Action, Command, CommandsInForce, command};
use zero_paper::{Clock, SystemClock};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::PROGRAM;
use crate::commands::append;

/// Tell a runtime what to do, from any terminal; it obeys before its next decision.
///
/// pause: only orders that reduce are accepted. reduce-only: the same, as a policy. flatten: every position is closed at the
/// last known price, then reduce-only. kill: nothing more is accepted, the runtime ends, and a start is refused until there
/// is a resume. resume: takes back what was obeyed before. Of two that disagree, the safer one counts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus command bus pause --actor ops --reason 'spread too wide'
  zero-bus command bus flatten --wait 5
  zero-bus command bus resume")]
pub(crate) struct Arguments {
    /// The bus directory of the runtime.
    dir: PathBuf,
    /// What to do.
    #[arg(value_parser = PossibleValuesParser::new(Action::ALL.map(Action::name)).try_map(named))]
    action: Action,
    /// Who says so.
    #[arg(long, value_name = "NAME", default_value = "operator")]
    actor: String,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Wait this long until the runtime has obeyed, and print what it says of it; exit 1 where it has not.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    wait: Option<u64>,
}

fn named(name: String) -> Result<Action, String> {
    Action::named(&name).ok_or_else(|| format!("`{name}` is no command"))
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let dir = &arguments.dir;
    // A command to a bus that is not there would be heard by nobody.
    if Reader::open(dir)?.head()?.index == 0 {
        bail!(
            "{}: there is no event here, so no runtime has run on it; name the bus of a runtime",
            dir.display()
        );
    }
    let now = SystemClock.now();
    let bus = append::open(dir)?;
    let given = bus.append(command(arguments.action, &arguments.actor, &arguments.reason, now)?)?;
    print(&given.line(), Outcome::Passed)?;
    if arguments.action == Action::Resume
        && let Some(before) = unapplied(&bus.reader(), given.index)?
    {
        print_message(
            PROGRAM,
            &format!(
                "warning: {} is not obeyed yet, so this resume does not take it back; is a runtime running? give the resume again \
                 once it has started",
                before.describe()
            ),
        );
    }
    let Some(seconds) = arguments.wait else { return Ok(Outcome::Passed) };
    match wait(&bus, &given, Duration::from_secs(seconds))? {
        Some(applied) => print(&applied.line(), Outcome::Passed),
        None => {
            print_message(
                PROGRAM,
                &format!(
                    "{} was not obeyed within {seconds} s; is the runtime running? the command stands, and its next start obeys it",
                    given.id()
                ),
            );
            Ok(Outcome::Failed)
        }
    }
}

/// A command given before the one at an index that binds and that no runtime has obeyed.
fn unapplied(reader: &Reader, index: u64) -> Result<Option<Command>> {
    let mut commands_in_force = CommandsInForce::default();
    let speaks = |event_type: &str, _: Option<&str>| event_type == COMMAND || event_type == APPLIED;
    reader.select(1, speaks, |event| {
        commands_in_force.apply(&event);
        Ok::<(), zero_bus::Error>(())
    })?;
    Ok(commands_in_force.first_pending_restriction().filter(|command| command.index < index).cloned())
}

/// The event that says that a command was obeyed, if it comes in time.
fn wait(bus: &Bus, given: &Event, at_most: Duration) -> Result<Option<Event>> {
    let mut follow = bus.reader().follow(given.index + 1)?;
    let end = Instant::now() + at_most;
    while let Some(event) = follow.next_timeout(end.saturating_duration_since(Instant::now()))? {
        let named = event.payload.value().get("command_index").and_then(Value::as_u64);
        if event.event_type == APPLIED && named == Some(given.index) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}
