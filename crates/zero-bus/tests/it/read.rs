//! Reading: from any index, past any damage no further, and for as long as events come.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::support::{WatchedStorage, add_to_log, bus_of, directory, draft, verify};
use zero_bus::{Bus, Draft, Error, Event, FaultKind, Finding, Head, Json, MAX_LINE_BYTES, Reader};

fn from(path: &Path, index: u64) -> Vec<Event> {
    Reader::open(path).unwrap().events(index).unwrap().map(Result::unwrap).collect()
}

/// A log of lines of very different lengths, so that bisection lands in the middle of long ones.
fn uneven(path: &Path, events: u64) -> Vec<Event> {
    let drafts = (1..=events).map(|number| {
        let length = if number % 7 == 0 { 90_000 } else { (number * 37 % 300) as usize };
        let payload = Json::of(&std::collections::BTreeMap::from([("text", "x".repeat(length))])).unwrap();
        Draft { payload, ..draft(number) }
    });
    Bus::open(path).unwrap().append_batch(drafts.collect()).unwrap()
}

#[test]
fn events_are_read_from_any_index() {
    let directory = directory();
    let written = uneven(directory.path(), 120);
    let reader = Reader::open(directory.path()).unwrap();
    for index in 1..=120 {
        assert_eq!(from(directory.path(), index), written[index as usize - 1..], "from {index}");
        assert_eq!(reader.event(index).unwrap().as_ref(), written.get(index as usize - 1));
        assert_eq!(reader.event_by_id(&written[index as usize - 1].id()).unwrap().unwrap().index, index);
    }
    assert_eq!(from(directory.path(), 0), written);
    for index in [0, 121, 122, 1_000_000, u64::MAX] {
        assert_eq!(reader.event(index).unwrap(), None);
    }
    for id in ["evt-1", "evt-0000000000001", "evt-000000000000", "1", "evt-+00000000001"] {
        assert_eq!(reader.event_by_id(id).unwrap(), None, "{id}");
    }
    assert_eq!(reader.head().unwrap().index, 120);
}

/// Blank lines, other spellings and a torn tail do not lead the bisection astray.
#[test]
fn events_are_read_from_any_index_of_an_untidy_log() {
    let directory = directory();
    let written = uneven(directory.path(), 60);
    let mut text = String::new();
    for event in &written {
        let line = event.line();
        match event.index % 4 {
            0 => text += &format!("\n  \n{line}\r\n"),
            1 => text += &format!("{}\n", line.replacen(',', ", ", 1)),
            _ => text += &format!("{line}\n"),
        }
    }
    text += &"{\"as_of\":1".repeat(20_000);
    fs::write(directory.path().join("events.jsonl"), text).unwrap();
    assert!(matches!(verify(directory.path()).integrity.finding, Finding::Torn { .. }));
    for index in 1..=61 {
        assert_eq!(from(directory.path(), index), written[index as usize - 1..], "from {index}");
    }
}

/// Finding an event, or that there is none, costs some lines and not the log.
#[test]
fn finding_costs_a_few_lines() {
    let directory = directory();
    bus_of(directory.path(), 50_000);
    let log = fs::metadata(directory.path().join("events.jsonl")).unwrap().len();
    let storage = WatchedStorage::new(directory.path());
    let reader = Reader::open_in(storage.clone());
    for index in [1, 2, 25_000, 49_999, 50_000, 50_001, 50_002, u64::MAX] {
        let before = storage.watched.bytes_read.load(SeqCst);
        assert_eq!(reader.event(index).unwrap().is_some(), index <= 50_000);
        let read = storage.watched.bytes_read.load(SeqCst) - before;
        assert!(read < log / 3, "event {index}: {read} of {log} bytes");
    }
}

