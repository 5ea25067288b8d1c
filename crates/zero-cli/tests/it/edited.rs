//! Records that were edited, restored, mixed up or appended to by others. The runtime warns of them
//! or refuses them, names the place, and the remedy that a message names works.

use std::fs;
use std::path::Path;

use crate::support::runs::{CYCLES, cut_records, lines, record_six_cycles, run_cycles};
use crate::support::{
    CLOCK, EXAMPLE_SCENARIO, Finished, RECORDS, bus, engine, published_decisions, start_engine, temp_dir,
    tree, wait_until,
};
use zero_bus::{Reader, Value};

/// The bus has only the first event of the last cycle. That event contains the decision.
#[test]
fn an_incomplete_cycle_is_compared_with_the_journal() {
    for with_sync_mark in [false, true] {
        let temp = temp_dir();
        let dir = temp.path();
        let (journal, log) = record_six_cycles(dir);
        let half = &log[..5 * (CYCLES - 1) + 1];
        let cut = |journal: &[String]| {
            cut_records(dir, journal, half);
            if with_sync_mark {
                // Opening the bus writes a sync mark for the events that are left.
                drop(zero_bus::Bus::open(dir.join("bus")).unwrap());
            }
        };
        // The journal lacks the decision.
        cut(&journal[..5]);
        let before = tree(dir);
        let message = run_cycles(dir, "1", &[]).failure(2);
        assert!(
            message.contains(
                "d.jsonl: ends with decision 5, but evt-000000000026 in bus/events.jsonl is decision 6: the bus is ahead"
            ),
            "{message}"
        );
        assert_eq!(tree(dir), before);
        // The journal has another decision.
        let mut other = journal.clone();
        other[5] = other[5].replace("1777593600.0", "1777593601.0");
        assert_ne!(other, journal);
        cut(&other);
        let message = run_cycles(dir, "1", &[]).failure(2);
        assert!(
            message.contains("d.jsonl: line 6 (byte ")
                && message.contains(
                    "and evt-000000000026 in bus/events.jsonl are both decision 6, but they differ"
                ),
            "{message}"
        );
        // The remedy that the message names.
        assert_eq!(run_cycles(dir, "1", &["--rebuild-journal"]).code, 0);
        assert_eq!(lines(&dir.join("d.jsonl"))[..6], journal);
        assert_eq!(lines(&dir.join("bus/events.jsonl"))[..30], log, "the cycle is completed as recorded");
        run_cycles(dir, "1", &["--rebuild-journal"])
            .success_with_warning("d.jsonl: rebuilt from the bus: 7 decisions");
    }
}

/// Every producer can append events of every type.
#[test]
fn a_foreign_event_of_the_type_of_a_cycle_is_ignored_with_a_warning() {
    let temp = temp_dir();
    let dir = temp.path();
    let (_, log) = record_six_cycles(dir);
    let cycle = Value::parse(&log[25]).unwrap().get("payload").unwrap().clone();
    let payload = zero_bus::Json::try_from(&cycle).unwrap().to_string();
    let invalid = payload.replace("\"allowed\":", "\"allow\":");
    assert_ne!(invalid, payload);
    for (trace, payload) in [
        ("runtime-cycle-8", "{}"),
        ("runtime-cycle-7", payload.as_str()),
        ("runtime-cycle-6", invalid.as_str()),
    ] {
        let appended =
            bus(dir, &["append", "bus", "--type", "runtime.cycle", "--trace-id", trace, payload]).success();
        let id = Value::parse(&appended).unwrap().get("event_id").unwrap().as_str().unwrap().to_owned();
        let cycle = trace.trim_start_matches("runtime-cycle-");
        let warning =
            format!("warning: {id} on the bus claims to be cycle {cycle} but is not a valid cycle record");
        run_cycles(dir, "1", &[]).success_with_warning(&warning);
        run_cycles(dir, "1", &["--rebuild-journal"]).success_with_warning(&warning);
    }
    let cycles = lines(&dir.join("c.jsonl"));
    let numbers: Vec<_> = cycles
        .iter()
        .map(|line| Value::parse(line).unwrap().get("cycle_id").and_then(Value::as_u64).unwrap())
        .collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<u64>>());
    assert_eq!(published_decisions(dir), fs::read_to_string(dir.join("d.jsonl")).unwrap());
    bus(dir, &["verify", "bus"]).success();
}

