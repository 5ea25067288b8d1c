//! How long after an append returned its event is delivered to a follower in another process.

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

/// Long enough for the follower to be asleep again.
const PAUSE: Duration = Duration::from_millis(20);

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let place = setup.place()?;
    let (mut halves, mut p99s) = (Vec::new(), Vec::new());
    for round in 0..setup.rounds {
        let delays = delays(&place.path().join(round.to_string()), setup.times(200, 20) as u64)?;
        let sorted = sorted(&delays)?;
        halves.push(percentile(&sorted, 50.0));
        p99s.push(percentile(&sorted, 99.0));
    }
    let work = "from durable to delivered, another process, idle";
    report.rows.push(Row::figure(format!("{work}, p50"), Unit::Seconds, Spread::of(&halves)?));
    let row = Row::figure(format!("{work}, p99"), Unit::Seconds, Spread::of(&p99s)?);
    report.rows.push(row.at_most(5e-3, 1e-3));
    Ok(())
}

/// In seconds. Below zero where the follower was told before the appender went on.
fn delays(dir: &std::path::Path, count: u64) -> Result<Vec<f64>> {
    let bus = Bus::open(dir)?;
    let mut follower = child::command("follow")?
        .arg(dir)
        .arg(count.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a follower")?;
    let output = follower.stdout.take().context("no output to read")?;
    let mut told = BufReader::new(output).lines();
    ensure!(told.next().transpose()?.as_deref() == Some("ready"), "the follower does not follow");
    let mut durable = Vec::new();
    for number in 1..=count {
        thread::sleep(PAUSE);
        bus.append(Decision::nth(number).draft(number)?)?;
        durable.push(now_ns());
    }
    let mut delays = Vec::new();
    for line in told {
        let line = line?;
        let (index, at) = line.split_once(' ').context("the follower says something else")?;
        let index: usize = index.parse()?;
        let durable = durable.get(index - 1).context("an event that was not appended")?;
        delays.push((at.parse::<i64>()? - durable) as f64 / 1e9);
    }
    let status = follower.wait()?;
    ensure!(status.success() && delays.len() as u64 == count, "the follower missed some: {status}");
    Ok(delays)
}
