//! Appending: what comes back is durable, what cannot be appended leaves nothing, and nobody gets in the way
//! of anybody else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::Ordering::SeqCst;

use crate::support::{WatchedStorage, add_to_log, bus_of, directory, draft, numbers, verify};
use zero_bus::{Bus, Draft, Error, Finding, Json, MAX_LINE_BYTES, Reader};

#[test]
fn a_bus_is_private() {
    let directory = directory();
    let path = directory.path().join("deep/er/bus");
    let bus = Bus::open(&path).unwrap();
    bus.append(draft(1)).unwrap();
    bus.write_snapshot(1.0, None, &Json::empty_object()).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&directory.path().join("deep")), 0o700);
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

#[test]
fn every_append_is_one_sync() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    let before = storage.watched.syncs.load(SeqCst);
    bus.append(draft(1)).unwrap();
    bus.append_batch((2..=100).map(draft).collect()).unwrap();
    assert_eq!(storage.watched.syncs.load(SeqCst) - before, 2);
    bus.append_batch(Vec::new()).unwrap();
    assert_eq!(storage.watched.syncs.load(SeqCst) - before, 2);
}

/// Opening and appending read the tail and no more, however long the log is.
#[test]
fn opening_and_appending_read_no_more_of_a_long_log_than_of_a_short_one() {
    let read = |events: u64| {
        let directory = directory();
        bus_of(directory.path(), events);
        let storage = WatchedStorage::new(directory.path());
        let bus = Bus::open_in(storage.clone()).unwrap();
        bus.append(draft(events + 1)).unwrap();
        let other = Bus::open_in(storage.clone()).unwrap();
        other.append(draft(events + 2)).unwrap();
        // This one has to find the end anew.
        bus.append(draft(events + 3)).unwrap();
        storage.watched.bytes_read.load(SeqCst)
    };
    let (short, long) = (read(100), read(100_000));
    assert!(long <= short + 4096, "{short} bytes of a short log, {long} of a long one");
    assert!(long < 128 << 10, "{long} bytes");
}

#[test]
fn what_is_no_event_is_refused_by_its_field_and_leaves_nothing() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let bad = |change: fn(&mut Draft)| {
        let mut draft = draft(1);
        change(&mut draft);
        match bus.append_batch(vec![self::draft(0), draft]).unwrap_err() {
            Error::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(bad(|draft| draft.event_type.clear()), "event_type");
    assert_eq!(bad(|draft| draft.event_type = "é".repeat(129)), "event_type");
    assert_eq!(bad(|draft| draft.event_type = "a\u{85}b".to_owned()), "event_type");
    assert_eq!(bad(|draft| draft.as_of = f64::NAN), "as_of");
    assert_eq!(bad(|draft| draft.payload = Json::parse("[1]").unwrap()), "payload");
    assert_eq!(
        bad(|draft| draft.payload = Json::of(&[("a", "x".repeat(MAX_LINE_BYTES))]).unwrap()),
        "payload"
    );
    let too_long = Json::of(&std::collections::BTreeMap::from([("a", "x".repeat(MAX_LINE_BYTES))])).unwrap();
    let long = Draft { payload: too_long, ..draft(1) };
    assert!(matches!(bus.append(long), Err(Error::Invalid { field: "payload", .. })));
    assert_eq!(fs::metadata(directory.path().join("events.jsonl")).unwrap().len(), 0);
    bus.append(Draft { event_type: "é".repeat(128), ..draft(1) }).unwrap();
    assert!(verify(directory.path()).ok());
}

#[test]
fn the_longest_line_there_may_be_is_written_and_read() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    bus.append(draft(1)).unwrap();
    let of = |length: usize| Draft {
        payload: Json::of(&std::collections::BTreeMap::from([("a", "x".repeat(length))])).unwrap(),
        ..draft(2)
    };
    let frame = bus.append(of(0)).unwrap().line().len();
    let longest = bus.append(of(MAX_LINE_BYTES - frame)).unwrap();
    assert_eq!(longest.line().len(), MAX_LINE_BYTES);
    assert!(bus.append(of(MAX_LINE_BYTES - frame + 1)).is_err());
    let reopened = Bus::open(directory.path()).unwrap();
    reopened.append(draft(4)).unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(reopened.reader().event(3).unwrap().unwrap(), longest);
}

