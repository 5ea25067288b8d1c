//! The start-up checkpoint of scenario runs: a start that uses it ends in the same state as one
//! that reads all records, and whatever does not match makes it read them all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zero_bus::sim::{Rng, SimDisk};
use zero_bus::{Bus, Draft, Reader};
use zero_paper::operator::{Action, command};
use zero_paper::reconcile::check_journal;
use zero_paper::start_checkpoint::{CHECKPOINT, CheckpointOptions, KEY_INDEX};
use zero_paper::{Error, FixedClock, PauseEnd, RecordPaths, Runtime, Scenario};

/// Orders that are filled, rejected, and filled as reduce-only.
const SCENARIO: &str = r#"{"name":"s","orders":[
    {"symbol":"A","side":"buy","quantity":1,"price":100,"confidence":0.9},
    {"symbol":"B","side":"sell","quantity":0.3,"price":90.5,"confidence":0.9},
    {"symbol":"B","side":"buy","quantity":9,"price":900,"confidence":0.9},
    {"symbol":"A","side":"sell","quantity":0.5,"price":110,"confidence":0.9,"reduce_only":true}]}"#;

const EVERY: u64 = 3;

/// Which records a run keeps.
#[derive(Clone, Copy, Debug)]
enum Kept {
    All,
    Journals,
    Bus,
}

fn records(dir: &Path, kept: Kept, full_check: bool) -> RecordPaths {
    let has_journal = !matches!(kept, Kept::Bus);
    RecordPaths {
        journal: has_journal.then(|| dir.join("d.jsonl")),
        cycle_journal: has_journal.then(|| dir.join("c.jsonl")),
        runtime_bus: (!matches!(kept, Kept::Journals)).then(|| dir.join("bus")),
        checkpoint: CheckpointOptions { full_check, every_cycles: EVERY },
        ..RecordPaths::default()
    }
}

fn start(dir: &Path, kept: Kept, full_check: bool) -> Result<Runtime, Error> {
    let scenario = Scenario::parse(SCENARIO).unwrap();
    Runtime::start(scenario, &records(dir, kept, full_check), Arc::new(FixedClock(1777593600.0)))
}

fn run(runtime: &mut Runtime, cycles: u64) -> Result<(), Error> {
    runtime.run(Some(cycles), Duration::ZERO, |_| PauseEnd::Elapsed).map(drop)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// All records of a run, without the checksums and without the name of its directory.
fn content(dir: &Path, kept: Kept) -> Vec<String> {
    let name = dir.to_string_lossy().into_owned();
    let mut content = Vec::new();
    for file in ["d.jsonl", "c.jsonl"] {
        content.extend(fs::read_to_string(dir.join(file)).ok().map(|text| text.replace(&name, "DIR")));
    }
    if !matches!(kept, Kept::Journals) {
        let events = Reader::open(dir.join("bus")).unwrap().events(1).unwrap().map(Result::unwrap);
        content.extend(events.map(|event| {
            format!("{} {:?} {}", event.event_type, event.trace_id, event.payload).replace(&name, "DIR")
        }));
    }
    content
}

/// What a runtime knows, as far as a program can see it.
fn state(runtime: &Runtime) -> String {
    let engine = runtime.engine();
    let keys: Vec<u64> = (1..200).filter(|n| engine.has_key(&format!("runtime-s-{n}")).unwrap()).collect();
    format!(
        "{:?} {:?} {:?} {:?} {keys:?} {:?}",
        engine.counts(),
        engine.book(),
        engine.last_decision_as_of(),
        ["A", "B"].map(|symbol| engine.last_price(symbol)),
        runtime.killed_by()
    )
}

#[test]
fn a_start_from_the_checkpoint_continues_as_one_that_reads_all_records() {
    let mut fast_starts = 0;
    for (seed, kept) in (0..).zip([Kept::All, Kept::Journals, Kept::Bus, Kept::All, Kept::Bus]) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        fs::create_dir(&dir).unwrap();
        let mut rng = Rng::new(seed);
        for process in 0..6 {
            let mut runtime = start(&dir, kept, false).unwrap();
            for _ in 0..rng.below(8) {
                match (rng.below(4), runtime.bus()) {
                    (0, Some(_)) => {
                        let action = [Action::Pause, Action::Resume, Action::Flatten, Action::ReduceOnly];
                        let draft = command(action[rng.below(4)], "ops", "test", 1.0).unwrap();
                        Bus::open(dir.join("bus")).unwrap().append(draft).unwrap();
                    }
                    (1, Some(_)) => {
                        let draft = Draft::new("note.added", 1.0, &BTreeMap::from([("text", "hello")]));
                        Bus::open(dir.join("bus")).unwrap().append(draft.unwrap()).unwrap();
                    }
                    // A process that dies writes no checkpoint at its end.
                    (2, _) => drop(runtime.run_cycle().unwrap()),
                    _ => run(&mut runtime, 1).unwrap(),
                }
            }
            drop(runtime);
            let [fast_dir, full_dir] =
                ["fast", "full"].map(|name| temp.path().join(format!("{name}{process}")));
            copy(&dir, &fast_dir);
            copy(&dir, &full_dir);
            let mut fast = start(&fast_dir, kept, false).unwrap();
            let mut full = start(&full_dir, kept, true).unwrap();
            fast_starts += u64::from(fast.started_after() > 0);
            assert_eq!(full.started_after(), 0);
            assert_eq!(state(&fast), state(&full), "seed {seed}, process {process}");
            run(&mut fast, 2).unwrap();
            run(&mut full, 2).unwrap();
            assert_eq!(content(&fast_dir, kept), content(&full_dir, kept), "seed {seed}, process {process}");
            assert_eq!(state(&fast), state(&full), "seed {seed}, process {process}");
        }
    }
    assert!(fast_starts > 12, "{fast_starts}");
}

