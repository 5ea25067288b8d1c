//! What recovery quarantines is recorded in the chain, whatever tail it was and wherever a further
//! crash comes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::Storage;
use zero_bus::{
    AmbiguousTail, Bus, Checksum, Draft, Error, Event, LOCK, LOG, OpenOptions, QuarantineReason,
    RECOVERED_TYPE, Reader, Value,
};

use crate::support::{add_to_log, bus_of, directory, draft, is_soak, numbers, verify};

/// The time that the clock of these tests gives.
const RECOVERY_TIME: f64 = 1777600000.0;

/// Options that quarantine an ambiguous tail, and a clock that counts its calls.
fn options() -> (OpenOptions, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let mut options = OpenOptions::new();
    options.on_ambiguous_tail(AmbiguousTail::Quarantine).clock(move || {
        counter.fetch_add(1, SeqCst);
        RECOVERY_TIME
    });
    (options, calls)
}

fn member(event: &Event, key: &str) -> Value {
    event.payload.value().get(key).cloned().unwrap_or_else(|| panic!("{} has no {key}", event.payload))
}

/// Checks that `record` describes a tail of these bytes, which began at `byte_offset`.
fn assert_records(record: &Event, tail: &[u8], byte_offset: usize, reason: &str) -> String {
    assert_eq!((record.event_type.as_str(), record.as_of), (RECOVERED_TYPE, RECOVERY_TIME));
    assert_eq!(record.trace_id, None);
    assert_eq!(member(record, "schema_version").as_str(), Some("zero.bus.recovered.v1"));
    assert_eq!(member(record, "byte_offset").as_u64(), Some(byte_offset as u64));
    assert_eq!(member(record, "bytes").as_u64(), Some(tail.len() as u64));
    assert_eq!(member(record, "reason").as_str(), Some(reason));
    assert_eq!(member(record, "sha256").as_str(), Some(Checksum::of(tail).to_string().as_str()));
    member(record, "file").as_str().unwrap().to_owned()
}

/// A bus of three events, then these bytes after its sync mark. Returns the length of the valid
/// part.
fn bus_with_tail(path: &Path, tail: &[u8]) -> usize {
    bus_of(path, 3);
    let valid_bytes = fs::metadata(path.join(LOG)).unwrap().len() as usize;
    add_to_log(path, tail);
    valid_bytes
}

fn event(path: &Path, index: u64) -> Event {
    Reader::open(path).unwrap().event(index).unwrap().unwrap()
}

/// A batch of two events of which a power cut lost the first page and kept the second: zeros, then
/// the end of the first line and the whole second one.
fn ambiguous_tail(path: &Path) -> Vec<u8> {
    let other = path.join("other");
    let events = bus_of(&other, 5);
    let batch = format!("{}\n{}\n", events[3].line(), events[4].line());
    let lost = events[3].line().len() - 10;
    [&vec![0; lost], &batch.as_bytes()[lost..]].concat()
}

#[test]
fn a_quarantined_torn_tail_is_the_next_event_of_the_chain() {
    let directory = directory();
    let tail = b"{\"as_of\":1777593604.0,\"checks";
    let byte_offset = bus_with_tail(directory.path(), tail);
    let (options, clock_calls) = options();
    let bus = options.open(directory.path()).unwrap();
    assert_eq!(bus.head().index, 4);
    bus.append(draft(4)).unwrap();
    let file = assert_records(&event(directory.path(), 4), tail, byte_offset, "torn");
    assert_eq!(fs::read(directory.path().join(&file)).unwrap(), tail);
    assert_eq!(bus.quarantined().len(), 1);
    assert_eq!((&bus.quarantined()[0].file, bus.quarantined()[0].reason), (&file, QuarantineReason::Torn));
    assert!(verify(directory.path()).ok());
    assert_eq!(numbers(directory.path()), [1, 2, 3, 4]);
    assert_eq!(clock_calls.load(SeqCst), 1);
    // Nothing is quarantined any more: no record, and the clock is not read.
    drop(bus);
    assert_eq!(options.open(directory.path()).unwrap().head().index, 5);
    assert_eq!(clock_calls.load(SeqCst), 1);
}

