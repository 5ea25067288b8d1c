//! `zero-bus mirror-verify`: verify the chain of a bus in a mirror.

use anyhow::Result;
use serde::Serialize;
use zero_bus::{Checksum, Head, Json};
use zero_mirror::{Error, Mirror, select_bus, verify};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use super::mirror::open_for_reading;
use crate::progress::Bar;
use crate::terminal::mark;

/// Verify the whole chain of a bus in a mirror.
///
/// The columns that the mirror keeps next to each line are compared with the line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus mirror-verify sqlite:bus.db
  zero-bus mirror-verify sqlite:fleet.db --bus sha256:5c3a --json

Exit codes: 0 passed, 1 failed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The mirror.
    url: String,
    /// The bus, by its id (the checksum of its first event) or a prefix of it. Optional if the
    /// mirror has only one.
    #[arg(long, value_name = "ID")]
    bus: Option<String>,
    /// Print one JSON object: {"bus", "events", "last_checksum", "mirror", "ok", "reason"}.
    #[arg(long)]
    json: bool,
}

/// The result as `--json` prints it. `events` and `last_checksum` describe the sound part.
#[derive(Serialize)]
struct Document<'a> {
    bus: Checksum,
    events: u64,
    last_checksum: Option<Checksum>,
    mirror: &'a str,
    ok: bool,
    /// `ok`, or what is wrong.
    reason: &'a str,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut mirror = open_for_reading(&arguments.url)?;
    let bus = select_bus(&mut mirror, arguments.bus.as_deref())?;
    let bar = Bar::of_events("verifying");
    let mut sound_head = Head::default();
    let verified = verify(&mut mirror, bus, |event, _, progress| {
        sound_head = event.head();
        if event.index % 1024 == 0 {
            bar.show_events(progress.events, progress.events_total);
        }
        Ok(())
    });
    drop(bar);
    let problem = match verified {
        Ok(_) => None,
        Err(Error::Corrupt { problem, .. }) => Some(problem),
        Err(error) => return Err(error.into()),
    };
    let passed = problem.is_none();
    if arguments.json {
        let document = Document {
            bus,
            events: sound_head.index,
            last_checksum: sound_head.checksum,
            mirror: &mirror.name(),
            ok: passed,
            reason: problem.as_deref().unwrap_or("ok"),
        };
        return print(Json::of(&document)?.as_str(), Outcome::of(passed));
    }
    let events = counted(sound_head.index, "event");
    let last = if passed { "last" } else { "last sound" };
    let last = sound_head.checksum.map_or(String::new(), |checksum| format!(", {last} {checksum}"));
    let mut text = format!("bus             {bus}\nmirror    {}  {events}{last}", mark(passed));
    if let Some(problem) = problem {
        let indent = " ".repeat(16);
        text += &format!("\n{indent}{problem}\n{indent}damage or tampering; the events before it are sound");
    }
    print(&text, Outcome::of(passed))
}
