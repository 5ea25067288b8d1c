//! A power cut at every call, and a failure of every call. Afterwards, every acknowledged event is
//! there, every other one is there as a whole or not at all, and the chain is valid.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::support::draft;
use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::{Access, Lock, Storage, StorageFile, Watch};
use zero_bus::{Bus, Error, Event, Finding, RECOVERED_TYPE, Reader, Result};

/// The numbers that a workload appended, in order, and those that were acknowledged.
#[derive(Default)]
struct History {
    submitted: Vec<u64>,
    acknowledged: Vec<u64>,
}

fn append(bus: &Bus, history: &mut History, numbers: std::ops::Range<u64>) -> Result<()> {
    history.submitted.extend(numbers.clone());
    bus.append_batch(numbers.clone().map(draft).collect())?;
    history.acknowledged.extend(numbers);
    Ok(())
}

fn snapshot(bus: &Bus) -> Result<()> {
    bus.write_snapshot(1.0, None, &BTreeMap::from([("events", bus.head().index)])).map(drop)
}

/// Opens the bus, appends single events and batches, writes snapshots, appends through a second
/// handle, reopens.
fn workload(storage: &Arc<dyn Storage>, history: &mut History) -> Result<()> {
    let open = || Bus::open_in(Arc::clone(storage));
    let bus = open()?;
    append(&bus, history, 1..2)?;
    append(&bus, history, 2..6)?;
    snapshot(&bus)?;
    let other = open()?;
    append(&other, history, 6..7)?;
    append(&bus, history, 7..9)?;
    snapshot(&bus)?;
    drop(bus);
    let again = open()?;
    append(&again, history, 9..12)
}

fn numbers(disk: &SimDisk) -> Vec<u64> {
    let number = |event: &Event| event.payload.value().get("number").unwrap().as_u64().unwrap();
    let events = Reader::open_in(disk.storage()).events(1).unwrap().map(Result::unwrap);
    events.filter(|event| event.event_type != RECOVERED_TYPE).map(|event| number(&event)).collect()
}

/// How much a test covered.
#[derive(Default, Debug)]
struct Counts {
    /// Calls at which the power was cut, or which failed.
    points: u64,
    /// Disks that were checked.
    states: u64,
    /// Disks whose log had an ambiguous tail.
    ambiguous: u64,
    /// Power cuts during a recovery.
    recoveries_crashed: u64,
}

