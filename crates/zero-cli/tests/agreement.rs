//! Journal and bus after a crash: whatever was written of the two, a restart has the fills it had, and the bus all of
//! their events; what no crash leaves is refused with both places named.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{CLOCK, ENGINE, Ended, RECORDS, bus, engine, root};
use zero_bus::sim::Dice;
use zero_bus::{Reader, Value};

const CYCLES: usize = 6;

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn run(directory: &Path, cycles: &str, more: &[&str]) -> Ended {
    let scenario = root().join("examples/paper-trading/scenario.json");
    let scenario = ["--scenario", scenario.to_str().unwrap(), "--interval", "0"];
    let cycles = ["--fixed-clock", CLOCK, "--max-cycles", cycles];
    engine(directory, &[&scenario, &RECORDS[..], &cycles, more].concat())
}

/// A run of six cycles; what its files hold, line by line.
fn recorded(directory: &Path) -> (Vec<String>, Vec<String>) {
    run(directory, "6", &[]).fine();
    let lines = |file: &str| -> Vec<String> {
        fs::read_to_string(directory.join(file)).unwrap().lines().map(str::to_owned).collect()
    };
    let (journal, log) = (lines("d.jsonl"), lines("bus/events.jsonl"));
    assert_eq!((journal.len(), log.len()), (CYCLES, 5 * CYCLES));
    (journal, log)
}

