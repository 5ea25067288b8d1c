//! Appends while the log is sealed, compared with appends alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use zero_bus::{Bus, Draft, SealOptions};

use crate::figures::{Bar, Spread, Table};

/// How long appends are measured alone, before and after each seal.
const ALONE: Duration = Duration::from_millis(500);

/// Seals a bus in as many parts as there are rounds, while one producer appends.
pub(crate) fn measure(table: &Table, dir: &Path, count: u16) -> Result<()> {
    let (bus, sealer) = (Bus::open(dir)?, Bus::open(dir)?);
    let last = bus.head().index;
    let (mut alone, mut sealing, mut ratios, mut took) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=u64::from(count) {
        let up_to = last / u64::from(count) * round;
        let before = append_for(&bus, || false, ALONE)?;
        let is_sealed = AtomicBool::new(false);
        let during = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let begin = Instant::now();
                let sealed = sealer.seal(SealOptions::default().up_to(up_to), &mut |_| {});
                is_sealed.store(true, Ordering::Release);
                sealed.map(|_| begin.elapsed().as_secs_f64())
            });
            let during = append_for(&bus, || is_sealed.load(Ordering::Acquire), Duration::MAX);
            let seconds = thread.join().ok().context("the sealing thread failed")??;
            took.push(seconds);
            during
        })?;
        let after = append_for(&bus, || false, ALONE)?;
        let mean = (before + after) / 2.0;
        alone.push(mean);
        sealing.push(during);
        ratios.push(during / mean);
    }
    let ratio = Spread::of(ratios);
    let [alone, sealing, took] = [alone, sealing, took].map(Spread::of);
    let details = format!(
        "{}; {} / {} appends a second; each seal took {} s",
        ratio.text(),
        sealing.text(),
        alone.text(),
        took.text()
    );
    table.row("append while a segment is sealed / alone", Bar::AtLeast(0.9), ratio.median, &details);
    Ok(())
}

/// Appends one event after the other, and returns how many there were in a second.
fn append_for(bus: &Bus, is_done: impl Fn() -> bool, limit: Duration) -> Result<f64> {
    let payload = BTreeMap::from([("text", "x".repeat(400))]);
    let begin = Instant::now();
    let mut appended = 0_u64;
    while !is_done() && begin.elapsed() < limit {
        bus.append(Draft::new("bench.event", 1_777_593_600.0, &payload)?)?;
        appended += 1;
    }
    Ok(appended as f64 / begin.elapsed().as_secs_f64())
}
