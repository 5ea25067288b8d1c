//! `zero-bus stats`: count the events of a bus.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Checksum, Event, Head, Json, Reader, Value};
use zero_paper::rfc3339;
use zero_paper::text::escape;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::progress::Bar;
use crate::table::column_width;
use crate::terminal::report_torn_tail;

/// Count the events of a bus by type.
///
/// Shows events, bytes, first and last time, head, rates, events by type, rejections by reason, and
/// the exposure after each cycle.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus stats bus
  zero-bus stats bus --json

Exit codes: 0 passed, 1 failed (the log is damaged; the events before the damage are counted), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Print one JSON document.
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
    exposure_usd: Series,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let mut stats = Stats { bytes: reader.size_bytes()?, ..Stats::default() };
    let bar = Bar::new("counting");
    let mut events = reader.events(reader.first_index()?)?;
    let mut damage = None;
    while let Some(event) = events.next() {
        match event {
            Ok(event) => {
                if event.index % 4096 == 0 {
                    bar.show(events.position());
                }
                stats.count(event);
            }
            Err(error) => {
                damage = Some(error);
                break;
            }
        }
    }
    drop(bar);
    let text = if arguments.json { stats.to_json()?.to_string() } else { stats.render() };
    print(&text, Outcome::Passed)?;
    report_torn_tail(events.torn_bytes());
    match damage {
        // Reported after the numbers of the sound part.
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
                count_name(&mut self.rejections, reason);
            }
            "position.snapshot" => {
                if let Some(Value::Array(positions)) = event.payload.value().get("positions") {
                    let notional = |position: &Value| position.get("notional_usd").and_then(Value::as_f64);
                    // `sum` starts at -0, which would be printed as "-0.00" for no positions.
                    let exposure = positions.iter().filter_map(notional).fold(0.0, |sum, usd| sum + usd);
                    self.exposure_usd.add(exposure);
                }
            }
            _ => {}
        }
        count_name(&mut self.event_types, &event.event_type);
    }

    /// Seconds from the first event to the last. `None` for less than a minute: a rate per day
    /// extrapolated from a short burst is meaningless.
    fn duration_s(&self) -> Option<f64> {
        Some(self.last_as_of? - self.first_as_of?).filter(|seconds| *seconds >= 60.0)
    }

    fn to_json(&self) -> Result<Json> {
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
            last_checksum: Option<Checksum>,
            rejections: &'a BTreeMap<String, u64>,
        }
        Ok(Json::of(&Document {
            bytes: self.bytes,
            event_types: &self.event_types,
            events: self.head.index,
            events_per_second: self.duration_s().map(|seconds| self.head.index as f64 / seconds),
            exposure_last_usd: self.exposure_usd.last,
            exposure_max_usd: self.exposure_usd.last.map(|_| self.exposure_usd.max()),
            first_as_of: self.first_as_of,
            last_as_of: self.last_as_of,
            last_checksum: self.head.checksum,
            rejections: &self.rejections,
        })?)
    }

    fn render(&self) -> String {
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
        if let Some(seconds) = self.duration_s() {
            let megabytes_per_day = self.bytes as f64 / 1e6 / seconds * 86400.0;
            lines.push(format!(
                "rate    {}, {} MB per day",
                render_rate(self.head.index as f64, seconds),
                round(megabytes_per_day)
            ));
        }
        lines.extend(render_counts("by type", &self.event_types));
        lines.extend(render_counts("rejections by reason", &self.rejections));
        if let Some(last) = self.exposure_usd.last {
            lines.push(String::new());
            lines.push(format!(
                "exposure after each cycle, USD: max {:.2}, last {last:.2}",
                self.exposure_usd.max()
            ));
            lines.push(self.exposure_usd.chart());
        }
        lines.join("\n")
    }
}

/// Different names that are counted; further ones are counted together, so that memory is bounded.
const MAX_NAMES: usize = 1000;

/// Characters of a name that are kept.
const MAX_NAME_CHARACTERS: usize = 80;

