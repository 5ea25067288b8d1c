//! The contract: the test suite that every destination passes. A destination's test file implements
//! [`TestBed`] and calls [`run_all`]. A normal run kills and repeats less often than a soak.

mod cases;
pub(crate) mod logs;
pub(crate) mod process;

use std::path::Path;

use zero_bus::{Checksum, Reader};
use zero_mirror::{CancelHandle, CatchUpOptions, CatchUpReport, Mirror, catch_up, verify};

/// Whether this is a soak, with as many kills and buses as the documents state.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1")
}

/// Creates destinations of one kind. Dropping it stops the servers that it started, even if a test
/// panics.
pub(crate) trait TestBed {
    /// The name of the kind in the table.
    const NAME: &'static str;

    /// Starts the servers that destinations of this kind need.
    fn start() -> Self;

    /// Returns the address of a new, empty destination. This process and others open it.
    fn destination(&mut self) -> String;

    /// The server of the last destination, if the kind has one.
    fn server(&mut self) -> Option<&mut dyn Server> {
        None
    }

    /// Changes the events at a destination without the mirror. Returns `false` if that is
    /// impossible.
    fn tamper(&mut self, url: &str, bus: Checksum, tampering: &Tampering) -> bool;
}

/// A server that can be killed and restarted.
pub(crate) trait Server {
    /// Ends the server as a crash would.
    fn kill(&mut self);

    /// Starts the server at the same address with its data. Returns when it answers.
    fn start(&mut self);
}

/// A change to the events at a destination. Events are named by index.
#[derive(Debug)]
pub(crate) enum Tampering {
    /// Replaces the line of an event.
    Line(u64, String),
    /// Deletes an event.
    Delete(u64),
    /// Swaps two events.
    Swap(u64, u64),
}

/// Runs every case and prints the results, a row for each case.
pub(crate) fn run_all<B: TestBed>() {
    let mut bed = B::start();
    let mut rows = Vec::new();
    for (name, case) in cases::all::<B>() {
        eprintln!("{}: {name}", B::NAME);
        rows.push((name, case(&mut bed)));
    }
    println!("\n| {} | |\n|---|---|", B::NAME);
    for (name, counts) in rows {
        println!("| {name} | {counts} |");
    }
}

pub(crate) fn open(url: &str) -> Box<dyn Mirror> {
    zero_mirror::open(url).unwrap()
}

/// Options with small batches, which give many boundaries.
pub(crate) fn plan(batch_events: usize) -> CatchUpOptions {
    CatchUpOptions { batch_events, ..CatchUpOptions::default() }
}

/// Mirrors the current events of a log.
pub(crate) fn mirror(log: &Path, url: &str, batch_events: usize) -> zero_mirror::Result<CatchUpReport> {
    catch_up(log, &mut *open(url), &plan(batch_events), &CancelHandle::default(), &mut |_| {})
}

pub(crate) fn bus_of(log: &Path) -> Checksum {
    Reader::open(log).unwrap().event(1).unwrap().unwrap().checksum
}

/// The exact lines of a log.
pub(crate) fn lines_of(log: &Path) -> Vec<String> {
    let mut events = Reader::open(log).unwrap().events(1).unwrap();
    std::iter::from_fn(|| events.next_with_line().unwrap()).map(|(_, line)| line).collect()
}

/// The lines at a destination, after verifying them.
pub(crate) fn lines_at(url: &str, bus: Checksum) -> Vec<String> {
    let mut lines = Vec::new();
    let keep = |_: &_, line: &str, _| {
        lines.push(line.to_owned());
        Ok::<(), zero_mirror::Error>(())
    };
    verify(&mut *open(url), bus, keep).unwrap();
    lines
}

/// Asserts that a destination holds a log: every event once, in order, with its exact line.
#[track_caller]
pub(crate) fn holds_all(log: &Path, url: &str) {
    let (mirrored, logged) = (lines_at(url, bus_of(log)), lines_of(log));
    assert_eq!(mirrored.len(), logged.len());
    assert!(mirrored == logged);
    assert_eq!(open(url).head(bus_of(log)).unwrap(), Reader::open(log).unwrap().head().unwrap());
}
