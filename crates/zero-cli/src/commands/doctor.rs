//! `zero-bus doctor`: everything worth checking about a bus in one go.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::progress::Bar;
use anyhow::{Context, Result};
use serde::Serialize;
use zero_bus::{Event, Finding, Json, LOCK, LOG, Reader, SNAPSHOT, Verdict, event_id};
use zero_paper::operator::CommandsInForce;
use zero_paper::risk::TradingMode;
use zero_paper::text::{counted, escape, format_duration};
use zero_paper::{Clock, SystemClock, reconcile};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::commands::verify::consistent_snapshot;

/// Check everything about a bus in one go: its chain and tail, its snapshot, who may read and write it, its clock, its
/// cycles, the operator's commands, the disk; with --journal also whether the decision journal agrees.
///
/// Nothing is changed or locked; a runtime may be flying.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus doctor bus
  zero-bus doctor bus --journal decisions.jsonl
  zero-bus doctor bus --json

Exit codes: 0 nothing fails (there may be warnings), 1 something does, 2 could not be done.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The decision journal that the runtime writes beside the bus.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// One JSON object: {"checks": [{"found", "level", "name", "way_out"}], "ok"}.
    #[arg(long)]
    json: bool,
}

/// How it stands with what was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    found: String,
    level: Level,
    name: &'static str,
    way_out: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { found: found.into(), level: Level::Ok, name, way_out: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { found: found.into(), level: Level::Warn, name, way_out: Some(way_out.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { found: found.into(), level: Level::Fail, name, way_out: Some(way_out.into()) }
    }

    /// The same where the log could be read no further than an event.
    fn known_up_to(self, event: u64) -> Self {
        let found = match event {
            0 => "not known, as no event can be read".to_owned(),
            event => format!("{}; known up to event {event}", self.found),
        };
        let way_out = "what is behind it may say otherwise; mend the log first";
        Self {
            found,
            level: self.level.max(Level::Warn),
            way_out: self.way_out.or(Some(way_out.into())),
            ..self
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let dir = &arguments.dir;
    let reader = Reader::open(dir)?;
    let bar = Bar::new("looking");
    let verdict = reader.verify(&mut |progress| bar.show(progress))?;
    let flight = Flight::read(&reader, &bar)?;
    drop(bar);
    let mut checks = vec![permissions(dir, arguments.journal.as_deref())?];
    checks.extend(of_the_log(dir, &verdict));
    checks.extend(set_aside(dir)?);
    let whole = matches!(verdict.integrity.finding, Finding::Sound | Finding::Torn { .. });
    let of_the_flight = [flight.clock(SystemClock.now()), flight.cycles(), flight.operator()];
    checks.extend(of_the_flight.map(|check| if whole { check } else { check.known_up_to(flight.events) }));
    if let Some(journal) = &arguments.journal {
        checks.push(agreement(journal, &reader));
    }
    checks.push(disk(dir, &flight, reader.size_bytes()?)?);
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    let judgement = Outcome::of(worst < Level::Fail);
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'a> {
            checks: &'a [Check],
            ok: bool,
        }
        let document = Document { checks: &checks, ok: worst < Level::Fail };
        return print(Json::of(&document)?.as_str(), judgement);
    }
    print(&checks.iter().map(in_words).collect::<Vec<_>>().join("\n"), judgement)
}

fn in_words(check: &Check) -> String {
    let mark = match check.level {
        Level::Ok => "\x1b[32mok\x1b[0m  ",
        Level::Warn => "\x1b[33mwarn\x1b[0m",
        Level::Fail => "\x1b[1;31mFAIL\x1b[0m",
    };
    let line = format!("{mark}  {:<12} {}", check.name, escape(&check.found));
    match &check.way_out {
        Some(way_out) => format!("{line}\n{:19}{}", "", escape(way_out)),
        None => line,
    }
}

/// Who may read and write the bus and what belongs to it.
fn permissions(dir: &Path, journal: Option<&Path>) -> Result<Check> {
    let mut readable = Vec::new();
    let mut writable = Vec::new();
    let mut open = Vec::new();
    let files = [LOG, LOCK, SNAPSHOT].map(|name| dir.join(name));
    for path in [dir.to_owned()].into_iter().chain(files).chain(journal.map(Path::to_owned)) {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let mode = metadata.permissions().mode();
        if mode & 0o077 != 0 {
            open.push(path.display().to_string());
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let name = format!("{name} ({:04o})", mode & 0o7777);
        if mode & 0o022 != 0 {
            writable.push(name);
        } else if mode & 0o055 != 0 {
            readable.push(name);
        }
    }
    let way_out = format!("chmod go= {}", open.join(" "));
    Ok(match (writable.is_empty(), readable.is_empty()) {
        (true, true) => Check::ok("permissions", "only its owner may read and write it"),
        (true, false) => {
            Check::warn("permissions", format!("others may read {}", readable.join(", ")), way_out)
        }
        _ => Check::fail("permissions", format!("others may write to {}", writable.join(", ")), way_out),
    })
}

/// The chain, the tail, the note and the snapshot.
fn of_the_log(dir: &Path, verdict: &Verdict) -> Vec<Check> {
    let Verdict { integrity, snapshot_integrity } = verdict;
    let events = integrity.head.index;
    let sound = match events {
        1 => "1 event".to_owned(),
        events => format!("{events} events, each bound to the one before it"),
    };
    let place = |byte_offset: u64| format!("{} (byte {byte_offset} of the log)", integrity.reason());
    let repair = format!("zero-bus repair {} tells what can be done", dir.display());
    let chain = match &integrity.finding {
        Finding::Sound if dir.join(LOG).exists() => Check::ok("chain", sound),
        Finding::Sound => {
            Check::warn("chain", format!("there is no {LOG}: an empty bus"), "is this the right directory?")
        }
        Finding::Torn { byte_offset, .. } => Check::warn(
            "chain",
            place(*byte_offset),
            "a crash leaves this; it is set aside when the bus is next appended to",
        ),
        Finding::Truncated { byte_offset, .. } => Check::fail(
            "chain",
            place(*byte_offset),
            "the disk lost the rest of it, or somebody cut it; the events before it are sound",
        ),
        Finding::Ambiguous(fault) => Check::fail("chain", place(fault.byte_offset), repair),
        Finding::Missing(_) => Check::fail("chain", integrity.reason(), repair),
        Finding::Fault(fault) => Check::fail(
            "chain",
            place(fault.byte_offset),
            "damage or tampering: restore the log from a backup or a mirror, and keep this one as evidence",
        ),
    };
    let snapshot = match (snapshot_integrity.present, snapshot_integrity.consistent) {
        (true, true) => Check::ok("snapshot", consistent_snapshot(integrity)),
        (false, _) => Check::ok("snapshot", "there is none"),
        (true, false) => Check::fail(
            "snapshot",
            snapshot_integrity.reason.clone(),
            format!("restore the log; or remove {SNAPSHOT} to go on without"),
        ),
    };
    let note = if dir.join(LOCK).exists() {
        Check::ok("note", "bus.lock tells how far the log was synced")
    } else if events == 0 {
        Check::ok("note", "there is none, and nothing to remember")
    } else {
        Check::warn(
            "note",
            "bus.lock is missing, so a cut end at a line break would not be noticed",
            "the next append makes it again",
        )
    };
    vec![chain, snapshot, note]
}

/// What crashes left beside the log.
fn set_aside(dir: &Path) -> Result<Option<Check>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let name =
            entry.with_context(|| dir.display().to_string())?.file_name().to_string_lossy().into_owned();
        if name.contains(".torn-at-") {
            names.push(name);
        }
    }
    names.sort();
    let found = format!("{} that crashes left: {}", counted(names.len() as u64, "file"), names.join(", "));
    let way_out = "never acknowledged; look at them, and remove them when they are not needed";
    Ok((!names.is_empty()).then(|| Check::warn("set aside", found, way_out)))
}