const OTHER_NAMES: &str = "(others)";

/// Counts a name. Producers choose the names, so their length and number are bounded here.
fn count_name(counts: &mut BTreeMap<String, u64>, name: &str) {
    let mut name: String = name.chars().take(MAX_NAME_CHARACTERS).collect();
    if counts.len() >= MAX_NAMES && !counts.contains_key(&name) {
        name = OTHER_NAMES.to_owned();
    }
    *counts.entry(name).or_default() += 1;
}

/// A rate in the shortest unit in which it is at least one event.
fn render_rate(count: f64, seconds: f64) -> String {
    let units = [("second", 1.0), ("minute", 60.0), ("hour", 3600.0)];
    let readable = units.into_iter().find(|(_, unit)| count / seconds * unit >= 1.0);
    let (name, unit) = readable.unwrap_or(("day", 86400.0));
    format!("{} events per {name}", round(count / seconds * unit))
}

fn round(number: f64) -> String {
    if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}

/// Rows of a table; the least frequent names of a longer one are added up.
const MAX_ROWS: usize = 30;

/// Characters of the longest bar.
const MAX_BAR_WIDTH: u64 = 30;

/// Renders counts under a heading, in the order of their names, each with a bar. Returns no line if
/// there are no counts.
fn render_counts(heading: &str, counts: &BTreeMap<String, u64>) -> Vec<String> {
    let mut rows: Vec<(String, u64)> = counts.iter().map(|(name, count)| (escape(name), *count)).collect();
    if rows.len() > MAX_ROWS {
        rows.sort_by_key(|(_, count)| Reverse(*count));
        let others = rows.split_off(MAX_ROWS).iter().map(|(_, count)| count).sum();
        rows.sort();
        rows.push((OTHER_NAMES.to_owned(), others));
    }
    let width = column_width(rows.iter().map(|(name, _)| name.as_str()), MAX_NAME_CHARACTERS);
    let max_count = rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let digits = max_count.to_string().len();
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.extend([String::new(), heading.to_owned()]);
    }
    lines.extend(rows.iter().map(|(name, count)| {
        let bar = "=".repeat((count * MAX_BAR_WIDTH).div_ceil(max_count.max(1)) as usize);
        format!("{name:width$}  {count:>digits$}  {bar}")
    }));
    lines
}

/// Columns of a chart.
const CHART_COLUMNS: usize = 60;

/// The maxima of a series over consecutive stretches of equal length. Memory is bounded however
/// long the series is.
#[derive(Default)]
struct Series {
    /// At most twice [`CHART_COLUMNS`].
    columns: Vec<f64>,
    /// Values in each column but the last.
    values_per_column: u64,
    values_in_last: u64,
    last: Option<f64>,
}

impl Series {
    fn add(&mut self, value: f64) {
        self.last = Some(value);
        self.values_per_column = self.values_per_column.max(1);
        if self.values_in_last == 0 || self.values_in_last == self.values_per_column {
            if self.columns.len() == 2 * CHART_COLUMNS {
                self.columns = self.columns.chunks(2).map(max_of).collect();
                self.values_per_column *= 2;
            }
            self.columns.push(0.0);
            self.values_in_last = 0;
        }
        self.values_in_last += 1;
        if let Some(column) = self.columns.last_mut() {
            *column = column.max(value);
        }
    }

    fn max(&self) -> f64 {
        max_of(&self.columns)
    }

    /// One line of blocks; the highest block is the maximum.
    fn chart(&self) -> String {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let max = self.max();
        let columns_per_block = self.columns.len().div_ceil(CHART_COLUMNS).max(1);
        let block = |columns: &[f64]| {
            let height = if max > 0.0 { (max_of(columns) / max * 7.0).round() as usize } else { 0 };
            BLOCKS[height.min(7)]
        };
        self.columns.chunks(columns_per_block).map(block).collect()
    }
}

/// The largest of the values; 0 for none.
fn max_of(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
