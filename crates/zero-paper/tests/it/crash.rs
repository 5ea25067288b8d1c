//! The power goes at every call of a runtime's disk, and each call fails once: afterwards it has the fills it had, none
//! lost and none twice, and its journal and its bus tell the same.

use std::sync::{Arc, LazyLock};

use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::Storage;
use zero_bus::{Bus, Reader, Value};
use zero_paper::operator::{Action, command};
use zero_paper::scenario::Scenario;
use zero_paper::{Clock, Error, Runtime};

/// Orders that are filled, refused and reduce.
const SCENARIO: &str = r#"{"orders":[
    {"symbol":"A","side":"buy","quantity":1,"price":100,"confidence":0.9},
    {"symbol":"B","side":"buy","quantity":9,"price":900,"confidence":0.9},
    {"symbol":"A","side":"sell","quantity":0.5,"price":110,"confidence":0.9,"reduce_only":true}]}"#;

fn start(storage: &Arc<dyn Storage>) -> Result<Runtime, Error> {
    Runtime::start_in(Scenario::parse(SCENARIO).unwrap(), storage, Clock::Fixed(1777593600.0))
}

/// Two runs of two cycles. Counts the cycles that were said to be on record.
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
    points: u64,
    states: u64,
    undecided: u64,
    /// A journal that holds nothing but garbage may be no journal.
    garbage_alone: u64,
    starts_crashed: u64,
}

/// The decisions of a run that nothing happened to, a line each.
static MODEL: LazyLock<Vec<String>> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let mut runtime = start(&disk.storage()).unwrap();
    (0..8).for_each(|_| drop(runtime.run_cycle().unwrap()));
    lines(&disk, "decisions.jsonl")
});

fn lines(disk: &SimDisk, name: &str) -> Vec<String> {
    let content = String::from_utf8(disk.content(name).unwrap()).unwrap();
    content.lines().map(str::to_owned).collect()
}

/// What the decision events of the bus say, a line each.
fn published(disk: &SimDisk) -> Vec<String> {
    let events = Reader::open_in(disk.storage()).events(1).unwrap().map(Result::unwrap);
    events
        .filter(|event| event.event_type == "decision.record")
        .map(|event| event.payload.to_string())
        .collect()
}

/// Whether one of the journals holds something, and not one sound line.
fn is_garbage_alone(found: &SimDisk) -> bool {
    let sound = |line: &[u8]| {
        std::str::from_utf8(line).is_ok_and(|line| matches!(Value::parse(line), Ok(Value::Object(_))))
    };
    ["decisions.jsonl", "cycles.jsonl"]
        .into_iter()
        .filter_map(|name| found.content(name))
        .any(|content| !content.is_empty() && !content.split(|byte| *byte == b'\n').any(sound))
}

/// Starts on a disk as it was found, and goes on. Gives what is wrong.
fn check(found: &SimDisk, acknowledged: u64, counts: &mut Counts, seed: u64) -> Result<(), String> {
    counts.states += 1;
    if seed.is_multiple_of(10) {
        // The power goes again while the records are brought to agree.
        for call in 1.. {
            let copy = found.survivors(seed, 1).remove(0);
            copy.crash_at(call);
            let started = start(&copy.storage());
            if !copy.crashed() {
                break;
            }
            drop(started);
            counts.starts_crashed += 1;
            for again in copy.survivors(seed + call, 4) {
                check(&again, acknowledged, counts, seed + 1)?;
            }
        }
    }
    let mut runtime = match start(&found.storage()) {
        Ok(runtime) => runtime,
        Err(Error::Bus(zero_bus::Error::Ambiguous { .. })) => {
            counts.undecided += 1;
            return Ok(());
        }
        Err(Error::Journal { line: 1, .. } | Error::Refused { .. }) if is_garbage_alone(found) => {
            counts.garbage_alone += 1;
            return if acknowledged == 0 { Ok(()) } else { Err("nothing is left".to_owned()) };
        }
        Err(error) => return Err(error.to_string()),
    };
    let recovered = runtime.engine().counts().decisions;
    if recovered < acknowledged {
        return Err(format!("{recovered} decisions, and {acknowledged} were on record"));
    }
    runtime.run_cycle().map_err(|error| error.to_string())?;
    drop(runtime);
    let decisions = lines(found, "decisions.jsonl");
    if decisions != MODEL[..recovered as usize + 1] {
        return Err(format!("the journal is another one: {decisions:#?}"));
    }
    if decisions != published(found) {
        return Err(format!("the bus tells {:#?}, the journal {decisions:#?}", published(found)));
    }
    if lines(found, "cycles.jsonl").len() != decisions.len() {
        return Err(format!("the cycle journal has {} cycles", lines(found, "cycles.jsonl").len()));
    }
    let verdict = Reader::open_in(found.storage()).verify().unwrap();
    if verdict.ok() { Ok(()) } else { Err(format!("{verdict:?}")) }
}

