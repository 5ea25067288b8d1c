//! The power goes at every call, and each call fails once: what was acknowledged is there afterwards, what was not is
//! there whole or not at all, and the chain is sound.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::support::draft;
use zero_bus::sim::{Failure, SimDisk};
use zero_bus::storage::{Access, Lock, Storage, StorageFile, Watch};
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
fn workload(storage: &Arc<dyn Storage>, told: &mut Told) -> Result<()> {
    let open = || Bus::open_in(Arc::clone(storage));
    let bus = open()?;
    append(&bus, told, 1..2)?;
    append(&bus, told, 2..6)?;
    snapshot(&bus)?;
    let other = open()?;
    append(&other, told, 6..7)?;
    append(&bus, told, 7..9)?;
    snapshot(&bus)?;
    drop(bus);
    let again = open()?;
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

/// A disk as it was found: recovered, or refused for a reason that is true. Gives what is wrong otherwise.
fn check(
    found: &SimDisk,
    told: &Told,
    counts: &mut Counts,
    seed: u64,
    recoveries: bool,
) -> Result<(), String> {
    counts.states += 1;
    let before = Reader::open_in(found.storage()).verify().unwrap();
    if matches!(before.integrity.finding, Finding::Fault(_)) {
        return Err(format!("a crash is reported as damage: {}", before.integrity.reason()));
    }
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
                check(&again, told, counts, seed, false)?;
            }
        }
    }
    let bus = match Bus::open_in(found.storage()) {
        Ok(bus) => bus,
        Err(Error::Ambiguous { .. }) => {
            counts.undecided += 1;
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    let there = numbers(found);
    if there.len() < told.acknowledged.len() {
        return Err(format!("{there:?} lacks of {:?}", told.acknowledged));
    }
    if there != told.handed_in[..there.len()] {
        return Err(format!("{there:?} is not the beginning of {:?}", told.handed_in));
    }
    bus.append(draft(1000)).map_err(|error| error.to_string())?;
    let after = Reader::open_in(found.storage()).verify().unwrap();
    if !after.ok() {
        return Err(format!("{} / {}", after.integrity.reason(), after.snapshot_integrity.reason));
    }
    Ok(())
}

/// Checks survivors of a disk, naming the seed that shows what is wrong.
fn check_all(
    disk: &SimDisk,
    told: &Told,
    counts: &mut Counts,
    seed: u64,
    at_most: usize,
    recoveries: bool,
) -> Result<(), String> {
    for (n, found) in disk.survivors(seed, at_most).iter().enumerate() {
        check(found, told, counts, seed * 1000 + n as u64, recoveries && n % 10 == 0)
            .map_err(|problem| format!("call {seed}, survivor {n}: {problem}"))?;
    }
    Ok(())
}

#[test]
fn the_power_goes_at_every_call() {
    let mut counts = Counts::default();
    let whole = SimDisk::new();
    workload(&whole.storage(), &mut Told::default()).unwrap();
    for call in 1..=whole.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut told = Told::default();
        let ended = workload(&disk.storage(), &mut told);
        // The last call is a note, without which all that was acknowledged is still there.
        assert_eq!(ended.is_err(), call < whole.calls(), "crash at {call}");
        counts.points += 1;
        check_all(&disk, &told, &mut counts, call, 300, true).unwrap();
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
                Err(Error::Ambiguous { .. }) => {
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
    workload(&whole.storage(), &mut Told::default()).unwrap();
    let mut unnoticed = 0;
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1..=whole.calls() {
            let disk = SimDisk::new();
            disk.fail_at(call, failure);
            let mut told = Told::default();
            let ended = workload(&disk.storage(), &mut told);
            // A note that cannot be written is none; everything else is noticed.
            assert!(ended.is_err() || told.acknowledged.len() == 11, "{failure:?} at {call} went unnoticed");
            unnoticed += u64::from(ended.is_ok());
            counts.points += 1;
            // The power goes at once.
            check_all(&disk, &told, &mut counts, call, 60, false).unwrap();
            // The program opens the bus again. What was handed in and not acknowledged may be there.
            let bus = Bus::open_in(disk.storage()).unwrap();
            let there = numbers(&disk);
            assert!(there.len() >= told.acknowledged.len());
            assert_eq!(there, told.handed_in[..there.len()], "{failure:?} at {call}");
            let mut now = Told { handed_in: there.clone(), acknowledged: there };
            append(&bus, &mut now, 500..503).unwrap();
            check_all(&disk, &now, &mut counts, call, 60, false).unwrap();
        }
    }
    println!("{counts:?}, {unnoticed} unnoticed");
    assert!(counts.states > 1_000);
    assert_eq!(unnoticed, 3 * 5, "one note for each batch");
}

/// Ways in which a storage, or who uses it, can be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    /// Nothing is wrong: the control of the controls.
    Nothing,
    /// Files are not synced.
    NoSync,
    /// A file is synced at the call after the one that should have: what was acknowledged was not synced yet.
    LateSync,
    /// A sync that failed is tried again, and the second answer believed.
    RetriedSync,
    /// The directory is not synced.
    NoDirectorySync,
    /// Nobody is kept out.
    NoLock,
}

