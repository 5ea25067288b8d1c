//! `zero-bus replay`: what was recorded is what the engine does.

use std::fs;
use std::path::Path;

use crate::support::{bus, conformance, engine, root};
use zero_bus::{Bus, Draft, Json, Reader, Value};

/// A copy of a recorded session's bus, with some payloads changed on the way: a sound chain of another run.
fn copied(session: &str, directory: &Path, change: impl Fn(u64, String) -> String) {
    let events =
        Reader::open(conformance().join("sessions").join(session).join("one-run/runtime-bus")).unwrap();
    let drafts = events.events(1).unwrap().map(|event| {
        let event = event.unwrap();
        Draft {
            payload: Json::parse(&change(event.index, event.payload.to_string())).unwrap(),
            event_type: event.event_type,
            as_of: event.as_of,
            trace_id: event.trace_id,
        }
    });
    Bus::open(directory.join("bus")).unwrap().append_batch(drafts.collect()).unwrap();
}

#[test]
fn every_recorded_session_comes_out_as_it_is_on_record() {
    let mut events = 0;
    for session in fs::read_dir(conformance().join("sessions")).unwrap() {
        for run in ["one-run", "restarts"] {
            let here = session.as_ref().unwrap().path().join(run);
            let found = Value::parse(&bus(&here, &["replay", "runtime-bus", "--json"]).fine()).unwrap();
            assert_eq!(found.get("difference"), Some(&Value::Null), "{}", here.display());
            let replayed = found.get("events").unwrap().as_u64().unwrap();
            assert_eq!(replayed, Reader::open(here.join("runtime-bus")).unwrap().head().unwrap().index);
            events += replayed;
        }
    }
    assert_eq!(events, 1790);
}

