//! Sealing changes where the bytes of a log are, and nothing else: for readers, followers and
//! appenders, those that are open and those that are opened later.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use zero_bus::storage::{Directory, Storage};
use zero_bus::{Bus, Draft, Error, Event, Head, LOCK, LOG, OpenOptions, Reader, SEGMENTS, SealOptions};

use crate::support::{bus_of, directory, draft, numbers, verify};

/// Creates a bus of `events` events of about 1 kB each.
fn large_bus(path: &Path, events: u64) -> Vec<Event> {
    let bus = Bus::open(path).unwrap();
    let text = |number: u64| (0..60).map(|word| format!("word-{} ", number * 31 + word)).collect::<String>();
    let payload = |number| BTreeMap::from([("text", text(number))]);
    let drafts =
        (1..=events).map(|number| Draft::new("test.large", number as f64, &payload(number)).unwrap());
    bus.append_batch(drafts.collect()).unwrap()
}

fn seal(path: &Path, up_to: u64) -> zero_bus::Sealed {
    let bus = Bus::open(path).unwrap();
    bus.seal(SealOptions::default().up_to(up_to).segment_bytes(1), &mut |_| {}).unwrap()
}

/// Returns the plain bytes of a log: those of its segments in the order of their names, and those
/// of its active file.
fn unpacked(path: &Path) -> Vec<u8> {
    let mut names: Vec<_> =
        fs::read_dir(path.join(SEGMENTS)).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "zst"));
    names.sort();
    let mut bytes = Vec::new();
    for name in names {
        bytes.extend(zstd::stream::decode_all(fs::File::open(name).unwrap()).unwrap());
    }
    bytes.extend(fs::read(path.join(LOG)).unwrap());
    bytes
}

#[test]
fn a_sealed_log_is_the_same_log() {
    let dir = directory();
    let events = large_bus(dir.path(), 4000);
    let plain = fs::read(dir.path().join(LOG)).unwrap();
    let before = verify(dir.path());
    let sealed = seal(dir.path(), 3500);
    assert_eq!((sealed.first, sealed.last), (1, 3500));
    assert!(sealed.segments >= 3, "{sealed:?}");
    let files_bytes: u64 = fs::read_dir(dir.path().join(SEGMENTS))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(files_bytes, sealed.bytes_sealed);
    assert_eq!(unpacked(dir.path()), plain);

    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.size_bytes().unwrap(), plain.len() as u64);
    assert_eq!(verify(dir.path()), before);
    assert_eq!(reader.head().unwrap(), events.last().unwrap().head());
    let read = reader.events(1).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(read, events);
    for index in [1, 2, 999, 1000, 2345, 3499, 3500, 3501, 3502, 4000] {
        assert_eq!(reader.event(index).unwrap().as_ref(), events.get(index as usize - 1), "event {index}");
        let first = reader.events(index).unwrap().next().unwrap().unwrap();
        assert_eq!(first.index, index);
    }
    assert_eq!(reader.event(4001).unwrap(), None);
    assert!(reader.contains(events[1233].head()).unwrap());
    assert!(!reader.contains(Head { checksum: events[0].head().checksum, ..events[1233].head() }).unwrap());

    // A second seal continues where the first one ended.
    let bus = Bus::open(dir.path()).unwrap();
    let again = bus.seal(SealOptions::default().up_to(u64::MAX), &mut |_| {}).unwrap();
    assert_eq!((again.first, again.last), (3501, 3997), "the last three events stay");
    let new = bus.append(draft(7)).unwrap();
    assert_eq!(new.index, 4001);
    assert_eq!(reader.event(4001).unwrap(), Some(new));
    assert_eq!(bus.seal(SealOptions::default().up_to(100), &mut |_| {}).unwrap().segments, 0);
    assert_eq!(&unpacked(dir.path())[..plain.len()], plain);
    assert!(verify(dir.path()).ok());
}

#[test]
fn by_default_only_whole_segments_are_sealed() {
    let dir = directory();
    large_bus(dir.path(), 4000);
    let bus = Bus::open(dir.path()).unwrap();
    assert_eq!(bus.seal(&SealOptions::default(), &mut |_| {}).unwrap().segments, 0);
    let mut reported = Vec::new();
    let sealed =
        bus.seal(SealOptions::default().segment_bytes(1 << 20), &mut |at| reported.push(at)).unwrap();
    let size = bus.reader().size_bytes().unwrap();
    assert_eq!(sealed.segments, size >> 20, "{sealed:?}");
    assert!(sealed.bytes >= sealed.segments << 20);
    assert_eq!(reported.last().unwrap().bytes, sealed.bytes);
    assert!(verify(dir.path()).ok());
}

