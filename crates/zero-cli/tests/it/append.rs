//! `zero-bus append`: single events and batches.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, Finished, append_events, bus, bus_with_input, temp_dir, tree};
use zero_bus::{Checksum, Reader, Value};

#[test]
fn append_prints_the_line_of_the_event() {
    let temp = temp_dir();
    let dir = temp.path();
    let arguments =
        ["append", "bus", "--type", "note.added", "--as-of", "-1.5", "--trace-id", "t", r#"{"b":1,"a":"é"}"#];
    let line = bus(dir, &arguments).success();
    assert_eq!(line, fs::read_to_string(dir.join("bus/events.jsonl")).unwrap());
    let event = Reader::open(dir.join("bus")).unwrap().event(1).unwrap().unwrap();
    assert_eq!((event.as_of, event.payload.as_str()), (-1.5, r#"{"a":"\u00e9","b":1}"#));
    let from_input =
        bus_with_input(dir, &["append", "bus", "--type", "note.added", "-"], "{\"c\":\n 3}\n").success();
    assert!(from_input.contains(r#""payload":{"c":3}"#), "{from_input}");
    assert!(Reader::open(dir.join("bus")).unwrap().event(2).unwrap().unwrap().as_of > 1.7e9, "now");
}

#[test]
fn append_refuses_an_invalid_event_and_does_not_create_the_bus() {
    let temp = temp_dir();
    let dir = temp.path();
    let long = "x".repeat(129);
    let cases: [(&[&str], &str); 8] = [
        (&["--type", "t", "{"], "payload: expected a key"),
        (&["--type", "t", "[1]"], "payload: must be an object"),
        (&["--type", "t", r#"{"a":NaN}"#], "payload: a: NaN is not a finite number"),
        (&["--type", "", "{}"], "event_type: must not be empty"),
        (&["--type", &long, "{}"], "event_type: has 129 characters"),
        (&["--type", "a\nb", "{}"], "event_type: contains a control character"),
        (&["--type", "t", "--as-of", "nan", "{}"], "as_of: NaN is not a time"),
        (&["--batch", "missing.jsonl"], "missing.jsonl: cannot open it"),
    ];
    for (arguments, expected) in cases {
        let message = bus(dir, &[&["append", "bus"], arguments].concat()).failure(2);
        assert!(message.starts_with("zero-bus: ") && message.contains(expected), "{expected}: {message}");
    }
    assert_eq!(bus(dir, &["append", "bus", "{}"]).code, 2, "the type is missing");
    for (mistyped, expected) in [
        (["--typ", "t", "{}"], "unexpected argument '--typ' found; a similar argument exists: '--type'"),
        (
            ["--type=t", "--trace=7", "{}"],
            "unexpected argument '--trace' found; a similar argument exists: '--trace-id'",
        ),
        (["--type=t", "--as-of=now", "{}"], "expected a number of seconds"),
    ] {
        let message = bus(dir, &[&["append", "bus"], &mistyped[..]].concat()).failure(2);
        assert!(message.contains(expected) && message.ends_with("; see zero-bus append --help"), "{message}");
    }
    assert_eq!(bus(dir, &["append", "bus", "--batch", "-", "--type", "t"]).code, 2);
    assert!(tree(dir).is_empty());
}

#[test]
fn append_batch_answers_each_line_in_order() {
    let temp = temp_dir();
    let dir = temp.path();
    let lines: String =
        (1..=1000).map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    fs::write(dir.join("in.jsonl"), lines.trim_end()).unwrap();
    let receipts = bus(dir, &["append", "bus", "--batch", "in.jsonl"]).success();
    let events: Vec<_> =
        Reader::open(dir.join("bus")).unwrap().events(1).unwrap().map(Result::unwrap).collect();
    assert_eq!((events.len(), receipts.lines().count()), (1000, 1000));
    for (event, receipt) in events.iter().zip(receipts.lines()) {
        let receipt = Value::parse(receipt).unwrap();
        assert_eq!(receipt.get("event_index").unwrap().as_u64(), Some(event.index));
        assert_eq!(receipt.get("event_id").unwrap().as_str(), Some(event.id().as_str()));
        assert_eq!(receipt.get("checksum").unwrap().as_str().and_then(Checksum::parse), Some(event.checksum));
        assert_eq!(event.payload.as_str(), format!("{{\"n\":{}}}", event.index));
    }
    assert_eq!(bus_with_input(dir, &["append", "bus", "--batch"], "").success(), "");
}

#[test]
fn append_accepts_the_deepest_payload_alone_and_in_a_batch() {
    let temp = temp_dir();
    let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let line = |depth: usize| format!(r#"{{"event_type":"t","payload":{}}}"#, nested(depth));
    bus(temp.path(), &["append", "bus", "--type", "t", &nested(1000)]).success();
    bus_with_input(temp.path(), &["append", "bus", "--batch"], &line(1000)).success();
    let alone = bus(temp.path(), &["append", "bus", "--type", "t", &nested(1001)]).failure(2);
    assert!(alone.contains("nested deeper than 1000 levels"), "{alone}");
    let in_batch = bus_with_input(temp.path(), &["append", "bus", "--batch"], &line(1001)).failure(2);
    assert!(in_batch.contains("nested deeper than"), "{in_batch}");
    let [first, second] = [1, 2]
        .map(|index| Reader::open(temp.path().join("bus")).unwrap().event(index).unwrap().unwrap().payload);
    assert_eq!(first, second);
}

#[test]
fn append_batch_stops_at_an_invalid_line_and_keeps_the_events_before_it() {
    let valid = r#"{"event_type":"t","payload":{},"as_of":1,"trace_id":null}"#;
    let long = format!(r#"{{"event_type":"t","payload":{{"a":"{}"}}}}"#, "x".repeat(17 << 20));
    let cases = [
        ("nope", "expected a value (byte 0 of the line)"),
        ("[]", "expected an object, found an array"),
        (r#"{"payload":{}}"#, "event_type: missing"),
        (r#"{"event_type":"t"}"#, "payload: missing"),
        (r#"{"event_type":7,"payload":{}}"#, "event_type: expected a string, found an integer"),
        (r#"{"event_type":"t","payload":[]}"#, "payload: must be an object"),
        (r#"{"event_type":"t","payload":{},"as_of":"now"}"#, "as_of: expected a number, found a string"),
        (r#"{"event_type":"t","payload":{},"type":"x"}"#, "type: unknown field"),
        (&long, "longer than 16777216 bytes"),
    ];
    for (invalid, expected) in cases {
        let temp = temp_dir();
        let input = format!("{valid}\n{valid}\n{invalid}\n{valid}\n");
        let output = bus_with_input(temp.path(), &["append", "bus", "--batch"], &input);
        assert_eq!(output.code, 2);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(
            output.stderr.contains("standard input: line 3: ") && output.stderr.contains(expected),
            "{expected}: {}",
            output.stderr
        );
        assert_eq!(output.stdout.lines().count(), 2);
        assert_eq!(Reader::open(temp.path().join("bus")).unwrap().head().unwrap().index, 2);
    }
}

#[test]
fn append_batch_with_keep_going_answers_invalid_lines_and_appends_the_others() {
    let temp = temp_dir();
    let dir = temp.path();
    let valid = r#"{"event_type":"t","payload":{},"as_of":1}"#;
    // Too long as a line of input, as any event, and as an event after the first.
    let long_line = format!(r#"{{"event_type":"t","payload":{{"a":"{}"}}}}"#, "x".repeat(17 << 20));
    let with_text = |length: usize| {
        format!(r#"{{"event_type":"t","payload":{{"a":"{}"}},"as_of":1}}"#, "x".repeat(length))
    };
    let max_line_bytes = zero_bus::MAX_LINE_BYTES;
    let long_event = with_text(max_line_bytes - 100);
    let first = bus(dir, &["append", "first", "--type", "t", "--as-of", "1", r#"{"a":""}"#]).success();
    let long_in_place = with_text(max_line_bytes - first.trim_end().len());
    let lines = [
        "nope",
        valid,
        "",
        r#"{"event_type":"t"}"#,
        &long_line,
        valid,
        &long_event,
        valid,
        &long_in_place,
        valid,
    ];
    let mut input = lines.join("\n").into_bytes();
    input.extend_from_slice(b"\n\xff\n");
    input.extend_from_slice(valid.as_bytes());
    fs::write(dir.join("in.jsonl"), input).unwrap();
    let output = bus(dir, &["append", "bus", "--batch", "in.jsonl", "--keep-going"]);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert_eq!(output.stderr, "zero-bus: in.jsonl: 6 invalid lines; all others were appended\n");
    let answers: Vec<Value> = output.stdout.lines().map(|line| Value::parse(line).unwrap()).collect();
    let number = |answer: &Value, key: &str| answer.get(key).and_then(Value::as_u64);
    // In the order of the lines: (index of the event, number of the invalid line).
    let expected = [
        (None, Some(1)),
        (Some(1), None),
        (None, Some(4)),
        (None, Some(5)),
        (Some(2), None),
        (None, Some(7)),
        (Some(3), None),
        (None, Some(9)),
        (Some(4), None),
        (None, Some(11)),
        (Some(5), None),
    ];
    let indexes: Vec<_> =
        answers.iter().map(|answer| (number(answer, "event_index"), number(answer, "line"))).collect();
    assert_eq!(indexes, expected);
    let error = |position: usize| answers[position].get("error").and_then(Value::as_str).unwrap();
    assert_eq!(error(0), "expected a value (byte 0 of the line)");
    assert_eq!(error(2), "payload: missing");
    assert_eq!(error(3), "longer than 16777216 bytes");
    for too_long in [5, 7] {
        assert!(error(too_long).contains("makes a line of "), "{}", error(too_long));
    }
    assert_eq!(error(9), "not UTF-8 (byte 0 of the line)");
    bus(dir, &["verify", "bus", "--min-events", "5"]).success();
    // Invalid lines alone do not create a bus.
    let output = bus_with_input(dir, &["append", "other", "--batch", "--keep-going"], "nope\n");
    assert_eq!((output.code, output.stdout.lines().count()), (1, 1));
    assert!(!dir.join("other").exists());
    bus(dir, &["append", "bus", "--keep-going", "--type", "t", "{}"]).failure(2);
}

/// A producer that waits for each answer gets it: append does not wait for more lines.
#[test]
fn append_batch_answers_a_lone_line_at_once() {
    let temp = temp_dir();
    let mut child = Command::new(BUS)
        .args(["append", "bus", "--batch"])
        .current_dir(temp.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for index in 1..=20 {
        writeln!(input, "{{\"event_type\":\"t\",\"payload\":{{\"n\":{index}}}}}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(answer.contains(&format!("\"event_index\":{index}}}")), "{answer}");
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn append_batch_ignores_blank_lines() {
    let temp = temp_dir();
    let input = "\n{\"event_type\":\"t\",\"payload\":{}}\n  \n\n{\"event_type\":\"t\",\"payload\":{}}\n\n";
    let receipts = bus_with_input(temp.path(), &["append", "bus", "--batch"], input).success();
    assert_eq!(receipts.lines().count(), 2);
}

#[test]
fn four_concurrent_producers_make_one_chain() {
    let temp = temp_dir();
    let dir = temp.path();
    let lines: String =
        (0..500).map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bus_with_input(dir, &["append", "bus", "--batch"], &lines).success());
        }
    });
    bus(dir, &["verify", "bus"]).success();
    assert_eq!(Reader::open(dir.join("bus")).unwrap().head().unwrap().index, 2000);
}

#[test]
fn append_refuses_a_damaged_log_and_leaves_it_unchanged() {
    let temp = temp_dir();
    append_events(temp.path(), 3);
    let log = temp.path().join("bus/events.jsonl");
    let text = fs::read_to_string(&log).unwrap().replace("\"n\":3", "\"n\":4");
    fs::write(&log, &text).unwrap();
    let output = bus(temp.path(), &["append", "bus", "--type", "t", "{}"]);
    let message = output.failure(1);
    assert!(message.contains("events.jsonl: checksum mismatch at event 3 (byte "), "{message}");
    assert_eq!(fs::read_to_string(&log).unwrap(), text);
}

/// Appends an event of type `t` if the head is the expected one.
fn append_expecting(dir: &Path, expected: &str) -> Finished {
    bus(dir, &["append", "bus", "--type", "t", "--expect-head", expected, "{}"])
}

#[test]
fn append_expecting_a_head_appends_only_to_that_head() {
    let temp = temp_dir();
    let dir = temp.path();
    let head = || Reader::open(dir.join("bus")).unwrap().head().unwrap().to_string();
    append_expecting(dir, "0").success();
    let first = head();
    append_expecting(dir, &first).success();
    // Without a checksum, any event at the index matches.
    append_expecting(dir, "2").success();
    let third = head();
    assert!(third.starts_with("3:sha256:"), "{third}");
    let other_checksum = first.replacen("1:", "3:", 1);
    for expected in ["0", "2", "4", &first, &other_checksum] {
        let output = append_expecting(dir, expected);
        assert_eq!((output.code, output.stdout.trim_end()), (1, third.as_str()), "{expected}");
        let message = format!("nothing was appended, since the head is {third}, not {expected}.");
        assert!(output.stderr.contains(&message), "{}", output.stderr);
        assert_eq!(head(), third);
    }
    for invalid in ["", "x", "-1", "3:", "3:sha256:12", &format!("0:{}", &third[2..])] {
        let output = bus(dir, &["append", "bus", "--type", "t", &format!("--expect-head={invalid}"), "{}"]);
        assert!(output.failure(2).contains("expected INDEX (0 for an empty log)"), "{invalid}");
    }
    bus(dir, &["verify", "bus", "--min-events", "3"]).success();
}

#[test]
fn append_batch_expects_the_head_for_its_first_event_only() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 1);
    let valid = r#"{"event_type":"t","payload":{},"as_of":1}"#;
    let input = format!("nope\n{valid}\n{valid}\nnope\n{valid}\n");
    let batch = |expected: &str| {
        let arguments = ["append", "bus", "--batch", "--keep-going", "--expect-head", expected];
        bus_with_input(dir, &arguments, &input)
    };
    let output = batch("7");
    let head = Reader::open(dir.join("bus")).unwrap().head().unwrap();
    assert_eq!((output.code, output.stdout), (1, format!("{head}\n")));
    assert!(output.stderr.contains("nothing was appended, since the head is 1:"), "{}", output.stderr);
    let output = batch("1");
    assert_eq!((output.code, output.stdout.lines().count()), (1, 5), "{}", output.stderr);
    assert!(output.stderr.contains("2 invalid lines; all others were appended"), "{}", output.stderr);
    let answers: Vec<_> = output.stdout.lines().map(|answer| answer.contains("event_index")).collect();
    assert_eq!(answers, [false, true, true, false, true]);
    bus(dir, &["verify", "bus", "--min-events", "4"]).success();
    // The head of the whole batch, not of each group of lines.
    let lines = format!("{valid}\n").repeat(50_000);
    let output = bus_with_input(dir, &["append", "bus", "--batch", "--expect-head", "4"], &lines);
    assert_eq!(output.success().lines().count(), 50_000);
}

#[test]
fn append_expecting_an_event_does_not_create_a_bus() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    let before = tree(dir);
    for name in ["missing", "empty"] {
        for options in [&["--type", "t", "{}"][..], &["--batch"]] {
            let arguments = [&["append", name, "--expect-head", "1"], options].concat();
            let output = bus_with_input(dir, &arguments, "{\"event_type\":\"t\",\"payload\":{}}\n");
            assert_eq!((output.code, output.stdout.as_str()), (1, "0\n"), "{}", output.stderr);
            assert!(output.stderr.contains("since the head is 0, not 1."), "{}", output.stderr);
        }
    }
    let message = bus(dir, &["append", "file", "--type", "t", "--expect-head", "1", "{}"]).failure(2);
    assert!(message.contains("it is a file, not a directory"), "{message}");
    assert_eq!(tree(dir), before);
    assert!(!dir.join("missing").exists());
}
