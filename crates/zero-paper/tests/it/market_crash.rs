//! Crash tests of runs on market data on a simulated disk: the power fails at every disk call, and
//! every disk call fails once.

use std::sync::{Arc, LazyLock};

use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::Storage;
use zero_bus::{RECOVERED_TYPE, Reader};
use zero_paper::candle::Bar;
use zero_paper::market::runtime::MarketRuntime;
use zero_paper::market::trading::{CycleTime, RunEnd, Trading};
use zero_paper::{Error, FixedClock};

use crate::market_support::{T0, TestFeed, TestStrategy, WIDE, bars, buy, rules, sell};

fn market() -> Vec<Bar> {
    bars(&[[10.0, 11.0], [12.0, 10.0], [9.0, 9.5], [10.0, 12.0]])
}

fn start(storage: &Arc<dyn Storage>, journal: bool) -> Result<Trading, Error> {
    let strategy = TestStrategy::of(|cycle_id| match cycle_id {
        1 => vec![buy(1.0), buy(1e9)],
        3 => vec![sell(2.0)],
        _ => Vec::new(),
    });
    let mut warnings = Vec::new();
    let clock = Arc::new(FixedClock(T0));
    let runtime = MarketRuntime::start_in(rules(WIDE), storage, journal, clock, &mut warnings)?;
    Trading::on(runtime, TestFeed::recorded(&market()), strategy, CycleTime::Bar, &mut warnings)
}

/// Runs two processes of one cycle each. Counts the cycles that returned success.
fn workload(disk: &SimDisk, journal: bool, acknowledged: &mut u64) -> Result<(), Error> {
    for _ in 0..2 {
        let mut trading = start(&disk.storage(), journal)?;
        trading.run(Some(1), || false, &mut ())?;
        *acknowledged += 1;
    }
    Ok(())
}

fn events(disk: &SimDisk) -> Vec<String> {
    let events = Reader::open_in(disk.storage()).events(1).unwrap().map(Result::unwrap);
    // Recovery records what it quarantined; an undisturbed run has no such event.
    let events = events.filter(|event| event.event_type != RECOVERED_TYPE);
    events.map(|event| format!("{} {} {}", event.event_type, event.as_of, event.payload)).collect()
}

/// The events of a run without failures.
static EXPECTED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let disk = SimDisk::new();
    start(&disk.storage(), true).unwrap().run(None, || false, &mut ()).unwrap();
    events(&disk)
});

#[derive(Default, Debug)]
struct Counts {
    failure_points: u64,
    disks: u64,
    /// Starts that refused an ambiguous tail, or a journal that has nothing but garbage.
    refused: u64,
}

/// Continues the run on what a crash left.
fn check(disk: &SimDisk, journal: bool, acknowledged: u64, counts: &mut Counts) -> Result<(), String> {
    counts.disks += 1;
    let mut trading = match start(&disk.storage(), journal) {
        Ok(trading) => trading,
        Err(Error::Bus(zero_bus::Error::Ambiguous { .. })) => {
            counts.refused += 1;
            return Ok(());
        }
        Err(Error::Refused { problem, .. }) if problem.contains("name another file") && acknowledged == 0 => {
            counts.refused += 1;
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    let recovered = trading.runtime().state().last_cycle_id();
    if recovered < acknowledged {
        return Err(format!("{recovered} cycles recovered, but {acknowledged} were acknowledged"));
    }
    let end = trading.run(None, || false, &mut ()).map_err(|error| error.to_string())?;
    assert_eq!(end, RunEnd::FeedEnded);
    drop(trading);
    let found = events(disk);
    if found != *EXPECTED {
        return Err(format!("the bus has {found:#?}"));
    }
    let verdict = Reader::open_in(disk.storage()).verify().unwrap();
    if verdict.ok() { Ok(()) } else { Err(format!("{verdict:?}")) }
}

#[track_caller]
fn check_all(disk: &SimDisk, journal: bool, acknowledged: u64, counts: &mut Counts, call: u64, max: usize) {
    for (n, survivor) in disk.survivors(call, max).iter().enumerate() {
        check(survivor, journal, acknowledged, counts)
            .unwrap_or_else(|problem| panic!("call {call}, survivor {n}, journal {journal}: {problem}"));
    }
}

fn calls(journal: bool) -> u64 {
    let undisturbed = SimDisk::new();
    workload(&undisturbed, journal, &mut 0).unwrap();
    undisturbed.calls()
}

#[test]
fn a_power_cut_at_any_call_loses_and_repeats_nothing() {
    let mut counts = Counts::default();
    for journal in [true, false] {
        for call in 1..=calls(journal) + 1 {
            let disk = SimDisk::new();
            disk.crash_at(call);
            let mut acknowledged = 0;
            let _ = workload(&disk, journal, &mut acknowledged);
            counts.failure_points += 1;
            check_all(&disk, journal, acknowledged, &mut counts, call, 20);
        }
    }
    println!("{counts:?}");
    assert!(counts.failure_points > 40 && counts.disks > 400, "{counts:?}");
}

#[test]
fn a_failure_of_any_call_loses_and_repeats_nothing() {
    let mut counts = Counts::default();
    for journal in [true, false] {
        for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
            for call in 1..=calls(journal) {
                let disk = SimDisk::new();
                disk.fail_at(call, failure);
                let mut acknowledged = 0;
                let _ = workload(&disk, journal, &mut acknowledged);
                counts.failure_points += 1;
                check_all(&disk, journal, acknowledged, &mut counts, call, 4);
                check(&disk, journal, acknowledged, &mut counts)
                    .unwrap_or_else(|problem| panic!("{failure:?} at {call}, journal {journal}: {problem}"));
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.disks > 400, "{counts:?}");
}
