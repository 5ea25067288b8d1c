//! Appending: a returned event is durable, a refused draft leaves nothing, and handles do not
//! disturb each other.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::Ordering::SeqCst;

use crate::support::{WatchedStorage, add_to_log, bus_of, directory, draft, numbers, verify};
use zero_bus::{Bus, Draft, Error, Finding, Json, MAX_LINE_BYTES, RECOVERED_TYPE, Reader};

#[test]
fn directories_and_files_are_private_to_their_owner() {
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
fn an_append_costs_one_sync_and_an_empty_batch_none() {
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

#[test]
fn opening_and_appending_read_as_little_of_a_long_log_as_of_a_short_one() {
    let bytes_read = |events: u64| {
        let directory = directory();
        bus_of(directory.path(), events);
        let storage = WatchedStorage::new(directory.path());
        let bus = Bus::open_in(storage.clone()).unwrap();
        bus.append(draft(events + 1)).unwrap();
        let other = Bus::open_in(storage.clone()).unwrap();
        other.append(draft(events + 2)).unwrap();
        // The first handle has to find the end again.
        bus.append(draft(events + 3)).unwrap();
        storage.watched.bytes_read.load(SeqCst)
    };
    let (short, long) = (bytes_read(100), bytes_read(100_000));
    assert!(long <= short + 4096, "{short} bytes of a short log, {long} of a long one");
    assert!(long < 128 << 10, "{long} bytes");
}

#[test]
fn an_invalid_draft_is_refused_by_field_and_leaves_nothing() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let refused_field = |change: fn(&mut Draft)| {
        let mut draft = draft(1);
        change(&mut draft);
        match bus.append_batch(vec![self::draft(0), draft]).unwrap_err() {
            Error::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused_field(|draft| draft.event_type.clear()), "event_type");
    assert_eq!(refused_field(|draft| draft.event_type = "é".repeat(129)), "event_type");
    assert_eq!(refused_field(|draft| draft.event_type = "a\u{85}b".to_owned()), "event_type");
    assert_eq!(refused_field(|draft| draft.as_of = f64::NAN), "as_of");
    assert_eq!(refused_field(|draft| draft.payload = Json::parse("[1]").unwrap()), "payload");
    assert_eq!(
        refused_field(|draft| draft.payload = Json::of(&[("a", "x".repeat(MAX_LINE_BYTES))]).unwrap()),
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
fn a_line_of_maximum_length_is_written_and_read() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    bus.append(draft(1)).unwrap();
    let draft_of_length = |length: usize| Draft {
        payload: Json::of(&std::collections::BTreeMap::from([("a", "x".repeat(length))])).unwrap(),
        ..draft(2)
    };
    let frame_bytes = bus.append(draft_of_length(0)).unwrap().line().len();
    let longest = bus.append(draft_of_length(MAX_LINE_BYTES - frame_bytes)).unwrap();
    assert_eq!(longest.line().len(), MAX_LINE_BYTES);
    assert!(bus.append(draft_of_length(MAX_LINE_BYTES - frame_bytes + 1)).is_err());
    let reopened = Bus::open(directory.path()).unwrap();
    reopened.append(draft(4)).unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(reopened.reader().event(3).unwrap().unwrap(), longest);
}

#[test]
fn an_empty_trace_id_counts_as_absent() {
    let directory = directory();
    let event = Bus::open(directory.path()).unwrap().append(draft(1).traced("")).unwrap();
    assert_eq!(event.trace_id, None);
    assert!(!event.line().contains("trace_id"));
}

#[test]
fn handles_in_several_threads_append_to_one_chain() {
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
        assert_eq!(
            own,
            (0..50).map(|number| writer * 1000 + number).collect::<Vec<_>>(),
            "a writer's events changed their order"
        );
    }
}

/// Any mixture of handles, batches and reopening leaves the events that were appended, in order.
#[test]
fn the_log_holds_what_a_vec_would() {
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
            let numbers: Vec<u64> = (0..count).map(|n| model.len() as u64 + n).collect();
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
fn a_torn_tail_is_quarantined_and_appending_continues() {
    for torn in
        [&b"{"[..], b"{\"as_of\":17", b"\xff\xfe", b"\0\0\0\0\0\0\0\0", b"{\"trace_id\":\"\\ud8", b"x\x0c"]
    {
        let directory = directory();
        bus_of(directory.path(), 3);
        let valid = fs::read(directory.path().join("events.jsonl")).unwrap();
        add_to_log(directory.path(), torn);
        let verdict = verify(directory.path());
        let byte_offset = valid.len() as u64;
        assert_eq!(verdict.integrity.finding, Finding::Torn { byte_offset, bytes: torn.len() as u64 });
        assert!(!verdict.ok());

        let bus = Bus::open(directory.path()).unwrap();
        let quarantined = bus.quarantined();
        assert_eq!(quarantined.len(), 1);
        assert_eq!((quarantined[0].byte_offset, quarantined[0].bytes), (byte_offset, torn.len() as u64));
        assert_eq!(fs::read(directory.path().join(&quarantined[0].file)).unwrap(), torn);
        let log = fs::read(directory.path().join("events.jsonl")).unwrap();
        let record = bus.reader().event(4).unwrap().unwrap();
        assert_eq!(record.event_type, RECOVERED_TYPE);
        assert!(log == [&valid[..], record.line().as_bytes(), b"\n"].concat());
        bus.append(draft(4)).unwrap();
        assert!(verify(directory.path()).ok());

        // An open handle finds another torn tail, and keeps the bytes of the first one.
        add_to_log(directory.path(), torn);
        assert_eq!(bus.append(draft(5)).unwrap().index, 7);
        assert_eq!(bus.quarantined().len(), 2);
        assert_eq!(numbers(directory.path()), [1, 2, 3, 4, 5]);
        assert!(verify(directory.path()).ok());
    }
}

#[test]
fn a_log_with_nothing_but_a_torn_tail_starts_with_its_record() {
    let directory = directory();
    add_to_log(directory.path(), b"{\"as_of\":1777");
    let bus = Bus::open(directory.path()).unwrap();
    assert_eq!(bus.head().index, 1);
    assert_eq!(bus.append(draft(1)).unwrap().index, 2);
    assert_eq!(numbers(directory.path()), [1]);
    assert!(verify(directory.path()).ok());
}

#[test]
fn a_complete_last_line_without_line_break_counts() {
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
fn white_space_at_the_end_is_ignored() {
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
fn a_damaged_log_refuses_appends_and_names_the_byte() {
    for (name, damage) in [
        ("garbage", &b"garbage\n"[..]),
        ("an object that is no event", b"{\"a\":1}\n"),
        ("an object that is no event, without line break", b"{\"a\":1}"),
        ("two lines", b"garbage\nmore"),
    ] {
        let directory = directory();
        bus_of(directory.path(), 3);
        let log = directory.path().join("events.jsonl");
        let valid_bytes = fs::metadata(&log).unwrap().len();
        add_to_log(directory.path(), damage);
        let before = fs::read(&log).unwrap();
        // Without its sync mark, the log does not show that these bytes were never synced.
        fs::remove_file(directory.path().join("bus.lock")).unwrap();
        match Bus::open(directory.path()).err() {
            Some(Error::Damaged { fault, .. }) => {
                assert_eq!((fault.event, fault.byte_offset), (4, valid_bytes), "{name}")
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(fs::read(&log).unwrap(), before, "{name}: the log was changed");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        let events: Vec<_> = Reader::open(directory.path()).unwrap().events(1).unwrap().collect();
        assert_eq!(
            events.iter().filter(|event| event.is_ok()).count(),
            3,
            "{name}: the events before the damage"
        );
    }
}

#[test]
fn a_last_line_that_breaks_the_chain_is_ambiguous_with_a_sync_mark_and_damage_without() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let other_path = directory.path().join("other");
    bus_of(&other_path, 4);
    let other_event = Bus::open(&other_path).unwrap().append(Draft { as_of: 7.0, ..draft(4) }).unwrap();
    add_to_log(directory.path(), format!("{}\n", other_event.line()).as_bytes());
    // After the sync mark, a crash or tampering could have put the line there.
    let before = fs::read(directory.path().join("events.jsonl")).unwrap();
    assert!(matches!(verify(directory.path()).integrity.finding, Finding::Ambiguous(_)));
    assert!(matches!(Bus::open(directory.path()), Err(Error::Ambiguous { .. })));
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    assert!(matches!(verify(directory.path()).integrity.finding, Finding::Fault(_)));
    assert!(matches!(Bus::open(directory.path()), Err(Error::Damaged { .. })));
    assert_eq!(fs::read(directory.path().join("events.jsonl")).unwrap(), before);
}

#[test]
fn an_unsynced_tail_without_a_valid_event_is_quarantined_whatever_its_bytes() {
    for tail in [&b"\0\0\n\0\0\n"[..], b"{\"as_of\":1\0\0\0\n", b"garbage\nmore\n", b"\n\n\xff\n"] {
        let directory = directory();
        bus_of(directory.path(), 3);
        add_to_log(directory.path(), tail);
        assert!(matches!(verify(directory.path()).integrity.finding, Finding::Torn { .. }), "{tail:?}");
        assert_eq!(Reader::open(directory.path()).unwrap().head().unwrap().index, 3);
        assert_eq!(numbers(directory.path()), [1, 2, 3]);
        let bus = Bus::open(directory.path()).unwrap();
        assert_eq!(bus.quarantined().len(), 1);
        bus.append(draft(4)).unwrap();
        assert!(verify(directory.path()).ok());
        assert_eq!(numbers(directory.path()), [1, 2, 3, 4]);
    }
}

/// A crash cannot change bytes that were synced.
#[test]
fn every_change_before_the_sync_mark_is_refused() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = directory.path().join("events.jsonl");
    let original = fs::read(&log).unwrap();
    let refusal_after = |change: fn(&mut Vec<u8>)| {
        let mut text = original.clone();
        change(&mut text);
        fs::write(&log, &text).unwrap();
        let refusal = Bus::open(directory.path()).err().unwrap();
        assert_eq!(fs::read(&log).unwrap(), text, "the log was changed");
        assert!(!verify(directory.path()).ok());
        refusal
    };
    let is_damage = |error: Error| matches!(error, Error::Damaged { .. });
    assert!(
        is_damage(refusal_after(|text| text.iter_mut().rev().take(40).for_each(|byte| *byte = 0))),
        "zeros at the end"
    );
    assert!(is_damage(refusal_after(|text| text[700] = b'x')));
    assert!(matches!(
        refusal_after(|text| text.truncate(text.len() - 400)),
        Error::Missing { events: 1, recorded: 3, .. }
    ));
    assert!(matches!(refusal_after(Vec::clear), Error::Missing { .. }));
    let cut_last_event = |text: &mut Vec<u8>| {
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).collect();
        text.truncate(lines[0] + lines[1]);
    };
    assert!(matches!(refusal_after(cut_last_event), Error::Missing { .. }), "cut between two events");
    assert_eq!(
        verify(directory.path()).integrity.reason(),
        "missing tail after event 2: 3 events were synced"
    );
    // The remedy that the message names.
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
        // The event was not acknowledged, and a power cut could take it back: no reader is given
        // it.
        assert_eq!(numbers(directory.path()), [1]);
        let reopened = Bus::open_in(storage).unwrap();
        assert_eq!(reopened.head().index, 1);
        reopened.append(draft(9)).unwrap();
        assert!(verify(directory.path()).ok());
    }
}

/// Another program appends a line after this handle has found the end and before it writes.
#[test]
fn a_program_that_appends_without_the_lock_is_detected() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    bus.append(draft(1)).unwrap();
    storage.watched.intrude.store(true, SeqCst);
    assert!(matches!(bus.append(draft(2)), Err(Error::Changed { .. })));
    assert!(matches!(bus.append(draft(3)), Err(Error::Poisoned { .. })));
}

#[test]
fn another_valid_log_in_its_place_fails_verification() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let other = Bus::open(directory.path().join("other")).unwrap();
    other.append_batch((7..=9).map(draft).collect()).unwrap();
    fs::copy(other.log_path(), directory.path().join("events.jsonl")).unwrap();
    let integrity = verify(directory.path()).integrity;
    assert_eq!(integrity.reason(), "not the event that bus.lock remembers at event 3");
    assert!(Bus::open(directory.path()).is_err());
}

/// The snapshot is compared with the log before the torn tail is quarantined.
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
    assert!(matches!(Bus::open(directory.path()), Err(Error::Missing { events: 2, recorded: 3, .. })));
    assert_eq!(fs::read(&log).unwrap(), text[..700]);
}

