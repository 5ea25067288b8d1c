//! Times that must not grow with the log: opening it, and reading one event.

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
    let temp_dir = setup.temp_dir()?;
    let long = logs.long()?;
    let short = of_size(&temp_dir.path().join("short"), 1 << 20)?;
    let open_and_append = |log: &Log| {
        let bus = log.bus.clone();
        move || {
            let draft = Decision::nth(1).draft(1)?;
            seconds(|| Ok(Bus::open(&bus)?.append(draft)?))
        }
    };
    let times = setup.times(30, 5);
    let (long, short) = duel(times, Box::new(open_and_append(&long)), Box::new(open_and_append(&short)))?;
    let work = format!("open a log of {} and append once", setup.log_size());
    // Here a round is one open of each log.
    let row = Row::ratio(work, "the same with a log of 1 MiB", Unit::Seconds, (&long, &short))?;
    report.rows.push(row.at_most(1.2, 1.2));
    Ok(())
}

pub fn read(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let middle = log.events / 2;
    let times = setup.times(1000, 50);
    let opened = Reader::open(&log.bus)?;
    let read_event = |reader: &Reader, index| -> Result<()> {
        let event = reader.event(index)?.context("the event is missing")?;
        ensure!(event.index == index, "requested event {index}, got {}", event.index);
        Ok(())
    };
    // Different events around the middle, so that the CPU caches do not hold their pages.
    let index = |n: usize| middle + (n as u64 * 7919) % (middle / 2).max(1);
    let (mut with_open, mut without) = (Vec::new(), Vec::new());
    for n in 0..times {
        with_open.push(seconds(|| read_event(&Reader::open(&log.bus)?, index(n)))?);
        without.push(seconds(|| read_event(&opened, index(n + times)))?);
    }
    let work = format!("read one event in the middle of {}", setup.log_size());
    let row = Row::figure(format!("{work}, including the open"), Unit::Seconds, Spread::of(&with_open)?);
    report.rows.push(row.at_most(1e-3, 1e-4));
    report.rows.push(Row::figure(
        format!("{work}, with an open reader"),
        Unit::Seconds,
        Spread::of(&without)?,
    ));
    Ok(())
}

pub fn boot(setup: &Setup, logs: &mut Logs, report: &mut Report) -> Result<()> {
    let log = logs.long()?;
    let temp_dir = setup.temp_dir()?;
    let database = temp_dir.path().join("events.sqlite");
    eprintln!("  building a database with the same number of rows");
    fill(&database, log.events, &event::lines(temp_dir.path(), 1024)?)?;
    let ours = || {
        seconds(|| {
            let bus = Bus::open(&log.bus)?;
            ensure!(bus.head().index >= log.events, "the log became shorter");
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
        let elapsed = begin.elapsed().as_secs_f64();
        ensure!(last.0 as u64 == log.events, "the last row is {}", last.0);
        Ok(elapsed)
    };
    let (ours, theirs) = duel(setup.times(30, 5), Box::new(ours), Box::new(theirs))?;
    let work = format!("open a bus with a log of {} for appending", setup.log_size());
    let compared_with = "SQLite with as many rows: open, read the last one";
    report.rows.push(Row::ratio(work, compared_with, Unit::Seconds, (&ours, &theirs))?);
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
    // An orderly shutdown leaves an empty write-ahead log as well.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}
