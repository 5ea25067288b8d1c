//! A log that is long enough for several threads is judged as one thread judges it, whatever is wrong with it.

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

/// Some six megabytes: lines of two kilobytes, and one that is longer than a stretch.
fn long_log(path: &Path) {
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

fn judged(path: &Path, threads: usize) -> Verdict {
    Reader::open(path).unwrap().verify_with(NonZeroUsize::new(threads).unwrap(), &mut |_| {}).unwrap()
}

type Found = (Vec<Event>, Result<(), String>);

/// What reading event by event finds of a kind, and what it ends with.
fn read(path: &Path, from: u64, wanted: &str) -> Found {
    let mut found = Vec::new();
    for event in Reader::open(path).unwrap().events(from).unwrap() {
        match event {
            Ok(event) if event.event_type == wanted => found.push(event),
            Ok(_) => {}
            Err(error) => return (found, Err(error.to_string())),
        }
    }
    (found, Ok(()))
}

fn selected(path: &Path, from: u64, wanted: &str) -> Found {
    let mut found = Vec::new();
    let ended = Reader::open(path).unwrap().select(
        from,
        |kind, trace| kind == wanted && trace.is_some(),
        |event| {
            found.push(event);
            Ok::<(), Error>(())
        },
    );
    (found, ended.map(drop).map_err(|error| error.to_string()))
}

/// Nobody waits for the turn of one who is gone, wherever it went.
#[test]
fn who_panics_or_refuses_in_the_middle_ends_it_for_all() {
    let place = crate::support::directory();
    long_log(place.path());
    let reader = Reader::open(place.path()).unwrap();
    for last in [1, 700, 1500, 1999] {
        let mut taken = 0;
        let refused: Result<_, Box<dyn std::error::Error + Send + Sync>> = reader.select(
            1,
            |_, _| true,
            |event| {
                taken = event.index;
                if event.index == last { Err("enough".into()) } else { Ok(()) }
            },
        );
        assert_eq!(refused.unwrap_err().to_string(), "enough");
        assert_eq!(taken, last);

        // While a thread gathers, and while it is its turn.
        let gathering = || {
            let looked_at = AtomicU64::new(0);
            let wanted = |_: &str, _: Option<&str>| {
                assert_ne!(looked_at.fetch_add(1, SeqCst), last, "as it should");
                true
            };
            reader.select(1, wanted, |_| Ok::<(), Error>(()))
        };
        let merging = || {
            let each = |event: Event| {
                assert_ne!(event.index, last, "as it should");
                Ok::<(), Error>(())
            };
            reader.select(1, |_, _| true, each)
        };
        for panic in [
            std::panic::catch_unwind(AssertUnwindSafe(gathering)).unwrap_err(),
            std::panic::catch_unwind(AssertUnwindSafe(merging)).unwrap_err(),
        ] {
            assert!(panic.downcast::<String>().unwrap().contains("as it should"));
        }
    }
}

#[test]
fn several_threads_see_what_one_sees() {
    let place = crate::support::directory();
    long_log(place.path());
    let log = place.path().join("events.jsonl");
    let sound = fs::read(&log).unwrap();
    assert!(sound.len() > 6 << 20);
    let verdict = judged(place.path(), 1);
    assert!(verdict.ok() && verdict.integrity.head.index == 2000);
    let line = |number: usize| {
        let mut breaks = sound.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        if number == 0 { 0 } else { breaks.nth(number - 1).unwrap() }
    };
    // One line each: changed, removed, doubled, respelled, cut off, without its break, behind blank ones; early, late, and the long one.
    for number in [0, 1, 600, 1100, 1499, 1500, 1999] {
        let (begin, end) = (line(number), line(number + 1));
        let mut broken = vec![sound.clone(); 7];
        broken[0][begin + 700] ^= 1;
        drop(broken[1].drain(begin..end));
        drop(broken[2].splice(begin..begin, sound[begin..end].iter().copied()));
        drop(broken[3].splice(begin..begin, *b" \n "));
        broken[4].truncate(begin + 100);
        broken[5].remove(end - 1);
        drop(broken[6].splice(begin..begin, *b"\n \n"));
        for (kind, content) in broken.into_iter().enumerate() {
            fs::write(&log, &content).unwrap();
            let one = judged(place.path(), 1);
            assert_eq!(
                one.ok(),
                [3, 6].contains(&kind) || (kind == 5 && number == 1999),
                "{kind} at {number}"
            );
            for threads in [2, 3, 8] {
                assert_eq!(judged(place.path(), threads), one, "{kind} at {number}, {threads} threads");
            }
            let mut document = Vec::new();
            let (audited, _) = Reader::open(place.path()).unwrap().audit(&mut document, &mut |_| {}).unwrap();
            assert_eq!(audited, one);
            // Whatever is an event, in canonical form.
            let content = String::from_utf8(content).unwrap();
            let whole = |line: &&str| line.starts_with('{') && line.ends_with('}') && !line.contains("}{");
            let events: Vec<_> = content.split('\n').map(str::trim).filter(whole).collect();
            let begin = format!(r#"{{"events":[{}],"integrity":"#, events.join(","));
            assert!(document.starts_with(begin.as_bytes()), "{kind} at {number}");
            for from in [1, 650, 1600] {
                for wanted in ["rare", "common"] {
                    let (found, expected) =
                        (selected(place.path(), from, wanted), read(place.path(), from, wanted));
                    assert!(found == expected, "{wanted} from {from}, {kind} at {number}");
                }
            }
        }
    }
}

/// However lines and stretches lie to each other, each byte is read about once: by who judges its stretch, and by who looks
/// for the beginning of the next line.
#[test]
fn long_lines_and_blank_ends_are_not_read_again_and_again() {
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
        let verdict = reader.verify_with(NonZeroUsize::new(threads).unwrap(), &mut |_| {}).unwrap();
        assert!(verdict.ok() && verdict.integrity.head.index == 2);
        let read = storage.watched.bytes_read.load(SeqCst);
        assert!(read < 3 * text.len() as u64, "{read} bytes of {} on {threads} threads", text.len());
    }
}

/// The line of an event with a payload spelled in any way, and sealed as if that were right.
fn sealed(head: Head, event_type: &str, payload: &str, trace: &str) -> (String, Head) {
    let index = head.index + 1;
    let previous = head.checksum.map_or("null".to_owned(), |checksum| format!("\"{checksum}\""));
    let (before, behind) = (
        r#"{"as_of":1777593600.5,"#,
        format!(
            r#""event_id":"{}","event_index":{index},"event_type":{event_type},"payload":{payload},"previous_checksum":{previous},"schema_version":"zero.runtime.event.v1"{trace}}}"#,
            event_id(index)
        ),
    );
    let checksum = Checksum::of(format!("{before}{behind}").as_bytes());
    let line = format!(r#"{before}"checksum":"{checksum}",{behind}"#);
    (line, Head { index, checksum: Some(checksum) })
}

/// A line may be as long as it may be, and no longer, however right it is otherwise and whoever judges it.
#[test]
fn a_line_is_no_longer_than_it_may_be() {
    let (first, head) = sealed(Head::default(), r#""short""#, "{}", "");
    let of =
        |length: usize| sealed(head, r#""long""#, &format!(r#"{{"text":"{}"}}"#, "x".repeat(length)), "");
    let longest = MAX_LINE_BYTES - of(0).0.len();
    for (length, events) in [(longest, 3), (longest + 1, 1)] {
        let (second, head) = of(length);
        let (third, _) = sealed(head, r#""short""#, "{}", "");
        let log = format!("{first}\n{second}\n{third}\n");
        let disk = SimDisk::new();
        disk.put(LOG, log.as_bytes());
        for threads in [1, 2] {
            let reader = Reader::open_in(disk.storage());
            let verdict = reader.verify_with(NonZeroUsize::new(threads).unwrap(), &mut |_| {}).unwrap();
            assert_eq!((verdict.ok(), verdict.integrity.head.index), (events == 3, events));
        }
    }
}

/// How far each line by itself is the event behind the one before, and what the first one that is not is called.
fn one_by_one(log: &[u8]) -> (Head, Option<FaultKind>) {
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
    /// What is only compared with what must come next is judged as what is read.
    #[test]
    fn lines_are_judged_together_as_one_by_one(
        edits in prop::collection::vec(
            (0..12_usize, any::<prop::sample::Index>(), r#"|[0-9ae"\\:,{}\[\].E+\- ]|\u{e9}|00|\\u00e9|null"#),
            0..3,
        ),
        odd in (0..12_usize, 0..5_usize),
        spoilt in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut head = Head::default();
        let mut log = String::new();
        for nth in 0..12 {
            let mut payload = format!(
                r#"{{"a":{},"b":{{"c":"x{nth}","d":[]}},"e":[-{}.5,1e-05,true],"f":"y\\n"}}"#,
                nth * 7,
                nth * 100,
            );
            for (line, at, with) in &edits {
                let at = at.index(payload.len());
                if *line == nth && payload.is_char_boundary(at) && payload.is_char_boundary(at + 1) {
                    payload.replace_range(at..at + 1, with);
                }
            }
            let (event_type, trace) = match odd {
                (line, 1) if line == nth => (r#""two words""#, r#","trace_id":"""#),
                (line, 2) if line == nth => (r#""esc\\taped""#, r#","trace_id":"\\u00e9""#),
                (line, 3) if line == nth => (r#""""#, ""),
                (line, 4) if line == nth => (r#""known""#, r#","trace_id":7"#),
                _ => (r#""known""#, r#","trace_id":"t""#),
            };
            let (line, next) = sealed(head, event_type, &payload, trace);
            log += &line;
            log.push('\n');
            head = next;
        }
        let mut log = log.into_bytes();
        if let Some((at, byte)) = spoilt {
            let at = at.index(log.len());
            log[at] = byte;
        }
        let disk = SimDisk::new();
        disk.put(LOG, &log);
        let verdict = Reader::open_in(disk.storage()).verify(&mut |_| {}).unwrap().integrity;
        let (head, fault) = one_by_one(&log);
        prop_assert_eq!(verdict.head, head, "{}", String::from_utf8_lossy(&log));
        let said = match verdict.finding {
            Finding::Fault(fault) | Finding::Ambiguous(fault) => Some(fault.kind),
            _ => None,
        };
        // A line break more or less makes another line, or an unfinished one.
        if spoilt.is_none() {
            prop_assert_eq!(said, fault);
        }
    }
}
