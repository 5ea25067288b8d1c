//! Starts from the start-up checkpoint, and the commands that find what such a start does not
//! check.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use zero_bus::sim::Rng;

use crate::support::runs::{lines, run_cycles};
use crate::support::{ENGINE, EXAMPLE_SCENARIO, RECORDS, bus, engine, published_decisions, temp_dir};

/// Cycles after which a run has its first checkpoint.
const CYCLES: &str = "256";

#[test]
fn a_change_before_the_checkpoint_is_found_by_full_check_doctor_and_verify() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, CYCLES, &[]).success();
    assert!(dir.join("bus/start-checkpoint.json").exists() && dir.join("bus/key-index").exists());
    let (journal, log) = (dir.join("d.jsonl"), dir.join("bus/events.jsonl"));
    let untouched = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, untouched.replacen("3100.0", "3100.5", 1)).unwrap();
    run_cycles(dir, "1", &[]).success();
    let message = run_cycles(dir, "1", &["--full-check"]).failure(2);
    assert!(message.contains("are both decision"), "{message}");
    let report = bus(dir, &["doctor", "bus", "--journal", "d.jsonl"]);
    assert!(report.code == 1 && report.stdout.contains("FAIL  journal"), "{}", report.stdout);

    let changed = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, changed.replacen("3100.5", "3100.0", 1)).unwrap();
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("3100.0", "3100.5", 1)).unwrap();
    run_cycles(dir, "1", &[]).success();
    let message = run_cycles(dir, "1", &["--full-check"]).failure(1);
    assert!(message.contains("checksum mismatch"), "{message}");
    let verified = bus(dir, &["verify", "bus"]);
    assert!(verified.code == 1 && verified.stdout.contains("checksum mismatch"), "{}", verified.stdout);
}

#[test]
fn doctor_compares_the_journal_of_a_run_on_market_data_with_the_bus() {
    let temp = temp_dir();
    let dir = temp.path();
    let order = r#"{"symbol":"A","side":"buy","quantity":1,"price":5,"confidence":1}"#;
    fs::write(dir.join("orders.jsonl"), format!("{order}\n").repeat(3)).unwrap();
    let options = ["--orders", "orders.jsonl", "--journal", "c.jsonl", "--runtime-bus", "bus"];
    engine(dir, &[&options[..], &["--fixed-clock", "1"]].concat()).success();
    let doctor = || bus(dir, &["doctor", "bus", "--journal", "c.jsonl"]).stdout;
    let report = doctor();
    assert!(report.contains("3 cycles, the same as on the bus"), "{report}");
    let text = fs::read_to_string(dir.join("c.jsonl")).unwrap();
    fs::write(dir.join("c.jsonl"), text.replacen("\"confidence\":1.0", "\"confidence\":0.9", 1)).unwrap();
    let report = doctor();
    assert!(report.contains("FAIL  journal"), "{report}");
}

#[test]
fn a_start_without_its_checkpoint_says_that_it_compared_everything() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, CYCLES, &[]).success();
    run_cycles(dir, "1", &["--full-check"]).success();
    fs::remove_file(dir.join("bus/start-checkpoint.json")).unwrap();
    run_cycles(dir, "1", &[]).success_with_warning(
        "bus/start-checkpoint.json: not used: is missing; the start compared all 257 cycles",
    );
    // The end of that run has written another one.
    run_cycles(dir, "1", &[]).success();
}

/// Each start begins with a checkpoint, and each process is killed.
#[test]
fn a_run_with_a_checkpoint_resumes_after_a_kill_at_any_moment() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, CYCLES, &[]).success();
    let arguments = [&["--scenario", *EXAMPLE_SCENARIO, "--interval", "0"], &RECORDS[..]].concat();
    let mut dice = Rng::new(7);
    let mut decisions = 256;
    for _ in 0..40 {
        let mut child = Command::new(*ENGINE)
            .args(&arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(500 + dice.below(90_000) as u64));
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        assert!(child.wait().unwrap().code().is_none(), "it exited by itself");
        let now = fs::read_to_string(dir.join("d.jsonl")).unwrap().matches('\n').count();
        assert!(now >= decisions, "decisions were lost");
        decisions = now;
    }
    let output = engine(dir, &[&arguments[..], &["--once"]].concat());
    assert!(output.code == 0 && !output.stderr.contains("not used"), "{}", output.stderr);
    let output = engine(dir, &[&arguments[..], &["--once", "--full-check"]].concat());
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    bus(dir, &["verify", "bus"]).success();
    let journal: String = lines(&dir.join("d.jsonl")).iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(published_decisions(dir), journal);
}

#[test]
fn verify_since_last_reads_what_is_new_and_says_what_it_did_not_read() {
    let temp = temp_dir();
    let dir = temp.path();
    let verify = |options: &[&str]| bus(dir, &[&["verify", "bus", "--since-last"], options].concat());
    run_cycles(dir, "4", &[]).success();
    let first = verify(&[]).success();
    assert!(first.contains("The whole log was read: no earlier verification is remembered."), "{first}");
    run_cycles(dir, "1", &[]).success();
    let second = verify(&[]).success();
    assert!(second.contains("5 new events after event 20"), "{second}");
    assert!(second.contains("Events 1 to 20 were verified before and were not read again"), "{second}");
    let json = verify(&["--json", "--min-events", "25"]).success();
    assert!(json.contains(r#""since_last":{"full_because":null,"not_read_again":25}"#), "{json}");

    // A change before the mark is not found, and is what the text says.
    let log = dir.join("bus/events.jsonl");
    let untouched = fs::read_to_string(&log).unwrap();
    fs::write(&log, untouched.replacen("3100.0", "3100.5", 1)).unwrap();
    verify(&[]).success();
    assert_eq!(bus(dir, &["verify", "bus"]).code, 1);
    // A change after it is named as by a full verification.
    fs::write(&log, &untouched).unwrap();
    run_cycles(dir, "1", &[]).success();
    let text = fs::read_to_string(&log).unwrap();
    let (old, new) = text.split_at(untouched.len());
    fs::write(&log, format!("{old}{}", new.replacen("\"as_of\":1", "\"as_of\":2", 1))).unwrap();
    let failed = verify(&[]);
    assert!(failed.code == 1 && failed.stdout.contains("checksum mismatch at event 26"), "{}", failed.stdout);
    assert!(
        failed.stdout.contains("what came after the last verification is not valid"),
        "{}",
        failed.stdout
    );
    fs::write(&log, text).unwrap();

    for (mark, reason) in [
        ("{}".to_owned(), "verified.json is not a valid mark"),
        (other_mark(), "the log does not have the event up to which it was verified"),
    ] {
        fs::write(dir.join("bus/verified.json"), mark).unwrap();
        let output = verify(&[]).success();
        assert!(output.contains(&format!("The whole log was read: {reason}.")), "{output}");
        assert!(verify(&[]).success().contains("0 new events after event 30"));
    }
}

/// The mark of another bus.
fn other_mark() -> String {
    let temp = temp_dir();
    let options = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--max-cycles", "2"];
    engine(temp.path(), &[&options[..], &["--runtime-bus", "bus", "--fixed-clock", "1"]].concat()).success();
    bus(temp.path(), &["verify", "bus", "--since-last"]).success();
    fs::read_to_string(temp.path().join("bus/verified.json")).unwrap()
}
