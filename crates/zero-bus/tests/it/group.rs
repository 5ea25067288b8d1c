//! Group commit through the public calls: what comes while a batch is synced shares the next write and sync.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::support::{WatchedStorage, directory, draft, numbers, verify};
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

/// Who submits without end fills no memory: it waits for the disk.
#[test]
fn who_submits_faster_than_the_disk_syncs_waits_for_it() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    let text = "x".repeat(64 << 10);
    let payload = zero_bus::Json::of(&std::collections::BTreeMap::from([("text", &text)])).unwrap();
    // Whichever part of an event it is that is long.
    let drafts: Vec<_> = (2..=200)
        .map(|number| match number % 2 {
            0 => zero_bus::Draft { payload: payload.clone(), ..draft(number) },
            _ => zero_bus::Draft { trace_id: Some(text.clone()), ..draft(number) },
        })
        .collect();
    let submitted = AtomicUsize::new(0);
    storage.watched.gate.set_shut(true);
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(1)).unwrap());
        storage.watched.gate.until_somebody_waits();
        scope.spawn(|| {
            for draft in drafts {
                drop(bus.submit(draft).unwrap());
                submitted.fetch_add(1, SeqCst);
            }
        });
        while submitted.load(SeqCst) < 16 {
            std::thread::yield_now();
        }
        // Sixteen of them are a mebibyte, and nothing is synced yet.
        assert_eq!(submitted.load(SeqCst), 16);
        storage.watched.gate.set_shut(false);
    });
    drop(bus);
    let longest = storage.watched.longest_append.load(SeqCst);
    assert!(longest > 1 << 20 && longest < 2 << 20, "{longest} bytes in one batch");
    let verdict = verify(directory.path());
    assert!(verdict.ok() && verdict.integrity.head.index == 200);
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
    // Who waits for no ticket is told by the next one.
    assert!(matches!(bus.submit(draft(10)), Err(Error::Poisoned { .. })));
    // Nothing of what nobody was told of is there afterwards.
    let reopened = Bus::open(directory.path()).unwrap();
    assert_eq!(reopened.head().index, 1);
}

/// Who commits and panics takes nobody along: the others are told, and nothing of it is there afterwards.
#[test]
fn a_panic_in_the_middle_holds_nobody_up() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    bus.append(draft(1)).unwrap();
    storage.watched.gate.set_shut(true);
    storage.watched.panic_sync.store(true, SeqCst);
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| bus.append(draft(2)));
        storage.watched.gate.until_somebody_waits();
        let waits = scope.spawn(|| bus.append(draft(3)));
        let tickets: Vec<_> = (4..=9).map(|number| bus.submit(draft(number)).unwrap()).collect();
        storage.watched.gate.set_shut(false);
        assert!(panics.join().is_err());
        assert!(matches!(waits.join().unwrap(), Err(Error::Poisoned { .. })));
        for ticket in tickets {
            assert!(matches!(ticket.wait(), Err(Error::Poisoned { .. })));
        }
    });
    // Another handle need not wait for this one to go: it was released.
    let reopened = Bus::open(directory.path()).unwrap();
    assert!(matches!(bus.append(draft(10)), Err(Error::Poisoned { .. })));
    // It was written, and nobody knows whether it was synced: either is right.
    assert!((1..=2).contains(&reopened.head().index));
    reopened.append(draft(11)).unwrap();
    assert!(verify(directory.path()).ok());
}

/// Every way to append at once, on two handles: everybody is told of its own events, once, in its order, and all are there.
#[test]
fn all_ways_at_once_lose_and_mix_up_nothing() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 150;
    let directory = directory();
    let handles = [(); 2].map(|()| Bus::open(directory.path()).unwrap());
    let told: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let bus = &handles[thread as usize % 2];
                scope.spawn(move || {
                    let mut next = thread * 1_000_000;
                    let mut told = Vec::new();
                    let mut tell = |number: u64, event: zero_bus::Event| {
                        assert_eq!(event.payload.as_str(), format!(r#"{{"number":{number}}}"#));
                        told.push((event.index, number));
                    };
                    for round in 0..ROUNDS {
                        let numbers: Vec<u64> = (next..next + 1 + (round * 7 + thread) % 4).collect();
                        next += numbers.len() as u64;
                        let drafts = numbers.iter().map(|number| draft(*number));
                        match (round + thread) % 3 {
                            0 => drafts
                                .zip(&numbers)
                                .for_each(|(draft, number)| tell(*number, bus.append(draft).unwrap())),
                            1 => {
                                let events = bus.append_batch(drafts.collect()).unwrap();
                                events
                                    .into_iter()
                                    .zip(&numbers)
                                    .for_each(|(event, number)| tell(*number, event));
                            }
                            _ => {
                                let tickets: Vec<_> =
                                    drafts.map(|draft| bus.submit(draft).unwrap()).collect();
                                // In line behind them, and waited for before them.
                                next += 1;
                                let last = bus.append(draft(next - 1)).unwrap();
                                tickets
                                    .into_iter()
                                    .zip(&numbers)
                                    .for_each(|(ticket, number)| tell(*number, ticket.wait().unwrap()));
                                tell(next - 1, last);
                            }
                        }
                    }
                    told
                })
            })
            .collect();
        producers.into_iter().map(|producer| producer.join().unwrap()).collect()
    });
    assert!(told.iter().all(|told| told.is_sorted()), "somebody's events changed their order");
    let mut all = told.concat();
    all.sort_unstable();
    assert_eq!(
        all.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        (1..=all.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!(numbers(directory.path()), all.iter().map(|(_, number)| *number).collect::<Vec<_>>());
    assert!(verify(directory.path()).ok());
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
        let short = bus.submit(draft(3)).unwrap();
        let long = bus.submit(zero_bus::Draft { payload, ..draft(4) }).unwrap();
        let behind = scope.spawn(|| bus.append(draft(5)).unwrap());
        storage.watched.gate.set_shut(false);
        assert_eq!(short.wait().unwrap().index, 3);
        assert!(matches!(long.wait(), Err(Error::Invalid { field: "payload", .. })));
        assert_eq!(behind.join().unwrap().index, 4);
    });
    assert_eq!(numbers(directory.path()), [1, 2, 3, 5]);
    assert!(fs::metadata(directory.path().join("events.jsonl")).unwrap().len() < 4096);
}
