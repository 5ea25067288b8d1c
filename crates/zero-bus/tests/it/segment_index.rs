//! The index of a segment: its versions, the times in it, and indexes that are valid but false.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use zero_bus::sim::{Rng, SimDisk};
use zero_bus::{Bus, Checksum, Draft, Error, Event, Finding, Json, LOG, Reader, SealOptions};

use crate::support::{WatchedStorage, directory, draft};

/// The time of `support::draft(0)`.
const BEGIN: f64 = 1777593600.0;

/// A frame of a segment that a test makes: what it holds, and what its index says about it.
struct Frame {
    first: u64,
    plain: Vec<u8>,
    stored: Vec<u8>,
    plain_bytes: usize,
    latest: f64,
}

impl Frame {
    fn new(first: u64, plain: &[u8], latest: f64) -> Self {
        let stored = zstd::bulk::compress(plain, 3).unwrap();
        Self { first, plain: plain.to_vec(), stored, plain_bytes: plain.len(), latest }
    }
}

/// Returns the name and the content of a segment of the events up to `last` that begins at byte 0.
/// Everything in it that can be checked without the events is valid.
fn segment(frames: &[Frame], last: u64) -> (String, Vec<u8>) {
    let end: usize = frames.iter().map(|frame| frame.plain_bytes).sum();
    let entry = |frame: &Frame| {
        let (stored, sha256) = (frame.stored.len(), Checksum::of(&frame.stored));
        let latest = Json::parse(&format!("{:?}", frame.latest)).unwrap();
        format!(r#"[{},{stored},{},"{sha256}",{latest}]"#, frame.first, frame.plain_bytes)
    };
    let entries = frames.iter().map(entry).collect::<Vec<_>>().join(",");
    let unsealed = format!(
        r#"{{"byte_end":{end},"byte_start":0,"first":1,"frames":[{entries}],"last":{last},"schema_version":"zero.bus.segment.v2"}}"#
    );
    let seal = Checksum::of(unsealed.as_bytes());
    let index = format!(r#"{},"seal":"{seal}"}}"#, unsealed.strip_suffix('}').unwrap());
    let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.stored.clone()).collect();
    let number = |bytes: &mut Vec<u8>, number: usize| {
        bytes.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
    };
    number(&mut bytes, 0x184D_2A50);
    number(&mut bytes, index.len());
    bytes.extend_from_slice(index.as_bytes());
    number(&mut bytes, 0x184D_2A5E);
    number(&mut bytes, (frames.len() + 1) * 8 + 9);
    for frame in frames {
        number(&mut bytes, frame.stored.len());
        number(&mut bytes, frame.plain_bytes);
    }
    number(&mut bytes, index.len() + 8);
    number(&mut bytes, 0);
    number(&mut bytes, frames.len() + 1);
    bytes.push(0);
    number(&mut bytes, 0x8F92_EAB1);
    (format!("segments/events-{:012}-{last:012}-0-{end}.jsonl.zst", 1), bytes)
}

/// Returns the lines of a log of 20 events, and a disk whose first 16 are in a segment that
/// `frames` makes of their lines.
fn disk_with(frames: impl FnOnce(&[String]) -> Vec<Frame>) -> (SimDisk, Vec<Event>) {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let events = bus.append_batch((1..=20).map(draft).collect()).unwrap();
    bus.seal(SealOptions::default().up_to(16), &mut |_| {}).unwrap();
    drop(bus);
    let original = disk.names().into_iter().find(|name| name.ends_with(".zst")).unwrap();
    let lines: Vec<String> = events.iter().map(|event| event.line() + "\n").collect();
    let (name, content) = segment(&frames(&lines), 16);
    assert_eq!(name, original);
    disk.put(&name, &content);
    (disk, events)
}

fn fault_of(disk: &SimDisk) -> String {
    let integrity = Reader::open_in(disk.storage()).verify().unwrap().integrity;
    let Finding::Fault(fault) = &integrity.finding else { panic!("{}", integrity.reason()) };
    assert_eq!(integrity.head.index, fault.event - 1);
    fault.to_string()
}

/// Two frames of eight events each, with these times in the index.
fn two_frames(lines: &[String], latest: [f64; 2]) -> Vec<Frame> {
    let halves = [lines[..8].concat(), lines[8..16].concat()];
    vec![
        Frame::new(1, halves[0].as_bytes(), BEGIN + latest[0]),
        Frame::new(9, halves[1].as_bytes(), BEGIN + latest[1]),
    ]
}

#[test]
fn a_segment_is_written_as_the_format_says() {
    let (disk, events) = disk_with(|lines| two_frames(lines, [8.0, 16.0]));
    let reader = Reader::open_in(disk.storage());
    assert!(reader.verify().unwrap().ok());
    assert_eq!(reader.events(1).unwrap().collect::<Result<Vec<_>, _>>().unwrap(), events);
    for (since, first) in [(1.0, 1), (8.0, 1), (8.5, 9), (16.0, 9), (16.5, 17), (18.5, 19), (40.0, 20)] {
        assert_eq!(reader.first_index_since(BEGIN + since).unwrap(), first, "{since}");
    }
}

#[test]
fn an_index_with_a_time_that_is_too_early_is_found() {
    let (disk, events) = disk_with(|lines| two_frames(lines, [8.0, 15.0]));
    let fault = fault_of(&disk);
    assert!(fault.contains("frame 2 has a later event than its index says"), "{fault}");
    // The events themselves are valid.
    let reader = Reader::open_in(disk.storage());
    assert_eq!(reader.events(1).unwrap().collect::<Result<Vec<_>, _>>().unwrap(), events);
    let (disk, _) = disk_with(|lines| two_frames(lines, [7.0, 16.0]));
    assert!(fault_of(&disk).contains("invalid segment at event 1: "), "{}", fault_of(&disk));
    // A time that is too late only costs time.
    let (disk, _) = disk_with(|lines| two_frames(lines, [16.0, 1e300]));
    assert!(Reader::open_in(disk.storage()).verify().unwrap().ok());
    // Times that go back are no index.
    let (disk, _) = disk_with(|lines| two_frames(lines, [17.0, 16.0]));
    assert!(fault_of(&disk).contains("its index was changed"), "{}", fault_of(&disk));
}

#[test]
fn frames_that_end_within_a_line_are_read_and_their_times_are_checked() {
    let cut = |lines: &[String], latest: f64| {
        let all = lines[..16].concat();
        let (one, other) = all.as_bytes().split_at(lines[..8].concat().len() + 100);
        vec![Frame::new(1, one, BEGIN + latest), Frame::new(10, other, BEGIN + 16.0)]
    };
    let (disk, events) = disk_with(|lines| cut(lines, 9.0));
    let reader = Reader::open_in(disk.storage());
    assert!(reader.verify().unwrap().ok(), "{}", reader.verify().unwrap().integrity.reason());
    assert_eq!(reader.events(1).unwrap().collect::<Result<Vec<_>, _>>().unwrap(), events);
    let (disk, _) = disk_with(|lines| cut(lines, 8.0));
    assert!(fault_of(&disk).contains("frame 1 has a later event"), "{}", fault_of(&disk));
}

#[test]
fn a_frame_that_does_not_unpack_to_what_its_index_says_is_found() {
    let changed: [fn(&mut Frame); 4] = [
        |frame| frame.stored = b"no frame of zstd".to_vec(),
        |frame| frame.stored = zstd::bulk::compress(&frame.plain[..100], 3).unwrap(),
        |frame| frame.stored = zstd::bulk::compress(&[&frame.plain[..], b"more"].concat(), 3).unwrap(),
        // A gigabyte of zeros in a few bytes.
        |frame| frame.stored = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap(),
    ];
    for (number, change) in changed.into_iter().enumerate() {
        let (disk, _) = disk_with(|lines| {
            let mut frames = two_frames(lines, [8.0, 16.0]);
            change(&mut frames[1]);
            frames
        });
        let fault = fault_of(&disk);
        assert!(fault.contains("invalid segment at event 9: "), "{number}: {fault}");
        assert!(fault.contains("frame 2 "), "{number}: {fault}");
        let read: Vec<_> = Reader::open_in(disk.storage()).events(1).unwrap().collect();
        assert_eq!(read.len(), 9, "{number}");
        assert!(matches!(read.last(), Some(Err(Error::Damaged { .. }))), "{number}");
    }
}

#[test]
fn a_segment_of_version_1_is_read_and_sealed_after() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let dir = directory();
    let plain = fs::read(fixtures.join("v1").join(LOG)).unwrap();
    let segments = fixtures.join("sealed-v1/segments");
    fs::create_dir(dir.path().join("segments")).unwrap();
    for entry in fs::read_dir(segments).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join("segments").join(entry.file_name())).unwrap();
    }
    fs::copy(fixtures.join("sealed-v1").join(LOG), dir.path().join(LOG)).unwrap();
    let check = |events: usize| {
        let reader = Reader::open(dir.path()).unwrap();
        assert!(reader.verify().unwrap().ok(), "{}", reader.verify().unwrap().integrity.reason());
        let read = reader.events(1).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(read.len(), events);
        let lines: String = read.iter().take(16).map(|event| event.line() + "\n").collect();
        assert_eq!(lines.into_bytes(), plain);
        // Nothing is known about the times in its segment.
        assert_eq!(reader.first_index_since(1e300).unwrap(), 1);
    };
    check(16);
    let bus = Bus::open(dir.path()).unwrap();
    bus.append_batch((1..=8).map(draft).collect()).unwrap();
    let sealed = bus.seal(SealOptions::default().up_to(20), &mut |_| {}).unwrap();
    assert_eq!((sealed.first, sealed.last), (9, 20));
    check(24);
}

