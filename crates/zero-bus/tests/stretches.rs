//! A log that is long enough for several threads is judged as one thread judges it, whatever is wrong with it.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use zero_bus::{Bus, Draft, Error, Event, Reader, Verdict};

/// Some six megabytes: lines of two kilobytes, and one that is longer than a stretch.
fn long_log(path: &Path) {
    let bus = Bus::open(path).unwrap();
    let draft = |number: usize| {
        let length = if number == 1500 { 3 << 20 } else { 1800 };
        let payload = BTreeMap::from([("text", "x".repeat(length)), ("number", number.to_string())]);
        let kind = if number.is_multiple_of(700) { "rare" } else { "common" };
        Draft::new(kind, 1777593600.0, &payload).unwrap().traced(format!("t{}", number % 3))
    };
    bus.append_batch((1..=2000).map(draft).collect()).unwrap();
    bus.write_snapshot(0.0, None, &BTreeMap::from([("n", 1)])).unwrap();
}

fn judged(path: &Path, threads: usize) -> Verdict {
    Reader::open(path).unwrap().verify_with(NonZeroUsize::new(threads).unwrap(), &mut |_| {}).unwrap()
}

type Found = (Vec<Event>, Result<(), String>);

/// What reading event by event finds of a kind, and what it ends with.
fn read(path: &Path, from: u64, wanted: &str) -> Found {
    let mut found = Vec::new();
    for event in Reader::open(path).unwrap().events(from).unwrap() {
        match event {
            Ok(event) if event.event_type == wanted => found.push(event),
            Ok(_) => {}
            Err(error) => return (found, Err(error.to_string())),
        }
    }
    (found, Ok(()))
}

fn selected(path: &Path, from: u64, wanted: &str) -> Found {
    let mut found = Vec::new();
    let ended = Reader::open(path).unwrap().select(
        from,
        |kind, trace| kind == wanted && trace.is_some(),
        |event| {
            found.push(event);
            Ok::<(), Error>(())
        },
    );
    (found, ended.map(drop).map_err(|error| error.to_string()))
}

#[test]
fn several_threads_see_what_one_sees() {
    let place = support::directory();
    long_log(place.path());
    let log = place.path().join("events.jsonl");
    let sound = fs::read(&log).unwrap();
    assert!(sound.len() > 6 << 20);
    let verdict = judged(place.path(), 1);
    assert!(verdict.ok() && verdict.integrity.head.index == 2000);
    let line = |number: usize| {
        let mut breaks = sound.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        if number == 0 { 0 } else { breaks.nth(number - 1).unwrap() }
    };
    // One line each: changed, removed, doubled, respelled, cut off, without its break; early, late, and the long one.
    for number in [0, 1, 600, 1100, 1499, 1500, 1999] {
        let (begin, end) = (line(number), line(number + 1));
        let mut broken = vec![sound.clone(); 6];
        broken[0][begin + 700] ^= 1;
        drop(broken[1].drain(begin..end));
        drop(broken[2].splice(begin..begin, sound[begin..end].iter().copied()));
        drop(broken[3].splice(begin..begin, *b" \n "));
        broken[4].truncate(begin + 100);
        broken[5].remove(end - 1);
        for (kind, content) in broken.into_iter().enumerate() {
            fs::write(&log, content).unwrap();
            let one = judged(place.path(), 1);
            assert_eq!(one.ok(), kind == 3 || (kind == 5 && number == 1999), "{kind} at {number}");
            for threads in [2, 3, 8] {
                assert_eq!(judged(place.path(), threads), one, "{kind} at {number}, {threads} threads");
            }
            let mut document = Vec::new();
            let (audited, _) = Reader::open(place.path()).unwrap().audit(&mut document, &mut |_| {}).unwrap();
            assert_eq!(audited, one);
            for from in [1, 650, 1600] {
                for wanted in ["rare", "common"] {
                    let (found, expected) =
                        (selected(place.path(), from, wanted), read(place.path(), from, wanted));
                    assert!(found == expected, "{wanted} from {from}, {kind} at {number}");
                }
            }
        }
    }
}
