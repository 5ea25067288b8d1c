//! `zero-bus export`: write the events as tables for other programs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use zero_bus::{Json, Reader};
use zero_paper::text::counted;
use zero_program::outcome::Outcome;
use zero_program::output::print;
use zero_tables::export::{EVENTS_PER_FILE, export, open_directory};
use zero_tables::{TABLES, Table};

use crate::progress::Bar;

/// Write the events as tables in Parquet files.
///
/// Each table gets a subdirectory: events, and the decisions, fills, rejections, positions, cycles,
/// equity, candles, orders, expiries and strategy failures in them, with proper types. Run the
/// command again and it adds files for what is new; files that are there stay as they are. It
/// resumes after a kill at any moment. A log that does not hold what was exported is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus export bus --to parquet:tables
  zero-bus export bus --to parquet:tables --table fills --table decisions
  duckdb -c \"SELECT symbol, sum(notional_usd) FROM 'tables/fills/*.parquet' GROUP BY symbol\"

docs/NOTEBOOK.md lists the columns, and asks ten questions.

Exit codes: 0 passed, 1 failed (the log is damaged, or not the exported one), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Where the tables go: parquet: and a directory outside the bus. Created (mode 0700) if it
    /// does not exist.
    #[arg(long, value_name = "parquet:DIR", value_parser = parse_target)]
    to: PathBuf,
    /// A table to export. Can be given several times. [default: all tables]
    #[arg(long = "table", value_name = "NAME", value_parser = parse_table)]
    tables: Vec<&'static Table>,
    /// Print one JSON object: {"events", "tables": {NAME: {"files", "rows"}}}.
    #[arg(long)]
    json: bool,
}

fn parse_target(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("parquet:") {
        Some(directory) if !directory.is_empty() => Ok(directory.into()),
        _ => Err("expected parquet: and a directory, as in parquet:tables".to_owned()),
    }
}

fn parse_table(name: &str) -> Result<&'static Table, String> {
    Table::named(name).ok_or_else(|| {
        let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut tables = arguments.tables.clone();
    tables.sort_unstable_by_key(|table| table.name);
    tables.dedup_by_key(|table| table.name);
    if tables.is_empty() {
        tables = TABLES.iter().collect();
    }
    let reader = Reader::open(&arguments.dir)?;
    let directory = open_directory(&arguments.to, &arguments.dir)?;
    let bar = Bar::of_events("exporting");
    let exported = export(&reader, &directory, &tables, EVENTS_PER_FILE, &mut |event, events| {
        bar.show_events(event, events);
        true
    });
    drop(bar);
    // Removes the directory only if it is new and empty.
    let exported = exported.inspect_err(|_| directory.remove_created())?;
    if arguments.json {
        return print(Json::of(&exported).context("cannot print the result")?.as_str(), Outcome::Passed);
    }
    let name = arguments.to.display();
    let lines = exported.tables.iter().map(|(table, added)| {
        format!("{name}/{table}: {} in {}", counted(added.rows, "new row"), counted(added.files, "new file"))
    });
    let last = format!("{name}: covers {}", counted(exported.events, "event"));
    print(&lines.chain([last]).collect::<Vec<_>>().join("\n"), Outcome::Passed)
}