#[test]
fn an_ambiguous_tail_is_refused_or_quarantined_and_recorded() {
    let directory = directory();
    let tail = ambiguous_tail(directory.path());
    let byte_offset = bus_with_tail(directory.path(), &tail);
    let before = fs::read(directory.path().join(LOG)).unwrap();
    assert!(matches!(Bus::open(directory.path()), Err(Error::Ambiguous { .. })));
    assert_eq!(fs::read(directory.path().join(LOG)).unwrap(), before);
    let bus = options().0.open(directory.path()).unwrap();
    let message = bus.quarantined()[0].to_string();
    assert!(message.contains("ambiguous tail") && message.contains(&tail.len().to_string()), "{message}");
    let file = assert_records(&event(directory.path(), 4), &tail, byte_offset, "ambiguous");
    assert_eq!(fs::read(directory.path().join(file)).unwrap(), tail);
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_truncated_event_is_quarantined_and_recorded() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = fs::read(directory.path().join(LOG)).unwrap();
    let last_line = log[..log.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let tail = &log[last_line..last_line + 50];
    fs::write(directory.path().join(LOG), &log[..last_line + 50]).unwrap();
    let bus = options().0.open(directory.path()).unwrap();
    assert_eq!(bus.quarantined()[0].reason, QuarantineReason::Truncated);
    assert_records(&event(directory.path(), 3), tail, last_line, "truncated");
    assert!(verify(directory.path()).ok());
    assert_eq!(numbers(directory.path()), [1, 2]);
}

#[test]
fn a_tail_that_another_handle_left_is_recorded_by_the_next_append() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let bus = options().0.open(directory.path()).unwrap();
    let byte_offset = fs::metadata(directory.path().join(LOG)).unwrap().len() as usize;
    add_to_log(directory.path(), b"{\"as");
    assert_eq!(bus.append(draft(4)).unwrap().index, 5);
    assert_records(&event(directory.path(), 4), b"{\"as", byte_offset, "torn");
    assert_eq!(numbers(directory.path()), [1, 2, 3, 4]);
}

#[test]
fn a_tail_of_one_byte_and_one_of_white_space_are_recorded() {
    for tail in [&b"{"[..], b"x", b" {", b"\t\t{\"as_of"] {
        let directory = directory();
        let byte_offset = bus_with_tail(directory.path(), tail);
        options().0.open(directory.path()).unwrap();
        assert_records(&event(directory.path(), 4), tail, byte_offset, "torn");
        assert!(verify(directory.path()).ok());
    }
}

#[test]
fn only_recovery_writes_its_record() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let forged = Draft::new(RECOVERED_TYPE, 0.0, &std::collections::BTreeMap::from([("bytes", 1)])).unwrap();
    for refused in [bus.append(forged.clone()).map(drop), bus.submit(forged).map(drop)] {
        let message = refused.unwrap_err().to_string();
        assert_eq!(message, "event_type: `bus.recovered` is reserved: only recovery writes it");
    }
    assert_eq!(bus.head().index, 0);
}

