//! `zero-bus doctor`: each check finds the problem that it is for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{EXAMPLE_SCENARIO, RECORDS, bus, conformance, runs, start_engine, temp_dir, tree};
use zero_bus::{Bus, Draft, Event, Value};

fn run_cycles(dir: &Path, cycles: &str) {
    runs::run_cycles(dir, cycles, &[]).success();
}

fn append(dir: &Path, arguments: &[&str]) {
    bus(dir, &[&["append", "bus"], arguments].concat()).success();
}

/// Runs the doctor. Returns the level, the finding and the remedy of one check.
#[track_caller]
fn check(dir: &Path, arguments: &[&str], name: &str) -> (String, String, String) {
    let output = bus(dir, &[&["doctor", "bus", "--json"], arguments].concat());
    let document = Value::parse(&output.stdout).unwrap();
    let Some(Value::Array(checks)) = document.get("checks") else { panic!("{}", output.stdout) };
    let text =
        |check: &Value, key: &str| check.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let failing = checks.iter().filter(|check| text(check, "level") == "fail").count();
    assert_eq!(output.code, i32::from(failing > 0), "{}", output.stdout);
    assert_eq!(document.get("ok").and_then(Value::as_bool), Some(failing == 0));
    // Every warning and every failure has a remedy.
    assert!(checks.iter().all(|check| (text(check, "level") == "ok") == text(check, "way_out").is_empty()));
    let check = checks.iter().find(|check| text(check, "name") == name);
    let check = check.unwrap_or_else(|| panic!("{name}: {}", output.stdout));
    (text(check, "level"), text(check, "found"), text(check, "way_out"))
}

#[track_caller]
fn assert_check(dir: &Path, arguments: &[&str], name: &str, expected_level: &str, expected: &str) {
    let (level, found, _) = check(dir, arguments, name);
    assert_eq!(level, expected_level, "{found}");
    assert!(found.contains(expected), "{found}");
}

#[test]
fn a_sound_bus_passes_and_is_not_changed() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "6");
    let before = tree(dir);
    let stdout = bus(dir, &["doctor", "bus", "--journal", "d.jsonl"]).success();
    let checks = stdout.lines().take_while(|line| !line.starts_with("an unanchored chain"));
    let marks: Vec<&str> = checks.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(marks.len() >= 9 && marks.iter().all(|mark| *mark == "ok"), "{stdout}");
    assert_eq!(tree(dir), before);
    assert!(stdout.lines().last().unwrap().starts_with("an unanchored chain cannot show"), "{stdout}");
    for name in [
        "permissions",
        "chain",
        "snapshot",
        "sync mark",
        "clock",
        "cycles",
        "operator",
        "runtime",
        "replay",
        "journal",
        "account",
        "disk",
    ] {
        assert_check(dir, &["--journal", "d.jsonl"], name, "ok", "");
    }
    fs::create_dir(dir.join("empty")).unwrap();
    let stdout = bus(dir, &["doctor", "empty"]).success();
    assert!(stdout.contains("sync mark    no bus.lock, and no event that it could record"), "{stdout}");
    assert!(bus(dir, &["doctor", "missing"]).failure(2).contains("missing: there is no such directory"));
}

#[test]
fn permissions_of_other_users_are_reported() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "1");
    let mode = |name: &str, mode| {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("bus/events.jsonl", 0o640);
    assert_check(dir, &[], "permissions", "warn", "others can read events.jsonl (0640)");
    assert_eq!(check(dir, &[], "permissions").2, "chmod go= bus/events.jsonl");
    mode("bus", 0o770);
    assert_check(dir, &[], "permissions", "fail", "others can write to bus (0770)");
    mode("bus", 0o700);
    mode("bus/events.jsonl", 0o600);
    mode("d.jsonl", 0o602);
    assert_check(dir, &[], "permissions", "ok", "");
    assert_check(dir, &["--journal", "d.jsonl"], "permissions", "fail", "d.jsonl (0602)");
}

