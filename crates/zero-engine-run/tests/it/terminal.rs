//! What a terminal shows and a pipe does not.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{OnTerminal, command, example_scenario, plain, run};

const RECORDS: [&str; 4] = ["--journal", "d.jsonl", "--runtime-bus", "bus"];
const SIX_CYCLES: [&str; 6] = ["--max-cycles", "6", "--interval", "0", "--fixed-clock", "1777593600"];

/// Runs the example scenario with both streams on a terminal.
fn run_on_terminal(directory: &Path, arguments: &[&str]) -> String {
    let scenario = example_scenario();
    let arguments = [&["--scenario", scenario.to_str().unwrap()], arguments].concat();
    let (code, shown) = OnTerminal::start(command(directory, &arguments), None).finish();
    assert_eq!(code, Some(0), "{shown}");
    shown
}

#[test]
fn a_terminal_shows_the_start_each_cycle_and_a_summary() {
    let directory = tempfile::tempdir().unwrap();
    let coloured = run_on_terminal(directory.path(), &[&RECORDS[..], &SIX_CYCLES].concat());
    assert!(coloured.contains("\x1b[32mfill      BTC buy 0.01 @ 64000 = 640.00 USD\x1b[0m"), "{coloured}");
    assert!(coloured.contains("\x1b[33mrejection SOL buy 4 @ 150 confidence below minimum\x1b[0m"));

    let shown = plain(&coloured);
    let (before, after) = shown.split_once("\n{\n").unwrap();
    let (record, after) = after.split_once("\n}\n").unwrap();
    let scenario = example_scenario().display().to_string();
    let start_and_cycles = format!(
        "\
scenario      first-flight, 6 orders ({scenario})
limits        order 1,000.00 USD, position 1,800.00 USD, confidence at least 0.6
journal       d.jsonl
bus           bus
recovered     nothing, this is a new run
2026-05-01
cycle 1     00:00:00Z fill      BTC buy 0.01 @ 64000 = 640.00 USD
cycle 2     00:00:00Z fill      ETH buy 0.3 @ 3100 = 930.00 USD
cycle 3     00:00:00Z rejection SOL buy 4 @ 150 confidence below minimum
cycle 4     00:00:00Z rejection ETH buy 0.31 @ 3150 projected position exceeds limit
cycle 5     00:00:00Z rejection BTC buy 0.05 @ 64500 order notional exceeds limit
cycle 6     00:00:00Z fill      BTC sell 0.005 @ 65200 = 326.00 USD"
    );
    assert_eq!(before, start_and_cycles);
    assert!(record.contains(r#""cycle_id": 6"#) && record.contains(r#""schema_version""#), "{record}");
    let summary = "
cycles        6 (cycles 1 to 6)
fills         3
rejections    3
              confidence below minimum          1
              order notional exceeds limit      1
              projected position exceeds limit  1
positions     BTC  0.005 @ 64,000.00 = 320.00 USD
              ETH    0.3 @  3,100.00 = 930.00 USD
";
    assert_eq!(after, summary);
}

#[test]
fn a_restart_shows_what_was_recovered_and_counts_its_own_cycles() {
    let directory = tempfile::tempdir().unwrap();
    run_on_terminal(directory.path(), &[&RECORDS[..], &SIX_CYCLES].concat());
    let shown = plain(&run_on_terminal(directory.path(), &[&RECORDS[..], &["--once"]].concat()));
    assert!(
        shown.contains("recovered     6 decisions, 3 fills, 3 rejections, 2 open positions\n"),
        "{shown}"
    );
    assert!(shown.contains("\ncycle 7     "), "{shown}");
    assert!(
        shown.contains("\ncycles        1 (cycle 7)\nfills         1\nrejections    0\npositions     BTC"),
        "{shown}"
    );
}

#[test]
fn a_run_without_records_says_that_nothing_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let shown = plain(&run_on_terminal(directory.path(), &["--once"]));
    assert!(shown.contains("\nrecords       none; --journal and --runtime-bus keep them\n"), "{shown}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_signal_is_followed_by_the_record_and_the_summary() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = example_scenario();
    let arguments =
        ["--scenario", scenario.to_str().unwrap(), "--interval", "3600", "--cycle-journal", "c.jsonl"];
    let run = OnTerminal::start(command(directory.path(), &arguments), None);
    let journal = directory.path().join("c.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&journal).is_ok_and(|text| text.ends_with('\n')) {
        assert!(Instant::now() < deadline, "the first cycle was not recorded");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&run.child), Signal::INT).unwrap();
    let (code, shown) = run.finish();
    assert_eq!(code, Some(0), "{shown}");
    let shown = plain(&shown);
    assert!(shown.contains("\ncycle journal c.jsonl\n"), "{shown}");
    let (_, summary) = shown.split_once("\n}\n").unwrap();
    assert!(summary.starts_with("\ncycles        1 (cycle 1)\nfills         1\n"), "{shown}");
}

#[test]
fn redirected_output_gets_the_record_alone_and_the_terminal_everything_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("last.json");
    let arguments = [&RECORDS[..], &SIX_CYCLES].concat();
    let command = command(directory.path(), &arguments);
    let (code, shown) = OnTerminal::start(command, Some(File::create(&path).unwrap())).finish();
    assert_eq!(code, Some(0), "{shown}");
    let shown = plain(&shown);
    assert!(shown.starts_with("zero-engine-run: warning: examples/"), "{shown}");
    assert!(shown.contains("scenario      first-flight, 6 orders (built-in example)\n"), "{shown}");
    assert!(
        !shown.contains('{') && shown.contains("cycle 6  ") && shown.contains("cycles        6"),
        "{shown}"
    );
    let piped = run(directory.path(), &SIX_CYCLES).success();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), piped.stdout.lines().count());
}

#[test]
fn a_pipe_gets_no_display() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = example_scenario();
    let arguments = [&["--scenario", scenario.to_str().unwrap()], &RECORDS[..], &SIX_CYCLES].concat();
    let finished = run(directory.path(), &arguments).success();
    assert_eq!(finished.stderr, "");
    assert!(finished.stdout.starts_with("{\n") && !finished.stdout.contains('\x1b'), "{}", finished.stdout);
}

#[test]
fn an_error_follows_the_summary_of_the_cycles_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = example_scenario();
    let arguments = ["--scenario", scenario.to_str().unwrap(), "--journal", "d.jsonl", "--interval", "0.05"];
    let run = OnTerminal::start(command(directory.path(), &arguments), None);
    let journal = directory.path().join("d.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&journal).is_ok_and(|text| text.ends_with('\n')) {
        assert!(Instant::now() < deadline, "the first cycle was not recorded");
        std::thread::yield_now();
    }
    fs::rename(&journal, directory.path().join("moved.jsonl")).unwrap();
    let (code, shown) = run.finish();
    assert_eq!(code, Some(2), "{shown}");
    let shown = plain(&shown);
    let (_, end) = shown.split_once("\n\ncycles ").unwrap();
    let last_line = end.lines().last().unwrap();
    assert!(last_line.starts_with("zero-engine-run: d.jsonl: "), "{shown}");
}
