//! Retiring removes events from the beginning of a log, and the rest of the log works on.

use std::time::Duration;

use zero_bus::sim::SimDisk;
use zero_bus::{
    Bus, Draft, Error, Event, FaultKind, Finding, Head, Json, LOG, RETIRED, RETIRED_TYPE, Reader, Result,
    RetireOptions, RetiredPart, SealOptions,
};

use crate::support::draft;

const EVENTS: u64 = 30;

/// Returns a disk with three segments of eight events and six events in the active file.
fn sealed_disk() -> (SimDisk, Vec<Event>) {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let events = bus.append_batch((1..=EVENTS).map(draft).collect()).unwrap();
    for up_to in [8, 16, 24] {
        bus.seal(SealOptions::default().up_to(up_to), &mut |_| {}).unwrap();
    }
    (disk, events)
}

pub(crate) fn retire(bus: &Bus, up_to: u64) -> Result<Option<RetiredPart>> {
    let options = RetireOptions::new(up_to, "anna", 1777593600.0).kept_in("/backup");
    bus.retire(&options, &mut |_| {}).map(|done| done.retired.or(done.completed))
}

/// Retires on a disk, and returns a reader.
fn retire_on(disk: &SimDisk, up_to: u64) -> (Option<RetiredPart>, Reader) {
    let part = retire(&Bus::open_in(disk.storage()).unwrap(), up_to).unwrap();
    (part, Reader::open_in(disk.storage()))
}

fn segments(disk: &SimDisk) -> usize {
    disk.names().iter().filter(|name| name.ends_with(".zst")).count()
}

#[test]
fn the_rest_of_the_log_is_as_before_and_says_where_it_starts() {
    let (disk, events) = sealed_disk();
    let before = Reader::open_in(disk.storage()).size_bytes().unwrap();
    let (part, reader) = retire_on(&disk, 20);
    let part = part.unwrap();
    assert_eq!((part.payload.first, part.payload.last, part.payload.segments), (1, 16, 2));
    assert_eq!(part.payload.checksum, events[15].checksum);
    assert_eq!(part.payload.bus, events[0].checksum);
    assert_eq!(part.event.index, EVENTS + 1);
    assert_eq!(segments(&disk), 1);

    let record = reader.event(EVENTS + 1).unwrap().unwrap();
    assert_eq!((record.event_type.as_str(), record.as_of), (RETIRED_TYPE, 1777593600.0));
    assert_eq!(record.payload, Json::of(&part.payload).unwrap());
    assert!(reader.size_bytes().unwrap() > before, "no offset has changed");
    let verdict = reader.verify().unwrap();
    assert!(verdict.ok(), "{}", verdict.integrity.reason());
    assert_eq!(verdict.integrity.head.index, EVENTS + 1);
    assert_eq!(verdict.retired.as_ref().map(|retired| retired.parts().to_vec()), Some(vec![part]));
    assert_eq!((reader.first_index().unwrap(), reader.bus_id().unwrap()), (17, Some(events[0].checksum)));
    let held: Vec<Event> = reader.events(17).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(held[..14], events[16..]);
    for index in [0, 1, 16] {
        let Err(Error::Retired { retired, path }) = reader.events(index).map(drop) else { panic!("{index}") };
        assert_eq!((retired.first_held(), retired.head()), (17, events[15].head()));
        let text = Error::Retired { retired, path }.to_string();
        assert!(
            text.ends_with(
                "the log starts at event 17; events 1 to 16 were retired by anna, and are kept in /backup"
            ),
            "{text}"
        );
    }
    assert_eq!(reader.event(17).unwrap().as_ref(), events.get(16));
    assert!(reader.contains(events[15].head()).unwrap());
    assert!(!reader.contains(Head { checksum: Some(events[0].checksum), index: 16 }).unwrap());
    assert!(matches!(reader.contains(events[3].head()), Err(Error::Retired { .. })));

    let bus = Bus::open_in(disk.storage()).unwrap();
    assert_eq!(bus.append(draft(99)).unwrap().index, EVENTS + 2);
    assert_eq!(retire(&bus, 20).unwrap(), None, "a second time there is nothing to do");
    bus.seal(SealOptions::default().up_to(u64::MAX), &mut |_| {}).unwrap();
    // Everything that is sealed can go, and the event of the first part goes with it.
    let part = retire(&bus, u64::MAX).unwrap().unwrap();
    assert_eq!((part.payload.first, part.payload.last, part.payload.segments), (17, 29, 2));
    assert_eq!(segments(&disk), 0);
    let verdict = reader.verify().unwrap();
    assert!(verdict.ok(), "{}", verdict.integrity.reason());
    assert_eq!(verdict.retired.unwrap().parts().len(), 2);
    assert_eq!(Bus::open_in(disk.storage()).unwrap().append(draft(1)).unwrap().index, EVENTS + 4);
    assert!(reader.verify().unwrap().ok());
}

