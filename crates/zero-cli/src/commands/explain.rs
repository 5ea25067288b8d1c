//! `zero-bus explain`: explain one cycle.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use zero_bus::{Event, Json, Reader, event_id, index_of_id};
use zero_paper::cycle::trace_id;
use zero_paper::event_types::{CYCLE, OBSERVATION};
use zero_paper::explain::Explanation;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::event_ref::no_such_event;

/// Explain one cycle: input, decision, limits and effect.
///
/// Shows what the runtime observed, which limit decided and with what numbers, what changed, and
/// which events record it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus explain bus 42
  zero-bus explain bus runtime-cycle-42
  zero-bus explain bus evt-000000000208 --json

Exit codes: 0 passed, 1 failed (the log is damaged), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The cycle, by its number (42), its trace (runtime-cycle-42) or the id of one of its events
    /// (evt-000000000208). If several runs on the bus have the cycle, a number or a trace names the
    /// last one.
    #[arg(value_name = "CYCLE|TRACE|EVENT")]
    subject: String,
    /// Print one JSON object: {"cycle", "events", "limit", "position"}, or for a cycle on market
    /// data {"cycle", "decisions", "events", "market"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let (dir, subject) = (arguments.dir.display(), &arguments.subject);
    let events = match index_of_id(subject) {
        Some(index) => {
            let event = reader.event(index)?.ok_or_else(|| no_such_event(&reader, index))?;
            cycle_around(&reader, &event)?
        }
        None => {
            let trace = subject.parse().map_or_else(|_| subject.clone(), trace_id);
            let events = last_cycle_of_trace(&reader, &trace)?;
            match reader.retired()? {
                Some(retired) if !has_beginning(&events) => {
                    bail!(
                        "{dir}: has no cycle {subject} from its start on: {retired}; the copy can explain it"
                    )
                }
                _ if events.is_empty() => bail!(
                    "{dir}: has no cycle {subject}; name a cycle by its number, its trace or the id of an event"
                ),
                _ => events,
            }
        }
    };
    let first_id = events.first().map_or_else(String::new, Event::id);
    let explanation = Explanation::of(&events).map_err(|problem| anyhow!("{dir}: {first_id}: {problem}"))?;
    let text = if arguments.json { Json::of(&explanation)?.to_string() } else { explanation.to_string() };
    print(&text, Outcome::Passed)
}

/// The events of a trace, from the beginning of its last cycle on.
fn last_cycle_of_trace(reader: &Reader, trace: &str) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    reader.select(
        reader.first_index()?,
        |_, trace_id| trace_id == Some(trace),
        |event| {
            if begins_cycle(&event, events.last()) {
                events.clear();
            }
            events.push(event);
            Ok::<(), zero_bus::Error>(())
        },
    )?;
    Ok(events)
}

/// Whether an event is the first one of a cycle. A cycle on market data begins with its
/// observation, every other one with its cycle record.
fn begins_cycle(event: &Event, previous: Option<&Event>) -> bool {
    let follows_observation = previous
        .is_some_and(|previous| previous.event_type == OBSERVATION && previous.trace_id == event.trace_id);
    event.event_type == OBSERVATION || (event.event_type == CYCLE && !follows_observation)
}

/// Whether the record of the cycle is among its events. Every cycle has it at its beginning.
fn has_beginning(events: &[Event]) -> bool {
    events.iter().any(|event| event.event_type == CYCLE)
}

/// How many events before an event the beginning of its cycle is looked for, and half of how many
/// events a cycle may span.
const MAX_DISTANCE: u64 = 1024;

/// The events of the cycle that `event` belongs to: the events of its trace around it, from the
/// beginning of the cycle on.
fn cycle_around(reader: &Reader, event: &Event) -> Result<Vec<Event>> {
    let Some(trace) = &event.trace_id else { bail!("{} does not belong to a cycle", event.id()) };
    // The events of a cycle are appended together. Only if a crash cut a cycle in two may foreign
    // events stand between the parts, so going back stops at the first event of another trace.
    let (mut first_index, mut first) = (event.index, event.clone());
    let first_held = reader.first_index()?;
    while first_index > first_held && event.index - first_index < MAX_DISTANCE {
        let previous =
            reader.event(first_index - 1)?.filter(|earlier| earlier.trace_id.as_ref() == Some(trace));
        match previous {
            Some(earlier) if !begins_cycle(&first, Some(&earlier)) => {
                (first_index, first) = (first_index - 1, earlier);
            }
            _ => break,
        }
    }
    let mut events: Vec<Event> = Vec::new();
    for candidate in reader.events(first_index)? {
        let candidate = candidate?;
        let next_cycle = !events.is_empty() && begins_cycle(&candidate, events.last());
        if next_cycle || candidate.index - first_index > 2 * MAX_DISTANCE {
            break;
        }
        if candidate.trace_id.as_ref() == Some(trace) {
            events.push(candidate);
        }
    }
    if !has_beginning(&events) {
        if let Some(retired) = reader.retired()?.filter(|_| first_index == first_held) {
            bail!(
                "{}: the beginning of its cycle is missing: {retired}; the copy can explain it",
                event.id()
            );
        }
        bail!(
            "{}: the cycle record before it is missing; name the cycle by its number",
            event_id(event.index)
        );
    }
    Ok(events)
}
