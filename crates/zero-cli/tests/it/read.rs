//! `zero-bus verify`, `show`, `stats`, `audit` and `canonical`.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{BUS, Finished, append_events, bus, bus_with_input, conformance, temp_dir, tree};
use zero_bus::{Json, Reader, Value, Verdict};

#[test]
fn verify_prints_the_recorded_verdicts_and_exit_codes() {
    let verdicts =
        Value::parse(&fs::read_to_string(conformance().join("logs/verdicts.json")).unwrap()).unwrap();
    let Value::Object(verdicts) = verdicts else { panic!("verdicts.json is an object") };
    for (name, recorded) in verdicts.iter().filter(|(name, _)| *name != "missing") {
        let output = bus(&conformance().join("logs"), &["verify", name, "--json"]);
        let verdict = Value::parse(&output.stdout).unwrap();
        for part in ["integrity", "snapshot_integrity"] {
            let Some(Value::Object(expected)) = recorded.get(part) else { panic!("{name}: {part}") };
            for (field, value) in expected {
                assert_eq!(verdict.get(part).unwrap().get(field), Some(value), "{name}: {part}.{field}");
            }
        }
        let holds =
            |part: &str, field: &str| recorded.get(part).unwrap().get(field).unwrap().as_bool().unwrap();
        let passed = holds("integrity", "ok") && holds("snapshot_integrity", "consistent");
        assert_eq!(output.code, i32::from(!passed), "{name}");
        assert_eq!(output.stderr, "");
    }
    let torn = bus(&conformance().join("logs"), &["verify", "torn-tail", "--json"]);
    assert_eq!(torn.code, 1);
    assert_eq!(
        Value::parse(&torn.stdout).unwrap().get("integrity").unwrap().get("torn_bytes").unwrap().as_u64(),
        Some(203)
    );
}

#[test]
fn verify_prints_text_without_colour_on_a_pipe() {
    let temp = temp_dir();
    append_events(temp.path(), 3);
    let stdout = bus(temp.path(), &["verify", "bus"]).success();
    assert!(stdout.starts_with("log       ok    3 events, last sha256:"), "{stdout}");
    assert!(stdout.ends_with(&format!("\nsnapshot  ok    no snapshot\n{}\n", Verdict::SCOPE)), "{stdout}");
    let output = bus(&conformance().join("logs"), &["verify", "torn-tail"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("FAIL  25 events"), "{}", output.stdout);
    assert!(
        output
            .stdout
            .contains("torn tail after event 25: 203 bytes of an unfinished append (byte 12966 of the log)")
    );
    assert!(!output.stdout.contains('\x1b'), "{}", output.stdout);
}

#[test]
fn verify_fails_unless_the_expected_heads_and_events_are_in_the_log() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 5);
    let plain = bus(dir, &["verify", "bus", "--json"]).success();
    let reader = Reader::open(dir.join("bus")).unwrap();
    let head = |index: u64| format!("{index}:{}", reader.event(index).unwrap().unwrap().checksum);
    let (third, last) = (head(3), head(5));
    let met = ["verify", "bus", "--expect", &third, "--expect", &last, "--min-events", "5"];
    let stdout = bus(dir, &met).success();
    assert!(
        stdout.contains(&format!("\nexpected  ok    event {third}\nexpected  ok    event {last}\n")),
        "{stdout}"
    );
    assert!(stdout.contains("\nexpected  ok    at least 5 events\n"), "{stdout}");
    // The verdicts are the same, with one key more.
    let stdout = bus(dir, &[&met[..], &["--json"]].concat()).success();
    let without_braces = |text: &str| text.trim_end().trim_start_matches('{').to_owned();
    assert_eq!(
        stdout.trim_end(),
        format!(
            r#"{{"expectations":[{{"expect":"{third}","ok":true,"reason":"ok"}},{{"expect":"{last}","ok":true,"reason":"ok"}},{{"min_events":5,"ok":true,"reason":"ok"}}],{}"#,
            without_braces(&plain)
        )
    );
    // The checksum of one event at the index of another, and more events than there are.
    let other = third.replacen("3:", "4:", 1);
    let beyond = last.replacen("5:", "6:", 1);
    for (options, expected) in [
        (["--expect", &other], "event 4 has another checksum"),
        (["--expect", &beyond], "the log has only 5 valid events"),
        (["--min-events", "6"], "at least 6 events: the log has only 5 valid events"),
    ] {
        let output = bus(dir, &[&["verify", "bus"], &options[..]].concat());
        assert_eq!((output.code, output.stderr.as_str()), (1, ""));
        assert!(
            output.stdout.contains("expected  FAIL  ") && output.stdout.contains(expected),
            "{}",
            output.stdout
        );
        assert!(!output.stdout.contains(Verdict::SCOPE), "{}", output.stdout);
        let output = bus(dir, &[&["verify", "bus", "--json"], &options[..]].concat());
        assert_eq!(output.code, 1);
        assert!(output.stdout.contains(r#""ok":false,"reason":""#), "{}", output.stdout);
    }
    for invalid in ["5", "5:", "0:sha256:00", "x:sha256:00", "5:sha256:12"] {
        let message = bus(dir, &["verify", "bus", "--expect", invalid]).failure(2);
        assert!(message.contains("expected INDEX:CHECKSUM"), "{message}");
    }
    // Events after damage do not count.
    let log = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    fs::write(dir.join("bus/events.jsonl"), log.replace("\"n\":4}", "\"n\":5}")).unwrap();
    let output = bus(dir, &["verify", "bus", "--expect", &last, "--expect", &third]);
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.contains(&format!("expected  FAIL  event {last}: the log has only 3 valid events"))
    );
    assert!(output.stdout.contains(&format!("expected  ok    event {third}")), "{}", output.stdout);
}