struct BrokenStorage {
    disk: Arc<dyn Storage>,
    broken: Broken,
    /// Where two writers meet, if they are to.
    meeting: Option<Arc<Meeting>>,
}

struct BrokenFile {
    file: Box<dyn StorageFile>,
    broken: Broken,
    owed: Mutex<bool>,
    meeting: Option<Arc<Meeting>>,
}

/// Makes two writers get in each other's way, whatever the processor does: one that is about to write waits until the
/// other is about to write too, is kept out by the lock, or has ended.
#[derive(Default)]
struct Meeting {
    /// How many are about to write, wait for the lock, or have ended.
    arrived: Mutex<u32>,
    changed: Condvar,
}

impl Meeting {
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

/// A writer that arrives for good when it ends, however it does.
struct Ending<'a>(&'a Meeting);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        drop(self.0.arrive());
    }
}

impl BrokenFile {
    fn settle(&self) -> io::Result<()> {
        if std::mem::take(&mut *self.owed.lock().unwrap()) { self.file.sync() } else { Ok(()) }
    }
}

impl Storage for BrokenStorage {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let file = self.disk.open(name, access)?;
        let (owed, meeting) = (Mutex::new(false), self.meeting.clone());
        Ok(Box::new(BrokenFile { file, broken: self.broken, owed, meeting }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        if self.broken == Broken::NoDirectorySync { Ok(()) } else { self.disk.sync() }
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
        self.settle()?;
        if let Some(meeting) = &self.meeting {
            meeting.before_writing();
        }
        self.file.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.settle()?;
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        match self.broken {
            Broken::NoSync => Ok(()),
            Broken::LateSync => {
                self.settle()?;
                *self.owed.lock().unwrap() = true;
                Ok(())
            }
            Broken::RetriedSync => self.file.sync().or_else(|_| self.file.sync()),
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
        if self.broken == Broken::NoLock {
            return Ok(());
        }
        let Some(meeting) = &self.meeting else { return self.file.lock(lock) };
        drop(meeting.arrive());
        let locked = self.file.lock(lock);
        meeting.leave();
        locked
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        if self.broken == Broken::NoLock { Ok(()) } else { self.file.unlock() }
    }
}

/// The crash tests over a storage that is broken in some way; the first thing they find.
fn finds(broken: Broken) -> Option<String> {
    let mut counts = Counts::default();
    let over = |disk: &SimDisk| -> Arc<dyn Storage> {
        Arc::new(BrokenStorage { disk: disk.storage(), broken, meeting: None })
    };
    let whole = SimDisk::new();
    workload(&over(&whole), &mut Told::default()).unwrap();
    for call in 1..=whole.calls() + 1 {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let mut told = Told::default();
        let _ = workload(&over(&disk), &mut told);
        if let Err(found) = check_all(&disk, &told, &mut counts, call, 60, false) {
            return Some(found);
        }
        let disk = SimDisk::new();
        disk.fail_at(call, Failure::Failed);
        let mut told = Told::default();
        let _ = workload(&over(&disk), &mut told);
        if let Err(found) = check_all(&disk, &told, &mut counts, call, 60, false) {
            return Some(found);
        }
    }
    None
}

/// Two handles over a storage that is broken in some way, that write at once unless something keeps one of them out.
fn finds_a_race(broken: Broken) -> Option<String> {
    let disk = SimDisk::new();
    let meeting = Arc::new(Meeting::default());
    let storage: Arc<dyn Storage> =
        Arc::new(BrokenStorage { disk: disk.storage(), broken, meeting: Some(Arc::clone(&meeting)) });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _ending = Ending(&meeting);
                let Ok(bus) = Bus::open_in(Arc::clone(&storage)) else { return };
                for number in 0..100 {
                    let _ = bus.append(draft(number));
                }
            });
        }
    });
    let verdict = Reader::open_in(disk.storage()).verify().unwrap();
    let lost = verdict.integrity.head.index != 200;
    (lost || !verdict.ok()).then(|| verdict.integrity.reason())
}

