//! `zero-bus tail`.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use support::{BUS, bus, conformance, fill};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_is_asked_for_is_printed() {
    let place = place();
    fill(place.path(), 300);
    let log = fs::read_to_string(place.path().join("bus/events.jsonl")).unwrap();
    let all: Vec<&str> = log.lines().collect();
    let tail = |arguments: &[&str]| -> Vec<String> {
        let out = bus(place.path(), &[&["tail", "bus"], arguments].concat()).fine();
        out.lines().map(str::to_owned).collect()
    };
    let of = |wanted: fn(usize) -> bool| -> Vec<&str> {
        (1..=300).filter(|n| wanted(*n)).map(|n| all[n - 1]).collect()
    };
    assert_eq!(tail(&[]), all);
    assert_eq!(tail(&["-n", "7"]), all[293..]);
    assert_eq!(tail(&["-n", "0"]), [""; 0]);
    assert_eq!(tail(&["-n", "1000"]), all);
    assert_eq!(tail(&["--from", "250"]), all[249..]);
    assert_eq!(tail(&["--from", "301"]), [""; 0]);
    assert_eq!(tail(&["--from", "290", "-n", "100"]), all[289..]);
    assert_eq!(tail(&["--type", "a.one"]), of(|n| n % 3 == 0));
    assert_eq!(tail(&["--type", "a.*"]), of(|n| n % 3 != 2));
    assert_eq!(tail(&["--type", "?.one", "--trace-id", "t1"]), of(|n| n % 3 != 1 && n % 2 == 1));
    assert_eq!(tail(&["--type", "b.one", "-n", "2", "--from", "5"]), of(|n| n % 3 == 2)[98..]);
    assert_eq!(tail(&["--type", "nothing"]), [""; 0]);
    let ended = bus(place.path(), &["tail", "bus", "--type", "[a"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("--type"), "{}", ended.err);
}

#[test]
fn a_damaged_log_is_printed_up_to_the_fault() {
    let logs = conformance().join("logs");
    let ended = bus(&logs, &["tail", "mutated-payload"]);
    assert_eq!((ended.code, ended.out.lines().count()), (1, 12));
    assert!(
        ended.err.contains("mutated-payload/events.jsonl: checksum mismatch at event 13 (byte "),
        "{}",
        ended.err
    );
    let ended = bus(&logs, &["tail", "torn-tail"]);
    assert_eq!((ended.code, ended.out.lines().count()), (0, 25));
    assert!(ended.err.contains("an unfinished end of 203 bytes is left out"), "{}", ended.err);
}

#[test]
fn following_goes_on_as_events_come() {
    let place = place();
    fill(place.path(), 3);
    let mut child = Command::new(BUS)
        .args(["tail", "bus", "-f", "-n", "2", "--type", "*.one"])
        .current_dir(place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"event_index\":2,"));
    assert!(lines.next().unwrap().unwrap().contains("\"event_index\":3,"));
    for index in 4..30 {
        let kind = if index % 2 == 0 { "x.one" } else { "x.two" };
        let line = bus(place.path(), &["append", "bus", "--type", kind, "{}"]).fine();
        if index % 2 == 0 {
            assert_eq!(lines.next().unwrap().unwrap(), line.trim_end());
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whoever reads the output and stops, like `head`, is no reason to complain.
#[test]
fn a_closed_pipe_ends_it_quietly() {
    let place = place();
    fill(place.path(), 5000);
    let mut child = Command::new(BUS)
        .args(["tail", "bus"])
        .current_dir(place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 100]).unwrap();
    drop(out);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
