//! `append_expecting`: an event is appended only if the chain's head is the expected one, whoever
//! else appends.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{WatchedStorage, directory, draft, numbers, verify};
use zero_bus::{Bus, Checksum, Error, Event, Head};

/// Returns the actual head of a refused append.
#[track_caller]
fn actual_head(result: Result<Event, Error>) -> Head {
    match result {
        Err(Error::HeadMismatch { actual, .. }) => actual,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_is_appended_if_the_head_is_the_expected_one() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let first = bus.append_expecting(Head::default(), draft(1)).unwrap();
    let second = bus.append_expecting(first.head(), draft(2)).unwrap();
    assert_eq!(second.previous_checksum, Some(first.checksum));
    // Without a checksum, any event at the index is expected.
    let third = bus.append_expecting(Head { index: 2, checksum: None }, draft(3)).unwrap();
    assert_eq!(bus.head(), third.head());
    assert!(verify(directory.path()).ok());
    assert_eq!(numbers(directory.path()), [1, 2, 3]);
}

#[test]
fn a_head_mismatch_writes_nothing_and_returns_the_actual_head() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let stranger = Head { index: 0, checksum: Some(Checksum::of(b"x")) };
    assert_eq!(actual_head(bus.append_expecting(stranger, draft(1))), Head::default());
    let first = bus.append(draft(1)).unwrap();
    let second = bus.append(draft(2)).unwrap();
    let before = fs::read(bus.log_path()).unwrap();
    for expected in [
        Head::default(),
        first.head(),
        Head { index: 2, checksum: Some(first.checksum) },
        Head { index: 3, checksum: None },
        Head { index: u64::MAX, checksum: Some(second.checksum) },
    ] {
        assert_eq!(actual_head(bus.append_expecting(expected, draft(3))), second.head(), "{expected}");
    }
    assert_eq!(fs::read(bus.log_path()).unwrap(), before);
    let refusal = bus.append_expecting(first.head(), draft(3)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!(
            "{}: nothing was appended, since the head is {}, not {}. Read the new events, then decide again",
            bus.log_path().display(),
            second.head(),
            first.head()
        )
    );
    // The handle accepts further events.
    assert_eq!(bus.append_expecting(second.head(), draft(3)).unwrap().index, 3);
    assert!(verify(directory.path()).ok());
}

#[test]
fn the_head_includes_events_of_other_handles() {
    let directory = directory();
    let one = Bus::open(directory.path()).unwrap();
    let other = Bus::open(directory.path()).unwrap();
    let first = one.append(draft(1)).unwrap();
    // `other` has not seen the first event, and still compares with the real head.
    assert_eq!(actual_head(other.append_expecting(Head::default(), draft(2))), first.head());
    assert_eq!(other.append_expecting(first.head(), draft(2)).unwrap().index, 2);
    assert_eq!(actual_head(one.append_expecting(first.head(), draft(3))).index, 2);
}

#[test]
fn of_many_threads_that_expect_the_same_head_exactly_one_wins() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 40;
    let directory = directory();
    let handles = [(); 2].map(|()| Bus::open(directory.path()).unwrap());
    let mut head = Head::default();
    for round in 0..ROUNDS {
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let bus = &handles[thread as usize % 2];
                    scope.spawn(move || bus.append_expecting(head, draft(round * THREADS + thread)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1);
        let winner = winners[0].head();
        for result in results.into_iter().filter(Result::is_err) {
            assert_eq!(actual_head(result), winner);
        }
        head = winner;
    }
    assert_eq!(head.index, ROUNDS);
    assert!(verify(directory.path()).ok());
}

/// Each event holds the index of the head that its producer saw. Other threads append without an
/// expectation and so make expectations fail.
#[test]
fn threads_that_retry_after_a_mismatch_append_only_to_the_head_that_they_saw() {
    const PRODUCERS: u64 = 4;
    const EVENTS: u64 = 25;
    const UNCONDITIONAL: u64 = 1_000_000;
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                let mut head = bus.head();
                let mut appended = 0;
                while appended < EVENTS {
                    match bus.append_expecting(head, draft(head.index)) {
                        Ok(event) => {
                            assert_eq!(event.index, head.index + 1);
                            head = event.head();
                            appended += 1;
                        }
                        Err(Error::HeadMismatch { expected, actual, .. }) => {
                            assert_eq!(expected, head);
                            assert_ne!(actual, head);
                            head = actual;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..EVENTS {
                bus.append(draft(UNCONDITIONAL)).unwrap();
                drop(bus.submit(draft(UNCONDITIONAL)).unwrap());
            }
        });
    });
    drop(bus);
    assert!(verify(directory.path()).ok());
    let all = numbers(directory.path());
    assert_eq!(all.len() as u64, (PRODUCERS + 2) * EVENTS);
    for (index_before, number) in all.into_iter().enumerate() {
        assert!(number == UNCONDITIONAL || number == index_before as u64);
    }
}

