//! RecordPaths that somebody edited, restored, mixed up or appended to: what no crash leaves is told or refused with its place
//! named, nothing is built upon it in silence, and the way out that is named is one.

use std::fs;
use std::path::Path;

use crate::support::runs::{CYCLES, leave, lines, recorded, run};
use crate::support::{CLOCK, Ended, RECORDS, bus, engine, root};
use zero_bus::{Reader, Value};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
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
        let before = crate::support::tree(here);
        let said = run(here, "1", &[]).refused();
        assert!(
            said.contains(
                "d.jsonl: ends with decision 5, but evt-000000000026 in bus/events.jsonl is decision 6: the bus is ahead"
            ),
            "{said}"
        );
        assert_eq!(crate::support::tree(here), before);
        // It has another one.
        let mut other = journal.clone();
        other[5] = other[5].replace("1777593600.0", "1777593601.0");
        assert_ne!(other, journal);
        keep(&other);
        let said = run(here, "1", &[]).refused();
        assert!(
            said.contains("d.jsonl: line 6 (byte ")
                && said.contains(
                    "and evt-000000000026 in bus/events.jsonl are both decision 6, but they differ"
                ),
            "{said}"
        );
        // The way out that was named is one.
        assert_eq!(run(here, "1", &["--rebuild-journal"]).code, 0);
        assert_eq!(lines(&here.join("d.jsonl"))[..6], journal);
        assert_eq!(lines(&here.join("bus/events.jsonl"))[..30], log, "the cycle is completed as it was");
        run(here, "1", &["--rebuild-journal"]).fine_with("d.jsonl: rebuilt from the bus: 7 decisions");
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
        let warning =
            format!("warning: {id} on the bus claims to be cycle {cycle} but is not a valid cycle record");
        run(here, "1", &[]).fine_with(&warning);
        run(here, "1", &["--rebuild-journal"]).fine_with(&warning);
    }
    let cycles = lines(&here.join("c.jsonl"));
    let numbers: Vec<_> = cycles
        .iter()
        .map(|line| Value::parse(line).unwrap().get("cycle_id").and_then(Value::as_u64).unwrap())
        .collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<u64>>());
    assert_eq!(crate::support::published(here), fs::read_to_string(here.join("d.jsonl")).unwrap());
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
        .fine_with("c.jsonl: line 5 is cycle 9 after cycle 4; empty the file to rebuild it from the bus");
    let doubled = [&cycles[..6], &cycles[4..], &cycles[2..3]].concat();
    fs::write(here.join("c.jsonl"), text(&doubled)).unwrap();
    run(here, "1", &[])
        .fine_with("c.jsonl: line 7 is cycle 5 after cycle 6, and 1 later line is out of sequence");
    let begun_twice = [&cycles[..1], &cycles[..]].concat();
    fs::write(here.join("c.jsonl"), text(&begun_twice)).unwrap();
    run(here, "1", &[]).fine_with("c.jsonl: line 2 is cycle 1 after cycle 1");
    let begun_again = [&cycles[..], &cycles[..1]].concat();
    fs::write(here.join("c.jsonl"), text(&begun_again)).unwrap();
    run(here, "1", &[]).fine_with("c.jsonl: line 13 is cycle 1 after cycle 12");
    assert_eq!(lines(&here.join("c.jsonl")).len(), 13 + 4, "only what it lacks is taken from the bus");
    // The way out that was named.
    fs::write(here.join("c.jsonl"), "").unwrap();
    run(here, "1", &[]).fine();
    assert_eq!(lines(&here.join("c.jsonl"))[..12], cycles);
    assert_eq!(lines(&here.join("c.jsonl")).len(), 17);
    // Journal and bus from an older copy, the cycle journal not.
    let later = fs::read(here.join("c.jsonl")).unwrap();
    fs::remove_dir_all(here.join("bus")).unwrap();
    fs::remove_file(here.join("c.jsonl")).unwrap();
    fs::remove_file(here.join("d.jsonl")).unwrap();
    run(here, "6", &[]).fine();
    fs::write(here.join("c.jsonl"), later).unwrap();
    run(here, "1", &[]).fine_with("c.jsonl: ends with cycle 17, but there are only 6 decisions");
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
        let before = crate::support::tree(here);
        let records = ["1", "--journal", journal, "--cycle-journal", cycle_journal];
        let said = engine(here, &[&base[..], &records].concat()).refused();
        assert_eq!(crate::support::tree(here), before, "{said}");
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
    assert!(refused(here, "d.jsonl", "c.jsonl").contains("no crash explains it"));
    fs::write(here.join("c.jsonl"), &cycles).unwrap();
    // Files of somebody else.
    fs::write(here.join("two.json"), "{\n\"name\":\"x\"}\n").unwrap();
    fs::write(here.join("blank.txt"), "\nfoo\n").unwrap();
    fs::copy(scenario, here.join("scenario.json")).unwrap();
    refused(here, "two.json", "c.jsonl");
    refused(here, "blank.txt", "c.jsonl");
    for file in ["two.json", "blank.txt", "scenario.json"] {
        let said = refused(here, "d.jsonl", file);
        assert!(said.contains("contains lines that are not zero.runtime.cycle.v1 records"), "{said}");
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

/// The example scenario with some of its text changed, in a file of its own.
fn changed_scenario(directory: &Path, from: &str, to: &str) -> String {
    let text = fs::read_to_string(root().join("examples/paper-trading/scenario.json")).unwrap();
    assert!(text.contains(from));
    fs::write(directory.join("changed.json"), text.replace(from, to)).unwrap();
    "changed.json".to_owned()
}

/// However they are spelled, and however many names a file has: the bus keeps its files to itself.
#[test]
fn no_journal_is_a_file_of_the_bus() {
    let scenario = root().join("examples/paper-trading/scenario.json").canonicalize().unwrap();
    let base = ["--scenario", scenario.to_str().unwrap(), "--once"];
    let refused = |here: &Path, more: &[&str]| {
        let before = crate::support::tree(here);
        let said = engine(here, &[&base, more].concat()).refused();
        assert!(said.contains("is a file of the bus"), "{said}");
        assert_eq!(crate::support::tree(here), before);
    };
    let place = place();
    let here = place.path();
    recorded(here);
    let inside = here.join("bus");
    for option in ["--journal", "--cycle-journal"] {
        refused(here, &[option, "x/../bus/events.jsonl", "--runtime-bus", "bus"]);
        refused(here, &[option, "./nb/bus.lock", "--runtime-bus", "nb"]);
        refused(here, &[option, "nb/events.jsonl", "--runtime-bus", "./x/../nb/"]);
        for name in ["events.jsonl", "state-snapshot.json", "bus.lock"] {
            refused(&inside, &[option, name, "--runtime-bus", "."]);
        }
        fs::hard_link(here.join("bus/events.jsonl"), here.join("another")).unwrap();
        refused(here, &[option, "another", "--runtime-bus", "bus"]);
        fs::remove_file(here.join("another")).unwrap();
    }
    refused(&inside, &["--journal", "events.jsonl", "--runtime-bus", ".", "--rebuild-journal"]);
    bus(here, &["verify", "bus"]).fine();
}

/// What stands before the last run is another run's, and not held against the journal.
#[test]
fn the_last_of_several_runs_is_compared() {
    let place = place();
    let here = place.path();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let base = ["--scenario", scenario.to_str().unwrap(), "--interval", "0", "--max-cycles"];
    for (directory, clock) in [("first", CLOCK), ("second", "1777593700")] {
        let records = ["3", "--fixed-clock", clock, "--runtime-bus", directory];
        engine(here, &[&base[..], &records].concat()).fine();
        // One behind the other on one bus.
        for event in Reader::open(here.join(directory)).unwrap().events(1).unwrap() {
            let event = event.unwrap();
            let trace = event.trace_id.unwrap();
            let as_of = event.as_of.to_string();
            let payload = event.payload.to_string();
            let draft = ["--type", &event.event_type, "--trace-id", &trace, "--as-of", &as_of, &payload];
            bus(here, &[&["append", "bus"][..], &draft].concat()).fine();
        }
    }
    let records = ["1", "--journal", "d.jsonl", "--runtime-bus", "bus"];
    let go = |more: &[&str]| engine(here, &[&base[..], &records, more].concat());
    go(&[]).fine_with("the cycle numbers restart at evt-000000000016");
    assert_eq!(lines(&here.join("d.jsonl")).len(), 4);
    go(&["--rebuild-journal"]).fine_with("rebuilt from the bus: 4 decisions");
    // A journal of the first run is behind.
    let journal = lines(&here.join("d.jsonl"));
    fs::write(here.join("d.jsonl"), journal[0].replace("1777593700", "1777593600") + "\n").unwrap();
    assert!(
        go(&[])
            .refused()
            .contains("evt-000000000016 in bus/events.jsonl are both decision 1, but they differ")
    );
}

/// A first cycle beside a new bus or a new cycle journal, cut short: the decision may be the only trace of it.
#[test]
fn the_last_decision_of_an_older_journal_is_published_on_a_new_bus() {
    let place = place();
    let here = place.path();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let base = ["--scenario", scenario.to_str().unwrap(), "--interval", "0", "--fixed-clock", CLOCK];
    let go = |more: &[&str]| engine(here, &[&base[..], more].concat());
    go(&["--journal", "d.jsonl", "--max-cycles", "6"]).fine();
    let said = "cycle 6 was completed on the bus from the journal";
    go(&[&RECORDS[..], &["--once"]].concat()).fine_with(said);
    bus(here, &["verify", "bus"]).fine();
    let numbers = |name: &str| -> Vec<u64> {
        let number =
            |line: &String| Value::parse(line).unwrap().get("cycle_id").and_then(Value::as_u64).unwrap();
        lines(&here.join(name)).iter().map(number).collect()
    };
    assert_eq!(numbers("c.jsonl"), [6, 7]);
    go(&[&RECORDS[..], &["--once"]].concat()).fine_with("");
    // The file was made, and the process died behind its decision.
    fs::write(here.join("new.jsonl"), "").unwrap();
    go(&["--journal", "d.jsonl", "--cycle-journal", "new.jsonl", "--once"])
        .fine_with("cycle 8 was completed");
    assert_eq!(numbers("new.jsonl"), [8, 9]);
    // Of another scenario nothing can be made.
    let other = changed_scenario(here, "first-flight", "another");
    engine(here, &["--scenario", &other, "--once", "--journal", "d.jsonl", "--runtime-bus", "new"])
        .fine_with("the bus begins with cycle 10");
}

/// What stands behind the last cycle under an earlier number is passed over; nothing is published twice for it.
#[test]
fn a_cycle_that_was_appended_again_is_passed_over() {
    let place = place();
    let here = place.path();
    let (_, log) = recorded(here);
    let payload = |line: &str| {
        zero_bus::Json::try_from(Value::parse(line).unwrap().get("payload").unwrap()).unwrap().to_string()
    };
    let again = ["append", "bus", "--type", "runtime.cycle", "--trace-id", "runtime-cycle-3"];
    bus(here, &[&again[..], &[&payload(&log[10])]].concat()).fine();
    let said = "evt-000000000031 on the bus claims to be cycle 3 but comes after cycle 6";
    run(here, "1", &[]).fine_with(said);
    assert_eq!(lines(&here.join("bus/events.jsonl")).len(), 36);
    run(here, "1", &["--rebuild-journal"]).fine_with("rebuilt from the bus: 7 decisions");
    assert_eq!(lines(&here.join("bus/events.jsonl")).len(), 41);
}

/// Others' events within half a cycle do not take the place of its own.
#[test]
fn foreign_events_do_not_complete_a_cycle() {
    let first = place();
    let (journal, log) = recorded(first.path());
    // Cycle 6 is filled.
    for kinds in [&["rejection.record"][..], &["fill.record", "position.snapshot", "runtime.health"]] {
        let place = place();
        let here = place.path();
        recorded(here);
        leave(here, &journal, &log[..27]);
        for kind in kinds {
            bus(here, &["append", "bus", "--type", kind, "--trace-id", "runtime-cycle-6", "{}"]).fine();
        }
        run(here, "1", &[]).fine_with("cycle 6 was completed on the bus");
        let after = lines(&here.join("bus/events.jsonl"));
        let payloads = |lines: &[String]| -> Vec<Value> {
            lines.iter().map(|line| Value::parse(line).unwrap().get("payload").unwrap().clone()).collect()
        };
        let begins = 27 + kinds.len();
        assert_eq!(payloads(&after[begins..begins + 3]), payloads(&log[27..30]));
        assert_eq!(after.len(), begins + 3 + 5);
        run(here, "1", &[]).fine();
    }
}

/// A cycle record made afterwards must not name limits under which it was not decided.
#[test]
fn changed_limits_are_told_before_a_cycle_is_completed() {
    let first = place();
    let (journal, log) = recorded(first.path());
    let place = place();
    let here = place.path();
    recorded(here);
    leave(here, &journal[..4], &log[..15]);
    fs::write(here.join("c.jsonl"), "").unwrap();
    let other = changed_scenario(here, "1800", "9999");
    let said = engine(here, &[&["--scenario", &other, "--once"], &RECORDS[..]].concat());
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains(
            "d.jsonl: decision 4 was recorded as `projected position exceeds limit`, but the current limits give \
             `allowed`; if the limits were changed, start once with the old ones"
        ),
        "{}",
        said.err
    );
    assert_eq!(lines(&here.join("bus/events.jsonl")), log[..15]);
    run(here, "1", &[]).fine_with("cycle 4 was completed");
    assert_eq!(lines(&here.join("bus/events.jsonl")).len(), 25);
    // Where the record is there already, it has the limits of its time.
    leave(here, &journal[..4], &log[..17]);
    engine(here, &[&["--scenario", &other, "--once"], &RECORDS[..]].concat())
        .fine_with("cycle 4 was completed");
}

