//! `zero-bus doctor`: every check finds what it is for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{CLOCK, RECORDS, bus, conformance, engine, root};
use zero_bus::Value;

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn fly(directory: &Path, cycles: &str) {
    let scenario = root().join("examples/paper-trading/scenario.json");
    let scenario = ["--scenario", scenario.to_str().unwrap(), "--interval", "0", "--max-cycles", cycles];
    engine(directory, &[&scenario, &RECORDS[..], &["--fixed-clock", CLOCK]].concat()).fine();
}

fn append(directory: &Path, arguments: &[&str]) {
    bus(directory, &[&["append", "bus"], arguments].concat()).fine();
}

/// What one check says: level, what was found, the way out. And the exit code, which no other check may decide.
#[track_caller]
fn check(directory: &Path, arguments: &[&str], name: &str) -> (String, String, String) {
    let ended = bus(directory, &[&["doctor", "bus", "--json"], arguments].concat());
    let document = Value::parse(&ended.out).unwrap();
    let Some(Value::Array(checks)) = document.get("checks") else { panic!("{}", ended.out) };
    let text =
        |check: &Value, key: &str| check.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let failing = checks.iter().filter(|check| text(check, "level") == "fail").count();
    assert_eq!(ended.code, i32::from(failing > 0), "{}", ended.out);
    assert_eq!(document.get("ok").and_then(Value::as_bool), Some(failing == 0));
    let found = checks.iter().find(|check| text(check, "name") == name);
    let found = found.unwrap_or_else(|| panic!("{name}: {}", ended.out));
    // Whatever is not well comes with a way out.
    assert!(checks.iter().all(|check| (text(check, "level") == "ok") == text(check, "way_out").is_empty()));
    (text(found, "level"), text(found, "found"), text(found, "way_out"))
}

#[track_caller]
fn says(directory: &Path, arguments: &[&str], name: &str, level: &str, found: &str) {
    let (its_level, its_found, _) = check(directory, arguments, name);
    assert_eq!(its_level, level, "{its_found}");
    assert!(its_found.contains(found), "{its_found}");
}

#[test]
fn a_sound_bus_is_well_and_stays_as_it_is() {
    let place = place();
    let here = place.path();
    fly(here, "6");
    let before = crate::support::tree(here);
    let said = bus(here, &["doctor", "bus", "--journal", "d.jsonl"]).fine();
    let marks: Vec<&str> = said.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(marks.len() >= 9 && marks.iter().all(|mark| *mark == "ok"), "{said}");
    assert_eq!(crate::support::tree(here), before);
    for name in ["permissions", "chain", "snapshot", "note", "clock", "cycles", "operator", "journal", "disk"]
    {
        says(here, &["--journal", "d.jsonl"], name, "ok", "");
    }
    fs::create_dir(here.join("empty")).unwrap();
    let said = bus(here, &["doctor", "empty"]).fine();
    assert!(said.contains("note         there is none, and nothing to remember"), "{said}");
    assert!(bus(here, &["doctor", "missing"]).refused().contains("missing: there is no such directory"));
}

