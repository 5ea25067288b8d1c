//! `zero-bus replay`: a recorded run, gone through again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::progress::Bar;
use anyhow::{Result, anyhow};
use zero_bus::{Json, Reader};
use zero_paper::replay::{Difference, LimitOverrides, Replay, Tally, WhatIf, replay, what_if};
use zero_paper::text::{counted, escape};
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::input::Input;

/// Go through a recorded run again with today's engine, and hold every event against what comes out: cycle record,
/// decision, fill or rejection, positions, health. The first difference is shown field by field, and exit is 1.
///
/// With other limits it tells what would have been: the two runs side by side.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus replay bus
  zero-bus replay bus --limits wider.json      where it holds {\"max_notional_usd\": 5000}
  zero-bus replay bus --limits scenario.json --json")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// A JSON object of limits, or a scenario whose limits are taken; - is standard input. What it does not name stays as
    /// recorded.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// One JSON object: {"cycles", "difference", "events", "events_missing"}; with --limits {"cycles", "recorded", "what_if"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let bar = Bar::new("replaying");
    let mut show = |progress| bar.show(progress);
    if let Some(path) = &arguments.limits {
        let limits = read_limits(path)?;
        let found = what_if(&reader, limits, &mut show)?;
        drop(bar);
        let text = if arguments.json { Json::of(&found)?.to_string() } else { side_by_side(&found) };
        return print(&text, Outcome::Passed);
    }
    let found = replay(&reader, &mut show)?;
    drop(bar);
    let text = if arguments.json { Json::of(&found)?.to_string() } else { in_words(&found) };
    print(&text, Outcome::of(found.difference.is_none()))
}

fn read_limits(path: &Path) -> Result<LimitOverrides> {
    let input = Input::open(path)?;
    let name = input.name.clone();
    LimitOverrides::parse(&input.read_all()?).map_err(|problem| anyhow!("{name}: {problem}"))
}

fn in_words(found: &Replay) -> String {
    let Replay { cycles, events, events_missing, .. } = found;
    if found.difference.is_none() && *cycles == 0 {
        return "there is no cycle on record, so nothing to replay".to_owned();
    }
    let Some(Difference { cycle_id, event_id, event_type, fields }) = &found.difference else {
        let unfinished = match events_missing {
            0 => String::new(),
            missing => format!("; the last cycle lacks {missing}, being on its way or cut short by a crash"),
        };
        let (cycles, events) = (counted(*cycles, "cycle"), counted(*events, "event"));
        return format!("{cycles}, {events}: each comes out as it is on record{unfinished}");
    };
    let mut lines = vec![format!("cycle {cycle_id}: {event_id} {event_type} comes out differently")];
    let paths: Vec<String> = fields.iter().map(|field| escape(&field.path)).collect();
    let width = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0).clamp(5, 60);
    for (field, path) in fields.iter().zip(&paths) {
        lines.push(format!("  {path:width$}  on record  {}", field.before));
        lines.push(format!("  {:width$}  today      {}", "", field.after));
    }
    lines.push(format!("events before it that come out as they are on record: {events}"));
    lines.join("\n")
}

/// A table of three columns: what, as it was, as it would have been.
fn side_by_side(found: &WhatIf) -> String {
    let WhatIf { cycles, recorded, what_if } = found;
    let mut rows = vec![(String::new(), "recorded".to_owned(), "what if".to_owned())];
    let mut row = |name: &str, of: &dyn Fn(&Tally) -> String| {
        rows.push((name.to_owned(), of(recorded), of(what_if)));
    };
    row("cycles", &|_| cycles.to_string());
    row("fills", &|tally| tally.fills.to_string());
    row("rejections", &|tally| tally.rejections.values().sum::<u64>().to_string());
    let reasons: BTreeSet<&String> = recorded.rejections.keys().chain(what_if.rejections.keys()).collect();
    for reason in reasons {
        let name = format!("  {}", escape(reason));
        row(&name, &|tally| tally.rejections.get(reason).copied().unwrap_or_default().to_string());
    }
    row("exposure, at most, USD", &|tally| format!("{:.2}", tally.exposure_max_usd));
    row("exposure, in the end, USD", &|tally| format!("{:.2}", tally.exposure_last_usd));
    let symbols: BTreeSet<&String> = [recorded, what_if]
        .into_iter()
        .flat_map(|tally| tally.positions.iter().map(|position| &position.symbol))
        .collect();
    for symbol in symbols {
        let name = format!("  {}", escape(symbol));
        row(&name, &|tally| {
            let position = tally.positions.iter().find(|position| position.symbol == *symbol);
            position.map_or("-".to_owned(), |held| format!("{} @ {:.2}", held.quantity, held.avg_price))
        });
    }
    let width = |of: fn(&(String, String, String)) -> &String| {
        rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0).min(60)
    };
    let (first, second, third) = (width(|row| &row.0), width(|row| &row.1), width(|row| &row.2));
    let line = |(name, was, would): &(String, String, String)| {
        format!("{name:first$}  {was:>second$}  {would:>third$}")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