#[test]
fn problems_of_the_log_and_its_companions_are_reported() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "3");
    let log = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    let write_log = |text: &str| fs::write(dir.join("bus/events.jsonl"), text).unwrap();
    write_log(&format!("{log}{{\"as_of\":17"));
    assert_check(dir, &[], "chain", "warn", "torn tail after event 15: 11 bytes of an unfinished append");
    assert_check(dir, &[], "operator", "ok", "no command in force");
    write_log(&log.replacen("\"quantity\":0.01", "\"quantity\":0.02", 1));
    assert_check(dir, &[], "chain", "fail", "checksum mismatch at event 1 (byte 0 of the log)");
    assert_check(dir, &[], "snapshot", "ok", "names an event that is in the log");
    // Checks of events that cannot be read are not ok.
    for name in ["clock", "cycles", "operator"] {
        assert_check(dir, &[], name, "warn", "unknown: no event can be read");
    }
    write_log(&log.replacen("\"cycle_id\":2,", "\"cycle_id\":7,", 1));
    assert_check(dir, &[], "operator", "warn", "no command in force; known up to event 5");
    write_log(&log[..log.len() - 20]);
    assert_check(dir, &[], "chain", "fail", "");
    write_log(&log.lines().take(12).map(|line| format!("{line}\n")).collect::<String>());
    assert_check(dir, &[], "chain", "fail", "");
    assert_check(dir, &[], "snapshot", "fail", "snapshot references missing tail events");
    write_log(&log);
    fs::remove_file(dir.join("bus/bus.lock")).unwrap();
    assert_check(dir, &[], "sync mark", "warn", "bus.lock is missing");
    fs::write(dir.join("bus/events.jsonl.torn-at-7"), "{").unwrap();
    assert_check(dir, &[], "quarantine", "warn", "1 quarantined tail: events.jsonl.torn-at-7");
    fs::remove_file(dir.join("bus/events.jsonl")).unwrap();
    fs::remove_file(dir.join("bus/state-snapshot.json")).unwrap();
    assert_check(dir, &[], "chain", "warn", "has no events.jsonl; the bus is empty");
    // The sync mark counts the events of the missing log.
    fs::remove_dir_all(dir.join("bus")).unwrap();
    fs::remove_file(dir.join("d.jsonl")).unwrap();
    fs::remove_file(dir.join("c.jsonl")).unwrap();
    run_cycles(dir, "3");
    fs::remove_file(dir.join("bus/events.jsonl")).unwrap();
    fs::remove_file(dir.join("bus/state-snapshot.json")).unwrap();
    assert_check(dir, &[], "chain", "fail", "");
    assert_eq!(bus(dir, &["verify", "bus"]).code, 1);
    // The text output.
    let output = bus(&conformance().join("logs"), &["doctor", "mutated-payload"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("FAIL  chain        checksum mismatch at event 13"), "{}", output.stdout);
    assert!(!output.stdout.contains('\x1b'));
}

#[test]
fn setbacks_of_the_clock_and_breaks_in_the_cycles_are_reported() {
    let temp = temp_dir();
    let dir = temp.path();
    append(dir, &["--type", "a", "--as-of", "1000", "{}"]);
    append(dir, &["--type", "a", "--as-of", "999.5", "{}"]);
    assert_check(dir, &[], "clock", "ok", "");
    append(dir, &["--type", "a", "--as-of", "900", "{}"]);
    assert_check(dir, &[], "clock", "warn", "went back 1 time, at most by 99.5 s at evt-000000000003");
    append(dir, &["--type", "a", "--as-of", "99999999999", "{}"]);
    assert_check(dir, &[], "clock", "warn", "evt-000000000004 is ");
    let cycle = |id: u64, as_of: &str| {
        let payload = format!("{{\"cycle_id\":{id}}}");
        append(dir, &["--type", "runtime.cycle", "--as-of", as_of, &payload]);
    };
    for (id, as_of) in [(1, "100"), (2, "110"), (3, "120"), (4, "900"), (5, "910")] {
        cycle(id, as_of);
    }
    assert_check(
        dir,
        &[],
        "cycles",
        "warn",
        "a gap of 13 min before evt-000000000008; 10.0 s on average otherwise",
    );
    cycle(9, "920");
    assert_check(dir, &[], "cycles", "warn", "not in sequence in 1 place, first at evt-000000000010");
}

