//! Runs of the example scenario, and the records that a crash leaves.

use std::fs;
use std::path::Path;

use super::{CLOCK, EXAMPLE_SCENARIO, Finished, RECORDS, engine};

pub(crate) const CYCLES: usize = 6;

/// Runs cycles of the example scenario with all records.
pub(crate) fn run_cycles(dir: &Path, cycles: &str, options: &[&str]) -> Finished {
    let base = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--fixed-clock", CLOCK];
    engine(dir, &[&base, &RECORDS[..], &["--max-cycles", cycles], options].concat())
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
