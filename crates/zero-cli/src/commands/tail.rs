//! `zero-bus tail`: print events, summarized on a terminal and as lines of the log elsewhere.

use std::collections::VecDeque;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use globset::{Glob, GlobMatcher};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use zero_bus::{CancelHandle, Event, Reader, Selected};
use zero_paper::summary::summarize;
use zero_program::message::print_warning;
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;
use zero_program::summary_lines::SummaryLines;

use crate::event_ref::EventRef;
use crate::program::PROGRAM;
use crate::terminal::report_torn_tail;
use crate::time_arg::parse_time;

/// Lines are written to standard output in pieces of this size.
const OUTPUT_BUFFER_BYTES: usize = 64 << 10;

/// Print events, one line each.
///
/// On a terminal, a line says what happened; elsewhere it is the event's line in the log. Every
/// event that is read is also verified. With -n and no filter only the end of the log is read,
/// however long it is. With --since, earlier events are skipped without being verified. Run
/// `zero-bus verify` to check the whole log.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus tail bus -n 20
  zero-bus tail bus --type 'rejection.*' -f
  zero-bus tail bus --since 10m
  zero-bus tail bus --since 2026-05-01T09:00:00Z --until 2026-05-01T09:05:00Z --json
  zero-bus tail bus --from 1001 --trace-id runtime-cycle-201

Exit codes: 0 passed, 1 failed (the log is damaged; the events before the damage are printed), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Print only the last N of the matching events.
    #[arg(short, value_name = "N")]
    n: Option<usize>,
    /// Start with this event: its index (42), its id (evt-000000000042), `last`, or an offset from
    /// the end (-10).
    #[arg(long, value_name = "EVENT", value_parser = EventRef::parse, allow_negative_numbers = true)]
    from: Option<EventRef>,
    /// Print only events whose type matches, as in `fill.*`. Repeat it for several types.
    #[arg(long = "type", value_name = "GLOB", value_parser = TypeFilter::parse)]
    types: Vec<TypeFilter>,
    /// Print only events of this trace.
    #[arg(long, value_name = "TRACE")]
    trace_id: Option<String>,
    /// Print only events at or after this time: RFC 3339 (2026-05-01T09:00:00Z), Unix seconds, or
    /// an age such as 90s, 10m, 2h or 1d.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    since: Option<f64>,
    /// Print only events at or before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    until: Option<f64>,
    /// Continue with events as they become durable, also after their producer is restarted.
    #[arg(short, long)]
    follow: bool,
    /// Print the lines of the log on a terminal too.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug)]
enum TypeFilter {
    /// A type without wildcards. Comparing it is much faster than matching a glob.
    Exact(String),
    Glob(GlobMatcher),
}

impl TypeFilter {
    fn parse(text: &str) -> Result<Self, globset::Error> {
        let glob = Glob::new(text)?;
        let is_exact = !text.contains(['*', '?', '[', ']', '{', '}', '\\']);
        Ok(if is_exact { Self::Exact(text.to_owned()) } else { Self::Glob(glob.compile_matcher()) })
    }

    fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exact(name) => name == event_type,
            Self::Glob(glob) => glob.is_match(event_type),
        }
    }
}

impl Arguments {
    fn matches(&self, event_type: &str, trace_id: Option<&str>) -> bool {
        (self.types.is_empty() || self.types.iter().any(|filter| filter.matches(event_type)))
            && self.trace_id.as_deref().is_none_or(|trace| trace_id == Some(trace))
    }

    fn matches_time(&self, as_of: f64) -> bool {
        self.since.is_none_or(|since| as_of >= since) && self.until.is_none_or(|until| as_of <= until)
    }

    fn has_filter(&self) -> bool {
        !self.types.is_empty() || self.trace_id.is_some() || self.since.is_some() || self.until.is_some()
    }

