//! Runs of the example scenario, and what a crash leaves of their records.

use std::fs;
use std::path::Path;

use super::{CLOCK, Ended, RECORDS, engine, root};

pub(crate) const CYCLES: usize = 6;

pub(crate) fn run(directory: &Path, cycles: &str, more: &[&str]) -> Ended {
    let scenario = root().join("examples/paper-trading/scenario.json");
    let scenario = ["--scenario", scenario.to_str().unwrap(), "--interval", "0"];
    let cycles = ["--fixed-clock", CLOCK, "--max-cycles", cycles];
    engine(directory, &[&scenario, &RECORDS[..], &cycles, more].concat())
}

/// A run of six cycles; what its files hold, line by line.
pub(crate) fn recorded(directory: &Path) -> (Vec<String>, Vec<String>) {
    run(directory, "6", &[]).fine();
    let lines = |file: &str| -> Vec<String> {
        fs::read_to_string(directory.join(file)).unwrap().lines().map(str::to_owned).collect()
    };
    let (journal, log) = (lines("d.jsonl"), lines("bus/events.jsonl"));
    assert_eq!((journal.len(), log.len()), (CYCLES, 5 * CYCLES));
    (journal, log)
}

/// Leaves this much of the two, as a crash of the process does: the companion knows of no more than the log has.
pub(crate) fn leave(directory: &Path, journal: &[String], log: &[String]) {
    let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    fs::write(directory.join("d.jsonl"), text(journal)).unwrap();
    fs::write(directory.join("bus/events.jsonl"), text(log)).unwrap();
    for name in ["bus/bus.lock", "bus/state-snapshot.json"] {
        let removed = fs::remove_file(directory.join(name));
        assert!(removed.is_ok() || !directory.join(name).exists());
    }
}

pub(crate) fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}