#[test]
fn the_first_difference_is_shown_field_by_field() {
    let changes: [(u64, &str, &str, &[&str]); 4] = [
        // The decision in the cycle record, and by itself.
        (
            1,
            r#""reason":"allowed""#,
            r#""reason":"because""#,
            &["runtime.cycle", "payload.act.decision.reason", "because"],
        ),
        (7, r#""confidence":"#, r#""confidence":0.1,"old":"#, &["decision.record", "payload.old", "null"]),
        (13, r#""quantity":"#, r#""quantity":7.5,"old":"#, &["record", "payload.quantity", "7.5"]),
        (15, r#""fills":"#, r#""fills":99,"old":"#, &["runtime.health", "payload.fills", "99"]),
    ];
    for (index, from, to, said) in changes {
        let place = tempfile::tempdir().unwrap();
        copied("first-steps", place.path(), |found, payload| {
            let changed = if found == index { payload.replacen(from, to, 1) } else { payload.clone() };
            assert!(found != index || changed != payload, "{payload}");
            changed
        });
        bus(place.path(), &["verify", "bus"]).fine();
        let ended = bus(place.path(), &["replay", "bus"]);
        assert_eq!((ended.code, ended.err.as_str()), (1, ""), "{}", ended.out);
        let first = format!("cycle {}: evt-{index:012} ", index.div_ceil(5));
        assert!(ended.out.starts_with(&first), "{}", ended.out);
        for text in said {
            assert!(ended.out.contains(text), "{text}: {}", ended.out);
        }
        let ended = bus(place.path(), &["replay", "bus", "--json"]);
        assert_eq!(ended.code, 1);
        let found = Value::parse(&ended.out).unwrap();
        assert_eq!(found.get("events").unwrap().as_u64(), Some(index - 1));
    }
}

/// A chain that is sound, and tells another story: events missing, moved, doubled, renamed, or given another time or trace.
#[test]
fn every_event_of_a_cycle_is_held_against_it() {
    let session = conformance().join("sessions/first-steps/one-run/runtime-bus");
    let drafts: Vec<Draft> = Reader::open(session)
        .unwrap()
        .events(1)
        .unwrap()
        .take(15)
        .map(|event| {
            let event = event.unwrap();
            Draft {
                payload: event.payload,
                event_type: event.event_type,
                as_of: event.as_of,
                trace_id: event.trace_id,
            }
        })
        .collect();
    let replay = |drafts: Vec<Draft>| {
        let place = tempfile::tempdir().unwrap();
        Bus::open(place.path().join("bus")).unwrap().append_batch(drafts).unwrap();
        let ended = bus(place.path(), &["replay", "bus"]);
        assert_eq!(ended.err, "");
        (ended.code, ended.out)
    };
    assert_eq!(replay(drafts.clone()).0, 0);
    for at in 6..10 {
        let kind = &drafts[at].event_type;
        let mut missing = drafts.clone();
        missing.remove(at);
        assert_eq!(replay(missing).0, 1, "without {kind}");
        let mut renamed = drafts.clone();
        renamed[at].event_type = "another.kind".into();
        assert_eq!(replay(renamed).0, 1, "{kind} renamed");
        let mut moved = drafts.clone();
        moved[at].trace_id = Some("runtime-cycle-3".into());
        assert_eq!(replay(moved).0, 1, "{kind} of another trace");
        let mut later = drafts.clone();
        later[at].as_of += 1.0;
        assert_eq!(replay(later).0, 1, "{kind} at another time");
        let mut doubled = drafts.clone();
        doubled.insert(at, drafts[at].clone());
        assert_eq!(replay(doubled).0, 1, "{kind} twice");
    }
    let mut swapped = drafts.clone();
    swapped.swap(8, 9);
    assert_eq!(replay(swapped).0, 1);
    let cycles_alone = drafts.iter().filter(|draft| draft.event_type == "runtime.cycle").cloned().collect();
    let (code, said) = replay(cycles_alone);
    assert_eq!(code, 1);
    assert!(said.contains("missing before it: decision.record"), "{said}");
    // What a crash leaves of the last one is said, and no difference.
    let (code, said) = replay(drafts[..12].to_vec());
    assert_eq!(code, 0);
    assert!(said.contains("12 events: each comes out as it is on record; the last cycle lacks 3"), "{said}");
    // Others' events are nobody's difference.
    let mut beside = drafts.clone();
    beside.insert(7, Draft { event_type: "note.added".into(), ..drafts[6].clone() });
    beside.push(Draft { trace_id: None, ..drafts[7].clone() });
    assert_eq!(replay(beside).0, 0);
}

/// What closed a position then must not open one where nothing is held.
#[test]
fn a_flatten_stays_one_under_other_limits() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let order = r#"{"symbol":"ETH","side":"buy","quantity":0.3,"price":3100,"confidence":0.9}"#;
    fs::write(here.join("s.json"), format!(r#"{{"orders":[{order}]}}"#)).unwrap();
    let run =
        || engine(here, &["--scenario", "s.json", "--once", "--journal", "d.jsonl", "--runtime-bus", "bus"]);
    run().fine();
    bus(here, &["command", "bus", "flatten"]).fine();
    run().fine();
    bus(here, &["replay", "bus"]).fine();
    fs::write(here.join("limits.json"), r#"{"max_notional_usd":700}"#).unwrap();
    let found = bus(here, &["replay", "bus", "--json", "--limits", "limits.json"]).fine();
    let what_if = Value::parse(&found).unwrap().get("what_if").unwrap().clone();
    assert_eq!(what_if.get("fills").and_then(Value::as_u64), Some(0), "{found}");
    assert!(bus(here, &["stats", "bus"]).fine().contains("now 0.00"));
}

/// Whoever may append may give any number of commands.
#[test]
fn many_commands_that_nobody_answers_cost_little() {
    let place = tempfile::tempdir().unwrap();
    copied("first-steps", place.path(), |_, payload| payload);
    let command = r#"{"event_type":"operator.command","payload":{"action":"pause"},"as_of":1}"#;
    let lines = format!("{command}\n").repeat(20_000);
    let mut append = std::process::Command::new(crate::support::BUS);
    let output =
        crate::support::feed(append.args(["append", "bus", "--batch"]).current_dir(place.path()), &lines);
    assert!(output.status.success());
    bus(place.path(), &["replay", "bus"]).fine();
}

#[test]
fn other_limits_tell_what_would_have_been() {
    let session = conformance().join("sessions/many/one-run");
    let place = tempfile::tempdir().unwrap();
    let limits = |text: &str| {
        fs::write(place.path().join("limits.json"), text).unwrap();
        place.path().join("limits.json").to_str().unwrap().to_owned()
    };
    let ask = |text: &str| {
        let said = bus(&session, &["replay", "runtime-bus", "--json", "--limits", &limits(text)]).fine();
        Value::parse(&said).unwrap()
    };
    // As recorded: nothing is different.
    let same = ask("{}");
    assert_eq!(same.get("recorded"), same.get("what_if"));
    // The run itself, made with those limits, is what was foretold.
    let mut scenario = fs::read_to_string(session.join("../scenario.json")).unwrap();
    let Some(Value::Object(found)) = Value::parse(&scenario).unwrap().get("limits").cloned() else {
        panic!("limits")
    };
    let old = Json::try_from(&Value::Object(found)).unwrap().to_string();
    let new = r#"{"max_notional_usd":5000,"max_position_notional_usd":5000,"min_confidence":0.1}"#;
    scenario = Json::parse(&scenario).unwrap().to_string();
    assert!(scenario.contains(&old), "{scenario}");
    fs::write(place.path().join("other.json"), scenario.replace(&old, new)).unwrap();
    engine(
        place.path(),
        &["--scenario", "other.json", "--max-cycles", "130", "--interval", "0", "--runtime-bus", "other"],
    )
    .fine();
    let foretold = ask(new);
    let made = bus(place.path(), &["replay", "other", "--json", "--limits", &limits("{}")]).fine();
    assert_eq!(foretold.get("what_if"), Value::parse(&made).unwrap().get("recorded"));
    assert_ne!(foretold.get("what_if"), foretold.get("recorded"));
    // For people: a table.
    let said = bus(&session, &["replay", "runtime-bus", "--limits", &limits(new)]).fine();
    let width = said.lines().next().unwrap().len();
    assert!(said.lines().all(|line| line.len() == width), "{said}");
    assert!(said.contains("order notional exceeds limit"), "{said}");

    for (text, problem) in [
        ("[]", "limits.json: "),
        (r#"{"max_notional":1}"#, "limits.json: max_notional: is not a limit"),
        (r#"{"max_notional_usd":-1}"#, "max_notional_usd: must be above 0"),
        (r#"{"min_confidence":2}"#, "min_confidence: must be at most 1"),
        ("", "limits.json: "),
    ] {
        let said = bus(&session, &["replay", "runtime-bus", "--limits", &limits(text)]).refused();
        assert!(said.contains(problem), "{said}");
    }
}

#[test]
fn what_cannot_be_gone_through_is_said() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    assert!(bus(here, &["replay", "missing"]).refused().contains("missing: there is no such directory"));
    fs::create_dir(here.join("empty")).unwrap();
    assert!(bus(here, &["replay", "empty"]).fine().contains("there is no cycle on record"));
    let scenario = root().join("examples/paper-trading/scenario.json");
    let run = |more: &[&str]| {
        let scenario = ["--scenario", scenario.to_str().unwrap(), "--interval", "0", "--max-cycles", "2"];
        engine(here, &[&scenario, more].concat())
    };
    run(&["--journal", "d.jsonl"]).fine();
    run(&["--journal", "d.jsonl", "--runtime-bus", "bus"]).fine_with("the bus begins with cycle 2");
    let said = bus(here, &["replay", "bus"]).refused();
    assert!(
        said.contains("bus/events.jsonl: evt-000000000001 is cycle 2, and the cycle before it"),
        "{said}"
    );
    let place = tempfile::tempdir().unwrap();
    copied("first-steps", place.path(), |_, payload| payload);
    let log = place.path().join("bus/events.jsonl");
    let spoilt = fs::read_to_string(&log).unwrap().replacen("\"fills\":2", "\"fills\":3", 1);
    fs::write(&log, spoilt).unwrap();
    let damaged = bus(place.path(), &["replay", "bus"]);
    assert_eq!(damaged.code, 1);
    assert!(damaged.err.contains("checksum mismatch at event "), "{}", damaged.err);
}
