//! A power cut and a failure at every call of a seal, of the handles that append meanwhile, and of
//! the next seal. Afterwards the log holds every acknowledged event, and is sealed or as it was.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::{Access, Storage, StorageFile, Watch};
use zero_bus::{Bus, Error, Reader, Result, SealOptions};

use crate::support::draft;

/// Events that were acknowledged, by number. Each call appends the next number.
#[derive(Default)]
struct History {
    submitted: u64,
    acknowledged: u64,
}

impl History {
    fn append(&mut self, bus: &Bus) -> Result<()> {
        self.submitted += 1;
        bus.append(draft(self.submitted))?;
        self.acknowledged = self.submitted;
        Ok(())
    }
}

fn seal(bus: &Bus, up_to: u64) -> Result<u64> {
    bus.seal(SealOptions::default().up_to(up_to), &mut |_| {}).map(|sealed| sealed.segments)
}

/// Two handles append, and a third one seals twice, while both stay open.
fn workload(storage: &Arc<dyn Storage>, history: &mut History) -> Result<()> {
    let open = || Bus::open_in(Arc::clone(storage));
    let (one, other) = (open()?, open()?);
    (0..6).try_for_each(|_| history.append(&one))?;
    history.append(&other)?;
    let sealer = open()?;
    seal(&sealer, 3)?;
    history.append(&other)?;
    history.append(&one)?;
    seal(&sealer, 6)?;
    history.append(&sealer)?;
    history.append(&one)
}

/// Checks that a disk holds the log, that it can be sealed, and that it is the same log then.
fn check(disk: &SimDisk, history: &History) -> Result<(), String> {
    let verdict = Reader::open_in(disk.storage()).verify().map_err(|error| error.to_string())?;
    if matches!(verdict.integrity.finding, zero_bus::Finding::Fault(_)) {
        return Err(format!("a crash is reported as damage: {}", verdict.integrity.reason()));
    }
    let bus = Bus::open_in(disk.storage()).map_err(|error| error.to_string())?;
    let numbers = || {
        let events = Reader::open_in(disk.storage()).events(1).map_err(|error| error.to_string())?;
        let numbers = events.filter_map(|event| match event {
            Ok(event) => event.payload.value().get("number")?.as_u64().map(Ok),
            Err(error) => Some(Err(error.to_string())),
        });
        numbers.collect::<Result<Vec<u64>, String>>()
    };
    let recovered = numbers()?;
    let last = recovered.len() as u64;
    if recovered != (1..=last).collect::<Vec<_>>()
        || !(history.acknowledged..=history.submitted).contains(&last)
    {
        return Err(format!("{recovered:?}, but {} were acknowledged", history.acknowledged));
    }
    seal(&bus, 5).map_err(|error| format!("cannot be sealed: {error}"))?;
    bus.append(draft(last + 1)).map_err(|error| format!("cannot be appended to: {error}"))?;
    if numbers()? != (1..=last + 1).collect::<Vec<_>>() {
        return Err("is another log once it is sealed".to_owned());
    }
    let verdict = Reader::open_in(disk.storage()).verify().map_err(|error| error.to_string())?;
    if verdict.ok() { Ok(()) } else { Err(verdict.integrity.reason()) }
}

#[test]
fn a_power_cut_at_any_call_of_a_seal_loses_nothing() {
    let (mut points, mut disks, mut seals_cut) = (0, 0, 0);
    for call in 1.. {
        let (disk, mut history) = (SimDisk::new(), History::default());
        disk.crash_at(call);
        let done = workload(&disk.storage(), &mut history);
        if !disk.crashed() {
            assert!(done.is_ok(), "{done:?}");
            break;
        }
        points += 1;
        for survivor in disk.survivors(call, 8) {
            disks += 1;
            // The power fails again, while what the first seal left is removed.
            for again in (1..60).step_by(9) {
                let copy = survivor.survivors(call, 1).remove(0);
                copy.crash_at(again);
                let _ = Bus::open_in(copy.storage()).and_then(|bus| seal(&bus, 5));
                if !copy.crashed() {
                    break;
                }
                seals_cut += 1;
                for state in copy.survivors(call + again, 1) {
                    check(&state, &history)
                        .unwrap_or_else(|problem| panic!("call {call}, then {again}: {problem}"));
                }
            }
            check(&survivor, &history).unwrap_or_else(|problem| panic!("call {call}: {problem}"));
        }
    }
    println!("{points} points, {disks} disks, {seals_cut} interrupted seals");
    assert!(points > 60 && disks > 300 && seals_cut > 500, "{points} {disks} {seals_cut}");
}

