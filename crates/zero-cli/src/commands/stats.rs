//! `zero-bus stats`: what is in a bus, by number.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::progress::Bar;
use anyhow::Result;
use zero_bus::{Event, Head, Json, Reader, Value};
use zero_paper::rfc3339;
use zero_paper::text::escape;
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::PROGRAM;

/// Count what is in a bus: events, bytes, first and last time, rates, events by type, rejections by reason, and what was
/// held over time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus stats bus
  zero-bus stats bus --json")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Stats {
    bytes: u64,
    event_types: BTreeMap<String, u64>,
    rejections: BTreeMap<String, u64>,
    first_as_of: Option<f64>,
    last_as_of: Option<f64>,
    head: Head,
    exposure: Series,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let mut stats = Stats { bytes: reader.size_bytes()?, ..Stats::default() };
    let bar = Bar::new("counting");
    let mut events = reader.events(1)?;
    let mut failed = None;
    while let Some(event) = events.next() {
        match event {
            Ok(event) => {
                if event.index % 4096 == 0 {
                    bar.show(events.position());
                }
                stats.count(event);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(bar);
    let text = if arguments.json { stats.json()?.to_string() } else { stats.in_words() };
    print(&text, Outcome::Passed)?;
    if events.torn_bytes() > 0 {
        print_message(PROGRAM, &format!("an unfinished end of {} bytes is left out", events.torn_bytes()));
    }
    match failed {
        // What could be counted is printed; the rest cannot be trusted.
        Some(error) => Err(error.into()),
        None => Ok(Outcome::Passed),
    }
}

impl Stats {
    fn count(&mut self, event: Event) {
        self.head = Head { index: event.index, checksum: Some(event.checksum) };
        self.first_as_of.get_or_insert(event.as_of);
        self.last_as_of = Some(event.as_of);
        match event.event_type.as_str() {
            "rejection.record" => {
                let payload = event.payload.value();
                let reason = payload.get("reason").and_then(Value::as_str).unwrap_or("-");
                count(&mut self.rejections, reason);
            }
            "position.snapshot" => {
                if let Some(Value::Array(positions)) = event.payload.value().get("positions") {
                    let worth = |position: &Value| position.get("notional_usd").and_then(Value::as_f64);
                    // From 0, since the sum of nothing is -0.
                    self.exposure.add(positions.iter().filter_map(worth).fold(0.0, |sum, worth| sum + worth));
                }
            }
            _ => {}
        }
        count(&mut self.event_types, &event.event_type);
    }

    /// Seconds from the first event to the last; `None` where that is less than a minute.
    fn seconds(&self) -> Option<f64> {
        let seconds = self.last_as_of? - self.first_as_of?;
        // What a burst comes to in a day tells nothing.
        Some(seconds).filter(|seconds| *seconds >= 60.0)
    }

    fn json(&self) -> Result<Json> {
        #[derive(serde::Serialize)]
        struct Document<'a> {
            bytes: u64,
            event_types: &'a BTreeMap<String, u64>,
            events: u64,
            events_per_second: Option<f64>,
            exposure_last_usd: Option<f64>,
            exposure_max_usd: Option<f64>,
            first_as_of: Option<f64>,
            last_as_of: Option<f64>,
            last_checksum: Option<zero_bus::Checksum>,
            rejections: &'a BTreeMap<String, u64>,
        }
        Ok(Json::of(&Document {
            bytes: self.bytes,
            event_types: &self.event_types,
            events: self.head.index,
            events_per_second: self.seconds().map(|seconds| self.head.index as f64 / seconds),
            exposure_last_usd: self.exposure.last,
            exposure_max_usd: self.exposure.last.map(|_| self.exposure.most()),
            first_as_of: self.first_as_of,
            last_as_of: self.last_as_of,
            last_checksum: self.head.checksum,
            rejections: &self.rejections,
        })?)
    }

    fn in_words(&self) -> String {
        let time = |as_of: Option<f64>| {
            as_of.map_or_else(|| "-".to_owned(), |as_of| rfc3339(as_of).unwrap_or_else(|| as_of.to_string()))
        };
        let checksum = self.head.checksum.map_or_else(|| "-".to_owned(), |checksum| checksum.to_string());
        let mut lines = vec![
            format!("events  {}", self.head.index),
            format!("bytes   {}", self.bytes),
            format!("first   {}", time(self.first_as_of)),
            format!("last    {}", time(self.last_as_of)),
            format!("head    {checksum}"),
        ];
        if let Some(seconds) = self.seconds() {
            let (events, bytes) = (self.head.index as f64, self.bytes as f64);
            lines.push(format!(
                "rate    {}, {} MB a day",
                rate(events, seconds),
                rounded(bytes / 1e6 / seconds * 86400.0)
            ));
        }
        lines.extend(table("by type", &self.event_types));
        lines.extend(table("rejections by reason", &self.rejections));
        if let Some(last) = self.exposure.last {
            lines.push(String::new());
            lines.push(format!(
                "held after each cycle, in USD: at most {:.2}, now {last:.2}",
                self.exposure.most()
            ));
            lines.push(self.exposure.chart());
        }
        lines.join("\n")
    }
}

/// Names that are counted one by one; what comes behind them counts as others.
const MOST_NAMES: usize = 1000;

/// Characters of a name.
const MOST_CHARACTERS: usize = 80;

/// Counts a name, in bounded memory whoever wrote it.
fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    let mut name: String = name.chars().take(MOST_CHARACTERS).collect();
    if counts.len() >= MOST_NAMES && !counts.contains_key(&name) {
        name = "(others)".to_owned();
    }
    *counts.entry(name).or_default() += 1;
}

