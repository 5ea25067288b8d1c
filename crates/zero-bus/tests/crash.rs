//! The power goes at every call, and each call fails once: what was acknowledged is there afterwards, what was not is
//! there whole or not at all, and the chain is sound.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use support::draft;
use zero_bus::sim::{Failure, SimDisk};
use zero_bus::{Bus, Error, Event, Finding, Reader, Result};

/// What a workload handed in, in order, and what it was told is durable.
#[derive(Default)]
struct Told {
    handed_in: Vec<u64>,
    acknowledged: Vec<u64>,
}

/// Appends some events, remembering what was said of them.
fn append(bus: &Bus, told: &mut Told, numbers: std::ops::Range<u64>) -> Result<()> {
    told.handed_in.extend(numbers.clone());
    bus.append_batch(numbers.clone().map(draft).collect())?;
    told.acknowledged.extend(numbers);
    Ok(())
}

fn snapshot(bus: &Bus) -> Result<()> {
    bus.write_snapshot(1.0, None, &BTreeMap::from([("events", bus.head().index)])).map(drop)
}

/// Opening, single events, batches, snapshots, a second handle in between, opening again.
fn workload(disk: &SimDisk, told: &mut Told) -> Result<()> {
    let bus = Bus::open_in(disk.storage())?;
    append(&bus, told, 1..2)?;
    append(&bus, told, 2..6)?;
    snapshot(&bus)?;
    let other = Bus::open_in(disk.storage())?;
    append(&other, told, 6..7)?;
    append(&bus, told, 7..9)?;
    snapshot(&bus)?;
    drop(bus);
    let again = Bus::open_in(disk.storage())?;
    append(&again, told, 9..12)
}

fn numbers(disk: &SimDisk) -> Vec<u64> {
    let number =
        |event: Result<Event>| event.unwrap().payload.value().get("number").unwrap().as_u64().unwrap();
    Reader::open_in(disk.storage()).events(1).unwrap().map(number).collect()
}

/// Counts of what a test went through.
#[derive(Default, Debug)]
struct Counts {
    points: u64,
    states: u64,
    undecided: u64,
    recoveries_crashed: u64,
}

/// A disk as it was found: recovered, or refused for a reason that is true.
fn check(found: &SimDisk, told: &Told, counts: &mut Counts, seed: u64, recoveries: bool) {
    counts.states += 1;
    let before = Reader::open_in(found.storage()).verify(&mut |_| {}).unwrap();
    assert!(
        !matches!(before.integrity.finding, Finding::Fault(_)),
        "seed {seed}: a crash is reported as damage: {}",
        before.integrity.reason()
    );
    if recoveries {
        // The power goes again while the log is being mended.
        for call in 1.. {
            let copy = found.survivors(seed, 1).remove(0);
            copy.crash_at(call);
            let opened = Bus::open_in(copy.storage());
            if !copy.crashed() {
                break;
            }
            assert!(opened.is_err());
            counts.recoveries_crashed += 1;
            for again in copy.survivors(seed + call, 4) {
                check(&again, told, counts, seed, false);
            }
        }
    }
    let bus = match Bus::open_in(found.storage()) {
        Ok(bus) => bus,
        Err(Error::Undecided { .. }) => {
            counts.undecided += 1;
            return;
        }
        Err(error) => panic!("seed {seed}: {error}"),
    };
    let there = numbers(found);
    assert!(
        there.len() >= told.acknowledged.len(),
        "seed {seed}: {there:?} lacks of {:?}",
        told.acknowledged
    );
    assert_eq!(there, told.handed_in[..there.len()], "seed {seed}");
    bus.append(draft(1000)).unwrap();
    let after = Reader::open_in(found.storage()).verify(&mut |_| {}).unwrap();
    assert!(after.ok(), "seed {seed}: {} / {}", after.integrity.reason(), after.snapshot_integrity.reason);
}