#[test]
fn reading_commands_refuse_a_path_that_is_not_a_bus() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("file"), "").unwrap();
    fs::create_dir_all(dir.join("odd/events.jsonl")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    for command in [&["verify"][..], &["tail"], &["stats"], &["audit"], &["show"]] {
        let run = |path: &'static str| {
            let mut arguments = vec![command[0], path];
            if command[0] == "show" {
                arguments.push("1");
            }
            bus(dir, &arguments)
        };
        assert!(run("missing").failure(2).contains("missing: there is no such directory"));
        assert!(run("file").failure(2).contains("file: it is a file, not a directory"));
        assert!(run("odd").failure(2).contains("events.jsonl for reading: it is a directory, not a file"));
        if command[0] == "show" {
            assert!(run("empty").failure(2).contains("empty/events.jsonl: has no event 1: the log is empty"));
        } else {
            let output = run("empty");
            assert_eq!(output.code, 0);
            let empty = "zero-bus: empty: has no events.jsonl; the bus is empty\n";
            assert_eq!(output.stderr, if command[0] == "verify" { empty } else { "" });
        }
    }
    assert_eq!(tree(dir).len(), 1, "reading creates no file");
}

#[test]
fn show_prints_one_event() {
    let temp = temp_dir();
    append_events(temp.path(), 500);
    let log = fs::read_to_string(temp.path().join("bus/events.jsonl")).unwrap();
    let line = log.lines().nth(299).unwrap();
    for name in ["300", "#300", "evt-000000000300", "-201"] {
        assert_eq!(bus(temp.path(), &["show", "bus", name, "--json"]).success(), format!("{line}\n"));
        assert_eq!(
            bus(temp.path(), &["show", "bus", name]).success(),
            format!("{}\n", Json::parse(line).unwrap().pretty())
        );
    }
    let last = log.lines().last().unwrap();
    for name in ["last", "-1"] {
        assert_eq!(bus(temp.path(), &["show", "bus", name, "--json"]).success(), format!("{last}\n"));
    }
    let message = bus(temp.path(), &["show", "bus", "-501"]).failure(2);
    assert!(message.contains("bus/events.jsonl: has no event -501; it has 500"), "{message}");
    for invalid in ["0", "#0", "-0", "#", "--1", "#-1", "first", "evt-1"] {
        bus(temp.path(), &["show", "bus", "--", invalid]).failure(2);
    }
    assert!(
        bus(temp.path(), &["show", "bus", "501"])
            .failure(2)
            .contains("bus/events.jsonl: has no event 501; the last one is 500")
    );
    assert!(
        bus(temp.path(), &["show", "bus", "evt-1"])
            .failure(2)
            .contains("'evt-1' for '<EVENT>': expected an index")
    );
    // In a damaged log only the events before the fault can be shown.
    fs::write(temp.path().join("bus/events.jsonl"), log.replace("\"n\":200}", "\"n\":201}")).unwrap();
    bus(temp.path(), &["show", "bus", "199"]).success();
    let output = bus(temp.path(), &["show", "bus", "200"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("checksum mismatch at event 200"), "{}", output.stderr);
}

#[test]
fn stats_counts_events_and_rates() {
    let temp = temp_dir();
    append_events(temp.path(), 10);
    let document = Value::parse(&bus(temp.path(), &["stats", "bus", "--json"]).success()).unwrap();
    let log = fs::metadata(temp.path().join("bus/events.jsonl")).unwrap().len();
    let number = |field: &str| document.get(field).unwrap().as_f64().unwrap();
    assert_eq!((number("events"), number("bytes")), (10.0, log as f64));
    assert_eq!((number("first_as_of"), number("last_as_of")), (1.0, 10.0));
    assert_eq!(
        Json::try_from(document.get("event_types").unwrap()).unwrap().as_str(),
        r#"{"a.one":3,"a.two":4,"b.one":3}"#
    );
    let stdout = bus(temp.path(), &["stats", "bus"]).success();
    assert!(
        stdout.contains("events  10\n")
            && stdout.contains("first   1970-01-01T00:00:01Z\n")
            && stdout.contains("a.two  4  ==============================\n"),
        "{stdout}"
    );
    // Nine seconds are too short for a rate.
    assert!(!stdout.contains("rate "), "{stdout}");
    bus(temp.path(), &["append", "bus", "--type", "a.one", "--as-of", "121", "{}"]).success();
    let stdout = bus(temp.path(), &["stats", "bus"]).success();
    assert!(stdout.contains("rate    5.5 events per minute, "), "{stdout}");
    // The output stays short for long names and for many names.
    let reason = |text: &str| {
        format!(r#"{{"event_type":"rejection.record","payload":{{"reason":"{text}"}},"as_of":121}}"#)
    };
    let mut lines = reason(&"a".repeat(70_000));
    (0..3000).for_each(|n| lines += &format!("\n{}", reason(&format!("reason {n}"))));
    bus_with_input(temp.path(), &["append", "bus", "--batch"], &lines).success();
    let stdout = bus(temp.path(), &["stats", "bus"]).success();
    assert!(stdout.contains("(others)") && stdout.lines().count() < 60, "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() < 140), "{stdout}");
    let output = bus(&conformance().join("logs"), &["stats", "mutated-payload"]);
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.contains("events  12\n") && output.stderr.contains("checksum mismatch at event 13")
    );
}

#[test]
fn stats_draws_the_exposure() {
    let session = conformance().join("sessions/many/one-run");
    let stdout = bus(&session, &["stats", "runtime-bus"]).success();
    for line in [
        "confidence below minimum          33  ==============================",
        "order notional exceeds limit      11  ==========",
        "exposure after each cycle, USD: max 13122.56, last 10563.10",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "{line}: {stdout}");
    }
    let chart: Vec<char> = stdout.lines().last().unwrap().chars().collect();
    assert!((30..=60).contains(&chart.len()) && chart.contains(&'█') && chart[0] != '█', "{stdout}");
    let document = Value::parse(&bus(&session, &["stats", "runtime-bus", "--json"]).success()).unwrap();
    assert_eq!(document.get("exposure_max_usd").and_then(Value::as_f64), Some(13122.56));
    let rejections = document.get("rejections").unwrap();
    assert_eq!(rejections.get("projected position exceeds limit").and_then(Value::as_u64), Some(15));
}

#[test]
fn audit_writes_the_recorded_document() {
    let temp = temp_dir();
    let recorded = fs::read_to_string(conformance().join("logs/valid-40/audit.json")).unwrap();
    let logs = conformance().join("logs");
    assert_eq!(bus(&logs, &["audit", "valid-40"]).success(), recorded);
    let target = temp.path().join("audit.json");
    fs::write(&target, "something older").unwrap();
    assert_eq!(bus(&logs, &["audit", "valid-40", "-o", target.to_str().unwrap()]).success(), "");
    assert_eq!(fs::read_to_string(&target).unwrap(), recorded);
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);

    // The document of a damaged log contains the failed verdict.
    let output = bus(&logs, &["audit", "garbage-line"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("garbage-line: log: not JSON at event 26"), "{}", output.stderr);
    let document = Value::parse(&output.stdout).unwrap();
    assert_eq!(document.get("integrity").unwrap().get("ok"), Some(&Value::Bool(false)));
    let Some(Value::Array(events)) = document.get("events") else { panic!("events") };
    assert_eq!(events.len(), 40);

    // A link's target is replaced, not the link; a device is written to.
    std::os::unix::fs::symlink(&target, temp.path().join("link")).unwrap();
    fs::write(&target, "something older").unwrap();
    bus(&logs, &["audit", "valid-40", "-o", temp.path().join("link").to_str().unwrap()]).success();
    assert_eq!(fs::read_to_string(&target).unwrap(), recorded);
    assert!(fs::symlink_metadata(temp.path().join("link")).unwrap().is_symlink());
    assert!(
        bus(&logs, &["audit", "valid-40", "-o", "/dev/full"])
            .failure(2)
            .contains("/dev/full: cannot write it")
    );
    assert!(!fs::metadata("/dev/full").unwrap().is_file());
    for standard_output in ["-", "/dev/stdout"] {
        assert_eq!(bus(&logs, &["audit", "valid-40", "-o", standard_output]).success(), recorded);
    }

    // No file of the bus is overwritten.
    append_events(temp.path(), 3);
    let before = tree(temp.path());
    for target in ["bus/events.jsonl", "bus/state-snapshot.json", "bus/new.json", "bus/../bus/audit.json"] {
        let message = bus(temp.path(), &["audit", "bus", "-o", target]).failure(2);
        assert!(message.contains("is inside the bus; name a file elsewhere"), "{message}");
    }
    for name in ["events.jsonl", "bus.lock"] {
        let file = File::options().append(true).open(temp.path().join("bus").join(name)).unwrap();
        let mut audit = Command::new(BUS);
        let output = audit.args(["audit", "bus"]).current_dir(temp.path()).stdout(file).output().unwrap();
        let message = Finished::from(output).failure(2);
        assert!(message.contains(&format!("standard output is {name} of the bus itself")), "{message}");
    }
    assert_eq!(tree(temp.path()), before);
    std::os::unix::fs::symlink("nowhere", temp.path().join("dangling")).unwrap();
    let message = bus(temp.path(), &["audit", "bus", "-o", "dangling"]).failure(2);
    assert!(message.contains("dangling: is a symbolic link without a target"), "{message}");

    for target in ["missing/audit.json", "/proc/audit.json"] {
        assert!(
            bus(&logs, &["audit", "valid-40", "-o", target])
                .failure(2)
                .contains(&format!("{target}: cannot write it"))
        );
    }
}

#[test]
fn a_closed_pipe_does_not_change_the_exit_code_of_a_failed_check() {
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
fn a_closed_pipe_ends_audit_quietly() {
    let mut child = Command::new(BUS)
        .args(["audit", "valid-40"])
        .current_dir(conformance().join("logs"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn canonical_prints_the_recorded_forms() {
    let temp = temp_dir();
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
    assert_eq!(bus_with_input(temp.path(), &["canonical"], &input).success(), output);
    fs::write(temp.path().join("values"), &input).unwrap();
    assert_eq!(bus(temp.path(), &["canonical", "values"]).success(), output);
    let rejected = fs::read_to_string(conformance().join("rejected.jsonl")).unwrap();
    for case in rejected.lines() {
        let case = Value::parse(case).unwrap();
        let text = case.get("input").unwrap().as_str().unwrap();
        let output = bus_with_input(temp.path(), &["canonical", "-"], &format!("[1.50]\n{text}\n2\n"));
        assert_eq!((output.code, output.stdout.as_str()), (2, "[1.5]\n"), "{text}");
        assert!(output.stderr.starts_with("zero-bus: standard input: line 2: "), "{}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1);
    }
}

#[test]
fn every_command_has_help_that_usage_errors_name() {
    let message = |arguments: &[&str]| bus(Path::new("."), arguments).failure(2);
    assert!(message(&["tial", "bus"]).contains("a similar subcommand exists: 'tail'; see zero-bus --help"));
    assert!(message(&["tail", "bus", "-n", "-1"]).ends_with("see zero-bus tail --help"));
    assert!(message(&[]).contains("name a command: append, verify, "));
    let not_utf8 = Command::new(BUS).arg(std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
    assert!(Finished::from(not_utf8).failure(2).ends_with("see zero-bus --help"));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(BUS).arg("--help").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to standard output"));
    for command in [
        "append",
        "status",
        "public",
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
        "drill",
        "backup",
        "ingest",
        "mirror",
        "mirror-verify",
        "restore",
        "completions",
        "man",
    ] {
        let help = bus(Path::new("."), &[command, "--help"]).success();
        assert!(help.lines().next().unwrap().chars().count() <= 60, "{help}");
        assert!(help.contains("Examples:") && help.contains("Exit codes: 0 passed"), "{help}");
    }
}

#[test]
fn an_event_is_named_from_the_end_by_every_command_that_takes_one() {
    let temp = temp_dir();
    let dir = temp.path();
    crate::support::runs::run_cycles(dir, "2", &[]).success();
    let state = |at: &str| bus(dir, &["state", "bus", "--at", at]).success();
    assert_eq!(state("last"), state("10"));
    assert_eq!(state("-6"), state("#5"));
    let diff = |earlier: &str, later: &str| bus(dir, &["diff", "bus", earlier, later]).success();
    assert_eq!(diff("-6", "last"), diff("5", "evt-000000000010"));
    let tail = |from: &str| bus(dir, &["tail", "bus", "--from", from]).success().lines().count();
    assert_eq!([tail("last"), tail("-3"), tail("-100"), tail("#9")], [1, 3, 10, 2]);
}

#[test]
fn verify_says_that_a_directory_has_no_log() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::create_dir(dir.join("empty")).unwrap();
    let output = bus(dir, &["verify", "empty"]);
    assert_eq!(output.code, 0);
    assert!(output.stdout.starts_with("log       ok    0 events: there is no log\n"), "{}", output.stdout);
    let verdict = |name: &str| {
        let output = bus(dir, &["verify", name, "--json"]);
        Value::parse(&output.stdout).unwrap()
    };
    assert_eq!(verdict("empty").get("log_exists"), Some(&Value::Bool(false)));
    append_events(dir, 1);
    assert_eq!(verdict("bus").get("log_exists"), None);
}

#[test]
fn canonical_portable_refuses_what_python_cannot_read() {
    let temp = temp_dir();
    let run = |input: &str| bus_with_input(temp.path(), &["canonical", "--portable"], input);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let in_string = format!("\"\\\"{}{}\"", "[".repeat(1000), "9".repeat(5000));
    for accepted in [&"9".repeat(4300), &nested(900), &in_string, "[-1.5e300,\"\"]"] {
        assert_eq!(run(accepted).success().lines().count(), 1);
    }
    let message = run(&format!("[-{}]", "9".repeat(4301))).failure(2);
    assert!(message.ends_with("line 1: an integer has more than 4300 digits"), "{message}");
    let message = run(&nested(901)).failure(2);
    assert!(message.ends_with("line 1: nested deeper than 900 levels"), "{message}");
}
