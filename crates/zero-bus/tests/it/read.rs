//! Reading: from any index, up to the first fault, without changing anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::support::{
    WatchedStorage, add_to_log, bus_of, child_argument, directory, draft, run_again, verify,
};
use zero_bus::storage::{Directory, Storage};
use zero_bus::{
    BackupError, Bus, Checksum, Draft, Error, Event, FaultKind, Finding, Head, Json, LOCK, LOG,
    MAX_LINE_BYTES, Reader, SNAPSHOT, StoredSyncMark, Verdict,
};

fn events_from(path: &Path, index: u64) -> Vec<Event> {
    Reader::open(path).unwrap().events(index).unwrap().map(Result::unwrap).collect()
}

/// Appends events of very different lengths, so that bisection probes the middle of long lines.
fn append_uneven_events(path: &Path, events: u64) -> Vec<Event> {
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
    let written = append_uneven_events(directory.path(), 120);
    let reader = Reader::open(directory.path()).unwrap();
    for index in 1..=120 {
        assert_eq!(events_from(directory.path(), index), written[index as usize - 1..], "from {index}");
        assert_eq!(reader.event(index).unwrap().as_ref(), written.get(index as usize - 1));
        assert_eq!(reader.event_by_id(&written[index as usize - 1].id()).unwrap().unwrap().index, index);
    }
    assert_eq!(events_from(directory.path(), 0), written);
    for index in [0, 121, 122, 1_000_000, u64::MAX] {
        assert_eq!(reader.event(index).unwrap(), None);
    }
    for id in ["evt-1", "evt-0000000000001", "evt-000000000000", "1", "evt-+00000000001"] {
        assert_eq!(reader.event_by_id(id).unwrap(), None, "{id}");
    }
    assert_eq!(reader.head().unwrap().index, 120);
}

/// Bisection copes with blank lines, lines that are not canonical and a torn tail.
#[test]
fn events_are_read_from_any_index_of_a_log_that_is_not_canonical() {
    let directory = directory();
    let written = append_uneven_events(directory.path(), 60);
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
    // The sync mark describes the canonical log.
    fs::remove_file(directory.path().join(LOCK)).unwrap();
    assert!(matches!(verify(directory.path()).integrity.finding, Finding::Torn { .. }));
    for index in 1..=61 {
        assert_eq!(events_from(directory.path(), index), written[index as usize - 1..], "from {index}");
    }
}

#[test]
fn finding_an_event_reads_a_few_lines_and_not_the_log() {
    let directory = directory();
    bus_of(directory.path(), 50_000);
    let log_bytes = fs::metadata(directory.path().join("events.jsonl")).unwrap().len();
    let storage = WatchedStorage::new(directory.path());
    let reader = Reader::open_in(storage.clone());
    for index in [1, 2, 25_000, 49_999, 50_000, 50_001, 50_002, u64::MAX] {
        let before = storage.watched.bytes_read.load(SeqCst);
        assert_eq!(reader.event(index).unwrap().is_some(), index <= 50_000);
        let read = storage.watched.bytes_read.load(SeqCst) - before;
        assert!(read < log_bytes / 3, "event {index}: {read} of {log_bytes} bytes");
    }
}