#[test]
fn a_head_mismatch_fails_alone_in_its_batch() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    storage.watched.sync_gate.close();
    std::thread::scope(|scope| {
        scope.spawn(|| bus.append(draft(1)).unwrap());
        storage.watched.sync_gate.wait_for_sync();
        let second = bus.submit(draft(2)).unwrap();
        let stale = scope.spawn(|| bus.append_expecting(Head::default(), draft(100)));
        // The head that this one expects is an event of the same batch.
        let expecting = scope.spawn(|| bus.append_expecting(Head { index: 2, checksum: None }, draft(3)));
        storage.watched.sync_gate.open();
        assert_eq!(second.wait().unwrap().index, 2);
        assert!(actual_head(stale.join().unwrap()).index >= 1);
        assert_eq!(expecting.join().unwrap().unwrap().index, 3);
    });
    assert_eq!(numbers(directory.path()), [1, 2, 3]);
    assert!(verify(directory.path()).ok());
}

/// Appends `EVENTS_PER_PROCESS` events, each with the index of the head that this process saw.
fn append_after_own_reads(path: &Path, first_number: u64) {
    let bus = Bus::open(path).unwrap();
    let mut appended = 0;
    while appended < EVENTS_PER_PROCESS {
        let head = bus.reader().head().unwrap();
        match bus.append_expecting(head, draft(first_number + head.index)) {
            Ok(_) => appended += 1,
            Err(Error::HeadMismatch { actual, .. }) => assert!(actual.index > head.index),
            Err(error) => panic!("{error}"),
        }
    }
}

const EVENTS_PER_PROCESS: u64 = 50;
const SECOND_PROCESS: u64 = 1_000_000;

#[test]
fn two_processes_append_only_to_the_head_that_they_saw() {
    const BUS: &str = "ZERO_BUS_TEST_EXPECT_BUS";
    if let Some(path) = std::env::var_os(BUS) {
        // This is the second process: the test runs itself again.
        return append_after_own_reads(Path::new(&path), SECOND_PROCESS);
    }
    let directory = directory();
    let second_process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "expect::two_processes_append_only_to_the_head_that_they_saw"])
        .env(BUS, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    append_after_own_reads(directory.path(), 0);
    let output = second_process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(verify(directory.path()).ok());
    let all = numbers(directory.path());
    assert_eq!(all.len() as u64, 2 * EVENTS_PER_PROCESS);
    for (index_before, number) in all.iter().enumerate() {
        assert_eq!(number % SECOND_PROCESS, index_before as u64);
    }
    let of_second_process = all.iter().filter(|number| **number >= SECOND_PROCESS).count() as u64;
    assert_eq!(of_second_process, EVENTS_PER_PROCESS);
}

/// Any sequence of expectations, right and wrong, on several handles leaves what a `Vec` would
/// hold.
#[test]
fn expectations_on_several_handles_match_a_vec() {
    use proptest::prelude::*;
    let steps = prop::collection::vec((0..3usize, 0..4u64, any::<bool>(), any::<bool>()), 1..30);
    proptest!(ProptestConfig::with_cases(40), |(steps in steps)| {
        let directory = directory();
        let handles: Vec<Bus> = (0..3).map(|_| Bus::open(directory.path()).unwrap()).collect();
        let mut model: Vec<Event> = Vec::new();
        for (handle, distance, with_checksum, with_right_checksum) in steps {
            let head = model.last().map(Event::head).unwrap_or_default();
            // Distance 1 is a head that is still to come, any other one a head of the past.
            let index = if distance == 1 { head.index + 1 } else { head.index.saturating_sub(distance / 2) };
            let right = index.checked_sub(1).and_then(|at| model.get(at as usize)).map(|event| event.checksum);
            let checksum = match (with_checksum, with_right_checksum) {
                (false, _) => None,
                (true, true) => right,
                (true, false) => Some(Checksum::of(b"another event")),
            };
            let expected = Head { index, checksum };
            let matches = index == head.index && (checksum.is_none() || checksum == head.checksum);
            let number = model.len() as u64;
            match handles[handle].append_expecting(expected, draft(number)) {
                Ok(event) => {
                    prop_assert!(matches, "{} was appended to {}", expected, head);
                    model.push(event);
                }
                Err(Error::HeadMismatch { actual, expected: returned, .. }) => {
                    prop_assert!(!matches, "{} was refused at {}", expected, head);
                    prop_assert_eq!((actual, returned), (head, expected));
                }
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert_eq!(numbers(directory.path()), (0..model.len() as u64).collect::<Vec<_>>());
        prop_assert!(verify(directory.path()).ok());
    });
}
