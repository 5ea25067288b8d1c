//! Crash tests of the runtime on a simulated disk.
//!
//! The power fails at every disk call, and every disk call fails once. After each, a restarted
//! runtime must have every acknowledged cycle exactly once, and journal and bus must have the same
//! decisions.

use std::sync::{Arc, LazyLock};

use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::Storage;
use zero_bus::{Bus, Reader, Value};
use zero_paper::event_types::{DECISION, OPERATOR_APPLIED};
use zero_paper::operator::{Action, command};
use zero_paper::scenario::Scenario;
use zero_paper::{Error, FixedClock, Runtime};

use crate::soak::rounds;

/// Orders that are filled, rejected, and filled as reduce-only.
const SCENARIO: &str = r#"{"orders":[
    {"symbol":"A","side":"buy","quantity":1,"price":100,"confidence":0.9},
    {"symbol":"B","side":"buy","quantity":9,"price":900,"confidence":0.9},
    {"symbol":"A","side":"sell","quantity":0.5,"price":110,"confidence":0.9,"reduce_only":true}]}"#;

fn start(storage: &Arc<dyn Storage>) -> Result<Runtime, Error> {
    Runtime::start_in(Scenario::parse(SCENARIO).unwrap(), storage, Arc::new(FixedClock(1777593600.0)))
}

/// Runs two runtimes of two cycles each. Counts the cycles that returned success.
fn workload(disk: &SimDisk, acknowledged: &mut u64) -> Result<(), Error> {
    let storage = disk.storage();
    for _ in 0..2 {
        let mut runtime = start(&storage)?;
        for _ in 0..2 {
            runtime.run_cycle()?;
            *acknowledged += 1;
        }
        runtime.sync()?;
    }
    Ok(())
}

#[derive(Default, Debug)]
struct Counts {
    failure_points: u64,
    disks: u64,
    /// Starts that refused an ambiguous tail.
    ambiguous: u64,
    /// Starts that refused a journal without any valid line, because it may be a file of another
    /// program.
    only_garbage: u64,
    /// Crashes during a start.
    crashed_starts: u64,
}

/// The decision journal of a run without failures.
static EXPECTED_DECISIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let mut runtime = start(&disk.storage()).unwrap();
    (0..8).for_each(|_| drop(runtime.run_cycle().unwrap()));
    lines(&disk, "decisions.jsonl")
});

fn lines(disk: &SimDisk, name: &str) -> Vec<String> {
    let content = String::from_utf8(disk.content(name).unwrap()).unwrap();
    content.lines().map(str::to_owned).collect()
}

/// Returns the payloads of the decision events on the bus.
fn published_decisions(disk: &SimDisk) -> Vec<String> {
    let events = Reader::open_in(disk.storage()).events(1).unwrap().map(Result::unwrap);
    events.filter(|event| event.event_type == DECISION).map(|event| event.payload.to_string()).collect()
}

/// Whether one of the journals is not empty and has no valid line.
fn has_only_garbage(disk: &SimDisk) -> bool {
    let is_valid = |line: &[u8]| {
        std::str::from_utf8(line).is_ok_and(|line| matches!(Value::parse(line), Ok(Value::Object(_))))
    };
    ["decisions.jsonl", "cycles.jsonl"]
        .into_iter()
        .filter_map(|name| disk.content(name))
        .any(|content| !content.is_empty() && !content.split(|byte| *byte == b'\n').any(is_valid))
}

/// Starts a runtime on what a crash left and runs a cycle. Returns what is wrong.
fn check(disk: &SimDisk, acknowledged: u64, counts: &mut Counts, seed: u64) -> Result<(), String> {
    counts.disks += 1;
    // One survivor of every ninth call; in the soak, several of each.
    if seed.is_multiple_of(rounds(9_000, 10)) {
        // The power fails again while the start repairs the records.
        for call in 1.. {
            let copy = disk.survivors(seed, 1).remove(0);
            copy.crash_at(call);
            let started = start(&copy.storage());
            if !copy.crashed() {
                break;
            }
            drop(started);
            counts.crashed_starts += 1;
            for survivor in copy.survivors(seed + call, 4) {
                check(&survivor, acknowledged, counts, seed + 1)?;
            }
        }
    }
    let mut runtime = match start(&disk.storage()) {
        Ok(runtime) => runtime,
        Err(Error::Bus(zero_bus::Error::Ambiguous { .. })) => {
            counts.ambiguous += 1;
            return Ok(());
        }
        Err(Error::Journal { line: 1, .. } | Error::Refused { .. }) if has_only_garbage(disk) => {
            counts.only_garbage += 1;
            return if acknowledged == 0 { Ok(()) } else { Err("acknowledged cycles are lost".to_owned()) };
        }
        Err(error) => return Err(error.to_string()),
    };
    let recovered = runtime.engine().counts().decisions;
    if recovered < acknowledged {
        return Err(format!("{recovered} decisions recovered, but {acknowledged} were acknowledged"));
    }
    runtime.run_cycle().map_err(|error| error.to_string())?;
    drop(runtime);
    let decisions = lines(disk, "decisions.jsonl");
    if decisions != EXPECTED_DECISIONS[..recovered as usize + 1] {
        return Err(format!("the journal has other decisions than a run without failures: {decisions:#?}"));
    }
    if decisions != published_decisions(disk) {
        return Err(format!("the bus has {:#?}, the journal {decisions:#?}", published_decisions(disk)));
    }
    if lines(disk, "cycles.jsonl").len() != decisions.len() {
        return Err(format!("the cycle journal has {} cycles", lines(disk, "cycles.jsonl").len()));
    }
    let verdict = Reader::open_in(disk.storage()).verify().unwrap();
    if verdict.ok() { Ok(()) } else { Err(format!("{verdict:?}")) }
}