#[test]
fn commands_in_force_and_disagreement_with_the_journal_are_reported() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "6");
    bus(dir, &["command", "bus", "pause", "--actor", "ops"]).success_with_warning("no runtime holds bus");
    assert_check(dir, &[], "operator", "warn", "in force: pause in evt-000000000031 by ops");
    let journal = fs::read_to_string(dir.join("d.jsonl")).unwrap();
    let with_journal = ["--journal", "d.jsonl"];
    fs::write(dir.join("d.jsonl"), format!("{journal}{{\"al")).unwrap();
    assert_check(dir, &with_journal, "journal", "warn", "ends with 4 bytes of an unfinished line");
    fs::write(
        dir.join("d.jsonl"),
        journal.lines().take(5).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    assert_check(dir, &with_journal, "journal", "fail", "the bus is ahead");
    let log = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    // As of an older copy of the log alone: lock file and snapshot know of more events.
    let cut_log = |lines: usize| {
        for name in ["bus.lock", "state-snapshot.json"] {
            let _ = fs::remove_file(dir.join("bus").join(name));
        }
        fs::write(
            dir.join("bus/events.jsonl"),
            log.lines().take(lines).map(|line| format!("{line}\n")).collect::<String>(),
        )
        .unwrap();
    };
    fs::write(dir.join("d.jsonl"), &journal).unwrap();
    cut_log(20);
    assert_check(dir, &with_journal, "journal", "warn", "the bus lacks the last 2 of 6 decisions");
    // While a runtime runs, the last decision may not be published yet.
    cut_log(25);
    assert_check(dir, &with_journal, "journal", "ok", "6 decisions; the last one is not on the bus yet");
    assert_check(
        dir,
        &["--journal", "none.jsonl"],
        "journal",
        "fail",
        "none.jsonl: cannot open it for reading",
    );
    assert!(!dir.join("none.jsonl").exists());
}

#[test]
fn a_running_runtime_passes_and_is_not_disturbed() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "1");
    let scenario = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--max-cycles", "400"];
    let mut child = start_engine(dir, &[&scenario, &RECORDS[..]].concat());
    let mut checks = 0;
    while child.try_wait().unwrap().is_none() || checks < 3 {
        bus(dir, &["doctor", "bus", "--journal", "d.jsonl"]).success();
        checks += 1;
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_corrupt_sync_mark_is_reported() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "1");
    let path = dir.join("bus/bus.lock");
    let mark = fs::read(&path).unwrap();
    for corrupt in [vec![0; 256], mark[..100].to_vec(), [b" ", &mark[..]].concat()] {
        fs::write(&path, &corrupt).unwrap();
        assert_check(dir, &[], "sync mark", "warn", "bus.lock is corrupt: ");
    }
    fs::write(&path, []).unwrap();
    assert_check(dir, &[], "sync mark", "warn", "bus.lock is empty");
    // A digit changed: the seal does not match.
    let text = String::from_utf8(mark.clone()).unwrap();
    fs::write(&path, text.replacen("\"events\":5", "\"events\":4", 1)).unwrap();
    assert_check(dir, &[], "sync mark", "warn", "bus.lock is corrupt");
    fs::write(&path, mark).unwrap();
    assert_check(dir, &[], "sync mark", "ok", "bus.lock records how far the log is synced");
}

/// Appends the events of a log to a new bus, so that they are a valid chain again.
fn chain_again(dir: &Path, keep: impl Fn(&Event) -> bool) {
    let drafts = crate::support::events(dir).into_iter().filter(keep).map(|event| Draft {
        event_type: event.event_type.clone(),
        as_of: event.as_of,
        payload: event.payload.clone(),
        trace_id: event.trace_id.clone(),
    });
    let drafts: Vec<Draft> = drafts.collect();
    fs::remove_dir_all(dir.join("bus")).unwrap();
    Bus::open(dir.join("bus")).unwrap().append_batch(drafts).unwrap();
}

#[test]
fn a_history_that_was_rewritten_as_a_valid_chain_is_reported() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "6");
    chain_again(dir, |_| true);
    assert_check(dir, &[], "replay", "ok", "6 cycles run again, the same in all 30 events");
    chain_again(dir, |event| event.event_type != "rejection.record");
    bus(dir, &["verify", "bus"]).success();
    assert_check(dir, &[], "chain", "ok", "");
    let (level, found, _) = check(dir, &[], "replay");
    assert_eq!(level, "fail");
    assert!(found.starts_with("cycle ") && found.contains(" differs from the replay in "), "{found}");
    // A bus without cycles, and one whose cycles lack what the replay needs.
    chain_again(dir, |_| false);
    append(dir, &["--type", "t", "{}"]);
    assert_check(dir, &[], "replay", "ok", "no cycle to run again");
    append(dir, &["--type", "runtime.cycle", r#"{"cycle_id":1}"#]);
    assert_check(dir, &[], "replay", "warn", "not run: ");
    fs::write(dir.join("bus/events.jsonl"), "nope\n{}\n").unwrap();
    assert_check(dir, &[], "replay", "warn", "not run: the log cannot be read to its end");
}
