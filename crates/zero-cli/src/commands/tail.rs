//! `zero-bus tail`: the events that are there and those that come; told on a terminal, their lines everywhere else.

use std::collections::VecDeque;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use globset::{Glob, GlobMatcher};
use zero_bus::{Event, Reader, Selected};
use zero_paper::summary::summarize;
use zero_paper::{Clock, SystemClock, moment};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;
use zero_program::summary_lines::SummaryLines;

use crate::PROGRAM;

/// Print events, one line each: on a terminal what happened, everywhere else the lines of the log.
///
/// What is read is checked on the way. With -n and nothing else only the end of the log is read, however long it is:
/// whether all of it is sound, `zero-bus verify` tells.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus tail bus -n 20
  zero-bus tail bus --type 'rejection.*' -f
  zero-bus tail bus --since 10m
  zero-bus tail bus --since 2026-05-01T09:00:00Z --until 2026-05-01T09:05:00Z --json
  zero-bus tail bus --from 1001 --trace-id runtime-cycle-201")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Only the last N of those that would be printed. Without it: all of them.
    #[arg(short, value_name = "N")]
    n: Option<usize>,
    /// Begin with the event at this index.
    #[arg(long, value_name = "INDEX", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// Only events whose type matches, as in `fill.*`.
    #[arg(long = "type", value_name = "GLOB", value_parser = Kind::parse)]
    event_type: Option<Kind>,
    /// Only events of this trace.
    #[arg(long, value_name = "TRACE")]
    trace_id: Option<String>,
    /// Only events of this time or later: RFC 3339 (2026-05-01T09:00:00Z), or as long ago as 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<f64>,
    /// Only events of this time or earlier, said in the same way.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<f64>,
    /// Go on with events as they become durable, also when their writer is started anew.
    #[arg(short, long)]
    follow: bool,
    /// The lines of the log also on a terminal.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<f64, String> {
    moment(text, SystemClock.now())
}

/// The types that are wanted.
#[derive(Clone, Debug)]
enum Kind {
    /// One, which is compared in no time.
    Named(String),
    Matching(GlobMatcher),
}

impl Kind {
    fn parse(text: &str) -> Result<Self, globset::Error> {
        let glob = Glob::new(text)?;
        let is_name = !text.contains(['*', '?', '[', ']', '{', '}', '\\']);
        Ok(if is_name { Self::Named(text.to_owned()) } else { Self::Matching(glob.compile_matcher()) })
    }

    fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Named(name) => name == event_type,
            Self::Matching(glob) => glob.is_match(event_type),
        }
    }
}

impl Arguments {
    fn wants(&self, event_type: &str, trace_id: Option<&str>) -> bool {
        self.event_type.as_ref().is_none_or(|kind| kind.matches(event_type))
            && self.trace_id.as_deref().is_none_or(|trace| trace_id == Some(trace))
    }

    fn wants_time(&self, as_of: f64) -> bool {
        self.since.is_none_or(|since| as_of >= since) && self.until.is_none_or(|until| as_of <= until)
    }

    /// Where reading begins: near the end, where only the last few are wanted and all of them match.
    fn begin(&self, reader: &Reader) -> Result<u64> {
        let from = self.from.unwrap_or(1);
        let all_match = self.event_type.is_none() && self.trace_id.is_none();
        let all_match = all_match && self.since.is_none() && self.until.is_none();
        Ok(match self.n {
            Some(n) if all_match => from.max(reader.head()?.index.saturating_add(1).saturating_sub(n as u64)),
            _ => from,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let begin = arguments.begin(&reader)?;
    let mut out = Output::new(arguments.json);
    let seen = print_what_is_there(arguments, &reader, begin, &mut out)?;
    if !arguments.follow {
        return Ok(Outcome::Passed);
    }
    let mut follower = reader.follow(seen + 1)?;
    loop {
        let event = follower.next(Duration::MAX)?.context("waiting has no end")?;
        if arguments.wants(&event.event_type, event.trace_id.as_deref()) && arguments.wants_time(event.as_of)
        {
            out.print(&event)?;
            out.flush()?;
        }
    }
}

/// Prints what is wanted of what is there, up to the end or the first fault, which comes back. Gives the index of the last
/// event that was looked at.
fn print_what_is_there(arguments: &Arguments, reader: &Reader, from: u64, out: &mut Output) -> Result<u64> {
    let mut last = VecDeque::new();
    let selected = reader.select(
        from,
        |event_type, trace_id| arguments.wants(event_type, trace_id),
        |event| {
            match arguments.n {
                _ if !arguments.wants_time(event.as_of) => {}
                None => out.print(&event)?,
                Some(n) => {
                    last.push_back(event);
                    if last.len() > n {
                        last.pop_front();
                    }
                }
            }
            Ok::<(), anyhow::Error>(())
        },
    );
    last.iter().try_for_each(|event| out.print(event))?;
    out.flush()?;
    let Selected { last, torn_bytes } = selected?;
    if torn_bytes > 0 {
        print_message(PROGRAM, &format!("an unfinished end of {torn_bytes} bytes is left out"));
    }
    Ok(last.max(from - 1))
}

/// Where the events go to, and in which form.
enum Output {
    /// Each as its line.
    Lines(BufWriter<std::io::Stdout>),
    /// Each told, under the day it belongs to.
    Summary { out: BufWriter<anstream::AutoStream<std::io::Stdout>>, lines: SummaryLines },
}

impl Output {
    fn new(json: bool) -> Self {
        let stdout = std::io::stdout();
        if json || !stdout.is_terminal() {
            return Self::Lines(BufWriter::new(stdout));
        }
        Self::Summary { out: BufWriter::new(anstream::stdout()), lines: SummaryLines::default() }
    }

    fn print(&mut self, event: &Event) -> Result<()> {
        let written = match self {
            Self::Lines(out) => writeln!(out, "{}", event.line()),
            Self::Summary { out, lines } => {
                let label = format!("#{:<5}", event.index);
                write!(out, "{}", lines.format(&label, event.as_of, &summarize(event)))
            }
        };
        written.map_err(|error| OutputClosed(error).into())
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = match self {
            Self::Lines(out) => out.flush(),
            Self::Summary { out, .. } => out.flush(),
        };
        flushed.map_err(|error| OutputClosed(error).into())
    }
}
