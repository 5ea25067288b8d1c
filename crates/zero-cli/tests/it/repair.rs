//! `zero-bus repair`, and a bus whose producers are killed or wait for a lock.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{
    BUS, ENGINE, EXAMPLE_SCENARIO, append_events, bus, bus_with_input, conformance, engine, events, temp_dir,
    tree,
};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::sim::Rng;
use zero_bus::{Reader, Value};

fn write_to_log(dir: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(dir.join("bus/events.jsonl")).unwrap().write_all(bytes).unwrap();
}

#[test]
fn repair_leaves_a_sound_log_unchanged() {
    let temp = temp_dir();
    append_events(temp.path(), 3);
    assert_eq!(bus(temp.path(), &["repair", "bus"]).success(), "nothing to repair: 3 events\n");
    assert_eq!(bus(temp.path(), &["repair", "bus", "--yes"]).success(), "nothing to repair: 3 events\n");
}

#[test]
fn repair_quarantines_a_torn_tail_only_with_yes() {
    let temp = temp_dir();
    append_events(temp.path(), 3);
    write_to_log(temp.path(), b"{\"as_of\":1");
    let before = tree(temp.path());
    let json = bus(temp.path(), &["repair", "bus", "--json"]);
    assert_eq!(json.code, 1);
    assert!(
        json.stdout.contains(r#""events":3,"ok":false,"quarantined":[],"reason":"torn tail after event 3"#)
            && json.stdout.ends_with("\"repairable\":true}\n"),
        "{}",
        json.stdout
    );
    let output = bus(temp.path(), &["repair", "bus"]);
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.contains("torn tail after event 3: 10 bytes")
            && output.stdout.contains("run again with --yes"),
        "{}",
        output.stdout
    );
    assert_eq!(tree(temp.path()), before);
    let stdout = bus(temp.path(), &["repair", "bus", "--yes"]).success();
    assert!(
        stdout.contains("quarantined an incomplete last line of 10 bytes in events.jsonl.torn-at-")
            && stdout.ends_with("the log holds 4 events\n"),
        "{stdout}"
    );
    bus(temp.path(), &["verify", "bus"]).success();
    bus(temp.path(), &["repair", "bus"]).success();
    assert_eq!(
        bus(temp.path(), &["repair", "bus", "--json"]).success(),
        "{\"byte_offset\":null,\"events\":4,\"ok\":true,\"quarantined\":[],\"reason\":\"ok\",\"repairable\":false}\n"
    );
}

#[test]
fn repair_quarantines_an_ambiguous_tail_only_with_yes() {
    let temp = temp_dir();
    append_events(temp.path(), 3);
    let log = fs::read_to_string(temp.path().join("bus/events.jsonl")).unwrap();
    // A hole and a sound event after it, which the sync mark does not cover.
    let other = temp.path().join("other");
    fs::create_dir(&other).unwrap();
    append_events(&other, 5);
    let fifth =
        fs::read_to_string(other.join("bus/events.jsonl")).unwrap().lines().nth(4).unwrap().to_owned();
    write_to_log(temp.path(), format!("\0\0\0\n{fifth}\n").as_bytes());
    let output = bus(temp.path(), &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("a crash or tampering could have left this"), "{}", output.stderr);
    assert_eq!(bus(temp.path(), &["repair", "bus"]).code, 1);
    let stdout = bus(temp.path(), &["repair", "bus", "--yes"]).success();
    assert!(stdout.contains("undecided: not JSON at event 4"), "{stdout}");
    assert!(stdout.contains("an ambiguous tail: a crash or tampering"), "{stdout}");
    assert!(stdout.contains("quarantined an ambiguous tail of "), "{stdout}");
    let repaired = fs::read_to_string(temp.path().join("bus/events.jsonl")).unwrap();
    let record = repaired.strip_prefix(&log).unwrap();
    assert!(record.contains("\"event_type\":\"bus.recovered\"") && record.lines().count() == 1, "{record}");
    let kept = fs::read(temp.path().join(format!("bus/events.jsonl.torn-at-{}", log.len()))).unwrap();
    assert!(String::from_utf8(kept).unwrap().contains(&fifth), "the sound event is kept too");
    bus(temp.path(), &["append", "bus", "--type", "t", "{}"]).success();
    bus(temp.path(), &["verify", "bus"]).success();
}