/// Somebody else who writes to a journal while it is open is noticed before the next line.
#[test]
fn a_journal_that_is_changed_under_a_runtime_is_noticed() {
    for spoil in ["", "x"] {
        let place = place();
        let here = place.path();
        let scenario = root().join("examples/paper-trading/scenario.json");
        let arguments =
            ["--scenario", scenario.to_str().unwrap(), "--interval", "0.05", "--journal", "d.jsonl"];
        let child = crate::support::start(here, &arguments);
        let size = || fs::metadata(here.join("d.jsonl")).map_or(0, |metadata| metadata.len());
        crate::support::wait_until(|| size() > 600);
        let mut file = fs::OpenOptions::new().append(true).open(here.join("d.jsonl")).unwrap();
        if spoil.is_empty() {
            file.set_len(0).unwrap();
        } else {
            std::io::Write::write_all(&mut file, spoil.as_bytes()).unwrap();
        }
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(
            ended.err.contains("d.jsonl: has ") && ended.err.contains("somebody else changed it"),
            "{}",
            ended.err
        );
    }
}

/// A start that is refused has still told what it mended.
#[test]
fn a_refused_start_tells_what_it_mended() {
    let place = place();
    let here = place.path();
    recorded(here);
    bus(here, &["command", "bus", "kill"]).fine();
    for (file, torn) in [("bus/events.jsonl", "{\"as_of\":17"), ("d.jsonl", "{\"al")] {
        let mut file = fs::OpenOptions::new().append(true).open(here.join(file)).unwrap();
        std::io::Write::write_all(&mut file, torn.as_bytes()).unwrap();
    }
    let ended = run(here, "1", &[]);
    assert_eq!(ended.code, 2);
    for said in [
        "warning: bus/events.jsonl: an unfinished last line of 11 bytes was set aside",
        "warning: d.jsonl: an unfinished last line of 4 bytes was set aside",
        "the runtime was stopped",
    ] {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
}

/// Without a bus to hold it against, a journal's own numbers tell.
#[test]
fn a_journal_out_of_order_is_told() {
    let place = place();
    let here = place.path();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let arguments = ["--scenario", scenario.to_str().unwrap(), "--interval", "0", "--journal", "d.jsonl"];
    let go = |cycles| engine(here, &[&arguments[..], &["--max-cycles", cycles]].concat());
    go("6").fine();
    let journal = lines(&here.join("d.jsonl"));
    fs::write(here.join("d.jsonl"), [&journal[..3], &journal[5..]].concat().join("\n") + "\n").unwrap();
    go("1").fine_with("d.jsonl: line 4 belongs to another cycle than 4: lines are missing or were moved");
}
