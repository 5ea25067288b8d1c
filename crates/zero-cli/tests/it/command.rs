//! A runtime steered by another process: what it is told, it does, says so, and still knows after a restart.

use std::fs;
use std::path::Path;
use std::process::Child;

use crate::support::{Ended, RECORDS, bus, engine, events, published, root, start, wait_until};
use zero_bus::sim::Rng;
use zero_bus::{Event, Reader, Value};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn arguments<'a>(scenario: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--scenario", scenario][..], &RECORDS[..], more].concat()
}

fn scenario() -> String {
    root().join("examples/paper-trading/scenario.json").to_str().unwrap().to_owned()
}

fn run(directory: &Path, cycles: &str) -> Ended {
    engine(directory, &arguments(&scenario(), &["--interval", "0", "--max-cycles", cycles]))
}

/// A runtime that sleeps for an hour behind its first cycle.
fn sleeper(directory: &Path) -> Child {
    let child = start(directory, &arguments(&scenario(), &["--interval", "3600"]));
    wait_until(|| fs::read_to_string(directory.join("c.jsonl")).is_ok_and(|text| text.contains('\n')));
    child
}

fn text(event: &Event, key: &str) -> String {
    event.payload.value().get(key).and_then(Value::as_str).unwrap().to_owned()
}

/// What the events of a type say under a key.
fn of(directory: &Path, event_type: &str, key: &str) -> Vec<String> {
    let events = events(directory);
    events.iter().filter(|event| event.event_type == event_type).map(|event| text(event, key)).collect()
}

/// The reasons of the last decisions.
fn reasons(directory: &Path, last: usize) -> Vec<String> {
    let all = of(directory, "decision.record", "reason");
    all[all.len() - last..].to_vec()
}

fn told(directory: &Path, action: &str) {
    bus(directory, &["command", "bus", action, "--actor", "ops", "--reason", "a test"]).fine();
}