#[test]
fn reading_ends_at_the_first_fault_and_reports_it() {
    let directory = directory();
    let written = bus_of(directory.path(), 10);
    let log = directory.path().join("events.jsonl");
    let lines: Vec<String> = written.iter().map(Event::line).collect();
    let offset = lines[..6].iter().map(|line| line.len() as u64 + 1).sum::<u64>();
    let fault_of = |line: &str| {
        let mut lines = lines.clone();
        lines[6] = line.to_owned();
        fs::write(&log, lines.join("\n") + "\n").unwrap();
        let verdict = verify(directory.path()).integrity;
        assert_eq!(verdict.head.index, 6);
        let Finding::Fault(fault) = verdict.finding else { panic!("{line}") };
        assert_eq!((fault.event, fault.byte_offset), (7, offset));
        let reader = Reader::open(directory.path()).unwrap();
        // From whichever index reading starts, it never returns an event after the fault.
        for start in 1..=7 {
            let mut events = reader.events(start).unwrap();
            let valid = events.by_ref().take_while(Result::is_ok).count() as u64;
            assert_eq!(valid, 7 - start);
            assert!(events.next().is_none());
        }
        let mut follow = reader.follow(7).unwrap();
        for _ in 0..3 {
            assert!(matches!(follow.next_timeout(Duration::ZERO), Err(Error::Damaged { .. })));
        }
        fault.to_string()
    };
    let seventh = &lines[6];
    assert_eq!(fault_of("garbage"), "not JSON at event 7: expected a value (byte 0 of the line)");
    assert_eq!(fault_of("[1]"), "not an object at event 7: an array");
    assert_eq!(
        fault_of(&seventh.replace("\"event_type\":\"test.event\",", "")),
        "missing field `event_type` at event 7"
    );
    assert_eq!(
        fault_of(&seventh.replace("{\"number\":7}", "7")),
        "wrong field `payload` at event 7: found an integer, should be an object"
    );
    assert_eq!(
        fault_of(&seventh.replace("\"event_index\":7", "\"event_index\":7.0")),
        "wrong field `event_index` at event 7: found a float, should be an integer"
    );
    assert_eq!(
        fault_of(&seventh.replace("{\"number\":7}", "{\"number\":8}")),
        "checksum mismatch at event 7"
    );
    assert_eq!(fault_of(&seventh.replace("event.v1", "event.v2")), "unsupported schema at event 7");
    assert_eq!(
        fault_of(&seventh.replace("\"schema_version\"", "\"a\":1,\"schema_version\"")),
        "unknown field `a` at event 7"
    );
    assert_eq!(fault_of(&lines[7]), "non-sequential event index at event 7");
    assert_eq!(
        fault_of(&seventh.replace("\"previous_checksum\":\"sha256:", "\"previous_checksum\":\"sha256:0")),
        "checksum chain break at event 7"
    );
    let huge = "9".repeat(40);
    assert_eq!(
        fault_of(&seventh.replace("\"event_index\":7", &format!("\"event_index\":{huge}"))),
        "non-sequential event index at event 7"
    );
    assert_eq!(
        fault_of(&seventh.replace("\"test.event\"", "\"\\ud800\"")),
        "not JSON at event 7: a lone surrogate has no portable form (byte 167 of the line)"
    );
    assert_eq!(
        fault_of(&"[".repeat(200_000)),
        "not JSON at event 7: nested deeper than 1001 levels (byte 1001 of the line)"
    );
}

#[test]
fn a_matching_checksum_does_not_hide_an_invalid_field() {
    let directory = directory();
    let event = bus_of(directory.path(), 1).remove(0);
    let log = directory.path().join("events.jsonl");
    let reason_with_new_checksum = |line: String| {
        let old = event.checksum.to_string();
        let hashed = line.replace(&format!("\"checksum\":\"{old}\","), "");
        let new = Checksum::of(hashed.as_bytes()).to_string();
        fs::write(&log, line.replace(&old, &new) + "\n").unwrap();
        verify(directory.path()).integrity.reason()
    };
    assert_eq!(reason_with_new_checksum(event.line()), "ok");
    let wrong_id = event.line().replace("evt-000000000001", "evt-1");
    assert_eq!(
        reason_with_new_checksum(wrong_id),
        "wrong field `event_id` at event 1: should be `evt-000000000001`"
    );
    let no_type = event.line().replace("test.event", "");
    assert_eq!(reason_with_new_checksum(no_type), "wrong field `event_type` at event 1: must not be empty");
    let no_trace = event.line().replace("event.v1\"", "event.v1\",\"trace_id\":\"\"");
    assert_eq!(
        reason_with_new_checksum(no_trace),
        "wrong field `trace_id` at event 1: should be absent rather than empty"
    );
}

#[test]
fn an_integer_as_of_is_read_as_the_equal_float() {
    let directory = directory();
    let event = bus_of(directory.path(), 1).remove(0);
    let line = event.line().replace("1777593601.0", "1777593601");
    assert_ne!(line, event.line());
    fs::write(directory.path().join("events.jsonl"), line + "\n").unwrap();
    // The sync mark describes the longer line.
    fs::remove_file(directory.path().join(LOCK)).unwrap();
    assert!(verify(directory.path()).ok());
    assert_eq!(events_from(directory.path(), 1), [event]);
}

#[test]
fn a_line_that_is_too_long_is_reported_and_skipped() {
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
    assert_eq!(summary.events, 2, "the audit counts the line after it");
    assert!(document.len() < 4096);
    assert!(matches!(Bus::open(directory.path()), Err(Error::Damaged { .. })));
}