/// Any order of times, any cut into segments, any time that is looked for.
#[test]
fn no_event_since_a_time_is_before_the_index_that_is_found() {
    let mut rng = Rng::new(17);
    for round in 0..40 {
        let disk = SimDisk::new();
        let bus = Bus::open_in(disk.storage()).unwrap();
        let count = rng.below(60) as u64 + 5;
        let is_ordered = round % 2 == 0;
        let time = |rng: &mut Rng, number: u64| {
            if is_ordered { number as f64 } else { rng.below(100) as f64 - 50.5 }
        };
        let drafts = (0..count).map(|number| Draft { as_of: time(&mut rng, number), ..draft(number) });
        let drafts: Vec<Draft> = drafts.collect();
        let events = bus.append_batch(drafts).unwrap();
        let mut up_to = 0;
        while up_to < count {
            up_to += rng.below(20) as u64 + 1;
            bus.seal(SealOptions::default().up_to(up_to), &mut |_| {}).unwrap();
        }
        let reader = bus.reader();
        assert!(reader.verify().unwrap().ok());
        for since in -60..120 {
            let since = f64::from(since);
            let first = reader.first_index_since(since).unwrap();
            let missed = events.iter().find(|event| event.as_of >= since && event.index < first);
            assert_eq!(missed, None, "round {round}, since {since}, from {first}");
        }
        // If all are earlier, nothing but the last one is read.
        assert_eq!(reader.first_index_since(1e9).unwrap(), count, "round {round}");
    }
}