#[test]
fn the_power_goes_at_every_call() {
    let mut counts = Counts::default();
    let whole = SimDisk::new();
    workload(&whole, &mut Told::default()).unwrap();
    for call in 1..=whole.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut told = Told::default();
        let ended = workload(&disk, &mut told);
        // The last call is a note, without which all that was acknowledged is still there.
        assert_eq!(ended.is_err(), call < whole.calls(), "crash at {call}");
        counts.points += 1;
        for (n, found) in disk.survivors(call, 300).iter().enumerate() {
            check(found, &told, &mut counts, call * 1000 + n as u64, n % 10 == 0);
        }
    }
    println!("{counts:?}");
    assert!(counts.points > 30 && counts.states > 2_000, "{counts:?}");
}

/// Producers at once: each one's events in its order, all that was acknowledged there.
#[test]
fn the_power_goes_under_several_producers() {
    let mut counts = Counts::default();
    for call in (6..60).step_by(3) {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let acknowledged = Mutex::new(Vec::new());
        if let Ok(bus) = Bus::open_in(disk.storage()) {
            std::thread::scope(|scope| {
                for producer in 1..=3u64 {
                    let (bus, acknowledged) = (&bus, &acknowledged);
                    scope.spawn(move || {
                        for n in 0.. {
                            let Ok(event) = bus.append(draft(producer * 1000 + n)) else { return };
                            acknowledged.lock().unwrap().push((event.index, producer * 1000 + n));
                        }
                    });
                }
            });
        }
        let acknowledged = acknowledged.into_inner().unwrap();
        counts.points += 1;
        for (n, found) in disk.survivors(call, 100).iter().enumerate() {
            counts.states += 1;
            match Bus::open_in(found.storage()) {
                Ok(bus) => drop(bus.append(draft(9)).unwrap()),
                Err(Error::Undecided { .. }) => {
                    counts.undecided += 1;
                    continue;
                }
                Err(error) => panic!("call {call}, survivor {n}: {error}"),
            }
            let there = numbers(found);
            for (index, number) in &acknowledged {
                assert_eq!(there[*index as usize - 1], *number, "call {call}, survivor {n}");
            }
            for producer in 1..=3 {
                let own: Vec<u64> =
                    there.iter().copied().filter(|number| number / 1000 == producer).collect();
                assert_eq!(own, (0..own.len() as u64).map(|n| producer * 1000 + n).collect::<Vec<_>>());
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.states > 500);
}

/// Every call fails once, in each way there is; the program opens the bus again and goes on; then the power goes.
#[test]
fn every_call_fails_once() {
    let mut counts = Counts::default();
    let whole = SimDisk::new();
    workload(&whole, &mut Told::default()).unwrap();
    let mut unnoticed = 0;
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1..=whole.calls() {
            let disk = SimDisk::new();
            disk.fail_at(call, failure);
            let mut told = Told::default();
            let ended = workload(&disk, &mut told);
            // A note that cannot be written is none; everything else is noticed.
            assert!(ended.is_err() || told.acknowledged.len() == 11, "{failure:?} at {call} went unnoticed");
            unnoticed += u64::from(ended.is_ok());
            counts.points += 1;
            // The power goes at once.
            for (n, found) in disk.survivors(call, 60).iter().enumerate() {
                check(found, &told, &mut counts, call * 1000 + n as u64, false);
            }
            // The program opens the bus again. What was handed in and not acknowledged may be there.
            let bus = Bus::open_in(disk.storage()).unwrap();
            let there = numbers(&disk);
            assert!(there.len() >= told.acknowledged.len());
            assert_eq!(there, told.handed_in[..there.len()], "{failure:?} at {call}");
            let mut now = Told { handed_in: there.clone(), acknowledged: there };
            append(&bus, &mut now, 500..503).unwrap();
            for (n, found) in disk.survivors(call, 60).iter().enumerate() {
                check(found, &now, &mut counts, call * 1000 + n as u64, false);
            }
        }
    }
    println!("{counts:?}, {unnoticed} unnoticed");
    assert!(counts.states > 1_000);
    assert_eq!(unnoticed, 3 * 5, "one note for each batch");
}
