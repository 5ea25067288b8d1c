//! A log before and after it is sealed: its size, and what reading it costs.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Result, ensure};
use zero_bus::{Bus, LOG, Reader, SealOptions};

use crate::figures::{Bar, Spread, Table, bytes_in, rounds, run, seconds};
use crate::records::last_time;

const HOUR_SECONDS: f64 = 3600.0;

/// Measures the log of a bus, seals it, and measures it again. The plain log is gone afterwards.
pub(crate) fn measure(table: &Table, bus: &Path, program: &Path, count: u16) -> Result<()> {
    let since = last_time(bus)? - HOUR_SECONDS;
    let plain_bytes = Reader::open(bus)?.size_bytes()?;
    let is_cached = plain_bytes < 8 << 30;
    // A log that does not fit into the cache is read from the disk in each round.
    let verify_rounds = if is_cached { count } else { 1 };
    let plain = verify(bus, verify_rounds)?;
    let since_last = since_last(bus, count)?;
    table.row("verify --since-last with nothing new, ms", Bar::None, since_last.median, &since_last.text());

    // As `zero-bus seal` does by default: the rest does not fill a segment.
    let seal_seconds = seal(bus, &SealOptions::default())?;
    let rest_bytes = bus.join(LOG).metadata()?.len();
    let tail = tail(bus, since, program, count)?;
    let what = "`tail --since 1h` before the last events fill a segment, ms";
    let details = format!("{}; {} MB in the active file", tail.text(), rest_bytes / 1_000_000);
    table.row(what, Bar::None, tail.median, &details);
    seal(bus, SealOptions::default().up_to(u64::MAX))?;

    let speed = format!("{:.0} s, {:.0} MB/s", seal_seconds, plain_bytes as f64 / 1e6 / seal_seconds);
    table.row("seal, s", Bar::None, seal_seconds, &speed);
    let sealed_bytes = bytes_in(&bus.join("segments"))? + bus.join(LOG).metadata()?.len();
    let details = format!("{} MB / {} MB", sealed_bytes / 1_000_000, plain_bytes / 1_000_000);
    let ratio = sealed_bytes as f64 / plain_bytes as f64;
    table.row("bytes on disk, plain / sealed", Bar::AtLeast(9.0), 1.0 / ratio, &details);
    reads(table, bus, since, program, count)?;
    let sealed = verify(bus, count)?;
    let cached = if is_cached { "" } else { "; the plain log does not fit into the cache" };
    let details = format!("{} s / {} s{cached}", sealed.text(), plain.text());
    table.row("verify of sealed / of plain", Bar::AtMost(1.25), sealed.median / plain.median, &details);
    Ok(())
}

/// Reads single events and the last hour.
fn reads(table: &Table, bus: &Path, since: f64, program: &Path, count: u16) -> Result<()> {
    let head = Reader::open(bus)?.head()?.index;
    // Another frame in each round.
    let next = Cell::new(head / 2);
    let middle = || {
        next.set(next.get() + 5_000.min(head / 100));
        next.get()
    };
    let call = rounds(count, || {
        let index = middle();
        let took =
            seconds(|| Ok(ensure!(Reader::open(bus)?.event(index)?.is_some(), "there is no event {index}")));
        Ok(took? * 1e3)
    })?;
    let process = rounds(count, || {
        let index = middle().to_string();
        let arguments = ["show".as_ref(), bus.as_os_str(), index.as_ref(), "--json".as_ref()];
        Ok(seconds(|| run(program, &arguments))? * 1e3)
    })?;
    table.row("`show` in the middle, process, ms", Bar::AtMost(5.0), process.median, &process.text());
    table.row("the same in the library, with the open, ms", Bar::AtMost(5.0), call.median, &call.text());
    let tail = tail(bus, since, program, count)?;
    table.row("`tail --since 1h` at the end, process, ms", Bar::AtMost(10.0), tail.median, &tail.text());
    Ok(())
}

/// Prints the events since a time.
fn tail(bus: &Path, since: f64, program: &Path, count: u16) -> Result<Spread> {
    let since = format!("{since:?}");
    rounds(count, || {
        let arguments = ["tail".as_ref(), bus.as_os_str(), "--since".as_ref(), since.as_ref()];
        let mut output = String::new();
        let took = seconds(|| {
            output = run(program, &arguments)?;
            Ok(())
        })?;
        let lines = output.lines().count();
        ensure!((100..100_000).contains(&lines), "tail printed {lines} lines");
        Ok(took * 1e3)
    })
}

fn seal(bus: &Path, options: &SealOptions) -> Result<f64> {
    let bus = Bus::open(bus)?;
    seconds(|| Ok(bus.seal(options, &mut |_| {})?))
}

fn verify(bus: &Path, count: u16) -> Result<Spread> {
    let reader = Reader::open(bus)?;
    rounds(count, || seconds(|| Ok(ensure!(reader.verify()?.ok(), "the log is not valid"))))
}

fn since_last(bus: &Path, count: u16) -> Result<Spread> {
    let reader = Reader::open(bus)?;
    reader.remember_verified(reader.head()?)?;
    rounds(count, || Ok(seconds(|| Ok(reader.verify_since_last(&mut |_| {})?))? * 1e3))
}
