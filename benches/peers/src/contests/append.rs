//! Durable appends of zero-bus and a peer, in alternating turns on the same disk.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::appenders::bare::Bare;
use crate::appenders::embedded::{Fjall, OkayWal, Redb};
use crate::appenders::nats::Nats;
use crate::appenders::ours::Ours;
use crate::appenders::postgres::Postgres;
use crate::appenders::sqlite::{Batching, One};
use crate::appenders::{Appender, LINES, Lines};
use crate::event;
use crate::log::Logs;
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::duel;

/// The number of turns into which the time of a contender in a round is divided.
const TURNS: usize = 10;

pub fn bare_1(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = compare_with(setup, report, 1, |dir, lines| Ok(Some(Bare::open(dir, lines, 1)?)))?;
    report.rows.push(row.at_least(0.95, 1.0));
    Ok(())
}

pub fn sqlite_1(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = compare_with(setup, report, 1, |dir, lines| Ok(Some(One::open(dir, lines)?)))?;
    report.rows.push(row.at_least(1.0, 1.1));
    Ok(())
}

pub fn bare_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = compare_with(setup, report, 16, |dir, lines| Ok(Some(Bare::open(dir, lines, 16)?)))?;
    report.rows.push(row.at_least(0.55, 0.75));
    Ok(())
}

pub fn bare_64(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = compare_with(setup, report, 64, |dir, lines| Ok(Some(Bare::open(dir, lines, 64)?)))?;
    report.rows.push(row.at_least(0.4, 0.6));
    Ok(())
}

pub fn sqlite_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = compare_with(setup, report, 16, |dir, lines| Ok(Some(Batching::open(dir, lines, 16)?)))?;
    report.rows.push(row.at_least(1.3, 1.6));
    Ok(())
}

pub fn postgres_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = compare_with(setup, report, 16, |dir, lines| Postgres::open(dir, lines, 16))?;
    report.rows.push(row.at_least(2.5, 3.5));
    Ok(())
}

pub fn okaywal_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = compare_with(setup, report, 16, |dir, lines| Ok(Some(OkayWal::open(dir, lines, 16)?)))?;
    report.rows.push(row.at_least(1.0, 1.3));
    Ok(())
}

/// Compares bare writes to a growing file with SQLite, which overwrites a file of constant length.
/// This bounds what zero-bus can reach.
pub fn bound(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let temp_dir = setup.temp_dir()?;
    let lines: Lines = Arc::new(event::lines(temp_dir.path(), LINES)?);
    let mut single = Bare::open(temp_dir.path(), &lines, 1)?;
    let row = compare(setup, &mut single, &mut One::open(temp_dir.path(), &lines)?)?;
    report.rows.push(Row { work: format!("{}, 1 producer", single.name()), ..row });
    let mut batched = Bare::open(temp_dir.path(), &lines, 16)?;
    let row = compare(setup, &mut batched, &mut Batching::open(temp_dir.path(), &lines, 16)?)?;
    report.rows.push(Row { work: batched.name(), ..row });
    Ok(())
}

pub fn redb(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    for producers in [1, 16] {
        let row = compare_with(setup, report, producers, |dir, lines| {
            Ok(Some(Redb::open(dir, lines, producers)?))
        })?;
        report.rows.push(row);
    }
    Ok(())
}

pub fn fjall(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    for producers in [1, 16] {
        let row = compare_with(setup, report, producers, |dir, lines| {
            Ok(Some(Fjall::open(dir, lines, producers)?))
        })?;
        report.rows.push(row);
    }
    Ok(())
}

pub fn nats(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    for producers in [1, 16] {
        let row = compare_with(setup, report, producers, |dir, lines| Nats::open(dir, lines, producers))?;
        report.rows.push(row);
    }
    Ok(())
}

/// Compares zero-bus with a peer. `open` returns `None` if the peer is not installed.
fn compare_with<A: Appender>(
    setup: &Setup,
    report: &mut Report,
    producers: usize,
    open: impl FnOnce(&Path, &Lines) -> Result<Option<A>>,
) -> Result<Row> {
    let temp_dir = setup.temp_dir()?;
    let lines: Lines = Arc::new(event::lines(temp_dir.path(), LINES)?);
    let Some(mut theirs) = open(temp_dir.path(), &lines)? else {
        bail!("the server is not installed on this machine");
    };
    let mut ours = Ours::open(temp_dir.path(), producers)?;
    report.waits_for(&ours.name(), ours.waits_for());
    report.waits_for(&theirs.name(), theirs.waits_for());
    let row = compare(setup, &mut ours, &mut theirs)?;
    let producers = match producers {
        1 => "1 producer".to_owned(),
        producers => format!("{producers} producers"),
    };
    let label = format!("{producers}, against {}", theirs.name().replace('`', ""));
    report.append_ratios.push((label, row.measured.median));
    Ok(Row { work: format!("append durably, {producers}"), ..row })
}

/// Compares two appenders in alternating turns.
fn compare(setup: &Setup, ours: &mut impl Appender, theirs: &mut impl Appender) -> Result<Row> {
    // Warm-up: creates the files and allocates the memory.
    ours.run(setup.budget / 4)?;
    theirs.run(setup.budget / 4)?;
    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    for _ in 0..setup.rounds {
        // A round has many short turns, because the time of a sync changes from second to second.
        let turn = setup.budget / TURNS as u32;
        let (our_turns, their_turns) =
            duel(TURNS, Box::new(|| ours.run(turn)), Box::new(|| theirs.run(turn)))?;
        our_rates.push(mean(&our_turns));
        their_rates.push(mean(&their_turns));
    }
    Row::ratio(ours.name(), theirs.name(), Unit::Rate, (&our_rates, &their_rates))
}

/// The rate over turns of equal length.
fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len() as f64
}
