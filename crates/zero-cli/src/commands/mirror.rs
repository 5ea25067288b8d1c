//! `zero-bus mirror`: copy the events of a bus to other destinations.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use zero_bus::{Checksum, Json, Reader};
use zero_mirror::{
    CancelHandle, CatchUpOptions, CatchUpReport, Mirror, RetryReads, catch_up, open_read_only,
};
use zero_paper::text::counted;
use zero_program::message::{print_error, print_message, print_warning};
use zero_program::outcome::{Outcome, Reported};
use zero_program::output::{OutputClosed, print};
use zero_program::signals::{exit_code, on_stop_signal};

use crate::program::{PROGRAM, is_failed_check};
use crate::progress::Bar;

/// Mirror the events of a bus to other destinations.
///
/// Each event is copied exactly once, in order, with its exact line, and only once it is durable in
/// the log. If a destination has another chain for this bus, or more events than the log, nothing
/// is written to it. It is also an error if the log is emptied, removed or replaced. The command
/// may be stopped or killed at any time; run it again and it resumes. A first signal to stop waits
/// at most 3 seconds for a destination that does not answer, a second one not at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus mirror bus --to sqlite:bus.db
  zero-bus mirror bus --to sqlite:bus.db --to postgres://zero@db.example/audit --follow
  zero-bus mirror bus --to sqlite:bus.db --follow --json

Put a password into PGPASSWORD or a pgpass file: `ps` shows the URL to other users.

Without --follow an unreachable destination is tried eight times, for about 10 seconds; with --follow, until it is back.

Exit codes: 0 passed, 1 failed (another chain, damage, or a log that lost events or was replaced), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The destination: sqlite:PATH, postgres://USER@HOST/DATABASE, nats://HOST/STREAM, or
    /// http(s)://HOST of a `zero-bus ingest`, with the token in ZERO_MIRROR_TOKEN or in the file
    /// ZERO_MIRROR_TOKEN_FILE. Repeat it for several destinations.
    #[arg(long, value_name = "URL", required = true)]
    to: Vec<String>,
    /// Keep running, and mirror events as they become durable.
    #[arg(long)]
    follow: bool,
    /// Print one JSON object per report: {"away", "bus", "destination", "events", "lag",
    /// "mirrored"}. While the destination is away, `events` and `lag` are null; before its first
    /// answer, `mirrored` is null.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mirrors: Vec<_> = arguments.to.iter().map(|url| zero_mirror::open(url)).collect::<Result<_, _>>()?;
    // Fails once for a directory that is not a bus, instead of once per destination.
    Reader::open(&arguments.dir)?;
    let stop = CancelHandle::default();
    let working = Arc::new(Working(mirrors.iter().map(|mirror| Mutex::new(Some(mirror.name()))).collect()));
    on_stop_signal({
        let (stop, working) = (stop.clone(), Arc::clone(&working));
        // Following ends with a signal; anything else is then unfinished.
        let follow = arguments.follow;
        move |signal| {
            stop.cancel();
            working.end_process_after_grace(if follow { 0 } else { exit_code(signal) });
        }
    })?;
    let reporter = Reporter::new(arguments, mirrors.len());
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let start = |(number, mirror)| {
            let (reporter, stop, working) = (&reporter, &stop, &working);
            scope.spawn(move || {
                let result = mirror_to(arguments, number, mirror, stop, reporter);
                working.finish(number);
                result
            })
        };
        let threads: Vec<_> = mirrors.into_iter().enumerate().map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let mut errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    // A closed standard output ends the program quietly, whatever the destinations reported.
    if let Some(closed) = errors.iter().position(|error| error.is::<OutputClosed>()) {
        return Err(errors.swap_remove(closed));
    }
    if errors.is_empty() {
        return Ok(Outcome::Passed);
    }
    // Exit code 1 only if every error is a failed check: a destination that could not be reached is
    // exit code 2.
    Err(Reported { failed_check: errors.iter().all(is_failed_check) }.into())
}

/// How long a stopped program waits for its destinations to answer. A container is killed 10 s or
/// more after its signal.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// The names of the destinations whose threads still run; `None` once a thread has finished.
struct Working(Vec<Mutex<Option<String>>>);

