//! A segment that was changed, moved, copied or removed is found, and named with its event.

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Error, FaultKind, Finding, LOG, Reader, SealOptions};

use crate::support::draft;

const EVENTS: u64 = 30;

/// Returns a disk with three segments of eight events, and their names.
fn sealed_disk() -> (SimDisk, Vec<String>) {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    bus.append_batch((1..=EVENTS).map(draft).collect()).unwrap();
    for up_to in [8, 16, 24] {
        bus.seal(SealOptions::default().up_to(up_to), &mut |_| {}).unwrap();
    }
    let names: Vec<String> = disk.names().into_iter().filter(|name| name.ends_with(".zst")).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(Reader::open_in(disk.storage()).verify().unwrap().ok());
    (disk, names)
}

/// Asserts that a bus is found damaged at one of these events, and that the events before are read.
fn assert_damaged(disk: &SimDisk, events: std::ops::RangeInclusive<u64>, what: &str) {
    let reader = Reader::open_in(disk.storage());
    let integrity = reader.verify().unwrap().integrity;
    let Finding::Fault(fault) = &integrity.finding else { panic!("{what}: {}", integrity.reason()) };
    assert!(events.contains(&fault.event), "{what}: {fault}");
    assert_eq!(integrity.head.index, fault.event - 1, "{what}");
    let read: Vec<_> = reader.events(1).unwrap().collect();
    assert_eq!(read.len() as u64, fault.event, "{what}");
    assert!(matches!(read.last(), Some(Err(Error::Damaged { .. }))), "{what}: {:?}", read.last());
}

#[test]
fn every_flipped_bit_of_a_segment_is_found() {
    let (disk, names) = sealed_disk();
    let original = disk.content(&names[1]).unwrap();
    for bit in 0..original.len() * 8 {
        let mut changed = original.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        disk.put(&names[1], &changed);
        assert_damaged(&disk, 9..=9, &format!("bit {bit} of {}", original.len() * 8));
    }
    for length in 0..original.len() {
        disk.put(&names[1], &original[..length]);
        assert_damaged(&disk, 9..=9, &format!("cut to {length} bytes"));
    }
    let mut longer = original.clone();
    longer.push(0);
    disk.put(&names[1], &longer);
    assert_damaged(&disk, 9..=9, "a byte more");
    disk.put(&names[1], &original);
    assert!(Reader::open_in(disk.storage()).verify().unwrap().ok());
}

#[test]
fn a_changed_name_of_a_segment_is_found() {
    let (disk, names) = sealed_disk();
    let storage = disk.storage();
    for (position, name) in names.iter().take(3).enumerate() {
        let first = 8 * position as u64 + 1;
        for bit in "segments/".len() * 8..name.len() * 8 {
            let mut changed = name.clone().into_bytes();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if changed.matches('/').count() != 1 || changed.contains('\0') {
                continue;
            }
            storage.rename(name, &changed).unwrap();
            // A name can also claim events that another segment or the active file holds.
            assert_damaged(&disk, 1..=25, &format!("{name} as {changed}"));
            let verdict = Reader::open_in(disk.storage()).verify().unwrap();
            assert!(verdict.integrity.head.index >= first - 1 || position > 0, "{changed}");
            storage.rename(&changed, name).unwrap();
        }
    }
    assert!(Reader::open_in(storage).verify().unwrap().ok());
}

#[test]
fn a_missing_a_swapped_and_a_duplicated_segment_are_found() {
    let (disk, names) = sealed_disk();
    let content = |name: &String| disk.content(name).unwrap();
    let contents: Vec<Vec<u8>> = names.iter().map(content).collect();
    let storage = disk.storage();
    for (position, name) in names.iter().enumerate() {
        let first = 8 * position as u64 + 1;
        storage.remove(name).unwrap();
        assert_damaged(&disk, first..=first, &format!("without {name}"));
        let integrity = Reader::open_in(disk.storage()).verify().unwrap().integrity;
        let reason = integrity.reason();
        assert!(reason.contains(&format!("no file holds the events {first} to {}", first + 7)), "{reason}");
        disk.put(name, &contents[position]);
    }
    disk.put(&names[0], &contents[1]);
    disk.put(&names[1], &contents[0]);
    assert_damaged(&disk, 1..=1, "swapped");
    disk.put(&names[0], &contents[0]);
    assert_damaged(&disk, 9..=9, "duplicated");
    disk.put(&names[1], &contents[1]);
    // A copy under the name of a segment that lies across two others.
    let across = "segments/events-000000000005-000000000012-700-1000.jsonl.zst";
    disk.put(across, &contents[1]);
    let integrity = Reader::open_in(disk.storage()).verify().unwrap().integrity;
    assert!(integrity.reason().contains("does not follow the segment before it"), "{}", integrity.reason());
    storage.remove(across).unwrap();
    assert!(Reader::open_in(storage).verify().unwrap().ok());
}

#[test]
fn a_damaged_segment_does_not_keep_others_from_appending_and_reading_the_end() {
    let (disk, names) = sealed_disk();
    names.iter().for_each(|name| disk.put(name, b"garbage"));
    let bus = Bus::open_in(disk.storage()).unwrap();
    assert_eq!(bus.append(draft(31)).unwrap().index, 31);
    let reader = bus.reader();
    assert_eq!(reader.head().unwrap().index, 31);
    assert_eq!(reader.event(26).unwrap().unwrap().index, 26);
    let handle = Bus::open_in(disk.storage()).unwrap();
    assert_eq!(handle.append(draft(32)).unwrap().index, 32);
    assert_eq!(bus.append(draft(33)).unwrap().index, 33);
    match reader.event(10) {
        Err(Error::Damaged { fault, .. }) => {
            assert_eq!(fault.event, 1);
            assert!(matches!(fault.kind, FaultKind::Segment(..)), "{fault}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_active_file_is_found_at_its_event() {
    let (disk, _) = sealed_disk();
    let original = disk.content(LOG).unwrap();
    for byte in 0..original.len() {
        let mut changed = original.clone();
        changed[byte] ^= 1;
        disk.put(LOG, &changed);
        let verdict = Reader::open_in(disk.storage()).verify().unwrap();
        assert!(!verdict.ok(), "byte {byte}");
        assert!(
            (24..EVENTS).contains(&verdict.integrity.head.index),
            "byte {byte}: {}",
            verdict.integrity.reason()
        );
    }
}