#[test]
fn an_empty_trace_is_none() {
    let directory = directory();
    let event = Bus::open(directory.path()).unwrap().append(draft(1).traced("")).unwrap();
    assert_eq!(event.trace_id, None);
    assert!(!event.line().contains("trace_id"));
}

#[test]
fn handles_and_threads_make_one_chain() {
    let directory = directory();
    let path = directory.path();
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            scope.spawn(move || {
                let bus = Bus::open(path).unwrap();
                for number in 0..50 {
                    bus.append(draft(writer * 1000 + number)).unwrap();
                }
            });
        }
    });
    let verdict = verify(path);
    assert!(verdict.ok(), "{}", verdict.integrity.reason());
    assert_eq!(verdict.integrity.head.index, 200);
    let all = numbers(path);
    for writer in 0..4u64 {
        let own: Vec<u64> = all.iter().copied().filter(|number| number / 1000 == writer).collect();
        assert_eq!(own, (0..50).map(|number| writer * 1000 + number).collect::<Vec<_>>(), "in its own order");
    }
}

/// Any mixture of handles, batches and reopening leaves what a plain list would hold.
#[test]
fn the_log_holds_what_a_plain_list_would() {
    use proptest::prelude::*;
    let steps = prop::collection::vec((0..3usize, 0..6u64, any::<bool>()), 1..30);
    proptest!(ProptestConfig::with_cases(40), |(steps in steps)| {
        let directory = directory();
        let mut handles: Vec<Bus> = (0..3).map(|_| Bus::open(directory.path()).unwrap()).collect();
        let mut model = Vec::new();
        for (handle, count, reopen) in steps {
            if reopen {
                handles[handle] = Bus::open(directory.path()).unwrap();
            }
            let numbers: Vec<u64> = (0..count).map(|at| model.len() as u64 + at).collect();
            let events = handles[handle].append_batch(numbers.iter().copied().map(draft).collect()).unwrap();
            prop_assert_eq!(events.len() as u64, count);
            model.extend(numbers);
            if count > 0 {
                prop_assert_eq!(handles[handle].head().index, model.len() as u64);
            }
        }
        prop_assert_eq!(numbers(directory.path()), model);
        prop_assert!(verify(directory.path()).ok());
    });
}

#[test]
fn a_torn_tail_is_set_aside_and_appending_goes_on() {
    for torn in
        [&b"{"[..], b"{\"as_of\":17", b"\xff\xfe", b"\0\0\0\0\0\0\0\0", b"{\"trace_id\":\"\\ud8", b"x\x0c"]
    {
        let directory = directory();
        bus_of(directory.path(), 3);
        let sound = fs::read(directory.path().join("events.jsonl")).unwrap();
        add_to_log(directory.path(), torn);
        let verdict = verify(directory.path());
        let byte_offset = sound.len() as u64;
        assert_eq!(verdict.integrity.finding, Finding::Torn { byte_offset, bytes: torn.len() as u64 });
        assert!(!verdict.ok());

        let bus = Bus::open(directory.path()).unwrap();
        let set_aside = bus.quarantined();
        assert_eq!(set_aside.len(), 1);
        assert_eq!((set_aside[0].byte_offset, set_aside[0].bytes), (byte_offset, torn.len() as u64));
        assert_eq!(fs::read(directory.path().join(&set_aside[0].file)).unwrap(), torn);
        assert_eq!(fs::read(directory.path().join("events.jsonl")).unwrap(), sound);
        bus.append(draft(4)).unwrap();
        assert!(verify(directory.path()).ok());

        // The same again: the first one's bytes are kept.
        add_to_log(directory.path(), torn);
        let again = bus.append(draft(5)).unwrap();
        assert_eq!(again.index, 5);
        assert_eq!(bus.quarantined().len(), 2);
        assert!(verify(directory.path()).ok());
    }
}

#[test]
fn a_log_that_is_nothing_but_torn_begins_anew() {
    let directory = directory();
    add_to_log(directory.path(), b"{\"as_of\":1777");
    let bus = Bus::open(directory.path()).unwrap();
    assert_eq!(bus.head().index, 0);
    assert_eq!(bus.append(draft(1)).unwrap().index, 1);
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_complete_last_line_without_its_line_break_counts() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = directory.path().join("events.jsonl");
    let mut text = fs::read(&log).unwrap();
    text.pop();
    fs::write(&log, &text).unwrap();
    assert_eq!(verify(directory.path()).integrity.head.index, 3);
    let bus = Bus::open(directory.path()).unwrap();
    assert_eq!(bus.head().index, 3);
    bus.append(draft(4)).unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(numbers(directory.path()), [1, 2, 3, 4]);
}

