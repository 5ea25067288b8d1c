//! `zero-bus status` and `doctor --max-age`: a dead runtime is noticed.

use std::fs;
use std::path::Path;
use std::process::Child;

use crate::support::{
    EXAMPLE_SCENARIO, Finished, RECORDS, bus, conformance, runs, start_engine, temp_dir, tree, wait_until,
};
use zero_bus::{Reader, Value};

/// Starts a runtime that sleeps for an hour after its first cycle. Returns once it sleeps.
fn start_sleeping_runtime(dir: &Path) -> Child {
    let arguments = [&["--scenario", *EXAMPLE_SCENARIO, "--interval", "3600"][..], &RECORDS[..]].concat();
    let child = start_engine(dir, &arguments);
    wait_until(|| fs::read_to_string(dir.join("c.jsonl")).is_ok_and(|text| text.contains('\n')));
    child
}

fn status(dir: &Path, options: &[&str]) -> Finished {
    bus(dir, &[&["status", "bus"], options].concat())
}

/// The document of `status --json`, and the exit code.
fn document(dir: &Path, options: &[&str]) -> (Value, i32) {
    let output = status(dir, &[&["--json"], options].concat());
    assert_eq!(output.stderr, "");
    (Value::parse(output.stdout.trim_end()).unwrap(), output.code)
}

fn field<'a>(document: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(document, |value, key| value.get(key).unwrap_or_else(|| panic!("{key}")))
}

#[test]
fn status_passes_only_while_a_runtime_is_alive() {
    let temp = temp_dir();
    let dir = temp.path();
    let mut child = start_sleeping_runtime(dir);
    let process_id = child.id();
    let stdout = status(dir, &["--max-age", "10m"]).success();
    assert!(stdout.contains(&format!("runtime     ok    running (process {process_id})\n")), "{stdout}");
    assert!(stdout.contains("last cycle  ok    cycle 1, "), "{stdout}");
    assert!(stdout.contains("no command in force"), "{stdout}");
    let head = Reader::open(dir.join("bus")).unwrap().head().unwrap();
    assert!(stdout.ends_with(&format!(" {head}\n")), "{stdout}");
    let (alive, code) = document(dir, &[]);
    assert_eq!(code, 0);
    assert_eq!(field(&alive, &["process_id"]).as_u64(), Some(u64::from(process_id)));
    assert_eq!(field(&alive, &["head", "index"]).as_u64(), Some(5));
    assert_eq!(field(&alive, &["last_cycle", "cycle_id"]).as_u64(), Some(1));
    assert_eq!(field(&alive, &["trading_mode"]).as_str(), Some("open"));
    bus(dir, &["command", "bus", "pause", "--actor", "ops", "--reason", "a test", "--wait", "30"]).success();
    let (paused, _) = document(dir, &[]);
    assert_eq!(field(&paused, &["trading_mode"]).as_str(), Some("paused"));
    assert_eq!(field(&paused, &["command", "actor"]).as_str(), Some("ops"));

    // The exit code tells that the runtime is dead, and nothing is changed.
    child.kill().unwrap();
    child.wait().unwrap();
    let before = tree(dir);
    let output = status(dir, &[]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
    assert!(output.stdout.contains("runtime     FAIL  no runtime holds the bus\n"), "{}", output.stdout);
    assert!(
        output.stdout.contains("operator          pause in evt-000000000006 by ops"),
        "{}",
        output.stdout
    );
    let (dead, code) = document(dir, &[]);
    assert_eq!((code, field(&dead, &["alive"])), (1, &Value::Bool(false)));
    assert_eq!(field(&dead, &["process_id"]), &Value::Null);
    assert_eq!(tree(dir), before);
}

#[test]
fn status_fails_if_the_last_cycle_is_too_old() {
    let temp = temp_dir();
    let dir = temp.path();
    // The clock of the recorded sessions is long ago.
    runs::run_cycles(dir, "1", &[]).success();
    let output = status(dir, &["--max-age", "1d"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("last cycle  FAIL  cycle 1, "), "{}", output.stdout);
    assert!(output.stdout.contains(" ago, more than 24 h\n"), "{}", output.stdout);
    for invalid in ["10", "m", "-1m", "1.5h"] {
        let message = status(dir, &[&format!("--max-age={invalid}")]).failure(2);
        assert!(message.contains("expected a number and a unit"), "{message}");
    }
    // A bus without a runtime.
    bus(dir, &["append", "other", "--type", "t", "{}"]).success();
    let output = bus(dir, &["status", "other", "--max-age", "1d"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("last cycle  FAIL  none on the bus\n"), "{}", output.stdout);
    assert_eq!(
        bus(&conformance().join("logs"), &["status", "mutated-payload"]).failure(1).lines().count(),
        1
    );
    assert!(bus(dir, &["status", "missing"]).failure(2).contains("there is no such directory"));
}

#[test]
fn doctor_with_a_maximum_age_fails_after_a_kill() {
    let temp = temp_dir();
    let dir = temp.path();
    let doctor = |options: &[&str]| bus(dir, &[&["doctor", "bus"], options].concat());
    let mut child = start_sleeping_runtime(dir);
    let stdout = doctor(&["--max-age", "10m"]).success();
    assert!(stdout.contains("ok    runtime      running (process "), "{stdout}");
    child.kill().unwrap();
    child.wait().unwrap();
    let output = doctor(&["--max-age", "10m"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("FAIL  runtime      no runtime holds the bus; "), "{}", output.stdout);
    // Without the option, nobody said that a runtime should run.
    assert!(doctor(&[]).success().contains("ok    runtime      no runtime holds the bus; "));
    runs::run_cycles(dir, "1", &[]).success();
    let output = doctor(&["--max-age", "10m"]);
    assert!(output.stdout.contains(" ago, more than 10 min"), "{}", output.stdout);
}

#[test]
fn a_command_warns_if_no_runtime_is_alive() {
    let temp = temp_dir();
    let dir = temp.path();
    let mut child = start_sleeping_runtime(dir);
    bus(dir, &["command", "bus", "pause"]).success();
    child.kill().unwrap();
    child.wait().unwrap();
    let output = bus(dir, &["command", "bus", "flatten"]);
    output.success_with_warning("no runtime holds bus, so nothing acts on the flatten now");
}

#[test]
fn calls_at_the_same_time_do_not_take_each_other_for_a_runtime() {
    let temp = temp_dir();
    bus(temp.path(), &["append", "bus", "--type", "t", "{}"]).success();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10).for_each(|_| assert_eq!(status(temp.path(), &[]).code, 1)));
        }
    });
}