#[test]
fn a_sleeping_runtime_obeys_at_once() {
    let place = place();
    let here = place.path();
    let child = sleeper(here);
    let said = bus(here, &["command", "bus", "pause", "--actor", "ops", "--wait", "30"]).fine();
    let lines: Vec<Value> = said.lines().map(|line| Value::parse(line).unwrap()).collect();
    assert_eq!(lines[0].get("event_type").and_then(Value::as_str), Some("operator.command"));
    let applied = lines[1].get("payload").unwrap();
    assert_eq!(applied.get("command_event_id"), lines[0].get("event_id"));
    assert_eq!(applied.get("effect").and_then(Value::as_str), Some("paused"));
    let said = bus(here, &["command", "bus", "kill", "--reason", "enough", "--wait", "30"]).fine();
    assert!(said.contains(r#""effect":"killed""#));
    // It sleeps no longer, and ends in order.
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 0);
    assert!(
        ended.err.contains("stopped by the operator: kill in evt-") && ended.err.contains(": enough"),
        "{}",
        ended.err
    );
    assert!(ended.out.contains("\"cycle_id\": 1"), "{}", ended.out);
    bus(here, &["verify", "bus"]).fine();
    assert_eq!(
        fs::read_to_string(here.join("d.jsonl")).unwrap().lines().count(),
        1,
        "nothing was decided since"
    );
}

#[test]
fn a_killed_runtime_starts_again_after_a_resume() {
    let place = place();
    let here = place.path();
    run(here, "1").fine();
    told(here, "kill");
    for _ in 0..2 {
        let said = run(here, "1").refused();
        assert!(said.contains("was stopped (kill in evt-000000000006 by ops: a test)"), "{said}");
        assert!(said.contains("zero-bus command DIR resume"), "{said}");
    }
    told(here, "resume");
    // Crossed by one that nobody has obeyed yet.
    told(here, "kill");
    bus(here, &["command", "bus", "resume"])
        .fine_with("is not obeyed yet, so this resume does not take it back");
    run(here, "1").refused();
    told(here, "resume");
    run(here, "1").fine();
    // What goes to a terminal does not steer it.
    bus(here, &["command", "bus", "kill", "--actor", "\u{1b}[2J", "--reason", &"x".repeat(5000)]).fine();
    let said = run(here, "1").refused();
    assert!(!said.contains('\u{1b}') && said.len() < 600, "{said}");
    told(here, "resume");
    assert_eq!(reasons(here, 1), ["allowed"]);
    bus(here, &["verify", "bus"]).fine();
}

#[test]
fn a_pause_outlives_restarts_and_lets_through_what_reduces() {
    let place = place();
    let here = place.path();
    run(here, "2").fine();
    told(here, "pause");
    run(here, "2").fine();
    run(here, "2").fine();
    let pause = "operator pause";
    let reduces = "reduce-only orders bypass risk-increasing friction";
    assert_eq!(reasons(here, 4), [pause, pause, pause, reduces]);
    told(here, "reduce-only");
    run(here, "1").fine();
    assert_eq!(reasons(here, 1), [pause], "the safer one counts");
    told(here, "resume");
    run(here, "1").fine();
    assert_eq!(reasons(here, 1), ["projected position exceeds limit"], "the limits speak again");
    told(here, "reduce-only");
    run(here, "1").fine();
    assert_eq!(reasons(here, 1), ["operator reduce-only"]);
    assert_eq!(of(here, "operator.applied", "effect"), ["paused", "reduce only", "resumed", "reduce only"]);
    bus(here, &["replay", "bus"]).fine();
}

#[test]
fn flatten_closes_every_position_at_the_last_price() {
    let place = place();
    let here = place.path();
    run(here, "4").fine();
    told(here, "flatten");
    run(here, "2").fine();
    let decisions: Vec<Event> =
        events(here).into_iter().filter(|event| event.event_type == "decision.record").collect();
    let closing: Vec<(String, String, f64)> = decisions[4..6]
        .iter()
        .map(|event| {
            let price = event.payload.value().get("price").and_then(Value::as_f64).unwrap();
            (text(event, "symbol"), text(event, "side"), price)
        })
        .collect();
    let sold = |symbol: &str, price| (symbol.to_owned(), "sell".to_owned(), price);
    assert_eq!(closing, [sold("BTC", 64000.0), sold("ETH", 3150.0)]);
    let snapshot = Reader::open(here.join("bus")).unwrap().snapshot().unwrap().unwrap();
    assert!(snapshot.payload.as_str().contains(r#""positions":[]"#), "{}", snapshot.payload);
    // The journal and the bus agree on all of it.
    run(here, "1").fine();
    bus(here, &["verify", "bus"]).fine();
    assert_eq!(reasons(here, 1), ["operator reduce-only"]);
}

#[test]
fn what_is_no_command_is_said_and_does_nothing() {
    let place = place();
    let here = place.path();
    assert!(bus(here, &["command", "bus", "pause"]).refused().contains("no such directory"));
    assert!(!here.join("bus").exists());
    run(here, "1").fine();
    assert!(bus(here, &["command", "bus", "halt"]).refused().contains("halt"));
    bus(here, &["append", "bus", "--type", "operator.command", r#"{"action":"halt"}"#]).fine();
    run(here, "1").fine();
    assert_eq!(reasons(here, 1), ["allowed"]);
    assert_eq!(of(here, "operator.applied", "effect"), ["not known, nothing was done"]);
    // Nobody runs: it is given, and not obeyed in time.
    let ended = bus(here, &["command", "bus", "pause", "--wait", "1"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("was not obeyed within 1 s"), "{}", ended.err);
}

/// A runtime that is killed at random moments, and told something in each of its lives: every word is obeyed once, and
/// journal and bus agree.
#[test]
fn what_is_said_between_kills_is_obeyed_once() {
    let place = place();
    let here = place.path();
    run(here, "1").fine();
    let mut dice = Rng::new(7);
    let said = 40;
    for _ in 0..said {
        let mut child = start(here, &arguments(&scenario(), &["--interval", "0"]));
        std::thread::sleep(std::time::Duration::from_micros(dice.below(20_000) as u64));
        let action = ["pause", "resume", "reduce-only", "flatten"][dice.below(4)];
        bus(here, &["command", "bus", action, "--reason", "a test"]).fine_over_a_torn_line();
        std::thread::sleep(std::time::Duration::from_micros(dice.below(10_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let ended = run(here, "1");
    assert_eq!(ended.code, 0, "{}", ended.err);
    bus(here, &["verify", "bus"]).fine();
    let events = events(here);
    let of = |kind: &str| events.iter().filter(|event| event.event_type == kind).collect::<Vec<_>>();
    let given: Vec<u64> = of("operator.command").iter().map(|event| event.index).collect();
    let mut obeyed: Vec<u64> = of("operator.applied")
        .iter()
        .map(|event| event.payload.value().get("command_index").and_then(Value::as_u64).unwrap())
        .collect();
    obeyed.sort_unstable();
    assert_eq!(given.len(), said);
    assert_eq!(obeyed, given);
    assert!(published(here) == fs::read_to_string(here.join("d.jsonl")).unwrap(), "journal and bus differ");
    // The commands bind as they did when the run is gone through again.
    bus(here, &["replay", "bus"]).fine();
}
