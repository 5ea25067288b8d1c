//! `zero-bus seal`: move old events to compressed segments.

use std::path::PathBuf;

use anyhow::{Result, bail};
use zero_bus::{Bus, Json, OpenOptions, Reader, SealOptions, Sealed};
use zero_paper::text::counted;
use zero_paper::{Clock, SystemClock};
use zero_program::message::print_warning;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::program::PROGRAM;
use crate::progress::Bar;
use crate::time_arg::parse_duration;

/// Move old events of a bus to compressed segments.
///
/// The log stays the same: every command reads events in segments like the others, and programs
/// that append or follow meanwhile continue. Each segment is written, synced, read back and
/// compared before its events leave events.jsonl. Without --keep and --keep-events, only events
/// that fill whole segments are sealed. The last three events always stay in events.jsonl.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus seal bus
  zero-bus seal bus --keep 7d
  zero-bus seal bus --keep-events 100000 --json
  zero-bus seal bus --segment-bytes 67108864

Segments are in the directory segments of the bus. `zstd -d` unpacks them; `zero-bus unseal` writes the whole log as one \
plain file.

Exit codes: 0 passed, 1 failed (the log is damaged), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Seal all events that are older than this, such as 12h or 7d.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "keep_events")]
    keep: Option<f64>,
    /// Seal all events but the last N.
    #[arg(long, value_name = "N")]
    keep_events: Option<u64>,
    /// Size of a segment before it is compressed, in bytes; at least 1 MiB.
    #[arg(long, value_name = "N", default_value_t = 256 << 20)]
    segment_bytes: u64,
    /// Print one JSON object: {"bytes", "bytes_sealed", "first", "last", "segments"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let bus = OpenOptions::new().create(false).open(&arguments.dir)?;
    for warning in bus.warnings() {
        print_warning(PROGRAM, &warning);
    }
    let mut options = SealOptions::default();
    options.segment_bytes(arguments.segment_bytes);
    if let Some(up_to) = up_to(arguments, &bus)? {
        options.up_to(up_to);
    }
    let bar = Bar::new("sealing");
    let sealed = bus.seal(&options, &mut |progress| bar.show(progress));
    drop(bar);
    let sealed = sealed?;
    if arguments.json {
        return print(Json::of(&sealed)?.as_str(), Outcome::Passed);
    }
    let Sealed { first, last, segments, bytes, bytes_sealed } = sealed;
    if segments == 0 {
        return print("nothing to seal", Outcome::Passed);
    }
    let text = format!(
        "sealed events {first} to {last} in {}: {} instead of {bytes}",
        counted(segments, "segment"),
        counted(bytes_sealed, "byte"),
    );
    print(&text, Outcome::Passed)
}

/// Returns the last event to seal; `None` to fill whole segments.
fn up_to(arguments: &Arguments, bus: &Bus) -> Result<Option<u64>> {
    let head = bus.head().index;
    if let Some(keep) = arguments.keep_events {
        return Ok(Some(head.saturating_sub(keep)));
    }
    let Some(keep) = arguments.keep else { return Ok(None) };
    let oldest_kept = SystemClock.now() - keep;
    Ok(Some(last_before(&bus.reader(), head, oldest_kept)?))
}

/// Returns the index of the last event before a time, by bisection; 0 if every event is later.
/// Events are in the order of their times, apart from those of programs whose clocks differ.
fn last_before(reader: &Reader, head: u64, time: f64) -> Result<u64> {
    let (mut before, mut after) = (reader.first_index()? - 1, head + 1);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let Some(event) = reader.event(middle)? else {
            bail!("{}: holds no event {middle}", reader.log_path().display());
        };
        if event.as_of < time { before = middle } else { after = middle }
    }
    Ok(before)
}
