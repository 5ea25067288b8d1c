//! What must hold for any bytes whatever. Run by libFuzzer from `fuzz_targets`, and by `cargo test` over the corpus and
//! seeded changes of it (`crates/zero-bus/tests/fuzz.rs`).

use std::sync::LazyLock;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft, Error, Event, Json, LOCK, LOG, Reader, SNAPSHOT, Value, canonical::is_canonical};

/// Canonical JSON: what is read is written in one form, which is read as itself; every reader of text agrees.
pub(crate) fn canonical(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value = Value::parse(text);
    let json = match Json::parse(text) {
        Ok(json) => json,
        Err(error) => {
            assert!(error.offset().is_none_or(|offset| offset <= text.len()), "{error}");
            assert!(!is_canonical(text));
            return;
        }
    };
    assert_eq!(Json::try_from(&value.expect("one parser")).as_ref(), Ok(&json));
    assert_eq!(is_canonical(text), json.as_str() == text);
    assert!(is_canonical(json.as_str()) && json.as_str().is_ascii());
    assert_eq!(Json::parse(json.as_str()).as_ref(), Ok(&json));
    assert_eq!(Value::parse(json.as_str()).map(|value| Json::try_from(&value)), Ok(Ok(json)));
}

/// The lines of a log: every reader agrees on what is there, in whatever spelling; and what can be an event is found as
/// it was appended.
pub(crate) fn line(data: &[u8]) {
    let found = read(data);
    // Blank space before a line changes its spelling, and so the way it is read, and nothing else.
    let mut spelled = Vec::with_capacity(data.len() + 8);
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        spelled.push(b' ');
        spelled.extend_from_slice(line);
    }
    let other = read(&spelled);
    assert_eq!(found.events, other.events);
    assert_eq!(found.ok, other.ok);
    if let Some(draft) = draft(data) {
        let disk = SimDisk::new();
        let bus = Bus::open_in(disk.storage()).expect("an empty disk");
        if let Ok(event) = bus.append(draft.clone()) {
            let found = read(&disk.content(LOG).expect("it was written"));
            assert!(found.ok);
            assert_eq!((found.events.len(), found.events.first()), (1, Some(&event)));
            assert_eq!((event.payload, event.as_of), (draft.payload, draft.as_of));
        }
    }
}

/// What every way of reading finds.
struct Found {
    ok: bool,
    events: Vec<Event>,
}

fn read(log: &[u8]) -> Found {
    let disk = SimDisk::new();
    disk.put(LOG, log);
    let reader = Reader::open_in(disk.storage());
    let verdict = reader.verify().expect("the disk can be read");
    let head = verdict.integrity.head;
    let events: Vec<Event> = reader.events(1).expect("the same").map_while(Result::ok).collect();
    assert_eq!(events.len() as u64, head.index);
    assert_eq!(events.last().map(|event| event.checksum), head.checksum);
    for event in &events {
        assert!(is_canonical(&event.line()));
        assert_eq!(reader.event(event.index).expect("it is there").as_ref(), Some(event));
    }
    let mut document = Vec::new();
    let (audited, summary) = reader.audit(&mut document, &mut |_| {}).expect("memory has room");
    assert_eq!(audited, verdict);
    assert!(summary.events >= head.index);
    assert!(is_canonical(std::str::from_utf8(&document).expect("ASCII")));
    Found { ok: verdict.ok(), events }
}