#[track_caller]
fn check_all(disk: &SimDisk, acknowledged: u64, counts: &mut Counts, call: u64, max_survivors: usize) {
    for (n, survivor) in disk.survivors(call, max_survivors).iter().enumerate() {
        let checked = check(survivor, acknowledged, counts, call * 1000 + n as u64);
        checked.unwrap_or_else(|problem| panic!("call {call}, survivor {n}: {problem}"));
    }
}

#[test]
fn a_power_cut_at_any_call_loses_and_repeats_nothing() {
    let mut counts = Counts::default();
    let undisturbed = SimDisk::new();
    workload(&undisturbed, &mut 0).unwrap();
    for call in 1..=undisturbed.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut acknowledged = 0;
        let _ = workload(&disk, &mut acknowledged);
        counts.failure_points += 1;
        check_all(&disk, acknowledged, &mut counts, call, 40);
    }
    println!("{counts:?}");
    assert!(counts.failure_points > 40 && counts.disks > 1_000, "{counts:?}");
    assert!(counts.crashed_starts > 50, "{counts:?}");
}

/// Each call fails once in each possible way. The runtime is restarted, and then the power fails.
#[test]
fn a_failure_of_any_call_loses_and_repeats_nothing() {
    let mut counts = Counts::default();
    let undisturbed = SimDisk::new();
    workload(&undisturbed, &mut 0).unwrap();
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1..=undisturbed.calls() {
            let disk = SimDisk::new();
            disk.fail_at(call, failure);
            let mut acknowledged = 0;
            let _ = workload(&disk, &mut acknowledged);
            counts.failure_points += 1;
            let survivors = rounds(3, 6) as usize;
            check_all(&disk, acknowledged, &mut counts, call, survivors);
            // Without a power cut: whatever the restarted runtime has recovered must be durable.
            let mut restarted = start(&disk.storage()).unwrap();
            let recovered = restarted.engine().counts().decisions;
            assert!(recovered >= acknowledged, "{failure:?} at {call}");
            restarted.run_cycle().unwrap();
            check_all(&disk, recovered + 1, &mut counts, call, survivors);
        }
    }
    println!("{counts:?}");
    assert!(counts.disks > 1_000 && counts.crashed_starts > 50, "{counts:?}");
}

/// Runs two cycles that leave two open positions, then appends a flatten command and applies it.
fn flattening(disk: &SimDisk, command_acknowledged: &mut bool) -> Result<(), Error> {
    let storage = disk.storage();
    let mut runtime = start_with_two_positions(&storage)?;
    (0..2).try_for_each(|_| runtime.run_cycle().map(drop))?;
    let bus = Bus::open_in(Arc::clone(&storage))?;
    bus.append(command(Action::Flatten, "ops", "", 1.0)?)?;
    *command_acknowledged = true;
    runtime.run_cycle().map(drop)
}

fn start_with_two_positions(storage: &Arc<dyn Storage>) -> Result<Runtime, Error> {
    let scenario = r#"{"orders":[{"symbol":"A","side":"buy","quantity":1,"price":100,"confidence":0.9},
                                 {"symbol":"B","side":"sell","quantity":2,"price":50,"confidence":0.9}]}"#;
    Runtime::start_in(Scenario::parse(scenario).unwrap(), storage, Arc::new(FixedClock(1777593600.0)))
}

#[test]
fn a_power_cut_while_flattening_closes_each_position_exactly_once() {
    let undisturbed = SimDisk::new();
    flattening(&undisturbed, &mut false).unwrap();
    let (mut disks, mut ambiguous) = (0, 0);
    for call in 1..=undisturbed.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut command_acknowledged = false;
        let _ = flattening(&disk, &mut command_acknowledged);
        for survivor in disk.survivors(call, 30) {
            disks += 1;
            let mut runtime = match start_with_two_positions(&survivor.storage()) {
                Ok(runtime) => runtime,
                Err(Error::Bus(zero_bus::Error::Ambiguous { .. })) => {
                    ambiguous += 1;
                    continue;
                }
                Err(Error::Journal { line: 1, .. } | Error::Refused { .. })
                    if has_only_garbage(&survivor) =>
                {
                    continue;
                }
                Err(error) => panic!("call {call}: {error}"),
            };
            runtime.run_cycle().unwrap();
            let decisions = lines(&survivor, "decisions.jsonl");
            assert_eq!(decisions, published_decisions(&survivor), "call {call}");
            let closing_orders = |symbol: &str| {
                let symbol = format!(r#""symbol":"{symbol}""#);
                let closes =
                    |line: &&String| line.contains(r#""reduce_only":true"#) && line.contains(&symbol);
                decisions.iter().filter(closes).count()
            };
            let events = Reader::open_in(survivor.storage()).events(1).unwrap().map(Result::unwrap);
            let applied = events.filter(|event| event.event_type == OPERATOR_APPLIED).count();
            assert!(!command_acknowledged || applied == 1, "call {call}: applied {applied} times");
            if applied == 1 {
                assert_eq!((closing_orders("A"), closing_orders("B")), (1, 1), "call {call}");
                assert_eq!(runtime.engine().book().open_positions(), 0, "call {call}");
            }
        }
    }
    println!("{} points, {disks} disks, {ambiguous} ambiguous", undisturbed.calls() + 1);
    assert!(disks > 500);
}
