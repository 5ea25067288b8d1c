//! `zero-bus tail`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::support::{BUS, bus, conformance, fill};

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
fn a_time_is_named_as_people_do() {
    let place = place();
    let here = place.path();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for seconds_ago in [7200.0, 3000.0, 500.0, 10.0] {
        bus(here, &["append", "bus", "--type", "a", "--as-of", &(now - seconds_ago).to_string(), "{}"])
            .fine();
    }
    let indexes = |arguments: &[&str]| -> Vec<String> {
        let out = bus(here, &[&["tail", "bus"], arguments].concat()).fine();
        let index = |line: &str| line.split(r#""event_index":"#).nth(1).unwrap()[..1].to_owned();
        out.lines().map(index).collect()
    };
    assert_eq!(indexes(&["--since", "10m"]), ["3", "4"]);
    assert_eq!(indexes(&["--until", "10m"]), ["1", "2"]);
    assert_eq!(indexes(&["--since", "1h", "--until", "600s"]), ["2"]);
    assert_eq!(indexes(&["--since", "1d", "-n", "1"]), ["4"]);
    assert_eq!(indexes(&["--until", "1h", "-n", "1"]), ["1"]);
    assert_eq!(indexes(&["--until", "1970-01-01T00:00:00Z"]), [""; 0]);
    assert_eq!(indexes(&["--since", "1970-01-01T01:00:00+01:00"]).len(), 4);
    for wrong in ["yesterday", "10", "m", "-5m", "1.5h", ""] {
        let said = bus(here, &["tail", "bus", &format!("--since={wrong}")]).refused();
        assert!(said.contains("--since"), "{said}");
    }
}

/// A writer that is killed in the middle of a line and started anew: its follower misses nothing and sees nothing twice.
#[test]
fn following_outlives_the_writer() {
    let place = place();
    fill(place.path(), 1);
    let mut child = Command::new(BUS)
        .args(["tail", "bus", "-f"])
        .current_dir(place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    for restart in 0..5 {
        let mut log =
            fs::OpenOptions::new().append(true).open(place.path().join("bus/events.jsonl")).unwrap();
        std::io::Write::write_all(&mut log, b"{\"as_of\":17").unwrap();
        drop(log);
        let appended =
            bus(place.path(), &["append", "bus", "--type", "again", &format!("{{\"n\":{restart}}}")]);
        let appended = appended.fine_over_a_torn_line();
        assert_eq!(lines.next().unwrap().unwrap(), appended.trim_end());
    }
    child.kill().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(said, "");
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
