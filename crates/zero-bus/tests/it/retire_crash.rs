//! A power cut and a failure at every call of a retirement, of the handles that append meanwhile,
//! and of the next retirement. Afterwards the log holds every acknowledged event that was not to be
//! retired, and says truly where it starts.

use std::sync::Arc;

use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::Storage;
use zero_bus::{Bus, Error, Finding, RETIRED, Reader, Result, SealOptions};

use crate::retire::retire;
use crate::seal_crash::CarelessStorage;
use crate::support::draft;

/// Events that were acknowledged, by number. Each call appends the next number.
#[derive(Clone, Default)]
struct History {
    submitted: u64,
    acknowledged: u64,
    /// The last event that a retirement may have removed.
    retired_up_to: u64,
    /// The last event that a finished retirement has removed.
    retired: u64,
}

impl History {
    fn append(&mut self, bus: &Bus) -> Result<()> {
        self.submitted += 1;
        bus.append(draft(self.submitted))?;
        self.acknowledged = self.submitted;
        Ok(())
    }

    fn retire(&mut self, bus: &Bus, up_to: u64) -> Result<()> {
        self.retired_up_to = up_to;
        retire(bus, up_to)?;
        self.retired = up_to;
        Ok(())
    }
}

/// Two handles append, and a third one retires twice, while both stay open.
fn workload(storage: &Arc<dyn Storage>, history: &mut History) -> Result<()> {
    let open = || Bus::open_in(Arc::clone(storage));
    let (one, other) = (open()?, open()?);
    history.retire(&one, 4)?;
    history.append(&other)?;
    history.retire(&one, 8)?;
    history.append(&one)?;
    history.append(&other)
}

/// A disk with two segments of four events, and four events in the active file.
fn sealed_disk() -> (SimDisk, History) {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    bus.append_batch((1..=12).map(draft).collect()).unwrap();
    for up_to in [4, 8] {
        bus.seal(SealOptions::default().up_to(up_to), &mut |_| {}).unwrap();
    }
    (disk, History { submitted: 12, acknowledged: 12, ..History::default() })
}

/// Checks that a disk holds what it must, that the rest can be retired, and that it is valid then.
fn check(disk: &SimDisk, history: &History) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let reader = Reader::open_in(disk.storage());
    let verdict = reader.verify().map_err(text)?;
    if matches!(verdict.integrity.finding, Finding::Fault(_)) {
        return Err(format!("a crash is reported as damage: {}", verdict.integrity.reason()));
    }
    let bus = Bus::open_in(disk.storage()).map_err(text)?;
    let check_events = || {
        let first = reader.first_index().map_err(text)?;
        let mut numbers = Vec::new();
        for event in reader.events(first).map_err(text)? {
            let event = event.map_err(text)?;
            numbers.extend(event.payload.value().get("number").and_then(zero_bus::Value::as_u64));
        }
        let last = numbers.last().copied().unwrap_or(0);
        let is_complete = numbers == (first..=last).collect::<Vec<_>>()
            && (history.acknowledged..=history.submitted).contains(&last)
            && (history.retired + 1..=history.retired_up_to + 1).contains(&first);
        if is_complete {
            Ok(first)
        } else {
            Err(format!("{numbers:?} from {first}; {}", history.acknowledged))
        }
    };
    check_events()?;
    retire(&bus, 8).map_err(|error| format!("cannot be retired: {error}"))?;
    let reopened = Reader::open_in(disk.storage());
    if reopened.first_index().map_err(text)? != 9 {
        return Err("was not retired the second time".to_owned());
    }
    let left: Vec<_> =
        disk.names().into_iter().filter(|name| name.ends_with(".zst") || name.contains("retiring")).collect();
    if !left.is_empty() {
        return Err(format!("{left:?} are left"));
    }
    let recorded: Vec<u64> = reopened
        .retired()
        .map_err(text)?
        .iter()
        .flat_map(|retired| retired.parts().iter().map(|part| part.event.index))
        .collect();
    bus.append(draft(99)).map_err(|error| format!("cannot be appended to: {error}"))?;
    let verdict = reopened.verify().map_err(text)?;
    for event in reopened.events(9).map_err(text)? {
        let event = event.map_err(text)?;
        // Every event that says so is true: a dropped retirement has left none.
        if event.event_type == zero_bus::RETIRED_TYPE && !recorded.contains(&event.index) {
            return Err(format!("event {} records a retirement that {RETIRED} does not", event.index));
        }
    }
    if verdict.ok() { Ok(()) } else { Err(verdict.integrity.reason()) }
}