#[test]
fn open_handles_and_followers_continue() {
    let (disk, _) = sealed_disk();
    let open = || Bus::open_in(disk.storage()).unwrap();
    let (appender, retirer) = (open(), open());
    let reader = appender.reader();
    let (mut behind, mut ahead) = (reader.follow(1).unwrap(), reader.follow(25).unwrap());
    let mut reading = reader.events(1).unwrap();
    assert_eq!(reading.next().unwrap().unwrap().index, 1);
    assert_eq!(ahead.next_timeout(Duration::ZERO).unwrap().unwrap().index, 25);
    retire(&retirer, 24).unwrap().unwrap();
    appender.append(draft(31)).unwrap();
    let read: Vec<u64> =
        std::iter::from_fn(|| ahead.next_timeout(Duration::ZERO).unwrap().map(|event| event.index)).collect();
    assert_eq!(read, (26..=32).collect::<Vec<_>>());
    assert!(matches!(behind.next_timeout(Duration::ZERO), Err(Error::Retired { .. })));
    let last = reading.find_map(Result::err);
    assert!(matches!(last, Some(Error::Retired { .. })), "{last:?}");
    assert!(reader.verify().unwrap().ok());
}

#[test]
fn a_record_that_does_not_match_the_chain_fails_the_verification() {
    let (disk, _) = sealed_disk();
    retire_on(&disk, 16);
    let record = disk.content(RETIRED).unwrap();
    let reader = Reader::open_in(disk.storage());
    let fault = |what: &str| match reader.verify().unwrap().integrity.finding {
        Finding::Fault(fault) => fault,
        finding => panic!("{what}: {finding:?}"),
    };
    for bit in 0..record.len() * 8 {
        let mut changed = record.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        disk.put(RETIRED, &changed);
        let fault = fault(&format!("bit {bit}"));
        assert!(matches!(fault.kind, FaultKind::Segment(..)) && fault.event == 1, "{fault}");
    }
    disk.storage().remove(RETIRED).unwrap();
    let found = fault("missing").to_string();
    assert!(found.contains("no file holds the events 1 to 16"), "{found}");

    // A record with a seal of its own, from a log that differs in who retired its events.
    let text = String::from_utf8(record.clone()).unwrap();
    let forged = reseal(&text.replace("anna", "otto"));
    disk.put(RETIRED, forged.as_bytes());
    let found = fault("forged");
    assert!(matches!(found.kind, FaultKind::Retired(_)), "{found}");
    assert_eq!(found.event, 17);
    assert!(found.to_string().contains("does not match event 31"), "{found}");
    let bus = Bus::open_in(disk.storage()).unwrap();
    assert_eq!(bus.append(draft(1)).unwrap().index, 32);
    // Such a record does not decide what is removed.
    let before = segments(&disk);
    let refused = retire(&bus, 24).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert_eq!(segments(&disk), before);

    // Another checksum of the last retired event: the first event does not link to it.
    let part = &zero_bus::Value::parse(text.trim_end()).unwrap();
    let parts = part.get("record").and_then(|record| record.get("parts")).unwrap();
    let zero_bus::Value::Array(parts) = parts else { panic!() };
    let checksum = parts[0].get("payload").and_then(|payload| payload.get("checksum")).unwrap();
    let swapped = zero_bus::Checksum::of(b"another").to_string();
    disk.put(RETIRED, reseal(&text.replace(checksum.as_str().unwrap(), &swapped)).as_bytes());
    assert_eq!(fault("unlinked").to_string(), "checksum chain break at event 17");
    disk.put(RETIRED, &record);
    assert!(reader.verify().unwrap().ok());
}

