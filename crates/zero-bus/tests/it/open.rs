//! `OpenOptions`: whether a bus is created, how much may be pending, and the operator's decision
//! about an ambiguous tail.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::support::{WatchedStorage, add_to_log, bus_of, directory, draft, numbers, verify};
use zero_bus::sim::SimDisk;
use zero_bus::{AmbiguousTail, Bus, Draft, Error, OpenOptions};

fn open_existing(path: &Path) -> Result<Bus, Error> {
    OpenOptions::new().create(false).open(path)
}

#[test]
fn without_create_a_missing_bus_is_refused_and_nothing_is_created() {
    let directory = directory();
    let missing = directory.path().join("missing/bus");
    let refusal = open_existing(&missing).unwrap_err();
    assert!(matches!(refusal, Error::NotABus { .. }));
    assert_eq!(refusal.to_string(), format!("cannot open {}: there is no such directory", missing.display()));
    assert!(!directory.path().join("missing").exists());

    let refusal = open_existing(directory.path()).unwrap_err();
    assert!(matches!(refusal, Error::NotABus { .. }));
    assert!(refusal.to_string().ends_with("events.jsonl: there is no such log"), "{refusal}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    let disk = SimDisk::new();
    let refusal = OpenOptions::new().create(false).open_in(disk.storage()).unwrap_err();
    assert!(matches!(refusal, Error::NotABus { .. }));
    assert_eq!(disk.calls(), 0);

    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(open_existing(&file), Err(Error::NotABus { .. })));
}

#[test]
fn without_create_an_existing_bus_is_opened() {
    let directory = directory();
    bus_of(directory.path(), 3);
    assert_eq!(open_existing(directory.path()).unwrap().append(draft(4)).unwrap().index, 4);
    // A log without its lock file is a bus from elsewhere.
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    assert_eq!(open_existing(directory.path()).unwrap().append(draft(5)).unwrap().index, 5);
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_submission_blocks_while_max_pending_bytes_are_pending() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    // Smaller than any draft, so that each batch holds one submitted event.
    let bus = OpenOptions::new().max_pending_bytes(1).open_in(storage.clone()).unwrap();
    let submitted = AtomicUsize::new(0);
    storage.watched.sync_gate.close();
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(1)).unwrap());
        storage.watched.sync_gate.wait_for_sync();
        scope.spawn(|| {
            for number in 2..=20 {
                drop(bus.submit(draft(number)).unwrap());
                submitted.fetch_add(1, SeqCst);
            }
        });
        while submitted.load(SeqCst) < 1 {
            std::thread::yield_now();
        }
        // The second submission waits for the sync that the gate holds back.
        assert_eq!(submitted.load(SeqCst), 1);
        storage.watched.sync_gate.open();
    });
    drop(bus);
    assert_eq!(numbers(directory.path()), (1..=20).collect::<Vec<_>>());
    let line_bytes = fs::metadata(directory.path().join("events.jsonl")).unwrap().len() as usize / 20;
    assert!(storage.watched.max_append_bytes.load(SeqCst) < 2 * line_bytes);
}

#[test]
fn max_pending_bytes_of_0_does_not_block_for_ever() {
    let directory = directory();
    let bus = OpenOptions::new().max_pending_bytes(0).open(directory.path()).unwrap();
    (1..=5).for_each(|number| drop(bus.submit(draft(number)).unwrap()));
    drop(bus);
    assert_eq!(numbers(directory.path()), [1, 2, 3, 4, 5]);
}

#[test]
fn an_ambiguous_tail_is_quarantined_from_the_byte_that_the_operator_names() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = directory.path().join("events.jsonl");
    let valid_bytes = fs::metadata(&log).unwrap().len();
    // After the sync mark: a valid event that does not link to event 3.
    let other_path = directory.path().join("other");
    bus_of(&other_path, 4);
    let other_event = Bus::open(&other_path).unwrap().append(Draft { as_of: 7.0, ..draft(4) }).unwrap();
    add_to_log(directory.path(), format!("{}\n", other_event.line()).as_bytes());
    let before = fs::read(&log).unwrap();

    let open_from = |offset| {
        let from = AmbiguousTail::QuarantineFrom(offset);
        OpenOptions::new().create(false).on_ambiguous_tail(from).open(directory.path())
    };
    assert!(matches!(Bus::open(directory.path()), Err(Error::Ambiguous { .. })));
    assert!(matches!(open_from(valid_bytes - 1), Err(Error::Ambiguous { .. })));
    assert!(matches!(open_from(valid_bytes + 1), Err(Error::Ambiguous { .. })));
    assert_eq!(fs::read(&log).unwrap(), before);

    let bus = open_from(valid_bytes).unwrap();
    let quarantined = bus.quarantined();
    assert_eq!((quarantined.len(), quarantined[0].byte_offset), (1, valid_bytes));
    let kept = fs::read(directory.path().join(&quarantined[0].file)).unwrap();
    assert_eq!(kept, before[valid_bytes as usize..]);
    bus.append(draft(4)).unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(numbers(directory.path()), [1, 2, 3, 4]);
}
