//! `zero-bus seal` and `zero-bus unseal`: every command prints the same before and after.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use zero_bus::sim::Rng;

use crate::support::runs::{lines, run_cycles, start_cycles, wait_for_events};
use crate::support::{BUS, append_events, bus, events, temp_dir};

/// What the commands print about a bus, except the parts that depend on the time.
fn outputs(dir: &Path) -> Vec<String> {
    let commands: [&[&str]; 17] = [
        &["verify", "bus"],
        &["verify", "bus", "--json"],
        &["tail", "bus"],
        &["tail", "bus", "-n", "7", "--json"],
        &["tail", "bus", "--from", "11", "--type", "decision.*"],
        &["tail", "bus", "--since", "0", "--trace-id", "runtime-cycle-3"],
        &["show", "bus", "1"],
        &["show", "bus", "17"],
        &["show", "bus", "last"],
        &["stats", "bus", "--json"],
        &["audit", "bus"],
        &["state", "bus", "--at", "12"],
        &["replay", "bus"],
        &["report", "bus"],
        &["repair", "bus"],
        &["explain", "bus", "2"],
        &["diff", "bus", "1", "20"],
    ];
    let print = |arguments: &&[&str]| {
        let finished = bus(dir, arguments);
        assert_ne!(finished.code, 2, "{arguments:?}: {}", finished.stderr);
        format!("{arguments:?}: {}\n{}{}", finished.code, finished.stdout, finished.stderr)
    };
    commands.iter().map(print).collect()
}

#[test]
fn every_command_prints_the_same_once_the_bus_is_sealed() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "6", &[]).success();
    let plain = fs::read(dir.join("bus/events.jsonl")).unwrap();
    let before = outputs(dir);
    // Each event's time, and a moment after the last one.
    let times: Vec<f64> = events(dir).iter().step_by(5).map(|event| event.as_of).collect();
    let times = [times, vec![f64::from(u32::MAX)]].concat();
    let since = |time: &f64| bus(dir, &["tail", "bus", "--since", &format!("{time:?}")]).success();
    let since_before: Vec<String> = times.iter().map(since).collect();
    bus(dir, &["backup", "bus", "copy"]).success();
    bus(dir, &["mirror", "bus", "--to", "sqlite:mirror.db"]).success();
    let sealed = bus(dir, &["seal", "bus", "--keep-events", "8"]).success();
    assert!(sealed.starts_with("sealed events 1 to 22 in 1 segment: "), "{sealed}");
    assert_eq!(outputs(dir), before);
    assert_eq!(times.iter().map(since).collect::<Vec<_>>(), since_before);
    assert!(bus(dir, &["doctor", "bus", "--journal", "d.jsonl"]).stdout.contains("ok"));
    assert_eq!(lines(&dir.join("bus/events.jsonl")).len(), 8);

    bus(dir, &["unseal", "bus", "-o", "plain.jsonl"]).success();
    assert_eq!(fs::read(dir.join("plain.jsonl")).unwrap(), plain);
    let inside = bus(dir, &["unseal", "bus", "-o", "bus/plain.jsonl"]).failure(2);
    assert!(inside.contains("is inside the bus"), "{inside}");

    // The runtime, backups and mirrors continue, and a mirror restores the plain log.
    run_cycles(dir, "2", &[]).success();
    bus(dir, &["backup", "bus", "copy"]).success();
    bus(dir, &["mirror", "bus", "--to", "sqlite:mirror.db"]).success();
    bus(dir, &["mirror-verify", "sqlite:mirror.db"]).success();
    bus(dir, &["restore", "restored", "--from", "sqlite:mirror.db"]).success();
    bus(dir, &["unseal", "bus", "-o", "plain.jsonl"]).success();
    let plain = fs::read(dir.join("plain.jsonl")).unwrap();
    assert_eq!(fs::read(dir.join("copy/events.jsonl")).unwrap(), plain);
    assert_eq!(fs::read(dir.join("restored/events.jsonl")).unwrap(), plain);
    assert_eq!(events(dir).len(), 40);

    // A journal that was lost is made again from sealed events.
    let journal = fs::read(dir.join("d.jsonl")).unwrap();
    fs::remove_file(dir.join("d.jsonl")).unwrap();
    bus(dir, &["seal", "bus", "--keep-events", "3", "--json"]).success();
    run_cycles(dir, "1", &["--rebuild-journal"]);
    assert!(fs::read(dir.join("d.jsonl")).unwrap().starts_with(&journal));
}

