//! `zero-bus replay`: the engine decides as recorded.

use std::fs;
use std::path::Path;

use crate::support::{EXAMPLE_SCENARIO, bus, bus_with_input, conformance, engine, temp_dir};
use zero_bus::{Bus, Draft, Json, Reader, Value};

/// Copies the bus of a recorded session to the bus `bus`, and changes payloads. The copy is a sound
/// chain.
fn copy_session(session: &str, dir: &Path, change: impl Fn(u64, String) -> String) {
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
    Bus::open(dir.join("bus")).unwrap().append_batch(drafts.collect()).unwrap();
}

#[test]
fn every_recorded_session_is_reproduced() {
    let mut events = 0;
    let mut trusted = Vec::new();
    for session in fs::read_dir(conformance().join("sessions")).unwrap() {
        for run in ["one-run", "restarts"] {
            let dir = session.as_ref().unwrap().path().join(run);
            let result = Value::parse(&bus(&dir, &["replay", "runtime-bus", "--json"]).success()).unwrap();
            assert_eq!(result.get("difference"), Some(&Value::Null), "{}", dir.display());
            let replayed = result.get("events").unwrap().as_u64().unwrap();
            assert_eq!(replayed, Reader::open(dir.join("runtime-bus")).unwrap().head().unwrap().index);
            events += replayed;
            let count = result.get("trusted_reduce_only").unwrap().as_u64().unwrap();
            if count > 0 {
                trusted.push((dir.parent().unwrap().file_name().unwrap().to_owned(), count));
            }
        }
    }
    assert_eq!(events, 1790);
    assert_eq!(trusted, [("many".into(), 17), ("many".into(), 17)], "runs under the legacy rule");
}