#[test]
fn breaks_in_the_cycle_journal_are_warned_of() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "12", &[]).success();
    let cycles = lines(&dir.join("c.jsonl"));
    let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    // Missing, repeated and moved records.
    let with_gap = [&cycles[..4], &cycles[8..]].concat();
    fs::write(dir.join("c.jsonl"), text(&with_gap)).unwrap();
    run_cycles(dir, "1", &[]).success_with_warning(
        "c.jsonl: line 5 is cycle 9 after cycle 4; empty the file to rebuild it from the bus",
    );
    let repeated = [&cycles[..6], &cycles[4..], &cycles[2..3]].concat();
    fs::write(dir.join("c.jsonl"), text(&repeated)).unwrap();
    run_cycles(dir, "1", &[]).success_with_warning(
        "c.jsonl: line 7 is cycle 5 after cycle 6, and 1 later line is out of sequence",
    );
    let repeated_first = [&cycles[..1], &cycles[..]].concat();
    fs::write(dir.join("c.jsonl"), text(&repeated_first)).unwrap();
    run_cycles(dir, "1", &[]).success_with_warning("c.jsonl: line 2 is cycle 1 after cycle 1");
    let restarted = [&cycles[..], &cycles[..1]].concat();
    fs::write(dir.join("c.jsonl"), text(&restarted)).unwrap();
    run_cycles(dir, "1", &[]).success_with_warning("c.jsonl: line 13 is cycle 1 after cycle 12");
    assert_eq!(lines(&dir.join("c.jsonl")).len(), 13 + 4, "only missing records are taken from the bus");
    // The remedy that the message names.
    fs::write(dir.join("c.jsonl"), "").unwrap();
    run_cycles(dir, "1", &[]).success();
    assert_eq!(lines(&dir.join("c.jsonl"))[..12], cycles);
    assert_eq!(lines(&dir.join("c.jsonl")).len(), 17);
    // Journal and bus are restored from an older copy, the cycle journal is not.
    let later = fs::read(dir.join("c.jsonl")).unwrap();
    fs::remove_dir_all(dir.join("bus")).unwrap();
    fs::remove_file(dir.join("c.jsonl")).unwrap();
    fs::remove_file(dir.join("d.jsonl")).unwrap();
    run_cycles(dir, "6", &[]).success();
    fs::write(dir.join("c.jsonl"), later).unwrap();
    run_cycles(dir, "1", &[])
        .success_with_warning("c.jsonl: ends with cycle 17, but there are only 6 decisions");
}

/// Without a bus, a process that dies between a decision and its cycle record loses that record.
#[test]
fn without_a_bus_the_last_cycle_is_completed_from_the_journal() {
    let temp = temp_dir();
    let dir = temp.path();
    let run_cycles = |cycles| {
        let scenario = ["--scenario", *EXAMPLE_SCENARIO, "--fixed-clock", CLOCK, "--interval", "0"];
        engine(dir, &[&scenario, &RECORDS[..4], &["--max-cycles", cycles]].concat())
    };
    run_cycles("4").success();
    for kept in [3, 0] {
        let cycles = lines(&dir.join("c.jsonl"));
        let text: String = cycles[..kept].iter().map(|line| format!("{line}\n")).collect();
        fs::write(dir.join("c.jsonl"), text).unwrap();
        let journal: String =
            lines(&dir.join("d.jsonl"))[..=kept].iter().map(|line| format!("{line}\n")).collect();
        fs::write(dir.join("d.jsonl"), journal).unwrap();
        let warning = format!("warning: cycle {} was completed from the journal", kept + 1);
        run_cycles("1").success_with_warning(&warning);
        let after = lines(&dir.join("c.jsonl"));
        assert_eq!(after.len(), kept + 2);
        let without_recovery = |line: &String| {
            let cycle = Value::parse(line).unwrap();
            (cycle.get("act").cloned(), cycle.get("decide").cloned(), cycle.get("learn").cloned())
        };
        assert_eq!(without_recovery(&after[kept]), without_recovery(&cycles[kept]));
        run_cycles("1").success();
    }
}