impl Working {
    fn finish(&self, number: usize) {
        *self.0[number].lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends the process if a destination has not answered after [`STOP_GRACE`]. Nothing can be
    /// lost: a destination stores a batch as a whole or not at all, and its cursor with it.
    fn end_process_after_grace(&self, exit_code: i32) {
        thread::sleep(STOP_GRACE);
        let name_of =
            |name: &Mutex<Option<String>>| name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let names: Vec<String> = self.0.iter().filter_map(name_of).collect();
        if names.is_empty() {
            // The program is about to return by itself.
            return;
        }
        let seconds = STOP_GRACE.as_secs();
        let text = format!(
            "stopped without an answer from {} within {seconds} s. Nothing is lost: run again, and it resumes",
            names.join(", ")
        );
        print_message(PROGRAM, &text);
        std::process::exit(exit_code);
    }
}

/// Opens a destination for reading. While it is unavailable, its calls are repeated as those of
/// `mirror` are.
pub(super) fn open_for_reading(url: &str) -> Result<impl Mirror + use<>> {
    let print_away = |error: &zero_mirror::Error| print_message(PROGRAM, &format!("{error}; retrying"));
    Ok(RetryReads::new(open_read_only(url)?, CatchUpOptions::default(), print_away))
}

/// Brings one destination up to the log, and prints the result or the error.
fn mirror_to(
    arguments: &Arguments,
    number: usize,
    mut mirror: Box<dyn Mirror>,
    stop: &CancelHandle,
    reporter: &Reporter<'_>,
) -> Result<()> {
    let options = CatchUpOptions { follow: arguments.follow, ..CatchUpOptions::default() };
    let mut output_error = None;
    let mut report = |report: &CatchUpReport| {
        if let Err(error) = reporter.report(number, report) {
            output_error = Some(error);
            stop.cancel();
        }
    };
    let result = catch_up(&arguments.dir, &mut *mirror, &options, stop, &mut report);
    let result = match (result, output_error) {
        (_, Some(error)) => return Err(error),
        (Ok(report), None) => reporter.finish(&report),
        (Err(error), None) => Err(error.into()),
    };
    result.inspect_err(|error| {
        if !error.is::<OutputClosed>() {
            print_error(PROGRAM, error);
        }
    })
}

/// Shows the progress of all destinations. Their threads share it.
struct Reporter<'a> {
    arguments: &'a Arguments,
    bar: Bar,
    /// The last report of each destination. The lock also keeps the threads' messages apart.
    latest: Mutex<Vec<Latest>>,
    /// A warning about the followed log was printed.
    warned: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct Latest {
    mirrored: u64,
    events: u64,
    is_away: bool,
}

impl<'a> Reporter<'a> {
    fn new(arguments: &'a Arguments, mirrors: usize) -> Self {
        Self {
            arguments,
            bar: Bar::of_events("mirroring"),
            latest: Mutex::new(vec![Latest::default(); mirrors]),
            warned: AtomicBool::new(false),
        }
    }

    fn report(&self, number: usize, report: &CatchUpReport) -> Result<()> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(warning) = report.polling.as_ref().filter(|_| !self.warned.swap(true, Relaxed)) {
            print_warning(PROGRAM, warning);
        }
        let was_away = latest[number].is_away;
        latest[number] =
            Latest { mirrored: report.mirrored.unwrap_or(0), events: report.events, is_away: report.away.is_some() };
        if self.arguments.json {
            return print_line(&Json::of(&JsonReport::from(report))?.to_string());
        }
        self.bar.show_events(
            latest.iter().map(|latest| latest.mirrored).sum(),
            latest.iter().map(|latest| latest.events).sum(),
        );
        match &report.away {
            // Printed once, not with every retry.
            Some(away) if !was_away => print_message(PROGRAM, &format!("{away}; retrying")),
            None if was_away => print_message(PROGRAM, &format!("{}: reachable again", report.destination)),
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, report: &CatchUpReport) -> Result<()> {
        if self.arguments.json {
            return Ok(());
        }
        let CatchUpReport { destination, bus, mirrored, .. } = report;
        let events = counted(mirrored.unwrap_or(0), "event");
        let text = match bus {
            None => format!("{destination}: nothing to mirror: the log has no event yet"),
            Some(bus) if report.lag() > 0 => {
                format!("{destination}: {events} of {bus}, lagging by {}", report.lag())
            }
            Some(bus) => format!("{destination}: {events} of {bus}"),
        };
        print(&text, Outcome::Passed).map(drop)
    }
}

/// Prints a line at once. A closed pipe is an error here, so that following ends.
fn print_line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{text}").and_then(|()| out.flush()).map_err(OutputClosed)?)
}

/// A report as `--json` prints it.
#[derive(Serialize)]
struct JsonReport<'a> {
    away: Option<&'a str>,
    bus: Option<Checksum>,
    destination: &'a str,
    /// Null while the destination is away, like `lag`: the log is not read meanwhile, so neither
    /// its length nor what the destination lacks is known.
    events: Option<u64>,
    lag: Option<u64>,
    /// Null before the destination's first answer.
    mirrored: Option<u64>,
}

impl<'a> From<&'a CatchUpReport> for JsonReport<'a> {
    fn from(report: &'a CatchUpReport) -> Self {
        Self {
            away: report.away.as_deref(),
            bus: report.bus,
            destination: &report.destination,
            events: report.away.is_none().then_some(report.events),
            lag: report.away.is_none().then(|| report.lag()),
            mirrored: report.mirrored,
        }
    }
}
