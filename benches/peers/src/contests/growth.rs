//! Times of append, open, read and verify as one log grows in powers of ten.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use zero_bus::{Bus, Reader};

use crate::appenders::bare::Bare;
use crate::event::{self, Decision};
use crate::log::{LogBuilder, Logs};
use crate::plot;
use crate::report::{Report, Unit};
use crate::setup::Setup;
use crate::stats::{Spread, median_of, seconds};

/// The times at one length of the log, in seconds.
pub struct Step {
    pub events: u64,
    pub append: f64,
    /// The time of an append divided by that of a bare write and sync in the same turns.
    pub append_to_bare: f64,
    pub open: f64,
    pub read: f64,
    pub verify_per_event: f64,
}

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let temp_dir = setup.temp_dir()?;
    let dir = temp_dir.path().join("growing");
    let lines = Arc::new(event::lines(temp_dir.path(), 1024)?);
    let mut bare = Bare::open(temp_dir.path(), &lines, 1)?;
    let mut builder = LogBuilder::new(&dir)?;
    let mut steps = Vec::new();
    let mut events = 1_000;
    while events <= setup.growth_max {
        eprintln!("  {events} events");
        builder.grow_to(events)?;
        builder.finish()?;
        steps.push(measure(setup, &dir, events, &mut bare)?);
        events *= 10;
    }
    report.sections.push(table(&steps));
    report.plots.push(("performance-growth.svg".to_owned(), plot::growth(&steps)?));
    Ok(())
}

fn measure(setup: &Setup, dir: &std::path::Path, events: u64, bare: &mut Bare) -> Result<Step> {
    let reader = Reader::open(dir)?;
    // Reads come first, because appends make the log longer.
    let verify_per_event = median_of(setup.rounds.min(3), || {
        let elapsed = seconds(|| {
            ensure!(reader.verify()?.ok(), "the log is not valid");
            Ok(())
        })?;
        Ok(elapsed / events as f64)
    })?;
    let mut nth = 0;
    let read = median_of(setup.times(101, 11), || {
        nth += 1;
        let index = events / 2 + nth;
        seconds(|| Reader::open(dir)?.event(index)?.context("the event is missing"))
    })?;
    let open = median_of(setup.times(31, 5), || seconds(|| Ok(Bus::open(dir)?)))?;
    let bus = Bus::open(dir)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..setup.times(300, 20) {
        let draft = Decision::nth(1).draft(1)?;
        ours.push(seconds(|| Ok(bus.append(draft)?))?);
        theirs.push(seconds(|| bare.append())?);
    }
    let (append, bare) = (Spread::of(&ours)?.median, Spread::of(&theirs)?.median);
    Ok(Step { events, append, append_to_bare: append / bare, open, read, verify_per_event })
}

fn table(steps: &[Step]) -> String {
    let mut text = String::from(
        "Time by length of the log (medians):\n\n\
         | events | append | append / bare write and sync | open | read one event in the middle | verify, per event |\n\
         |---|---|---|---|---|---|\n",
    );
    for Step { events, append, append_to_bare, open, read, verify_per_event } in steps {
        let [append, open, read, verify] =
            [append, open, read, verify_per_event].map(|seconds| Unit::Seconds.text(*seconds));
        let _ = writeln!(text, "| {events} | {append} | {append_to_bare:.2} | {open} | {read} | {verify} |");
    }
    text
}