#[test]
fn damage_that_no_crash_leaves_is_refused_and_left_unchanged() {
    let base = ["--scenario", *EXAMPLE_SCENARIO, "--fixed-clock", CLOCK, "--interval", "0", "--max-cycles"];
    let damage = |path: &Path, numbers: std::ops::Range<usize>| {
        let mut all = lines(path);
        all[numbers].iter_mut().for_each(|line| line.replace_range(..1, "X"));
        fs::write(path, all.join("\n") + "\n").unwrap();
    };
    let refusal = |dir: &Path, journal: &str, cycle_journal: &str| {
        let before = tree(dir);
        let records = ["1", "--journal", journal, "--cycle-journal", cycle_journal];
        let message = engine(dir, &[&base[..], &records].concat()).failure(2);
        assert_eq!(tree(dir), before, "{message}");
        message
    };
    let temp = temp_dir();
    let dir = temp.path();
    engine(dir, &[&base[..], &["12", "--journal", "d.jsonl", "--cycle-journal", "c.jsonl"]].concat())
        .success();
    let cycles = fs::read(dir.join("c.jsonl")).unwrap();
    let journal = fs::read(dir.join("d.jsonl")).unwrap();
    damage(&dir.join("d.jsonl"), 9..12);
    assert!(refusal(dir, "d.jsonl", "c.jsonl").contains("d.jsonl: line 10 (byte "));
    fs::write(dir.join("d.jsonl"), &journal).unwrap();
    damage(&dir.join("c.jsonl"), 2..3);
    assert!(refusal(dir, "d.jsonl", "c.jsonl").contains("no crash explains it"));
    fs::write(dir.join("c.jsonl"), &cycles).unwrap();
    // Files that are no records.
    fs::write(dir.join("two.json"), "{\n\"name\":\"x\"}\n").unwrap();
    fs::write(dir.join("blank.txt"), "\nfoo\n").unwrap();
    fs::copy(*EXAMPLE_SCENARIO, dir.join("scenario.json")).unwrap();
    refusal(dir, "two.json", "c.jsonl");
    refusal(dir, "blank.txt", "c.jsonl");
    for file in ["two.json", "blank.txt", "scenario.json"] {
        let message = refusal(dir, "d.jsonl", file);
        assert!(message.contains("contains lines that are not zero.runtime.cycle.v1 records"), "{message}");
    }
    // A symbolic link without a target is not replaced by a file.
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    for options in
        [&["--journal", "link"][..], &["--journal", "link", "--runtime-bus", "bus", "--rebuild-journal"]]
    {
        run_cycles(dir, "1", &[]).success_with_warning("");
        let message = engine(dir, &[&base[..], &["1"], options].concat()).failure(2);
        assert!(message.contains("link: cannot open it for appending: it is a symbolic link"), "{message}");
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
    }
}

/// Rebuilding the journal overwrites no file, and no journal has the name of a file of the bus.
#[test]
fn rebuilding_the_journal_overwrites_no_file() {
    let temp = temp_dir();
    let dir = temp.path();
    record_six_cycles(dir);
    for name in ["d.jsonl.rebuilt-1", "d.jsonl.before-rebuild-1"] {
        fs::write(dir.join(name), "another file\n").unwrap();
    }
    run_cycles(dir, "1", &["--rebuild-journal"]).success_with_warning("d.jsonl.before-rebuild-2");
    for name in ["d.jsonl.rebuilt-1", "d.jsonl.before-rebuild-1"] {
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), "another file\n");
    }
    for name in
        ["bus/state-snapshot.json.tmp", "bus/bus.lock.tmp", "bus/events.jsonl.torn-at-3", "bus/events.jsonl"]
    {
        let scenario = ["--scenario", *EXAMPLE_SCENARIO, "--once", "--runtime-bus", "bus"];
        for option in ["--journal", "--cycle-journal"] {
            let message = engine(dir, &[&scenario[..], &[option, name]].concat()).failure(2);
            assert!(message.contains("is a file of the bus"), "{message}");
        }
    }
}