#[test]
fn a_moved_replaced_or_shortened_log_is_detected() {
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

/// After some appends, a handle no longer checks the path itself: the kernel notifies it of
/// changes.
#[test]
fn the_path_guard_detects_every_way_to_redirect_the_path() {
    type Change = fn(&std::path::Path);
    let changes: [(&str, Change); 6] = [
        ("the log is removed", |root| fs::remove_file(root.join("above/bus/events.jsonl")).unwrap()),
        ("the log is replaced", |root| {
            let log = root.join("above/bus/events.jsonl");
            fs::copy(&log, root.join("copy")).unwrap();
            fs::rename(root.join("copy"), &log).unwrap();
        }),
        ("the bus is replaced", |root| {
            fs::rename(root.join("above/bus"), root.join("moved")).unwrap();
            Bus::open(root.join("above/bus")).unwrap();
        }),
        ("the parent directory is moved", |root| {
            fs::rename(root.join("above"), root.join("moved")).unwrap();
        }),
        ("everything is removed", |root| fs::remove_dir_all(root.join("above")).unwrap()),
        ("a symbolic link is redirected", |root| {
            fs::remove_file(root.join("link")).unwrap();
            fs::create_dir(root.join("elsewhere")).unwrap();
            symlink("elsewhere", root.join("link")).unwrap();
        }),
    ];
    for (name, change) in changes {
        let directory = directory();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("above")).unwrap();
        symlink("above", root.join("link")).unwrap();
        let path = if name.contains("link") { "link/bus" } else { "above/bus" };
        let bus = Bus::open(root.join(path)).unwrap();
        for number in 1..=30 {
            bus.append(draft(number)).unwrap();
            // Changes of other names in the directory do not matter.
            bus.write_snapshot(1.0, None, &Json::empty_object()).unwrap();
        }
        change(&root);
        for _ in 0..2 {
            let refusal = bus.append(draft(31)).unwrap_err();
            // Without a directory, a new lock file cannot be opened.
            let expected = matches!(refusal, Error::Changed { .. })
                || (name == "everything is removed" && matches!(refusal, Error::Io { .. }));
            assert!(expected, "{name}: {refusal}");
        }
    }
}

