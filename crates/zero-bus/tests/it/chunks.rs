//! Several threads verify a long log as one thread does, whatever is wrong with it.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use proptest::prelude::*;
use zero_bus::sim::SimDisk;
use zero_bus::{
    Bus, Checksum, Draft, Error, Event, FaultKind, Finding, Head, LOG, MAX_LINE_BYTES, Reader, Verdict,
    event_id,
};

/// Writes 6 MiB: lines of 2 KiB, and one that is longer than a chunk.
fn write_long_log(path: &Path) {
    let bus = Bus::open(path).unwrap();
    let draft = |number: usize| {
        let length = if number == 1500 { 3 << 20 } else { 1800 };
        let payload = BTreeMap::from([("text", "x".repeat(length)), ("number", number.to_string())]);
        let kind = if number.is_multiple_of(700) { "rare" } else { "common" };
        Draft::new(kind, 1777593600.0, &payload).unwrap().traced(format!("t{}", number % 3))
    };
    bus.append_batch((1..=2000).map(draft).collect()).unwrap();
    bus.write_snapshot(0.0, None, &BTreeMap::from([("n", 1)])).unwrap();
}

fn verify_on(path: &Path, threads: usize) -> Verdict {
    Reader::open(path).unwrap().verify_on_threads(NonZeroUsize::new(threads).unwrap(), &mut |_| {}).unwrap()
}

/// The events of one type, and the error that ended the pass.
type Selection = (Vec<Event>, Result<(), String>);

fn read_one_by_one(path: &Path, from: u64, event_type: &str) -> Selection {
    let mut events = Vec::new();
    for event in Reader::open(path).unwrap().events(from).unwrap() {
        match event {
            Ok(event) if event.event_type == event_type => events.push(event),
            Ok(_) => {}
            Err(error) => return (events, Err(error.to_string())),
        }
    }
    (events, Ok(()))
}

fn select(path: &Path, from: u64, event_type: &str) -> Selection {
    let mut events = Vec::new();
    let result = Reader::open(path).unwrap().select(
        from,
        |kind, trace| kind == event_type && trace.is_some(),
        |event| {
            events.push(event);
            Ok::<(), Error>(())
        },
    );
    (events, result.map(drop).map_err(|error| error.to_string()))
}

/// No thread waits forever for the turn of a chunk whose thread has stopped.
#[test]
fn an_error_or_a_panic_on_one_thread_stops_all_threads() {
    let place = crate::support::directory();
    write_long_log(place.path());
    let reader = Reader::open(place.path()).unwrap();
    for stop_at in [1, 700, 1500, 1999] {
        let mut last = 0;
        let result: Result<_, Box<dyn std::error::Error + Send + Sync>> = reader.select(
            1,
            |_, _| true,
            |event| {
                last = event.index;
                if event.index == stop_at { Err("stop".into()) } else { Ok(()) }
            },
        );
        assert_eq!(result.unwrap_err().to_string(), "stop");
        assert_eq!(last, stop_at);

        // A panic while a thread verifies its chunk, and one while it merges it.
        let panic_while_verifying = || {
            let visited = AtomicU64::new(0);
            let matches = |_: &str, _: Option<&str>| {
                assert_ne!(visited.fetch_add(1, SeqCst), stop_at, "as intended");
                true
            };
            reader.select(1, matches, |_| Ok::<(), Error>(()))
        };
        let panic_while_merging = || {
            let on_event = |event: Event| {
                assert_ne!(event.index, stop_at, "as intended");
                Ok::<(), Error>(())
            };
            reader.select(1, |_, _| true, on_event)
        };
        for panic in [
            std::panic::catch_unwind(AssertUnwindSafe(panic_while_verifying)).unwrap_err(),
            std::panic::catch_unwind(AssertUnwindSafe(panic_while_merging)).unwrap_err(),
        ] {
            assert!(panic.downcast::<String>().unwrap().contains("as intended"));
        }
    }
}