/// Ten cycles in a directory, the last nine of them before a checkpoint.
fn ten_cycles() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let mut runtime = start(temp.path(), Kept::All, false).unwrap();
    run(&mut runtime, 10).unwrap();
    temp
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn write_lines(path: &Path, lines: &[String]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

/// Starts on changed records. Returns the warnings; the state must be that of a full start.
fn warnings_after(change: impl FnOnce(&Path)) -> String {
    let temp = ten_cycles();
    let dir = temp.path();
    change(dir);
    let runtime = start(dir, Kept::All, false).unwrap();
    assert_eq!(runtime.started_after(), 0, "{:?}", runtime.warnings());
    let warnings = runtime.warnings().join("\n");
    let found = state(&runtime);
    drop(runtime);
    assert_eq!(found, state(&start(dir, Kept::All, true).unwrap()));
    warnings
}

#[test]
fn whatever_does_not_match_makes_a_start_read_all_records_and_say_so() {
    let checkpoint = |dir: &Path| dir.join("bus").join(CHECKPOINT);
    let index = |dir: &Path| dir.join("bus").join(KEY_INDEX);
    let edit = |path: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    type Change<'a> = (&'a str, Box<dyn FnOnce(&Path) + 'a>);
    let cases: Vec<Change<'_>> = vec![
        ("is missing", Box::new(|dir| fs::remove_file(checkpoint(dir)).unwrap())),
        ("it is empty", Box::new(|dir| fs::write(checkpoint(dir), "").unwrap())),
        (
            "it is not JSON",
            Box::new(|dir| {
                let bytes = fs::read(checkpoint(dir)).unwrap();
                fs::write(checkpoint(dir), &bytes[..bytes.len() / 2]).unwrap();
            }),
        ),
        (
            "it does not have the checksum that it names",
            Box::new(|dir| edit(&checkpoint(dir), "\"decisions\":10", "\"decisions\":11")),
        ),
        ("the key index is missing", Box::new(|dir| fs::remove_file(index(dir)).unwrap())),
        ("the key index is damaged", Box::new(|dir| fs::write(index(dir), [0; 4096]).unwrap())),
        (
            "the journal does not have its last line",
            Box::new(|dir| {
                // Another spelling of the same decision.
                let mut decisions = lines(&dir.join("d.jsonl"));
                decisions[9] = decisions[9].replace("{\"allowed\"", "{ \"allowed\"");
                write_lines(&dir.join("d.jsonl"), &decisions);
            }),
        ),
        (
            "the cycle journal does not have its last line",
            Box::new(|dir| write_lines(&dir.join("c.jsonl"), &lines(&dir.join("c.jsonl"))[..4])),
        ),
        (
            "the bus does not have its last event",
            Box::new(|dir| {
                // Journal and bus were restored from an older copy: the checkpoint is ahead.
                write_lines(&dir.join("d.jsonl"), &lines(&dir.join("d.jsonl"))[..6]);
                write_lines(&dir.join("c.jsonl"), &lines(&dir.join("c.jsonl"))[..6]);
                write_lines(&dir.join("bus/events.jsonl"), &lines(&dir.join("bus/events.jsonl"))[..30]);
                fs::remove_file(dir.join("bus/bus.lock")).unwrap();
                fs::remove_file(dir.join("bus/state-snapshot.json")).unwrap();
            }),
        ),
    ];
    for (expected, change) in cases {
        let warnings = warnings_after(change);
        let all = "the start compared all";
        assert!(warnings.contains(expected) && warnings.contains(all), "{expected}: {warnings}");
    }
}

