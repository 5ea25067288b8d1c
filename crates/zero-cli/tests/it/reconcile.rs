//! Journal and bus after a crash: whatever was written of the two, a restart has the fills it had, and the bus all of
//! their events; what no crash leaves is refused with both places named.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::runs::{CYCLES, leave, lines, recorded, run};
use crate::support::{CLOCK, ENGINE, RECORDS, bus, engine, root};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::sim::Rng;
use zero_bus::{Reader, Value};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Every point at which a process can die between the decision and the last event of its cycle.
#[test]
fn what_a_crash_kept_from_the_bus_is_published() {
    let first = place();
    let (journal, log) = recorded(first.path());
    for there in 0..5 {
        for mode in ["bus alone", "bus and cycle journal"] {
            let place = place();
            let here = place.path();
            recorded(here);
            leave(here, &journal, &log[..5 * (CYCLES - 1) + there]);
            if mode == "bus and cycle journal" {
                let cycles = lines(&here.join("c.jsonl"));
                fs::write(here.join("c.jsonl"), cycles[..CYCLES - 1].join("\n") + "\n").unwrap();
            }
            let ended = run(here, "1", &[]);
            assert_eq!(ended.code, 0, "{}", ended.err);
            assert!(
                ended.err.contains("warning: cycle 6 was completed on the bus from the journal"),
                "{}",
                ended.err
            );
            bus(here, &["verify", "bus"]).fine();
            let after = lines(&here.join("bus/events.jsonl"));
            assert_eq!(after.len(), 5 * (CYCLES + 1));
            if there > 0 {
                // What was there says how the process had begun, so that the rest comes out as it would have.
                assert_eq!(after[..5 * CYCLES], log, "{there} events were there");
            }
            let decisions = lines(&here.join("d.jsonl"));
            assert_eq!(decisions[..CYCLES], journal);
            assert_eq!(decisions.len(), CYCLES + 1);
            let published: Vec<Value> = after
                .iter()
                .map(|line| Value::parse(line).unwrap())
                .filter(|event| event.get("event_type").unwrap().as_str() == Some("decision.record"))
                .map(|event| event.get("payload").unwrap().clone())
                .collect();
            let decided: Vec<Value> = decisions.iter().map(|line| Value::parse(line).unwrap()).collect();
            assert_eq!(published, decided);
            // Nothing is left to do for the next start.
            run(here, "1", &[]).fine();
        }
    }
}

