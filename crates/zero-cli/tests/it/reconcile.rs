//! Recovery of journal and bus. After a crash at any point, a restart keeps every fill and
//! publishes its events. A contradiction that no crash leaves is refused, and the message names
//! both places.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::runs::{CYCLES, cut_records, lines, record_six_cycles, run_cycles};
use crate::support::{
    CLOCK, ENGINE, EXAMPLE_SCENARIO, REAL_MARKET_SCENARIO, RECORDS, bus, engine, temp_dir, tree,
};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::sim::Rng;
use zero_bus::{Reader, Value};

/// For each point at which a process can die between the decision and the last event of its cycle.
#[test]
fn a_restart_publishes_the_events_that_a_crash_kept_from_the_bus() {
    let first = temp_dir();
    let (journal, log) = record_six_cycles(first.path());
    for published in 0..5 {
        for mode in ["bus alone", "bus and cycle journal"] {
            let temp = temp_dir();
            let dir = temp.path();
            record_six_cycles(dir);
            cut_records(dir, &journal, &log[..5 * (CYCLES - 1) + published]);
            if mode == "bus and cycle journal" {
                let cycles = lines(&dir.join("c.jsonl"));
                fs::write(dir.join("c.jsonl"), cycles[..CYCLES - 1].join("\n") + "\n").unwrap();
            }
            let output = run_cycles(dir, "1", &[]);
            assert_eq!(output.code, 0, "{}", output.stderr);
            assert!(
                output.stderr.contains("warning: cycle 6 was completed on the bus from the journal"),
                "{}",
                output.stderr
            );
            bus(dir, &["verify", "bus"]).success();
            let after = lines(&dir.join("bus/events.jsonl"));
            assert_eq!(after.len(), 5 * (CYCLES + 1));
            if published > 0 {
                // The published cycle record says how the process recovered, so the rest is as
                // recorded.
                assert_eq!(after[..5 * CYCLES], log, "{published} events were published");
            }
            let decisions = lines(&dir.join("d.jsonl"));
            assert_eq!(decisions[..CYCLES], journal);
            assert_eq!(decisions.len(), CYCLES + 1);
            let published_decisions: Vec<Value> = after
                .iter()
                .map(|line| Value::parse(line).unwrap())
                .filter(|event| event.get("event_type").unwrap().as_str() == Some("decision.record"))
                .map(|event| event.get("payload").unwrap().clone())
                .collect();
            let decided: Vec<Value> = decisions.iter().map(|line| Value::parse(line).unwrap()).collect();
            assert_eq!(published_decisions, decided);
            // The next start has nothing to publish.
            run_cycles(dir, "1", &[]).success();
        }
    }
}

#[test]
fn a_bus_ahead_of_the_journal_is_refused_until_the_journal_is_rebuilt() {
    let temp = temp_dir();
    let dir = temp.path();
    let (journal, log) = record_six_cycles(dir);
    cut_records(dir, &journal[..4], &log);
    let message = run_cycles(dir, "1", &[]).failure(2);
    assert!(
        message.contains(
            "d.jsonl: ends with decision 4, but evt-000000000021 in bus/events.jsonl is decision 5"
        ),
        "{message}"
    );
    assert_eq!(lines(&dir.join("d.jsonl")), journal[..4]);
    let output = run_cycles(dir, "1", &["--rebuild-journal"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("d.jsonl: rebuilt from the bus: 6 decisions"), "{}", output.stderr);
    assert_eq!(lines(&dir.join("d.jsonl"))[..6], journal);
    assert_eq!(lines(&dir.join("d.jsonl.before-rebuild-1")), journal[..4], "the old journal is kept");
    run_cycles(dir, "1", &[]).success();
}

#[test]
fn different_decisions_in_journal_and_bus_are_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    let (mut journal, log) = record_six_cycles(dir);
    journal[1] = journal[1].replace("3100.0", "3100.5");
    cut_records(dir, &journal, &log);
    let message = run_cycles(dir, "1", &[]).failure(2);
    let byte = journal[0].len() + 1;
    assert!(
        message.contains(&format!(
            "d.jsonl: line 2 (byte {byte}) and evt-000000000006 in bus/events.jsonl are both decision 2"
        )),
        "{message}"
    );
    let before = tree(dir);
    run_cycles(dir, "1", &[]).failure(2);
    assert_eq!(tree(dir), before);
}

