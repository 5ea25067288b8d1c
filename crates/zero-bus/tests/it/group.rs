//! Group commit through the public interface: events that arrive during a sync share the next write
//! and sync.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::support::{WatchedStorage, directory, draft, numbers, verify};
use zero_bus::{Bus, Error};

#[test]
fn events_that_arrive_during_a_sync_share_the_next_one() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    let before = storage.watched.syncs.load(SeqCst);
    storage.watched.sync_gate.close();
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(1)).unwrap());
        storage.watched.sync_gate.wait_for_sync();
        let tickets: Vec<_> = (2..=50).map(|number| bus.submit(draft(number)).unwrap()).collect();
        storage.watched.sync_gate.open();
        for (ticket, index) in tickets.into_iter().zip(2..) {
            assert_eq!(ticket.wait().unwrap().index, index);
        }
    });
    assert_eq!(storage.watched.syncs.load(SeqCst) - before, 2);
    assert_eq!(numbers(directory.path()), (1..=50).collect::<Vec<_>>());
}

#[test]
fn submitted_events_are_committed_without_a_waiter() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let dropped: Vec<_> = (1..=20).map(|number| bus.submit(draft(number)).unwrap()).collect();
    drop(dropped);
    // Appended after the events that its thread submitted before it.
    assert_eq!(bus.append(draft(21)).unwrap().index, 21);
    (22..=30).for_each(|number| drop(bus.submit(draft(number)).unwrap()));
    drop(bus);
    assert_eq!(numbers(directory.path()), (1..=30).collect::<Vec<_>>());
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_producer_that_submits_faster_than_the_disk_syncs_is_blocked() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    let text = "x".repeat(64 << 10);
    let payload = zero_bus::Json::of(&std::collections::BTreeMap::from([("text", &text)])).unwrap();
    // Every long part of a draft counts.
    let drafts: Vec<_> = (2..=200)
        .map(|number| match number % 2 {
            0 => zero_bus::Draft { payload: payload.clone(), ..draft(number) },
            _ => zero_bus::Draft { trace_id: Some(text.clone()), ..draft(number) },
        })
        .collect();
    let submitted = AtomicUsize::new(0);
    storage.watched.sync_gate.close();
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(1)).unwrap());
        storage.watched.sync_gate.wait_for_sync();
        scope.spawn(|| {
            for draft in drafts {
                drop(bus.submit(draft).unwrap());
                submitted.fetch_add(1, SeqCst);
            }
        });
        while submitted.load(SeqCst) < 16 {
            std::thread::yield_now();
        }
        // Sixteen drafts are 1 MiB, and the gate holds the sync back.
        assert_eq!(submitted.load(SeqCst), 16);
        storage.watched.sync_gate.open();
    });
    drop(bus);
    let max_bytes = storage.watched.max_append_bytes.load(SeqCst);
    assert!(max_bytes > 1 << 20 && max_bytes < 2 << 20, "{max_bytes} bytes in one batch");
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
fn a_failed_sync_reaches_every_waiter() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    bus.append(draft(1)).unwrap();
    storage.watched.sync_gate.close();
    storage.watched.fail_sync.store(true, SeqCst);
    let results = std::thread::scope(|scope| {
        let appender = scope.spawn(|| bus.append(draft(2)).map(drop));
        storage.watched.sync_gate.wait_for_sync();
        let tickets: Vec<_> = (3..=9).map(|number| bus.submit(draft(number)).unwrap()).collect();
        storage.watched.sync_gate.open();
        let mut results = vec![appender.join().unwrap()];
        results.extend(tickets.into_iter().map(|ticket| ticket.wait().map(drop)));
        results
    });
    assert!(matches!(results[0], Err(Error::Io { .. })));
    assert!(results[1..].iter().all(|result| matches!(result, Err(Error::Poisoned { .. }))), "{results:?}");
    // A producer that drops its tickets learns of the failure from the next call.
    assert!(matches!(bus.submit(draft(10)), Err(Error::Poisoned { .. })));
    // Events that were not acknowledged are gone.
    let reopened = Bus::open(directory.path()).unwrap();
    assert_eq!(reopened.head().index, 1);
}

