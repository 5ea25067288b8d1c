//! `zero-bus repair`, and what becomes of a bus whose owner dies or stands still.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{BUS, ENGINE, bus, bus_with_input, conformance, fill, root};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::sim::Rng;
use zero_bus::{Reader, Value};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn add_to_log(directory: &Path, bytes: &[u8]) {
    fs::OpenOptions::new()
        .append(true)
        .open(directory.join("bus/events.jsonl"))
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

#[test]
fn nothing_to_repair() {
    let place = place();
    fill(place.path(), 3);
    assert_eq!(bus(place.path(), &["repair", "bus"]).fine(), "nothing to repair: 3 events\n");
    assert_eq!(bus(place.path(), &["repair", "bus", "--yes"]).fine(), "nothing to repair: 3 events\n");
}

#[test]
fn a_torn_tail_is_set_aside_when_it_is_said() {
    let place = place();
    fill(place.path(), 3);
    add_to_log(place.path(), b"{\"as_of\":1");
    let before = crate::support::tree(place.path());
    let ended = bus(place.path(), &["repair", "bus"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.out.contains("torn tail after event 3: 10 bytes") && ended.out.contains("run again with --yes"),
        "{}",
        ended.out
    );
    assert_eq!(crate::support::tree(place.path()), before);
    let said = bus(place.path(), &["repair", "bus", "--yes"]).fine();
    assert!(
        said.contains("was set aside in events.jsonl.torn-at-") && said.ends_with("the log holds 3 events\n"),
        "{said}"
    );
    bus(place.path(), &["verify", "bus"]).fine();
    bus(place.path(), &["repair", "bus"]).fine();
}

#[test]
fn what_nobody_can_tell_is_set_aside_when_somebody_decides() {
    let place = place();
    fill(place.path(), 3);
    let log = fs::read_to_string(place.path().join("bus/events.jsonl")).unwrap();
    // A hole, and a sound event behind it, none of it known to have been synced.
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    fill(&other, 5);
    let fifth =
        fs::read_to_string(other.join("bus/events.jsonl")).unwrap().lines().nth(4).unwrap().to_owned();
    add_to_log(place.path(), format!("\0\0\0\n{fifth}\n").as_bytes());
    let ended = bus(place.path(), &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("a crash may have left this, or somebody"), "{}", ended.err);
    assert_eq!(bus(place.path(), &["repair", "bus"]).code, 1);
    let said = bus(place.path(), &["repair", "bus", "--yes"]).fine();
    assert!(said.contains("undecided: not JSON at event 4"), "{said}");
    assert_eq!(fs::read_to_string(place.path().join("bus/events.jsonl")).unwrap(), log);
    let kept = fs::read(place.path().join(format!("bus/events.jsonl.torn-at-{}", log.len()))).unwrap();
    assert!(String::from_utf8(kept).unwrap().contains(&fifth), "nothing is removed");
    bus(place.path(), &["append", "bus", "--type", "t", "{}"]).fine();
    bus(place.path(), &["verify", "bus"]).fine();
}

#[test]
fn damage_and_a_missing_tail_are_not_repaired() {
    for name in ["garbage-line", "mutated-payload"] {
        let ended = bus(&conformance().join("logs"), &["repair", name]);
        assert_eq!(ended.code, 1);
        assert!(ended.out.contains("is not mended"), "{}", ended.out);
    }
    // The snapshot remembers more than the log holds.
    let place = place();
    let here = place.path().join("bus");
    fs::create_dir(&here).unwrap();
    for file in ["events.jsonl", "state-snapshot.json"] {
        fs::copy(conformance().join("logs/truncated-tail").join(file), here.join(file)).unwrap();
        fs::set_permissions(here.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let before = fs::read(here.join("events.jsonl")).unwrap();
    let ended = bus(place.path(), &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("holds 30 events, but state-snapshot.json remembers 40: its tail is missing"),
        "{}",
        ended.err
    );
    assert_eq!(fs::read(here.join("events.jsonl")).unwrap(), before);
    assert_eq!(bus(place.path(), &["tail", "bus"]).fine().lines().count(), 30, "reading works");
    // A snapshot that cannot be read is in nobody's way.
    fs::write(here.join("state-snapshot.json"), "").unwrap();
    bus(place.path(), &["append", "bus", "--type", "t", "{}"]).fine();
}

#[test]
fn a_bus_that_others_may_write_to_is_told() {
    let place = place();
    fill(place.path(), 1);
    fs::set_permissions(place.path().join("bus"), fs::Permissions::from_mode(0o777)).unwrap();
    let ended = bus(place.path(), &["append", "bus", "--type", "t", "{}"]);
    assert_eq!(ended.code, 0);
    assert!(ended.err.contains("warning: bus: others may write to it (mode 0777)"), "{}", ended.err);
}

fn batch(directory: &Path) -> Child {
    Command::new(BUS)
        .args(["append", "bus", "--batch"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Killed at any moment: every receipt that came out is true afterwards.
#[test]
fn a_killed_appender_has_lied_to_nobody() {
    let place = place();
    let mut dice = Rng::new(7);
    let mut receipts: Vec<Value> = Vec::new();
    for kill in 0..100 {
        let mut child = batch(place.path());
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
        // The last answer may be cut: then nobody has read it as one.
        receipts.extend(answers.lines().map_while(Result::ok).filter_map(|line| Value::parse(&line).ok()));
        child.wait().unwrap();
        feeder.join().unwrap();
    }
    bus(place.path(), &["append", "bus", "--type", "t", "{}"]);
    bus(place.path(), &["verify", "bus"]).fine();
    let events: Vec<_> =
        Reader::open(place.path().join("bus")).unwrap().events(1).unwrap().map(Result::unwrap).collect();
    for receipt in &receipts {
        let index = receipt.get("event_index").unwrap().as_u64().unwrap();
        let event = &events[index as usize - 1];
        assert_eq!(receipt.get("checksum").unwrap().as_str(), Some(event.checksum.to_string().as_str()));
    }
    println!("100 kills, {} receipts, {} events", receipts.len(), events.len());
    assert!(receipts.len() > 100);
}

/// Nobody takes a living owner's lock: while it stands still, the others wait. (That nobody waits for a dead one is
/// seen where owners are killed.)
#[test]
fn a_living_owner_keeps_its_lock() {
    let place = place();
    fill(place.path(), 1);
    let lock = fs::File::open(place.path().join("bus/bus.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = batch(place.path());
    writeln!(child.stdin.take().unwrap(), "{{\"event_type\":\"t\",\"payload\":{{}}}}").unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let size = || fs::metadata(place.path().join("bus/events.jsonl")).unwrap().len();
    let before = size();
    let waiting = std::thread::spawn(move || answers.next());
    assert_eq!((size(), waiting.is_finished()), (before, false));
    lock.unlock().unwrap();
    assert!(waiting.join().unwrap().unwrap().unwrap().contains("\"event_index\":2"));
    assert!(child.wait().unwrap().success());
}

/// Four appenders beside a running runtime: one sound chain, and the runtime's cycles whole.
#[test]
fn appenders_beside_a_running_runtime() {
    let place = place();
    let here = place.path();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let mut runtime = Command::new(*ENGINE)
        .args([
            "--scenario",
            scenario.to_str().unwrap(),
            "--journal",
            "d.jsonl",
            "--runtime-bus",
            "bus",
            "--interval",
            "0",
        ])
        .args(["--max-cycles", "200"])
        .current_dir(here)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines: String =
        (0..200).map(|n| format!("{{\"event_type\":\"t\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bus_with_input(here, &["append", "bus", "--batch"], &lines).fine());
        }
    });
    assert!(runtime.wait().unwrap().success());
    bus(here, &["verify", "bus"]).fine();
    let types: Vec<_> = Reader::open(here.join("bus"))
        .unwrap()
        .events(1)
        .unwrap()
        .map(|event| event.unwrap().event_type)
        .collect();
    assert_eq!(types.len(), 4 * 200 + 5 * 200);
    assert_eq!(types.iter().filter(|event_type| *event_type == "runtime.health").count(), 200);
    // And the runtime finds its own story in it.
    crate::support::engine(
        here,
        &["--scenario", scenario.to_str().unwrap(), "--journal", "d.jsonl", "--runtime-bus", "bus", "--once"],
    )
    .fine();
}
