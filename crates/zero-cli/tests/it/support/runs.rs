//! Runs of the example scenario, and the records that a crash leaves.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use zero_bus::Reader;

use super::{CLOCK, ENGINE, EXAMPLE_SCENARIO, Finished, RECORDS, engine, wait_until};

pub(crate) const CYCLES: usize = 6;

/// Runs cycles of the example scenario with all records.
pub(crate) fn run_cycles(dir: &Path, cycles: &str, options: &[&str]) -> Finished {
    let base = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--fixed-clock", CLOCK];
    engine(dir, &[&base, &RECORDS[..], &["--max-cycles", cycles], options].concat())
}

/// Starts a runtime that runs cycles of the example scenario with all records.
pub(crate) fn start_cycles(dir: &Path, cycles: &str) -> Child {
    Command::new(*ENGINE)
        .args(["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--max-cycles", cycles])
        .args(RECORDS)
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the bus has this many events.
pub(crate) fn wait_for_events(dir: &Path, count: u64) {
    wait_until(|| {
        Reader::open(dir.join("bus")).is_ok_and(|reader| reader.head().is_ok_and(|head| head.index >= count))
    });
}

/// Runs six cycles. Returns the lines of the journal and of the log.
pub(crate) fn record_six_cycles(dir: &Path) -> (Vec<String>, Vec<String>) {
    run_cycles(dir, "6", &[]).success();
    let (journal, log) = (lines(&dir.join("d.jsonl")), lines(&dir.join("bus/events.jsonl")));
    assert_eq!((journal.len(), log.len()), (CYCLES, 5 * CYCLES));
    (journal, log)
}

/// Cuts journal and log to these lines, as a crash of the process does: the sync mark does not
/// count events that the log lacks.
pub(crate) fn cut_records(dir: &Path, journal: &[String], log: &[String]) {
    let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    fs::write(dir.join("d.jsonl"), text(journal)).unwrap();
    fs::write(dir.join("bus/events.jsonl"), text(log)).unwrap();
    for name in ["bus/bus.lock", "bus/state-snapshot.json"] {
        let removed = fs::remove_file(dir.join(name));
        assert!(removed.is_ok() || !dir.join(name).exists());
    }
}

pub(crate) fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}
