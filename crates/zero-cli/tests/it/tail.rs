//! `zero-bus tail`: selection, following, and a log that ends early.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::support::{BUS, append_events, bus, conformance, temp_dir};

#[test]
fn tail_prints_the_selected_events() {
    let temp = temp_dir();
    append_events(temp.path(), 300);
    let log = fs::read_to_string(temp.path().join("bus/events.jsonl")).unwrap();
    let all: Vec<&str> = log.lines().collect();
    let tail = |arguments: &[&str]| -> Vec<String> {
        let out = bus(temp.path(), &[&["tail", "bus"], arguments].concat()).success();
        out.lines().map(str::to_owned).collect()
    };
    let only = |is_selected: fn(usize) -> bool| -> Vec<&str> {
        (1..=300).filter(|n| is_selected(*n)).map(|n| all[n - 1]).collect()
    };
    assert_eq!(tail(&[]), all);
    assert_eq!(tail(&["-n", "7"]), all[293..]);
    assert_eq!(tail(&["-n", "0"]), [""; 0]);
    assert_eq!(tail(&["-n", "1000"]), all);
    assert_eq!(tail(&["--from", "250"]), all[249..]);
    assert_eq!(tail(&["--from", "301"]), [""; 0]);
    assert_eq!(tail(&["--from", "290", "-n", "100"]), all[289..]);
    assert_eq!(tail(&["--type", "a.one"]), only(|n| n % 3 == 0));
    assert_eq!(tail(&["--type", "a.*"]), only(|n| n % 3 != 2));
    assert_eq!(tail(&["--type", "a.one", "--type", "b.*"]), only(|n| n % 3 != 1));
    assert_eq!(tail(&["--type", "?.one", "--trace-id", "t1"]), only(|n| n % 3 != 1 && n % 2 == 1));
    assert_eq!(tail(&["--type", "b.one", "-n", "2", "--from", "5"]), only(|n| n % 3 == 2)[98..]);
    assert_eq!(tail(&["--type", "nothing"]), [""; 0]);
    let output = bus(temp.path(), &["tail", "bus", "--type", "[a"]);
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("--type"), "{}", output.stderr);
}