#[test]
fn a_power_cut_at_any_call_of_a_retirement_loses_nothing_else() {
    let (mut points, mut disks, mut cut_again) = (0, 0, 0);
    for call in 1.. {
        let (disk, mut history) = sealed_disk();
        let calls = disk.calls() + call;
        disk.crash_at(calls);
        let done = workload(&disk.storage(), &mut history);
        if !disk.crashed() {
            assert!(done.is_ok(), "{done:?}");
            break;
        }
        points += 1;
        for survivor in disk.survivors(call, 6) {
            disks += 1;
            // The power fails again, while the next retirement completes what is left.
            for again in (1..40).step_by(5) {
                let copy = survivor.survivors(call, 1).remove(0);
                copy.crash_at(again);
                let _ = Bus::open_in(copy.storage()).and_then(|bus| retire(&bus, 8));
                if !copy.crashed() {
                    break;
                }
                cut_again += 1;
                let history = History { retired_up_to: 8, ..history.clone() };
                for state in copy.survivors(call + again, 1) {
                    check(&state, &history)
                        .unwrap_or_else(|problem| panic!("call {call}, then {again}: {problem}"));
                }
            }
            check(&survivor, &history).unwrap_or_else(|problem| panic!("call {call}: {problem}"));
        }
    }
    println!("{points} points, {disks} disks, {cut_again} interrupted again");
    assert!(points > 30 && disks > 100 && cut_again > 200, "{points} {disks} {cut_again}");
}

#[test]
fn a_failure_of_any_call_of_a_retirement_loses_nothing_else_and_other_handles_continue() {
    let mut points = 0;
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1.. {
            let (disk, mut history) = sealed_disk();
            let open = || Bus::open_in(disk.storage()).unwrap();
            let (one, retirer) = (open(), open());
            let before = disk.calls();
            disk.fail_at(before + call, failure);
            let retired = history.retire(&retirer, 4);
            if disk.calls() < before + call {
                assert!(retired.is_ok());
                break;
            }
            points += 1;
            history.append(&one).unwrap_or_else(|error| panic!("call {call}, {failure:?}: {error}"));
            assert!(Reader::open_in(disk.storage()).verify().unwrap().ok(), "call {call}, {failure:?}");
            for survivor in disk.survivors(call, 4) {
                check(&survivor, &history)
                    .unwrap_or_else(|problem| panic!("call {call}, {failure:?}: {problem}"));
            }
        }
    }
    println!("{points} points");
    assert!(points > 30, "{points}");
}