/// Whether the decision journal tells the same as the bus.
fn agreement(journal: &Path, reader: &Reader) -> Check {
    let name = "journal";
    match reconcile::check_journal(journal, reader) {
        Err(error) => Check::fail(name, error.to_string(), "the runtime will not start like this"),
        Ok(held) if held.decisions_ahead > 1 => Check::warn(
            name,
            format!(
                "the bus lacks the last {} of {}",
                held.decisions_ahead,
                counted(held.decisions, "decision")
            ),
            "the next start of the runtime publishes what a crash kept from the bus",
        ),
        Ok(held) if !held.warnings.is_empty() => {
            Check::warn(name, held.warnings.join("; "), "nothing stands in the way of a start")
        }
        Ok(held) if held.unfinished_bytes > 0 => Check::warn(
            name,
            format!("ends with {} of an unfinished line", counted(held.unfinished_bytes, "byte")),
            "a crash leaves this; the next start sets it aside",
        ),
        Ok(held) if held.decisions_ahead == 1 => Check::ok(
            name,
            format!(
                "{}; the last one is not on the bus yet, or waits for the next start",
                counted(held.decisions, "decision")
            ),
        ),
        Ok(held) => Check::ok(name, format!("{}, as on the bus", counted(held.decisions, "decision"))),
    }
}

/// How much room there is, and for how long.
fn disk(dir: &Path, flight: &Flight, bytes: u64) -> Result<Check> {
    let name = "disk";
    let found = rustix::fs::statvfs(dir).with_context(|| dir.display().to_string())?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    // What a burst of seconds would come to in days tells nothing.
    let long = flight.seconds().filter(|seconds| *seconds >= 3600.0);
    let days = long.map(|seconds| free as f64 / (bytes as f64 / seconds) / 86400.0);
    let lasts = match days {
        Some(days) if days < 10_000.0 => format!(", {days:.0} days at the rate so far"),
        _ => String::new(),
    };
    let text = format!("{:.1} GB free{lasts}", free as f64 / 1e9);
    let way_out = "make room, or move the bus while no runtime is flying";
    Ok(if free < 16 << 20 {
        Check::fail(name, text, way_out)
    } else if free < 1 << 30 || days.is_some_and(|days| days < 7.0) {
        Check::warn(name, text, way_out)
    } else {
        Check::ok(name, text)
    })
}