#[test]
fn reading_ends_at_the_first_fault_and_names_it() {
    let directory = directory();
    let written = bus_of(directory.path(), 10);
    let log = directory.path().join("events.jsonl");
    let lines: Vec<String> = written.iter().map(Event::line).collect();
    let offset = lines[..6].iter().map(|line| line.len() as u64 + 1).sum::<u64>();
    let damaged = |line: &str| {
        let mut lines = lines.clone();
        lines[6] = line.to_owned();
        fs::write(&log, lines.join("\n") + "\n").unwrap();
        let verdict = verify(directory.path()).integrity;
        assert_eq!(verdict.head.index, 6);
        let Finding::Fault(fault) = verdict.finding else { panic!("{line}") };
        assert_eq!((fault.event, fault.byte_offset), (7, offset));
        let reader = Reader::open(directory.path()).unwrap();
        // Wherever reading begins, what lies behind the fault is never given out as sound.
        for begin in 1..=7 {
            let mut events = reader.events(begin).unwrap();
            let good = events.by_ref().take_while(Result::is_ok).count() as u64;
            assert_eq!(good, 7 - begin);
            assert!(events.next().is_none());
        }
        let mut follow = reader.follow(7).unwrap();
        for _ in 0..3 {
            assert!(matches!(follow.next(Duration::ZERO), Err(Error::Damaged { .. })), "and again");
        }
        fault.to_string()
    };
    let seventh = &lines[6];
    assert_eq!(damaged("garbage"), "not JSON at event 7: expected a value (byte 0 of the line)");
    assert_eq!(damaged("[1]"), "not an object at event 7: an array");
    assert_eq!(
        damaged(&seventh.replace("\"event_type\":\"test.event\",", "")),
        "missing field `event_type` at event 7"
    );
    assert_eq!(
        damaged(&seventh.replace("{\"number\":7}", "7")),
        "wrong field `payload` at event 7: found an integer, should be an object"
    );
    assert_eq!(
        damaged(&seventh.replace("\"event_index\":7", "\"event_index\":7.0")),
        "wrong field `event_index` at event 7: found a float, should be an integer"
    );
    assert_eq!(damaged(&seventh.replace("{\"number\":7}", "{\"number\":8}")), "checksum mismatch at event 7");
    assert_eq!(damaged(&seventh.replace("event.v1", "event.v2")), "unsupported schema at event 7");
    assert_eq!(
        damaged(&seventh.replace("\"schema_version\"", "\"a\":1,\"schema_version\"")),
        "unknown field `a` at event 7"
    );
    assert_eq!(damaged(&lines[7]), "non-sequential event index at event 7");
    assert_eq!(
        damaged(&seventh.replace("\"previous_checksum\":\"sha256:", "\"previous_checksum\":\"sha256:0")),
        "checksum chain break at event 7"
    );
    let huge = "9".repeat(40);
    assert_eq!(
        damaged(&seventh.replace("\"event_index\":7", &format!("\"event_index\":{huge}"))),
        "non-sequential event index at event 7"
    );
    assert_eq!(
        damaged(&seventh.replace("\"test.event\"", "\"\\ud800\"")),
        "not JSON at event 7: a lone surrogate has no portable form (byte 167 of the line)"
    );
    assert_eq!(
        damaged(&"[".repeat(200_000)),
        "not JSON at event 7: nested deeper than 1001 levels (byte 1001 of the line)"
    );
}

/// Faults of the format's own checksum are found also where the line was sealed anew.
#[test]
fn what_a_right_checksum_does_not_cover_is_still_judged() {
    let directory = directory();
    let event = bus_of(directory.path(), 1).remove(0);
    let log = directory.path().join("events.jsonl");
    let sealed = |line: String| {
        let checksum = event.checksum.to_string();
        let hashed = line.replace(&format!("\"checksum\":\"{checksum}\","), "");
        let seal = zero_bus::Checksum::of(hashed.as_bytes()).to_string();
        fs::write(&log, line.replace(&checksum, &seal) + "\n").unwrap();
        verify(directory.path()).integrity.reason()
    };
    assert_eq!(sealed(event.line()), "ok");
    let wrong_id = event.line().replace("evt-000000000001", "evt-1");
    assert_eq!(sealed(wrong_id), "wrong field `event_id` at event 1: should be `evt-000000000001`");
    let no_type = event.line().replace("test.event", "");
    assert_eq!(sealed(no_type), "wrong field `event_type` at event 1: must not be empty");
    let no_trace = event.line().replace("event.v1\"", "event.v1\",\"trace_id\":\"\"");
    assert_eq!(sealed(no_trace), "wrong field `trace_id` at event 1: should be absent rather than empty");
}

#[test]
fn an_integer_time_counts_as_the_float() {
    let directory = directory();
    let event = bus_of(directory.path(), 1).remove(0);
    let line = event.line().replace("1777593601.0", "1777593601");
    assert_ne!(line, event.line());
    fs::write(directory.path().join("events.jsonl"), line + "\n").unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(from(directory.path(), 1), [event]);
}