#[test]
fn the_largest_index_is_refused_as_non_sequential() {
    let directory = directory();
    let event = bus_of(directory.path(), 1).remove(0);
    let last = Event { index: u64::MAX, ..event.clone() };
    fs::write(directory.path().join("events.jsonl"), format!("{0}\n{0}\n", last.line())).unwrap();
    assert!(matches!(Bus::open(directory.path()), Err(Error::Damaged { .. })));
    assert_eq!(verify(directory.path()).integrity.reason(), "non-sequential event index at event 1");
}

#[test]
fn reading_changes_no_file() {
    let directory = directory();
    bus_of(directory.path(), 3);
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    add_to_log(directory.path(), b"{\"torn");
    let before = fs::read(directory.path().join("events.jsonl")).unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.events(1).unwrap().count(), 3);
    reader.verify().unwrap();
    reader.audit(Vec::new(), &mut |_| {}).unwrap();
    assert_eq!(reader.snapshot().unwrap(), None);
    reader.follow(1).unwrap().next_timeout(Duration::ZERO).unwrap();
    assert_eq!(fs::read(directory.path().join("events.jsonl")).unwrap(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_log_of_format_version_1_is_read_and_reproduced() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let verdict = verify(&fixture);
    assert!(verdict.ok());
    assert!(verdict.snapshot_integrity.present);
    let recorded = fs::read_to_string(fixture.join("events.jsonl")).unwrap();
    let rewritten: String = events_from(&fixture, 1).iter().map(|event| event.line() + "\n").collect();
    assert_eq!(rewritten, recorded);
    // The same drafts make the same log.
    let directory = directory();
    let bus = Bus::open(directory.path()).unwrap();
    for event in events_from(&fixture, 1) {
        let Event { event_type, as_of, payload, trace_id, .. } = event;
        bus.append(Draft { event_type, as_of, payload, trace_id }).unwrap();
    }
    assert_eq!(fs::read_to_string(directory.path().join("events.jsonl")).unwrap(), recorded);
}

/// A program that copies a log needs its exact bytes, which need not be canonical.
#[test]
fn an_event_is_returned_with_its_exact_line() {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/logs");
    for log in ["valid-40", "reformatted", "reordered-keys", "no-final-newline", "blank-lines"] {
        let text = fs::read_to_string(logs.join(log).join("events.jsonl")).unwrap();
        let lines: Vec<&str> = text.split('\n').filter(|line| !line.trim().is_empty()).collect();
        let reader = Reader::open(logs.join(log)).unwrap();
        let mut events = reader.events(1).unwrap();
        let mut follow = reader.follow(1).unwrap();
        let mut head = Head::default();
        for (line, event) in lines.iter().zip(events_from(&logs.join(log), 1)) {
            assert_eq!(
                events.next_with_line().unwrap().unwrap(),
                (event.clone(), (*line).to_owned()),
                "{log}"
            );
            assert_eq!(
                follow.next_line_timeout(Duration::ZERO).unwrap().unwrap(),
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
        assert_eq!(follow.next_line_timeout(Duration::ZERO).unwrap(), None);
    }
    let mut damaged = Reader::open(logs.join("mutated-payload")).unwrap().events(12).unwrap();
    assert_eq!(damaged.next_with_line().unwrap().unwrap().0.index, 12);
    assert!(matches!(damaged.next_with_line(), Err(Error::Damaged { .. })));
    assert_eq!(damaged.next_with_line().unwrap(), None);
}

#[test]
fn contains_accepts_only_the_event_with_this_index_and_checksum() {
    let directory = directory();
    let reader = Reader::open(directory.path()).unwrap();
    assert!(reader.contains(Head::default()).unwrap(), "before there is a log");
    assert!(!reader.contains(Head { index: 1, checksum: Some(Checksum::of(b"x")) }).unwrap());
    let written = bus_of(directory.path(), 20);
    assert!(reader.contains(Head::default()).unwrap());
    for event in &written {
        let head = event.head();
        assert!(reader.contains(head).unwrap());
        assert!(!reader.contains(Head { index: head.index + 1, ..head }).unwrap());
        assert!(!reader.contains(Head { index: 0, ..head }).unwrap());
        assert!(!reader.contains(Head { checksum: event.previous_checksum, ..head }).unwrap());
        assert!(!reader.contains(Head { checksum: None, ..head }).unwrap());
    }
    assert!(!reader.contains(Head { index: u64::MAX, ..written[19].head() }).unwrap());
}

#[test]
fn contains_reports_a_damaged_event_as_an_error() {
    let directory = directory();
    let written = bus_of(directory.path(), 5);
    let log = directory.path().join(LOG);
    let damaged = fs::read_to_string(&log).unwrap().replace("{\"number\":4}", "{\"number\":5}");
    fs::write(&log, damaged).unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    assert!(reader.contains(written[2].head()).unwrap());
    assert!(matches!(reader.contains(written[3].head()), Err(Error::Damaged { .. })));
}

/// What [`Verdict::SCOPE`] says: verification alone passes, the kept head is missing.
#[test]
fn a_kept_head_detects_what_verification_alone_cannot() {
    let written = bus_of(directory().path(), 5);
    let kept = written[4].head();
    // The end was cut off at an event boundary, and the sync mark removed with it.
    let cut = directory();
    bus_of(cut.path(), 5);
    let lines: String = written[..4].iter().map(|event| event.line() + "\n").collect();
    fs::write(cut.path().join(LOG), lines).unwrap();
    fs::remove_file(cut.path().join(LOCK)).unwrap();
    // The whole log was rewritten.
    let rewritten = directory();
    Bus::open(rewritten.path()).unwrap().append_batch((11..=15).map(draft).collect()).unwrap();
    for place in [&cut, &rewritten] {
        let reader = Reader::open(place.path()).unwrap();
        assert!(reader.verify().unwrap().ok());
        assert!(!reader.contains(kept).unwrap());
    }
}

#[test]
fn the_scope_of_ok_is_one_line_that_names_the_way_to_an_anchor() {
    assert!(!Verdict::SCOPE.contains('\n') && !Verdict::SCOPE.contains("  "), "{}", Verdict::SCOPE);
    for part in ["unmodified", "in order", "linked", "cut off", "rewritten", "--expect INDEX:CHECKSUM"] {
        assert!(Verdict::SCOPE.contains(part), "{part}");
    }
}

#[test]
fn every_form_of_verify_returns_the_same_verdict() {
    let directory = directory();
    bus_of(directory.path(), 1_000);
    let reader = Reader::open(directory.path()).unwrap();
    let verdict = reader.verify().unwrap();
    assert!(verdict.ok());
    let mut reported = Vec::new();
    let with_progress = reader.verify_with_progress(&mut |progress| reported.push(progress)).unwrap();
    assert_eq!(with_progress, verdict);
    assert!(reported.is_sorted_by_key(|progress| progress.bytes));
    let last = reported.last().unwrap();
    assert_eq!((last.bytes, last.bytes_total), (reader.size_bytes().unwrap(), last.bytes));
    let on_one_thread = reader.verify_on_threads(std::num::NonZeroUsize::MIN, &mut |_| {}).unwrap();
    assert_eq!(on_one_thread, verdict);
}

/// Checks that every way to read a bus reports that its log holds fewer events than a file next to
/// it records.
fn assert_every_reader_reports_missing_events(path: &Path, events: u64, recorded: u64, file: &str) {
    let assert_missing = |what: &str, error: Error| match error {
        Error::Missing { events: held, recorded: lost, recorded_in, .. } => {
            assert_eq!((held, lost, recorded_in), (events, recorded, file), "{what}");
        }
        other => panic!("{what}: {other}"),
    };
    let reader = Reader::open(path).unwrap();
    for from in [1, events, events + 1, recorded, recorded + 1] {
        let error = reader.events(from).unwrap().find_map(Result::err).unwrap();
        assert_missing("events", error);
        let mut follower = reader.follow(from).unwrap();
        let error = loop {
            match follower.next_timeout(Duration::ZERO) {
                Ok(event) => assert!(event.is_some(), "the follower is silent"),
                Err(error) => break error,
            }
        };
        assert_missing("follow", error);
    }
    assert_missing("select", reader.select(1, |_, _| true, |_| Ok::<(), Error>(())).unwrap_err());
    assert_missing("event", reader.event(recorded).unwrap_err());
    assert_missing("head", reader.head().unwrap_err());
    if events > 0 {
        assert_eq!(reader.event(events).unwrap().unwrap().index, events, "the events that are left are read");
    }
    let verdict = reader.verify().unwrap();
    assert!(!verdict.ok());
    assert_eq!(reader.audit(Vec::new(), &mut |_| {}).unwrap().0, verdict);
    let target = directory();
    let target: Arc<dyn Storage> = Arc::new(Directory::open(target.path()).unwrap());
    match reader.backup(&target, &mut |_| {}).unwrap_err() {
        BackupError::Bus(error) => assert_missing("backup", error),
        other => panic!("{other}"),
    }
}

#[test]
fn a_log_shorter_than_its_sync_mark_is_an_error_for_every_reader() {
    let directory = directory();
    let written = bus_of(directory.path(), 5);
    let log = directory.path().join(LOG);
    let text = fs::read(&log).unwrap();
    let length_of =
        |events: usize| written[..events].iter().map(|event| event.line().len() + 1).sum::<usize>();
    for (length, events) in [
        (0, 0),
        (10, 0),
        (length_of(1), 1),
        (length_of(2) + 10, 2),
        (length_of(4), 4),
        (length_of(4) + 10, 4),
    ] {
        fs::write(&log, &text[..length]).unwrap();
        assert_every_reader_reports_missing_events(directory.path(), events, 5, LOCK);
    }
    fs::remove_file(&log).unwrap();
    assert_every_reader_reports_missing_events(directory.path(), 0, 5, LOCK);
}

#[test]
fn a_log_shorter_than_its_snapshot_is_an_error_for_every_reader() {
    let directory = directory();
    let written = bus_of(directory.path(), 5);
    Bus::open(directory.path()).unwrap().write_snapshot(0.0, None, &[("number", 5)]).unwrap();
    assert_eq!(Reader::open(directory.path()).unwrap().head().unwrap().index, 5);
    fs::remove_file(directory.path().join(LOCK)).unwrap();
    let log = directory.path().join(LOG);
    for events in [4, 1, 0] {
        let lines: String = written[..events].iter().map(|event| event.line() + "\n").collect();
        fs::write(&log, lines).unwrap();
        assert_every_reader_reports_missing_events(directory.path(), events as u64, 5, SNAPSHOT);
    }
    fs::remove_file(&log).unwrap();
    assert_every_reader_reports_missing_events(directory.path(), 0, 5, SNAPSHOT);
}

/// A snapshot can be newer than the end up to which a reader reads.
#[test]
fn a_snapshot_of_later_events_is_no_error() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let mut events = Reader::open(directory.path()).unwrap().events(1).unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    bus.append(draft(4)).unwrap();
    bus.write_snapshot(0.0, None, &[("number", 4)]).unwrap();
    assert_eq!(events.by_ref().map(|event| event.unwrap().index).collect::<Vec<_>>(), [1, 2, 3]);
}

/// Whatever makes recovery refuse a log must fail every check too, and the same log without a lock
/// file is valid.
#[test]
fn a_log_respelled_after_its_sync_fails_every_check_as_it_fails_an_append() {
    let canonical = directory();
    let written = bus_of(canonical.path(), 5);
    let text = fs::read_to_string(canonical.path().join(LOG)).unwrap();
    let spaced = text.replace(",\"checksum\"", ", \"checksum\"");
    let cases = [
        ("CRLF", text.clone(), text.replace('\n', "\r\n")),
        ("spaces", text.clone(), spaced.clone()),
        ("blank lines", text.clone(), format!("\n\n{text}")),
        ("no spaces", spaced, text.clone()),
        ("a torn tail", text.clone(), text.replace('\n', "\r\n") + "{\"as_of\""),
    ];
    for (name, synced, respelled) in cases {
        let place = directory();
        fs::write(place.path().join(LOG), synced).unwrap();
        drop(Bus::open(place.path()).unwrap());
        assert!(verify(place.path()).ok(), "{name}");
        let open = Bus::open(place.path()).unwrap();
        fs::write(place.path().join(LOG), &respelled).unwrap();

        let crlf = respelled.contains('\r');
        let expected = FaultKind::NotWhereSynced { crlf };
        let Err(Error::Damaged { fault, .. }) = Bus::open(place.path()) else { panic!("{name}") };
        assert_eq!((fault.event, &fault.kind), (5, &expected), "{name}");
        assert!(open.append(draft(6)).is_err(), "{name}");
        let reader = Reader::open(place.path()).unwrap();
        let verdict = reader.verify().unwrap();
        assert_eq!(verdict.integrity.finding, Finding::Fault(fault.clone()), "{name}");
        assert_eq!(reader.audit(Vec::new(), &mut |_| {}).unwrap().0, verdict, "{name}");
        let target = directory();
        let target: Arc<dyn Storage> = Arc::new(Directory::open(target.path()).unwrap());
        let Err(BackupError::Bus(Error::Damaged { fault: backup_fault, .. })) =
            reader.backup(&target, &mut |_| {})
        else {
            panic!("{name}")
        };
        assert_eq!(backup_fault, fault, "{name}");
        let reason = verdict.integrity.reason();
        assert!(reason.starts_with("not where bus.lock remembers it at event 5: "), "{reason}");
        assert!(reason.contains("delete bus.lock to accept"), "{reason}");
        assert_eq!(reason.contains("CRLF"), crlf, "{reason}");
        // Each event is valid by itself.
        assert_eq!(events_from(place.path(), 1), written, "{name}");

        fs::remove_file(place.path().join(LOCK)).unwrap();
        assert!(matches!(verify(place.path()).integrity.finding, Finding::Sound | Finding::Torn { .. }));
        Bus::open(place.path()).unwrap().append(draft(6)).unwrap();
        assert!(verify(place.path()).ok(), "{name}");
    }
}

#[test]
fn a_stored_sync_mark_is_missing_valid_or_unreadable() {
    let directory = directory();
    let reader = Reader::open(directory.path()).unwrap();
    let lock_file = directory.path().join(LOCK);
    assert_eq!(reader.sync_mark().unwrap(), StoredSyncMark::NoLockFile);
    fs::write(&lock_file, "").unwrap();
    assert_eq!(reader.sync_mark().unwrap(), StoredSyncMark::Missing);
    let head = bus_of(directory.path(), 3)[2].head();
    let bytes = fs::metadata(directory.path().join(LOG)).unwrap().len();
    assert_eq!(reader.sync_mark().unwrap(), StoredSyncMark::Valid { head, bytes });
    let valid = fs::read_to_string(&lock_file).unwrap();
    let cases = [
        (vec![0; 256], "it holds only zero bytes"),
        (vec![0xFF; 256], "it is not text"),
        (valid.as_bytes()[..100].to_vec(), "it is not a JSON object"),
        (valid.replace("\"events\":3", "\"events\":2").into_bytes(), "its seal does not match its content"),
    ];
    for (content, reason) in cases {
        fs::write(&lock_file, content).unwrap();
        assert_eq!(reader.sync_mark().unwrap(), StoredSyncMark::Unreadable { reason });
    }
    // The next append writes a valid one.
    bus_of(directory.path(), 1);
    assert!(matches!(reader.sync_mark().unwrap(), StoredSyncMark::Valid { .. }));
}

/// The umask belongs to the process, so the test runs in processes of its own.
#[test]
fn directories_and_files_have_their_modes_whatever_the_umask() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let Some(place) = child_argument() else {
        for umask in ["0000", "0022", "0177", "0277", "0377", "0777"] {
            let place = directory();
            // Both existed before, so their modes are the operator's choice.
            let existing = place.path().join("existing");
            fs::create_dir(&existing).unwrap();
            fs::set_permissions(&existing, fs::Permissions::from_mode(0o750)).unwrap();
            fs::write(existing.join(LOG), "").unwrap();
            fs::set_permissions(existing.join(LOG), fs::Permissions::from_mode(0o640)).unwrap();
            let test = "read::directories_and_files_have_their_modes_whatever_the_umask";
            let argument = place.path().to_str().unwrap();
            run_again(&["env"], &format!("umask {umask}"), test, argument).expect("a shell");
            assert_eq!((mode(&existing), mode(&existing.join(LOG))), (0o750, 0o640));
        }
        return;
    };
    let place = Path::new(&place);
    let path = place.join("several/levels/bus");
    let bus = Bus::open(&path).unwrap();
    bus.append(draft(1)).unwrap();
    bus.write_snapshot(0.0, None, &[("number", 1)]).unwrap();
    drop(bus);
    add_to_log(&path, b"{\"torn");
    let bus = Bus::open(&path).unwrap();
    let quarantine = &bus.quarantined()[0].file;
    for directory in ["several", "several/levels", "several/levels/bus"] {
        assert_eq!(mode(&place.join(directory)), 0o700, "{directory}");
    }
    for file in [LOG, LOCK, SNAPSHOT, quarantine] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    Bus::open(place.join("existing")).unwrap().append(draft(1)).unwrap();
}

#[test]
fn a_byte_order_mark_is_named_as_such() {
    let directory = directory();
    bus_of(directory.path(), 2);
    let log = directory.path().join(LOG);
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, format!("\u{FEFF}{text}")).unwrap();
    let reason = verify(directory.path()).integrity.reason();
    assert!(
        reason.starts_with("not JSON at event 1: it starts with a UTF-8 byte order mark (BOM)"),
        "{reason}"
    );
    let refusal = Reader::open(directory.path()).unwrap().event(1).unwrap_err().to_string();
    assert!(refusal.contains("(BOM)"), "{refusal}");
}