#[test]
fn every_way_to_read_and_copy_sees_the_same_before_and_after() {
    let dir = directory();
    let path = dir.path().join("bus");
    large_bus(&path, 1500);
    Bus::open(&path).unwrap().write_snapshot(1.0, None, &BTreeMap::from([("events", 1500)])).unwrap();
    let observe = || {
        let reader = Reader::open(&path).unwrap();
        let mut audit = Vec::new();
        reader.audit(&mut audit, &mut |_| {}).unwrap();
        let mut selected = Vec::new();
        let on_event = |event: Event| {
            selected.push(event.index);
            Ok::<(), Error>(())
        };
        reader.select(2, |_, _| true, on_event).unwrap();
        (audit, selected, reader.verify().unwrap(), reader.sync_mark().unwrap())
    };
    let before = observe();
    let copy_before: Arc<dyn Storage> = Arc::new(Directory::create(&dir.path().join("before")).unwrap());
    let reader = Reader::open(&path).unwrap();
    reader.backup(&copy_before, &mut |_| {}).unwrap();
    seal(&path, 1400);
    assert_eq!(observe(), before);
    // A backup that was begun before the seal is continued, and a new one is the same.
    let more = Bus::open(&path).unwrap().append(draft(1)).unwrap();
    assert_eq!(reader.backup(&copy_before, &mut |_| {}).unwrap().events, more.index);
    let copy_after: Arc<dyn Storage> = Arc::new(Directory::create(&dir.path().join("after")).unwrap());
    reader.backup(&copy_after, &mut |_| {}).unwrap();
    let log_in = |name: &str| fs::read(dir.path().join(name).join(LOG)).unwrap();
    assert_eq!(log_in("before"), unpacked(&path));
    assert_eq!(log_in("after"), log_in("before"));
    // A sealed backup is brought up to date, too.
    seal(&dir.path().join("after"), 1000);
    Bus::open(&path).unwrap().append(draft(2)).unwrap();
    assert_eq!(reader.backup(&copy_after, &mut |_| {}).unwrap().events, more.index + 1);
    assert_eq!(unpacked(&dir.path().join("after")), unpacked(&path));
}

#[test]
fn open_handles_continue_after_a_seal() {
    let dir = directory();
    bus_of(dir.path(), 10);
    let appender = Bus::open(dir.path()).unwrap();
    let idle = Bus::open(dir.path()).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let mut follower = reader.follow(3).unwrap();
    let mut late_follower = reader.follow(11).unwrap();
    let mut events = reader.events(1).unwrap();
    assert_eq!(events.next().unwrap().unwrap().index, 1);
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap().unwrap().index, 3);
    assert_eq!(late_follower.next_timeout(Duration::ZERO).unwrap(), None);

    assert_eq!(seal(dir.path(), 6).last, 6);
    assert_eq!(appender.append(draft(11)).unwrap().index, 11);
    assert!(!idle.is_at_end().unwrap(), "another handle has appended");
    assert_eq!(seal(dir.path(), 9).last, 8, "the last three events stay");
    assert_eq!(idle.append(draft(12)).unwrap().index, 12);
    assert_eq!(appender.append(draft(13)).unwrap().index, 13);
    assert!(!idle.is_at_end().unwrap());
    assert!(appender.is_at_end().unwrap());

    let wait = Duration::from_secs(10);
    for index in 4..=13 {
        assert_eq!(follower.next_timeout(wait).unwrap().unwrap().index, index);
    }
    for index in 11..=13 {
        assert_eq!(late_follower.next_timeout(wait).unwrap().unwrap().index, index);
    }
    let rest: Vec<u64> = events.map(|event| event.unwrap().index).collect();
    assert_eq!(rest, (2..=10).collect::<Vec<_>>());
    assert_eq!(numbers(dir.path()), (1..=13).collect::<Vec<_>>());
}

#[test]
fn appenders_and_followers_work_while_others_seal() {
    let dir = directory();
    bus_of(dir.path(), 4);
    let done = AtomicBool::new(false);
    let (appenders, each) = (3, 60);
    std::thread::scope(|scope| {
        let append = |thread: u64| {
            let bus = Bus::open(dir.path()).unwrap();
            (0..each).map(|number| bus.append(draft(1000 * thread + number)).unwrap()).collect::<Vec<_>>()
        };
        let appending: Vec<_> = (1..=appenders).map(|thread| scope.spawn(move || append(thread))).collect();
        let follow = || {
            let follower = Reader::open(dir.path()).unwrap().follow(1).unwrap();
            follower.take(4 + (appenders * each) as usize).collect::<Result<Vec<_>, _>>().unwrap()
        };
        let following: Vec<_> = (0..2).map(|_| scope.spawn(follow)).collect();
        let sealing: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut sealed = 0;
                    while !done.load(SeqCst) {
                        let bus = Bus::open(dir.path()).unwrap();
                        match bus.seal(SealOptions::default().up_to(u64::MAX), &mut |_| {}) {
                            Ok(new) => sealed += new.segments,
                            Err(Error::Sealing { .. }) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                    sealed
                })
            })
            .collect();
        let appended: Vec<Event> = appending.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let followed: Vec<Vec<Event>> = following.into_iter().map(|thread| thread.join().unwrap()).collect();
        done.store(true, SeqCst);
        let sealed: u64 = sealing.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(sealed > 0);
        for events in followed {
            assert!(events.iter().map(|event| event.index).eq(1..=4 + appenders * each));
            assert!(appended.iter().all(|event| events[event.index as usize - 1] == *event));
        }
    });
    assert!(verify(dir.path()).ok());
}