#[test]
fn a_line_that_is_too_long_is_reported_and_passed_over() {
    let directory = directory();
    let written = bus_of(directory.path(), 2);
    let long = "x".repeat(MAX_LINE_BYTES + 1);
    fs::write(
        directory.path().join("events.jsonl"),
        format!("{}\n{long}\n{}\n", written[0].line(), written[1].line()),
    )
    .unwrap();
    let mut document = Vec::new();
    let (verdict, summary) =
        Reader::open(directory.path()).unwrap().audit(&mut document, &mut |_| {}).unwrap();
    let Finding::Fault(fault) = &verdict.integrity.finding else { panic!("a fault") };
    assert_eq!(fault.kind, FaultKind::LineTooLong);
    assert_eq!(summary.events, 2, "the line behind it is seen");
    assert!(document.len() < 4096);
    assert!(matches!(Bus::open(directory.path()), Err(Error::Damaged { .. })));
}

#[test]
fn indexes_at_the_end_of_numbers_are_judged() {
    let directory = directory();
    let event = bus_of(directory.path(), 1).remove(0);
    let last = Event { index: u64::MAX, ..event.clone() };
    fs::write(directory.path().join("events.jsonl"), format!("{0}\n{0}\n", last.line())).unwrap();
    assert!(matches!(Bus::open(directory.path()), Err(Error::Damaged { .. })));
    assert_eq!(verify(directory.path()).integrity.reason(), "non-sequential event index at event 1");
}

#[test]
fn a_follower_gets_what_is_there_and_what_comes() {
    let directory = directory();
    let reader = Reader::open(directory.path()).unwrap();
    // Before there is a log.
    let mut follower = reader.follow(2).unwrap();
    assert_eq!(follower.next(Duration::ZERO).unwrap(), None);
    let bus = Bus::open(directory.path()).unwrap();
    let path = directory.path().to_owned();
    let writer = std::thread::spawn(move || {
        for number in 1..=200 {
            bus.append(draft(number)).unwrap();
        }
        (path, bus)
    });
    for index in 2..=200 {
        let event = follower.next(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(event.index, index);
    }
    let _ = writer.join().unwrap();
    assert_eq!(follower.next(Duration::ZERO).unwrap(), None);
}

#[test]
fn a_follower_survives_the_repair_of_a_torn_tail() {
    for torn in [10, 400, 5_000] {
        let directory = directory();
        let written = bus_of(directory.path(), 3);
        // As many bytes as the line that will come in their place, and fewer, and more.
        let torn = if torn == 400 { written[2].line().len() + 1 } else { torn };
        add_to_log(directory.path(), &vec![b'{'; torn]);
        let reader = Reader::open(directory.path()).unwrap();
        let mut follower = reader.follow(1).unwrap();
        let mut events = reader.events(1).unwrap();
        for event in &written {
            assert_eq!(follower.next(Duration::ZERO).unwrap().as_ref(), Some(event));
        }
        assert_eq!(follower.next(Duration::ZERO).unwrap(), None);
        assert_eq!(follower.torn_bytes(), torn as u64);
        let bus = Bus::open(directory.path()).unwrap();
        assert_eq!(follower.next(Duration::ZERO).unwrap(), None);
        let next = bus.append(draft(4)).unwrap();
        assert_eq!(follower.next(Duration::from_secs(60)).unwrap(), Some(next));
        // Reading that began before the repair gets the sound events too.
        for event in &written {
            assert_eq!(events.next().unwrap().unwrap(), *event);
        }
    }
}

#[test]
fn a_follower_is_told_of_a_log_that_was_replaced_or_shortened() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = directory.path().join("events.jsonl");
    let reader = Reader::open(directory.path()).unwrap();
    let mut follower = reader.follow(4).unwrap();
    assert_eq!(follower.next(Duration::ZERO).unwrap(), None);
    let text = fs::read(&log).unwrap();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(10).unwrap();
    assert!(matches!(follower.next(Duration::ZERO), Err(Error::Changed { .. })));
    fs::remove_file(&log).unwrap();
    fs::write(&log, text).unwrap();
    assert!(matches!(follower.next(Duration::ZERO), Err(Error::Changed { .. })));
}

