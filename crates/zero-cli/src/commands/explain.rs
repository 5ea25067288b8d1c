//! `zero-bus explain`: one cycle for a person.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use zero_bus::{Event, Json, Reader, event_id, index_of_id};
use zero_paper::cycle::trace_id;
use zero_paper::explain::Explanation;
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// Tell one cycle: what was seen, which limit spoke with its numbers, what changed, and which events hold it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus explain bus 42
  zero-bus explain bus runtime-cycle-42
  zero-bus explain bus evt-000000000208 --json")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// A cycle (42), its trace (runtime-cycle-42), or the id of one of its events (evt-000000000208). Where cycles began
    /// anew, a number or a trace means the last of that name.
    #[arg(value_name = "CYCLE|TRACE|EVENT")]
    subject: String,
    /// One JSON object: {"cycle", "events", "limit", "position"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let (dir, subject) = (arguments.dir.display(), &arguments.subject);
    let events = match index_of_id(subject) {
        Some(index) => {
            let found = reader.event(index)?.ok_or_else(|| anyhow!("{dir}: there is no event {subject}"))?;
            around(&reader, &found)?
        }
        None => {
            let trace = subject.parse().map_or_else(|_| subject.clone(), trace_id);
            let mut events: Vec<Event> = Vec::new();
            reader.select(
                1,
                |_, found| found == Some(&trace),
                |event| {
                    if event.event_type == "runtime.cycle" {
                        events.clear();
                    }
                    events.push(event);
                    Ok::<(), zero_bus::Error>(())
                },
            )?;
            if events.is_empty() {
                bail!(
                    "{dir}: there is no cycle {subject}; name one by its number, its trace, or the id of an event"
                );
            }
            events
        }
    };
    let first = events.first().map_or_else(String::new, Event::id);
    let explanation = Explanation::of(&events).map_err(|problem| anyhow!("{dir}: {first}: {problem}"))?;
    let text = if arguments.json { Json::of(&explanation)?.to_string() } else { explanation.to_string() };
    print(&text, Outcome::Passed)
}

/// Events beyond which the rest of a cycle is not looked for.
const FAR: u64 = 64;

/// The events of the cycle that an event belongs to: those of its trace around it, from the cycle record on.
fn around(reader: &Reader, event: &Event) -> Result<Vec<Event>> {
    let Some(trace) = &event.trace_id else { bail!("{} belongs to no cycle", event.id()) };
    // A cycle's events are appended together; those of others may stand between the halves of one that a crash cut.
    let (mut from, mut earliest) = (event.index, event.clone());
    while earliest.event_type != "runtime.cycle" && from > 1 && event.index - from < FAR {
        match reader.event(from - 1)?.filter(|before| before.trace_id.as_ref() == Some(trace)) {
            Some(before) => (from, earliest) = (from - 1, before),
            None => break,
        }
    }
    let mut events = Vec::new();
    for found in reader.events(from)? {
        let found = found?;
        let another = found.event_type == "runtime.cycle" && !events.is_empty();
        if another || found.index - from > 2 * FAR {
            break;
        }
        if found.trace_id.as_ref() == Some(trace) {
            events.push(found);
        }
    }
    if events.first().is_none_or(|first: &Event| first.event_type != "runtime.cycle") {
        bail!(
            "{}: the cycle record before it is missing; name the cycle by its number",
            event_id(event.index)
        );
    }
    Ok(events)
}
