//! Verification and opening for appending come to the same verdict on any log, sync mark and
//! snapshot.

use std::fs;
use std::path::Path;

use zero_bus::sim::SimDisk;
use zero_bus::{AmbiguousTail, Bus, Draft, Error, Finding, Json, LOCK, LOG, OpenOptions, Reader, SNAPSHOT};

use crate::support::{bus_of, directory, draft};

/// Log and lock file of a bus with these events.
fn files_of(path: &Path, drafts: Vec<Draft>) -> (Vec<u8>, Vec<u8>) {
    Bus::open(path).unwrap().append_batch(drafts).unwrap();
    (fs::read(path.join(LOG)).unwrap(), fs::read(path.join(LOCK)).unwrap())
}

/// Every combination of a sync mark, a number of events and a tail.
fn logs() -> Vec<(String, SimDisk)> {
    let directory = directory();
    let mut marks = vec![("none".to_owned(), Vec::new())];
    for events in 0..=6 {
        let path = directory.path().join(format!("same-{events}"));
        marks.push((format!("at {events}"), files_of(&path, (1..=events).map(draft).collect()).1));
    }
    for events in [1, 3, 6] {
        // Longer payloads, so that this mark has another offset as well as another checksum.
        let path = directory.path().join(format!("other-{events}"));
        let drafts = (1..=events).map(|number| draft(number * 1_000_000)).collect();
        marks.push((format!("of another log at {events}"), files_of(&path, drafts).1));
    }
    let (log, _) = files_of(&directory.path().join("log"), (1..=7).map(draft).collect());
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let valid = |events: usize| lines[..events].concat();
    let tails: [(&str, Vec<u8>); 9] = [
        ("nothing", Vec::new()),
        ("half an event", lines[6][..100].to_vec()),
        ("an invalid line", b"garbage\n".to_vec()),
        ("two invalid lines", b"garbage\nand more\n".to_vec()),
        ("an invalid and half a line", b"garbage\n{\"as_of\":".to_vec()),
        ("an invalid line and an event", [b"garbage\n", lines[6]].concat()),
        ("an invalid line, an event and half a line", [b"garbage\n", lines[6], b"{\"as"].concat()),
        ("zeros", vec![0; 300]),
        ("zeros and an event", [&vec![0; 300][..], b"\n", lines[6]].concat()),
    ];
    let mut logs = Vec::new();
    for (mark, lock_file) in &marks {
        for events in 0..=6 {
            for (tail, bytes) in &tails {
                let disk = SimDisk::new();
                disk.put(LOG, &[&valid(events)[..], bytes].concat());
                if !lock_file.is_empty() {
                    disk.put(LOCK, lock_file);
                }
                logs.push((format!("sync mark {mark}, {events} events, then {tail}"), disk));
            }
        }
    }
    logs
}

#[test]
fn opening_and_verifying_come_to_the_same_verdict() {
    let (mut ambiguous, mut damaged, mut missing) = (0, 0, 0);
    for (case, disk) in logs() {
        let integrity = Reader::open_in(disk.storage()).verify().unwrap().integrity;
        let opened = Bus::open_in(disk.storage());
        match (&integrity.finding, opened) {
            (Finding::Sound, Ok(bus)) => assert_eq!(bus.head(), integrity.head, "{case}"),
            (Finding::Torn { .. } | Finding::Truncated { .. }, Ok(bus)) => {
                assert_eq!(bus.quarantined().len(), 1, "{case}");
            }
            (Finding::Fault(found), Err(Error::Damaged { fault, .. })) => {
                assert_eq!(found, &fault, "{case}");
                damaged += 1;
            }
            (Finding::Missing(found), Err(Error::Missing { events, recorded, .. })) => {
                assert_eq!((*found, integrity.head.index), (recorded, events), "{case}");
                missing += 1;
            }
            (Finding::Ambiguous(found), Err(Error::Ambiguous { fault, .. })) => {
                assert_eq!(found, &fault, "{case}");
                // What `repair --yes` does, and it is not refused again.
                let repaired = OpenOptions::new()
                    .on_ambiguous_tail(AmbiguousTail::QuarantineFrom(fault.byte_offset))
                    .open_in(disk.storage());
                assert_eq!(repaired.unwrap().quarantined().len(), 1, "{case}");
                ambiguous += 1;
            }
            (finding, opened) => panic!("{case}: verified as {finding:?}, opened as {:?}", opened.err()),
        }
    }
    assert!(ambiguous > 10 && damaged > 10 && missing > 10, "{ambiguous} {damaged} {missing}");
}