#[test]
fn a_panicking_leader_releases_its_waiters_and_the_lock() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    bus.append(draft(1)).unwrap();
    storage.watched.sync_gate.close();
    storage.watched.panic_sync.store(true, SeqCst);
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| bus.append(draft(2)));
        storage.watched.sync_gate.wait_for_sync();
        let waiter = scope.spawn(|| bus.append(draft(3)));
        let tickets: Vec<_> = (4..=9).map(|number| bus.submit(draft(number)).unwrap()).collect();
        storage.watched.sync_gate.open();
        assert!(leader.join().is_err());
        assert!(matches!(waiter.join().unwrap(), Err(Error::Poisoned { .. })));
        for ticket in tickets {
            assert!(matches!(ticket.wait(), Err(Error::Poisoned { .. })));
        }
    });
    // The lock was released, so another handle can open the bus.
    let reopened = Bus::open(directory.path()).unwrap();
    assert!(matches!(bus.append(draft(10)), Err(Error::Poisoned { .. })));
    // The leader's event was written and may have been synced, so both outcomes are correct.
    assert!((1..=2).contains(&reopened.head().index));
    reopened.append(draft(11)).unwrap();
    assert!(verify(directory.path()).ok());
}

/// Eight threads on two handles. Each gets its own events back, once and in order, and all are in
/// the log.
#[test]
fn append_append_batch_and_submit_at_once_lose_no_event_and_keep_its_order() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 150;
    let directory = directory();
    let handles = [(); 2].map(|()| Bus::open(directory.path()).unwrap());
    // For each thread, the index and the number of each returned event.
    let returned: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let bus = &handles[thread as usize % 2];
                scope.spawn(move || {
                    let mut next_number = thread * 1_000_000;
                    let mut returned = Vec::new();
                    let mut record = |number: u64, event: zero_bus::Event| {
                        assert_eq!(event.payload.as_str(), format!(r#"{{"number":{number}}}"#));
                        returned.push((event.index, number));
                    };
                    for round in 0..ROUNDS {
                        let numbers: Vec<u64> =
                            (next_number..next_number + 1 + (round * 7 + thread) % 4).collect();
                        next_number += numbers.len() as u64;
                        let drafts = numbers.iter().map(|number| draft(*number));
                        match (round + thread) % 3 {
                            0 => drafts
                                .zip(&numbers)
                                .for_each(|(draft, number)| record(*number, bus.append(draft).unwrap())),
                            1 => {
                                let events = bus.append_batch(drafts.collect()).unwrap();
                                events
                                    .into_iter()
                                    .zip(&numbers)
                                    .for_each(|(event, number)| record(*number, event));
                            }
                            _ => {
                                let tickets: Vec<_> =
                                    drafts.map(|draft| bus.submit(draft).unwrap()).collect();
                                // Enqueued after the submitted events, and waited for before them.
                                next_number += 1;
                                let last = bus.append(draft(next_number - 1)).unwrap();
                                tickets
                                    .into_iter()
                                    .zip(&numbers)
                                    .for_each(|(ticket, number)| record(*number, ticket.wait().unwrap()));
                                record(next_number - 1, last);
                            }
                        }
                    }
                    returned
                })
            })
            .collect();
        producers.into_iter().map(|producer| producer.join().unwrap()).collect()
    });
    assert!(returned.iter().all(|events| events.is_sorted()), "a thread's events changed their order");
    let mut all = returned.concat();
    all.sort_unstable();
    assert_eq!(
        all.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        (1..=all.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!(numbers(directory.path()), all.iter().map(|(_, number)| *number).collect::<Vec<_>>());
    assert!(verify(directory.path()).ok());
}

#[test]
fn an_event_that_is_too_long_fails_alone_in_its_batch() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    // Short enough to be enqueued, and too long once the event has its index.
    let frame_bytes = bus.append(draft(1)).unwrap().line().len() - r#"{"number":1}"#.len();
    storage.watched.sync_gate.close();
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(2)).unwrap());
        storage.watched.sync_gate.wait_for_sync();
        let text = "x".repeat(zero_bus::MAX_LINE_BYTES - frame_bytes - r#"{"a":""}"#.len() - 60);
        let payload = zero_bus::Json::of(&std::collections::BTreeMap::from([("a", text)])).unwrap();
        let short = bus.submit(draft(3)).unwrap();
        let long = bus.submit(zero_bus::Draft { payload, ..draft(4) }).unwrap();
        let after = scope.spawn(|| bus.append(draft(5)).unwrap());
        storage.watched.sync_gate.open();
        assert_eq!(short.wait().unwrap().index, 3);
        assert!(matches!(long.wait(), Err(Error::Invalid { field: "payload", .. })));
        assert_eq!(after.join().unwrap().index, 4);
    });
    assert_eq!(numbers(directory.path()), [1, 2, 3, 5]);
    assert!(fs::metadata(directory.path().join("events.jsonl")).unwrap().len() < 4096);
}