#[test]
fn a_bus_that_is_ahead_is_refused_until_the_journal_is_made_again() {
    let place = place();
    let here = place.path();
    let (journal, log) = recorded(here);
    leave(here, &journal[..4], &log);
    let said = run(here, "1", &[]).refused();
    assert!(
        said.contains(
            "d.jsonl: ends with decision 4, but evt-000000000021 in bus/events.jsonl is decision 5"
        ),
        "{said}"
    );
    assert_eq!(lines(&here.join("d.jsonl")), journal[..4]);
    let ended = run(here, "1", &["--rebuild-journal"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("d.jsonl: made from the bus, 6 decisions"), "{}", ended.err);
    assert_eq!(lines(&here.join("d.jsonl"))[..6], journal);
    assert_eq!(lines(&here.join("d.jsonl.before-rebuild-1")), journal[..4], "the old one is kept");
    run(here, "1", &[]).fine();
}

#[test]
fn decisions_that_differ_are_refused_with_both_places() {
    let place = place();
    let here = place.path();
    let (mut journal, log) = recorded(here);
    journal[1] = journal[1].replace("3100.0", "3100.5");
    leave(here, &journal, &log);
    let said = run(here, "1", &[]).refused();
    let byte = journal[0].len() + 1;
    assert!(
        said.contains(&format!(
            "d.jsonl: line 2 (byte {byte}) and evt-000000000006 in bus/events.jsonl are both decision 2"
        )),
        "{said}"
    );
    let before = crate::support::tree(here);
    run(here, "1", &[]).refused();
    assert_eq!(crate::support::tree(here), before);
}

#[test]
fn a_bus_without_a_journal_brings_the_engine_back() {
    let place = place();
    let here = place.path();
    let (journal, _) = recorded(here);
    fs::remove_file(here.join("d.jsonl")).unwrap();
    let ended = run(here, "1", &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(Value::parse(&ended.out).unwrap().get("cycle_id").unwrap().as_u64(), Some(7));
    assert_eq!(lines(&here.join("d.jsonl"))[..6], journal);
    assert!(ended.out.contains("\"source\": \"bus\""));
    // And without a file for one.
    let scenario = root().join("examples/paper-trading/scenario.json");
    let arguments =
        ["--scenario", scenario.to_str().unwrap(), "--runtime-bus", "bus", "--once", "--fixed-clock", CLOCK];
    let cycle = Value::parse(&engine(here, &arguments).fine()).unwrap();
    assert_eq!(cycle.get("cycle_id").unwrap().as_u64(), Some(8));
    bus(here, &["verify", "bus"]).fine();
}

/// The real thing: killed at any moment, some hundred times; each restart goes on, and in the end nothing is missing
/// and nothing twice.
#[test]
fn killed_at_any_moment_it_goes_on() {
    let place = place();
    let here = place.path();
    let scenario = root().join("examples/real-market/scenario.json").canonicalize().unwrap();
    let arguments = [&["--scenario", scenario.to_str().unwrap(), "--interval", "0"], &RECORDS[..]].concat();
    let mut dice = Rng::new(42);
    let mut kills = 0;
    let mut decisions = 0;
    while kills < 200 {
        let child = Command::new(*ENGINE)
            .args(&arguments)
            .current_dir(here)
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
            "it ended by itself: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        kills += 1;
        let now = fs::read_to_string(here.join("d.jsonl")).map_or(0, |text| text.matches('\n').count());
        assert!(now >= decisions, "decisions were lost");
        decisions = now;
    }
    let ended = engine(here, &[&arguments[..], &["--once"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    bus(here, &["verify", "bus"]).fine();
    let journal = lines(&here.join("d.jsonl"));
    let mut expected = 1;
    for event in Reader::open(here.join("bus")).unwrap().events(1).unwrap() {
        let event = event.unwrap();
        if event.event_type == "decision.record" {
            assert_eq!(event.payload.as_str(), journal[expected - 1]);
            assert_eq!(event.trace_id.as_deref(), Some(format!("runtime-cycle-{expected}").as_str()));
            expected += 1;
        }
    }
    assert_eq!(expected - 1, journal.len());
    assert_eq!(Reader::open(here.join("bus")).unwrap().head().unwrap().index, 5 * journal.len() as u64);
    println!("{kills} kills, {} decisions", journal.len());
}

/// A process that dies in its very first cycle has one decision, and a bus without events.
#[test]
fn a_crash_in_the_first_cycle_is_made_good() {
    let place = place();
    let here = place.path();
    let (journal, _) = recorded(here);
    leave(here, &journal[..1], &[]);
    fs::remove_file(here.join("c.jsonl")).unwrap();
    let ended = run(here, "1", &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(lines(&here.join("bus/events.jsonl")).len(), 10);
    assert_eq!(lines(&here.join("c.jsonl")).len(), 2);
}

/// Without a journal the bus alone brings the engine back, also from half a cycle.
#[test]
fn half_a_cycle_is_completed_from_the_bus_alone() {
    let first = place();
    let (_, log) = recorded(first.path());
    for there in 1..5 {
        let place = place();
        let here = place.path();
        recorded(here);
        leave(here, &[], &log[..5 * (CYCLES - 1) + there]);
        let scenario = root().join("examples/paper-trading/scenario.json");
        let arguments = [
            "--scenario",
            scenario.to_str().unwrap(),
            "--runtime-bus",
            "bus",
            "--once",
            "--fixed-clock",
            CLOCK,
        ];
        let ended = engine(here, &arguments);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let after = lines(&here.join("bus/events.jsonl"));
        assert_eq!(after.len(), 5 * (CYCLES + 1));
        assert_eq!(after[..5 * CYCLES], log, "{there} events were there");
    }
}

/// What a crash kept from the cycle journal is taken from the bus, and nothing stands in it twice.
#[test]
fn the_cycle_journal_is_completed_from_the_bus() {
    let place = place();
    let here = place.path();
    recorded(here);
    let cycles = lines(&here.join("c.jsonl"));
    fs::write(here.join("c.jsonl"), cycles[..3].join("\n") + "\n").unwrap();
    run(here, "1", &[]).fine();
    let after = lines(&here.join("c.jsonl"));
    assert_eq!(after[..CYCLES], cycles);
    assert_eq!(after.len(), CYCLES + 1);
}

/// Somebody else's event under a cycle's trace is nobody's crash, and in nobody's way.
#[test]
fn foreign_events_are_passed_over() {
    let place = place();
    let here = place.path();
    recorded(here);
    for event_type in ["fill.record", "runtime.health", "note.added"] {
        bus(here, &["append", "bus", "--type", event_type, "--trace-id", "runtime-cycle-6", "{}"]).fine();
    }
    run(here, "2", &[]).fine();
    run(here, "1", &[]).fine();
}

#[test]
fn one_runtime_a_bus() {
    let place = place();
    let here = place.path();
    recorded(here);
    let claim = fs::File::open(here.join("bus")).unwrap();
    claim.lock().unwrap();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let said =
        engine(here, &["--scenario", scenario.to_str().unwrap(), "--runtime-bus", "bus", "--once"]).refused();
    assert!(said.contains("bus: is in use by another runtime"), "{said}");
    // Appenders do not mind.
    bus(here, &["append", "bus", "--type", "note.added", "{}"]).fine();
    let said = run(here, "1", &["--rebuild-journal", "--runtime-bus", "misspelt"]);
    assert_eq!(said.code, 2);
}