#[track_caller]
fn check_all(disk: &SimDisk, acknowledged: u64, counts: &mut Counts, call: u64, at_most: usize) {
    for (n, found) in disk.survivors(call, at_most).iter().enumerate() {
        let checked = check(found, acknowledged, counts, call * 1000 + n as u64);
        checked.unwrap_or_else(|problem| panic!("call {call}, survivor {n}: {problem}"));
    }
}

#[test]
fn the_power_goes_at_every_call() {
    let mut counts = Counts::default();
    let whole = SimDisk::new();
    workload(&whole, &mut 0).unwrap();
    for call in 1..=whole.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut acknowledged = 0;
        let _ = workload(&disk, &mut acknowledged);
        counts.points += 1;
        check_all(&disk, acknowledged, &mut counts, call, 40);
    }
    println!("{counts:?}");
    assert!(counts.points > 40 && counts.states > 1_000, "{counts:?}");
}

/// Each call fails once in each way there is; the operator starts again; then the power goes.
#[test]
fn every_call_fails_once() {
    let mut counts = Counts::default();
    let whole = SimDisk::new();
    workload(&whole, &mut 0).unwrap();
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1..=whole.calls() {
            let disk = SimDisk::new();
            disk.fail_at(call, failure);
            let mut acknowledged = 0;
            let _ = workload(&disk, &mut acknowledged);
            counts.points += 1;
            check_all(&disk, acknowledged, &mut counts, call, 6);
            // Nobody cut the power: started again, what it then has is on record for good.
            let mut again = start(&disk.storage()).unwrap();
            let recovered = again.engine().counts().decisions;
            assert!(recovered >= acknowledged, "{failure:?} at {call}");
            again.run_cycle().unwrap();
            check_all(&disk, recovered + 1, &mut counts, call, 6);
        }
    }
    println!("{counts:?}");
    assert!(counts.states > 1_000, "{counts:?}");
}

/// Two cycles that leave two positions, and the operator's word to close them.
fn flattening(disk: &SimDisk, told: &mut bool) -> Result<(), Error> {
    let storage = disk.storage();
    let mut runtime = start_holding(&storage)?;
    (0..2).try_for_each(|_| runtime.run_cycle().map(drop))?;
    let bus = Bus::open_in(Arc::clone(&storage))?;
    bus.append(command(Action::Flatten, "ops", "", 1.0)?)?;
    *told = true;
    runtime.run_cycle().map(drop)
}

fn start_holding(storage: &Arc<dyn Storage>) -> Result<Runtime, Error> {
    let scenario = r#"{"orders":[{"symbol":"A","side":"buy","quantity":1,"price":100,"confidence":0.9},
                                 {"symbol":"B","side":"sell","quantity":2,"price":50,"confidence":0.9}]}"#;
    Runtime::start_in(Scenario::parse(scenario).unwrap(), storage, Clock::Fixed(1777593600.0))
}

/// The power goes while positions are closed for the operator: afterwards each is closed, once.
#[test]
fn the_power_goes_while_the_operator_is_obeyed() {
    let whole = SimDisk::new();
    flattening(&whole, &mut false).unwrap();
    let (mut states, mut undecided) = (0, 0);
    for call in 1..=whole.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut told = false;
        let _ = flattening(&disk, &mut told);
        for found in disk.survivors(call, 30) {
            states += 1;
            let mut runtime = match start_holding(&found.storage()) {
                Ok(runtime) => runtime,
                Err(Error::Bus(zero_bus::Error::Ambiguous { .. })) => {
                    undecided += 1;
                    continue;
                }
                Err(Error::Journal { line: 1, .. } | Error::Refused { .. }) if is_garbage_alone(&found) => {
                    continue;
                }
                Err(error) => panic!("call {call}: {error}"),
            };
            runtime.run_cycle().unwrap();
            let decisions = lines(&found, "decisions.jsonl");
            assert_eq!(decisions, published(&found), "call {call}");
            let closed = |symbol: &str| {
                let symbol = format!(r#""symbol":"{symbol}""#);
                let reduces =
                    |line: &&String| line.contains(r#""reduce_only":true"#) && line.contains(&symbol);
                decisions.iter().filter(reduces).count()
            };
            let events = Reader::open_in(found.storage()).events(1).unwrap().map(Result::unwrap);
            let obeyed = events.filter(|event| event.event_type == "operator.applied").count();
            assert!(!told || obeyed == 1, "call {call}: told, and obeyed {obeyed} times");
            if obeyed == 1 {
                assert_eq!((closed("A"), closed("B")), (1, 1), "call {call}");
                assert_eq!(runtime.engine().book().open_positions(), 0, "call {call}");
            }
        }
    }
    println!("{} points, {states} disks, {undecided} undecided", whole.calls() + 1);
    assert!(states > 500);
}