#[test]
fn who_may_read_and_write_it() {
    let place = place();
    let here = place.path();
    fly(here, "1");
    let mode = |name: &str, mode| {
        fs::set_permissions(here.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("bus/events.jsonl", 0o640);
    says(here, &[], "permissions", "warn", "others may read events.jsonl (0640)");
    assert_eq!(check(here, &[], "permissions").2, "chmod go= bus/events.jsonl");
    mode("bus", 0o770);
    says(here, &[], "permissions", "fail", "others may write to bus (0770)");
    mode("bus", 0o700);
    mode("bus/events.jsonl", 0o600);
    mode("d.jsonl", 0o602);
    says(here, &[], "permissions", "ok", "");
    says(here, &["--journal", "d.jsonl"], "permissions", "fail", "d.jsonl (0602)");
}

#[test]
fn the_log_and_what_stands_beside_it() {
    let place = place();
    let here = place.path();
    fly(here, "3");
    let log = fs::read_to_string(here.join("bus/events.jsonl")).unwrap();
    let put = |text: &str| fs::write(here.join("bus/events.jsonl"), text).unwrap();
    put(&format!("{log}{{\"as_of\":17"));
    says(here, &[], "chain", "warn", "torn tail after event 15: 11 bytes of an unfinished append");
    says(here, &[], "operator", "ok", "no command binds the runtime");
    put(&log.replacen("\"quantity\":0.01", "\"quantity\":0.02", 1));
    says(here, &[], "chain", "fail", "checksum mismatch at event 1 (byte 0 of the log)");
    says(here, &[], "snapshot", "ok", "names an event that stands in the log");
    // What a damaged log cannot tell is not said to be well.
    for name in ["clock", "cycles", "operator"] {
        says(here, &[], name, "warn", "not known, as no event can be read");
    }
    put(&log.replacen("\"cycle_id\":2,", "\"cycle_id\":7,", 1));
    says(here, &[], "operator", "warn", "no command binds the runtime; known up to event 5");
    put(&log[..log.len() - 20]);
    says(here, &[], "chain", "fail", "");
    put(&log.lines().take(12).map(|line| format!("{line}\n")).collect::<String>());
    says(here, &[], "chain", "fail", "");
    says(here, &[], "snapshot", "fail", "snapshot references missing tail events");
    put(&log);
    fs::remove_file(here.join("bus/bus.lock")).unwrap();
    says(here, &[], "note", "warn", "bus.lock is missing");
    fs::write(here.join("bus/events.jsonl.torn-at-7"), "{").unwrap();
    says(here, &[], "set aside", "warn", "1 file that crashes left: events.jsonl.torn-at-7");
    fs::remove_file(here.join("bus/events.jsonl")).unwrap();
    fs::remove_file(here.join("bus/state-snapshot.json")).unwrap();
    says(here, &[], "chain", "warn", "there is no events.jsonl");
    // Its companion remembers one.
    fs::remove_dir_all(here.join("bus")).unwrap();
    fs::remove_file(here.join("d.jsonl")).unwrap();
    fs::remove_file(here.join("c.jsonl")).unwrap();
    fly(here, "3");
    fs::remove_file(here.join("bus/events.jsonl")).unwrap();
    fs::remove_file(here.join("bus/state-snapshot.json")).unwrap();
    says(here, &[], "chain", "fail", "");
    assert_eq!(bus(here, &["verify", "bus"]).code, 1);
    // For people too.
    let ended = bus(&conformance().join("logs"), &["doctor", "mutated-payload"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("FAIL  chain        checksum mismatch at event 13"), "{}", ended.out);
    assert!(!ended.out.contains('\x1b'));
}

#[test]
fn clocks_and_cycles() {
    let place = place();
    let here = place.path();
    append(here, &["--type", "a", "--as-of", "1000", "{}"]);
    append(here, &["--type", "a", "--as-of", "999.5", "{}"]);
    says(here, &[], "clock", "ok", "");
    append(here, &["--type", "a", "--as-of", "900", "{}"]);
    says(here, &[], "clock", "warn", "went back 1 time, at most by 99.5 s at evt-000000000003");
    append(here, &["--type", "a", "--as-of", "99999999999", "{}"]);
    says(here, &[], "clock", "warn", "evt-000000000004 is ");
    let cycle = |id: u64, as_of: &str| {
        let payload = format!("{{\"cycle_id\":{id}}}");
        append(here, &["--type", "runtime.cycle", "--as-of", as_of, &payload]);
    };
    for (id, as_of) in [(1, "100"), (2, "110"), (3, "120"), (4, "900"), (5, "910")] {
        cycle(id, as_of);
    }
    says(here, &[], "cycles", "warn", "13 min between two of them before evt-000000000008, 10.0 s otherwise");
    cycle(9, "920");
    says(here, &[], "cycles", "warn", "do not follow each other in 1 place, the first is evt-000000000010");
}

#[test]
fn the_operator_and_the_journal() {
    let place = place();
    let here = place.path();
    fly(here, "6");
    bus(here, &["command", "bus", "pause", "--actor", "ops"]).fine();
    says(here, &[], "operator", "warn", "bound by pause in evt-000000000031 by ops");
    let journal = fs::read_to_string(here.join("d.jsonl")).unwrap();
    let with = ["--journal", "d.jsonl"];
    fs::write(here.join("d.jsonl"), format!("{journal}{{\"al")).unwrap();
    says(here, &with, "journal", "warn", "ends with 4 bytes of an unfinished line");
    fs::write(
        here.join("d.jsonl"),
        journal.lines().take(5).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    says(here, &with, "journal", "fail", "the bus is ahead");
    let log = fs::read_to_string(here.join("bus/events.jsonl")).unwrap();
    let keep = |lines: usize| {
        fs::write(
            here.join("bus/events.jsonl"),
            log.lines().take(lines).map(|line| format!("{line}\n")).collect::<String>(),
        )
        .unwrap();
    };
    fs::write(here.join("d.jsonl"), &journal).unwrap();
    keep(20);
    says(here, &with, "journal", "warn", "the bus lacks the last 2 of 6 decisions");
    // One is on its way while a runtime flies.
    keep(25);
    says(here, &with, "journal", "ok", "6 decisions; the last one is not on the bus yet");
    says(here, &["--journal", "none.jsonl"], "journal", "fail", "none.jsonl: cannot open it for reading");
    assert!(!here.join("none.jsonl").exists());
}

/// Beside a runtime that flies it never cries wolf, and keeps nothing from it.
#[test]
fn beside_a_flying_runtime() {
    let place = place();
    let here = place.path();
    fly(here, "1");
    let scenario = root().join("examples/paper-trading/scenario.json");
    let scenario = ["--scenario", scenario.to_str().unwrap(), "--interval", "0", "--max-cycles", "400"];
    let mut child = crate::support::start(here, &[&scenario, &RECORDS[..]].concat());
    let mut looks = 0;
    while child.try_wait().unwrap().is_none() || looks < 3 {
        bus(here, &["doctor", "bus", "--journal", "d.jsonl"]).fine();
        looks += 1;
    }
    assert!(child.wait().unwrap().success());
}