#[test]
fn the_last_events_are_read_without_the_frames_before_them() {
    let dir = directory();
    let bus = Bus::open(dir.path()).unwrap();
    // Checksums do not compress well.
    let text =
        |number: u64| (0..15).map(move |part| Checksum::of(&(15 * number + part).to_le_bytes()).to_string());
    for hour in 0..10 {
        let at = BEGIN + 3600.0 * hour as f64;
        let payload = |number| BTreeMap::from([("text", text(number).collect::<String>())]);
        let numbers = 1200 * hour..1200 * (hour + 1);
        let drafts = numbers.map(|number| Draft::new("test.event", at, &payload(number)).unwrap());
        bus.append_batch(drafts.collect()).unwrap();
    }
    bus.seal(SealOptions::default().up_to(u64::MAX), &mut |_| {}).unwrap();
    drop(bus);
    let storage = WatchedStorage::new(dir.path());
    let watched = storage.watched.clone();
    let reader = Reader::open_in(storage);
    let since = BEGIN + 3600.0 * 9.0;
    let from = reader.first_index_since(since).unwrap();
    assert!((9_000..=10_801).contains(&from), "{from}");
    let mut found = 0;
    let selected = reader.select(
        from,
        |_, _| true,
        |event: Event| {
            found += usize::from(event.as_of >= since);
            Ok::<(), Error>(())
        },
    );
    assert_eq!((selected.unwrap().last, found), (12_000, 1_200));
    let (read, all) = (watched.bytes_read.load(SeqCst), reader.size_bytes().unwrap());
    assert!(read < all / 4, "{read} of {all} bytes");
}