/// Checks that a disk is recovered, or refused for a true reason. Returns what is wrong otherwise.
fn check(
    disk: &SimDisk,
    history: &History,
    counts: &mut Counts,
    seed: u64,
    recoveries: bool,
) -> Result<(), String> {
    counts.states += 1;
    let before = Reader::open_in(disk.storage()).verify().unwrap();
    if matches!(before.integrity.finding, Finding::Fault(_)) {
        return Err(format!("a crash is reported as damage: {}", before.integrity.reason()));
    }
    if recoveries {
        // Cut the power again, at each call of the recovery.
        for call in 1.. {
            let copy = disk.survivors(seed, 1).remove(0);
            copy.crash_at(call);
            let opened = Bus::open_in(copy.storage());
            if !copy.crashed() {
                break;
            }
            // The last call of a recovery may fail without harm: it writes the sync mark.
            drop(opened);
            counts.recoveries_crashed += 1;
            for again in copy.survivors(seed + call, 4) {
                check(&again, history, counts, seed, false)?;
            }
        }
    }
    let bus = match Bus::open_in(disk.storage()) {
        Ok(bus) => bus,
        Err(Error::Ambiguous { .. }) => {
            counts.ambiguous += 1;
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    if !bus.quarantined().is_empty() {
        let last = Reader::open_in(disk.storage()).event(bus.head().index).unwrap().unwrap();
        if last.event_type != RECOVERED_TYPE {
            return Err(format!("{:?} is not recorded", bus.quarantined()));
        }
    }
    let recovered = numbers(disk);
    if recovered.len() < history.acknowledged.len() {
        return Err(format!("{recovered:?} lacks some of {:?}", history.acknowledged));
    }
    if recovered != history.submitted[..recovered.len()] {
        return Err(format!("{recovered:?} is not the beginning of {:?}", history.submitted));
    }
    bus.append(draft(1000)).map_err(|error| error.to_string())?;
    let after = Reader::open_in(disk.storage()).verify().unwrap();
    if !after.ok() {
        return Err(format!("{} / {}", after.integrity.reason(), after.snapshot_integrity.reason));
    }
    Ok(())
}

/// Checks survivors of a disk. An error names the seed that repeats it.
fn check_all(
    disk: &SimDisk,
    history: &History,
    counts: &mut Counts,
    seed: u64,
    max_survivors: usize,
    recoveries: bool,
) -> Result<(), String> {
    for (n, survivor) in disk.survivors(seed, max_survivors).iter().enumerate() {
        check(survivor, history, counts, seed * 1000 + n as u64, recoveries && n % 10 == 0)
            .map_err(|problem| format!("call {seed}, survivor {n}: {problem}"))?;
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_call_loses_no_acknowledged_event() {
    let mut counts = Counts::default();
    let undisturbed = SimDisk::new();
    workload(&undisturbed.storage(), &mut History::default()).unwrap();
    for call in 1..=undisturbed.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut history = History::default();
        let result = workload(&disk.storage(), &mut history);
        // The last call writes the sync mark, which no acknowledged event depends on.
        assert_eq!(result.is_err(), call < undisturbed.calls(), "crash at {call}");
        counts.points += 1;
        check_all(&disk, &history, &mut counts, call, 300, true).unwrap();
    }
    println!("{counts:?}");
    assert!(counts.points > 30 && counts.states > 2_000, "{counts:?}");
}

/// Three producers append at once. Each one's events keep their order.
#[test]
fn a_power_cut_under_several_producers_loses_no_acknowledged_event() {
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
        for (n, survivor) in disk.survivors(call, 100).iter().enumerate() {
            counts.states += 1;
            match Bus::open_in(survivor.storage()) {
                Ok(bus) => drop(bus.append(draft(9)).unwrap()),
                Err(Error::Ambiguous { .. }) => {
                    counts.ambiguous += 1;
                    continue;
                }
                Err(error) => panic!("call {call}, survivor {n}: {error}"),
            }
            let recovered = numbers(survivor);
            for (index, number) in &acknowledged {
                assert_eq!(recovered[*index as usize - 1], *number, "call {call}, survivor {n}");
            }
            for producer in 1..=3 {
                let own: Vec<u64> =
                    recovered.iter().copied().filter(|number| number / 1000 == producer).collect();
                assert_eq!(own, (0..own.len() as u64).map(|n| producer * 1000 + n).collect::<Vec<_>>());
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.states > 500);
}

/// Each call fails once, in each way. Then the program reopens the bus and continues, and then the
/// power is cut.
#[test]
fn a_failure_of_any_call_loses_no_acknowledged_event() {
    let mut counts = Counts::default();
    let undisturbed = SimDisk::new();
    workload(&undisturbed.storage(), &mut History::default()).unwrap();
    let mut unnoticed = 0;
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1..=undisturbed.calls() {
            let disk = SimDisk::new();
            disk.fail_at(call, failure);
            let mut history = History::default();
            let result = workload(&disk.storage(), &mut history);
            // A failure to write the sync mark is ignored; every other one is reported.
            assert!(
                result.is_err() || history.acknowledged.len() == 11,
                "{failure:?} at {call} went unnoticed"
            );
            unnoticed += u64::from(result.is_ok());
            counts.points += 1;
            // The power is cut at once.
            check_all(&disk, &history, &mut counts, call, 60, false).unwrap();
            // The program reopens the bus. Events that were not acknowledged may be there.
            let bus = Bus::open_in(disk.storage()).unwrap();
            let recovered = numbers(&disk);
            assert!(recovered.len() >= history.acknowledged.len());
            assert_eq!(recovered, history.submitted[..recovered.len()], "{failure:?} at {call}");
            let mut history = History { submitted: recovered.clone(), acknowledged: recovered };
            append(&bus, &mut history, 500..503).unwrap();
            check_all(&disk, &history, &mut counts, call, 60, false).unwrap();
        }
    }
    println!("{counts:?}, {unnoticed} unnoticed");
    assert!(counts.states > 1_000);
    assert_eq!(unnoticed, 3 * 5, "one sync mark for each batch");
}

/// A defect of a storage, or of a program that uses it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    /// No defect, to show that the tests report nothing without one.
    None,
    /// Files are not synced.
    NoSync,
    /// A file is synced before its next write instead of when asked, after the event was
    /// acknowledged.
    LateSync,
    /// A failed sync is tried again, and the second result is trusted.
    RetriedSync,
    /// The directory is not synced.
    NoDirectorySync,
    /// Locks exclude no one.
    NoLock,
}

struct BrokenStorage {
    disk: Arc<dyn Storage>,
    defect: Defect,
    /// Where two writers wait for each other, if the test wants a race.
    rendezvous: Option<Arc<Rendezvous>>,
}

struct BrokenFile {
    file: Box<dyn StorageFile>,
    defect: Defect,
    /// A sync that was acknowledged and is still to be done.
    sync_due: Mutex<bool>,
    rendezvous: Option<Arc<Rendezvous>>,
}

/// Forces a race of two writers, whatever the scheduler does. A writer that is about to write waits
/// until the other one is about to write too, waits for the lock, or has ended.
#[derive(Default)]
struct Rendezvous {
    /// Writers that are about to write, wait for the lock, or have ended.
    arrived: Mutex<u32>,
    changed: Condvar,
}

impl Rendezvous {
    fn arrive(&self) -> MutexGuard<'_, u32> {
        let mut arrived = self.arrived.lock().unwrap();
        *arrived += 1;
        self.changed.notify_all();
        arrived
    }

    fn leave(&self) {
        *self.arrived.lock().unwrap() -= 1;
    }

    fn before_writing(&self) {
        drop(self.changed.wait_while(self.arrive(), |arrived| *arrived < 2).unwrap());
        self.leave();
    }
}

/// Marks a writer as arrived when it ends, even in a panic.
struct ArriveOnDrop<'a>(&'a Rendezvous);

