//! `zero-bus doctor`: check everything about a bus.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use zero_bus::{
    Event, FaultKind, Finding, Json, LOCK, LOG, RECOVERED_TYPE, RETIRED_TYPE, Reader, SNAPSHOT,
    StoredSyncMark, Value, Verdict, event_id,
};
use zero_paper::operator::CommandsInForce;
use zero_paper::replay::replay;
use zero_paper::report;
use zero_paper::risk::TradingMode;
use zero_paper::text::{counted, escape, format_duration, shorten};
use zero_paper::{Clock, SystemClock, journal_check};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::anchor::{Anchor, AnchorArguments};
use crate::commands::verify::{byte_offset, describe_consistent_snapshot, describe_held, explain_finding};
use crate::liveness::{LastCycle, RuntimeLock, check_age};
use crate::progress::Bar;
use crate::terminal::{fail_mark, ok_mark, warn_mark};
use crate::time_arg::parse_duration;

/// Check everything about a bus, and suggest remedies.
///
/// Checks the chain and the tail, the snapshot, the sync mark, file permissions, event times,
/// cycles, operator commands, disk space, whether a runtime is alive and, with --journal, whether
/// the decision journal and the bus agree. Replays the recorded cycles and compares every event.
/// Nothing is changed; a runtime may be running.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus doctor bus
  zero-bus doctor bus --journal decisions.jsonl --max-age 5m
  zero-bus doctor bus --json

Exit codes: 0 passed (there may be warnings), 1 failed, 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The decision journal of the runtime that writes this bus.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Fail if no runtime is alive, or if the last cycle is older than this: 90s, 10m, 2h or 1d.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<f64>,
    #[command(flatten)]
    anchor: AnchorArguments,
    /// Print one JSON object: {"checks": [{"found", "level", "name", "way_out"}], "ok", "scope"};
    /// "scope" is null if the anchor is ok.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// The result of a check. Programs read the names and the field names.
#[derive(Debug, Serialize)]
struct Check {
    found: String,
    level: Level,
    name: &'static str,
    /// What to do about a warning or a failure.
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

    /// The same check if the log could be read only up to an event: at least a warning, since the
    /// events after it may change the result.
    fn known_up_to(self, last_event: u64) -> Self {
        let found = match last_event {
            0 => "unknown: no event can be read".to_owned(),
            last_event => format!("{}; known up to event {last_event}", self.found),
        };
        let way_out = "the events after the damage may change this; restore the log first";
        Self {
            found,
            level: self.level.max(Level::Warn),
            way_out: self.way_out.or(Some(way_out.into())),
            ..self
        }
    }
}

/// What the checks cannot show, however they end.
const SCOPE: &str = "an unanchored chain cannot show that its end was cut off at an event boundary, or that all of \
    it was rewritten; zero-bus verify --expect INDEX:CHECKSUM can, with a head that was kept elsewhere";

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
    let bar = Bar::new("checking");
    let verdict = reader.verify_with_progress(&mut |progress| bar.show(progress))?;
    let history = History::read(reader, &bar)?;
    drop(bar);
    let mut checks = vec![check_permissions(dir, arguments.journal.as_deref())?];
    checks.extend([check_chain(dir, &verdict), check_snapshot(&verdict), check_sync_mark(reader, &verdict)?]);
    checks.extend(check_quarantine(dir)?);
    let is_readable_to_end = matches!(verdict.integrity.finding, Finding::Sound | Finding::Torn { .. });
    let now = SystemClock.now();
    let history_checks = [history.check_clock(now), history.check_cycles(), history.check_operator()];
    checks.extend(
        history_checks
            .map(|check| if is_readable_to_end { check } else { check.known_up_to(history.events) }),
    );
    checks.push(check_runtime(lock, history.last_cycle_record, arguments.max_age, now));
    checks.push(check_replay(reader, is_readable_to_end, history.cycles)?);
    let anchor = arguments.anchor.compare(dir, reader)?;
    // An anchored chain shows what the scope of a chain alone excludes.
    let is_anchored = anchor.as_ref().is_some_and(|anchor| anchor.ok);
    checks.extend(anchor.map(check_anchor));
    if let Some(journal) = &arguments.journal {
        checks.push(check_journal(journal, reader));
    }
    if is_readable_to_end {
        checks.push(check_account(reader)?);
    }
    checks.push(check_disk(dir, &history, reader.size_bytes()?)?);
    let ok = checks.iter().all(|check| check.level < Level::Fail);
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'a> {
            checks: &'a [Check],
            ok: bool,
            scope: Option<&'a str>,
        }
        let document = Document { checks: &checks, ok, scope: (!is_anchored).then_some(SCOPE) };
        return print(Json::of(&document)?.as_str(), Outcome::of(ok));
    }
    let lines = checks.iter().map(render).chain((!is_anchored).then(|| SCOPE.to_owned()));
    print(&lines.collect::<Vec<_>>().join("\n"), Outcome::of(ok))
}