#[test]
fn white_space_at_the_end_does_not_get_in_the_way() {
    for blank in [&b"\n"[..], b"\n\n  \n", b"   ", b"\r\n", b"\n \t "] {
        let directory = directory();
        bus_of(directory.path(), 2);
        add_to_log(directory.path(), blank);
        assert!(verify(directory.path()).ok());
        let bus = Bus::open(directory.path()).unwrap();
        bus.append(draft(3)).unwrap();
        assert!(verify(directory.path()).ok(), "{blank:?}");
        assert_eq!(numbers(directory.path()), [1, 2, 3]);
    }
    let directory = directory();
    add_to_log(directory.path(), &vec![b' '; MAX_LINE_BYTES + 1]);
    Bus::open(directory.path()).unwrap().append(draft(1)).unwrap();
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_damaged_log_takes_nothing_and_says_where() {
    for (name, damage) in [
        ("garbage", &b"garbage\n"[..]),
        ("an object that is no event", b"{\"a\":1}\n"),
        ("the same without a line break", b"{\"a\":1}"),
        ("two lines", b"garbage\nmore"),
    ] {
        let directory = directory();
        bus_of(directory.path(), 3);
        let log = directory.path().join("events.jsonl");
        let sound = fs::metadata(&log).unwrap().len();
        add_to_log(directory.path(), damage);
        let before = fs::read(&log).unwrap();
        // Nothing tells that this was never synced.
        fs::remove_file(directory.path().join("bus.lock")).unwrap();
        match Bus::open(directory.path()).err() {
            Some(Error::Damaged { fault, .. }) => {
                assert_eq!((fault.event, fault.byte_offset), (4, sound), "{name}")
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(fs::read(&log).unwrap(), before, "{name}: nothing was cut");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        let events: Vec<_> = Reader::open(directory.path()).unwrap().events(1).unwrap().collect();
        assert_eq!(
            events.iter().filter(|event| event.is_ok()).count(),
            3,
            "{name}: reading works up to there"
        );
    }
}

#[test]
fn a_last_line_that_does_not_follow_the_one_before_is_damage() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let other = bus_of(&directory.path().join("other"), 4);
    let other = Bus::open(directory.path().join("other"))
        .unwrap()
        .append(Draft { as_of: 7.0, ..draft(other.len() as u64) });
    add_to_log(directory.path(), format!("{}\n", other.unwrap().line()).as_bytes());
    // Behind what is known to have been synced a crash may have put it there, or somebody.
    let before = fs::read(directory.path().join("events.jsonl")).unwrap();
    assert!(matches!(verify(directory.path()).integrity.finding, Finding::Ambiguous(_)));
    assert!(matches!(Bus::open(directory.path()), Err(Error::Ambiguous { .. })));
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    assert!(matches!(verify(directory.path()).integrity.finding, Finding::Fault(_)));
    assert!(matches!(Bus::open(directory.path()), Err(Error::Damaged { .. })));
    assert_eq!(fs::read(directory.path().join("events.jsonl")).unwrap(), before);
}

/// Behind what is known to have been synced, an end without anything sound in it is what a crash left.
#[test]
fn an_unsynced_end_is_set_aside_whatever_it_is() {
    for end in [&b"\0\0\n\0\0\n"[..], b"{\"as_of\":1\0\0\0\n", b"garbage\nmore\n", b"\n\n\xff\n"] {
        let directory = directory();
        bus_of(directory.path(), 3);
        add_to_log(directory.path(), end);
        assert!(matches!(verify(directory.path()).integrity.finding, Finding::Torn { .. }), "{end:?}");
        assert_eq!(Reader::open(directory.path()).unwrap().head().unwrap().index, 3);
        assert_eq!(numbers(directory.path()), [1, 2, 3]);
        let bus = Bus::open(directory.path()).unwrap();
        assert_eq!(bus.quarantined().len(), 1);
        bus.append(draft(4)).unwrap();
        assert!(verify(directory.path()).ok());
        assert_eq!(numbers(directory.path()), [1, 2, 3, 4]);
    }
}

/// What is known to have been synced cannot be what a crash left.
#[test]
fn before_the_note_everything_is_damage() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = directory.path().join("events.jsonl");
    let whole = fs::read(&log).unwrap();
    let spoilt = |change: fn(&mut Vec<u8>)| {
        let mut text = whole.clone();
        change(&mut text);
        fs::write(&log, &text).unwrap();
        let opened = Bus::open(directory.path()).err().unwrap();
        assert_eq!(fs::read(&log).unwrap(), text, "nothing was cut");
        assert!(!verify(directory.path()).ok());
        opened
    };
    let damaged = |error: Error| matches!(error, Error::Damaged { .. });
    assert!(
        damaged(spoilt(|text| text.iter_mut().rev().take(40).for_each(|byte| *byte = 0))),
        "zeros at the end"
    );
    assert!(damaged(spoilt(|text| text[700] = b'x')));
    assert!(matches!(
        spoilt(|text| text.truncate(text.len() - 400)),
        Error::Missing { events: 1, remembered: 3, .. }
    ));
    assert!(matches!(spoilt(Vec::clear), Error::Missing { .. }));
    let cut = |text: &mut Vec<u8>| {
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).collect();
        text.truncate(lines[0] + lines[1]);
    };
    assert!(matches!(spoilt(cut), Error::Missing { .. }), "cut between two events");
    assert_eq!(
        verify(directory.path()).integrity.reason(),
        "missing tail after event 2: 3 events were synced"
    );
    // The way out that the message names.
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    Bus::open(directory.path()).unwrap().append(draft(9)).unwrap();
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_failed_write_or_sync_poisons_the_handle() {
    for fail_write in [true, false] {
        let directory = directory();
        let storage = WatchedStorage::new(directory.path());
        let bus = Bus::open_in(storage.clone()).unwrap();
        bus.append(draft(1)).unwrap();
        let fails = if fail_write { &storage.watched.fail_write } else { &storage.watched.fail_sync };
        fails.store(true, SeqCst);
        assert!(matches!(bus.append(draft(2)), Err(Error::Io { .. })));
        fails.store(false, SeqCst);
        assert!(matches!(bus.append(draft(3)), Err(Error::Poisoned { .. })));
        assert!(matches!(bus.write_snapshot(1.0, None, &Json::empty_object()), Err(Error::Poisoned { .. })));
        // What nobody was told of is gone, so that nobody reads it before the power goes.
        assert_eq!(numbers(directory.path()), [1]);
        let reopened = Bus::open_in(storage).unwrap();
        assert_eq!(reopened.head().index, 1);
        reopened.append(draft(9)).unwrap();
        assert!(verify(directory.path()).ok());
    }
}

/// Another program's line between our look at the end and our write: the event is not acknowledged.
#[test]
fn a_writer_that_takes_no_lock_is_noticed() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    bus.append(draft(1)).unwrap();
    storage.watched.intrude.store(true, SeqCst);
    assert!(matches!(bus.append(draft(2)), Err(Error::Changed { .. })));
    assert!(matches!(bus.append(draft(3)), Err(Error::Poisoned { .. })));
}