/// The draft that a JSON object describes.
fn draft(data: &[u8]) -> Option<Draft> {
    let value = Value::parse(std::str::from_utf8(data).ok()?).ok()?;
    Some(Draft {
        event_type: value.get("event_type")?.as_str()?.to_owned(),
        as_of: value.get("as_of")?.as_f64()?,
        payload: Json::try_from(value.get("payload")?).ok()?,
        trace_id: value.get("trace_id").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Events of the log that recovery is tried on.
const EVENTS: usize = 8;

/// A sound log, and what its companion and snapshot held after each event.
struct Sound {
    log: Vec<u8>,
    /// Bytes of the log, the note, the snapshot: after 0, 1, 2 ... events.
    after: Vec<(usize, Vec<u8>, Vec<u8>)>,
    events: Vec<Event>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).expect("an empty disk");
    let content = |name| disk.content(name).unwrap_or_default();
    let mut after = vec![(0, content(LOCK), Vec::new())];
    for number in 1..=EVENTS {
        let draft =
            Draft::new("test.event", number as f64, &[("number", number)].into_iter().collect::<Map>());
        let event = bus.append(draft.expect("a number")).expect("there is room");
        bus.write_snapshot(0.0, Some(&event.id()), &Map::from([("number", number)])).expect("there is room");
        after.push((content(LOG).len(), content(LOCK), content(SNAPSHOT)));
    }
    let events = bus.reader().events(1).expect("it is there").map(|event| event.expect("it is sound"));
    Sound { log: content(LOG), after, events: events.collect() }
});

type Map = std::collections::BTreeMap<&'static str, usize>;

/// Recovery: a log in which anything was changed is recovered, or refused for a reason that is true. Nothing that was
/// synced is lost in silence, nothing is made up, and no crash is called damage.
///
/// The first byte says how much the note knows of (none beyond [`EVENTS`]), the second the same of the snapshot; then
/// come the changes.
pub(crate) fn recovery(data: &[u8]) {
    let [note, snapshot, changes @ ..] = data else { return };
    let (note, snapshot) = (usize::from(*note), usize::from(*snapshot));
    let log = changed(SOUND.log.clone(), changes);
    let disk = SimDisk::new();
    disk.put(LOG, &log);
    let synced = SOUND.after.get(note);
    if let Some((_, note, _)) = synced {
        disk.put(LOCK, note);
    }
    let remembered = SOUND.after.get(snapshot).filter(|_| snapshot > 0);
    if let Some((_, _, snapshot)) = remembered {
        disk.put(SNAPSHOT, snapshot);
    }
    let known = synced.map_or(0, |_| note);
    let bytes = synced.map_or(0, |(bytes, ..)| *bytes);
    let synced_is_there = log.get(..bytes) == Some(&SOUND.log[..bytes]);

    let reader = Reader::open_in(disk.storage());
    let verdict = reader.verify().expect("the disk can be read");
    let there: Vec<Event> = reader.events(1).expect("the same").map_while(Result::ok).collect();
    assert_eq!(there, SOUND.events[..there.len()], "nothing is made up");
    assert!(
        !verdict.ok() || there.len() >= known.max(remembered.map_or(0, |_| snapshot)),
        "nothing is lost in silence"
    );
    match Bus::open_in(disk.storage()) {
        Ok(bus) => {
            let events = bus.head().index as usize;
            let told = bus.quarantined().iter().any(|set_aside| set_aside.was_synced);
            assert!(events >= known || (events + 1 == known && told), "{events} of {known}");
            bus.append(Draft::new("t", 0.0, &Map::new()).expect("it is empty")).expect("there is room");
            let after = bus.reader().verify().expect("the disk can be read");
            assert!(after.ok() || !synced_is_there || synced.is_none(), "{after:?}");
        }
        Err(Error::Damaged { .. } | Error::Changed { .. }) => {
            assert!(synced.is_none() || !synced_is_there, "a crash is called damage");
            assert!(!SOUND.log.starts_with(&log), "a log that was only cut is called damaged");
        }
        Err(Error::Ambiguous { .. }) => assert!(synced.is_some()),
        Err(Error::Missing { .. }) => {
            assert!(!synced_is_there || remembered.is_some_and(|_| there.len() < snapshot))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Changes, each an operation, a place, a length and as many bytes as it takes.
fn changed(mut log: Vec<u8>, mut changes: &[u8]) -> Vec<u8> {
    while let [operation, high, low, length, rest @ ..] = changes {
        let at = (usize::from(*high) << 8 | usize::from(*low)) % (log.len() + 1);
        let length = usize::from(*length);
        let end = (at + length).min(log.len());
        let (bytes, others) = rest.split_at(length.min(rest.len()));
        changes = match operation % 5 {
            0 => {
                log.truncate(at);
                rest
            }
            1 => {
                log.splice(at..(at + bytes.len()).min(log.len()), bytes.iter().copied());
                others
            }
            2 => {
                log.splice(at..at, bytes.iter().copied());
                others
            }
            3 => {
                log.drain(at..end);
                rest
            }
            _ => {
                log[at..end].fill(0);
                rest
            }
        };
    }
    log
}