/// Writes a changed copy of the example scenario. Returns its file name.
fn changed_scenario(dir: &Path, from: &str, to: &str) -> String {
    let text = fs::read_to_string(*EXAMPLE_SCENARIO).unwrap();
    assert!(text.contains(from));
    fs::write(dir.join("changed.json"), text.replace(from, to)).unwrap();
    "changed.json".to_owned()
}

/// However the path is spelled, and also under another hard link.
#[test]
fn a_file_of_the_bus_is_refused_as_a_journal() {
    let base = ["--scenario", *EXAMPLE_SCENARIO, "--once"];
    let assert_refused = |dir: &Path, options: &[&str]| {
        let before = tree(dir);
        let message = engine(dir, &[&base, options].concat()).failure(2);
        assert!(message.contains("is a file of the bus"), "{message}");
        assert_eq!(tree(dir), before);
    };
    let temp = temp_dir();
    let dir = temp.path();
    record_six_cycles(dir);
    let inside = dir.join("bus");
    for option in ["--journal", "--cycle-journal"] {
        assert_refused(dir, &[option, "x/../bus/events.jsonl", "--runtime-bus", "bus"]);
        assert_refused(dir, &[option, "./nb/bus.lock", "--runtime-bus", "nb"]);
        assert_refused(dir, &[option, "nb/events.jsonl", "--runtime-bus", "./x/../nb/"]);
        for name in ["events.jsonl", "state-snapshot.json", "bus.lock"] {
            assert_refused(&inside, &[option, name, "--runtime-bus", "."]);
        }
        fs::hard_link(dir.join("bus/events.jsonl"), dir.join("another")).unwrap();
        assert_refused(dir, &[option, "another", "--runtime-bus", "bus"]);
        fs::remove_file(dir.join("another")).unwrap();
    }
    assert_refused(&inside, &["--journal", "events.jsonl", "--runtime-bus", ".", "--rebuild-journal"]);
    bus(dir, &["verify", "bus"]).success();
}

/// Earlier runs on the same bus are not compared.
#[test]
fn the_last_run_on_a_bus_is_compared_with_the_journal() {
    let temp = temp_dir();
    let dir = temp.path();
    let base = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--max-cycles"];
    for (directory, clock) in [("first", CLOCK), ("second", "1777593700")] {
        let records = ["3", "--fixed-clock", clock, "--runtime-bus", directory];
        engine(dir, &[&base[..], &records].concat()).success();
        // Both runs, one after the other, on one bus.
        for event in Reader::open(dir.join(directory)).unwrap().events(1).unwrap() {
            let event = event.unwrap();
            let trace = event.trace_id.unwrap();
            let as_of = event.as_of.to_string();
            let payload = event.payload.to_string();
            let draft = ["--type", &event.event_type, "--trace-id", &trace, "--as-of", &as_of, &payload];
            bus(dir, &[&["append", "bus"][..], &draft].concat()).success();
        }
    }
    let records = ["1", "--journal", "d.jsonl", "--runtime-bus", "bus"];
    let run_engine = |options: &[&str]| engine(dir, &[&base[..], &records, options].concat());
    run_engine(&[]).success_with_warning("the cycle numbers restart at evt-000000000016");
    assert_eq!(lines(&dir.join("d.jsonl")).len(), 4);
    run_engine(&["--rebuild-journal"]).success_with_warning("rebuilt from the bus: 4 decisions");
    // A journal of the first run differs.
    let journal = lines(&dir.join("d.jsonl"));
    fs::write(dir.join("d.jsonl"), journal[0].replace("1777593700", "1777593600") + "\n").unwrap();
    assert!(
        run_engine(&[])
            .failure(2)
            .contains("evt-000000000016 in bus/events.jsonl are both decision 1, but they differ")
    );
}