/// How often something happened, in the unit in which it is a number one can read.
fn rate(count: f64, seconds: f64) -> String {
    let units = [("second", 1.0), ("minute", 60.0), ("hour", 3600.0)];
    let fitting = units.into_iter().find(|(_, unit)| count / seconds * unit >= 1.0);
    let (name, unit) = fitting.unwrap_or(("day", 86400.0));
    format!("{} events a {name}", rounded(count / seconds * unit))
}

fn rounded(number: f64) -> String {
    if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}

/// Counts under a heading, with a bar for each; nothing where there are none.
fn table(heading: &str, counts: &BTreeMap<String, u64>) -> Vec<String> {
    let mut shown: Vec<(String, u64)> = counts.iter().map(|(name, count)| (escape(name), *count)).collect();
    // The most frequent ones of very many, in the order of their names.
    if shown.len() > SHOWN {
        shown.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let others = shown.split_off(SHOWN).iter().map(|(_, count)| count).sum();
        shown.sort();
        shown.push(("(others)".to_owned(), others));
    }
    let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(MOST_CHARACTERS);
    let digits = shown.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or(0);
    let most = shown.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let mut lines = Vec::new();
    if !shown.is_empty() {
        lines.extend([String::new(), heading.to_owned()]);
    }
    lines.extend(shown.iter().map(|(name, count)| {
        let bar = "=".repeat((count * BAR).div_ceil(most.max(1)) as usize);
        format!("{name:width$}  {count:>digits$}  {bar}")
    }));
    lines
}

/// Names in a table.
const SHOWN: usize = 30;

/// Characters of the longest bar.
const BAR: u64 = 30;

/// Columns of a chart.
const COLUMNS: usize = 60;

/// The largest values of a series, column by column, however long it becomes.
#[derive(Default)]
struct Series {
    columns: Vec<f64>,
    /// Values in each whole column.
    each: u64,
    /// Values in the last column.
    in_last: u64,
    last: Option<f64>,
}

impl Series {
    fn add(&mut self, value: f64) {
        self.last = Some(value);
        self.each = self.each.max(1);
        if self.in_last == 0 || self.in_last == self.each {
            if self.columns.len() == 2 * COLUMNS {
                // Two become one.
                self.columns =
                    self.columns.chunks(2).map(|pair| pair.iter().copied().fold(0.0, f64::max)).collect();
                self.each *= 2;
            }
            self.columns.push(0.0);
            self.in_last = 0;
        }
        self.in_last += 1;
        if let Some(column) = self.columns.last_mut() {
            *column = column.max(value);
        }
    }

    fn most(&self) -> f64 {
        self.columns.iter().copied().fold(0.0, f64::max)
    }

    /// One line of blocks, the highest for the most.
    fn chart(&self) -> String {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let most = self.most();
        let wide = self.columns.len().div_ceil(COLUMNS).max(1);
        let block = |columns: &[f64]| {
            let value = columns.iter().copied().fold(0.0, f64::max);
            let height = if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
            BLOCKS[height.min(7)]
        };
        self.columns.chunks(wide).map(block).collect()
    }
}
