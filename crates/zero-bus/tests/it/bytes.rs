//! Every byte of a small log: cut at every length, every bit flipped. What is left is recovered, or refused loudly;
//! never is a log `ok` with an event missing or changed.

use std::fs;

use crate::support::{bus_of, verify};
use zero_bus::{Bus, Error, Event, Finding, Reader};

fn events(path: &std::path::Path) -> Vec<Event> {
    Reader::open(path).unwrap().events(1).unwrap().map_while(Result::ok).collect()
}

/// A log of four events; its bytes, and where each line ends.
fn small_log(path: &std::path::Path) -> (Vec<Event>, Vec<u8>, Vec<usize>) {
    let written = bus_of(path, 4);
    let log = fs::read(path.join("events.jsonl")).unwrap();
    let ends = log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    (written, log, ends)
}

/// Without its lock_file, as one is handed it: an unfinished line is what a crash leaves, and a cut between two events
/// is nothing that a chain can show.
#[test]
fn cut_at_every_length() {
    let place = tempfile::tempdir().unwrap();
    let (written, log, ends) = small_log(place.path());
    for length in 0..=log.len() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("events.jsonl"), &log[..length]).unwrap();
        // A line counts also without its line break.
        let whole = ends.iter().filter(|end| **end <= length + 1).count();
        let clean = ends.iter().any(|end| *end == length || *end == length + 1) || length == 0;
        let verdict = verify(directory.path()).integrity;
        assert_eq!(verdict.head.index as usize, whole, "cut at {length}");
        assert_eq!(verdict.ok(), clean, "cut at {length}");
        assert_eq!(matches!(verdict.finding, Finding::Torn { .. }), !clean);
        let bus = Bus::open(directory.path()).unwrap();
        assert_eq!(events(directory.path()), written[..whole]);
        assert_eq!(bus.quarantined().len(), usize::from(!clean));
        bus.append(crate::support::draft(99)).unwrap();
        assert!(verify(directory.path()).ok());
    }
}

/// With its lock_file, which knows what was synced: nothing that was acknowledged goes missing unnoticed.
#[test]
fn cut_at_every_length_beside_its_companion() {
    let place = tempfile::tempdir().unwrap();
    let (written, log, ends) = small_log(place.path());
    let lock_file = fs::read(place.path().join("bus.lock")).unwrap();
    let last = ends[ends.len() - 2];
    for length in 0..log.len() - 1 {
        fs::write(place.path().join("events.jsonl"), &log[..length]).unwrap();
        fs::write(place.path().join("bus.lock"), &lock_file).unwrap();
        let integrity = verify(place.path()).integrity;
        assert!(!integrity.ok(), "cut at {length}");
        if length <= last {
            assert!(matches!(Bus::open(place.path()), Err(Error::Missing { .. })), "cut at {length}");
            assert_eq!(fs::read(place.path().join("events.jsonl")).unwrap(), log[..length]);
            continue;
        }
        // A part of the last event is there. It is set aside, and nobody calls it a crash.
        let bytes = (length - last) as u64;
        assert_eq!(integrity.finding, Finding::Truncated { byte_offset: last as u64, bytes });
        let bus = Bus::open(place.path()).unwrap();
        assert!(bus.quarantined()[0].was_synced && bus.quarantined()[0].bytes == bytes);
        assert_eq!(events(place.path()), written[..3]);
        bus.append(crate::support::draft(99)).unwrap();
        assert!(verify(place.path()).ok());
    }
}

#[test]
fn every_bit_flipped() {
    let place = tempfile::tempdir().unwrap();
    let (written, log, _) = small_log(place.path());
    let last_line = log[..log.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let mut same = 0;
    for bit in 0..log.len() * 8 {
        let mut flipped = log.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(place.path().join("events.jsonl"), &flipped).unwrap();
        let verdict = verify(place.path());
        if verdict.ok() {
            // Another spelling of the same events, as of a hex digit in an escape or a kind of white space.
            assert_eq!(events(place.path()), written, "bit {bit}");
            same += 1;
            continue;
        }
        assert!(
            !matches!(verdict.integrity.finding, Finding::Torn { .. }),
            "bit {bit}: tampering is reported as a crash"
        );
        if bit / 8 >= last_line {
            assert!(Bus::open(place.path()).is_err(), "bit {bit} of the last event");
            assert_eq!(fs::read(place.path().join("events.jsonl")).unwrap(), flipped);
        }
    }
    println!("{} bits, {same} of them another spelling", log.len() * 8);
    assert!(same < 20);
}
