//! `zero-bus tail`: the events' lines, those that are there and those that come.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use globset::{Glob, GlobMatcher};
use zero_bus::{Reader, Selected};
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
    #[arg(long = "type", value_name = "GLOB", value_parser = Kind::parse)]
    event_type: Option<Kind>,
    /// Only events of this trace.
    #[arg(long, value_name = "TRACE")]
    trace_id: Option<String>,
    /// Go on with events as they become durable.
    #[arg(short, long)]
    follow: bool,
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

    /// Where reading begins: near the end, where only the last few are wanted and all of them match.
    fn begin(&self, reader: &Reader) -> Result<u64> {
        let from = self.from.unwrap_or(1);
        Ok(match self.n {
            Some(n) if self.event_type.is_none() && self.trace_id.is_none() => {
                from.max(reader.head()?.index.saturating_add(1).saturating_sub(n as u64))
            }
            _ => from,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Judgement> {
    let reader = Reader::open(&arguments.dir)?;
    let begin = arguments.begin(&reader)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let seen = print_what_is_there(arguments, &reader, begin, &mut out)?;
    if !arguments.follow {
        return Ok(Judgement::Fine);
    }
    let mut follower = reader.follow(seen + 1)?;
    loop {
        let event = follower.next(Duration::MAX)?.context("waiting has no end")?;
        if arguments.wants(&event.event_type, event.trace_id.as_deref()) {
            writeln!(out, "{}", event.line()).and_then(|()| out.flush()).map_err(OutputClosed)?;
        }
    }
}

/// Prints what is wanted of what is there, up to the end or the first fault, which comes back. Gives the index of the last
/// event that was looked at.
fn print_what_is_there(
    arguments: &Arguments,
    reader: &Reader,
    from: u64,
    out: &mut impl Write,
) -> Result<u64> {
    let mut last = VecDeque::new();
    let selected = reader.select(
        from,
        |event_type, trace_id| arguments.wants(event_type, trace_id),
        |event| {
            match arguments.n {
                None => writeln!(out, "{}", event.line()).map_err(OutputClosed)?,
                Some(n) => {
                    last.push_back(event.line());
                    if last.len() > n {
                        last.pop_front();
                    }
                }
            }
            Ok::<(), anyhow::Error>(())
        },
    );
    for line in last {
        writeln!(out, "{line}").map_err(OutputClosed)?;
    }
    out.flush().map_err(OutputClosed)?;
    let Selected { last, torn_bytes } = selected?;
    if torn_bytes > 0 {
        say(PROGRAM, &format!("an unfinished end of {torn_bytes} bytes is left out"));
    }
    Ok(last.max(from - 1))
}