#[test]
fn another_sound_log_in_its_place_is_not_ok() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let other = Bus::open(directory.path().join("other")).unwrap();
    other.append_batch((7..=9).map(draft).collect()).unwrap();
    fs::copy(other.log_path(), directory.path().join("events.jsonl")).unwrap();
    let integrity = verify(directory.path()).integrity;
    assert_eq!(integrity.reason(), "not the event that bus.lock remembers at event 3");
    assert!(Bus::open(directory.path()).is_err());
}

/// A refusal cuts nothing: the snapshot is asked before the torn tail is set aside.
#[test]
fn a_refused_open_changes_nothing() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    bus.append_batch((1..=3).map(draft).collect()).unwrap();
    bus.write_snapshot(1.0, None, &Json::empty_object()).unwrap();
    drop(bus);
    let log = directory.path().join("events.jsonl");
    let text = fs::read(&log).unwrap();
    fs::write(&log, &text[..700]).unwrap();
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    assert!(matches!(Bus::open(directory.path()), Err(Error::Missing { events: 2, remembered: 3, .. })));
    assert_eq!(fs::read(&log).unwrap(), text[..700]);
}

#[test]
fn a_log_that_was_replaced_or_shortened_is_noticed() {
    let directory = directory();
    let log = directory.path().join("events.jsonl");
    let bus = Bus::open(directory.path()).unwrap();
    bus.append(draft(1)).unwrap();
    bus.append(draft(2)).unwrap();
    let text = fs::read(&log).unwrap();
    fs::rename(&log, directory.path().join("moved")).unwrap();
    assert!(matches!(bus.append(draft(3)), Err(Error::Changed { .. })));
    fs::write(&log, &text).unwrap();
    assert!(matches!(bus.append(draft(3)), Err(Error::Changed { .. })));

    let bus = Bus::open(directory.path()).unwrap();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(10).unwrap();
    assert!(matches!(bus.append(draft(3)), Err(Error::Changed { .. })));
}

