//! `zero-bus backup`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, bus, conformance, feed, fill};
use zero_bus::sim::Rng;

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn log(directory: &Path, name: &str) -> Vec<u8> {
    fs::read(directory.join(name).join("events.jsonl")).unwrap()
}

fn more(directory: &Path, name: &str, events: usize) {
    let lines = "{\"event_type\":\"a\",\"payload\":{},\"as_of\":1}\n".repeat(events);
    let output = feed(Command::new(BUS).args(["append", name, "--batch"]).current_dir(directory), &lines);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_backup_is_the_bus_and_is_brought_up_to_it() {
    let place = place();
    let here = place.path();
    fill(here, 300);
    zero_bus::Bus::open(here.join("bus")).unwrap().write_snapshot(1.0, None, &[1]).unwrap();
    let said = bus(here, &["backup", "bus", "deep/copy", "--json"]).fine();
    let bytes = log(here, "bus").len();
    assert_eq!(
        said,
        format!("{{\"bytes\":{bytes},\"bytes_new\":{bytes},\"events\":300,\"snapshot_fits\":true}}\n")
    );
    assert_eq!(log(here, "deep/copy"), log(here, "bus"));
    let snapshot = |name: &str| fs::read(here.join(name).join("state-snapshot.json")).unwrap();
    assert_eq!(snapshot("deep/copy"), snapshot("bus"));
    for (name, mode) in
        [("deep/copy", 0o700), ("deep/copy/events.jsonl", 0o600), ("deep/copy/bus.lock", 0o600)]
    {
        assert_eq!(fs::metadata(here.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    bus(here, &["verify", "deep/copy"]).fine();
    // A snapshot that the log does not bear out does not take the place of one that it does.
    let sound = snapshot("bus");
    let spoilt = String::from_utf8(sound.clone()).unwrap().replacen("sha256:", "sha256:0", 1);
    fs::write(here.join("bus/state-snapshot.json"), spoilt.replacen("0\",\"payload", "\",\"payload", 1))
        .unwrap();
    bus(here, &["backup", "bus", "deep/copy"]).fine_with("the snapshot of the bus does not fit its log");
    assert_eq!(snapshot("deep/copy"), sound);
    fs::write(here.join("bus/state-snapshot.json"), &sound).unwrap();
    // Nothing new, then something.
    assert!(bus(here, &["backup", "bus", "deep/copy"]).fine().contains("300 events"));
    more(here, "bus", 7);
    let said = bus(here, &["backup", "bus", "deep/copy"]).fine();
    let new = log(here, "bus").len() - bytes;
    assert!(
        said.contains(&format!("307 events, {} bytes, {new} of them new; checked", bytes + new)),
        "{said}"
    );
    assert_eq!(log(here, "deep/copy"), log(here, "bus"));
    // It is a bus.
    more(here, "deep/copy", 1);
}

/// A writer that never stops, and backups of it: each is a sound beginning of the log.
#[test]
fn a_bus_that_is_written_to_is_copied() {
    let place = place();
    let here = place.path();
    fill(here, 10);
    let mut writer = Command::new(BUS)
        .args(["append", "bus", "--batch"])
        .current_dir(here)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = writer.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        for n in 0..20_000 {
            let line = format!("{{\"event_type\":\"a\",\"payload\":{{\"n\":{n}}},\"as_of\":1}}\n");
            input.write_all(line.as_bytes()).unwrap();
        }
    });
    let mut backups = 0;
    while !feeding.is_finished() || backups < 3 {
        bus(here, &["backup", "bus", "copy"]).fine();
        bus(here, &["verify", "copy"]).fine();
        backups += 1;
    }
    feeding.join().unwrap();
    assert!(writer.wait().unwrap().success());
    assert!(log(here, "bus").starts_with(&log(here, "copy")));
    bus(here, &["backup", "bus", "copy"]).fine();
    assert_eq!(log(here, "copy"), log(here, "bus"));
    println!("{backups} backups while it was written to");
}

#[test]
fn a_killed_backup_goes_on() {
    let place = place();
    let here = place.path();
    fill(here, 30_000);
    let mut dice = Rng::new(11);
    let mut cut_short = 0;
    for _ in 0..40 {
        let mut child = Command::new(BUS)
            .args(["backup", "bus", "copy"])
            .current_dir(here)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(dice.below(60_000) as u64));
        child.kill().unwrap();
        cut_short += usize::from(child.wait().unwrap().code().is_none());
        if let Ok(copy) = fs::read(here.join("copy/events.jsonl")) {
            assert!(log(here, "bus").starts_with(&copy));
        }
        // From the beginning now and then.
        if dice.below(3) == 0 && here.join("copy").exists() {
            fs::remove_dir_all(here.join("copy")).unwrap();
        }
    }
    bus(here, &["backup", "bus", "copy"]).fine();
    assert_eq!(log(here, "copy"), log(here, "bus"));
    bus(here, &["verify", "copy"]).fine();
    // What a power cut leaves of one: bytes behind the note that were never written as they are.
    let whole = log(here, "bus");
    fill_more_and_spoil(here, &whole);
    bus(here, &["backup", "bus", "copy"]).fine();
    assert_eq!(log(here, "copy"), log(here, "bus"));
    assert!(cut_short > 0);
    println!("{cut_short} of 40 cut short");
}

fn fill_more_and_spoil(here: &Path, whole: &[u8]) {
    more(here, "bus", 100);
    let mut spoilt = log(here, "bus");
    let behind = whole.len() + (spoilt.len() - whole.len()) / 2;
    spoilt[whole.len() + 10..behind].fill(0);
    fs::write(here.join("copy/events.jsonl"), spoilt).unwrap();
}

#[test]
fn what_is_no_backup_of_it_is_refused_and_left() {
    let place = place();
    let here = place.path();
    fill(here, 50);
    let refused = |target: &str, problem: &str| {
        let before = crate::support::tree(&here.join(target));
        let said = bus(here, &["backup", "bus", target]).refused();
        assert!(said.contains(problem), "{said}");
        assert_eq!(crate::support::tree(&here.join(target)), before);
    };
    // Another bus.
    more(here, "other", 3);
    refused("other", "other/events.jsonl: is the log of another bus");
    // Two histories.
    bus(here, &["backup", "bus", "fork"]).fine();
    more(here, "fork", 2);
    refused("fork", "fork/events.jsonl: is longer than the log of the bus");
    bus(here, &["append", "bus", "--type", "b", "{}"]).fine();
    more(here, "bus", 5);
    refused("fork", "fork/events.jsonl: differs from the bus from event 51 on, though both are sound");
    // Two histories, and a note that does not know of the target's own part.
    bus(here, &["backup", "bus", "older"]).fine();
    let note = fs::read(here.join("older/bus.lock")).unwrap();
    more(here, "older", 3);
    fs::write(here.join("older/bus.lock"), &note).unwrap();
    bus(here, &["append", "bus", "--type", "c", "{}"]).fine();
    refused("older", "older/events.jsonl: differs from the bus from event 57 on");
    // What is left of another bus, or of something else.
    for (name, content) in [("bus.lock", "precious"), ("state-snapshot.json", "{}")] {
        fs::create_dir(here.join(format!("left-{name}"))).unwrap();
        fs::write(here.join(format!("left-{name}")).join(name), content).unwrap();
        refused(&format!("left-{name}"), &format!("left-{name}/{name}: "));
    }
    fs::create_dir(here.join("linked")).unwrap();
    fs::hard_link(here.join("bus/events.jsonl"), here.join("linked/events.jsonl")).unwrap();
    let said = bus(here, &["backup", "bus", "linked"]).refused();
    assert!(said.contains("is the log of the bus itself under another name"), "{said}");
    // A copy that was damaged.
    bus(here, &["backup", "bus", "damaged"]).fine();
    let spoilt = String::from_utf8(log(here, "damaged")).unwrap().replacen("\"n\":20}", "\"n\":21}", 1);
    fs::write(here.join("damaged/events.jsonl"), spoilt).unwrap();
    refused("damaged", "damaged/events.jsonl: checksum mismatch at event 20 (byte ");
    // Somebody uses it.
    bus(here, &["backup", "bus", "used"]).fine();
    let companion = fs::File::open(here.join("used/bus.lock")).unwrap();
    companion.lock().unwrap();
    refused("used", "used/events.jsonl: is in use");
    drop(companion);
    let claim = fs::File::open(here.join("used")).unwrap();
    claim.lock().unwrap();
    refused("used", "used: a runtime or another backup uses it");
    // In each other.
    refused("bus", "must not lie in each other");
    assert!(bus(here, &["backup", "bus", "bus/copy"]).refused().contains("must not lie in each other"));
    assert!(!here.join("bus/copy").exists());
    assert!(bus(here, &["backup", "bus", "."]).refused().contains("must not lie in each other"));
    // No bus.
    assert!(
        bus(here, &["backup", "missing", "new"]).refused().contains("missing: there is no such directory")
    );
    fs::create_dir(here.join("empty")).unwrap();
    assert!(bus(here, &["backup", "empty", "new"]).refused().contains("is an empty bus"));
    assert!(!here.join("new").exists());
    fs::write(here.join("file"), "").unwrap();
    assert_eq!(bus(here, &["backup", "bus", "file"]).code, 2);
}

#[test]
fn a_backup_that_gets_nothing_leaves_nothing() {
    let place = place();
    let here = place.path();
    fill(here, 3);
    let spoiled = String::from_utf8(log(here, "bus")).unwrap().replacen("\"n\":1", "\"n\":2", 1);
    fs::write(here.join("bus/events.jsonl"), spoiled).unwrap();
    assert_eq!(bus(here, &["backup", "bus", "deep/copy"]).code, 1);
    assert!(!here.join("deep").exists());
}

#[test]
fn a_damaged_bus_is_not_copied_and_a_torn_end_left_out() {
    let place = place();
    let here = place.path();
    let logs = conformance().join("logs");
    let copy = here.join("copy");
    let ended = bus(&logs, &["backup", "mutated-payload", copy.to_str().unwrap()]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("checksum mismatch at event 13"), "{}", ended.err);
    let torn = here.join("torn");
    let said = bus(&logs, &["backup", "torn-tail", torn.to_str().unwrap()])
        .fine_with("the snapshot of the bus does not fit its log");
    assert!(said.contains("25 events"), "{said}");
    bus(here, &["verify", "torn"]).fine();
    // The newer damaged part does not reach an earlier backup.
    fill(here, 50);
    bus(here, &["backup", "bus", "kept"]).fine();
    let before = crate::support::tree(&here.join("kept"));
    more(here, "bus", 5);
    let spoilt =
        String::from_utf8(log(here, "bus")).unwrap().replacen("\"event_index\":53", "\"event_index\":54", 1);
    fs::write(here.join("bus/events.jsonl"), spoilt).unwrap();
    assert_eq!(bus(here, &["backup", "bus", "kept"]).code, 1);
    assert_eq!(crate::support::tree(&here.join("kept")), before);
}