#[test]
fn several_threads_return_the_verdict_of_one_thread() {
    let place = crate::support::directory();
    write_long_log(place.path());
    let log = place.path().join("events.jsonl");
    let sound = fs::read(&log).unwrap();
    assert!(sound.len() > 6 << 20);
    let lock_file = place.path().join("bus.lock");
    let sync_mark = fs::read(&lock_file).unwrap();
    let verdict = verify_on(place.path(), 1);
    assert!(verdict.ok() && verdict.integrity.head.index == 2000);
    let line = |number: usize| {
        let mut breaks = sound.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        if number == 0 { 0 } else { breaks.nth(number - 1).unwrap() }
    };
    // One line of each log is changed, removed, doubled, not canonical, cut off, without its line
    // break, or after blank lines. It is an early line, a late one, or the long one.
    let numbers: &[usize] =
        if crate::support::is_soak() { &[0, 1, 600, 1100, 1499, 1500, 1999] } else { &[0, 1499, 1999] };
    for &number in numbers {
        let (start, end) = (line(number), line(number + 1));
        let mut edited = vec![sound.clone(); 7];
        edited[0][start + 700] ^= 1;
        drop(edited[1].drain(start..end));
        drop(edited[2].splice(start..start, sound[start..end].iter().copied()));
        drop(edited[3].splice(start..start, *b" \n "));
        edited[4].truncate(start + 100);
        edited[5].remove(end - 1);
        drop(edited[6].splice(start..start, *b"\n \n"));
        for (edit, content) in edited.into_iter().enumerate() {
            fs::write(&log, &content).unwrap();
            if [3, 6].contains(&edit) {
                // Another spelling is valid, but not the one that the sync mark describes.
                fs::write(&lock_file, &sync_mark).unwrap();
                let integrity = verify_on(place.path(), 8).integrity;
                let Finding::Fault(fault) = integrity.finding else { panic!("edit {edit} of line {number}") };
                assert_eq!(fault.kind, FaultKind::NotWhereSynced { crlf: false });
                fs::remove_file(&lock_file).unwrap();
            } else {
                fs::write(&lock_file, &sync_mark).unwrap();
            }
            let expected = verify_on(place.path(), 1);
            let is_valid = [3, 6].contains(&edit) || (edit == 5 && number == 1999);
            assert_eq!(expected.ok(), is_valid, "edit {edit} of line {number}");
            for threads in [2, 3, 8] {
                let verdict = verify_on(place.path(), threads);
                assert_eq!(verdict, expected, "edit {edit} of line {number}, {threads} threads");
            }
            let mut document = Vec::new();
            let (audited, _) = Reader::open(place.path()).unwrap().audit(&mut document, &mut |_| {}).unwrap();
            assert_eq!(audited, expected);
            // The document holds every line that is an event, in canonical form.
            let content = String::from_utf8(content).unwrap();
            let is_event = |line: &&str| line.starts_with('{') && line.ends_with('}') && !line.contains("}{");
            let events: Vec<_> = content.split('\n').map(str::trim).filter(is_event).collect();
            let start = format!(r#"{{"events":[{}],"integrity":"#, events.join(","));
            assert!(document.starts_with(start.as_bytes()), "edit {edit} of line {number}");
            let mut selections = vec![(1, "rare"), (1600, "common")];
            if crate::support::is_soak() {
                selections.extend([(1, "common"), (650, "rare"), (650, "common"), (1600, "rare")]);
            }
            for (from, event_type) in selections {
                let selected = select(place.path(), from, event_type);
                let expected = read_one_by_one(place.path(), from, event_type);
                assert!(selected == expected, "{event_type} from {from}, edit {edit} of line {number}");
            }
        }
    }
}

/// The thread of a chunk reads its bytes; a thread that looks for the first line of its own chunk
/// may read them a second time.
#[test]
fn long_lines_and_blank_tails_are_read_at_most_about_twice() {
    let place = crate::support::directory();
    let storage = crate::support::WatchedStorage::new(place.path());
    let bus = Bus::open_in(storage.clone()).unwrap();
    let long = Draft::new("long", 0.0, &BTreeMap::from([("text", "x".repeat(12 << 20))])).unwrap();
    bus.append_batch(vec![long.clone(), long]).unwrap();
    drop(bus);
    let log = place.path().join(LOG);
    let mut text = fs::read(&log).unwrap();
    text.resize(text.len() + (20 << 20), b'\n');
    fs::write(&log, &text).unwrap();
    for threads in [1, 2, 5, usize::MAX] {
        storage.watched.bytes_read.store(0, SeqCst);
        let reader = Reader::open_in(storage.clone());
        let verdict = reader.verify_on_threads(NonZeroUsize::new(threads).unwrap(), &mut |_| {}).unwrap();
        assert!(verdict.ok() && verdict.integrity.head.index == 2);
        let read = storage.watched.bytes_read.load(SeqCst);
        assert!(read < 3 * text.len() as u64, "{read} bytes of {} on {threads} threads", text.len());
    }
}

/// Returns the line of an event whose members have any form, with the checksum of exactly that
/// form.
fn line_with_checksum(head: Head, event_type: &str, payload: &str, trace: &str) -> (String, Head) {
    let index = head.index + 1;
    let previous = head.checksum.map_or("null".to_owned(), |checksum| format!("\"{checksum}\""));
    let (before, after) = (
        r#"{"as_of":1777593600.5,"#,
        format!(
            r#""event_id":"{}","event_index":{index},"event_type":{event_type},"payload":{payload},"previous_checksum":{previous},"schema_version":"zero.runtime.event.v1"{trace}}}"#,
            event_id(index)
        ),
    );
    let checksum = Checksum::of(format!("{before}{after}").as_bytes());
    let line = format!(r#"{before}"checksum":"{checksum}",{after}"#);
    (line, Head { index, checksum: Some(checksum) })
}

#[test]
fn a_line_of_the_maximum_length_is_valid_and_a_longer_one_is_not() {
    let (first, head) = line_with_checksum(Head::default(), r#""short""#, "{}", "");
    let long_line = |length: usize| {
        line_with_checksum(head, r#""long""#, &format!(r#"{{"text":"{}"}}"#, "x".repeat(length)), "")
    };
    let longest = MAX_LINE_BYTES - long_line(0).0.len();
    for (length, events) in [(longest, 3), (longest + 1, 1)] {
        let (second, head) = long_line(length);
        let (third, _) = line_with_checksum(head, r#""short""#, "{}", "");
        let log = format!("{first}\n{second}\n{third}\n");
        let disk = SimDisk::new();
        disk.put(LOG, log.as_bytes());
        for threads in [1, 2] {
            let reader = Reader::open_in(disk.storage());
            let verdict = reader.verify_on_threads(NonZeroUsize::new(threads).unwrap(), &mut |_| {}).unwrap();
            assert_eq!((verdict.ok(), verdict.integrity.head.index), (events == 3, events));
        }
    }
}

/// Reads a log with [`Event::read`]. Returns its last valid event and the first fault.
fn verify_one_by_one(log: &[u8]) -> (Head, Option<FaultKind>) {
    let mut head = Head::default();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        match Event::read(line.strip_suffix(b"\n").unwrap_or(line), head) {
            Ok(event) => head = event.head(),
            Err(fault) => return (head, Some(fault.kind)),
        }
    }
    (head, None)
}

proptest! {
    /// The fast path accepts a line only if reading it event by event accepts it too.
    #[test]
    fn verifying_a_chunk_agrees_with_reading_event_by_event(
        edits in prop::collection::vec(
            (0..12_usize, any::<prop::sample::Index>(), r#"|[0-9ae"\\:,{}\[\].E+\- ]|\u{e9}|00|\\u00e9|null"#),
            0..3,
        ),
        edge_case in (0..12_usize, 0..5_usize),
        changed_byte in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut head = Head::default();
        let mut log = String::new();
        for nth in 0..12 {
            let mut payload = format!(
                r#"{{"a":{},"b":{{"c":"x{nth}","d":[]}},"e":[-{}.5,1e-05,true],"f":"y\\n"}}"#,
                nth * 7,
                nth * 100,
            );
            for (line, at, replacement) in &edits {
                let at = at.index(payload.len());
                if *line == nth && payload.is_char_boundary(at) && payload.is_char_boundary(at + 1) {
                    payload.replace_range(at..at + 1, replacement);
                }
            }
            let (event_type, trace) = match edge_case {
                (line, 1) if line == nth => (r#""two words""#, r#","trace_id":"""#),
                (line, 2) if line == nth => (r#""esc\\taped""#, r#","trace_id":"\\u00e9""#),
                (line, 3) if line == nth => (r#""""#, ""),
                (line, 4) if line == nth => (r#""known""#, r#","trace_id":7"#),
                _ => (r#""known""#, r#","trace_id":"t""#),
            };
            let (line, next) = line_with_checksum(head, event_type, &payload, trace);
            log += &line;
            log.push('\n');
            head = next;
        }
        let mut log = log.into_bytes();
        if let Some((at, byte)) = changed_byte {
            let at = at.index(log.len());
            log[at] = byte;
        }
        let disk = SimDisk::new();
        disk.put(LOG, &log);
        let verdict = Reader::open_in(disk.storage()).verify().unwrap().integrity;
        let (head, fault) = verify_one_by_one(&log);
        prop_assert_eq!(verdict.head, head, "{}", String::from_utf8_lossy(&log));
        let found = match verdict.finding {
            Finding::Fault(fault) | Finding::Ambiguous(fault) => Some(fault.kind),
            _ => None,
        };
        // A changed byte can add or remove a line break, which makes another line or a torn tail.
        if changed_byte.is_none() {
            prop_assert_eq!(found, fault);
        }
    }
}