/// Leaves this much of the two, as a crash of the process does: the companion knows of no more than the log has.
fn leave(directory: &Path, journal: &[String], log: &[String]) {
    let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    fs::write(directory.join("d.jsonl"), text(journal)).unwrap();
    fs::write(directory.join("bus/events.jsonl"), text(log)).unwrap();
    for name in ["bus/bus.lock", "bus/state-snapshot.json"] {
        let removed = fs::remove_file(directory.join(name));
        assert!(removed.is_ok() || !directory.join(name).exists());
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
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

/// All that the bus has of the last cycle is its first event, which holds the decision too.
#[test]
fn half_a_cycle_is_held_against_the_journal() {
    for with_its_companions in [false, true] {
        let place = place();
        let here = place.path();
        let (journal, log) = recorded(here);
        let half = &log[..5 * (CYCLES - 1) + 1];
        let keep = |journal: &[String]| {
            leave(here, journal, half);
            if with_its_companions {
                // A note that knows of no more than there is.
                drop(zero_bus::Bus::open(here.join("bus")).unwrap());
            }
        };
        // The journal lacks it.
        keep(&journal[..5]);
        let before = support::tree(here);
        let said = run(here, "1", &[]).refused();
        assert!(
            said.contains(
                "d.jsonl: ends with decision 5, but evt-000000000026 in bus/events.jsonl is decision 6: the bus is ahead"
            ),
            "{said}"
        );
        assert_eq!(support::tree(here), before);
        // It has another one.
        let mut other = journal.clone();
        other[5] = other[5].replace("1777593600.0", "1777593601.0");
        assert_ne!(other, journal);
        keep(&other);
        let said = run(here, "1", &[]).refused();
        assert!(
            said.contains("d.jsonl: line 6 (byte ")
                && said.contains("and evt-000000000026 in bus/events.jsonl are both decision 6, and differ"),
            "{said}"
        );
        // The way out that was named is one.
        assert_eq!(run(here, "1", &["--rebuild-journal"]).code, 0);
        assert_eq!(lines(&here.join("d.jsonl"))[..6], journal);
        assert_eq!(lines(&here.join("bus/events.jsonl"))[..30], log, "the cycle is completed as it was");
        run(here, "1", &["--rebuild-journal"]).fine_with("d.jsonl: made from the bus, 7 decisions");
    }
}

/// Whoever may append may call an event what he likes.
#[test]
fn what_only_calls_itself_a_cycle_is_passed_over() {
    let place = place();
    let here = place.path();
    let (_, log) = recorded(here);
    let cycle = Value::parse(&log[25]).unwrap().get("payload").unwrap().clone();
    let payload = zero_bus::Json::try_from(&cycle).unwrap().to_string();
    let undecided = payload.replace("\"allowed\":", "\"allow\":");
    assert_ne!(undecided, payload);
    for (trace, payload) in [
        ("runtime-cycle-8", "{}"),
        ("runtime-cycle-7", payload.as_str()),
        ("runtime-cycle-6", undecided.as_str()),
    ] {
        let appended =
            bus(here, &["append", "bus", "--type", "runtime.cycle", "--trace-id", trace, payload]).fine();
        let id = Value::parse(&appended).unwrap().get("event_id").unwrap().as_str().unwrap().to_owned();
        let cycle = trace.trim_start_matches("runtime-cycle-");
        let remark = format!("warning: {id} on the bus calls itself cycle {cycle} and is no record of one");
        run(here, "1", &[]).fine_with(&remark);
        run(here, "1", &["--rebuild-journal"]).fine_with(&remark);
    }
    let cycles = lines(&here.join("c.jsonl"));
    let numbers: Vec<_> = cycles
        .iter()
        .map(|line| Value::parse(line).unwrap().get("cycle_id").and_then(Value::as_u64).unwrap())
        .collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<u64>>());
    assert_eq!(support::published(here), fs::read_to_string(here.join("d.jsonl")).unwrap());
    bus(here, &["verify", "bus"]).fine();
}

/// What no crash leaves in a cycle journal is told; nothing is lost for it.
#[test]
fn a_cycle_journal_with_breaks_is_told() {
    let place = place();
    let here = place.path();
    run(here, "12", &[]).fine();
    let cycles = lines(&here.join("c.jsonl"));
    let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    // A hole, and a doubled record.
    let holed = [&cycles[..4], &cycles[8..]].concat();
    fs::write(here.join("c.jsonl"), text(&holed)).unwrap();
    run(here, "1", &[])
        .fine_with("c.jsonl: line 5 is cycle 9 behind cycle 4; to have it made again from the bus, empty it");
    let doubled = [&cycles[..6], &cycles[4..], &cycles[2..3]].concat();
    fs::write(here.join("c.jsonl"), text(&doubled)).unwrap();
    run(here, "1", &[]).fine_with("c.jsonl: line 7 is cycle 5 behind cycle 6, and 1 more breaks behind it");
    // The way out that was named.
    fs::write(here.join("c.jsonl"), "").unwrap();
    run(here, "1", &[]).fine();
    assert_eq!(lines(&here.join("c.jsonl"))[..12], cycles);
    assert_eq!(lines(&here.join("c.jsonl")).len(), 15);
    // Journal and bus from an older copy, the cycle journal not.
    let later = fs::read(here.join("c.jsonl")).unwrap();
    fs::remove_dir_all(here.join("bus")).unwrap();
    fs::remove_file(here.join("c.jsonl")).unwrap();
    fs::remove_file(here.join("d.jsonl")).unwrap();
    run(here, "6", &[]).fine();
    fs::write(here.join("c.jsonl"), later).unwrap();
    run(here, "1", &[]).fine_with("c.jsonl: ends with cycle 15, but there are only 6 decisions");
}

/// Without a bus, a process that dies between a decision and its cycle record leaves one record out.
#[test]
fn without_a_bus_the_last_cycle_is_completed_from_the_journal() {
    let place = place();
    let here = place.path();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let arguments = |cycles| {
        let scenario = ["--scenario", scenario.to_str().unwrap(), "--fixed-clock", CLOCK, "--interval", "0"];
        [&scenario, &RECORDS[..4], &["--max-cycles", cycles]]
            .concat()
            .iter()
            .map(|&text| text.to_owned())
            .collect::<Vec<_>>()
    };
    let go = |cycles| engine(here, &arguments(cycles).iter().map(String::as_str).collect::<Vec<_>>());
    go("4").fine();
    for left in [3, 0] {
        let cycles = lines(&here.join("c.jsonl"));
        let text: String = cycles[..left].iter().map(|line| format!("{line}\n")).collect();
        fs::write(here.join("c.jsonl"), text).unwrap();
        let journal: String =
            lines(&here.join("d.jsonl"))[..=left].iter().map(|line| format!("{line}\n")).collect();
        fs::write(here.join("d.jsonl"), journal).unwrap();
        go("1").fine_with(&format!("warning: cycle {} was completed from the journal", left + 1));
        let after = lines(&here.join("c.jsonl"));
        assert_eq!(after.len(), left + 2);
        let without_recovery = |line: &String| {
            let cycle = Value::parse(line).unwrap();
            (cycle.get("act").cloned(), cycle.get("decide").cloned(), cycle.get("learn").cloned())
        };
        assert_eq!(without_recovery(&after[left]), without_recovery(&cycles[left]));
        go("1").fine();
    }
}

/// No crash leaves these: each is refused, and stays as it is.
#[test]
fn what_no_crash_has_spoilt_is_refused() {
    let scenario = root().join("examples/paper-trading/scenario.json");
    let scenario = scenario.to_str().unwrap();
    let base = ["--scenario", scenario, "--fixed-clock", CLOCK, "--interval", "0", "--max-cycles"];
    let spoil = |path: &Path, numbers: std::ops::Range<usize>| {
        let mut all = lines(path);
        all[numbers].iter_mut().for_each(|line| line.replace_range(..1, "X"));
        fs::write(path, all.join("\n") + "\n").unwrap();
    };
    let refused = |here: &Path, journal: &str, cycle_journal: &str| {
        let before = support::tree(here);
        let records = ["1", "--journal", journal, "--cycle-journal", cycle_journal];
        let said = engine(here, &[&base[..], &records].concat()).refused();
        assert_eq!(support::tree(here), before, "{said}");
        said
    };
    let place = place();
    let here = place.path();
    engine(here, &[&base[..], &["12", "--journal", "d.jsonl", "--cycle-journal", "c.jsonl"]].concat()).fine();
    let cycles = fs::read(here.join("c.jsonl")).unwrap();
    let journal = fs::read(here.join("d.jsonl")).unwrap();
    spoil(&here.join("d.jsonl"), 9..12);
    assert!(refused(here, "d.jsonl", "c.jsonl").contains("d.jsonl: line 10 (byte "));
    fs::write(here.join("d.jsonl"), &journal).unwrap();
    spoil(&here.join("c.jsonl"), 2..3);
    assert!(refused(here, "d.jsonl", "c.jsonl").contains("no crash has spoilt it"));
    fs::write(here.join("c.jsonl"), &cycles).unwrap();
    // Files of somebody else.
    fs::write(here.join("two.json"), "{\n\"name\":\"x\"}\n").unwrap();
    fs::write(here.join("blank.txt"), "\nfoo\n").unwrap();
    fs::copy(scenario, here.join("scenario.json")).unwrap();
    refused(here, "two.json", "c.jsonl");
    refused(here, "blank.txt", "c.jsonl");
    for file in ["two.json", "blank.txt", "scenario.json"] {
        let said = refused(here, "d.jsonl", file);
        assert!(said.contains("holds something else than zero.runtime.cycle.v1"), "{said}");
    }
    // A link that leads nowhere is not replaced by a file.
    std::os::unix::fs::symlink("nowhere", here.join("link")).unwrap();
    for more in
        [&["--journal", "link"][..], &["--journal", "link", "--runtime-bus", "bus", "--rebuild-journal"]]
    {
        run(here, "1", &[]).fine_with("");
        let said = engine(here, &[&base[..], &["1"], more].concat()).refused();
        assert!(said.contains("link: cannot open it for appending: it is a symbolic link"), "{said}");
        assert!(fs::symlink_metadata(here.join("link")).unwrap().is_symlink());
    }
}

/// Making the journal again takes nothing away that is there, and the bus keeps its own names.
#[test]
fn rebuilding_removes_nothing() {
    let place = place();
    let here = place.path();
    recorded(here);
    for name in ["d.jsonl.rebuilt-1", "d.jsonl.before-rebuild-1"] {
        fs::write(here.join(name), "somebody's\n").unwrap();
    }
    run(here, "1", &["--rebuild-journal"]).fine_with("d.jsonl.before-rebuild-2");
    for name in ["d.jsonl.rebuilt-1", "d.jsonl.before-rebuild-1"] {
        assert_eq!(fs::read_to_string(here.join(name)).unwrap(), "somebody's\n");
    }
    for name in
        ["bus/state-snapshot.json.tmp", "bus/bus.lock.tmp", "bus/events.jsonl.torn-at-3", "bus/events.jsonl"]
    {
        let scenario = root().join("examples/paper-trading/scenario.json");
        let scenario = ["--scenario", scenario.to_str().unwrap(), "--once", "--runtime-bus", "bus"];
        for option in ["--journal", "--cycle-journal"] {
            let said = engine(here, &[&scenario[..], &[option, name]].concat()).refused();
            assert!(said.contains("is a file of the bus"), "{said}");
        }
    }
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
    let before = support::tree(here);
    run(here, "1", &[]).refused();
    assert_eq!(support::tree(here), before);
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
    let mut dice = Dice(42);
    let mut kills = 0;
    let mut decisions = 0;
    while kills < 200 {
        let child = Command::new(ENGINE)
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
