//! Durable appends, ours against another's, who take turns on the same disk.

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

/// In how many turns each contender's time in a round is cut.
const TURNS: usize = 10;

pub fn bare_1(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = against(setup, report, 1, |dir, lines| Ok(Some(Bare::open(dir, lines, 1)?)))?;
    report.rows.push(row.at_least(0.95, 1.0));
    Ok(())
}

pub fn sqlite_1(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = against(setup, report, 1, |dir, lines| Ok(Some(One::open(dir, lines)?)))?;
    report.rows.push(row.at_least(1.0, 1.1));
    Ok(())
}

pub fn bare_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = against(setup, report, 16, |dir, lines| Ok(Some(Bare::open(dir, lines, 16)?)))?;
    report.rows.push(row.at_least(0.55, 0.75));
    Ok(())
}

pub fn bare_64(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = against(setup, report, 64, |dir, lines| Ok(Some(Bare::open(dir, lines, 64)?)))?;
    report.rows.push(row.at_least(0.4, 0.6));
    Ok(())
}

pub fn sqlite_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = against(setup, report, 16, |dir, lines| Ok(Some(Batching::open(dir, lines, 16)?)))?;
    report.rows.push(row.at_least(1.3, 1.6));
    Ok(())
}

pub fn postgres_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = against(setup, report, 16, |dir, lines| Postgres::open(dir, lines, 16))?;
    report.rows.push(row.at_least(2.5, 3.5));
    Ok(())
}

pub fn okaywal_16(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let row = against(setup, report, 16, |dir, lines| Ok(Some(OkayWal::open(dir, lines, 16)?)))?;
    report.rows.push(row.at_least(1.0, 1.3));
    Ok(())
}

/// What bounds us beside SQLite, which writes over a file that has its length: a file that grows, without anything of ours.
pub fn bound(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let place = setup.place()?;
    let lines: Lines = Arc::new(event::lines(place.path(), LINES)?);
    let mut one = Bare::open(place.path(), &lines, 1)?;
    let row = against_each_other(setup, &mut one, &mut One::open(place.path(), &lines)?)?;
    report.rows.push(Row { work: format!("{}, 1 producer", one.name()), ..row });
    let mut many = Bare::open(place.path(), &lines, 16)?;
    let row = against_each_other(setup, &mut many, &mut Batching::open(place.path(), &lines, 16)?)?;
    report.rows.push(Row { work: many.name(), ..row });
    Ok(())
}

pub fn redb(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    for producers in [1, 16] {
        let row =
            against(setup, report, producers, |dir, lines| Ok(Some(Redb::open(dir, lines, producers)?)))?;
        report.rows.push(row);
    }
    Ok(())
}

pub fn fjall(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    for producers in [1, 16] {
        let row =
            against(setup, report, producers, |dir, lines| Ok(Some(Fjall::open(dir, lines, producers)?)))?;
        report.rows.push(row);
    }
    Ok(())
}

pub fn nats(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    for producers in [1, 16] {
        let row = against(setup, report, producers, |dir, lines| Nats::open(dir, lines, producers))?;
        report.rows.push(row);
    }
    Ok(())
}

/// Ours against another's, which is `None` where this machine has it not.
fn against<A: Appender>(
    setup: &Setup,
    report: &mut Report,
    producers: usize,
    open: impl FnOnce(&Path, &Lines) -> Result<Option<A>>,
) -> Result<Row> {
    let place = setup.place()?;
    let lines: Lines = Arc::new(event::lines(place.path(), LINES)?);
    let Some(mut theirs) = open(place.path(), &lines)? else {
        bail!("the server is not installed on this machine");
    };
    let mut ours = Ours::open(place.path(), producers)?;
    report.waits_for(&ours.name(), ours.waits_for());
    report.waits_for(&theirs.name(), theirs.waits_for());
    let row = against_each_other(setup, &mut ours, &mut theirs)?;
    let producers = match producers {
        1 => "1 producer".to_owned(),
        producers => format!("{producers} producers"),
    };
    let label = format!("{producers}, against {}", theirs.name().replace('`', ""));
    report.appends.push((label, row.measured.median));
    Ok(Row { work: format!("append durably, {producers}"), ..row })
}

/// Two who take turns.
fn against_each_other(setup: &Setup, ours: &mut impl Appender, theirs: &mut impl Appender) -> Result<Row> {
    // Once for nothing: files are made, memory is taken.
    ours.run(setup.budget / 4)?;
    theirs.run(setup.budget / 4)?;
    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    for _ in 0..setup.rounds {
        // A round is many short turns, since what a sync takes changes from second to second.
        let turn = setup.budget / TURNS as u32;
        let (in_ours, in_theirs) = duel(TURNS, Box::new(|| ours.run(turn)), Box::new(|| theirs.run(turn)))?;
        our_rates.push(mean(&in_ours));
        their_rates.push(mean(&in_theirs));
    }
    Row::ratio(ours.name(), theirs.name(), Unit::Rate, (&our_rates, &their_rates))
}

/// Of turns that are all as long: the rate over all of them.
fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len() as f64
}