/// The journal exists before the bus or the cycle journal, and a crash cuts the first cycle with
/// both short.
#[test]
fn the_last_decision_of_an_older_journal_is_published_on_a_new_bus() {
    let temp = temp_dir();
    let dir = temp.path();
    let base = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--fixed-clock", CLOCK];
    let run_engine = |options: &[&str]| engine(dir, &[&base[..], options].concat());
    run_engine(&["--journal", "d.jsonl", "--max-cycles", "6"]).success();
    run_engine(&[&RECORDS[..], &["--once"]].concat())
        .success_with_warning("cycle 6 was completed on the bus from the journal");
    bus(dir, &["verify", "bus"]).success();
    let numbers = |name: &str| -> Vec<u64> {
        let number =
            |line: &String| Value::parse(line).unwrap().get("cycle_id").and_then(Value::as_u64).unwrap();
        lines(&dir.join(name)).iter().map(number).collect()
    };
    assert_eq!(numbers("c.jsonl"), [6, 7]);
    run_engine(&[&RECORDS[..], &["--once"]].concat()).success_with_warning("");
    // The cycle journal exists, and the process died after the decision.
    fs::write(dir.join("new.jsonl"), "").unwrap();
    run_engine(&["--journal", "d.jsonl", "--cycle-journal", "new.jsonl", "--once"])
        .success_with_warning("cycle 8 was completed");
    assert_eq!(numbers("new.jsonl"), [8, 9]);
    // A decision of another scenario cannot be completed.
    let other = changed_scenario(dir, "first-flight", "another");
    engine(dir, &["--scenario", &other, "--once", "--journal", "d.jsonl", "--runtime-bus", "new"])
        .success_with_warning("the bus begins with cycle 10");
}

#[test]
fn a_cycle_record_that_was_appended_again_is_ignored_with_a_warning() {
    let temp = temp_dir();
    let dir = temp.path();
    let (_, log) = record_six_cycles(dir);
    let payload = |line: &str| {
        zero_bus::Json::try_from(Value::parse(line).unwrap().get("payload").unwrap()).unwrap().to_string()
    };
    let again = ["append", "bus", "--type", "runtime.cycle", "--trace-id", "runtime-cycle-3"];
    bus(dir, &[&again[..], &[&payload(&log[10])]].concat()).success();
    let warning = "evt-000000000031 on the bus claims to be cycle 3 but comes after cycle 6";
    run_cycles(dir, "1", &[]).success_with_warning(warning);
    assert_eq!(lines(&dir.join("bus/events.jsonl")).len(), 36);
    run_cycles(dir, "1", &["--rebuild-journal"]).success_with_warning("rebuilt from the bus: 7 decisions");
    assert_eq!(lines(&dir.join("bus/events.jsonl")).len(), 41);
}

#[test]
fn foreign_events_do_not_complete_a_cycle() {
    let first = temp_dir();
    let (journal, log) = record_six_cycles(first.path());
    // Cycle 6 is filled.
    for event_types in [&["rejection.record"][..], &["fill.record", "position.snapshot", "runtime.health"]] {
        let temp = temp_dir();
        let dir = temp.path();
        record_six_cycles(dir);
        cut_records(dir, &journal, &log[..27]);
        for event_type in event_types {
            bus(dir, &["append", "bus", "--type", event_type, "--trace-id", "runtime-cycle-6", "{}"])
                .success();
        }
        run_cycles(dir, "1", &[]).success_with_warning("cycle 6 was completed on the bus");
        let after = lines(&dir.join("bus/events.jsonl"));
        let payloads = |lines: &[String]| -> Vec<Value> {
            lines.iter().map(|line| Value::parse(line).unwrap().get("payload").unwrap().clone()).collect()
        };
        let completed_from = 27 + event_types.len();
        assert_eq!(payloads(&after[completed_from..completed_from + 3]), payloads(&log[27..30]));
        assert_eq!(after.len(), completed_from + 3 + 5);
        run_cycles(dir, "1", &[]).success();
    }
}

