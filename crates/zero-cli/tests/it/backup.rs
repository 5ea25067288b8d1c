//! `zero-bus backup`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, append_events, bus, conformance, run_with_input, temp_dir, tree};
use zero_bus::sim::Rng;

fn log(dir: &Path, bus: &str) -> Vec<u8> {
    fs::read(dir.join(bus).join("events.jsonl")).unwrap()
}

fn append_to(dir: &Path, bus: &str, count: usize) {
    let lines = "{\"event_type\":\"a\",\"payload\":{},\"as_of\":1}\n".repeat(count);
    let output = run_with_input(Command::new(BUS).args(["append", bus, "--batch"]).current_dir(dir), &lines);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_backup_equals_the_bus_and_is_updated() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 300);
    zero_bus::Bus::open(dir.join("bus")).unwrap().write_snapshot(1.0, None, &[1]).unwrap();
    let stdout = bus(dir, &["backup", "bus", "deep/copy", "--json"]).success();
    let bytes = log(dir, "bus").len();
    assert_eq!(
        stdout,
        format!("{{\"bytes\":{bytes},\"bytes_new\":{bytes},\"events\":300,\"snapshot_fits\":true}}\n")
    );
    assert_eq!(log(dir, "deep/copy"), log(dir, "bus"));
    let snapshot = |name: &str| fs::read(dir.join(name).join("state-snapshot.json")).unwrap();
    assert_eq!(snapshot("deep/copy"), snapshot("bus"));
    for (name, mode) in
        [("deep/copy", 0o700), ("deep/copy/events.jsonl", 0o600), ("deep/copy/bus.lock", 0o600)]
    {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    bus(dir, &["verify", "deep/copy"]).success();
    // A snapshot that contradicts the log does not replace a sound one.
    let sound = snapshot("bus");
    let corrupt = String::from_utf8(sound.clone()).unwrap().replacen("sha256:", "sha256:0", 1);
    fs::write(dir.join("bus/state-snapshot.json"), corrupt.replacen("0\",\"payload", "\",\"payload", 1))
        .unwrap();
    bus(dir, &["backup", "bus", "deep/copy"])
        .success_with_warning("the snapshot of the bus does not match its log");
    assert_eq!(snapshot("deep/copy"), sound);
    fs::write(dir.join("bus/state-snapshot.json"), &sound).unwrap();
    // Without new events, then with some.
    assert!(bus(dir, &["backup", "bus", "deep/copy"]).success().contains("300 events"));
    append_to(dir, "bus", 7);
    let stdout = bus(dir, &["backup", "bus", "deep/copy"]).success();
    let new = log(dir, "bus").len() - bytes;
    assert!(
        stdout.contains(&format!("307 events, {} bytes, {new} of them new; verified", bytes + new)),
        "{stdout}"
    );
    assert_eq!(log(dir, "deep/copy"), log(dir, "bus"));
    // The backup can be appended to.
    append_to(dir, "deep/copy", 1);
}

/// While a producer appends, each backup is a sound prefix of the log.
#[test]
fn a_bus_is_backed_up_while_it_is_written_to() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 10);
    let mut producer = Command::new(BUS)
        .args(["append", "bus", "--batch"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = producer.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        for n in 0..20_000 {
            let line = format!("{{\"event_type\":\"a\",\"payload\":{{\"n\":{n}}},\"as_of\":1}}\n");
            input.write_all(line.as_bytes()).unwrap();
        }
    });
    let mut backups = 0;
    while !writer.is_finished() || backups < 3 {
        bus(dir, &["backup", "bus", "copy"]).success();
        bus(dir, &["verify", "copy"]).success();
        backups += 1;
    }
    writer.join().unwrap();
    assert!(producer.wait().unwrap().success());
    assert!(log(dir, "bus").starts_with(&log(dir, "copy")));
    bus(dir, &["backup", "bus", "copy"]).success();
    assert_eq!(log(dir, "copy"), log(dir, "bus"));
    println!("{backups} backups during the appends");
}

#[test]
fn a_killed_backup_resumes() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 30_000);
    let mut dice = Rng::new(11);
    let mut cut_short = 0;
    for _ in 0..40 {
        let mut child = Command::new(BUS)
            .args(["backup", "bus", "copy"])
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(dice.below(60_000) as u64));
        child.kill().unwrap();
        cut_short += usize::from(child.wait().unwrap().code().is_none());
        if let Ok(copy) = fs::read(dir.join("copy/events.jsonl")) {
            assert!(log(dir, "bus").starts_with(&copy));
        }
        // Sometimes starts over.
        if dice.below(3) == 0 && dir.join("copy").exists() {
            fs::remove_dir_all(dir.join("copy")).unwrap();
        }
    }
    bus(dir, &["backup", "bus", "copy"]).success();
    assert_eq!(log(dir, "copy"), log(dir, "bus"));
    bus(dir, &["verify", "copy"]).success();
    // A power cut leaves blocks after the sync mark that were never written.
    let synced_bytes = log(dir, "bus").len();
    append_to(dir, "bus", 100);
    let mut unwritten = log(dir, "bus");
    let middle = synced_bytes + (unwritten.len() - synced_bytes) / 2;
    unwritten[synced_bytes + 10..middle].fill(0);
    fs::write(dir.join("copy/events.jsonl"), unwritten).unwrap();
    bus(dir, &["backup", "bus", "copy"]).success();
    assert_eq!(log(dir, "copy"), log(dir, "bus"));
    assert!(cut_short > 0);
    println!("{cut_short} of 40 backups were cut short");
}