/// What the events tell about time, cycles and the operator.
#[derive(Default)]
struct Flight {
    events: u64,
    first: Option<f64>,
    /// Time and index of the event before.
    before: Option<(f64, u64)>,
    /// How often the clock went back by more than [`TOLERANCE`], the furthest, and where that was.
    backwards: (u64, f64, u64),
    latest: Option<(f64, u64)>,
    cycles: u64,
    last_cycle: Option<(u64, f64)>,
    /// How often cycles do not follow each other, and the first place.
    skipped: (u64, u64),
    /// Seconds between cycles: sum, largest, and behind which event that is.
    gaps: (f64, f64, u64),
    commands_in_force: CommandsInForce,
}

/// Seconds that the clocks of several writers may be apart.
const TOLERANCE: f64 = 1.0;

impl Flight {
    /// Goes through the sound part of the log.
    fn read(reader: &Reader, bar: &Bar) -> Result<Self> {
        let mut flight = Self::default();
        let mut events = reader.events(1)?;
        // What ends the sound part is the chain's to tell.
        while let Some(Ok(event)) = events.next() {
            if event.index % 4096 == 0 {
                bar.show(events.position());
            }
            flight.see(&event);
        }
        Ok(flight)
    }

    fn see(&mut self, event: &Event) {
        self.events = event.index;
        self.commands_in_force.apply(event);
        let now = event.as_of;
        self.first.get_or_insert(now);
        if let Some((before, _)) = self.before
            && before - now > TOLERANCE
        {
            let (times, furthest, _) = self.backwards;
            let further = before - now > furthest;
            self.backwards.0 = times + 1;
            if further {
                (self.backwards.1, self.backwards.2) = (before - now, event.index);
            }
        }
        if self.latest.is_none_or(|(latest, _)| now > latest) {
            self.latest = Some((now, event.index));
        }
        self.before = Some((now, event.index));
        if event.event_type != "runtime.cycle" {
            return;
        }
        let cycle_id = event.payload.value().get("cycle_id").and_then(zero_bus::Value::as_u64);
        let Some(cycle_id) = cycle_id else { return };
        self.cycles += 1;
        if let Some((last, at)) = self.last_cycle.replace((cycle_id, now)) {
            if cycle_id != 1 && Some(cycle_id) != last.checked_add(1) {
                self.skipped =
                    (self.skipped.0 + 1, if self.skipped.0 == 0 { event.index } else { self.skipped.1 });
            }
            let gap = (now - at).max(0.0);
            self.gaps.0 += gap;
            if gap > self.gaps.1 {
                (self.gaps.1, self.gaps.2) = (gap, event.index);
            }
        }
    }

    /// From the first event to the last; `None` where no time went by.
    fn seconds(&self) -> Option<f64> {
        Some(self.before?.0 - self.first?).filter(|seconds| *seconds > 0.0)
    }

    fn clock(&self, now: f64) -> Check {
        let name = "clock";
        if let Some((latest, index)) = self.latest
            && latest > now + 60.0
        {
            let found = format!("{} is {} in the future", event_id(index), format_duration(latest - now));
            return Check::warn(name, found, "check the clocks of this machine and of who wrote it");
        }
        let (times, furthest, index) = self.backwards;
        if times > 0 {
            let found = format!(
                "went back {}, at most by {} at {}",
                counted(times, "time"),
                format_duration(furthest),
                event_id(index)
            );
            return Check::warn(
                name,
                found,
                "check the time service of the machine, or the clocks of the writers",
            );
        }
        Check::ok(name, "goes forward, and not ahead of this machine's")
    }

    fn cycles(&self) -> Check {
        let name = "cycles";
        let (skipped, index) = self.skipped;
        if skipped > 0 {
            let found = format!(
                "do not follow each other in {}, the first is {}",
                counted(skipped, "place"),
                event_id(index)
            );
            return Check::warn(name, found, "those between may be in the decision journal");
        }
        let (sum, largest, index) = self.gaps;
        let others = (sum - largest) / (self.cycles.saturating_sub(2).max(1)) as f64;
        if self.cycles > 2 && largest > 60.0 && largest > 10.0 * others {
            let found = format!(
                "{} between two of them before {}, {} otherwise",
                format_duration(largest),
                event_id(index),
                format_duration(others)
            );
            return Check::warn(name, found, "was the runtime stopped then?");
        }
        Check::ok(name, format!("{}, one behind the other", self.cycles))
    }

    fn operator(&self) -> Check {
        let name = "operator";
        let Some(command) = self
            .commands_in_force
            .governing()
            .filter(|_| self.commands_in_force.trading_mode() != TradingMode::Open)
        else {
            return Check::ok(name, "no command binds the runtime");
        };
        let way_out = match self.commands_in_force.first_pending_restriction() {
            Some(_) => "it is not obeyed yet: a resume counts once it is, so give it after the next start",
            None => "zero-bus command DIR resume takes it back",
        };
        Check::warn(name, format!("bound by {}", command.describe()), way_out)
    }
}