#[test]
fn a_full_disk_before_the_event_leaves_the_log_as_it_was() {
    let (mut call, mut refused) = (0, 0);
    loop {
        call += 1;
        let (disk, _) = sealed_disk();
        let bus = Bus::open_in(disk.storage()).unwrap();
        let calls = disk.calls();
        disk.fail_at(calls + call, Failure::Half);
        match retire(&bus, 8) {
            Err(error @ Error::Io { .. }) => {
                assert!(error.to_string().contains("Free some space"), "{error}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
            Ok(_) if disk.calls() < calls + call => break,
            Ok(_) => {}
        }
        let reader = Reader::open_in(disk.storage());
        assert!(reader.verify().unwrap().ok(), "call {call}");
        let is_recorded =
            disk.content("events.jsonl").unwrap().windows(11).any(|bytes| bytes == b"bus.retired");
        assert_eq!(reader.first_index().unwrap() == 1, !is_recorded || disk.content(RETIRED).is_none());
        let again = Bus::open_in(disk.storage()).unwrap();
        retire(&again, 8).unwrap();
        assert_eq!(reader.first_index().unwrap(), 9, "call {call}");
    }
    assert!(refused > 5, "{refused}");
}

/// A disk whose first eight events were retired, and whose whole log was then put back beside the
/// record.
fn put_back_disk() -> (SimDisk, History) {
    let (disk, history) = sealed_disk();
    let reader = Reader::open_in(disk.storage());
    let mut plain = Vec::new();
    reader.unseal(&mut plain, &mut |_| {}).unwrap();
    let bus = Bus::open_in(disk.storage()).unwrap();
    retire(&bus, 8).unwrap();
    let record = reader.event(13).unwrap().unwrap().line() + "\n";
    plain.extend(record.as_bytes());
    disk.put("events.jsonl", &plain);
    (disk, history)
}

/// Seals and appends through two handles.
fn seal_put_back(storage: &Arc<dyn Storage>, history: &mut History) -> Result<()> {
    let (one, other) = (Bus::open_in(Arc::clone(storage))?, Bus::open_in(Arc::clone(storage))?);
    one.seal(SealOptions::default().up_to(6), &mut |_| {})?;
    history.append(&other)?;
    other.seal(SealOptions::default().up_to(10), &mut |_| {})?;
    history.append(&one)
}

/// Checks that a disk holds all events from the first one on, and can be sealed and retired.
fn check_put_back(disk: &SimDisk, history: &History) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let reader = Reader::open_in(disk.storage());
    let first = reader.event(1).map_err(text)?.ok_or("event 1 is missing")?;
    let bus = Bus::open_in(disk.storage()).map_err(text)?;
    for up_to in [7, 11] {
        bus.seal(SealOptions::default().up_to(up_to), &mut |_| {}).map_err(text)?;
        let verdict = reader.verify().map_err(text)?;
        let last = verdict.integrity.head.index;
        if !verdict.ok()
            || last <= history.acknowledged
            || reader.event(1).map_err(text)? != Some(first.clone())
        {
            return Err(format!("{} events, {}", last, verdict.integrity.reason()));
        }
    }
    retire(&bus, 11).map_err(text)?;
    let verdict = reader.verify().map_err(text)?;
    let first = reader.first_index().map_err(text)?;
    if verdict.ok() && first > 7 {
        Ok(())
    } else {
        Err(format!("{}, from {first}", verdict.integrity.reason()))
    }
}

#[test]
fn a_power_cut_or_a_failure_while_a_log_that_was_put_back_is_sealed_hides_no_event() {
    let (mut points, mut disks) = (0, 0);
    let failures = [None, Some(Failure::Failed), Some(Failure::FailedButPersisted), Some(Failure::Half)];
    for failure in failures {
        for call in 1.. {
            let (disk, mut history) = put_back_disk();
            let calls = disk.calls() + call;
            match failure {
                None => disk.crash_at(calls),
                Some(failure) => disk.fail_at(calls, failure),
            }
            let done = seal_put_back(&disk.storage(), &mut history);
            if disk.calls() < calls {
                assert!(done.is_ok(), "{done:?}");
                break;
            }
            points += 1;
            for survivor in disk.survivors(call, 4) {
                disks += 1;
                check_put_back(&survivor, &history)
                    .unwrap_or_else(|problem| panic!("call {call}, {failure:?}: {problem}"));
            }
        }
    }
    println!("{points} points, {disks} disks");
    assert!(points > 150 && disks > 250, "{points} {disks}");
}

#[test]
fn these_tests_find_a_missing_sync_of_the_directory_of_the_segments() {
    let is_found = (1..80).any(|call| {
        let (disk, mut history) = sealed_disk();
        disk.crash_at(disk.calls() + call);
        let storage: Arc<dyn Storage> =
            Arc::new(CarelessStorage { disk: disk.clone(), syncs_root: true, syncs_segments: false });
        let _ = workload(&storage, &mut history);
        disk.crashed() && disk.survivors(call, 8).iter().any(|disk| check(disk, &history).is_err())
    });
    assert!(is_found);
}