#[test]
fn a_follower_is_told_of_a_bus_that_was_moved_or_removed() {
    for remove in [true, false] {
        let directory = directory();
        let path = directory.path().join("bus");
        bus_of(&path, 1);
        let mut follower = Reader::open(&path).unwrap().follow(2).unwrap();
        let bus = Bus::open(&path).unwrap();
        let waiting = std::thread::spawn(move || follower.next(Duration::from_secs(60)));
        if remove {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::rename(&path, directory.path().join("moved")).unwrap();
        }
        assert!(matches!(waiting.join().unwrap(), Err(Error::Changed { .. })));
        assert!(matches!(bus.append(draft(9)), Err(Error::Changed { .. } | Error::Io { .. })));
    }
}

/// Reading needs no right to write, and leaves no trace.
#[test]
fn reading_changes_nothing() {
    let directory = directory();
    bus_of(directory.path(), 3);
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    add_to_log(directory.path(), b"{\"torn");
    let before = fs::read(directory.path().join("events.jsonl")).unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.events(1).unwrap().count(), 3);
    reader.verify(&mut |_| {}).unwrap();
    reader.audit(Vec::new(), &mut |_| {}).unwrap();
    assert_eq!(reader.snapshot().unwrap(), None);
    reader.follow(1).unwrap().next(Duration::ZERO).unwrap();
    assert_eq!(fs::read(directory.path().join("events.jsonl")).unwrap(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// A log that the first version wrote stays readable.
#[test]
fn the_log_of_version_1_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let verdict = verify(&fixture);
    assert!(verdict.ok());
    assert!(verdict.snapshot_integrity.present);
    let recorded = fs::read_to_string(fixture.join("events.jsonl")).unwrap();
    let again: String = from(&fixture, 1).iter().map(|event| event.line() + "\n").collect();
    assert_eq!(again, recorded);
    // Written again from the same drafts it is the same log.
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    for event in from(&fixture, 1) {
        let Event { event_type, as_of, payload, trace_id, .. } = event;
        bus.append(Draft { event_type, as_of, payload, trace_id }).unwrap();
    }
    assert_eq!(fs::read_to_string(directory.path().join("events.jsonl")).unwrap(), recorded);
}

/// Whoever copies a log needs its very bytes, also where they are not the canonical ones.
#[test]
fn the_exact_line_comes_with_the_event() {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/logs");
    for log in ["valid-40", "reformatted", "reordered-keys", "no-final-newline", "blank-lines"] {
        let text = fs::read_to_string(logs.join(log).join("events.jsonl")).unwrap();
        let lines: Vec<&str> = text.split('\n').filter(|line| !line.trim().is_empty()).collect();
        let reader = Reader::open(logs.join(log)).unwrap();
        let mut events = reader.events(1).unwrap();
        let mut follow = reader.follow(1).unwrap();
        let mut head = Head::default();
        for (line, event) in lines.iter().zip(from(&logs.join(log), 1)) {
            assert_eq!(
                events.next_with_line().unwrap().unwrap(),
                (event.clone(), (*line).to_owned()),
                "{log}"
            );
            assert_eq!(
                follow.next_with_line(Duration::ZERO).unwrap().unwrap(),
                (event.clone(), (*line).to_owned())
            );
            assert_eq!(Event::read(line.as_bytes(), head), Ok(event.clone()));
            assert_eq!(Event::read_alone(line.as_bytes(), event.index), Ok(event.clone()));
            assert!(Event::read_alone(line.as_bytes(), event.index + 1).is_err());
            if event.index > 1 {
                assert!(Event::read(line.as_bytes(), Head::default()).is_err());
            }
            head = event.head();
        }
        assert_eq!(head.index as usize, lines.len(), "{log}");
        assert_eq!(events.next_with_line().unwrap(), None);
        assert_eq!(follow.next_with_line(Duration::ZERO).unwrap(), None);
    }
    let mut damaged = Reader::open(logs.join("mutated-payload")).unwrap().events(12).unwrap();
    assert_eq!(damaged.next_with_line().unwrap().unwrap().0.index, 12);
    assert!(matches!(damaged.next_with_line(), Err(Error::Damaged { .. })));
    assert_eq!(damaged.next_with_line().unwrap(), None);
}