fn render(check: &Check) -> String {
    let mark = match check.level {
        Level::Ok => ok_mark(),
        Level::Warn => warn_mark(),
        Level::Fail => fail_mark(),
    };
    let line = format!("{mark}  {:<12} {}", check.name, escape(&check.found));
    match &check.way_out {
        Some(way_out) => format!("{line}\n{:19}{}", "", escape(way_out)),
        None => line,
    }
}

/// Whether other users can read or write the bus, its files and the journal.
fn check_permissions(dir: &Path, journal: Option<&Path>) -> Result<Check> {
    let name = "permissions";
    let mut readable = Vec::new();
    let mut writable = Vec::new();
    let mut accessible_paths = Vec::new();
    let files = [LOG, LOCK, SNAPSHOT].map(|name| dir.join(name));
    for path in [dir.to_owned()].into_iter().chain(files).chain(journal.map(Path::to_owned)) {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let mode = metadata.permissions().mode();
        if mode & 0o077 != 0 {
            accessible_paths.push(path.display().to_string());
        }
        let file_name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let described = format!("{file_name} ({:04o})", mode & 0o7777);
        if mode & 0o022 != 0 {
            writable.push(described);
        } else if mode & 0o055 != 0 {
            readable.push(described);
        }
    }
    let way_out = format!("chmod go= {}", accessible_paths.join(" "));
    Ok(match (writable.is_empty(), readable.is_empty()) {
        (true, true) => Check::ok(name, "only the owner can read and write it"),
        (true, false) => Check::warn(name, format!("others can read {}", readable.join(", ")), way_out),
        _ => Check::fail(name, format!("others can write to {}", writable.join(", ")), way_out),
    })
}

/// Whether the log is a sound chain to its end.
fn check_chain(dir: &Path, verdict: &Verdict) -> Check {
    let name = "chain";
    let integrity = &verdict.integrity;
    let reason = match byte_offset(&integrity.finding) {
        Some(byte_offset) => format!("{} (byte {byte_offset} of the log)", integrity.reason()),
        None => integrity.reason(),
    };
    let meaning = explain_finding(&integrity.finding).unwrap_or_default();
    let repair = format!("run zero-bus repair {} to see what can be done", dir.display());
    match &integrity.finding {
        Finding::Sound if !dir.join(LOG).exists() => {
            Check::warn(name, format!("has no {LOG}; the bus is empty"), "is this the right directory?")
        }
        Finding::Sound if verdict.retired.is_some() => Check::ok(name, describe_held(verdict)),
        Finding::Sound => match integrity.head.index {
            1 => Check::ok(name, "1 event"),
            events => Check::ok(name, format!("{events} events, each linked to the one before it")),
        },
        Finding::Torn { .. } => Check::warn(name, reason, meaning),
        Finding::Truncated { .. } => Check::fail(name, reason, meaning),
        Finding::Ambiguous(_) | Finding::Missing(_) => Check::fail(name, reason, repair),
        // The record of retired events may be lost.
        Finding::Fault(fault)
            if matches!(fault.kind, FaultKind::Segment(..)) && reason.contains("repair") =>
        {
            Check::fail(name, reason, repair)
        }
        Finding::Fault(_) => Check::fail(
            name,
            reason,
            "damage or tampering: restore the log from a backup or a mirror, and keep this one as evidence",
        ),
    }
}

/// Whether the log is the one of its checkpoints.
fn check_anchor(anchor: Anchor) -> Check {
    let way_out = "restore the log and keep this one as evidence; or, without a checkpoint, sign one";
    match anchor.ok {
        true => Check::ok("anchor", anchor.describe()),
        false => Check::fail("anchor", anchor.reason, way_out),
    }
}

