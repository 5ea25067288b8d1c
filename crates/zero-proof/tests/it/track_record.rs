//! Track records: no event can be left out, and no field withheld.

use proptest::prelude::*;
use zero_bus::Event;
use zero_proof::Error;
use zero_proof::disclosure::Disclosure;
use zero_proof::track_record::{TrackRecordBuilder, check};

use crate::support::{Leaves, checkpoint_of, events, leaves_of, policy, secret};

const NAMES: [&str; 3] = ["/event_type", "/payload/allowed", "/payload/notional_usd"];

fn record(events: &[Event], leaves: &Leaves, names: &[&str]) -> Result<String, Error> {
    let first = events[0].index;
    let mut builder = TrackRecordBuilder::new(first, names)?;
    for event in events {
        builder.push(event, &secret())?;
    }
    let (size, last) = (leaves.0.len() as u64, first - 1 + events.len() as u64);
    builder.finish(&leaves.covering(0, first - 1), &leaves.covering(last, size), &checkpoint_of(leaves))
}

#[test]
fn the_aggregates_are_computed_over_all_events() {
    let events = events(10);
    let leaves = leaves_of(&events);
    let record = record(&events, &leaves, &NAMES).unwrap();
    let policy = policy();
    let proven = check(record.as_bytes(), &policy).unwrap();
    assert_eq!((proven.first, proven.last, proven.size), (1, 10, 10));
    assert_eq!(proven.accepted.cosigners.len(), 1);
    assert_eq!(proven.aggregates.events, 10);
    let decisions = &proven.aggregates.event_types["decision.record"];
    assert_eq!((decisions.events, decisions.fields["/payload/allowed"].trues), (5, 2));
    let notional = &decisions.fields["/payload/notional_usd"];
    assert_eq!(
        (notional.numbers, notional.sum, notional.min, notional.max),
        (5, Some(32.5), Some(2.5), Some(10.5))
    );
    let cycles = &proven.aggregates.event_types["cycle.started"];
    assert_eq!((cycles.events, cycles.fields.len()), (5, 1));
    // Digests hide the rest.
    let events = record.lines().skip(3).take(10);
    let disclosed =
        events.flat_map(|line| line.split(' ').skip(1)).map(|text| Disclosure::parse(text).unwrap());
    assert!(disclosed.into_iter().all(|field| NAMES.contains(&field.name())));
}

#[test]
fn a_range_is_proven_at_any_place_of_the_log() {
    let events = events(21);
    let leaves = leaves_of(&events);
    let policy = policy();
    for first in 0..21 {
        for last in first..21 {
            let record = record(&events[first..=last], &leaves, &NAMES).unwrap();
            let proven = check(record.as_bytes(), &policy).unwrap();
            assert_eq!((proven.first, proven.last, proven.size), (first as u64 + 1, last as u64 + 1, 21));
            assert_eq!(proven.aggregates.events, (last - first + 1) as u64);
        }
    }
}

#[test]
fn an_event_cannot_be_left_out_repeated_or_swapped() {
    let events = events(10);
    let leaves = leaves_of(&events);
    let record = record(&events, &leaves, &NAMES).unwrap();
    let policy = policy();
    let lines: Vec<&str> = record.split_inclusive('\n').collect();
    let swapped = |one: usize, two: usize| {
        let mut lines = lines.clone();
        lines.swap(one, two);
        check(lines.concat().as_bytes(), &policy).unwrap_err()
    };
    let mismatch = Error::RootMismatch { first: 1, last: 10, size: 10 };
    assert_eq!(swapped(3, 5), mismatch);
    assert_eq!(swapped(4, 6), mismatch);
    let mut without = lines.clone();
    without.remove(5);
    // The line after the events is then read as an event.
    assert!(matches!(check(without.concat().as_bytes(), &policy), Err(Error::Malformed { .. })));
    without[1] = "events 1 9\n";
    let left_out = Err(Error::Invalid { what: "range of leaves", problem: String::new() });
    let result = check(without.concat().as_bytes(), &policy);
    assert_eq!(std::mem::discriminant(&result), std::mem::discriminant(&left_out));
    let mut repeated = lines.clone();
    repeated.insert(5, lines[5]);
    repeated[1] = "events 1 11\n";
    assert_eq!(
        check(repeated.concat().as_bytes(), &policy),
        Err(Error::RootMismatch { first: 1, last: 11, size: 10 })
    );
}