#[test]
fn a_last_cycle_in_the_future_fails_max_age() {
    let temp = temp_dir();
    let dir = temp.path();
    let clock = ["--fixed-clock", "9999999999", "--interval", "3600"];
    let mut child =
        start_engine(dir, &[&["--scenario", *EXAMPLE_SCENARIO][..], &clock, &RECORDS[..]].concat());
    wait_until(|| fs::read_to_string(dir.join("c.jsonl")).is_ok_and(|text| text.contains('\n')));
    assert!(status(dir, &[]).success().contains(" in the future"));
    let failed = status(dir, &["--max-age", "1h"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stdout.contains("in the future, so its age is unknown"), "{}", failed.stdout);
    assert_eq!(bus(dir, &["doctor", "bus", "--max-age", "1h"]).code, 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn status_reads_the_log_from_the_start_up_checkpoint_on() {
    let temp = temp_dir();
    let dir = temp.path();
    let log = dir.join("bus/events.jsonl");
    runs::run_cycles(dir, "100", &[]).success();
    bus(dir, &["command", "bus", "reduce-only", "--actor", "ops"])
        .success_with_warning("no runtime holds bus");
    runs::run_cycles(dir, "156", &[]).success();
    assert!(dir.join("bus/start-checkpoint.json").exists());
    let full = |options: &[&str]| {
        let (mut document, code) = document(dir, options);
        // The age of the last cycle grows.
        if let Value::Object(members) = &mut document
            && let Some(Value::Object(cycle)) = members.get_mut("last_cycle")
        {
            cycle.remove("age_s");
        }
        (document, code)
    };
    let with_checkpoint = full(&[]);
    let checkpoint = fs::read(dir.join("bus/start-checkpoint.json")).unwrap();
    fs::remove_file(dir.join("bus/start-checkpoint.json")).unwrap();
    assert_eq!(with_checkpoint, full(&[]), "the same without the checkpoint");
    assert_eq!(field(&with_checkpoint.0, &["trading_mode"]).as_str(), Some("reduce-only"));
    assert_eq!(field(&with_checkpoint.0, &["last_cycle", "cycle_id"]).as_u64(), Some(256));

    // Many events of another program after the last cycle, and a command among them.
    let other = "{\"event_type\":\"other\",\"payload\":{}}\n".repeat(600);
    crate::support::bus_with_input(dir, &["append", "bus", "--batch"], &other).success();
    bus(dir, &["command", "bus", "pause", "--actor", "ops"]).success_with_warning("no runtime holds bus");
    let expected = full(&[]);
    assert_eq!(field(&expected.0, &["trading_mode"]).as_str(), Some("paused"));
    fs::write(dir.join("bus/start-checkpoint.json"), checkpoint).unwrap();
    assert_eq!(full(&[]), expected);

    // What is before the checkpoint is not read; `verify` reads it.
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("3100.0", "3100.5", 1)).unwrap();
    assert_eq!(full(&[]), expected);
    assert_eq!(bus(dir, &["verify", "bus"]).code, 1);
    fs::remove_file(dir.join("bus/start-checkpoint.json")).unwrap();
    assert!(status(dir, &[]).failure(1).contains("checksum mismatch"));
}
