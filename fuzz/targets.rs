//! Properties that hold for any input. libFuzzer runs them from `fuzz_targets`; `cargo test` runs
//! them over the corpus and seeded mutations of it (`crates/zero-bus/tests/it/fuzz.rs`).

use std::sync::LazyLock;

use zero_bus::canonical::is_canonical;
use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft, Error, Event, Json, LOCK, LOG, QuarantineReason, Reader, SNAPSHOT, Value};

/// Canonical JSON: the parser, the tree and the check agree on every text, and the canonical form
/// parses to itself.
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
    assert_eq!(Json::try_from(&value.expect("both use one parser")).as_ref(), Ok(&json));
    assert_eq!(is_canonical(text), json.as_str() == text);
    assert!(is_canonical(json.as_str()) && json.as_str().is_ascii());
    assert_eq!(Json::parse(json.as_str()).as_ref(), Ok(&json));
    assert_eq!(Value::parse(json.as_str()).map(|value| Json::try_from(&value)), Ok(Ok(json)));
}

/// The lines of a log: every way of reading returns the same events, in any spelling, and a draft
/// that can be appended is read back unchanged.
pub(crate) fn line(data: &[u8]) {
    let content = read(data);
    // A space before each line changes its spelling, and so forces the slow path, but changes
    // nothing else.
    let mut respelled = Vec::with_capacity(data.len() + 8);
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        respelled.push(b' ');
        respelled.extend_from_slice(line);
    }
    let slow_path = read(&respelled);
    assert_eq!(content.events, slow_path.events);
    assert_eq!(content.ok, slow_path.ok);
    if let Some(draft) = draft(data) {
        let disk = SimDisk::new();
        let bus = Bus::open_in(disk.storage()).expect("an empty disk");
        if let Ok(event) = bus.append(draft.clone()) {
            let content = read(&disk.content(LOG).expect("the append wrote it"));
            assert!(content.ok);
            assert_eq!((content.events.len(), content.events.first()), (1, Some(&event)));
            assert_eq!((event.payload, event.as_of), (draft.payload, draft.as_of));
        }
    }
}

/// What every way of reading a log returns.
struct Content {
    ok: bool,
    events: Vec<Event>,
}

/// Reads a log in every way and checks that they agree.
fn read(log: &[u8]) -> Content {
    let disk = SimDisk::new();
    disk.put(LOG, log);
    let reader = Reader::open_in(disk.storage());
    let verdict = reader.verify().expect("the disk can be read");
    let head = verdict.integrity.head;
    let events: Vec<Event> = reader.events(1).expect("the disk can be read").map_while(Result::ok).collect();
    assert_eq!(events.len() as u64, head.index);
    assert_eq!(events.last().map(|event| event.checksum), head.checksum);
    for event in &events {
        assert!(is_canonical(&event.line()));
        assert_eq!(reader.event(event.index).expect("the disk can be read").as_ref(), Some(event));
    }
    let mut document = Vec::new();
    let (audited, summary) = reader.audit(&mut document, &mut |_| {}).expect("memory has room");
    assert_eq!(audited, verdict);
    assert!(summary.events >= head.index);
    assert!(is_canonical(std::str::from_utf8(&document).expect("ASCII")));
    Content { ok: verdict.ok(), events }
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

/// Events of the log that the recovery target damages.
const EVENTS: usize = 8;

/// An intact bus, as it was after each append.
struct IntactBus {
    log: Vec<u8>,
    events: Vec<Event>,
    /// The state after 0, 1, 2 ... events.
    states: Vec<State>,
}

struct State {
    log_bytes: usize,
    /// Contains the sync mark.
    lock_file: Vec<u8>,
    snapshot: Vec<u8>,
}

type Payload = std::collections::BTreeMap<&'static str, usize>;

static INTACT: LazyLock<IntactBus> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).expect("an empty disk");
    let content = |name| disk.content(name).unwrap_or_default();
    let mut states = vec![State { log_bytes: 0, lock_file: content(LOCK), snapshot: Vec::new() }];
    for number in 1..=EVENTS {
        let payload = Payload::from([("number", number)]);
        let draft = Draft::new("test.event", number as f64, &payload).expect("the payload is valid");
        let event = bus.append(draft).expect("the disk has room");
        bus.write_snapshot(0.0, Some(&event.id()), &payload).expect("the disk has room");
        states.push(State {
            log_bytes: content(LOG).len(),
            lock_file: content(LOCK),
            snapshot: content(SNAPSHOT),
        });
    }
    let events = bus.reader().events(1).expect("the disk can be read");
    let events = events.map(|event| event.expect("the log is intact")).collect();
    IntactBus { log: content(LOG), events, states }
});