impl Drop for ArriveOnDrop<'_> {
    fn drop(&mut self) {
        drop(self.0.arrive());
    }
}

impl BrokenFile {
    fn sync_if_due(&self) -> io::Result<()> {
        if std::mem::take(&mut *self.sync_due.lock().unwrap()) { self.file.sync() } else { Ok(()) }
    }
}

impl Storage for BrokenStorage {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let file = self.disk.open(name, access)?;
        let (sync_due, rendezvous) = (Mutex::new(false), self.rendezvous.clone());
        Ok(Box::new(BrokenFile { file, defect: self.defect, sync_due, rendezvous }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        if self.defect == Defect::NoDirectorySync { Ok(()) } else { self.disk.sync() }
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
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

impl StorageFile for BrokenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.sync_if_due()?;
        if let Some(rendezvous) = &self.rendezvous {
            rendezvous.before_writing();
        }
        self.file.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.sync_if_due()?;
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        match self.defect {
            Defect::NoSync => Ok(()),
            Defect::LateSync => {
                self.sync_if_due()?;
                *self.sync_due.lock().unwrap() = true;
                Ok(())
            }
            Defect::RetriedSync => self.file.sync().or_else(|_| self.file.sync()),
            _ => self.file.sync(),
        }
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.file.identity()
    }

    fn lock(&self, lock: Lock) -> io::Result<()> {
        if self.defect == Defect::NoLock {
            return Ok(());
        }
        let Some(rendezvous) = &self.rendezvous else { return self.file.lock(lock) };
        drop(rendezvous.arrive());
        let locked = self.file.lock(lock);
        rendezvous.leave();
        locked
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        self.file.try_lock(lock)
    }

    fn unlock(&self) -> io::Result<()> {
        if self.defect == Defect::NoLock { Ok(()) } else { self.file.unlock() }
    }
}

/// Runs the crash tests over a storage with a defect. Returns the first problem that they find.
fn find_crash_problem(defect: Defect) -> Option<String> {
    let mut counts = Counts::default();
    let over = |disk: &SimDisk| -> Arc<dyn Storage> {
        Arc::new(BrokenStorage { disk: disk.storage(), defect, rendezvous: None })
    };
    let undisturbed = SimDisk::new();
    workload(&over(&undisturbed), &mut History::default()).unwrap();
    for call in 1..=undisturbed.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut history = History::default();
        let _ = workload(&over(&disk), &mut history);
        if let Err(problem) = check_all(&disk, &history, &mut counts, call, 60, false) {
            return Some(problem);
        }
        let disk = SimDisk::new();
        disk.fail_at(call, Failure::Failed);
        let mut history = History::default();
        let _ = workload(&over(&disk), &mut history);
        if let Err(problem) = check_all(&disk, &history, &mut counts, call, 60, false) {
            return Some(problem);
        }
    }
    None
}

