//! `zero-bus stats`: what is in a bus, by number.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use zero_bus::{Head, Json, Reader};
use zero_cli::end::{Judgement, print, say};
use zero_cli::progress::Bar;
use zero_paper::rfc3339;

use crate::PROGRAM;

/// Count what is in a bus: events, bytes, first and last time, events by type.
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
    first_as_of: Option<f64>,
    last_as_of: Option<f64>,
    head: Head,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Judgement> {
    let reader = Reader::open(&arguments.dir)?;
    let mut stats = Stats { bytes: reader.size_bytes()?, ..Stats::default() };
    let bar = Bar::new("counting");
    let mut events = reader.events(1)?;
    let mut failed = None;
    while let Some(event) = events.next() {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        stats.head = Head { index: event.index, checksum: Some(event.checksum) };
        stats.first_as_of.get_or_insert(event.as_of);
        stats.last_as_of = Some(event.as_of);
        *stats.event_types.entry(event.event_type).or_default() += 1;
        if event.index % 4096 == 0 {
            bar.show(events.position());
        }
    }
    drop(bar);
    let text = if arguments.json { stats.json()?.to_string() } else { stats.in_words() };
    print(&text, Judgement::Fine)?;
    if events.torn_bytes() > 0 {
        say(PROGRAM, &format!("an unfinished end of {} bytes is left out", events.torn_bytes()));
    }
    match failed {
        // What could be counted is printed; the rest cannot be trusted.
        Some(error) => Err(error.into()),
        None => Ok(Judgement::Fine),
    }
}

impl Stats {
    fn json(&self) -> Result<Json> {
        #[derive(serde::Serialize)]
        struct Document<'a> {
            bytes: u64,
            event_types: &'a BTreeMap<String, u64>,
            events: u64,
            first_as_of: Option<f64>,
            last_as_of: Option<f64>,
            last_checksum: Option<zero_bus::Checksum>,
        }
        Ok(Json::of(&Document {
            bytes: self.bytes,
            event_types: &self.event_types,
            events: self.head.index,
            first_as_of: self.first_as_of,
            last_as_of: self.last_as_of,
            last_checksum: self.head.checksum,
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
        let shown: Vec<(String, u64)> = self
            .event_types
            .iter()
            .map(|(event_type, count)| (event_type.escape_debug().to_string(), *count))
            .collect();
        let width = shown.iter().map(|(event_type, _)| event_type.chars().count()).max().unwrap_or(0);
        let digits = shown.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or(0);
        if !shown.is_empty() {
            lines.push(String::new());
        }
        lines
            .extend(shown.iter().map(|(event_type, count)| format!("{event_type:width$}  {count:>digits$}")));
        lines.join("\n")
    }
}