#[test]
fn a_checkpoint_of_other_limits_or_of_another_bus_is_not_used() {
    let temp = ten_cycles();
    let dir = temp.path();
    let wider = SCENARIO.replace(r#""name":"s""#, r#""name":"s","limits":{"max_notional_usd":2000}"#);
    let clock = || Arc::new(FixedClock(1.0));
    let scenario = Scenario::parse(&wider).unwrap();
    let runtime = Runtime::start(scenario, &records(dir, Kept::All, false), clock()).unwrap();
    assert_eq!(runtime.started_after(), 0);
    assert!(
        runtime.warnings()[0].contains("another kind, name, limits or rules"),
        "{:?}",
        runtime.warnings()
    );
    drop(runtime);
    // Another bus with the same journal: it begins with the decision that it lacks.
    let other = tempfile::tempdir().unwrap();
    let mut runtime = start(other.path(), Kept::Bus, false).unwrap();
    run(&mut runtime, 10).unwrap();
    drop(runtime);
    for name in [CHECKPOINT, KEY_INDEX] {
        fs::copy(dir.join("bus").join(name), other.path().join("bus").join(name)).unwrap();
    }
    let runtime = start(other.path(), Kept::Bus, false).unwrap();
    assert_eq!(runtime.started_after(), 0);
    assert!(runtime.warnings()[0].contains("not used"), "{:?}", runtime.warnings());
}

#[test]
fn tampering_before_the_checkpoint_is_found_by_a_full_check_and_by_the_checks_of_an_operator() {
    let temp = ten_cycles();
    let dir = temp.path();
    let journal = dir.join("d.jsonl");
    let untouched = lines(&journal);
    let mut changed = untouched.clone();
    changed[1] = changed[1].replace("90.5", "91.5");
    assert_ne!(changed, untouched);
    write_lines(&journal, &changed);
    assert_eq!(start(dir, Kept::All, false).unwrap().started_after(), 10, "what a fast start does not check");
    let reader = Reader::open(dir.join("bus")).unwrap();
    assert!(matches!(check_journal(&journal, &reader), Err(Error::Reconcile { .. })));
    assert!(matches!(start(dir, Kept::All, true), Err(Error::Reconcile { .. })));
    write_lines(&journal, &untouched);
    assert!(start(dir, Kept::All, true).is_ok());

    let log = dir.join("bus/events.jsonl");
    let mut events = lines(&log);
    events[1] = events[1].replace("\"quantity\":1.0", "\"quantity\":2.0");
    write_lines(&log, &events);
    assert_eq!(start(dir, Kept::All, false).unwrap().started_after(), 10, "what a fast start does not check");
    assert!(!reader.verify().unwrap().ok());
    assert!(matches!(start(dir, Kept::All, true), Err(Error::Bus(zero_bus::Error::Damaged { .. }))));
}

#[test]
fn the_keys_before_the_checkpoint_are_known_after_it_and_after_its_loss() {
    let temp = ten_cycles();
    let dir = temp.path();
    let key_is_known = |runtime: &Runtime| runtime.engine().has_key("runtime-s-2").unwrap();
    let runtime = start(dir, Kept::All, false).unwrap();
    assert_eq!(runtime.started_after(), 10);
    assert!(key_is_known(&runtime) && !runtime.engine().has_key("runtime-s-11").unwrap());
    drop(runtime);
    fs::remove_file(dir.join("bus").join(CHECKPOINT)).unwrap();
    fs::remove_file(dir.join("bus").join(KEY_INDEX)).unwrap();
    assert!(key_is_known(&start(dir, Kept::All, false).unwrap()));
}

#[test]
fn a_key_index_that_is_newer_than_the_records_is_not_used() {
    let temp = ten_cycles();
    let (dir, older) = (temp.path().to_owned(), tempfile::tempdir().unwrap());
    copy(&dir, older.path());
    let mut runtime = start(&dir, Kept::All, false).unwrap();
    run(&mut runtime, 5).unwrap();
    drop(runtime);
    let index = |dir: &Path| dir.join("bus").join(KEY_INDEX);
    // A process that died before it had written its checkpoint leaves as much.
    fs::copy(older.path().join("bus").join(CHECKPOINT), dir.join("bus").join(CHECKPOINT)).unwrap();
    let runtime = start(&dir, Kept::All, false).unwrap();
    assert_eq!((runtime.started_after(), runtime.engine().counts().decisions), (10, 15));
    drop(runtime);
    // Records that were restored from an older copy do not have the keys.
    fs::copy(index(&dir), index(older.path())).unwrap();
    let runtime = start(older.path(), Kept::All, false).unwrap();
    assert_eq!(runtime.started_after(), 0);
    assert!(runtime.warnings()[0].contains("keys that the records do not have"), "{:?}", runtime.warnings());
}

#[test]
fn a_key_index_that_cannot_be_searched_stops_the_run_before_it_decides() {
    let temp = ten_cycles();
    let dir = temp.path();
    let path = dir.join("bus").join(KEY_INDEX);
    let mut bytes = fs::read(&path).unwrap();
    bytes[512..].iter_mut().step_by(64).for_each(|byte| *byte ^= 1);
    fs::write(&path, bytes).unwrap();
    let mut runtime = start(dir, Kept::All, false).unwrap();
    let decisions = fs::read(dir.join("d.jsonl")).unwrap();
    runtime.run_cycle().unwrap_err();
    assert_eq!(fs::read(dir.join("d.jsonl")).unwrap(), decisions);
    drop(runtime);
    fs::remove_file(&path).unwrap();
    start(dir, Kept::All, false).unwrap().run_cycle().unwrap();
}

/// The runtime writes a checkpoint after every second cycle; the power fails at any call.
#[test]
fn a_power_cut_at_any_call_leaves_a_checkpoint_that_matches_or_is_not_used() {
    let options = |full_check| CheckpointOptions { full_check, every_cycles: 2 };
    let start = |disk: &SimDisk, full_check| {
        let scenario = Scenario::parse(SCENARIO).unwrap();
        Runtime::start_in_with(scenario, &disk.storage(), options(full_check), Arc::new(FixedClock(1.0)))
    };
    let workload = |disk: &SimDisk| -> Result<(), Error> {
        for _ in 0..2 {
            run(&mut start(disk, false)?, 3)?;
        }
        Ok(())
    };
    let undisturbed = SimDisk::new();
    workload(&undisturbed).unwrap();
    let (mut fast_starts, mut disks) = (0, 0);
    for call in 1..=undisturbed.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let _ = workload(&disk);
        for survivor in disk.survivors(call, 3) {
            disks += 1;
            // Without a repair, both starts would find the same bytes; they find the same state.
            let Ok(fast) = start(&survivor, false) else { continue };
            fast_starts += u64::from(fast.started_after() > 0);
            let (after, found) = (fast.started_after(), state(&fast));
            drop(fast);
            let mut full = start(&survivor, true).unwrap();
            assert_eq!(found, state(&full), "call {call}, after cycle {after}");
            run(&mut full, 1).unwrap();
            drop(full);
            let again = start(&survivor, false).unwrap();
            assert!(again.started_after() > 0 || again.engine().counts().decisions < 2, "call {call}");
        }
    }
    println!("{disks} disks, {fast_starts} starts from a checkpoint");
    assert!(disks > 100 && fast_starts > 50, "{disks} {fast_starts}");
}

#[test]
fn a_short_run_has_no_companions_and_says_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let mut runtime = start(temp.path(), Kept::All, false).unwrap();
    run(&mut runtime, EVERY - 1).unwrap();
    drop(runtime);
    assert!(!temp.path().join("bus").join(CHECKPOINT).exists());
    assert!(!temp.path().join("bus").join(KEY_INDEX).exists());
    let runtime = start(temp.path(), Kept::All, false).unwrap();
    assert!(runtime.warnings().is_empty(), "{:?}", runtime.warnings());
}