/// A follower that runs beside a workload, and holds each event it is given against the disks that a power cut would
/// leave at that moment. Gives the events it saw and the disks, or what could have been taken back.
fn follow(
    disk: &SimDisk,
    storage: &Arc<dyn Storage>,
    workload_ended: &AtomicBool,
) -> Result<(u64, u64), String> {
    let (mut seen, mut states) = (0, 0);
    loop {
        // Asked before the last look, so that the last events are not missed.
        let last_look = workload_ended.load(SeqCst);
        // What the disk refuses, and a log that was taken back, is for the next one to follow.
        let Ok(mut follower) = Reader::open_in(Arc::clone(storage)).follow(seen + 1) else { continue };
        while let Ok(Some(event)) =
            follower.next_timeout(Duration::from_millis(if last_look { 0 } else { 5 }))
        {
            seen = event.index;
            for found in disk.survivors(seen, 8) {
                states += 1;
                match Bus::open_in(found.storage()) {
                    // What is undecided stands behind what is known to have been synced.
                    Ok(_) | Err(Error::Ambiguous { .. }) => {}
                    Err(error) => return Err(error.to_string()),
                }
                let there =
                    Reader::open_in(found.storage()).event(seen).map_err(|error| error.to_string())?;
                if there.as_ref() != Some(&event) {
                    return Err(format!("event {seen} was given out, and can be lost"));
                }
            }
        }
        if last_look {
            return Ok((seen, states));
        }
    }
}

/// A workload with a follower beside it, through every call that fails.
fn followed(broken: Broken) -> Result<(u64, u64, u64), String> {
    let whole = SimDisk::new();
    workload(&whole.storage(), &mut Told::default()).unwrap();
    let (mut points, mut events, mut states) = (0, 0, 0);
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        for call in 1..=whole.calls() {
            let disk = SimDisk::new();
            let storage: Arc<dyn Storage> =
                Arc::new(BrokenStorage { disk: disk.storage(), broken, meeting: None });
            disk.fail_at(call, failure);
            let ended = AtomicBool::new(false);
            let (seen, found) = std::thread::scope(|scope| {
                let following = scope.spawn(|| follow(&disk, &storage, &ended));
                let _ = workload(&storage, &mut Told::default());
                // As the program that is started again would.
                let _ = Bus::open_in(Arc::clone(&storage)).and_then(|bus| bus.append(draft(99)));
                ended.store(true, SeqCst);
                following.join().unwrap()
            })
            .map_err(|problem| format!("{failure:?} at {call}: {problem}"))?;
            points += 1;
            events += seen;
            states += found;
        }
    }
    Ok((points, events, states))
}

/// Durable is what others see.
#[test]
fn a_follower_is_given_nothing_that_can_be_lost() {
    let (points, events, states) = followed(Broken::Nothing).unwrap();
    println!("{points} points, {events} events given out, {states} disks");
    assert!(events > 3 * points && states > 3 * events);
}

/// The tests above would find it if something were wrong.
#[test]
fn what_is_broken_is_found() {
    assert_eq!(finds(Broken::Nothing), None);
    assert_eq!(finds_a_race(Broken::Nothing), None);
    for broken in [Broken::NoSync, Broken::LateSync, Broken::RetriedSync, Broken::NoDirectorySync] {
        let found = finds(broken);
        println!("{broken:?}: {found:?}");
        assert!(found.is_some(), "{broken:?} goes unnoticed");
    }
    for broken in [Broken::NoSync, Broken::LateSync] {
        let found = followed(broken).err();
        println!("{broken:?}, followed: {found:?}");
        assert!(found.is_some(), "{broken:?} goes unnoticed by the follower");
    }
    let found = finds_a_race(Broken::NoLock);
    println!("{:?}: {found:?}", Broken::NoLock);
    assert!(found.is_some(), "NoLock goes unnoticed");
}
