//! What every destination must satisfy. A destination's own test file implements [`Place`] and calls [`holds`].

mod cases;
pub(crate) mod logs;
pub(crate) mod process;

use std::path::Path;

use zero_bus::{Checksum, Reader};
use zero_mirror::{CancelHandle, CatchUpOptions, CatchUpReport, Mirror, catch_up, verify};

/// Where destinations of one kind are made. Dropping it stops what was started for it, also when a test panics.
pub(crate) trait Place {
    /// What it is called in the table.
    const NAME: &'static str;

    /// Starts what the destinations of this kind need.
    fn start() -> Self;

    /// The address of a new, empty destination. Everybody opens it by that, this process and others.
    fn destination(&mut self) -> String;

    /// The server, where there is one that can be away.
    fn server(&mut self) -> Option<&mut dyn Server> {
        None
    }

    /// Changes what a destination holds, behind the mirror's back. `false` where nobody can.
    fn tamper(&mut self, url: &str, bus: Checksum, tampering: &Tampering) -> bool;
}

/// A server that can be away.
pub(crate) trait Server {
    /// Ends it as a crash does.
    fn kill(&mut self);

    /// Starts it again, at the same address and with what it held. Returns once it answers.
    fn start(&mut self);
}

/// What somebody may do to the events that a destination holds, each at an index.
#[derive(Debug)]
pub(crate) enum Tampering {
    /// The line of an event is replaced by another.
    Line(u64, String),
    /// An event is deleted.
    Delete(u64),
    /// Two events stand in each other's place.
    Swap(u64, u64),
}

/// Runs every case, and prints what came of it: a row of the table destination x case.
pub(crate) fn holds<P: Place>() {
    let mut place = P::start();
    let mut row = Vec::new();
    for (name, case) in cases::all::<P>() {
        eprintln!("{}: {name}", P::NAME);
        row.push((name, case(&mut place)));
    }
    println!("\n| {} | |\n|---|---|", P::NAME);
    for (name, counts) in row {
        println!("| {name} | {counts} |");
    }
}

pub(crate) fn open(url: &str) -> Box<dyn Mirror> {
    zero_mirror::open(url).unwrap()
}

/// Small batches, so that there are many boundaries.
pub(crate) fn plan(batch_events: usize) -> CatchUpOptions {
    CatchUpOptions { batch_events, ..CatchUpOptions::default() }
}

/// Brings a destination up to a log as it is now.
pub(crate) fn mirror(log: &Path, url: &str, batch_events: usize) -> zero_mirror::Result<CatchUpReport> {
    catch_up(log, &mut *open(url), &plan(batch_events), &CancelHandle::default(), &mut |_| {})
}

pub(crate) fn bus_of(log: &Path) -> Checksum {
    Reader::open(log).unwrap().event(1).unwrap().unwrap().checksum
}

/// The lines of a log, exactly.
pub(crate) fn lines_of(log: &Path) -> Vec<String> {
    let mut events = Reader::open(log).unwrap().events(1).unwrap();
    std::iter::from_fn(|| events.next_with_line().unwrap()).map(|(_, line)| line).collect()
}

/// The lines that a destination holds, walked and judged.
pub(crate) fn lines_at(url: &str, bus: Checksum) -> Vec<String> {
    let mut lines = Vec::new();
    let keep = |_: &_, line: &str, _| {
        lines.push(line.to_owned());
        Ok::<(), zero_mirror::Error>(())
    };
    verify(&mut *open(url), bus, keep).unwrap();
    lines
}

/// That a destination holds a log: every event once, in order, its line to the byte.
#[track_caller]
pub(crate) fn holds_all(log: &Path, url: &str) {
    let (there, here) = (lines_at(url, bus_of(log)), lines_of(log));
    assert_eq!(there.len(), here.len());
    assert!(there == here);
    assert_eq!(open(url).head(bus_of(log)).unwrap(), Reader::open(log).unwrap().head().unwrap());
}