/// A completed cycle record must not contain limits other than those of its decision.
#[test]
fn a_cycle_is_not_completed_under_changed_limits() {
    let first = temp_dir();
    let (journal, log) = record_six_cycles(first.path());
    let temp = temp_dir();
    let dir = temp.path();
    record_six_cycles(dir);
    cut_records(dir, &journal[..4], &log[..15]);
    fs::write(dir.join("c.jsonl"), "").unwrap();
    let other = changed_scenario(dir, "1800", "9999");
    let output = engine(dir, &[&["--scenario", &other, "--once"], &RECORDS[..]].concat());
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains(
            "d.jsonl: decision 4 was recorded as `projected position exceeds limit`, but the current limits give \
             `allowed`; if the limits were changed, start once with the old ones"
        ),
        "{}",
        output.stderr
    );
    assert_eq!(lines(&dir.join("bus/events.jsonl")), log[..15]);
    run_cycles(dir, "1", &[]).success_with_warning("cycle 4 was completed");
    assert_eq!(lines(&dir.join("bus/events.jsonl")).len(), 25);
    // A published cycle record has the limits of its decision.
    cut_records(dir, &journal[..4], &log[..17]);
    engine(dir, &[&["--scenario", &other, "--once"], &RECORDS[..]].concat())
        .success_with_warning("cycle 4 was completed");
}

/// The change is noticed before the next line is written.
#[test]
fn a_journal_that_another_process_changes_ends_the_run() {
    for appended in ["", "x"] {
        let temp = temp_dir();
        let dir = temp.path();
        let arguments = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0.05", "--journal", "d.jsonl"];
        let child = start_engine(dir, &arguments);
        let size = || fs::metadata(dir.join("d.jsonl")).map_or(0, |metadata| metadata.len());
        wait_until(|| size() > 600);
        let mut file = fs::OpenOptions::new().append(true).open(dir.join("d.jsonl")).unwrap();
        if appended.is_empty() {
            file.set_len(0).unwrap();
        } else {
            std::io::Write::write_all(&mut file, appended.as_bytes()).unwrap();
        }
        let output = Finished::from(child.wait_with_output().unwrap());
        assert_eq!(output.code, 2, "{}", output.stderr);
        assert!(
            output.stderr.contains("d.jsonl: has ") && output.stderr.contains("another program changed it"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_refused_start_warns_of_the_tails_it_quarantined() {
    let temp = temp_dir();
    let dir = temp.path();
    record_six_cycles(dir);
    bus(dir, &["command", "bus", "kill"]).success_with_warning("no runtime holds bus");
    for (file, torn) in [("bus/events.jsonl", "{\"as_of\":17"), ("d.jsonl", "{\"al")] {
        let mut file = fs::OpenOptions::new().append(true).open(dir.join(file)).unwrap();
        std::io::Write::write_all(&mut file, torn.as_bytes()).unwrap();
    }
    let output = run_cycles(dir, "1", &[]);
    assert_eq!(output.code, 3);
    for expected in [
        "warning: bus/events.jsonl: quarantined an incomplete last line of 11 bytes in",
        "warning: d.jsonl: quarantined an incomplete last line of 4 bytes in",
        "the runtime was stopped",
    ] {
        assert!(output.stderr.contains(expected), "{expected}: {}", output.stderr);
    }
}

/// Without a bus, the numbers in the journal show that lines are missing.
#[test]
fn a_journal_out_of_order_is_warned_of() {
    let temp = temp_dir();
    let dir = temp.path();
    let arguments = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--journal", "d.jsonl"];
    let run_engine = |cycles| engine(dir, &[&arguments[..], &["--max-cycles", cycles]].concat());
    run_engine("6").success();
    let journal = lines(&dir.join("d.jsonl"));
    fs::write(dir.join("d.jsonl"), [&journal[..3], &journal[5..]].concat().join("\n") + "\n").unwrap();
    run_engine("1").success_with_warning(
        "d.jsonl: line 4 belongs to another cycle than 4: lines are missing or were moved",
    );
}
