//! `zero-bus verify`: both verdicts over a bus.

use std::path::PathBuf;

use crate::progress::Bar;
use anyhow::Result;
use zero_bus::{Finding, Integrity, Json, LOG, Reader, Verdict};
use zero_paper::text::counted;
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::PROGRAM;

/// ScanProgress the whole chain, and hold the snapshot against it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus verify bus
  zero-bus verify bus --json

Exit codes: 0 sound and consistent, 1 not, 2 could not be judged.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// One JSON document: {"integrity", "snapshot_integrity"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("verifying");
    let verdict = reader.verify_with_progress(&mut |progress| bar.show(progress))?;
    drop(bar);
    if verdict.integrity.head.index == 0 && !arguments.dir.join(LOG).exists() {
        print_message(
            PROGRAM,
            &format!("{}: there is no {LOG} here, which is an empty bus", arguments.dir.display()),
        );
    }
    let text = if arguments.json { Json::of(&verdict)?.to_string() } else { in_words(&verdict) };
    print(&text, Outcome::of(verdict.ok()))
}

fn in_words(verdict: &Verdict) -> String {
    const GREEN: &str = "\x1b[32m";
    const RED: &str = "\x1b[1;31m";
    const PLAIN: &str = "\x1b[0m";
    let Verdict { integrity, snapshot_integrity } = verdict;
    let mark = |ok: bool| if ok { format!("{GREEN}ok{PLAIN}  ") } else { format!("{RED}FAIL{PLAIN}") };
    let head = &integrity.head;
    let mut lines = vec![format!("log       {}  {}", mark(integrity.ok()), counted(head.index, "event"))];
    if let Some(checksum) = head.checksum {
        let last = if integrity.ok() { "last" } else { "last sound" };
        lines[0] += &format!(", {last} {checksum}");
    }
    let place = match &integrity.finding {
        Finding::Sound => None,
        Finding::Truncated { byte_offset, .. } => Some((
            *byte_offset,
            "the disk lost the rest of it, or somebody cut it; the events before it are sound",
        )),
        Finding::Torn { byte_offset, .. } => {
            Some((*byte_offset, "a crash leaves this; it is set aside when the bus is next appended to"))
        }
        Finding::Ambiguous(fault) => {
            Some((fault.byte_offset, "a crash may have left this, or somebody; the bytes alone cannot tell"))
        }
        Finding::Missing(_) => None,
        Finding::Fault(fault) => {
            Some((fault.byte_offset, "damage or tampering; the events before it are sound"))
        }
    };
    if let Finding::Missing(_) = integrity.finding {
        lines.push(format!("                {}: its companion bus.lock remembers them", integrity.reason()));
    }
    if let Some((byte_offset, meaning)) = place {
        lines.push(format!("                {} (byte {byte_offset} of the log)", integrity.reason()));
        lines.push(format!("                {meaning}"));
    }
    let snapshot = match snapshot_integrity.reason.as_str() {
        "ok" => consistent_snapshot(integrity),
        reason => reason,
    };
    lines.push(format!("snapshot  {}  {snapshot}", mark(snapshot_integrity.consistent)));
    lines.join("\n")
}

/// What there is to say of a snapshot that a log does not contradict.
pub(crate) fn consistent_snapshot(integrity: &Integrity) -> &'static str {
    if integrity.ok() { "fits the log" } else { "names an event that stands in the log" }
}