/// Gives a changed record a valid seal.
fn reseal(text: &str) -> String {
    let (record, _) = text.strip_prefix(r#"{"record":"#).unwrap().rsplit_once(r#","seal":"#).unwrap();
    format!("{{\"record\":{record},\"seal\":\"{}\"}}\n", zero_bus::Checksum::of(record.as_bytes()))
}

#[test]
fn a_missing_record_without_segments_fails_the_verification() {
    let (disk, _) = sealed_disk();
    retire_on(&disk, 24);
    assert_eq!(segments(&disk), 0);
    disk.storage().remove(RETIRED).unwrap();
    let integrity = Reader::open_in(disk.storage()).verify().unwrap().integrity;
    assert!(integrity.reason().contains("no file holds the events 1 to 24"), "{}", integrity.reason());
}

#[test]
fn damage_in_what_is_to_be_retired_is_refused_and_nothing_is_removed() {
    let (disk, _) = sealed_disk();
    let name = disk.names().into_iter().find(|name| name.ends_with(".zst")).unwrap();
    let mut content = disk.content(&name).unwrap();
    content[20] ^= 1;
    disk.put(&name, &content);
    let bus = Bus::open_in(disk.storage()).unwrap();
    assert!(matches!(retire(&bus, 24), Err(Error::Damaged { .. })));
    assert_eq!((segments(&disk), bus.head().index), (3, EVENTS));
}

#[test]
fn only_a_retirement_writes_its_event_and_only_sealed_events_are_retired() {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let forged = Draft::new(RETIRED_TYPE, 1.0, &()).map(|draft| bus.append(draft));
    assert!(matches!(forged, Ok(Err(Error::Invalid { field: "event_type", .. })) | Err(_)));
    bus.append_batch((1..=20).map(draft).collect()).unwrap();
    assert_eq!(retire(&bus, u64::MAX).unwrap(), None);
    bus.seal(SealOptions::default().up_to(10), &mut |_| {}).unwrap();
    assert_eq!(retire(&bus, 9).unwrap(), None, "no whole segment");
    let not_a_time = bus.retire(&RetireOptions::new(10, "anna", f64::NAN), &mut |_| {});
    assert!(matches!(not_a_time, Err(Error::Invalid { .. })), "{not_a_time:?}");
    assert_eq!(bus.reader().head().unwrap().index, 20);
    assert_eq!(retire(&bus, 10).unwrap().unwrap().payload.last, 10);
}

#[test]
fn a_whole_log_that_is_put_back_is_the_log_again() {
    let (disk, events) = sealed_disk();
    let mut plain = Vec::new();
    Reader::open_in(disk.storage()).unseal(&mut plain, &mut |_| {}).unwrap();
    retire_on(&disk, 16);
    let mut rest = Vec::new();
    let written = Reader::open_in(disk.storage()).unseal(&mut rest, &mut |_| {}).unwrap();
    assert_eq!(written, rest.len() as u64);
    // The whole log is longer by the event of the retirement.
    let start = events[..16].iter().map(|event| event.line().len() + 1).sum::<usize>();
    assert!(rest.starts_with(&plain[start..]));
    plain.truncate(start);
    plain.extend(&rest);
    disk.put(LOG, &plain);
    let reader = Reader::open_in(disk.storage());
    let verdict = reader.verify().unwrap();
    assert!(verdict.ok() && verdict.retired.is_none(), "{}", verdict.integrity.reason());
    assert_eq!(reader.events(1).unwrap().count() as u64, EVENTS + 1);
}

/// Retires up to 8 and up to 16, and puts the whole log back as one plain file. Returns its bytes.
fn put_back_disk() -> (SimDisk, Vec<u8>) {
    let (disk, events) = sealed_disk();
    let lines = events[..16].iter().map(|event| event.line() + "\n").collect::<String>();
    let mut plain = lines.into_bytes();
    retire_on(&disk, 8);
    retire_on(&disk, 16);
    Reader::open_in(disk.storage()).unseal(&mut plain, &mut |_| {}).unwrap();
    disk.put(LOG, &plain);
    (disk, plain)
}

fn seal(bus: &Bus, up_to: u64) -> Result<zero_bus::Sealed> {
    bus.seal(SealOptions::default().up_to(up_to), &mut |_| {})
}

#[test]
fn events_that_were_put_back_are_not_hidden_once_they_are_sealed() {
    let (disk, plain) = put_back_disk();
    let reader = Reader::open_in(disk.storage());
    for up_to in [12, 20, 29] {
        let bus = Bus::open_in(disk.storage()).unwrap();
        assert!(seal(&bus, up_to).unwrap().segments > 0);
        assert!(disk.content(RETIRED).is_none());
        let verdict = reader.verify().unwrap();
        assert!(verdict.ok() && verdict.retired.is_none(), "{up_to}: {}", verdict.integrity.reason());
        let mut unsealed = Vec::new();
        reader.unseal(&mut unsealed, &mut |_| {}).unwrap();
        assert_eq!(unsealed, plain);
    }
    // They can be retired again.
    let part = retire_on(&disk, 20).0.unwrap();
    assert_eq!((part.payload.first, part.payload.last, part.payload.earlier), (1, 20, None));
    assert!(reader.verify().unwrap().ok());
    assert_eq!(reader.first_index().unwrap(), 21);
}

#[test]
fn a_log_that_is_put_back_in_part_starts_where_its_part_of_the_record_ends() {
    let (disk, plain) = put_back_disk();
    let (whole, record) = (Reader::open_in(disk.storage()), disk.content(RETIRED).unwrap());
    let start = whole.events(1).unwrap().take(8).map(|event| event.unwrap().line().len() + 1).sum::<usize>();
    let (disk, reader) = (SimDisk::new(), |disk: &SimDisk| Reader::open_in(disk.storage()));
    disk.put(LOG, &plain[start..]);
    disk.put(RETIRED, &record);
    for up_to in [12, 20] {
        let verdict = reader(&disk).verify().unwrap();
        assert!(verdict.ok(), "{}", verdict.integrity.reason());
        assert_eq!(reader(&disk).first_index().unwrap(), 9);
        seal(&Bus::open_in(disk.storage()).unwrap(), up_to).unwrap();
    }
    assert!(reader(&disk).verify().unwrap().ok());
    assert_eq!(reader(&disk).retired().unwrap().unwrap().parts().len(), 1);
}

#[test]
fn a_seal_refuses_a_record_of_another_history_or_one_that_was_changed() {
    let (disk, plain) = put_back_disk();
    let record = disk.content(RETIRED).unwrap();
    let other = SimDisk::new();
    Bus::open_in(other.storage()).unwrap().append_batch((2..=30).map(draft).collect()).unwrap();
    let mut changed = record.clone();
    changed[40] ^= 1;
    // The log ends before the retired events do.
    let short = plain.split_inclusive(|byte| *byte == b'\n').take(10).flatten().copied().collect();
    let other_log = other.content(LOG).unwrap();
    for (log, record, problem) in [
        (&other_log, &record, "it records retired events of another history"),
        (&short, &record, "it records retired events of another history"),
        (&plain, &changed, "the log holds every event from 1 on"),
    ] {
        let disk = SimDisk::new();
        disk.put(LOG, log);
        disk.put(RETIRED, record);
        let refused = seal(&Bus::open_in(disk.storage()).unwrap(), 5).unwrap_err().to_string();
        assert!(refused.contains(RETIRED) && refused.contains(problem), "{refused}");
        assert!(refused.ends_with("Move that file elsewhere, then seal again"), "{refused}");
        assert_eq!((disk.content(LOG).as_ref(), disk.content(RETIRED).as_ref()), (Some(log), Some(record)));
        disk.storage().remove(RETIRED).unwrap();
        assert_eq!(seal(&Bus::open_in(disk.storage()).unwrap(), 5).unwrap().last, 5);
    }
}

#[test]
fn a_retirement_that_was_begun_is_dropped_if_its_events_were_put_back() {
    for is_sealed in [false, true] {
        let (disk, _) = put_back_disk();
        // As if the second retirement had been interrupted before it renamed its record.
        disk.put("segments/retiring.json", &disk.content(RETIRED).unwrap());
        disk.storage().remove(RETIRED).unwrap();
        let bus = Bus::open_in(disk.storage()).unwrap();
        if is_sealed {
            seal(&bus, 20).unwrap();
        }
        assert_eq!(retire(&bus, 4).unwrap(), None);
        seal(&bus, 29).unwrap();
        assert!(disk.names().iter().all(|name| !name.ends_with(".json")), "{:?}", disk.names());
        let reader = bus.reader();
        assert!(reader.verify().unwrap().ok());
        assert_eq!(reader.events(1).unwrap().count() as u64, EVENTS + 2);
    }
}

/// Builds the lost record of a disk again, and writes it.
fn rebuild(disk: &SimDisk) -> Option<usize> {
    let found = Reader::open_in(disk.storage()).lost_record(&mut |_| {}).unwrap()?;
    found.write().unwrap();
    Some(found.retired().parts().len())
}

#[test]
fn a_lost_record_is_written_again_from_the_events_of_the_chain() {
    // With segments after the retired events, and without any.
    for ups in [vec![8], vec![8, 16], vec![8, 16, 24]] {
        let (disk, _) = sealed_disk();
        ups.iter().for_each(|up_to| drop(retire_on(&disk, *up_to)));
        let record = disk.content(RETIRED).unwrap();
        assert_eq!(rebuild(&disk), None, "nothing is lost");
        let reader = Reader::open_in(disk.storage());
        for change in ["removed", "changed", "no directory"] {
            disk.storage().remove(RETIRED).unwrap();
            match change {
                "changed" => disk.put(RETIRED, &record[1..]),
                "no directory" if segments(&disk) == 0 => disk.storage().remove("segments/lock").unwrap(),
                _ => {}
            }
            let integrity = reader.verify().unwrap().integrity;
            assert!(!integrity.ok(), "{change}");
            if change != "no directory" {
                assert!(integrity.reason().contains("run `zero-bus repair`"), "{}", integrity.reason());
            }
            assert_eq!(rebuild(&disk), Some(ups.len()), "{change}");
            assert_eq!(disk.content(RETIRED).as_ref(), Some(&record), "{change}");
            let verdict = reader.verify().unwrap();
            assert!(verdict.ok(), "{}", verdict.integrity.reason());
        }
        assert!(retire(&Bus::open_in(disk.storage()).unwrap(), 24).unwrap().is_some() || ups.len() == 3);
        assert!(reader.verify().unwrap().ok());
    }
}

#[test]
fn a_record_is_written_again_without_the_parts_whose_events_were_retired() {
    let (disk, _) = sealed_disk();
    retire_on(&disk, 16);
    let bus = Bus::open_in(disk.storage()).unwrap();
    bus.append_batch((31..=40).map(draft).collect()).unwrap();
    seal(&bus, 35).unwrap();
    // The event of the first part, 31, goes with the second one.
    retire_on(&disk, 35);
    disk.storage().remove(RETIRED).unwrap();
    assert_eq!(rebuild(&disk), Some(1));
    let reader = bus.reader();
    for more in 0..2 {
        let retired = reader.verify().unwrap().retired.unwrap();
        assert_eq!((retired.first_held(), retired.parts().len()), (36 + 4 * more, 1 + more as usize));
        assert_eq!(retired.parts()[0].payload.first, 17);
        assert!(reader.verify().unwrap().ok());
        seal(&bus, 39).unwrap();
        retire(&bus, 39).unwrap();
    }
    assert_eq!(bus.append(draft(50)).unwrap().index, 44);
}

#[test]
fn a_record_is_not_invented_for_a_log_whose_beginning_is_missing() {
    let (disk, _) = sealed_disk();
    retire_on(&disk, 8);
    disk.storage().remove(RETIRED).unwrap();
    // A further segment is missing, of which no event says that it was retired.
    let first = disk.names().into_iter().find(|name| name.ends_with(".zst")).unwrap();
    let segment = disk.content(&first).unwrap();
    disk.storage().remove(&first).unwrap();
    assert_eq!(rebuild(&disk), None);
    let reason = Reader::open_in(disk.storage()).verify().unwrap().integrity.reason();
    assert!(reason.contains("no file holds the events 1 to 16"), "{reason}");
    disk.put(&first, &segment);
    // The event that tells what was retired was changed.
    let log = disk.content(LOG).unwrap();
    let changed = String::from_utf8(log.clone()).unwrap().replace("anna", "otto");
    disk.put(LOG, changed.as_bytes());
    assert_eq!(rebuild(&disk), None);
    disk.put(LOG, &log);
    assert_eq!(rebuild(&disk), Some(1));
}

#[test]
fn since_last_and_snapshots_work_at_and_before_the_start_of_the_log() {
    let (disk, events) = sealed_disk();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let reader = bus.reader();
    for (remembered, is_full) in [(16, false), (3, true), (20, false)] {
        reader.remember_verified(events[remembered as usize - 1].head()).unwrap();
        retire(&bus, 16).unwrap();
        let since = reader.verify_since_last(&mut |_| {}).unwrap();
        assert!(since.verdict.ok(), "{}", since.verdict.integrity.reason());
        assert_eq!(since.full_because.is_some(), is_full, "{:?}", since.full_because);
        assert!(since.verdict.retired.is_some());
    }
    // Without its record, the log does not start where it was verified.
    let record = disk.content(RETIRED).unwrap();
    disk.storage().remove(RETIRED).unwrap();
    let since = reader.verify_since_last(&mut |_| {}).unwrap();
    assert!(!since.verdict.ok() && since.full_because.is_some(), "{:?}", since.full_because);
    disk.put(RETIRED, &record);
    // A snapshot of before the start, at it, and after it.
    let snapshot = |index: u64| {
        let checksum = events[index as usize - 1].checksum;
        let text = format!(
            r#"{{"as_of":1.0,"event_count":{index},"last_checksum":"{checksum}","payload":{{}},"schema_version":"zero.runtime.snapshot.v1","source_event_id":null}}"#
        );
        disk.put("state-snapshot.json", format!("{text}\n").as_bytes());
        let whole = reader.verify().unwrap().snapshot_integrity;
        assert_eq!(reader.verify_snapshot().unwrap(), whole);
        assert!(whole.consistent && whole.present);
        whole.reason
    };
    assert_eq!(snapshot(3), "snapshot references retired events");
    assert_eq!((snapshot(16), snapshot(17)), ("ok".to_owned(), "ok".to_owned()));
}

#[test]
fn a_backup_keeps_what_the_log_no_longer_has() {
    let (disk, _) = sealed_disk();
    let backup = |target: &SimDisk| Reader::open_in(disk.storage()).backup(&target.storage(), &mut |_| {});
    let (old, short) = (SimDisk::new(), SimDisk::new());
    backup(&old).unwrap();
    // A backup that ends before the retired events do.
    let few = SimDisk::new();
    Bus::open_in(few.storage()).unwrap().append_batch((1..=4).map(draft).collect()).unwrap();
    Reader::open_in(few.storage()).backup(&short.storage(), &mut |_| {}).unwrap();
    retire_on(&disk, 16);
    let made = backup(&old).unwrap();
    assert_eq!(made.events, EVENTS + 1);
    let whole = Reader::open_in(old.storage());
    assert!(whole.verify().unwrap().ok());
    assert_eq!(whole.events(1).unwrap().count() as u64, EVENTS + 1);

    let behind = backup(&short).unwrap_err().to_string();
    assert!(behind.contains("ends at event 4, but the log starts at event 17"), "{behind}");

    // A new one starts where the log starts, and grows with it.
    let new = SimDisk::new();
    for number in 0..2 {
        assert_eq!(backup(&new).unwrap().events, EVENTS + 1 + number);
        let copy = Reader::open_in(new.storage());
        assert!(copy.verify().unwrap().ok(), "{}", copy.verify().unwrap().integrity.reason());
        assert_eq!(copy.first_index().unwrap(), 17);
        Bus::open_in(disk.storage()).unwrap().append(draft(50 + number)).unwrap();
    }
    // A copy that started earlier goes on after more is retired.
    retire_on(&disk, 24);
    assert_eq!(backup(&new).unwrap().events, EVENTS + 4);
    assert_eq!(Reader::open_in(new.storage()).first_index().unwrap(), 17);
    assert_eq!(backup(&old).unwrap().events, EVENTS + 4);
    // Another history before the start of the log.
    let fork = SimDisk::new();
    Bus::open_in(fork.storage()).unwrap().append_batch((2..=40).map(draft).collect()).unwrap();
    let other = SimDisk::new();
    Reader::open_in(fork.storage()).backup(&other.storage(), &mut |_| {}).unwrap();
    assert!(backup(&other).is_err());
}

/// A disk with a segment for each of 24 large events, more than a reader keeps open.
fn disk_of_large_events() -> SimDisk {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let large = |number: u64| {
        let payload = std::collections::BTreeMap::from([("text", number.to_string().repeat(60_000))]);
        Draft::new("large", 1777593600.0, &payload).unwrap()
    };
    bus.append_batch((10..=36).map(large).collect()).unwrap();
    for up_to in 1..=24 {
        seal(&bus, up_to).unwrap();
    }
    disk
}

/// A disk whose files have other numbers than those of a bus on another disk. The numbers identify
/// files.
fn target_disk() -> SimDisk {
    let disk = SimDisk::new();
    (0..500).for_each(|number| disk.put(&format!("another-{number}"), b""));
    disk
}

#[test]
fn a_new_backup_begins_again_if_events_are_retired_before_they_are_copied() {
    let (template, mut restarts, mut call) = (disk_of_large_events(), 0, 0);
    loop {
        call += 1;
        let disk = template.survivors(1, 1).remove(0);
        let (target, bus) = (target_disk(), Bus::open_in(disk.storage()).unwrap());
        let mut calls = 0;
        let made = bus.reader().backup(&target.storage(), &mut |_| {
            calls += 1;
            if calls == call {
                retire(&bus, 23).unwrap().unwrap();
            }
        });
        let events = made.unwrap_or_else(|error| panic!("call {call}: {error}")).events;
        let copy = Reader::open_in(target.storage());
        let verdict = copy.verify().unwrap();
        assert!(verdict.ok(), "call {call}: {}", verdict.integrity.reason());
        assert!([(1, 27), (24, 28)].contains(&(copy.first_index().unwrap(), events)), "call {call}");
        if calls < call {
            break;
        }
        restarts += u32::from(copy.first_index().unwrap() == 24);
    }
    assert!(restarts >= 2 && call > 6, "{restarts} of {call}");
}

#[test]
fn a_backup_that_was_interrupted_before_its_events_were_retired_begins_again() {
    let disk = disk_of_large_events();
    let (mut call, mut discarded) = (0, 0);
    loop {
        call += 1;
        let target = target_disk();
        target.crash_at(target.calls() + call);
        let made = Reader::open_in(disk.storage()).backup(&target.storage(), &mut |_| {});
        if !target.crashed() {
            assert_eq!(made.unwrap().events, 27);
            break;
        }
        let later = disk.survivors(call, 1).remove(0);
        retire(&Bus::open_in(later.storage()).unwrap(), 23).unwrap().unwrap();
        for target in target.survivors(call, 2) {
            let made = Reader::open_in(later.storage()).backup(&target.storage(), &mut |_| {});
            assert_eq!(made.unwrap_or_else(|error| panic!("call {call}: {error}")).events, 28);
            let copy = Reader::open_in(target.storage());
            assert!(copy.verify().unwrap().ok(), "call {call}");
            discarded += u32::from(copy.first_index().unwrap() == 24);
        }
    }
    assert!(discarded > 5, "{discarded} of {call}");
}

#[test]
fn the_audit_document_counts_what_the_log_has() {
    let (disk, _) = sealed_disk();
    let (_, reader) = retire_on(&disk, 16);
    let mut document = Vec::new();
    let (verdict, summary) = reader.audit(&mut document, &mut |_| {}).unwrap();
    assert!(verdict.ok());
    assert_eq!(summary.events, EVENTS + 1 - 16);
    let text = String::from_utf8(document).unwrap();
    assert!(zero_bus::canonical::is_canonical(&text));
    assert!(text.contains(r#""retired":{"first_held":17,"#), "{text}");
}