/// Whether the snapshot matches the log.
fn check_snapshot(verdict: &Verdict) -> Check {
    let name = "snapshot";
    let snapshot = &verdict.snapshot_integrity;
    match (snapshot.present, snapshot.consistent) {
        (true, true) => Check::ok(name, describe_consistent_snapshot(&verdict.integrity)),
        (false, _) => Check::ok(name, "no snapshot"),
        (true, false) => Check::fail(
            name,
            snapshot.reason.clone(),
            format!("restore the log; or remove {SNAPSHOT} to continue without"),
        ),
    }
}

/// Whether the sync mark is valid. It shows that a log was cut between two events.
fn check_sync_mark(reader: &Reader, verdict: &Verdict) -> Result<Check> {
    let name = "sync mark";
    let is_empty = verdict.integrity.head.index == 0;
    Ok(match reader.sync_mark()? {
        StoredSyncMark::Valid { .. } => Check::ok(name, "bus.lock records how far the log is synced"),
        StoredSyncMark::NoLockFile if is_empty => {
            Check::ok(name, "no bus.lock, and no event that it could record")
        }
        StoredSyncMark::Missing if is_empty => {
            Check::ok(name, "bus.lock is empty, and there is no event that it could record")
        }
        StoredSyncMark::NoLockFile => Check::warn(
            name,
            "bus.lock is missing, so a log cut between two events would not be noticed",
            "the next append writes it again",
        ),
        StoredSyncMark::Missing => Check::warn(
            name,
            "bus.lock is empty, so a log cut between two events would not be noticed",
            "the next append writes it again",
        ),
        StoredSyncMark::Unreadable { reason } => Check::warn(
            name,
            format!("bus.lock is corrupt: {reason}; so a log cut between two events would not be noticed"),
            "the next append writes it again; find out what changed it, since a crash does not",
        ),
        _ => Check::warn(name, "bus.lock is of another version", "read it with that version"),
    })
}

/// Whether quarantined tails are kept next to the log. `None` if there is none.
fn check_quarantine(dir: &Path) -> Result<Option<Check>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry.with_context(|| dir.display().to_string())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A failed quarantine, as on a full disk, leaves an empty file.
        let is_empty = entry.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if name.contains(".torn-at-") && !is_empty {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    names.sort();
    let found = format!("{}: {}", counted(names.len() as u64, "quarantined tail"), names.join(", "));
    let way_out = "the bus.recovered events say why each was moved; inspect the files, and delete those you do not need";
    Ok(Some(Check::warn("quarantine", found, way_out)))
}

/// Whether a runtime is alive. Without a limit for the age of the last cycle, a bus without a
/// runtime is not a problem.
fn check_runtime(
    lock: RuntimeLock,
    last_cycle: Option<LastCycle>,
    max_age_s: Option<f64>,
    now: f64,
) -> Check {
    let name = "runtime";
    let cycle = match last_cycle {
        Some(cycle) => check_age(cycle.age_s(now), max_age_s).map(|age| format!("last cycle {age}")),
        None if max_age_s.is_some() => Err("no cycle on the bus".to_owned()),
        None => Ok("no cycle on the bus".to_owned()),
    };
    let is_alive = lock != RuntimeLock::Free;
    let way_out = "start the runtime, or find out why it does not run a cycle";
    match cycle {
        Ok(cycle) if is_alive || max_age_s.is_none() => {
            Check::ok(name, format!("{}; {cycle}", lock.describe()))
        }
        Ok(cycle) => Check::fail(name, format!("{}; {cycle}", lock.describe()), way_out),
        Err(problem) if last_cycle.is_some() => {
            Check::fail(name, format!("{}; last cycle {problem}", lock.describe()), way_out)
        }
        Err(problem) => Check::fail(name, format!("{}; {problem}", lock.describe()), way_out),
    }
}