/// A handle that has appended often is told what happens to its files instead of looking; it is told of everything.
#[test]
fn whatever_leads_the_path_elsewhere_is_noticed_by_who_no_longer_looks() {
    type Happening = fn(&std::path::Path);
    let happenings: [(&str, Happening); 6] = [
        ("the log is removed", |place| fs::remove_file(place.join("above/bus/events.jsonl")).unwrap()),
        ("the log is replaced", |place| {
            let log = place.join("above/bus/events.jsonl");
            fs::copy(&log, place.join("copy")).unwrap();
            fs::rename(place.join("copy"), &log).unwrap();
        }),
        ("the bus is replaced", |place| {
            fs::rename(place.join("above/bus"), place.join("moved")).unwrap();
            Bus::open(place.join("above/bus")).unwrap();
        }),
        ("the directory above is moved", |place| {
            fs::rename(place.join("above"), place.join("moved")).unwrap();
        }),
        ("all of it is removed", |place| fs::remove_dir_all(place.join("above")).unwrap()),
        ("a link leads elsewhere", |place| {
            fs::remove_file(place.join("link")).unwrap();
            fs::create_dir(place.join("elsewhere")).unwrap();
            symlink("elsewhere", place.join("link")).unwrap();
        }),
    ];
    for (what, happens) in happenings {
        let directory = directory();
        let place = directory.path().canonicalize().unwrap();
        fs::create_dir(place.join("above")).unwrap();
        symlink("above", place.join("link")).unwrap();
        let through = if what.contains("link") { "link/bus" } else { "above/bus" };
        let bus = Bus::open(place.join(through)).unwrap();
        for number in 1..=30 {
            bus.append(draft(number)).unwrap();
            // What happens to other names there is nothing to it.
            bus.write_snapshot(1.0, None, &Json::empty_object()).unwrap();
        }
        happens(&place);
        for _ in 0..2 {
            let refused = bus.append(draft(31)).unwrap_err();
            // Where nothing is left there is no lock to be had either.
            let expected = matches!(refused, Error::Changed { .. })
                || (what == "all of it is removed" && matches!(refused, Error::Io { .. }));
            assert!(expected, "{what}: {refused}");
        }
    }
}

/// What was moved and came back is what it was.
#[test]
fn a_bus_that_was_moved_there_and_back_goes_on() {
    let directory = directory();
    let (path, other) = (directory.path().join("bus"), directory.path().join("other"));
    let bus = Bus::open(&path).unwrap();
    (1..=20).for_each(|number| drop(bus.append(draft(number)).unwrap()));
    fs::rename(&path, &other).unwrap();
    assert!(matches!(bus.append(draft(21)), Err(Error::Changed { .. })));
    fs::rename(&other, &path).unwrap();
    (21..=40).for_each(|number| drop(bus.append(draft(number)).unwrap()));
    fs::rename(&path, &other).unwrap();
    assert!(matches!(bus.append(draft(41)), Err(Error::Changed { .. })));
}

#[test]
fn removing_the_lock_file_does_not_make_two_chains() {
    let directory = directory();
    let one = Bus::open(directory.path()).unwrap();
    one.append(draft(1)).unwrap();
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    let two = Bus::open(directory.path()).unwrap();
    for number in 2..20 {
        if number % 2 == 0 { &one } else { &two }.append(draft(number)).unwrap();
    }
    // Again, now that both are told instead of looking.
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    let three = Bus::open(directory.path()).unwrap();
    for number in 20..50 {
        [&one, &two, &three][number as usize % 3].append(draft(number)).unwrap();
    }
    assert!(verify(directory.path()).ok());
    assert_eq!(numbers(directory.path()), (1..50).collect::<Vec<_>>());
}