#[test]
fn a_bus_that_is_moved_away_and_back_continues() {
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
fn deleting_the_lock_file_does_not_fork_the_chain() {
    let directory = directory();
    let one = Bus::open(directory.path()).unwrap();
    one.append(draft(1)).unwrap();
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    let two = Bus::open(directory.path()).unwrap();
    for number in 2..20 {
        if number % 2 == 0 { &one } else { &two }.append(draft(number)).unwrap();
    }
    // Again, now that both handles rely on their path guards.
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    let three = Bus::open(directory.path()).unwrap();
    for number in 20..50 {
        [&one, &two, &three][number as usize % 3].append(draft(number)).unwrap();
    }
    assert!(verify(directory.path()).ok());
    assert_eq!(numbers(directory.path()), (1..50).collect::<Vec<_>>());
}

#[test]
fn a_path_that_is_no_bus_gets_a_clear_error() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(Bus::open(&file), Err(Error::NotABus { .. })));
    assert!(matches!(Reader::open(&file), Err(Error::NotABus { .. })));
    assert!(matches!(Reader::open(directory.path().join("missing")), Err(Error::NotABus { .. })));
    assert!(matches!(Bus::open(file.join("below")), Err(Error::Io { .. })));

    let directory_as_log = directory.path().join("directory-as-log");
    fs::create_dir_all(directory_as_log.join("events.jsonl")).unwrap();
    let messages = |path: &std::path::Path| {
        (Bus::open(path).err().unwrap().to_string(), Reader::open(path).err().unwrap().to_string())
    };
    let (bus, reader) = messages(&directory_as_log);
    assert!(
        bus.contains("directory") && reader.contains("it is a directory, not a file"),
        "{bus} / {reader}"
    );

    let linked = directory.path().join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(&file, linked.join("events.jsonl")).unwrap();
    let (bus, reader) = messages(&linked);
    assert!(bus.contains("symbolic link") && reader.contains("symbolic link"), "{bus} / {reader}");
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn a_snapshot_is_bound_to_the_head_that_its_handle_saw() {
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
    // A snapshot without a checksum does not match an event whose checksum is invalid.
    let log = directory.path().join("events.jsonl");
    let spelled = event.checksum.to_string();
    fs::write(&log, fs::read_to_string(&log).unwrap().replace(&spelled, "xyz")).unwrap();
    let without_checksum = text.replace(&format!("\"{spelled}\""), "null");
    assert_eq!(reason(&without_checksum), "snapshot checksum does not match event log");
}

#[test]
fn the_deepest_allowed_payload_is_written_and_read() {
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    let deepest =
        format!(r#"{{"a":{}{}}}"#, "[".repeat(zero_bus::MAX_DEPTH - 1), "]".repeat(zero_bus::MAX_DEPTH - 1));
    let payload = Json::parse(&deepest).unwrap();
    bus.append(Draft { payload: payload.clone(), ..draft(1) }).unwrap();
    // A line that is not canonical takes the slow path, through the parser.
    let line = fs::read_to_string(directory.path().join("events.jsonl")).unwrap();
    fs::write(directory.path().join("events.jsonl"), line.replace(",\"event_id\"", " , \"event_id\""))
        .unwrap();
    // The sync mark describes the canonical line.
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(bus.reader().event(1).unwrap().unwrap().payload, payload);
    // A snapshot adds one level around its payload and is parsed as a whole.
    let bus = Bus::open(directory.path()).unwrap();
    assert!(matches!(bus.write_snapshot(1.0, None, &payload), Err(Error::Invalid { field: "payload", .. })));
    assert!(verify(directory.path()).ok());
}
