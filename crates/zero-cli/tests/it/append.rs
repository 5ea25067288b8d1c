//! `zero-bus append`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::support::{BUS, bus, bus_with_input, tree};
use zero_bus::{Checksum, Reader, Value};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn one_event_prints_its_line() {
    let place = place();
    let here = place.path();
    let arguments =
        ["append", "bus", "--type", "note.added", "--as-of", "-1.5", "--trace-id", "t", r#"{"b":1,"a":"é"}"#];
    let line = bus(here, &arguments).fine();
    assert_eq!(line, fs::read_to_string(here.join("bus/events.jsonl")).unwrap());
    let event = Reader::open(here.join("bus")).unwrap().event(1).unwrap().unwrap();
    assert_eq!((event.as_of, event.payload.as_str()), (-1.5, r#"{"a":"\u00e9","b":1}"#));
    let from_input =
        bus_with_input(here, &["append", "bus", "--type", "note.added", "-"], "{\"c\":\n 3}\n").fine();
    assert!(from_input.contains(r#""payload":{"c":3}"#), "{from_input}");
    assert!(Reader::open(here.join("bus")).unwrap().event(2).unwrap().unwrap().as_of > 1.7e9, "now");
}

#[test]
fn what_is_no_event_is_refused_and_nothing_is_made() {
    let place = place();
    let here = place.path();
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
        let said = bus(here, &[&["append", "bus"], arguments].concat()).refused();
        assert!(said.starts_with("zero-bus: ") && said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(bus(here, &["append", "bus", "{}"]).code, 2, "a type is needed");
    for (mistyped, said) in [
        (["--typ", "t", "{}"], "unexpected argument '--typ' found; a similar argument exists: '--type'"),
        (
            ["--type=t", "--trace=7", "{}"],
            "unexpected argument '--trace' found; a similar argument exists: '--trace-id'",
        ),
        (["--type=t", "--as-of=now", "{}"], "is no number of seconds"),
    ] {
        let refused = bus(here, &[&["append", "bus"], &mistyped[..]].concat()).refused();
        assert!(refused.contains(said) && refused.ends_with("; see zero-bus append --help"), "{refused}");
    }
    assert_eq!(bus(here, &["append", "bus", "--batch", "-", "--type", "t"]).code, 2);
    assert!(tree(here).is_empty());
}

#[test]
fn a_batch_answers_each_line_in_order() {
    let place = place();
    let here = place.path();
    let lines: String =
        (1..=1000).map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    fs::write(here.join("in.jsonl"), lines.trim_end()).unwrap();
    let receipts = bus(here, &["append", "bus", "--batch", "in.jsonl"]).fine();
    let events: Vec<_> =
        Reader::open(here.join("bus")).unwrap().events(1).unwrap().map(Result::unwrap).collect();
    assert_eq!((events.len(), receipts.lines().count()), (1000, 1000));
    for (event, receipt) in events.iter().zip(receipts.lines()) {
        let receipt = Value::parse(receipt).unwrap();
        assert_eq!(receipt.get("event_index").unwrap().as_u64(), Some(event.index));
        assert_eq!(receipt.get("event_id").unwrap().as_str(), Some(event.id().as_str()));
        assert_eq!(receipt.get("checksum").unwrap().as_str().and_then(Checksum::parse), Some(event.checksum));
        assert_eq!(event.payload.as_str(), format!("{{\"n\":{}}}", event.index));
    }
    assert_eq!(bus_with_input(here, &["append", "bus", "--batch"], "").fine(), "");
}

/// As deep as an event's payload may be, however it is handed in.
#[test]
fn the_deepest_payload_goes_in_by_itself_and_in_a_batch() {
    let place = place();
    let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let line = |depth: usize| format!(r#"{{"event_type":"t","payload":{}}}"#, nested(depth));
    bus(place.path(), &["append", "bus", "--type", "t", &nested(1000)]).fine();
    bus_with_input(place.path(), &["append", "bus", "--batch"], &line(1000)).fine();
    let by_itself = bus(place.path(), &["append", "bus", "--type", "t", &nested(1001)]).refused();
    assert!(by_itself.contains("nested deeper than 1000 levels"), "{by_itself}");
    let in_a_batch = bus_with_input(place.path(), &["append", "bus", "--batch"], &line(1001)).refused();
    assert!(in_a_batch.contains("nested deeper than"), "{in_a_batch}");
    let [one, other] = [1, 2]
        .map(|index| Reader::open(place.path().join("bus")).unwrap().event(index).unwrap().unwrap().payload);
    assert_eq!(one, other);
}

#[test]
fn a_batch_ends_at_the_first_line_that_is_none_and_keeps_those_before() {
    let good = r#"{"event_type":"t","payload":{},"as_of":1,"trace_id":null}"#;
    let long = format!(r#"{{"event_type":"t","payload":{{"a":"{}"}}}}"#, "x".repeat(17 << 20));
    let cases = [
        ("nope", "expected a value (byte 0 of the line)"),
        ("[]", "expected an object, found an array"),
        (r#"{"payload":{}}"#, "event_type: is missing"),
        (r#"{"event_type":"t"}"#, "payload: is missing"),
        (r#"{"event_type":7,"payload":{}}"#, "event_type: expected a string, found an integer"),
        (r#"{"event_type":"t","payload":[]}"#, "payload: must be an object"),
        (r#"{"event_type":"t","payload":{},"as_of":"now"}"#, "as_of: expected a number, found a string"),
        (r#"{"event_type":"t","payload":{},"type":"x"}"#, "type: is not known"),
        (&long, "is longer than 16777216 bytes"),
    ];
    for (bad, expected) in cases {
        let place = place();
        let input = format!("{good}\n{good}\n{bad}\n{good}\n");
        let ended = bus_with_input(place.path(), &["append", "bus", "--batch"], &input);
        assert_eq!(ended.code, 2);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        assert!(
            ended.err.contains("standard input: line 3: ") && ended.err.contains(expected),
            "{expected}: {}",
            ended.err
        );
        assert_eq!(ended.out.lines().count(), 2);
        assert_eq!(Reader::open(place.path().join("bus")).unwrap().head().unwrap().index, 2);
    }
}

/// Who waits for an answer before it goes on gets it: nothing is held back for a fuller batch.
#[test]
fn a_batch_answers_a_lone_line_at_once() {
    let place = place();
    let mut child = Command::new(BUS)
        .args(["append", "bus", "--batch"])
        .current_dir(place.path())
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
fn blank_lines_of_a_batch_are_nothing() {
    let place = place();
    let input = "\n{\"event_type\":\"t\",\"payload\":{}}\n  \n\n{\"event_type\":\"t\",\"payload\":{}}\n\n";
    let receipts = bus_with_input(place.path(), &["append", "bus", "--batch"], input).fine();
    assert_eq!(receipts.lines().count(), 2);
}

#[test]
fn four_processes_at_once_make_one_chain() {
    let place = place();
    let here = place.path();
    let lines: String =
        (0..500).map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bus_with_input(here, &["append", "bus", "--batch"], &lines).fine());
        }
    });
    bus(here, &["verify", "bus"]).fine();
    assert_eq!(Reader::open(here.join("bus")).unwrap().head().unwrap().index, 2000);
}

#[test]
fn a_damaged_log_is_told_and_takes_nothing() {
    let place = place();
    crate::support::fill(place.path(), 3);
    let log = place.path().join("bus/events.jsonl");
    let text = fs::read_to_string(&log).unwrap().replace("\"n\":3", "\"n\":4");
    fs::write(&log, &text).unwrap();
    let ended = bus(place.path(), &["append", "bus", "--type", "t", "{}"]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("events.jsonl: checksum mismatch at event 3 (byte "), "{}", ended.err);
    assert_eq!(fs::read_to_string(&log).unwrap(), text);
}