/// Whether the recorded cycles, run again, give the recorded events. A log that was rewritten as a
/// valid chain differs here, unless the rewriting also ran the engine.
fn check_replay(reader: &Reader, is_readable_to_end: bool, recorded_cycles: u64) -> Result<Check> {
    let name = "replay";
    if !is_readable_to_end {
        return Ok(Check::warn(name, "not run: the log cannot be read to its end", "restore the log first"));
    }
    let bar = Bar::new("replaying");
    let replay = match replay(reader, &mut |progress| bar.show(progress)) {
        Ok(replay) => replay,
        // The records lack what the replay needs, so it shows nothing about them.
        Err(error)
            if !matches!(error, zero_paper::Error::Bus(_))
                || matches!(error, zero_paper::Error::Bus(zero_bus::Error::Retired { .. })) =>
        {
            let way_out = "the decisions of this bus cannot be checked against the engine";
            return Ok(Check::warn(name, format!("not run: {error}"), way_out));
        }
        Err(error) => return Err(error.into()),
    };
    drop(bar);
    Ok(match &replay.difference {
        Some(difference) => {
            let fields: Vec<&str> = difference.fields.iter().map(|field| field.path.as_str()).collect();
            let found = format!(
                "cycle {}: {} differs from the replay in {}",
                difference.cycle_id,
                difference.event_id,
                fields.join(", ")
            );
            let way_out =
                "the history was rewritten, or another engine wrote it; zero-bus replay DIR shows the fields";
            Check::fail(name, shorten(&found, 300), way_out)
        }
        None if replay.cycles == 0 && recorded_cycles > 0 => Check::warn(
            name,
            "not run: no cycle record has what the replay needs",
            "the decisions of this bus cannot be checked against the engine",
        ),
        None if replay.cycles == 0 => Check::ok(name, "no cycle to run again"),
        None => {
            let cycles = counted(replay.cycles, "cycle");
            Check::ok(name, format!("{cycles} run again, the same in all {} events", replay.events))
        }
    })
}

/// Whether the fills add up to the cash and the equity that the records state.
fn check_account(reader: &Reader) -> Result<Check> {
    let name = "account";
    let bar = Bar::new("adding up");
    let mut ignore_row = |_: report::Row<'_>| Ok::<(), anyhow::Error>(());
    let read = report::read(reader, &mut ignore_row, &mut |progress| bar.show(progress));
    let report = match read {
        Ok(read) => read.report,
        Err(error) if matches!(error.downcast_ref(), Some(zero_bus::Error::Retired { .. })) => {
            return Ok(Check::warn(name, format!("not checked: {error}"), "check it in the copy"));
        }
        Err(error) => return Err(error),
    };
    drop(bar);
    let fills = counted(report.fills, "fill");
    if let Some(contradiction) = report.contradiction {
        let way_out = "the history was rewritten, or its writer is wrong; compare with the decision journal";
        return Ok(Check::fail(name, contradiction, way_out));
    }
    if let Some((count, first)) = report.ignored {
        let found = format!("{} cannot be counted; the first: {first}", counted(count, "event"));
        return Ok(Check::warn(
            name,
            shorten(&found, 300),
            "docs/PAYLOADS.md names the fields that they need",
        ));
    }
    if report.strategy_failures > 0 {
        let found = format!("{fills}; the strategy failed in {}", counted(report.strategy_failures, "cycle"));
        return Ok(Check::warn(name, found, "zero-bus tail DIR --type strategy.failed shows why"));
    }
    Ok(match report.start_cash_recorded {
        true => Check::ok(name, format!("{fills} add up to the recorded cash and equity")),
        false => Check::ok(name, format!("{fills}; the records state no cash")),
    })
}

/// Whether the journal and the bus agree.
fn check_journal(journal: &Path, reader: &Reader) -> Check {
    let name = "journal";
    let journal = match journal_check::compare(journal, reader) {
        Err(error) => return Check::fail(name, error.to_string(), "the runtime does not start like this"),
        Ok(journal) => journal,
    };
    let entries = counted(journal.entries, journal.entry);
    if journal.entries_ahead > 1 {
        let found = format!("the bus lacks the last {} of {entries}", journal.entries_ahead);
        return Check::warn(
            name,
            found,
            "the next start of the runtime publishes what a crash kept from the bus",
        );
    }
    if !journal.warnings.is_empty() {
        return Check::warn(name, journal.warnings.join("; "), "the runtime starts nevertheless");
    }
    if journal.unfinished_bytes > 0 {
        let found = format!("ends with {} of an unfinished line", counted(journal.unfinished_bytes, "byte"));
        return Check::warn(name, found, "left by a crash; the next start quarantines it");
    }
    if journal.entries_ahead == 1 {
        let found = format!(
            "{entries}; the last one is not on the bus yet: its cycle is in progress, or the next start publishes it"
        );
        return Check::ok(name, found);
    }
    Check::ok(name, format!("{entries}, the same as on the bus"))
}

