//! What must not grow with a log: opening it, and finding one event in it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};
use zero_bus::{Bus, Reader};

use crate::appenders::sqlite;
use crate::event::{self, Decision};
use crate::log::{Log, Logs, of_size};
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::{Spread, duel, seconds};

pub fn open(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let place = setup.place()?;
    let long = logs.long()?;
    let short = of_size(&place.path().join("short"), 1 << 20)?;
    let open_and_append = |log: &Log| {
        let bus = log.bus.clone();
        move || {
            let draft = Decision::nth(1).draft(1)?;
            seconds(|| Ok(Bus::open(&bus)?.append(draft)?))
        }
    };
    let times = setup.times(30, 5);
    let (long, short) = duel(times, Box::new(open_and_append(&long)), Box::new(open_and_append(&short)))?;
    let work = format!("open and append once, a log of {}", setup.log_size());
    // A round is one open of each here.
    let row = Row::ratio(work, "the same, a log of 1 MiB", Unit::Seconds, (&long, &short))?;
    report.rows.push(row.at_most(1.2, 1.2));
    Ok(())
}

pub fn show(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let middle = log.events / 2;
    let times = setup.times(1000, 50);
    let opened = Reader::open(&log.bus)?;
    let look = |reader: &Reader, index| -> Result<()> {
        let event = reader.event(index)?.context("the event is not there")?;
        ensure!(event.index == index, "asked for {index}, given {}", event.index);
        Ok(())
    };
    // Around the middle: not the same pages in the processor's caches again and again.
    let index = |n: usize| middle + (n as u64 * 7919) % (middle / 2).max(1);
    let (mut with_open, mut without) = (Vec::new(), Vec::new());
    for n in 0..times {
        with_open.push(seconds(|| look(&Reader::open(&log.bus)?, index(n)))?);
        without.push(seconds(|| look(&opened, index(n + times)))?);
    }
    let work = format!("one event in the middle of {}", setup.log_size());
    let row = Row::figure(format!("{work}, opening included"), Unit::Seconds, Spread::of(&with_open)?);
    report.rows.push(row.at_most(1e-3, 1e-4));
    report.rows.push(Row::figure(
        format!("{work}, with a reader that is open"),
        Unit::Seconds,
        Spread::of(&without)?,
    ));
    Ok(())
}

pub fn boot(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let place = setup.place()?;
    let database = place.path().join("events.sqlite");
    eprintln!("  building a database of as many rows");
    fill(&database, log.events, &event::lines(place.path(), 1024)?)?;
    let ours = || {
        seconds(|| {
            let bus = Bus::open(&log.bus)?;
            ensure!(bus.head().index >= log.events, "the log is shorter than it was");
            Ok(())
        })
    };
    let theirs = || {
        let begin = Instant::now();
        let connection = Connection::open(&database)?;
        let last: (i64, String) =
            connection.query_row("SELECT id, line FROM events ORDER BY id DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let took = begin.elapsed().as_secs_f64();
        ensure!(last.0 as u64 == log.events, "the last row is {}", last.0);
        Ok(took)
    };
    let (ours, theirs) = duel(setup.times(30, 5), Box::new(ours), Box::new(theirs))?;
    let work = format!("open a bus with a log of {} for appending", setup.log_size());
    let against = "SQLite: open as many rows, read the last";
    report.rows.push(Row::ratio(work, against, Unit::Seconds, (&ours, &theirs))?);
    Ok(())
}

fn fill(database: &std::path::Path, rows: u64, lines: &[String]) -> Result<()> {
    let mut connection = sqlite::open(database)?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare(sqlite::INSERT)?;
        for row in 1..=rows {
            insert.execute(params![row as i64, lines[row as usize % lines.len()].trim_end()])?;
        }
    }
    transaction.commit()?;
    // As after an orderly end: nothing is left in the write-ahead log.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}
