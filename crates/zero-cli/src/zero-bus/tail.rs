//! `zero-bus tail`: the events' lines, those that are there and those that come.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use globset::{Glob, GlobMatcher};
use zero_bus::{Event, Reader};
use zero_cli::end::{Judgement, OutputClosed, say};

use crate::PROGRAM;

/// Print events, one line each, checked on the way.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus tail bus -n 20
  zero-bus tail bus --type 'rejection.*' -f
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
    #[arg(long = "type", value_name = "GLOB", value_parser = glob)]
    event_type: Option<GlobMatcher>,
    /// Only events of this trace.
    #[arg(long, value_name = "TRACE")]
    trace_id: Option<String>,
    /// Go on with events as they become durable.
    #[arg(short, long)]
    follow: bool,
}

fn glob(text: &str) -> Result<GlobMatcher, globset::Error> {
    Glob::new(text).map(|glob| glob.compile_matcher())
}

impl Arguments {
    fn matches(&self, event: &Event) -> bool {
        self.event_type.as_ref().is_none_or(|glob| glob.is_match(&event.event_type))
            && self.trace_id.as_ref().is_none_or(|trace| event.trace_id.as_ref() == Some(trace))
    }

    /// Where reading begins: near the end, where only the last few are wanted and all of them match.
    fn begin(&self, reader: &Reader) -> Result<u64> {
        let from = self.from.unwrap_or(1);
        Ok(match self.n {
            Some(n) if self.event_type.is_none() && self.trace_id.is_none() => {
                from.max((reader.head()?.index + 1).saturating_sub(n as u64))
            }
            _ => from,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Judgement> {
    let reader = Reader::open(&arguments.dir)?;
    let begin = arguments.begin(&reader)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if !arguments.follow {
        let mut events = reader.events(begin)?;
        print_what_is_there(arguments, &mut out, || events.next().transpose())?;
        say_what_is_left_out(events.torn_bytes());
        return Ok(Judgement::Fine);
    }
    let mut follower = reader.follow(begin)?;
    print_what_is_there(arguments, &mut out, || follower.next(Duration::ZERO))?;
    say_what_is_left_out(follower.torn_bytes());
    loop {
        let event = follower.next(Duration::MAX)?.context("waiting has no end")?;
        if arguments.matches(&event) {
            writeln!(out, "{}", event.line()).and_then(|()| out.flush()).map_err(OutputClosed)?;
        }
    }
}

/// Prints what matches, up to the end or the first fault, which comes back.
fn print_what_is_there(
    arguments: &Arguments,
    out: &mut impl Write,
    mut next: impl FnMut() -> zero_bus::Result<Option<Event>>,
) -> Result<()> {
    let mut last = VecDeque::new();
    let ended = loop {
        match next() {
            Ok(Some(event)) if !arguments.matches(&event) => {}
            Ok(Some(event)) => match arguments.n {
                None => writeln!(out, "{}", event.line()).map_err(OutputClosed)?,
                Some(n) => {
                    last.push_back(event.line());
                    if last.len() > n {
                        last.pop_front();
                    }
                }
            },
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    for line in last {
        writeln!(out, "{line}").map_err(OutputClosed)?;
    }
    out.flush().map_err(OutputClosed)?;
    Ok(ended?)
}

fn say_what_is_left_out(torn_bytes: u64) {
    if torn_bytes > 0 {
        say(PROGRAM, &format!("an unfinished end of {torn_bytes} bytes is left out"));
    }
}