/// Below this, the disk check fails.
const MIN_FREE_BYTES: u64 = 16 << 20;

/// Below this, the disk check warns.
const LOW_FREE_BYTES: u64 = 1 << 30;

/// How much disk space is free, and how long it lasts.
fn check_disk(dir: &Path, history: &History, log_bytes: u64) -> Result<Check> {
    let name = "disk";
    let filesystem = rustix::fs::statvfs(dir).with_context(|| dir.display().to_string())?;
    // A file system that does not report its size is not full.
    if filesystem.f_blocks == 0 {
        return Ok(Check::ok(name, "the file system does not report how much space is free"));
    }
    let free_bytes = filesystem.f_bavail.saturating_mul(filesystem.f_frsize);
    // A rate extrapolated from a short burst is meaningless.
    let duration_s = history.duration_s().filter(|seconds| *seconds >= 3600.0);
    let days_left = duration_s.map(|seconds| free_bytes as f64 / (log_bytes as f64 / seconds) / 86400.0);
    let lasts = match days_left {
        Some(days) if days < 10_000.0 => format!(", {days:.0} days at the rate so far"),
        _ => String::new(),
    };
    // The unit shows on which side of a limit the value is.
    let free = match free_bytes {
        bytes if bytes < MIN_FREE_BYTES => format!("{} kB free, less than 16 MiB", bytes / 1000),
        bytes if bytes < LOW_FREE_BYTES => format!("{} MB free, less than 1 GiB", bytes / 1_000_000),
        bytes => format!("{:.1} GB free", bytes as f64 / 1e9),
    };
    let found = format!("{free}{lasts}");
    let way_out = "free some space, or stop the runtime and move the bus";
    Ok(if free_bytes < MIN_FREE_BYTES {
        Check::fail(name, found, way_out)
    } else if free_bytes < LOW_FREE_BYTES || days_left.is_some_and(|days| days < 7.0) {
        Check::warn(name, found, way_out)
    } else {
        Check::ok(name, found)
    })
}

/// What the events say about time, cycles and the operator.
#[derive(Default)]
struct History {
    /// The number of events read.
    events: u64,
    last_cycle_record: Option<LastCycle>,
    first_as_of: Option<f64>,
    last_as_of: Option<f64>,
    /// The event with the latest time: its time and index.
    latest: Option<(f64, u64)>,
    /// How often the clock went back by more than [`CLOCK_TOLERANCE_S`].
    setbacks: u64,
    /// The largest setback, in seconds, and the index of the event after it.
    largest_setback: (f64, u64),
    cycles: u64,
    /// The last cycle: its number and time.
    last_cycle: Option<(u64, f64)>,
    /// How often a cycle does not have the next number.
    cycle_breaks: u64,
    /// The index of the cycle record after the first break.
    first_cycle_break: u64,
    /// Seconds between consecutive cycles, in total.
    cycle_gaps_s: f64,
    /// The largest gap between two cycles, in seconds, and the index of the cycle record after it.
    largest_cycle_gap: (f64, u64),
    commands_in_force: CommandsInForce,
}

/// How far the clocks of several producers may be apart.
const CLOCK_TOLERANCE_S: f64 = 1.0;

impl History {
    /// Reads the sound part of the log.
    fn read(reader: &Reader, bar: &Bar) -> Result<Self> {
        let mut history = Self::default();
        let mut events = reader.events(reader.first_index()?)?;
        // Stops at the first fault, which the check of the chain reports.
        while let Some(Ok(event)) = events.next() {
            if event.index % 4096 == 0 {
                bar.show(events.position());
            }
            history.add(&event);
        }
        Ok(history)
    }