#[test]
fn what_is_no_bus_is_said_so() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(Bus::open(&file), Err(Error::NotABus { .. })));
    assert!(matches!(Reader::open(&file), Err(Error::NotABus { .. })));
    assert!(matches!(Reader::open(directory.path().join("missing")), Err(Error::NotABus { .. })));
    assert!(matches!(Bus::open(file.join("below")), Err(Error::Io { .. })));

    let odd = directory.path().join("odd");
    fs::create_dir_all(odd.join("events.jsonl")).unwrap();
    let said = |path: &std::path::Path| {
        (Bus::open(path).err().unwrap().to_string(), Reader::open(path).err().unwrap().to_string())
    };
    let (bus, reader) = said(&odd);
    assert!(
        bus.contains("directory") && reader.contains("it is a directory, not a file"),
        "{bus} / {reader}"
    );

    let linked = directory.path().join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(&file, linked.join("events.jsonl")).unwrap();
    let (bus, reader) = said(&linked);
    assert!(bus.contains("symbolic link") && reader.contains("symbolic link"), "{bus} / {reader}");
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn a_snapshot_is_bound_to_what_its_handle_has_seen() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let payload = || Json::parse(r#"{"state":1}"#).unwrap();
    let empty = bus.write_snapshot(2.0, None, &payload()).unwrap();
    assert_eq!((empty.event_count, empty.last_checksum), (0, None));
    assert!(verify(directory.path()).ok());
    let event = bus.append(draft(1)).unwrap();
    let snapshot = bus.write_snapshot(2.0, Some(&event.id()), &payload()).unwrap();
    assert_eq!((snapshot.event_count, snapshot.last_checksum), (1, Some(event.checksum)));
    assert_eq!(bus.reader().snapshot().unwrap(), Some(snapshot));
    assert_eq!(verify(directory.path()).snapshot_integrity.reason, "ok");

    let path = directory.path().join("state-snapshot.json");
    let text = fs::read_to_string(&path).unwrap();
    let reason = |text: &str| {
        fs::write(&path, text).unwrap();
        let verdict = verify(directory.path()).snapshot_integrity;
        assert!(verdict.present && !verdict.consistent);
        verdict.reason
    };
    assert_eq!(
        reason(&text.replace("\"event_count\":1", "\"event_count\":2")),
        "snapshot references missing tail events"
    );
    assert_eq!(
        reason(&text.replace("\"event_count\":1", "\"event_count\":0")),
        "snapshot checksum does not match event log"
    );
    for cut in ["", "{", &text[..text.len() - 2], "null", "[]"] {
        assert!(reason(cut).starts_with("snapshot cannot be read: "), "{cut:?}");
    }
    // No checksum is not what a line names that has something else in the place of one.
    let log = directory.path().join("events.jsonl");
    let spelled = event.checksum.to_string();
    fs::write(&log, fs::read_to_string(&log).unwrap().replace(&spelled, "xyz")).unwrap();
    let none = text.replace(&format!("\"{spelled}\""), "null");
    assert_eq!(reason(&none), "snapshot checksum does not match event log");
}

/// What goes in comes out, at the deepest there may be.
#[test]
fn the_deepest_payload_is_written_and_read() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let deepest =
        format!(r#"{{"a":{}{}}}"#, "[".repeat(zero_bus::MAX_DEPTH - 1), "]".repeat(zero_bus::MAX_DEPTH - 1));
    let payload = Json::parse(&deepest).unwrap();
    bus.append(Draft { payload: payload.clone(), ..draft(1) }).unwrap();
    // Spelled differently, the line goes the way through the parser.
    let line = fs::read_to_string(directory.path().join("events.jsonl")).unwrap();
    fs::write(directory.path().join("events.jsonl"), line.replace(",\"event_id\"", " , \"event_id\""))
        .unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(bus.reader().event(1).unwrap().unwrap().payload, payload);
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    // One level more goes around a snapshot's payload, and it is read as one document.
    let bus = Bus::open(directory.path()).unwrap();
    assert!(matches!(bus.write_snapshot(1.0, None, &payload), Err(Error::Invalid { field: "payload", .. })));
    assert!(verify(directory.path()).ok());
}