#[test]
fn two_sealers_do_not_meet() {
    let dir = directory();
    bus_of(dir.path(), 20);
    let storage = Directory::open(dir.path()).unwrap();
    let first = Bus::open(dir.path()).unwrap();
    storage.create_directory(SEGMENTS).unwrap();
    let lock = storage.open("segments/lock", zero_bus::storage::Access::ReadWrite).unwrap();
    assert!(lock.try_lock(zero_bus::storage::Lock::Exclusive).unwrap());
    match first.seal(SealOptions::default().up_to(10), &mut |_| {}) {
        Err(error @ Error::Sealing { .. }) => {
            assert!(error.to_string().contains("is sealing the bus"), "{error}")
        }
        other => panic!("{other:?}"),
    }
    drop(lock);
    assert_eq!(first.seal(SealOptions::default().up_to(10), &mut |_| {}).unwrap().last, 10);
}

#[test]
fn a_handle_seals_its_log_when_it_is_large_enough() {
    let dir = directory();
    let mut options = OpenOptions::new();
    let bus = options.segment_bytes(1 << 20).open(dir.path()).unwrap();
    let payload = BTreeMap::from([("text", "a line of some length ".repeat(400))]);
    for number in 0..400 {
        bus.append_batch(vec![Draft::new("test.large", f64::from(number), &payload).unwrap(); 2]).unwrap();
    }
    assert_eq!(bus.warnings(), [] as [String; 0]);
    drop(bus);
    let active = fs::metadata(dir.path().join(LOG)).unwrap().len();
    let all = Reader::open(dir.path()).unwrap().size_bytes().unwrap();
    assert!(all > 6 << 20);
    assert!(active <= all - (1 << 20), "{active} of {all} bytes are not sealed");
    assert!(verify(dir.path()).ok());
}

#[test]
fn recovery_works_without_a_lock_file_and_after_a_torn_tail() {
    for (last, lock_file) in [(20, true), (20, false), (3, false)] {
        let dir = directory();
        bus_of(dir.path(), 20);
        let up_to = 20 - last.min(17);
        seal(dir.path(), up_to);
        if !lock_file {
            fs::remove_file(dir.path().join(LOCK)).unwrap();
        }
        crate::support::add_to_log(dir.path(), br#"{"as_of":1.0,"che"#);
        let size = Reader::open(dir.path()).unwrap().size_bytes().unwrap() - 17;
        let bus = Bus::open(dir.path()).unwrap();
        assert_eq!(bus.quarantined()[0].byte_offset, size, "the place in the whole log");
        bus.append(draft(21)).unwrap();
        assert_eq!(numbers(dir.path()), (1..=21).collect::<Vec<_>>());
        assert!(verify(dir.path()).ok());
    }
}

#[test]
fn a_log_that_is_put_in_place_of_a_sealed_one_is_refused() {
    let dir = directory();
    bus_of(dir.path(), 20);
    let plain = fs::read(dir.path().join(LOG)).unwrap();
    seal(dir.path(), 10);
    let bus = Bus::open(dir.path()).unwrap();
    let mut follower = bus.reader().follow(20).unwrap();
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap().unwrap().index, 20);
    fs::write(dir.path().join("restored"), &plain).unwrap();
    fs::rename(dir.path().join("restored"), dir.path().join(LOG)).unwrap();
    assert!(matches!(bus.append(draft(21)), Err(Error::Changed { .. })));
    assert!(matches!(follower.next_timeout(Duration::ZERO), Err(Error::Changed { .. })));
    // The plain log is complete, so the segments are not in force. The next seal replaces them.
    let bus = Bus::open(dir.path()).unwrap();
    assert_eq!(bus.append(draft(21)).unwrap().index, 21);
    assert_eq!(bus.seal(SealOptions::default().up_to(15), &mut |_| {}).unwrap().first, 1);
    assert!(verify(dir.path()).ok());
}

#[test]
fn segments_of_another_bus_are_not_removed() {
    let (dir, other) = (directory(), directory());
    bus_of(dir.path(), 200);
    large_bus(other.path(), 20);
    seal(other.path(), 10);
    fs::rename(other.path().join(SEGMENTS), dir.path().join(SEGMENTS)).unwrap();
    assert!(verify(dir.path()).ok(), "they are not in force");
    let refused = Bus::open(dir.path()).unwrap().seal(SealOptions::default().up_to(15), &mut |_| {});
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("does not hold what the log holds"), "{message}");
    assert_eq!(fs::read_dir(dir.path().join(SEGMENTS)).unwrap().count(), 2, "the lock and the segment");
}