#[test]
fn since_and_until_accept_a_time_or_an_age() {
    let temp = temp_dir();
    let dir = temp.path();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for seconds_ago in [7200.0, 3000.0, 500.0, 10.0] {
        bus(dir, &["append", "bus", "--type", "a", "--as-of", &(now - seconds_ago).to_string(), "{}"])
            .success();
    }
    let indexes = |arguments: &[&str]| -> Vec<String> {
        let out = bus(dir, &[&["tail", "bus"], arguments].concat()).success();
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
    assert_eq!(indexes(&["--until", "9999-12-31T23:59:59Z"]).len(), 4);
    assert_eq!(indexes(&["--since", "9999-12-31T23:59:59.5+00:00"]), [""; 0]);
    assert_eq!(indexes(&["--since", "0"]).len(), 4);
    assert_eq!(indexes(&["--since", "-1.5", "--until", "1.5"]), [""; 0]);
    assert_eq!(indexes(&["--since", &(now - 600.0).to_string()]), ["3", "4"]);
    for wrong in
        ["yesterday", "nan", "inf", "m", "-5m", "1.5h", "9999-12-31T23:59:59", "9999-12-32T00:00:00Z", ""]
    {
        let message = bus(dir, &["tail", "bus", &format!("--since={wrong}")]).failure(2);
        assert!(message.contains("--since"), "{message}");
    }
}

/// A producer is killed in the middle of a line and started again. The follower sees each event
/// once.
#[test]
fn following_survives_a_restart_of_the_producer() {
    let temp = temp_dir();
    append_events(temp.path(), 1);
    let mut child = Command::new(BUS)
        .args(["tail", "bus", "-f"])
        .current_dir(temp.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    for restart in 0..5 {
        let mut log = fs::OpenOptions::new().append(true).open(temp.path().join("bus/events.jsonl")).unwrap();
        std::io::Write::write_all(&mut log, b"{\"as_of\":17").unwrap();
        drop(log);
        let appended =
            bus(temp.path(), &["append", "bus", "--type", "again", &format!("{{\"n\":{restart}}}")]);
        let appended = appended.success_after_a_kill();
        assert!(lines.next().unwrap().unwrap().contains("\"event_type\":\"bus.recovered\""));
        assert_eq!(lines.next().unwrap().unwrap(), appended.trim_end());
    }
    child.kill().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    child.wait().unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn tail_prints_a_damaged_log_up_to_the_fault() {
    let logs = conformance().join("logs");
    let output = bus(&logs, &["tail", "mutated-payload"]);
    assert_eq!((output.code, output.stdout.lines().count()), (1, 12));
    assert!(
        output.stderr.contains("mutated-payload/events.jsonl: checksum mismatch at event 13 (byte "),
        "{}",
        output.stderr
    );
    // The snapshot next to the torn tail records events that the log lost.
    let output = bus(&logs, &["tail", "torn-tail"]);
    assert_eq!((output.code, output.stdout.lines().count()), (1, 25));
    assert!(
        output.stderr.contains("but state-snapshot.json records 40: its end is missing"),
        "{}",
        output.stderr
    );
    let temp = temp_dir();
    fs::copy(logs.join("torn-tail/events.jsonl"), temp.path().join("events.jsonl")).unwrap();
    let output = bus(temp.path(), &["tail", "."]);
    assert_eq!((output.code, output.stdout.lines().count()), (0, 25));
    assert!(output.stderr.contains("skipped a torn tail of 203 bytes"), "{}", output.stderr);
}

#[test]
fn following_prints_events_as_they_become_durable() {
    let temp = temp_dir();
    append_events(temp.path(), 3);
    let mut child = Command::new(BUS)
        .args(["tail", "bus", "-f", "-n", "2", "--type", "*.one"])
        .current_dir(temp.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"event_index\":2,"));
    assert!(lines.next().unwrap().unwrap().contains("\"event_index\":3,"));
    for index in 4..30 {
        let event_type = if index % 2 == 0 { "x.one" } else { "x.two" };
        let line = bus(temp.path(), &["append", "bus", "--type", event_type, "{}"]).success();
        if index % 2 == 0 {
            assert_eq!(lines.next().unwrap().unwrap(), line.trim_end());
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The same exit code as that of the runtime and of `mirror --follow`.
#[test]
fn following_a_log_that_is_emptied_or_replaced_fails() {
    type Change = fn(&std::path::Path);
    let changes: [Change; 2] = [
        |dir| fs::write(dir.join("bus/events.jsonl"), "").unwrap(),
        |dir| {
            fs::copy(dir.join("bus/events.jsonl"), dir.join("copy")).unwrap();
            fs::rename(dir.join("copy"), dir.join("bus/events.jsonl")).unwrap();
        },
    ];
    for change in changes {
        let temp = temp_dir();
        append_events(temp.path(), 3);
        let mut child = Command::new(BUS)
            .args(["tail", "bus", "-f"])
            .current_dir(temp.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.by_ref().take(3).count(), 3);
        // Once it prints a new event, it follows.
        bus(temp.path(), &["append", "bus", "--type", "t", "{}"]).success();
        lines.next().unwrap().unwrap();
        change(temp.path());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with("zero-bus: bus/events.jsonl: "), "{stderr}");
    }
}

/// As with `zero-bus tail bus | head`.
#[test]
fn a_closed_pipe_ends_tail_quietly() {
    let temp = temp_dir();
    append_events(temp.path(), 5000);
    let mut child = Command::new(BUS)
        .args(["tail", "bus"])
        .current_dir(temp.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 100]).unwrap();
    drop(out);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}