#[test]
fn a_failure_of_any_call_of_a_seal_loses_nothing_and_open_handles_continue() {
    let (mut points, mut continued) = (0, 0);
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1.. {
            let (disk, mut history) = (SimDisk::new(), History::default());
            let storage = disk.storage();
            let open = || Bus::open_in(Arc::clone(&storage)).unwrap();
            let (one, sealer) = (open(), open());
            (0..7).for_each(|_| history.append(&one).unwrap());
            disk.fail_at(disk.calls() + call, failure);
            let before = disk.calls();
            let sealed = seal(&sealer, 4);
            if disk.calls() < before + call {
                assert!(sealed.is_ok());
                break;
            }
            points += 1;
            // No handle is poisoned by a seal that failed: at most, it did not take place.
            for bus in [&one, &sealer] {
                history.append(bus).unwrap_or_else(|error| panic!("call {call}, {failure:?}: {error}"));
                continued += 1;
            }
            assert!(sealed.is_err() || Reader::open_in(disk.storage()).verify().unwrap().ok());
            for survivor in disk.survivors(call, 6) {
                check(&survivor, &history)
                    .unwrap_or_else(|problem| panic!("call {call}, {failure:?}: {problem}"));
            }
        }
    }
    println!("{points} points, {continued} handles that continued");
    assert!(points > 50, "{points}");
}

#[test]
fn a_full_disk_in_the_middle_of_a_seal_leaves_the_log_as_it_was() {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    bus.append_batch((1..=20).map(draft).collect()).unwrap();
    let log = disk.content("events.jsonl");
    let mut call = 0;
    loop {
        call += 1;
        let calls = disk.calls();
        disk.fail_at(calls + call, Failure::Half);
        match seal(&bus, 10) {
            Err(error @ Error::Io { .. }) => {
                assert!(error.to_string().contains("Free some space"), "{error}")
            }
            Err(error) => panic!("{error}"),
            Ok(_) if disk.calls() < calls + call => break,
            Ok(_) => {}
        }
        assert!(Reader::open_in(disk.storage()).verify().unwrap().ok(), "call {call}");
        if disk.content("events.jsonl") != log {
            break;
        }
    }
    assert!(call > 8, "{call}");
    assert_eq!(bus.append(draft(21)).unwrap().index, 21);
    assert!(Reader::open_in(disk.storage()).verify().unwrap().ok());
}

/// A storage that does not sync its directory, or not the one of the segments.
pub(crate) struct CarelessStorage {
    pub(crate) disk: SimDisk,
    pub(crate) syncs_root: bool,
    pub(crate) syncs_segments: bool,
}

impl Storage for CarelessStorage {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        self.disk.open(name, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        if self.syncs_root { self.disk.sync() } else { Ok(()) }
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.disk.create_directory(name)
    }

    fn sync_directory(&self, name: &str) -> io::Result<()> {
        if self.syncs_segments { self.disk.sync_directory(name) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        self.disk.is_current(name, file)
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        self.disk.watch()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
}

#[test]
fn these_tests_find_a_missing_sync_of_either_directory() {
    for (syncs_root, syncs_segments) in [(false, true), (true, false)] {
        let is_found = (1..200).any(|call| {
            let (disk, mut history) = (SimDisk::new(), History::default());
            disk.crash_at(call);
            let storage: Arc<dyn Storage> =
                Arc::new(CarelessStorage { disk: disk.clone(), syncs_root, syncs_segments });
            let _ = workload(&storage, &mut history);
            disk.crashed() && disk.survivors(call, 8).iter().any(|disk| check(disk, &history).is_err())
        });
        assert!(is_found, "root: {syncs_root}, segments: {syncs_segments}");
    }
}
