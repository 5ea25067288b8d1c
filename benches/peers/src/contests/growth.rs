//! One log that grows by steps of ten: what an append, opening, finding an event and verifying cost at each step.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use zero_bus::{Bus, Reader};

use crate::appenders::bare::Bare;
use crate::event::{self, Decision};
use crate::log::{Growing, Logs};
use crate::plot;
use crate::report::{Report, Unit};
use crate::setup::Setup;
use crate::stats::{Spread, median_of, seconds};

/// What was measured at one length, in seconds.
pub struct Step {
    pub events: u64,
    pub append: f64,
    /// An append's time over that of a bare write and sync beside it.
    pub append_to_bare: f64,
    pub open: f64,
    pub show: f64,
    pub verify_an_event: f64,
}

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let place = setup.place()?;
    let dir = place.path().join("growing");
    let lines = Arc::new(event::lines(place.path(), 1024)?);
    let mut bare = Bare::open(place.path(), &lines, 1)?;
    let mut growing = Growing::new(&dir)?;
    let mut steps = Vec::new();
    let mut events = 1_000;
    while events <= setup.growth_max {
        eprintln!("  {events} events");
        growing.grow_to(events)?;
        growing.finish()?;
        steps.push(measure(setup, &dir, events, &mut bare)?);
        events *= 10;
    }
    report.sections.push(table(&steps));
    report.plots.push(("performance-growth.svg".to_owned(), plot::growth(&steps)?));
    Ok(())
}

fn measure(setup: &Setup, dir: &std::path::Path, events: u64, bare: &mut Bare) -> Result<Step> {
    let reader = Reader::open(dir)?;
    // All that only reads first, since appending makes the log longer.
    let verify_an_event = median_of(setup.rounds.min(3), || {
        let took = seconds(|| {
            ensure!(reader.verify()?.ok(), "the log is not sound");
            Ok(())
        })?;
        Ok(took / events as f64)
    })?;
    let mut nth = 0;
    let show = median_of(setup.times(101, 11), || {
        nth += 1;
        let index = events / 2 + nth;
        seconds(|| Reader::open(dir)?.event(index)?.context("the event is not there"))
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
    Ok(Step { events, append, append_to_bare: append / bare, open, show, verify_an_event })
}

fn table(steps: &[Step]) -> String {
    let mut text = String::from(
        "What grows with the log, and what does not (medians):\n\n\
         | events | append | against a bare write and sync beside it | open | one event in the middle | verify, an event |\n\
         |---|---|---|---|---|---|\n",
    );
    for Step { events, append, append_to_bare, open, show, verify_an_event } in steps {
        let [append, open, show, verify] =
            [append, open, show, verify_an_event].map(|seconds| Unit::Seconds.text(*seconds));
        let _ = writeln!(text, "| {events} | {append} | {append_to_bare:.2} | {open} | {show} | {verify} |");
    }
    text
}