#[test]
fn a_target_that_is_not_a_backup_of_the_bus_is_refused_and_left_unchanged() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 50);
    let assert_refused = |target: &str, problem: &str| {
        let before = tree(&dir.join(target));
        let message = bus(dir, &["backup", "bus", target]).failure(2);
        assert!(message.contains(problem), "{message}");
        assert_eq!(tree(&dir.join(target)), before);
    };
    // Another bus.
    append_to(dir, "other", 3);
    assert_refused("other", "other/events.jsonl: is the log of another bus");
    // Another history of the bus.
    bus(dir, &["backup", "bus", "fork"]).success();
    append_to(dir, "fork", 2);
    assert_refused("fork", "fork/events.jsonl: is longer than the log of the bus");
    bus(dir, &["append", "bus", "--type", "b", "{}"]).success();
    append_to(dir, "bus", 5);
    assert_refused("fork", "fork/events.jsonl: differs from the bus from event 51 on, though both are sound");
    // Another history, with a sync mark that does not cover the target's own events.
    bus(dir, &["backup", "bus", "older"]).success();
    let sync_mark = fs::read(dir.join("older/bus.lock")).unwrap();
    append_to(dir, "older", 3);
    fs::write(dir.join("older/bus.lock"), &sync_mark).unwrap();
    bus(dir, &["append", "bus", "--type", "c", "{}"]).success();
    assert_refused("older", "older/events.jsonl: differs from the bus from event 57 on");
    // A lock file or a snapshot without its log.
    for (name, content) in [("bus.lock", "precious"), ("state-snapshot.json", "{}")] {
        fs::create_dir(dir.join(format!("left-{name}"))).unwrap();
        fs::write(dir.join(format!("left-{name}")).join(name), content).unwrap();
        assert_refused(&format!("left-{name}"), &format!("left-{name}/{name}: "));
    }
    fs::create_dir(dir.join("linked")).unwrap();
    fs::hard_link(dir.join("bus/events.jsonl"), dir.join("linked/events.jsonl")).unwrap();
    let message = bus(dir, &["backup", "bus", "linked"]).failure(2);
    assert!(message.contains("is the log of the bus itself under another name"), "{message}");
    // A damaged copy.
    bus(dir, &["backup", "bus", "damaged"]).success();
    let damaged = String::from_utf8(log(dir, "damaged")).unwrap().replacen("\"n\":20}", "\"n\":21}", 1);
    fs::write(dir.join("damaged/events.jsonl"), damaged).unwrap();
    assert_refused("damaged", "damaged/events.jsonl: checksum mismatch at event 20 (byte ");
    // Another process holds a lock on it.
    bus(dir, &["backup", "bus", "used"]).success();
    let lock_file = fs::File::open(dir.join("used/bus.lock")).unwrap();
    lock_file.lock().unwrap();
    assert_refused("used", "used/events.jsonl: is in use");
    drop(lock_file);
    let directory_lock = fs::File::open(dir.join("used")).unwrap();
    directory_lock.lock().unwrap();
    assert_refused("used", "used: in use by a runtime or another backup");
    // One inside the other.
    let nested = "must not be inside each other";
    assert_refused("bus", nested);
    assert!(bus(dir, &["backup", "bus", "bus/copy"]).failure(2).contains(nested));
    assert!(!dir.join("bus/copy").exists());
    assert!(bus(dir, &["backup", "bus", "."]).failure(2).contains(nested));
    // The source is not a bus.
    assert!(
        bus(dir, &["backup", "missing", "new"]).failure(2).contains("missing: there is no such directory")
    );
    fs::create_dir(dir.join("empty")).unwrap();
    assert!(bus(dir, &["backup", "empty", "new"]).failure(2).contains("the bus is empty"));
    assert!(!dir.join("new").exists());
    fs::write(dir.join("file"), "").unwrap();
    assert_eq!(bus(dir, &["backup", "bus", "file"]).code, 2);
}

#[test]
fn a_backup_that_copies_nothing_leaves_no_directory() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 3);
    let damaged = String::from_utf8(log(dir, "bus")).unwrap().replacen("\"n\":1", "\"n\":2", 1);
    fs::write(dir.join("bus/events.jsonl"), damaged).unwrap();
    assert_eq!(bus(dir, &["backup", "bus", "deep/copy"]).code, 1);
    assert!(!dir.join("deep").exists());
}

#[test]
fn damage_is_not_copied_and_a_torn_tail_is_left_out() {
    let temp = temp_dir();
    let dir = temp.path();
    let logs = conformance().join("logs");
    let copy = dir.join("copy");
    let output = bus(&logs, &["backup", "mutated-payload", copy.to_str().unwrap()]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("checksum mismatch at event 13"), "{}", output.stderr);
    // The snapshot next to the torn tail records events that the log lost.
    let message = bus(&logs, &["backup", "torn-tail", copy.to_str().unwrap()]).failure(1);
    assert!(message.contains("holds 25 events, but state-snapshot.json records 40"), "{message}");
    assert!(!copy.exists());
    fs::create_dir(dir.join("cut")).unwrap();
    fs::copy(logs.join("torn-tail/events.jsonl"), dir.join("cut/events.jsonl")).unwrap();
    let stdout = bus(dir, &["backup", "cut", "torn"]).success();
    assert!(stdout.contains("25 events"), "{stdout}");
    bus(dir, &["verify", "torn"]).success();
    // Damage in new events does not reach an earlier backup.
    append_events(dir, 50);
    bus(dir, &["backup", "bus", "kept"]).success();
    let before = tree(&dir.join("kept"));
    append_to(dir, "bus", 5);
    let damaged =
        String::from_utf8(log(dir, "bus")).unwrap().replacen("\"event_index\":53", "\"event_index\":54", 1);
    fs::write(dir.join("bus/events.jsonl"), damaged).unwrap();
    assert_eq!(bus(dir, &["backup", "bus", "kept"]).code, 1);
    assert_eq!(tree(&dir.join("kept")), before);
}
