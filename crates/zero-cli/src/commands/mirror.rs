//! `zero-bus mirror`: the events of a bus at other places too.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::is_failed_check;
use crate::progress::Bar;
use anyhow::{Context, Result};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zero_bus::{Checksum, Json, Reader};
use zero_mirror::{CancelHandle, CatchUpOptions, CatchUpReport, Mirror, catch_up};
use zero_paper::text::counted;
use zero_program::message::{print_error, print_message};
use zero_program::outcome::{Outcome, Reported};
use zero_program::output::{OutputClosed, print};

use crate::PROGRAM;

/// Mirror the events of a bus, each exactly once, in order and with its exact line.
///
/// What a destination lacks is handed over; where it holds another chain for this bus, or more than the log, nothing is
/// written. Only events that are durable in the log are mirrored. May be stopped or killed at any moment, and run again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus mirror bus --to sqlite:bus.db
  zero-bus mirror bus --to sqlite:bus.db --to postgres://zero@db.example/audit --follow
  zero-bus mirror bus --to sqlite:bus.db --follow --json

A password belongs into PGPASSWORD or a pgpass file rather than into the address, which `ps` shows.

Without --follow a destination that is away is tried eight times, for some 10 seconds. With it, for as long as it takes.

Exit codes: 0 all is there, 1 a log or a destination was found wanting (another chain, a log that is too short, damage), \
2 could not be done.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Where to: sqlite:PATH, postgres://USER@HOST/DATABASE, nats://HOST/STREAM, or http(s)://HOST of a `zero-bus ingest`,
    /// whose token is in ZERO_MIRROR_TOKEN or the file ZERO_MIRROR_TOKEN_FILE. Give it several times for several destinations.
    #[arg(long, value_name = "URL", required = true)]
    to: Vec<String>,
    /// Stay, and mirror events as they become durable.
    #[arg(long)]
    follow: bool,
    /// One JSON object a report: {"away", "bus", "destination", "events", "lag", "mirrored"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mirrors: Vec<_> = arguments.to.iter().map(|url| zero_mirror::open(url)).collect::<Result<_, _>>()?;
    // Reports early what every destination would run into.
    Reader::open(&arguments.dir)?;
    let stop = CancelHandle::default();
    stop_with_a_signal(&stop)?;
    let show = Show::new(arguments, mirrors.len());
    let ends: Vec<Result<()>> = thread::scope(|scope| {
        let begin = |(number, mirror)| {
            let (show, stop) = (&show, &stop);
            scope.spawn(move || one(arguments, number, mirror, stop, show))
        };
        let threads: Vec<_> = mirrors.into_iter().enumerate().map(begin).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(ended).collect()
    });
    // What could not be done weighs more than what was found wanting, and output that nobody reads ends it quietly.
    let mut errors: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
    if let Some(closed) = errors.iter().position(|error| error.is::<OutputClosed>()) {
        return Err(errors.swap_remove(closed));
    }
    match errors.iter().map(is_failed_check).reduce(|all, wanting| all && wanting) {
        None => Ok(Outcome::Passed),
        Some(wanting) => Err(Reported { failed_check: wanting }.into()),
    }
}

/// Brings one destination up to the log, and says what came of it.
fn one(
    arguments: &Arguments,
    number: usize,
    mut mirror: Box<dyn Mirror>,
    stop: &CancelHandle,
    show: &Show<'_>,
) -> Result<()> {
    let plan = CatchUpOptions { follow: arguments.follow, ..CatchUpOptions::default() };
    let mut closed = None;
    let mut report = |report: &CatchUpReport| {
        if let Err(error) = show.report(number, report) {
            closed = Some(error);
            stop.cancel();
        }
    };
    let end = catch_up(&arguments.dir, &mut *mirror, &plan, stop, &mut report);
    let end = match (end, closed) {
        (_, Some(closed)) => return Err(closed),
        (Ok(report), None) => show.end(&report),
        (Err(error), None) => Err(error.into()),
    };
    end.inspect_err(|error| {
        if !error.is::<OutputClosed>() {
            print_error(PROGRAM, error);
        }
    })
}

/// A signal ends it behind the batch that is on its way; a second one at once.
fn stop_with_a_signal(stop: &CancelHandle) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    let stop = stop.clone();
    let listening = move || {
        for (signal, before) in signals.forever().zip(0..) {
            if before > 0 {
                std::process::exit(128 + signal);
            }
            stop.cancel();
        }
    };
    thread::Builder::new().spawn(listening).context("cannot begin a thread to wait for signals")?;
    Ok(())
}

/// What is shown of the destinations.
struct Show<'a> {
    arguments: &'a Arguments,
    bar: Bar,
    /// Events there and in the log, and whether it was said that it is away; for each destination.
    commands_in_force: Mutex<Vec<(u64, u64, bool)>>,
}

impl<'a> Show<'a> {
    fn new(arguments: &'a Arguments, mirrors: usize) -> Self {
        Self {
            arguments,
            bar: Bar::of_events("mirroring"),
            commands_in_force: Mutex::new(vec![(0, 0, false); mirrors]),
        }
    }

    fn report(&self, number: usize, report: &CatchUpReport) -> Result<()> {
        let mut commands_in_force = self.commands_in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let was_away = std::mem::replace(
            &mut commands_in_force[number],
            (report.mirrored, report.events, report.away.is_some()),
        )
        .2;
        if self.arguments.json {
            return line(&Json::of(&Written::from(report))?.to_string());
        }
        let all = |one: fn(&(u64, u64, bool)) -> u64| commands_in_force.iter().map(one).sum();
        self.bar.show_events(all(|one| one.0), all(|one| one.1));
        match &report.away {
            // Once, and not with every try.
            Some(away) if !was_away => print_message(PROGRAM, &format!("{away}; trying again")),
            None if was_away => print_message(PROGRAM, &format!("{}: is back", report.destination)),
            _ => {}
        }
        Ok(())
    }

    fn end(&self, report: &CatchUpReport) -> Result<()> {
        if self.arguments.json {
            return Ok(());
        }
        let CatchUpReport { destination, bus, mirrored, .. } = report;
        let text = match bus {
            None => format!("{destination}: nothing to mirror, as there is no event yet"),
            Some(bus) if report.lag() > 0 => {
                format!("{destination}: {} of {bus}, {} to come", counted(*mirrored, "event"), report.lag())
            }
            Some(bus) => format!("{destination}: {} of {bus}", counted(*mirrored, "event")),
        };
        print(&text, Outcome::Passed).map(drop)
    }
}

/// A line as soon as there is one.
fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{text}").and_then(|()| out.flush()).map_err(OutputClosed)?)
}

/// A report as `--json` writes it.
#[derive(Serialize)]
struct Written<'a> {
    away: Option<&'a str>,
    bus: Option<Checksum>,
    destination: &'a str,
    events: u64,
    lag: u64,
    mirrored: u64,
}

impl<'a> From<&'a CatchUpReport> for Written<'a> {
    fn from(report: &'a CatchUpReport) -> Self {
        Self {
            away: report.away.as_deref(),
            bus: report.bus,
            destination: &report.destination,
            events: report.events,
            lag: report.lag(),
            mirrored: report.mirrored,
        }
    }
}