#[test]
fn a_long_log_that_ends_with_two_invalid_lines_is_not_reported_as_empty() {
    let directory = directory();
    bus_of(directory.path(), 40);
    let log = directory.path().join(LOG);
    let text = fs::read(&log).unwrap();
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(&log, [&lines[..30].concat()[..], b"garbage\nand more\n"].concat()).unwrap();
    match Bus::open(directory.path()).unwrap_err() {
        Error::Damaged { fault, .. } => {
            assert_eq!((fault.event, fault.byte_offset), (31, lines[..30].concat().len() as u64));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_missing_end_names_every_file_that_blocks_appending() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let events = bus.append_batch((1..=6).map(draft).collect()).unwrap();
    bus.write_snapshot(1.0, None, &Json::empty_object()).unwrap();
    drop(bus);
    let log = directory.path().join(LOG);
    let kept: String = events[..4].iter().map(|event| format!("{}\n", event.line())).collect();
    fs::write(&log, kept).unwrap();
    let refusals = || {
        let opened = Bus::open(directory.path()).unwrap_err().to_string();
        let read = Reader::open(directory.path()).unwrap().head().unwrap_err().to_string();
        assert_eq!(opened, read);
        opened
    };
    let message = refusals();
    assert!(
        message.ends_with(
            "but bus.lock records 6: its end is missing. Restore the log, or delete bus.lock and \
             state-snapshot.json to continue without the missing events"
        ),
        "{message}"
    );
    fs::remove_file(directory.path().join(LOCK)).unwrap();
    let message = refusals();
    assert!(message.contains("but state-snapshot.json records 6"), "{message}");
    assert!(message.contains("or delete state-snapshot.json to continue"), "{message}");
    fs::remove_file(directory.path().join(SNAPSHOT)).unwrap();
    assert_eq!(Bus::open(directory.path()).unwrap().head().index, 4);
}

#[test]
fn the_snapshot_alone_gets_the_verdict_of_the_whole_verification() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let verdict = || {
        let reader = Reader::open(directory.path()).unwrap();
        let alone = reader.verify_snapshot().unwrap();
        assert_eq!(alone, reader.verify().unwrap().snapshot_integrity);
        alone.reason
    };
    assert_eq!(verdict(), "no snapshot");
    bus.write_snapshot(1.0, None, &Json::empty_object()).unwrap();
    assert_eq!(verdict(), "ok");
    bus.append_batch((1..=6).map(draft).collect()).unwrap();
    assert_eq!(verdict(), "ok");
    bus.write_snapshot(1.0, None, &Json::empty_object()).unwrap();
    bus.append(draft(7)).unwrap();
    assert_eq!(verdict(), "ok");
    let path = directory.path().join(SNAPSHOT);
    let snapshot = fs::read_to_string(&path).unwrap();
    fs::write(&path, snapshot.replace("\"event_count\":6", "\"event_count\":5")).unwrap();
    assert_eq!(verdict(), "snapshot checksum does not match event log");
    fs::write(&path, snapshot.replace("\"event_count\":6", "\"event_count\":9")).unwrap();
    assert_eq!(verdict(), "snapshot references missing tail events");
    fs::write(&path, "{").unwrap();
    assert!(verdict().starts_with("snapshot cannot be read"));
}