    fn add(&mut self, event: &Event) {
        self.events = event.index;
        self.commands_in_force.apply(event);
        if [RETIRED_TYPE, RECOVERED_TYPE].contains(&event.event_type.as_str()) {
            // These have the time of the machine, also in a run on old bars.
            return;
        }
        let now = event.as_of;
        self.first_as_of.get_or_insert(now);
        if let Some(previous) = self.last_as_of.replace(now)
            && previous - now > CLOCK_TOLERANCE_S
        {
            self.setbacks += 1;
            if previous - now > self.largest_setback.0 {
                self.largest_setback = (previous - now, event.index);
            }
        }
        if self.latest.is_none_or(|(latest, _)| now > latest) {
            self.latest = Some((now, event.index));
        }
        self.last_cycle_record = LastCycle::of(event).or(self.last_cycle_record);
        if event.event_type == "runtime.cycle"
            && let Some(cycle_id) = event.payload.value().get("cycle_id").and_then(Value::as_u64)
        {
            self.add_cycle(cycle_id, now, event.index);
        }
    }

    fn add_cycle(&mut self, cycle_id: u64, as_of: f64, index: u64) {
        self.cycles += 1;
        let Some((previous_id, previous_as_of)) = self.last_cycle.replace((cycle_id, as_of)) else { return };
        // A new run starts at cycle 1.
        if cycle_id != 1 && Some(cycle_id) != previous_id.checked_add(1) {
            if self.cycle_breaks == 0 {
                self.first_cycle_break = index;
            }
            self.cycle_breaks += 1;
        }
        let gap_s = (as_of - previous_as_of).max(0.0);
        self.cycle_gaps_s += gap_s;
        if gap_s > self.largest_cycle_gap.0 {
            self.largest_cycle_gap = (gap_s, index);
        }
    }

    /// Seconds from the first event to the last; `None` if that is not more than 0.
    fn duration_s(&self) -> Option<f64> {
        Some(self.last_as_of? - self.first_as_of?).filter(|seconds| *seconds > 0.0)
    }

    fn check_clock(&self, now: f64) -> Check {
        let name = "clock";
        if let Some((latest, index)) = self.latest
            && latest > now + 60.0
        {
            let found = format!("{} is {} in the future", event_id(index), format_duration(latest - now));
            return Check::warn(name, found, "check the clocks of this machine and of the producer");
        }
        if self.setbacks > 0 {
            let (largest_s, index) = self.largest_setback;
            let found = format!(
                "went back {}, at most by {} at {}",
                counted(self.setbacks, "time"),
                format_duration(largest_s),
                event_id(index)
            );
            return Check::warn(
                name,
                found,
                "check the time service of the machine, or the producers' clocks",
            );
        }
        Check::ok(name, "does not go back, and is not ahead of this machine's clock")
    }

    fn check_cycles(&self) -> Check {
        let name = "cycles";
        if self.cycle_breaks > 0 {
            let found = format!(
                "not in sequence in {}, first at {}",
                counted(self.cycle_breaks, "place"),
                event_id(self.first_cycle_break)
            );
            return Check::warn(name, found, "the missing cycles may be in the decision journal");
        }
        let (largest_s, index) = self.largest_cycle_gap;
        let other_gaps = self.cycles.saturating_sub(2).max(1);
        let average_s = (self.cycle_gaps_s - largest_s) / other_gaps as f64;
        if self.cycles > 2 && largest_s > 60.0 && largest_s > 10.0 * average_s {
            let found = format!(
                "a gap of {} before {}; {} on average otherwise",
                format_duration(largest_s),
                event_id(index),
                format_duration(average_s)
            );
            return Check::warn(name, found, "was the runtime stopped then?");
        }
        Check::ok(name, format!("{}, in sequence", self.cycles))
    }

    fn check_operator(&self) -> Check {
        let name = "operator";
        let is_open = self.commands_in_force.trading_mode() == TradingMode::Open;
        let Some(command) = self.commands_in_force.governing().filter(|_| !is_open) else {
            return Check::ok(name, "no command in force");
        };
        let way_out = match self.commands_in_force.first_pending_restriction() {
            Some(_) => {
                "not applied yet; a resume withdraws it once it is, so give the resume after the next start"
            }
            None => "zero-bus command DIR resume withdraws it",
        };
        Check::warn(name, format!("in force: {}", command.describe()), way_out)
    }
}