#[test]
fn the_state_is_recovered_from_the_bus_without_a_journal() {
    let temp = temp_dir();
    let dir = temp.path();
    let (journal, _) = record_six_cycles(dir);
    fs::remove_file(dir.join("d.jsonl")).unwrap();
    let output = run_cycles(dir, "1", &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(Value::parse(&output.stdout).unwrap().get("cycle_id").unwrap().as_u64(), Some(7));
    assert_eq!(lines(&dir.join("d.jsonl"))[..6], journal);
    assert!(output.stdout.contains("\"source\": \"bus\""));
    // Also without the option --journal.
    let arguments =
        ["--scenario", *EXAMPLE_SCENARIO, "--runtime-bus", "bus", "--once", "--fixed-clock", CLOCK];
    let cycle = Value::parse(&engine(dir, &arguments).success()).unwrap();
    assert_eq!(cycle.get("cycle_id").unwrap().as_u64(), Some(8));
    bus(dir, &["verify", "bus"]).success();
}

/// Each decision is on the bus once after 200 kills at random moments.
#[test]
fn a_runtime_resumes_after_a_kill_at_any_moment() {
    let temp = temp_dir();
    let dir = temp.path();
    let arguments = [&["--scenario", *REAL_MARKET_SCENARIO, "--interval", "0"], &RECORDS[..]].concat();
    let mut dice = Rng::new(42);
    let mut kills = 0;
    let mut decisions = 0;
    while kills < 200 {
        let child = Command::new(*ENGINE)
            .args(&arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(500 + dice.below(50_000) as u64));
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.code().is_none(),
            "it exited by itself: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        kills += 1;
        let now = fs::read_to_string(dir.join("d.jsonl")).map_or(0, |text| text.matches('\n').count());
        assert!(now >= decisions, "decisions were lost");
        decisions = now;
    }
    let output = engine(dir, &[&arguments[..], &["--once"]].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    bus(dir, &["verify", "bus"]).success();
    let journal = lines(&dir.join("d.jsonl"));
    let mut expected = 1;
    // A kill in the middle of a write leaves a torn tail, and its recovery is an event, too.
    let mut recovered = 0;
    for event in Reader::open(dir.join("bus")).unwrap().events(1).unwrap() {
        let event = event.unwrap();
        recovered += u64::from(event.event_type == zero_bus::RECOVERED_TYPE);
        if event.event_type == "decision.record" {
            assert_eq!(event.payload.as_str(), journal[expected - 1]);
            assert_eq!(event.trace_id.as_deref(), Some(format!("runtime-cycle-{expected}").as_str()));
            expected += 1;
        }
    }
    assert_eq!(expected - 1, journal.len());
    assert_eq!(
        Reader::open(dir.join("bus")).unwrap().head().unwrap().index,
        5 * journal.len() as u64 + recovered
    );
    println!("{kills} kills, {} decisions", journal.len());
}

/// The journal has one decision, and the bus no event.
#[test]
fn a_crash_in_the_first_cycle_is_recovered() {
    let temp = temp_dir();
    let dir = temp.path();
    let (journal, _) = record_six_cycles(dir);
    cut_records(dir, &journal[..1], &[]);
    fs::remove_file(dir.join("c.jsonl")).unwrap();
    let output = run_cycles(dir, "1", &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(lines(&dir.join("bus/events.jsonl")).len(), 10);
    assert_eq!(lines(&dir.join("c.jsonl")).len(), 2);
}

#[test]
fn an_incomplete_cycle_is_completed_from_the_bus_alone() {
    let first = temp_dir();
    let (_, log) = record_six_cycles(first.path());
    for published in 1..5 {
        let temp = temp_dir();
        let dir = temp.path();
        record_six_cycles(dir);
        cut_records(dir, &[], &log[..5 * (CYCLES - 1) + published]);
        let arguments =
            ["--scenario", *EXAMPLE_SCENARIO, "--runtime-bus", "bus", "--once", "--fixed-clock", CLOCK];
        let output = engine(dir, &arguments);
        assert_eq!(output.code, 0, "{}", output.stderr);
        let after = lines(&dir.join("bus/events.jsonl"));
        assert_eq!(after.len(), 5 * (CYCLES + 1));
        assert_eq!(after[..5 * CYCLES], log, "{published} events were published");
    }
}

#[test]
fn the_cycle_journal_is_completed_from_the_bus() {
    let temp = temp_dir();
    let dir = temp.path();
    record_six_cycles(dir);
    let cycles = lines(&dir.join("c.jsonl"));
    fs::write(dir.join("c.jsonl"), cycles[..3].join("\n") + "\n").unwrap();
    run_cycles(dir, "1", &[]).success();
    let after = lines(&dir.join("c.jsonl"));
    assert_eq!(after[..CYCLES], cycles);
    assert_eq!(after.len(), CYCLES + 1);
}

#[test]
fn foreign_events_with_the_trace_of_a_cycle_are_ignored() {
    let temp = temp_dir();
    let dir = temp.path();
    record_six_cycles(dir);
    for event_type in ["fill.record", "runtime.health", "note.added"] {
        bus(dir, &["append", "bus", "--type", event_type, "--trace-id", "runtime-cycle-6", "{}"]).success();
    }
    run_cycles(dir, "2", &[]).success();
    run_cycles(dir, "1", &[]).success();
}

#[test]
fn a_bus_has_one_runtime() {
    let temp = temp_dir();
    let dir = temp.path();
    record_six_cycles(dir);
    let directory_lock = fs::File::open(dir.join("bus")).unwrap();
    directory_lock.lock().unwrap();
    let message =
        engine(dir, &["--scenario", *EXAMPLE_SCENARIO, "--runtime-bus", "bus", "--once"]).failure(2);
    assert!(message.contains("bus: is in use by another runtime"), "{message}");
    // Other producers can append.
    bus(dir, &["append", "bus", "--type", "note.added", "{}"]).success();
    let output = run_cycles(dir, "1", &["--rebuild-journal", "--runtime-bus", "misspelt"]);
    assert_eq!(output.code, 2);
}
