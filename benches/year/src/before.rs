//! A bus that was never sealed, with this program and with an earlier one.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::figures::{Bar, Spread, Table, run, seconds};

/// How long a program appends in each turn.
const TURN: Duration = Duration::from_millis(500);

/// How often a program is started in each turn.
const OPENS: u32 = 50;

const EVENT: &str = r#"{"as_of":1777593600.0,"event_type":"bench.event","payload":{"text":"twenty words"}}"#;

/// Compares two programs in alternating order.
pub(crate) fn measure(table: &Table, bus: &Path, after: &Path, before: &Path, count: u16) -> Result<()> {
    let bar = Bar::AtLeast(0.97);
    let rates = "a second, after and before";
    compare(table, "append, never sealed, after / before", bar, rates, [after, before], count, |program| {
        appends_per_second(program, bus)
    })?;
    let what = "open and append once, never sealed, after / before";
    compare(table, what, bar, rates, [after, before], count, |program| {
        let append =
            ["append".as_ref(), bus.as_os_str(), "--type".as_ref(), "bench.event".as_ref(), "{}".as_ref()];
        let runs =
            |arguments: &[&OsStr]| seconds(|| (0..OPENS).try_for_each(|_| run(program, arguments).map(drop)));
        // Without the time that the start of the program takes.
        Ok(f64::from(OPENS) / (runs(&append)? - runs(&["--version".as_ref()])?))
    })?;
    compare(table, "verify, never sealed, after / before", bar, rates, [after, before], count, |program| {
        Ok(1.0 / seconds(|| run(program, &["verify".as_ref(), bus.as_os_str()]))?)
    })
}

/// Measures rates in several rounds, each in both orders.
fn compare(
    table: &Table,
    what: &str,
    bar: Bar,
    unit: &str,
    programs: [&Path; 2],
    count: u16,
    measure: impl Fn(&Path) -> Result<f64>,
) -> Result<()> {
    let (mut ratios, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
    for round in 0..count {
        let mut measured = [0.0; 2];
        for turn in 0..2 {
            let side = usize::from((round + turn) % 2);
            measured[side] = measure(programs[side])?;
            rates[side].push(measured[side]);
        }
        ratios.push(measured[0] / measured[1]);
    }
    let ratio = Spread::of(ratios);
    let [after, before] = rates.map(Spread::of);
    let details = format!("{}; {} / {} {unit}", ratio.text(), after.text(), before.text());
    table.row(what, bar, ratio.median, &details);
    Ok(())
}

/// Lets a program append one event after the other, each after the answer to the one before.
fn appends_per_second(program: &Path, bus: &Path) -> Result<f64> {
    let mut child = Command::new(program)
        .arg("append")
        .arg(bus)
        .arg("--batch")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut to = child.stdin.take().context("no standard input")?;
    let mut from = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut answer = String::new();
    let mut append = || -> Result<()> {
        to.write_all(format!("{EVENT}\n").as_bytes())?;
        answer.clear();
        from.read_line(&mut answer)?;
        ensure!(answer.contains("event_index"), "{}: {answer}", program.display());
        Ok(())
    };
    // The first one opens the bus.
    append()?;
    let begin = Instant::now();
    let mut appended = 0_u32;
    while begin.elapsed() < TURN {
        append()?;
        appended += 1;
    }
    let rate = f64::from(appended) / begin.elapsed().as_secs_f64();
    drop(to);
    ensure!(child.wait()?.success(), "{} failed", program.display());
    Ok(rate)
}