#[test]
fn events_are_sealed_by_age_count_and_size() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 50);
    assert_eq!(bus(dir, &["seal", "bus"]).success(), "nothing to seal\n");
    assert_eq!(bus(dir, &["seal", "bus", "--keep-events", "50"]).success(), "nothing to seal\n");
    let text = bus(dir, &["seal", "bus", "--keep-events", "40", "--json"]).success();
    assert!(text.contains(r#""first":1,"last":10,"segments":1"#), "{text}");
    // The times of these events are in 1970.
    let text = bus(dir, &["seal", "bus", "--keep", "1d"]).success();
    assert!(text.starts_with("sealed events 11 to 47 in 1 segment"), "{text}");
    let missing = bus(dir, &["seal", "nothing"]).failure(2);
    assert!(missing.contains("there is no such directory"), "{missing}");
    assert!(!dir.join("nothing").exists());
}

#[test]
fn a_damaged_segment_is_a_failed_check() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 50);
    bus(dir, &["seal", "bus", "--keep-events", "20"]).success();
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "zst");
    let mut files = fs::read_dir(dir.join("bus/segments")).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.find(is_segment).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[20] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let verify = bus(dir, &["verify", "bus"]);
    assert_eq!(verify.code, 1);
    assert!(verify.stdout.contains("invalid segment at event 1"), "{}", verify.stdout);
    for arguments in
        [&["tail", "bus"][..], &["show", "bus", "5"], &["unseal", "bus", "-o", "x"], &["state", "bus"]]
    {
        let finished = bus(dir, arguments);
        assert_eq!(finished.code, 1, "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains("invalid segment"), "{arguments:?}: {}", finished.stderr);
    }
    assert!(!dir.join("x").exists());
    assert!(bus(dir, &["show", "bus", "50"]).success().contains("evt-000000000050"));
}

/// Starts a program that appends one event for each line of its input, and prints its receipt.
fn start_appending(dir: &Path) -> Child {
    let mut command = Command::new(BUS);
    command.args(["append", "bus", "--batch"]).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_killed_sealer_loses_nothing_while_others_append_and_follow() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 10_000);
    let mut appender = start_appending(dir);
    let mut follow = Command::new(BUS);
    follow.args(["tail", "bus", "-f", "--json", "--from", "9990"]).current_dir(dir);
    let mut follower = follow.stdout(Stdio::piped()).spawn().unwrap();
    let followed = BufReader::new(follower.stdout.take().unwrap());
    let following = thread::spawn(move || followed.lines().map_while(Result::ok).take(11 + 40).count());
    let mut receipts = BufReader::new(appender.stdout.take().unwrap()).lines();
    let mut input = appender.stdin.take().unwrap();
    let (mut dice, mut killed) = (Rng::new(5), 0);
    for number in 0..40 {
        let keep = (200 * (40 - number)).to_string();
        let mut sealer = Command::new(BUS);
        sealer.args(["seal", "bus", "--keep-events", &keep]).current_dir(dir).stdout(Stdio::null());
        let mut sealer = sealer.stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_micros(dice.below(30_000) as u64));
        input.write_all(b"{\"event_type\":\"late\",\"payload\":{},\"as_of\":1}\n").unwrap();
        receipts.next().unwrap().unwrap();
        sealer.kill().unwrap();
        killed += usize::from(sealer.wait().unwrap().code().is_none());
        if number % 8 == 0 {
            bus(dir, &["verify", "bus"]).success();
        }
    }
    drop(input);
    assert!(appender.wait().unwrap().success());
    assert_eq!(following.join().unwrap(), 11 + 40);
    follower.kill().unwrap();
    follower.wait().unwrap();
    bus(dir, &["verify", "bus", "--min-events", "10040"]).success();
    bus(dir, &["seal", "bus", "--keep-events", "5"]).success();
    bus(dir, &["verify", "bus"]).success();
    assert_eq!(events(dir).len(), 10_040);
    println!("{killed} of 40 sealers were killed");
}

#[test]
fn a_runtime_runs_on_while_its_bus_is_sealed() {
    let temp = temp_dir();
    let dir = temp.path();
    let mut runtime = start_cycles(dir, "400");
    let mut sealed = 0;
    for round in 1..=6 {
        wait_for_events(dir, 50 * round);
        sealed +=
            u32::from(bus(dir, &["seal", "bus", "--keep-events", "10"]).success() != "nothing to seal\n");
    }
    assert!(runtime.wait().unwrap().success());
    assert!(sealed >= 1, "{sealed}");
    bus(dir, &["doctor", "bus", "--journal", "d.jsonl"]);
    bus(dir, &["replay", "bus"]).success();
    bus(dir, &["verify", "bus", "--min-events", "2000"]).success();
}