/// Appends through two handles over a storage with a defect. They write at the same time unless the
/// lock prevents it. Returns what is wrong with the log.
fn find_race(defect: Defect) -> Option<String> {
    let disk = SimDisk::new();
    let rendezvous = Arc::new(Rendezvous::default());
    let storage: Arc<dyn Storage> =
        Arc::new(BrokenStorage { disk: disk.storage(), defect, rendezvous: Some(Arc::clone(&rendezvous)) });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _arrive = ArriveOnDrop(&rendezvous);
                let Ok(bus) = Bus::open_in(Arc::clone(&storage)) else { return };
                for number in 0..100 {
                    let _ = bus.append(draft(number));
                }
            });
        }
    });
    let verdict = Reader::open_in(disk.storage()).verify().unwrap();
    let lost_events = verdict.integrity.head.index != 200;
    (lost_events || !verdict.ok()).then(|| verdict.integrity.reason())
}

/// Follows a bus during a workload. Compares each event with the disks that a power cut could leave
/// at that moment. Returns the number of events and of disks, or an event that could have been
/// lost.
fn follow(
    disk: &SimDisk,
    storage: &Arc<dyn Storage>,
    workload_ended: &AtomicBool,
) -> Result<(u64, u64), String> {
    let (mut last_index, mut states) = (0, 0);
    loop {
        // Loaded before the last pass, so that the last events are not missed.
        let is_last_pass = workload_ended.load(SeqCst);
        // A failed call, or a log that was cut, ends this follower. The next pass starts another
        // one.
        let Ok(mut follower) = Reader::open_in(Arc::clone(storage)).follow(last_index + 1) else { continue };
        while let Ok(Some(event)) =
            follower.next_timeout(Duration::from_millis(if is_last_pass { 0 } else { 5 }))
        {
            last_index = event.index;
            for survivor in disk.survivors(last_index, 8) {
                states += 1;
                match Bus::open_in(survivor.storage()) {
                    // An ambiguous tail comes after the sync mark, and so after this event.
                    Ok(_) | Err(Error::Ambiguous { .. }) => {}
                    Err(error) => return Err(error.to_string()),
                }
                let recovered = Reader::open_in(survivor.storage())
                    .event(last_index)
                    .map_err(|error| error.to_string())?;
                if recovered.as_ref() != Some(&event) {
                    return Err(format!("the follower got event {last_index}, which can still be lost"));
                }
            }
        }
        if is_last_pass {
            return Ok((last_index, states));
        }
    }
}

/// Runs the workload with a follower, once for each call that fails. Returns the number of failed
/// calls, events and disks.
fn follow_through_failures(defect: Defect) -> Result<(u64, u64, u64), String> {
    let undisturbed = SimDisk::new();
    workload(&undisturbed.storage(), &mut History::default()).unwrap();
    let (mut points, mut events, mut states) = (0, 0, 0);
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1..=undisturbed.calls() {
            let disk = SimDisk::new();
            let storage: Arc<dyn Storage> =
                Arc::new(BrokenStorage { disk: disk.storage(), defect, rendezvous: None });
            disk.fail_at(call, failure);
            let workload_ended = AtomicBool::new(false);
            let (seen_events, checked_disks) = std::thread::scope(|scope| {
                let follower = scope.spawn(|| follow(&disk, &storage, &workload_ended));
                let _ = workload(&storage, &mut History::default());
                // The program is started again.
                let _ = Bus::open_in(Arc::clone(&storage)).and_then(|bus| bus.append(draft(99)));
                workload_ended.store(true, SeqCst);
                follower.join().unwrap()
            })
            .map_err(|problem| format!("{failure:?} at {call}: {problem}"))?;
            points += 1;
            events += seen_events;
            states += checked_disks;
        }
    }
    Ok((points, events, states))
}

#[test]
fn a_follower_gets_no_event_that_a_power_cut_can_take_back() {
    let (points, events, states) = follow_through_failures(Defect::None).unwrap();
    println!("{points} points, {events} events followed, {states} disks");
    assert!(events > 3 * points && states > 3 * events);
}

#[test]
fn these_tests_find_every_kind_of_broken_storage() {
    assert_eq!(find_crash_problem(Defect::None), None);
    assert_eq!(find_race(Defect::None), None);
    for defect in [Defect::NoSync, Defect::LateSync, Defect::RetriedSync, Defect::NoDirectorySync] {
        let problem = find_crash_problem(defect);
        println!("{defect:?}: {problem:?}");
        assert!(problem.is_some(), "{defect:?} was not found");
    }
    for defect in [Defect::NoSync, Defect::LateSync] {
        let problem = follow_through_failures(defect).err();
        println!("{defect:?}, with a follower: {problem:?}");
        assert!(problem.is_some(), "{defect:?} was not found by the follower");
    }
    let problem = find_race(Defect::NoLock);
    println!("{:?}: {problem:?}", Defect::NoLock);
    assert!(problem.is_some(), "NoLock was not found");
}