/// The order is not rejected under the rule of today's runs, so the replay names the rule it used.
#[test]
fn a_replay_names_the_legacy_rule_that_a_recorded_run_needs() {
    let session = conformance().join("sessions/many/one-run");
    let says = "under the legacy rule (--trust-reduce-only): \
                17 reduce-only orders accepted without reducing a position\n";
    let stdout = bus(&session, &["replay", "runtime-bus"]).success();
    assert!(stdout.ends_with(&format!("as recorded\nreplayed {says}")), "{stdout}");
    let temp = temp_dir();
    fs::write(temp.path().join("limits.json"), "{}").unwrap();
    let limits = temp.path().join("limits.json").to_str().unwrap().to_owned();
    let stdout = bus(&session, &["replay", "runtime-bus", "--limits", &limits]).success();
    assert!(stdout.ends_with(&format!("\nboth {says}")), "{stdout}");
    let stdout = bus(&session, &["replay", "runtime-bus", "--limits", &limits, "--json"]).success();
    assert!(stdout.contains(r#""trusted_reduce_only":17"#), "{stdout}");
}

const REDUCE_ONLY_SELL: &str =
    r#"{"symbol":"BTC","side":"sell","quantity":10,"price":64000,"confidence":0.9,"reduce_only":true}"#;

/// Runs cycles of a scenario on the bus `bus` with the journal `d.jsonl`.
fn run_orders(dir: &Path, orders: &[&str], cycles: &str, options: &[&str]) {
    fs::write(dir.join("s.json"), format!(r#"{{"orders":[{}]}}"#, orders.join(","))).unwrap();
    let arguments = [
        &["--scenario", "s.json", "--max-cycles", cycles, "--interval", "0"][..],
        &["--journal", "d.jsonl", "--runtime-bus", "bus"][..],
        options,
    ]
    .concat();
    engine(dir, &arguments).success();
}

fn reasons(dir: &Path) -> Vec<String> {
    let journal = fs::read_to_string(dir.join("d.jsonl")).unwrap();
    let reason = |line| Value::parse(line).unwrap().get("reason").unwrap().as_str().unwrap().to_owned();
    journal.lines().map(reason).collect()
}

#[test]
fn a_reduce_only_order_that_would_open_a_position_is_rejected() {
    let temp = temp_dir();
    let dir = temp.path();
    run_orders(dir, &[REDUCE_ONLY_SELL], "1", &[]);
    assert_eq!(reasons(dir), ["reduce-only order would not reduce the position"]);
    let stdout = bus(dir, &["explain", "bus", "1"]).success();
    let expected =
        "act      rejected: reduce-only order would not reduce the position (position 0, after it -10)\n";
    assert!(stdout.contains(expected), "{stdout}");
    let stdout = bus(dir, &["replay", "bus", "--json"]).success();
    assert!(stdout.contains(r#""trusted_reduce_only":0"#), "{stdout}");

    let temp = temp_dir();
    let dir = temp.path();
    run_orders(dir, &[REDUCE_ONLY_SELL], "1", &["--trust-reduce-only"]);
    assert_eq!(reasons(dir), ["reduce-only orders bypass risk-increasing friction"]);
    let stdout = bus(dir, &["explain", "bus", "1"]).success();
    let expected = "(it does not reduce: position 0, after it -10; accepted under --trust-reduce-only)\n";
    assert!(stdout.contains(expected), "{stdout}");
}

/// A bus can have decisions of both rules, as after an upgrade.
#[test]
fn a_run_that_changed_the_reduce_only_rule_is_replayed_decision_by_decision() {
    let temp = temp_dir();
    let dir = temp.path();
    let increases = REDUCE_ONLY_SELL.replace("10", "0.001");
    run_orders(dir, &[&increases], "1", &["--trust-reduce-only"]);
    run_orders(dir, &[&increases], "2", &[]);
    let bypass = "reduce-only orders bypass risk-increasing friction";
    let rejected = "reduce-only order would not reduce the position";
    assert_eq!(reasons(dir), [bypass, rejected, rejected]);
    let result = Value::parse(&bus(dir, &["replay", "bus", "--json"]).success()).unwrap();
    assert_eq!(result.get("difference"), Some(&Value::Null));
    assert_eq!(result.get("trusted_reduce_only").and_then(Value::as_u64), Some(1));
    fs::write(dir.join("limits.json"), "{}").unwrap();
    let stdout = bus(dir, &["replay", "bus", "--json", "--limits", "limits.json"]).success();
    let result = Value::parse(&stdout).unwrap();
    assert_eq!(result.get("recorded"), result.get("what_if"));
    // The operator can still close what the legacy rule opened.
    bus(dir, &["command", "bus", "flatten"]).success_with_warning("no runtime holds bus");
    run_orders(dir, &[&increases], "1", &[]);
    assert!(bus(dir, &["state", "bus"]).success().contains(r#""positions":[]"#));
    bus(dir, &["replay", "bus"]).success();
}

/// The position of the recorded run is missing under the other limits, so its exit is rejected.
#[test]
fn the_exit_of_a_rejected_buy_opens_no_position_under_other_limits() {
    let temp = temp_dir();
    let dir = temp.path();
    let buy = r#"{"symbol":"BTC","side":"buy","quantity":0.01,"price":64000,"confidence":0.9}"#;
    let exit = REDUCE_ONLY_SELL.replace("10", "0.01");
    run_orders(dir, &[buy, &exit], "2", &[]);
    fs::write(dir.join("limits.json"), r#"{"max_notional_usd":100}"#).unwrap();
    let stdout = bus(dir, &["replay", "bus", "--json", "--limits", "limits.json"]).success();
    let what_if = Value::parse(&stdout).unwrap().get("what_if").unwrap().clone();
    assert_eq!(what_if.get("fills").and_then(Value::as_u64), Some(0), "{stdout}");
    assert_eq!(what_if.get("positions"), Some(&Value::Array(Vec::new())), "{stdout}");
}

#[test]
fn the_first_difference_is_shown_field_by_field() {
    let changes: [(u64, &str, &str, &[&str]); 4] = [
        // The decision in the cycle record, and the decision record.
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
    for (index, from, to, expected) in changes {
        let temp = temp_dir();
        copy_session("first-steps", temp.path(), |event_index, payload| {
            if event_index != index {
                return payload;
            }
            let changed = payload.replacen(from, to, 1);
            assert_ne!(changed, payload);
            changed
        });
        bus(temp.path(), &["verify", "bus"]).success();
        let output = bus(temp.path(), &["replay", "bus"]);
        assert_eq!((output.code, output.stderr.as_str()), (1, ""), "{}", output.stdout);
        let first = format!("cycle {}: evt-{index:012} ", index.div_ceil(5));
        assert!(output.stdout.starts_with(&first), "{}", output.stdout);
        for text in expected {
            assert!(output.stdout.contains(text), "{text}: {}", output.stdout);
        }
        let output = bus(temp.path(), &["replay", "bus", "--json"]);
        assert_eq!(output.code, 1);
        let result = Value::parse(&output.stdout).unwrap();
        assert_eq!(result.get("events").unwrap().as_u64(), Some(index - 1));
    }
}

/// Events of a sound chain are missing, moved, repeated, renamed, or have another time or trace.
#[test]
fn every_event_of_a_cycle_is_compared() {
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
        let temp = temp_dir();
        Bus::open(temp.path().join("bus")).unwrap().append_batch(drafts).unwrap();
        let output = bus(temp.path(), &["replay", "bus"]);
        assert_eq!(output.stderr, "");
        (output.code, output.stdout)
    };
    assert_eq!(replay(drafts.clone()).0, 0);
    for at in 6..10 {
        let event_type = &drafts[at].event_type;
        let mut missing = drafts.clone();
        missing.remove(at);
        assert_eq!(replay(missing).0, 1, "{event_type} missing");
        let mut renamed = drafts.clone();
        renamed[at].event_type = "another.kind".into();
        assert_eq!(replay(renamed).0, 1, "{event_type} renamed");
        let mut moved = drafts.clone();
        moved[at].trace_id = Some("runtime-cycle-3".into());
        assert_eq!(replay(moved).0, 1, "{event_type} of another trace");
        let mut later = drafts.clone();
        later[at].as_of += 1.0;
        assert_eq!(replay(later).0, 1, "{event_type} at another time");
        let mut repeated = drafts.clone();
        repeated.insert(at, drafts[at].clone());
        assert_eq!(replay(repeated).0, 1, "{event_type} twice");
    }
    let mut swapped = drafts.clone();
    swapped.swap(8, 9);
    assert_eq!(replay(swapped).0, 1);
    let cycles_alone = drafts.iter().filter(|draft| draft.event_type == "runtime.cycle").cloned().collect();
    let (code, stdout) = replay(cycles_alone);
    assert_eq!(code, 1);
    assert!(stdout.contains("missing before it: decision.record"), "{stdout}");
    // An incomplete last cycle, as after a crash, is not a difference.
    let (code, stdout) = replay(drafts[..12].to_vec());
    assert_eq!(code, 0);
    assert!(stdout.contains("12 events: all as recorded; the last cycle lacks 3 events"), "{stdout}");
    // Events of other producers are not a difference.
    let mut foreign = drafts.clone();
    foreign.insert(7, Draft { event_type: "note.added".into(), ..drafts[6].clone() });
    foreign.push(Draft { trace_id: None, ..drafts[7].clone() });
    assert_eq!(replay(foreign).0, 0);
}

/// Under the other limits there is no position to close, so the flatten must not open one.
#[test]
fn a_flatten_opens_no_position_under_other_limits() {
    let temp = temp_dir();
    let dir = temp.path();
    let order = r#"{"symbol":"ETH","side":"buy","quantity":0.3,"price":3100,"confidence":0.9}"#;
    fs::write(dir.join("s.json"), format!(r#"{{"orders":[{order}]}}"#)).unwrap();
    let run =
        || engine(dir, &["--scenario", "s.json", "--once", "--journal", "d.jsonl", "--runtime-bus", "bus"]);
    run().success();
    bus(dir, &["command", "bus", "flatten"]).success_with_warning("no runtime holds bus");
    run().success();
    bus(dir, &["replay", "bus"]).success();
    fs::write(dir.join("limits.json"), r#"{"max_notional_usd":700}"#).unwrap();
    let stdout = bus(dir, &["replay", "bus", "--json", "--limits", "limits.json"]).success();
    let what_if = Value::parse(&stdout).unwrap().get("what_if").unwrap().clone();
    assert_eq!(what_if.get("fills").and_then(Value::as_u64), Some(0), "{stdout}");
    assert!(bus(dir, &["stats", "bus"]).success().contains("last 0.00"));
}

/// Every producer can append any number of commands.
#[test]
fn replay_is_fast_with_many_commands_that_were_not_applied() {
    let temp = temp_dir();
    copy_session("first-steps", temp.path(), |_, payload| payload);
    let command = r#"{"event_type":"operator.command","payload":{"action":"pause"},"as_of":1}"#;
    let lines = format!("{command}\n").repeat(20_000);
    bus_with_input(temp.path(), &["append", "bus", "--batch"], &lines).success();
    bus(temp.path(), &["replay", "bus"]).success();
}

#[test]
fn replay_with_other_limits_predicts_the_run() {
    let session = conformance().join("sessions/many/one-run");
    let temp = temp_dir();
    let limits = |text: &str| {
        fs::write(temp.path().join("limits.json"), text).unwrap();
        temp.path().join("limits.json").to_str().unwrap().to_owned()
    };
    let replay_with = |text: &str| {
        let stdout = bus(&session, &["replay", "runtime-bus", "--json", "--limits", &limits(text)]).success();
        Value::parse(&stdout).unwrap()
    };
    // With the recorded limits, the runs are equal.
    let same = replay_with("{}");
    assert_eq!(same.get("recorded"), same.get("what_if"));
    // A real run under the other limits has the predicted result.
    let mut scenario = fs::read_to_string(session.join("../scenario.json")).unwrap();
    let Some(Value::Object(recorded_limits)) = Value::parse(&scenario).unwrap().get("limits").cloned() else {
        panic!("limits")
    };
    let old = Json::try_from(&Value::Object(recorded_limits)).unwrap().to_string();
    let new = r#"{"max_notional_usd":5000,"max_position_notional_usd":5000,"min_confidence":0.1}"#;
    scenario = Json::parse(&scenario).unwrap().to_string();
    assert!(scenario.contains(&old), "{scenario}");
    fs::write(temp.path().join("other.json"), scenario.replace(&old, new)).unwrap();
    engine(
        temp.path(),
        &[
            &["--scenario", "other.json", "--max-cycles", "130", "--interval", "0"][..],
            &["--runtime-bus", "other", "--trust-reduce-only"][..],
        ]
        .concat(),
    )
    .success();
    let predicted = replay_with(new);
    let actual = bus(temp.path(), &["replay", "other", "--json", "--limits", &limits("{}")]).success();
    assert_eq!(predicted.get("what_if"), Value::parse(&actual).unwrap().get("recorded"));
    assert_ne!(predicted.get("what_if"), predicted.get("recorded"));
    // The text output is an aligned table, the decisions that change, and a line that names the
    // rule of both runs.
    let stdout = bus(&session, &["replay", "runtime-bus", "--limits", &limits(new)]).success();
    let (table, rest) = stdout.split_once("\n45 changed decisions:\n").unwrap();
    let width = table.lines().next().unwrap().len();
    assert!(table.lines().all(|line| line.len() == width), "{stdout}");
    let rest: Vec<&str> = rest.lines().collect();
    assert_eq!(rest[0], "  cycle 6  sell 1.3 ETH: confidence below minimum -> allowed");
    assert_eq!(rest[20], "  and 25 more; --json names up to 1000 of them");
    assert!(rest.len() == 22 && rest[21].starts_with("both under the legacy rule"), "{stdout}");
    assert!(stdout.contains("order notional exceeds limit"), "{stdout}");

    for (text, problem) in [
        ("[]", "limits.json: "),
        (r#"{"max_notional":1}"#, "limits.json: max_notional: is not a limit"),
        (r#"{"max_notional_usd":-1}"#, "max_notional_usd: must be above 0"),
        (r#"{"min_confidence":2}"#, "min_confidence: must be at most 1"),
        ("", "limits.json: "),
    ] {
        let message = bus(&session, &["replay", "runtime-bus", "--limits", &limits(text)]).failure(2);
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn replay_refuses_a_bus_that_it_cannot_replay() {
    let temp = temp_dir();
    let dir = temp.path();
    assert!(bus(dir, &["replay", "missing"]).failure(2).contains("missing: there is no such directory"));
    fs::create_dir(dir.join("empty")).unwrap();
    assert!(bus(dir, &["replay", "empty"]).success().contains("nothing to replay: no cycle is recorded"));
    let run = |more: &[&str]| {
        let scenario = ["--scenario", *EXAMPLE_SCENARIO, "--interval", "0", "--max-cycles", "2"];
        engine(dir, &[&scenario, more].concat())
    };
    run(&["--journal", "d.jsonl"]).success();
    run(&["--journal", "d.jsonl", "--runtime-bus", "bus"])
        .success_with_warning("the bus begins with cycle 2");
    let message = bus(dir, &["replay", "bus"]).failure(2);
    assert!(
        message.contains("bus/events.jsonl: evt-000000000001 is cycle 2, and the cycle before it"),
        "{message}"
    );
    let temp = temp_dir();
    copy_session("first-steps", temp.path(), |_, payload| payload);
    let log = temp.path().join("bus/events.jsonl");
    let damaged = fs::read_to_string(&log).unwrap().replacen("\"fills\":2", "\"fills\":3", 1);
    fs::write(&log, damaged).unwrap();
    let message = bus(temp.path(), &["replay", "bus"]).failure(1);
    assert!(message.contains("checksum mismatch at event "), "{message}");
}