/// Recovery: a damaged log is recovered, or refused for a true reason. No synced event is lost
/// silently, no event is made up, and no crash is reported as damage.
///
/// The first byte is the number of events that the sync mark covers; beyond [`EVENTS`] there is no
/// sync mark. The second byte is the number of events that the snapshot covers; without events, or
/// beyond [`EVENTS`], there is no snapshot. The other bytes are the edits of [`damaged`].
pub(crate) fn recovery(data: &[u8]) {
    let [mark_events, snapshot_events, edits @ ..] = data else { return };
    let (mark_events, snapshot_events) = (usize::from(*mark_events), usize::from(*snapshot_events));
    let log = damaged(INTACT.log.clone(), edits);
    let disk = SimDisk::new();
    disk.put(LOG, &log);
    let mark = INTACT.states.get(mark_events);
    if let Some(state) = mark {
        disk.put(LOCK, &state.lock_file);
    }
    let snapshot = INTACT.states.get(snapshot_events).filter(|_| snapshot_events > 0);
    if let Some(state) = snapshot {
        disk.put(SNAPSHOT, &state.snapshot);
    }
    let synced_events = mark.map_or(0, |_| mark_events);
    let synced_bytes = mark.map_or(0, |state| state.log_bytes);
    let synced_is_intact = log.get(..synced_bytes) == Some(&INTACT.log[..synced_bytes]);

    let reader = Reader::open_in(disk.storage());
    let verdict = reader.verify().expect("the disk can be read");
    let valid: Vec<Event> = reader.events(1).expect("the disk can be read").map_while(Result::ok).collect();
    assert_eq!(valid, INTACT.events[..valid.len()], "an event was made up");
    assert!(
        !verdict.ok() || valid.len() >= synced_events.max(snapshot.map_or(0, |_| snapshot_events)),
        "events were lost silently"
    );
    match Bus::open_in(disk.storage()) {
        Ok(bus) => {
            let quarantined = bus.quarantined();
            // A quarantine is recorded as one event.
            let events = bus.head().index as usize - usize::from(!quarantined.is_empty());
            let reports_loss = quarantined.iter().any(|tail| tail.reason == QuarantineReason::Truncated);
            assert!(
                events >= synced_events || (events + 1 == synced_events && reports_loss),
                "{events} of {synced_events} synced events"
            );
            let draft = Draft::new("t", 0.0, &Payload::new()).expect("the payload is valid");
            bus.append(draft).expect("the disk has room");
            let after = bus.reader().verify().expect("the disk can be read");
            assert!(after.ok() || !synced_is_intact || mark.is_none(), "{after:?}");
        }
        Err(Error::Damaged { .. } | Error::Changed { .. }) => {
            assert!(mark.is_none() || !synced_is_intact, "a crash was reported as damage");
            assert!(!INTACT.log.starts_with(&log), "a log that was only cut was reported as damage");
        }
        Err(Error::Ambiguous { .. }) => assert!(mark.is_some()),
        Err(Error::Missing { .. }) => {
            assert!(!synced_is_intact || snapshot.is_some_and(|_| valid.len() < snapshot_events))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Applies edits. Each is an operation, an offset of two bytes, a length, and the bytes that the
/// operation takes.
fn damaged(mut log: Vec<u8>, mut edits: &[u8]) -> Vec<u8> {
    while let [operation, high, low, length, rest @ ..] = edits {
        let at = (usize::from(*high) << 8 | usize::from(*low)) % (log.len() + 1);
        let length = usize::from(*length);
        let end = (at + length).min(log.len());
        let (bytes, after_bytes) = rest.split_at(length.min(rest.len()));
        edits = match operation % 5 {
            // Cut.
            0 => {
                log.truncate(at);
                rest
            }
            // Overwrite.
            1 => {
                log.splice(at..(at + bytes.len()).min(log.len()), bytes.iter().copied());
                after_bytes
            }
            // Insert.
            2 => {
                log.splice(at..at, bytes.iter().copied());
                after_bytes
            }
            // Remove.
            3 => {
                log.drain(at..end);
                rest
            }
            // Zero.
            _ => {
                log[at..end].fill(0);
                rest
            }
        };
    }
    log
}
