//! `zero-bus verify`, `show`, `stats`, `audit` and `canonical`.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{BUS, bus, bus_with_input, conformance, fill};
use zero_bus::{Json, Value};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn verify_gives_the_recorded_verdicts_and_exit_codes() {
    let verdicts =
        Value::parse(&fs::read_to_string(conformance().join("logs/verdicts.json")).unwrap()).unwrap();
    let Value::Object(verdicts) = verdicts else { panic!("verdicts.json is an object") };
    for (name, recorded) in verdicts.iter().filter(|(name, _)| *name != "missing") {
        let ended = bus(&conformance().join("logs"), &["verify", name, "--json"]);
        let verdict = Value::parse(&ended.out).unwrap();
        for part in ["integrity", "snapshot_integrity"] {
            let Some(Value::Object(expected)) = recorded.get(part) else { panic!("{name}: {part}") };
            for (field, value) in expected {
                assert_eq!(verdict.get(part).unwrap().get(field), Some(value), "{name}: {part}.{field}");
            }
        }
        let holds =
            |part: &str, field: &str| recorded.get(part).unwrap().get(field).unwrap().as_bool().unwrap();
        let fine = holds("integrity", "ok") && holds("snapshot_integrity", "consistent");
        assert_eq!(ended.code, i32::from(!fine), "{name}");
        assert_eq!(ended.err, "");
    }
    let torn = bus(&conformance().join("logs"), &["verify", "torn-tail", "--json"]);
    assert_eq!(torn.code, 1);
    assert_eq!(
        Value::parse(&torn.out).unwrap().get("integrity").unwrap().get("torn_bytes").unwrap().as_u64(),
        Some(203)
    );
}

#[test]
fn verify_speaks_to_people() {
    let place = place();
    fill(place.path(), 3);
    let said = bus(place.path(), &["verify", "bus"]).fine();
    assert!(said.starts_with("log       ok    3 events, last sha256:"), "{said}");
    assert!(said.ends_with("snapshot  ok    no snapshot\n"), "{said}");
    let ended = bus(&conformance().join("logs"), &["verify", "torn-tail"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("FAIL  25 events"), "{}", ended.out);
    assert!(
        ended
            .out
            .contains("torn tail after event 25: 203 bytes of an unfinished append (byte 12966 of the log)")
    );
    assert!(!ended.out.contains('\x1b'), "no colour on a pipe");
}

/// Each of the looking commands says clearly what is no bus.
#[test]
fn what_is_no_bus_is_said_so() {
    let place = place();
    let here = place.path();
    fs::write(here.join("file"), "").unwrap();
    fs::create_dir_all(here.join("odd/events.jsonl")).unwrap();
    fs::create_dir(here.join("empty")).unwrap();
    for command in [&["verify"][..], &["tail"], &["stats"], &["audit"], &["show"]] {
        let ask = |dir: &'static str| {
            let mut arguments = vec![command[0], dir];
            if command[0] == "show" {
                arguments.push("1");
            }
            bus(here, &arguments)
        };
        assert!(ask("missing").refused().contains("missing: there is no such directory"));
        assert!(ask("file").refused().contains("file: it is a file, not a directory"));
        assert!(
            ask("odd")
                .refused()
                .contains("events.jsonl: cannot open it for reading: it is a directory, not a file")
        );
        if command[0] == "show" {
            assert!(ask("empty").refused().contains("empty: has no event 1, its last one is 0"));
        } else {
            let ended = ask("empty");
            assert_eq!(ended.code, 0);
            let empty = "zero-bus: empty: there is no events.jsonl here, which is an empty bus\n";
            assert_eq!(ended.err, if command[0] == "verify" { empty } else { "" });
        }
    }
    assert_eq!(crate::support::tree(here).len(), 1, "looking leaves no trace");
}

