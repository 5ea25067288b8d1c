//! Every byte of a small log: the log is cut at every length, and every bit is flipped. It is
//! recovered, or refused with an error. It is never reported as `ok` with an event missing or
//! changed. The normal run cuts at every length near the end of a line and at every seventh
//! elsewhere, and flips two bits of every byte; `.ci/soak` tries all.

use std::fs;

use crate::support::{bus_of, is_soak, verify};
use zero_bus::{Bus, Error, Event, Finding, QuarantineReason, RECOVERED_TYPE, Reader};

fn events(path: &std::path::Path) -> Vec<Event> {
    Reader::open(path).unwrap().events(1).unwrap().map_while(Result::ok).collect()
}

/// A log of four events: the events, the bytes, and the end of each line.
fn small_log(path: &std::path::Path) -> (Vec<Event>, Vec<u8>, Vec<usize>) {
    let written = bus_of(path, 4);
    let log = fs::read(path.join("events.jsonl")).unwrap();
    let ends = log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    (written, log, ends)
}

/// The lengths to cut at.
fn cuts(log: &[u8], ends: &[usize]) -> impl Iterator<Item = usize> {
    let is_near_end = |length: usize| ends.iter().any(|end| end.abs_diff(length) <= 12);
    (0..=log.len()).filter(move |length| is_soak() || length % 7 == 0 || is_near_end(*length))
}

/// Without the lock file there is no sync mark. A cut inside a line then looks like a crash, and a
/// cut between two events cannot be detected from the chain.
#[test]
fn without_the_lock_file_a_cut_at_any_length_is_recovered() {
    let original = tempfile::tempdir().unwrap();
    let (written, log, ends) = small_log(original.path());
    for length in cuts(&log, &ends) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("events.jsonl"), &log[..length]).unwrap();
        // A complete line without its line break still counts.
        let complete_events = ends.iter().filter(|end| **end <= length + 1).count();
        let is_between_events = ends.iter().any(|end| *end == length || *end == length + 1) || length == 0;
        let verdict = verify(directory.path()).integrity;
        assert_eq!(verdict.head.index as usize, complete_events, "cut at {length}");
        assert_eq!(verdict.ok(), is_between_events, "cut at {length}");
        assert_eq!(matches!(verdict.finding, Finding::Torn { .. }), !is_between_events);
        let bus = Bus::open(directory.path()).unwrap();
        let recovered = events(directory.path());
        assert_eq!(recovered[..complete_events], written[..complete_events]);
        // A quarantined tail is recorded.
        assert_eq!(recovered.len(), complete_events + usize::from(!is_between_events));
        assert_eq!(bus.quarantined().len(), usize::from(!is_between_events));
        bus.append(crate::support::draft(99)).unwrap();
        assert!(verify(directory.path()).ok());
    }
}

/// The sync mark in the lock file covers the whole log, so every cut loses synced bytes and is
/// reported.
#[test]
fn with_the_lock_file_a_cut_at_any_length_is_reported() {
    let place = tempfile::tempdir().unwrap();
    let (written, log, ends) = small_log(place.path());
    let lock_file = fs::read(place.path().join("bus.lock")).unwrap();
    let last_line = ends[ends.len() - 2];
    for length in cuts(&log, &ends).filter(|length| *length < log.len() - 1) {
        fs::write(place.path().join("events.jsonl"), &log[..length]).unwrap();
        fs::write(place.path().join("bus.lock"), &lock_file).unwrap();
        let integrity = verify(place.path()).integrity;
        assert!(!integrity.ok(), "cut at {length}");
        if length <= last_line {
            assert!(matches!(Bus::open(place.path()), Err(Error::Missing { .. })), "cut at {length}");
            assert_eq!(fs::read(place.path().join("events.jsonl")).unwrap(), log[..length]);
            continue;
        }
        // A part of the last event is left. It is quarantined and reported as truncated, not as
        // torn.
        let bytes = (length - last_line) as u64;
        assert_eq!(integrity.finding, Finding::Truncated { byte_offset: last_line as u64, bytes });
        let bus = Bus::open(place.path()).unwrap();
        let tail = &bus.quarantined()[0];
        assert_eq!((tail.reason, tail.bytes), (QuarantineReason::Truncated, bytes));
        let recovered = events(place.path());
        assert_eq!(recovered[..3], written[..3]);
        assert_eq!((recovered.len(), recovered[3].event_type.as_str()), (4, RECOVERED_TYPE));
        bus.append(crate::support::draft(99)).unwrap();
        assert!(verify(place.path()).ok());
    }
}

#[test]
fn a_flipped_bit_is_a_fault_or_another_spelling_of_the_same_events() {
    let place = tempfile::tempdir().unwrap();
    let (written, log, _) = small_log(place.path());
    let last_line = log[..log.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let mut other_spellings = 0;
    let mut bits = 0;
    for bit in (0..log.len() * 8).filter(|bit| is_soak() || (bit / 8 + bit) % 4 == 0) {
        bits += 1;
        let mut flipped = log.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(place.path().join("events.jsonl"), &flipped).unwrap();
        let verdict = verify(place.path());
        if verdict.ok() {
            assert_eq!(events(place.path()), written, "bit {bit}");
            other_spellings += 1;
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
    println!("{bits} bits, {other_spellings} of them another spelling");
    assert!(bits >= log.len() * 2);
    assert!(other_spellings < 20);
}
