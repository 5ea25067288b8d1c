//! `zero-bus mirror-verify`: the chain as a mirror holds it.

use crate::progress::Bar;
use anyhow::Result;
use zero_bus::Head;
use zero_mirror::{Error, open_read_only, select_bus, verify};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;

/// ScanProgress the whole chain of a bus as a mirror holds it, and hold what is kept beside the lines against them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus mirror-verify sqlite:bus.db
  zero-bus mirror-verify sqlite:fleet.db --bus sha256:5c3a

Exit codes: 0 sound, 1 not, 2 could not be judged.")]
pub(crate) struct Arguments {
    /// The mirror.
    url: String,
    /// The bus, by its id (the checksum of its first event) or the beginning of it. May be left out where there is one.
    #[arg(long, value_name = "ID")]
    bus: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    const GREEN: &str = "\x1b[32m";
    const RED: &str = "\x1b[1;31m";
    const PLAIN: &str = "\x1b[0m";
    let mut mirror = open_read_only(&arguments.url)?;
    let bus = select_bus(&mut *mirror, arguments.bus.as_deref())?;
    let bar = Bar::of_events("verifying");
    let mut sound = Head::default();
    let walked = verify(&mut *mirror, bus, |event, _, walk| {
        sound = event.head();
        if event.index % 1024 == 0 {
            bar.show_events(walk.events, walk.events_total);
        }
        Ok(())
    });
    drop(bar);
    let last = |kind: &str| sound.checksum.map(|last| format!(", {kind} {last}")).unwrap_or_default();
    let (text, judgement) = match walked {
        Ok(head) => {
            (format!("{GREEN}ok{PLAIN}    {}{}", counted(head.index, "event"), last("last")), Outcome::Passed)
        }
        Err(Error::Corrupt { problem, .. }) => {
            let meaning = "damage or tampering; the events before it are sound";
            let last = last("last sound");
            let text = format!(
                "{RED}FAIL{PLAIN}  {} events{last}\n                {problem}\n                {meaning}",
                sound.index
            );
            (text, Outcome::Failed)
        }
        Err(error) => return Err(error.into()),
    };
    print(&format!("bus             {bus}\nmirror    {text}"), judgement)
}