    /// The index of the first event to read. Without a filter, -n determines it, so that only the
    /// end is read. With --since, earlier events are skipped.
    fn first_index(&self, reader: &Reader) -> Result<u64> {
        let from = match self.from {
            Some(event) => event.first_index(reader)?,
            None => reader.first_index()?,
        };
        let from = match self.since {
            Some(since) => from.max(reader.first_index_since(since)?),
            None => from,
        };
        Ok(match self.n {
            Some(n) if !self.has_filter() => {
                from.max(reader.head()?.index.saturating_add(1).saturating_sub(n as u64))
            }
            _ => from,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let first = arguments.first_index(&reader)?;
    let mut out = Output::new(arguments.json);
    let last_read = print_existing(arguments, &reader, first, &mut out)?;
    if !arguments.follow {
        return Ok(Outcome::Passed);
    }
    let follow = reader.follow(last_read + 1)?;
    if let Some(warning) = follow.warning() {
        print_warning(PROGRAM, warning);
    }
    cancel_once_output_is_closed(follow.cancel_handle())?;
    for event in follow {
        let event = event?;
        if arguments.matches(&event.event_type, event.trace_id.as_deref())
            && arguments.matches_time(event.as_of)
        {
            out.print(&event)?;
            out.flush()?;
        }
    }
    Ok(Outcome::Passed)
}

/// Cancels a follower once the reader of standard output is gone, as `head` is after its last line.
/// Otherwise only the next event would show that.
fn cancel_once_output_is_closed(follow: CancelHandle) -> Result<()> {
    let wait = move || {
        let stdout = std::io::stdout();
        // Without requested events, only an error or a hang-up ends the wait. Files report neither.
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        while let Err(Errno::INTR) = poll(&mut polled, None) {}
        let closed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if polled[0].revents().intersects(closed) {
            follow.cancel();
        }
    };
    let thread = std::thread::Builder::new().name("output".to_owned());
    thread.spawn(wait).context("cannot start the thread that watches standard output")?;
    Ok(())
}

/// Prints the matching events of the log from the index `from` on, up to its end or its first
/// fault. Returns the index of the last event that was read; returns the fault as an error once the
/// events before it are printed.
fn print_existing(arguments: &Arguments, reader: &Reader, from: u64, out: &mut Output) -> Result<u64> {
    let mut last_matches = VecDeque::new();
    let matches = |event_type: &str, trace_id: Option<&str>| arguments.matches(event_type, trace_id);
    let selected = match arguments.n {
        None if matches!(out, Output::Lines(_)) => {
            let matches = |event_type: &str, trace_id: Option<&str>, as_of| {
                matches(event_type, trace_id) && arguments.matches_time(as_of)
            };
            reader.select_lines(from, matches, |line| out.print_line(line))
        }
        n => reader.select(from, matches, |event| {
            match n {
                _ if !arguments.matches_time(event.as_of) => {}
                None => out.print(&event)?,
                Some(n) => {
                    last_matches.push_back(event);
                    if last_matches.len() > n {
                        last_matches.pop_front();
                    }
                }
            }
            Ok::<(), anyhow::Error>(())
        }),
    };
    last_matches.iter().try_for_each(|event| out.print(event))?;
    out.flush()?;
    let Selected { last, torn_bytes } = selected?;
    report_torn_tail(torn_bytes);
    Ok(last.max(from - 1))
}

/// Standard output, and the form in which events are printed.
enum Output {
    /// Each event as its line in the log.
    Lines(BufWriter<std::io::Stdout>),
    /// Each event as a summary, with a heading for each day.
    Summaries { out: BufWriter<anstream::AutoStream<std::io::Stdout>>, lines: SummaryLines },
}

impl Output {
    fn new(json: bool) -> Self {
        let stdout = std::io::stdout();
        if json || !stdout.is_terminal() {
            return Self::Lines(BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, stdout));
        }
        Self::Summaries { out: BufWriter::new(anstream::stdout()), lines: SummaryLines::default() }
    }

    fn print(&mut self, event: &Event) -> Result<()> {
        match self {
            Self::Lines(_) => self.print_line(event.line().as_bytes()),
            Self::Summaries { out, lines } => {
                let label = format!("#{:<5}", event.index);
                let written = write!(out, "{}", lines.format(&label, event.as_of, &summarize(event)));
                written.map_err(|error| OutputClosed(error).into())
            }
        }
    }

    fn print_line(&mut self, line: &[u8]) -> Result<()> {
        let write = |out: &mut dyn Write| out.write_all(line).and_then(|()| out.write_all(b"\n"));
        let written = match self {
            Self::Lines(out) => write(out),
            Self::Summaries { out, .. } => write(out),
        };
        written.map_err(|error| OutputClosed(error).into())
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = match self {
            Self::Lines(out) => out.flush(),
            Self::Summaries { out, .. } => out.flush(),
        };
        flushed.map_err(|error| OutputClosed(error).into())
    }
}