#[test]
fn repair_refuses_damage_and_a_missing_tail() {
    for name in ["garbage-line", "mutated-payload"] {
        let output = bus(&conformance().join("logs"), &["repair", name]);
        assert_eq!(output.code, 1);
        assert!(output.stdout.contains("it is not repaired"), "{}", output.stdout);
    }
    // The snapshot counts more events than the log holds.
    let temp = temp_dir();
    let dir = temp.path().join("bus");
    fs::create_dir(&dir).unwrap();
    for file in ["events.jsonl", "state-snapshot.json"] {
        fs::copy(conformance().join("logs/truncated-tail").join(file), dir.join(file)).unwrap();
        fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let before = fs::read(dir.join("events.jsonl")).unwrap();
    let output = bus(temp.path(), &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("holds 30 events, but state-snapshot.json records 40: its end is missing"),
        "{}",
        output.stderr
    );
    assert_eq!(fs::read(dir.join("events.jsonl")).unwrap(), before);
    let output = bus(temp.path(), &["tail", "bus"]);
    assert_eq!(
        (output.code, output.stdout.lines().count()),
        (1, 30),
        "what is left is readable: {}",
        output.stderr
    );
    // A snapshot that cannot be read does not stop an append.
    fs::write(dir.join("state-snapshot.json"), "").unwrap();
    bus(temp.path(), &["append", "bus", "--type", "t", "{}"]).success();
}

#[test]
fn append_warns_of_a_bus_that_others_can_write_to() {
    let temp = temp_dir();
    append_events(temp.path(), 1);
    fs::set_permissions(temp.path().join("bus"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = bus(temp.path(), &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(output.code, 0);
    assert!(output.stderr.contains("warning: bus: others may write to it (mode 0777)"), "{}", output.stderr);
}

fn start_batch(dir: &Path) -> Child {
    Command::new(BUS)
        .args(["append", "bus", "--batch"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn every_receipt_of_a_killed_producer_is_true() {
    let temp = temp_dir();
    let mut dice = Rng::new(7);
    let mut receipts: Vec<Value> = Vec::new();
    for kill in 0..100 {
        let mut child = start_batch(temp.path());
        let mut input = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            for n in 0.. {
                let line = format!("{{\"event_type\":\"t\",\"payload\":{{\"kill\":{kill},\"n\":{n}}}}}\n");
                if input.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_micros(dice.below(80_000) as u64));
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        // The last receipt may be cut short, and is then not a receipt.
        receipts.extend(answers.lines().map_while(Result::ok).filter_map(|line| Value::parse(&line).ok()));
        child.wait().unwrap();
        feeder.join().unwrap();
    }
    bus(temp.path(), &["append", "bus", "--type", "t", "{}"]);
    bus(temp.path(), &["verify", "bus"]).success();
    let events: Vec<_> =
        Reader::open(temp.path().join("bus")).unwrap().events(1).unwrap().map(Result::unwrap).collect();
    for receipt in &receipts {
        let index = receipt.get("event_index").unwrap().as_u64().unwrap();
        let event = &events[index as usize - 1];
        assert_eq!(receipt.get("checksum").unwrap().as_str(), Some(event.checksum.to_string().as_str()));
    }
    println!("100 kills, {} receipts, {} events", receipts.len(), events.len());
    assert!(receipts.len() > 100);
}

/// Producers wait for a lock that a living process holds. The kernel releases the lock of a killed
/// one.
#[test]
fn append_waits_for_the_lock_of_a_living_process() {
    let temp = temp_dir();
    append_events(temp.path(), 1);
    let lock = fs::File::open(temp.path().join("bus/bus.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = start_batch(temp.path());
    writeln!(child.stdin.take().unwrap(), "{{\"event_type\":\"t\",\"payload\":{{}}}}").unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let size = || fs::metadata(temp.path().join("bus/events.jsonl")).unwrap().len();
    let before = size();
    let waiting = std::thread::spawn(move || answers.next());
    assert_eq!((size(), waiting.is_finished()), (before, false));
    lock.unlock().unwrap();
    assert!(waiting.join().unwrap().unwrap().unwrap().contains("\"event_index\":2"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn four_producers_and_a_runtime_make_one_chain() {
    let temp = temp_dir();
    let dir = temp.path();
    let mut runtime = Command::new(*ENGINE)
        .args([
            "--scenario",
            *EXAMPLE_SCENARIO,
            "--journal",
            "d.jsonl",
            "--runtime-bus",
            "bus",
            "--interval",
            "0",
        ])
        .args(["--max-cycles", "200"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines: String =
        (0..200).map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bus_with_input(dir, &["append", "bus", "--batch"], &lines).success());
        }
    });
    assert!(runtime.wait().unwrap().success());
    bus(dir, &["verify", "bus"]).success();
    let types: Vec<_> = Reader::open(dir.join("bus"))
        .unwrap()
        .events(1)
        .unwrap()
        .map(|event| event.unwrap().event_type)
        .collect();
    assert_eq!(types.len(), 4 * 200 + 5 * 200);
    assert_eq!(types.iter().filter(|event_type| *event_type == "runtime.health").count(), 200);
    // The runtime recovers from this bus.
    engine(dir, &["--scenario", *EXAMPLE_SCENARIO, "--journal", "d.jsonl", "--runtime-bus", "bus", "--once"])
        .success();
}

#[test]
fn a_start_quarantines_an_ambiguous_tail_if_it_may() {
    let temp = temp_dir();
    let records = ["--journal", "d.jsonl", "--runtime-bus", "bus"];
    let run =
        [&["--scenario", *EXAMPLE_SCENARIO, "--max-cycles", "2", "--interval", "0"][..], &records].concat();
    engine(temp.path(), &run).success();
    let log = fs::read_to_string(temp.path().join("bus/events.jsonl")).unwrap();
    // A power cut can keep a later page of a batch and lose an earlier one.
    write_to_log(temp.path(), format!("\0\0\0\n{}\n", log.lines().last().unwrap()).as_bytes());
    let refused = engine(temp.path(), &run);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("a crash or tampering could have left this"), "{}", refused.stderr);
    let started = engine(temp.path(), &[&run[..], &["--on-ambiguous-tail", "quarantine"]].concat());
    assert_eq!(started.code, 0);
    assert!(started.stderr.contains("quarantined an ambiguous tail of "), "{}", started.stderr);
    let types: Vec<String> = events(temp.path()).into_iter().map(|event| event.event_type).collect();
    assert_eq!((types.len(), types[10].as_str()), (21, "bus.recovered"));
    bus(temp.path(), &["verify", "bus"]).success();
    engine(temp.path(), &run).success();
}
