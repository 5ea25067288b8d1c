//! The exit code after an operator's kill.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use zero_bus::Bus;
use zero_paper::operator::{Action, command as operator_command};

use crate::support::{command, example_scenario, run};

fn arguments<'a>(scenario: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["--scenario", scenario, "--cycle-journal", "c.jsonl", "--runtime-bus", "bus"], options].concat()
}

fn give(directory: &Path, action: Action) {
    let draft = operator_command(action, "ops", "a test", 1.0).unwrap();
    Bus::open(directory.join("bus")).unwrap().append(draft).unwrap();
}

#[test]
fn a_kill_that_blocks_the_start_ends_with_exit_code_3_until_a_resume() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = example_scenario();
    let once = arguments(scenario.to_str().unwrap(), &["--once"]);
    run(directory.path(), &once).success();
    give(directory.path(), Action::Kill);
    for _ in 0..2 {
        let finished = run(directory.path(), &once).failure(3);
        assert_eq!(finished.stdout, "");
        assert!(finished.stderr.contains("the runtime was stopped (kill in evt-"), "{}", finished.stderr);
        assert!(finished.stderr.contains("zero-bus command DIR resume"), "{}", finished.stderr);
    }
    give(directory.path(), Action::Resume);
    run(directory.path(), &once).success();
}

#[test]
fn a_kill_that_stops_a_run_ends_it_with_exit_code_3_after_the_last_record() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = example_scenario();
    let arguments = arguments(scenario.to_str().unwrap(), &["--interval", "3600"]);
    let mut command = command(directory.path(), &arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let journal = directory.path().join("c.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&journal).is_ok_and(|text| text.ends_with('\n')) {
        assert!(Instant::now() < deadline, "the first cycle was not recorded");
        std::thread::yield_now();
    }
    give(directory.path(), Action::Kill);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("stopped by the operator: kill in evt-"), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.starts_with("{\n") && stdout.contains("\"cycle_id\": 1"), "{stdout}");
}