#[test]
fn a_field_cannot_be_withheld_for_one_event_only() {
    let events = events(10);
    let leaves = leaves_of(&events);
    let all = record(&events, &leaves, &NAMES).unwrap();
    // For event 4, the record without the notional value of any event.
    let less = record(&events, &leaves, &NAMES[..2]).unwrap();
    let mut lines: Vec<&str> = all.split_inclusive('\n').collect();
    lines[6] = less.split_inclusive('\n').nth(6).unwrap();
    let withheld = Error::Withheld {
        event_index: 4,
        event_type: "decision.record".to_owned(),
        name: "/payload/notional_usd".to_owned(),
    };
    assert_eq!(check(lines.concat().as_bytes(), &policy()), Err(withheld));
    // A field that only some events of a type have cannot be revealed either.
    let optional = ["/payload/cycle"];
    assert!(record(&events, &leaves, &optional).is_ok());
    let disk = zero_bus::sim::SimDisk::new();
    let bus = zero_bus::Bus::open_in(disk.storage()).unwrap();
    let append = |payload: &str| {
        let payload = zero_bus::Json::parse(payload).unwrap();
        bus.append(zero_bus::Draft { event_type: "t".into(), as_of: 0.0, payload, trace_id: None }).unwrap()
    };
    let events = [append(r#"{"a":1,"b":2}"#), append(r#"{"b":2}"#)];
    let result = record(&events, &leaves_of(&events), &["/payload/a"]);
    assert!(matches!(result, Err(Error::Withheld { event_index: 2, .. })), "{result:?}");
    // Unless the record discloses the whole event, which proves that the field is absent.
    let everything = ["/event_type", "/as_of", "/checksum", "/payload/a", "/payload/b"];
    let record = record(&events, &leaves_of(&events), &everything).unwrap();
    let policy = policy();
    let proven = check(record.as_bytes(), &policy).unwrap();
    assert_eq!(proven.aggregates.event_types["t"].fields["/payload/a"].events, 1);
}

#[test]
fn the_builder_refuses_what_it_cannot_prove() {
    let events = events(4);
    let leaves = leaves_of(&events);
    let invalid = |result: Result<String, Error>| matches!(result, Err(Error::Invalid { .. }));
    assert!(invalid(record(&[events[0].clone(), events[2].clone()], &leaves, &NAMES)));
    assert!(invalid(record(&events, &leaves, &["/checksum"])));
    assert!(invalid(record(&events, &leaves, &["/payload"])));
    assert!(invalid(record(&events, &leaves, &["/as_of", "/as_of"])));
    assert!(TrackRecordBuilder::new(0, &NAMES).is_err());
    let empty = TrackRecordBuilder::new(3, &NAMES).unwrap();
    assert!(invalid(empty.finish(&leaves.covering(0, 2), &leaves.covering(2, 4), &checkpoint_of(&leaves))));
    let other = Leaves::numbered(4);
    assert_eq!(record(&events, &other, &NAMES), Err(Error::RootMismatch { first: 1, last: 4, size: 4 }));
}

#[test]
fn other_records_are_refused_with_the_line() {
    let events = events(4);
    let leaves = leaves_of(&events);
    let record = record(&events[1..3], &leaves, &NAMES).unwrap();
    let policy = policy();
    let lines: Vec<&str> = record.split_inclusive('\n').collect();
    assert!(lines[3].starts_with("before ") && lines[6].starts_with("after ") && lines[7] == "\n");
    let disclosed = lines[4].trim().split(' ').nth(1).unwrap();
    for (number, line, problem) in [
        (1, String::new(), "must be `zero.runtime.track-record.v1`"),
        (2, "events 0 2\n".to_owned(), "must be `events FIRST LAST`"),
        (2, "events 3 2\n".to_owned(), "must be `events FIRST LAST`"),
        (2, "events 2 18446744073709551615\n".to_owned(), "must be `events FIRST LAST`"),
        (2, "events 2  3\n".to_owned(), "must be `events FIRST LAST`"),
        (3, "reveal []\n".to_owned(), "must be `reveal `"),
        (3, "reveal [\"/event_type\", \"/as_of\"]\n".to_owned(), "must be `reveal `"),
        (3, "reveal [\"/event_type\",1]\n".to_owned(), "must be `reveal `"),
        (3, "reveal [\"/event_type\",\"/event_type\"]\n".to_owned(), "is named twice"),
        (3, "reveal [\"/event_type\",\"/payload\"]\n".to_owned(), "field name"),
        (3, "reveal [\"/event_type\",\"/payload/allowed\"]\n".to_owned(), "is not among the names"),
        (4, "before AAAA\n".to_owned(), "must be `before ` and a hash"),
        (4, lines[3].replace("before", "after"), "must be `before ` and a hash"),
        (5, lines[4].replace(' ', "  "), "disclosure"),
        (5, format!("{} {disclosed}\n", lines[4].trim()), "is disclosed twice"),
        (5, format!("-{}", &lines[4][1..]), "the digests must be"),
        (5, "\n".to_owned(), "the digests must be"),
        (5, "-\n".to_owned(), "must disclose /event_type"),
        (7, "after\n".to_owned(), "must be `after ` and a hash"),
        (8, lines[6].repeat(64), "there are too many hashes"),
    ] {
        let mut changed: Vec<&str> = lines.clone();
        changed[number - 1] = &line;
        let error = check(changed.concat().as_bytes(), &policy).unwrap_err().to_string();
        assert!(error.starts_with("track record, line ") && error.contains(problem), "{line:?}: {error}");
    }
    let error = check(lines[..5].concat().as_bytes(), &policy).unwrap_err().to_string();
    assert_eq!(error, "track record, line 6: an event is missing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_byte_proves_anything_else(at: prop::sample::Index, byte: u8) {
        let events = events(6);
        let leaves = leaves_of(&events);
        let record = record(&events[1..4], &leaves, &NAMES).unwrap().into_bytes();
        let policy = policy();
        let expected = check(&record, &policy).unwrap();
        // The part before the signatures.
        let end = record.windows(2).rposition(|two| two == b"\n\n").unwrap();
        let mut changed = record.clone();
        let at = at.index(end);
        changed[at] = byte;
        if let Ok(proven) = check(&changed, &policy) {
            prop_assert_eq!(byte, record[at]);
            prop_assert_eq!(proven, expected);
        }
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in "(before |after |- |\n|[A-Za-z0-9+/]{43}=|\\PC){0,40}", bytes: Vec<u8>) {
        let policy = policy();
        prop_assert!(check(&bytes, &policy).is_err());
        let header = "zero.runtime.track-record.v1\nevents 1 2\nreveal [\"/event_type\"]\n";
        let record = [header, &text].concat();
        prop_assert!(check(record.as_bytes(), &policy).is_err());
    }
}

#[test]
fn a_huge_range_costs_nothing_before_its_events_are_there() {
    let text = "zero.runtime.track-record.v1\nevents 9000000000000000000 9223372036854775807\nreveal [\"/event_type\"]\n";
    assert!(check(text.as_bytes(), &policy()).is_err());
}