/// A tail to recover on the simulated disk, and the reason that its record must state.
struct Case {
    reason: &'static str,
    log: Vec<u8>,
    lock_file: Vec<u8>,
    tail: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let directory = directory();
    bus_of(directory.path(), 3);
    let lock_file = fs::read(directory.path().join(LOCK)).unwrap();
    let valid = fs::read(directory.path().join(LOG)).unwrap();
    let last_line = valid[..valid.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let with_tail = |reason, tail: Vec<u8>| Case {
        reason,
        log: [&valid[..], &tail].concat(),
        lock_file: lock_file.clone(),
        tail,
    };
    vec![
        with_tail("torn", b"{\"as_of\":1777593604.0,\"checks".to_vec()),
        with_tail("torn", b"\t {".to_vec()),
        with_tail("ambiguous", ambiguous_tail(directory.path())),
        Case {
            reason: "truncated",
            log: valid[..last_line + 40].to_vec(),
            lock_file: lock_file.clone(),
            tail: valid[last_line..last_line + 40].to_vec(),
        },
    ]
}

/// Checks a disk after the last recovery: the quarantined bytes are all there, and exactly one
/// record names them.
fn check_recovered(disk: &SimDisk, case: &Case) -> Result<(), String> {
    let verdict = Reader::open_in(disk.storage()).verify().unwrap();
    if !verdict.ok() {
        return Err(verdict.integrity.reason());
    }
    let byte_offset = case.log.len() - case.tail.len();
    let events: Vec<Event> = Reader::open_in(disk.storage()).events(1).unwrap().map(Result::unwrap).collect();
    let records: Vec<&Event> = events.iter().filter(|event| event.event_type == RECOVERED_TYPE).collect();
    let [record] = records[..] else { return Err(format!("{} records", records.len())) };
    let valid_events = case.log[..byte_offset].iter().filter(|byte| **byte == b'\n').count() as u64;
    if record.index != valid_events + 1 {
        return Err(format!("the record is event {}", record.index));
    }
    // Another file than the first if a crash left half a copy in that one.
    let file = assert_records(record, &case.tail, byte_offset, case.reason);
    if disk.content(&file).as_deref() != Some(&case.tail) {
        return Err(format!("{file} does not hold the tail"));
    }
    Ok(())
}

/// A supervisor that starts a program again and again must not fill the disk with copies.
#[test]
fn attempts_that_fail_leave_no_further_copies() {
    for case in cases() {
        for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
            for call in 1.. {
                let disk = SimDisk::new();
                disk.put(LOG, &case.log);
                disk.put(LOCK, &case.lock_file);
                let mut has_failed = false;
                for _ in 0..3 {
                    disk.fail_at(disk.calls() + call, failure);
                    has_failed |= options().0.open_in(disk.storage()).is_err();
                }
                disk.fail_at(0, failure);
                drop(options().0.open_in(disk.storage()).unwrap());
                check_recovered(&disk, &case).unwrap();
                let copy = format!("{LOG}.torn-at-{}", case.log.len() - case.tail.len());
                // What a failed cut left is another tail, which is copied once.
                assert_eq!(disk.content(&format!("{copy}-3")), None, "{} {call}", case.reason);
                if !has_failed {
                    assert!(call > 5, "{call} calls");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_quarantined_hole_takes_no_space() {
    let directory = directory();
    let valid_bytes = bus_with_tail(directory.path(), b"");
    let tail_bytes = 20 << 20;
    let log = fs::OpenOptions::new().write(true).open(directory.path().join(LOG)).unwrap();
    log.set_len((valid_bytes + tail_bytes) as u64).unwrap();
    let bus = options().0.open(directory.path()).unwrap();
    let file = assert_records(&event(directory.path(), 4), &vec![0; tail_bytes], valid_bytes, "torn");
    let copy = fs::metadata(directory.path().join(file)).unwrap();
    assert_eq!(copy.len(), tail_bytes as u64);
    assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
    assert_eq!(bus.head().index, 4);
}

#[test]
fn a_power_cut_at_any_call_of_a_recovery_loses_neither_the_tail_nor_its_record() {
    let mut states = 0;
    for case in cases() {
        let new_disk = || {
            let disk = SimDisk::new();
            disk.put(LOG, &case.log);
            disk.put(LOCK, &case.lock_file);
            disk
        };
        let open = |storage: Arc<dyn Storage>| options().0.open_in(storage);
        for call in 1.. {
            let disk = new_disk();
            disk.crash_at(call);
            let opened = open(disk.storage());
            if !disk.crashed() {
                drop(opened.unwrap());
                check_recovered(&disk, &case).unwrap();
                break;
            }
            for (n, survivor) in disk.survivors(call, if is_soak() { 40 } else { 16 }).into_iter().enumerate()
            {
                // The power fails again, at each call of the second recovery.
                for second_call in 1.. {
                    let again = survivor.survivors(0, 1).remove(0);
                    again.crash_at(second_call);
                    let opened = open(again.storage());
                    if !again.crashed() {
                        drop(opened.unwrap());
                        states += 1;
                        check_recovered(&again, &case).unwrap_or_else(|problem| {
                            panic!("{}: call {call}, survivor {n}: {problem}", case.reason)
                        });
                        break;
                    }
                    for last in again.survivors(second_call, 6) {
                        let bus = open(last.storage()).unwrap();
                        bus.append(draft(9)).unwrap();
                        states += 1;
                        check_recovered(&last, &case).unwrap_or_else(|problem| {
                            panic!("{}: calls {call} and {second_call}, survivor {n}: {problem}", case.reason)
                        });
                    }
                }
            }
        }
    }
    println!("{states} disks");
    assert!(states > 1_000, "{states}");
}
