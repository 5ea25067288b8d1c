//! The delay from the return of an append until a follower in another process receives the event.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zero_bus::Bus;

use crate::child::{self, now_ns};
use crate::event::Decision;
use crate::log::Logs;
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::{Spread, percentile, sorted};

/// After this pause, the follower sleeps again.
const PAUSE: Duration = Duration::from_millis(20);

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let temp_dir = setup.temp_dir()?;
    let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
    for round in 0..setup.rounds {
        let delays = delays(&temp_dir.path().join(round.to_string()), setup.times(200, 20) as u64)?;
        let sorted = sorted(&delays)?;
        p50s.push(percentile(&sorted, 50.0));
        p99s.push(percentile(&sorted, 99.0));
    }
    let work = "delay from durable to delivered in another, idle process";
    report.rows.push(Row::figure(format!("{work}, p50"), Unit::Seconds, Spread::of(&p50s)?));
    let row = Row::figure(format!("{work}, p99"), Unit::Seconds, Spread::of(&p99s)?);
    report.rows.push(row.at_most(5e-3, 1e-3));
    Ok(())
}

/// Delays in seconds. A delay is negative if the follower received the event before the append
/// returned.
fn delays(dir: &std::path::Path, count: u64) -> Result<Vec<f64>> {
    let bus = Bus::open(dir)?;
    let mut follower = child::command("follow")?
        .arg(dir)
        .arg(count.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a follower")?;
    let output = follower.stdout.take().context("no output to read")?;
    let mut lines = BufReader::new(output).lines();
    ensure!(lines.next().transpose()?.as_deref() == Some("ready"), "the follower did not start");
    let mut durable = Vec::new();
    for number in 1..=count {
        thread::sleep(PAUSE);
        bus.append(Decision::nth(number).draft(number)?)?;
        durable.push(now_ns());
    }
    let mut delays = Vec::new();
    for line in lines {
        let line = line?;
        let (index, at) = line.split_once(' ').context("unexpected output of the follower")?;
        let index: usize = index.parse()?;
        let durable = durable.get(index - 1).context("an event that was not appended")?;
        delays.push((at.parse::<i64>()? - durable) as f64 / 1e9);
    }
    let status = follower.wait()?;
    ensure!(
        status.success() && delays.len() as u64 == count,
        "the follower received {} of {count} events: {status}",
        delays.len()
    );
    Ok(delays)
}
