//! Group commit through the public calls: what comes while a batch is synced shares the next write and sync.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::atomic::Ordering::SeqCst;

use support::{WatchedStorage, directory, draft, numbers, verify};
use zero_bus::{Bus, Error};

#[test]
fn what_comes_during_a_sync_shares_the_next_one() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    let before = storage.watched.syncs.load(SeqCst);
    storage.watched.gate.set_shut(true);
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(1)).unwrap());
        storage.watched.gate.until_somebody_waits();
        let tickets: Vec<_> = (2..=50).map(|number| bus.submit(draft(number)).unwrap()).collect();
        storage.watched.gate.set_shut(false);
        for (ticket, index) in tickets.into_iter().zip(2..) {
            assert_eq!(ticket.wait().unwrap().index, index);
        }
    });
    assert_eq!(storage.watched.syncs.load(SeqCst) - before, 2);
    assert_eq!(numbers(directory.path()), (1..=50).collect::<Vec<_>>());
}

#[test]
fn what_was_submitted_is_committed_without_being_waited_for() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let dropped: Vec<_> = (1..=20).map(|number| bus.submit(draft(number)).unwrap()).collect();
    drop(dropped);
    // In its place behind those before it, though they were only submitted.
    assert_eq!(bus.append(draft(21)).unwrap().index, 21);
    (22..=30).for_each(|number| drop(bus.submit(draft(number)).unwrap()));
    drop(bus);
    assert_eq!(numbers(directory.path()), (1..=30).collect::<Vec<_>>());
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_ticket_outlives_its_handle() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let ticket = bus.submit(draft(1)).unwrap();
    drop(bus);
    assert_eq!(ticket.wait().unwrap().index, 1);
}

#[test]
fn a_failed_sync_is_told_to_everybody_who_waits() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    bus.append(draft(1)).unwrap();
    storage.watched.gate.set_shut(true);
    storage.watched.fail_sync.store(true, SeqCst);
    let told = std::thread::scope(|scope| {
        let appender = scope.spawn(|| bus.append(draft(2)).map(drop));
        storage.watched.gate.until_somebody_waits();
        let tickets: Vec<_> = (3..=9).map(|number| bus.submit(draft(number)).unwrap()).collect();
        storage.watched.gate.set_shut(false);
        let mut told = vec![appender.join().unwrap()];
        told.extend(tickets.into_iter().map(|ticket| ticket.wait().map(drop)));
        told
    });
    assert!(matches!(told[0], Err(Error::Io { .. })));
    assert!(told[1..].iter().all(|told| matches!(told, Err(Error::Poisoned { .. }))), "{told:?}");
    // Nothing of what nobody was told of is there afterwards.
    let reopened = Bus::open(directory.path()).unwrap();
    assert_eq!(reopened.head().index, 1);
}

/// An event that is refused by its size does not take the others of its batch along.
#[test]
fn a_job_that_cannot_be_fails_alone() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    // Just short enough to be let in line, and too long once it has its index.
    let frame = bus.append(draft(1)).unwrap().line().len() - r#"{"number":1}"#.len();
    storage.watched.gate.set_shut(true);
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(2)).unwrap());
        storage.watched.gate.until_somebody_waits();
        let text = "x".repeat(zero_bus::MAX_LINE_BYTES - frame - r#"{"a":""}"#.len() - 60);
        let payload = zero_bus::Json::of(&std::collections::BTreeMap::from([("a", text)])).unwrap();
        let long = bus.submit(zero_bus::Draft { payload, ..draft(3) }).unwrap();
        let short = bus.submit(draft(4)).unwrap();
        storage.watched.gate.set_shut(false);
        assert!(matches!(long.wait(), Err(Error::Invalid { field: "payload", .. })));
        assert_eq!(short.wait().unwrap().index, 3);
    });
    assert_eq!(numbers(directory.path()), [1, 2, 4]);
    assert!(fs::metadata(directory.path().join("events.jsonl")).unwrap().len() < 4096);
}