#[test]
fn show_finds_one_event() {
    let place = place();
    fill(place.path(), 500);
    let log = fs::read_to_string(place.path().join("bus/events.jsonl")).unwrap();
    let line = log.lines().nth(299).unwrap();
    for name in ["300", "evt-000000000300"] {
        assert_eq!(bus(place.path(), &["show", "bus", name, "--json"]).fine(), format!("{line}\n"));
        assert_eq!(
            bus(place.path(), &["show", "bus", name]).fine(),
            format!("{}\n", Json::parse(line).unwrap().pretty())
        );
    }
    assert!(
        bus(place.path(), &["show", "bus", "501"])
            .refused()
            .contains("bus: has no event 501, its last one is 500")
    );
    assert!(bus(place.path(), &["show", "bus", "evt-1"]).refused().contains("evt-1: is neither an index"));
    // In a damaged log what lies before the fault can be shown, and what lies behind it is not trusted.
    fs::write(place.path().join("bus/events.jsonl"), log.replace("\"n\":200}", "\"n\":201}")).unwrap();
    bus(place.path(), &["show", "bus", "199"]).fine();
    let ended = bus(place.path(), &["show", "bus", "200"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("checksum mismatch at event 200"), "{}", ended.err);
}

#[test]
fn stats_count() {
    let place = place();
    fill(place.path(), 10);
    let document = Value::parse(&bus(place.path(), &["stats", "bus", "--json"]).fine()).unwrap();
    let log = fs::metadata(place.path().join("bus/events.jsonl")).unwrap().len();
    let number = |field: &str| document.get(field).unwrap().as_f64().unwrap();
    assert_eq!((number("events"), number("bytes")), (10.0, log as f64));
    assert_eq!((number("first_as_of"), number("last_as_of")), (1.0, 10.0));
    assert_eq!(
        Json::try_from(document.get("event_types").unwrap()).unwrap().as_str(),
        r#"{"a.one":3,"a.two":4,"b.one":3}"#
    );
    let said = bus(place.path(), &["stats", "bus"]).fine();
    assert!(
        said.contains("events  10\n")
            && said.contains("first   1970-01-01T00:00:01Z\n")
            && said.contains("a.two  4  ==============================\n"),
        "{said}"
    );
    // Nine seconds tell no rate, two minutes do.
    assert!(!said.contains("rate "), "{said}");
    bus(place.path(), &["append", "bus", "--type", "a.one", "--as-of", "121", "{}"]).fine();
    let said = bus(place.path(), &["stats", "bus"]).fine();
    assert!(said.contains("rate    5.5 events a minute, "), "{said}");
    // Names of any length and number.
    let reason = |text: &str| {
        format!(r#"{{"event_type":"rejection.record","payload":{{"reason":"{text}"}},"as_of":121}}"#)
    };
    let mut lines = reason(&"a".repeat(70_000));
    (0..3000).for_each(|n| lines += &format!("\n{}", reason(&format!("reason {n}"))));
    bus_with_input(place.path(), &["append", "bus", "--batch"], &lines).fine();
    let said = bus(place.path(), &["stats", "bus"]).fine();
    assert!(said.contains("(others)") && said.lines().count() < 60, "{said}");
    assert!(said.lines().all(|line| line.chars().count() < 140), "{said}");
    let ended = bus(&conformance().join("logs"), &["stats", "mutated-payload"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("events  12\n") && ended.err.contains("checksum mismatch at event 13"));
}

#[test]
fn stats_draw_what_was_held() {
    let session = conformance().join("sessions/many/one-run");
    let said = bus(&session, &["stats", "runtime-bus"]).fine();
    for line in [
        "confidence below minimum          33  ==============================",
        "order notional exceeds limit      11  ==========",
        "held after each cycle, in USD: at most 13122.56, now 10563.10",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    let chart: Vec<char> = said.lines().last().unwrap().chars().collect();
    assert!((30..=60).contains(&chart.len()) && chart.contains(&'█') && chart[0] != '█', "{said}");
    let document = Value::parse(&bus(&session, &["stats", "runtime-bus", "--json"]).fine()).unwrap();
    assert_eq!(document.get("exposure_max_usd").and_then(Value::as_f64), Some(13122.56));
    let rejections = document.get("rejections").unwrap();
    assert_eq!(rejections.get("projected position exceeds limit").and_then(Value::as_u64), Some(15));
}

#[test]
fn audit_writes_the_recorded_document() {
    let place = place();
    let recorded = fs::read_to_string(conformance().join("logs/valid-40/audit.json")).unwrap();
    let logs = conformance().join("logs");
    assert_eq!(bus(&logs, &["audit", "valid-40"]).fine(), recorded);
    let target = place.path().join("audit.json");
    fs::write(&target, "something older").unwrap();
    assert_eq!(bus(&logs, &["audit", "valid-40", "-o", target.to_str().unwrap()]).fine(), "");
    assert_eq!(fs::read_to_string(&target).unwrap(), recorded);
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);

    // A damaged log has a document too, which says so.
    let ended = bus(&logs, &["audit", "garbage-line"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("garbage-line: log: not JSON at event 26"), "{}", ended.err);
    let document = Value::parse(&ended.out).unwrap();
    assert_eq!(document.get("integrity").unwrap().get("ok"), Some(&Value::Bool(false)));
    let Some(Value::Array(events)) = document.get("events") else { panic!("events") };
    assert_eq!(events.len(), 40);

    // A link's target is replaced and not the link; a device takes what is written.
    std::os::unix::fs::symlink(&target, place.path().join("link")).unwrap();
    fs::write(&target, "something older").unwrap();
    bus(&logs, &["audit", "valid-40", "-o", place.path().join("link").to_str().unwrap()]).fine();
    assert_eq!(fs::read_to_string(&target).unwrap(), recorded);
    assert!(fs::symlink_metadata(place.path().join("link")).unwrap().is_symlink());
    assert!(
        bus(&logs, &["audit", "valid-40", "-o", "/dev/full"])
            .refused()
            .contains("/dev/full: cannot write it")
    );
    assert!(!fs::metadata("/dev/full").unwrap().is_file());
    for standard_output in ["-", "/dev/stdout"] {
        assert_eq!(bus(&logs, &["audit", "valid-40", "-o", standard_output]).fine(), recorded);
    }

    // Nothing of the bus is written over.
    fill(place.path(), 3);
    let before = crate::support::tree(place.path());
    for target in ["bus/events.jsonl", "bus/state-snapshot.json", "bus/new.json", "bus/../bus/audit.json"] {
        let said = bus(place.path(), &["audit", "bus", "-o", target]).refused();
        assert!(said.contains("is inside of the bus; name a file elsewhere"), "{said}");
    }
    for name in ["events.jsonl", "bus.lock"] {
        let itself = File::options().append(true).open(place.path().join("bus").join(name)).unwrap();
        let mut audit = Command::new(BUS);
        let ended = audit.args(["audit", "bus"]).current_dir(place.path()).stdout(itself).output().unwrap();
        let said = crate::support::Ended::from(ended).refused();
        assert!(said.contains(&format!("standard output is {name} of the bus itself")), "{said}");
    }
    assert_eq!(crate::support::tree(place.path()), before);
    std::os::unix::fs::symlink("nowhere", place.path().join("dangling")).unwrap();
    let said = bus(place.path(), &["audit", "bus", "-o", "dangling"]).refused();
    assert!(said.contains("dangling: is a link that leads nowhere"), "{said}");

    for target in ["missing/audit.json", "/proc/audit.json"] {
        assert!(
            bus(&logs, &["audit", "valid-40", "-o", target])
                .refused()
                .contains(&format!("{target}: cannot write it"))
        );
    }
}

/// What was found does not become fine when nobody reads it.
#[test]
fn a_closed_pipe_does_not_change_a_verdict() {
    for command in ["verify", "stats", "audit"] {
        let mut child = Command::new(BUS)
            .args([command, "mutated-payload"])
            .current_dir(conformance().join("logs"))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_ne!(child.wait().unwrap().code(), Some(0), "{command}");
    }
}

#[test]
fn canonical_is_what_was_recorded() {
    let place = place();
    let cases = fs::read_to_string(conformance().join("canonical.jsonl")).unwrap();
    let (mut input, mut output) = (String::new(), String::new());
    for case in cases.lines() {
        let case = Value::parse(case).unwrap();
        let text = case.get("input").unwrap().as_str().unwrap();
        if !text.contains('\n') {
            input += &format!("{text}\n");
            output += &format!("{}\n", case.get("canonical").unwrap().as_str().unwrap());
        }
    }
    assert!(input.lines().count() > 3000);
    assert_eq!(bus_with_input(place.path(), &["canonical"], &input).fine(), output);
    fs::write(place.path().join("values"), &input).unwrap();
    assert_eq!(bus(place.path(), &["canonical", "values"]).fine(), output);
    let refused = fs::read_to_string(conformance().join("rejected.jsonl")).unwrap();
    for case in refused.lines() {
        let case = Value::parse(case).unwrap();
        let text = case.get("input").unwrap().as_str().unwrap();
        let ended = bus_with_input(place.path(), &["canonical", "-"], &format!("[1.50]\n{text}\n2\n"));
        assert_eq!((ended.code, ended.out.as_str()), (2, "[1.5]\n"), "{text}");
        assert!(ended.err.starts_with("zero-bus: standard input: line 2: "), "{}", ended.err);
        assert_eq!(ended.err.lines().count(), 1);
    }
}

#[test]
fn every_command_has_examples() {
    let said = |arguments: &[&str]| bus(Path::new("."), arguments).refused();
    assert!(said(&["tial", "bus"]).contains("a similar subcommand exists: 'tail'; see zero-bus --help"));
    assert!(said(&["tail", "bus", "-n", "-1"]).ends_with("see zero-bus tail --help"));
    assert!(said(&[]).contains("name a command: append, verify, "));
    let no_text = Command::new(BUS).arg(std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
    assert!(crate::support::Ended::from(no_text).refused().ends_with("see zero-bus --help"));
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let unread = Command::new(BUS).arg("--help").stdout(full()).output().unwrap();
    assert_eq!(unread.status.code(), Some(2));
    assert!(String::from_utf8(unread.stderr).unwrap().contains("cannot write to standard output"));
    for command in [
        "append",
        "verify",
        "tail",
        "show",
        "stats",
        "audit",
        "repair",
        "canonical",
        "explain",
        "state",
        "diff",
        "command",
        "replay",
        "doctor",
        "backup",
        "ingest",
        "mirror",
        "mirror-verify",
        "restore",
        "completions",
        "man",
    ] {
        assert!(bus(Path::new("."), &[command, "--help"]).fine().contains("Examples:"), "{command}");
    }
}
