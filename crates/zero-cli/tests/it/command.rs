//! `zero-bus command`: a runtime applies each operator command once, records that, and keeps it in
//! force after a restart.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{
    BUS, EXAMPLE_SCENARIO, Finished, RECORDS, append_events, bus, engine, events, published_decisions,
    start_engine, temp_dir, wait_until,
};
use zero_bus::sim::Rng;
use zero_bus::{Event, Reader, Value};

fn engine_arguments<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["--scenario", *EXAMPLE_SCENARIO][..], &RECORDS[..], options].concat()
}

fn run_cycles(dir: &Path, cycles: &str) -> Finished {
    engine(dir, &engine_arguments(&["--interval", "0", "--max-cycles", cycles]))
}

/// Starts a runtime that sleeps for an hour after its first cycle. Returns once it sleeps.
fn start_sleeping_runtime(dir: &Path) -> Child {
    let child = start_engine(dir, &engine_arguments(&["--interval", "3600"]));
    wait_until(|| fs::read_to_string(dir.join("c.jsonl")).is_ok_and(|text| text.contains('\n')));
    child
}

fn text(event: &Event, key: &str) -> String {
    event.payload.value().get(key).and_then(Value::as_str).unwrap().to_owned()
}

/// A text field of all events of a type.
fn texts(dir: &Path, event_type: &str, key: &str) -> Vec<String> {
    let events = events(dir);
    events.iter().filter(|event| event.event_type == event_type).map(|event| text(event, key)).collect()
}

/// The reasons of the last decisions.
fn last_reasons(dir: &Path, count: usize) -> Vec<String> {
    let reasons = texts(dir, "decision.record", "reason");
    reasons[reasons.len() - count..].to_vec()
}

/// Gives a command while no runtime is alive.
fn give_command(dir: &Path, action: &str) {
    bus(dir, &["command", "bus", action, "--actor", "ops", "--reason", "a test"])
        .success_with_warning("no runtime holds bus");
}

#[test]
fn a_sleeping_runtime_applies_a_command_at_once() {
    let temp = temp_dir();
    let dir = temp.path();
    let child = start_sleeping_runtime(dir);
    let stdout = bus(dir, &["command", "bus", "pause", "--actor", "ops", "--wait", "30"]).success();
    let lines: Vec<Value> = stdout.lines().map(|line| Value::parse(line).unwrap()).collect();
    assert_eq!(lines[0].get("event_type").and_then(Value::as_str), Some("operator.command"));
    let applied = lines[1].get("payload").unwrap();
    assert_eq!(applied.get("command_event_id"), lines[0].get("event_id"));
    assert_eq!(applied.get("effect").and_then(Value::as_str), Some("paused"));
    let stdout = bus(dir, &["command", "bus", "kill", "--reason", "enough", "--wait", "30"]).success();
    assert!(stdout.contains(r#""effect":"killed""#));
    // The kill ends the sleep and the run.
    let output = Finished::from(child.wait_with_output().unwrap());
    assert_eq!(output.code, 3);
    assert!(
        output.stderr.contains("stopped by the operator: kill in evt-") && output.stderr.contains(": enough"),
        "{}",
        output.stderr
    );
    assert!(output.stdout.contains("\"cycle_id\": 1"), "{}", output.stdout);
    bus(dir, &["verify", "bus"]).success();
    assert_eq!(
        fs::read_to_string(dir.join("d.jsonl")).unwrap().lines().count(),
        1,
        "no decision after the commands"
    );
}

#[test]
fn a_runtime_refuses_to_start_after_a_kill_until_a_resume() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "1").success();
    give_command(dir, "kill");
    for _ in 0..2 {
        let message = run_cycles(dir, "1").failure(3);
        assert!(message.contains("was stopped (kill in evt-000000000006 by ops: a test)"), "{message}");
        assert!(message.contains("zero-bus command DIR resume"), "{message}");
    }
    give_command(dir, "resume");
    // A kill that no runtime has applied yet is not withdrawn by the resume.
    give_command(dir, "kill");
    bus(dir, &["command", "bus", "resume"])
        .success_with_warning("is not applied yet, so this resume does not withdraw it");
    run_cycles(dir, "1").failure(3);
    give_command(dir, "resume");
    run_cycles(dir, "1").success();
    // Actor and reason are escaped and shortened in messages.
    bus(dir, &["command", "bus", "kill", "--actor", "\u{1b}[2J", "--reason", &"x".repeat(5000)])
        .success_with_warning("no runtime holds bus");
    let message = run_cycles(dir, "1").failure(3);
    assert!(!message.contains('\u{1b}') && message.len() < 600, "{message}");
    give_command(dir, "resume");
    assert_eq!(last_reasons(dir, 1), ["allowed"]);
    bus(dir, &["verify", "bus"]).success();
}

#[test]
fn a_pause_survives_restarts_and_accepts_orders_that_reduce() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "2").success();
    give_command(dir, "pause");
    run_cycles(dir, "2").success();
    run_cycles(dir, "2").success();
    let pause = "operator pause";
    let reduces = "reduce-only orders bypass risk-increasing friction";
    assert_eq!(last_reasons(dir, 4), [pause, pause, pause, reduces]);
    give_command(dir, "reduce-only");
    run_cycles(dir, "1").success();
    assert_eq!(last_reasons(dir, 1), [pause], "the safer command is in force");
    give_command(dir, "resume");
    run_cycles(dir, "1").success();
    assert_eq!(last_reasons(dir, 1), ["projected position exceeds limit"], "the limits decide again");
    give_command(dir, "reduce-only");
    run_cycles(dir, "1").success();
    assert_eq!(last_reasons(dir, 1), ["operator reduce-only"]);
    assert_eq!(texts(dir, "operator.applied", "effect"), ["paused", "reduce only", "resumed", "reduce only"]);
    bus(dir, &["replay", "bus"]).success();
}

#[test]
fn flatten_closes_every_position_at_the_last_price() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "4").success();
    give_command(dir, "flatten");
    run_cycles(dir, "2").success();
    let decisions: Vec<Event> =
        events(dir).into_iter().filter(|event| event.event_type == "decision.record").collect();
    let closing: Vec<(String, String, f64)> = decisions[4..6]
        .iter()
        .map(|event| {
            let price = event.payload.value().get("price").and_then(Value::as_f64).unwrap();
            (text(event, "symbol"), text(event, "side"), price)
        })
        .collect();
    let sold = |symbol: &str, price| (symbol.to_owned(), "sell".to_owned(), price);
    assert_eq!(closing, [sold("BTC", 64000.0), sold("ETH", 3150.0)]);
    let snapshot = Reader::open(dir.join("bus")).unwrap().snapshot().unwrap().unwrap();
    assert!(snapshot.payload.as_str().contains(r#""positions":[]"#), "{}", snapshot.payload);
    // The journal and the bus agree on all of it.
    run_cycles(dir, "1").success();
    bus(dir, &["verify", "bus"]).success();
    assert_eq!(last_reasons(dir, 1), ["operator reduce-only"]);
}

#[test]
fn an_unknown_command_is_refused_and_has_no_effect() {
    let temp = temp_dir();
    let dir = temp.path();
    assert!(bus(dir, &["command", "bus", "pause"]).failure(2).contains("no such directory"));
    assert!(!dir.join("bus").exists());
    run_cycles(dir, "1").success();
    assert!(bus(dir, &["command", "bus", "halt"]).failure(2).contains("halt"));
    bus(dir, &["append", "bus", "--type", "operator.command", r#"{"action":"halt"}"#]).success();
    run_cycles(dir, "1").success();
    assert_eq!(last_reasons(dir, 1), ["allowed"]);
    assert_eq!(texts(dir, "operator.applied", "effect"), ["not known, nothing was done"]);
    // No runtime is running, so the command is given but not applied in time.
    let output = bus(dir, &["command", "bus", "pause", "--wait", "1"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("was not applied within 1 s"), "{}", output.stderr);
}

/// A runtime is killed at random moments and given a command in each of its runs.
#[test]
fn each_command_is_applied_once_although_the_runtime_is_killed() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "1").success();
    let mut dice = Rng::new(7);
    let runs = 40;
    for _ in 0..runs {
        let mut child = start_engine(dir, &engine_arguments(&["--interval", "0"]));
        std::thread::sleep(std::time::Duration::from_micros(dice.below(20_000) as u64));
        let action = ["pause", "resume", "reduce-only", "flatten"][dice.below(4)];
        bus(dir, &["command", "bus", action, "--reason", "a test"]).success_after_a_kill();
        std::thread::sleep(std::time::Duration::from_micros(dice.below(10_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = run_cycles(dir, "1");
    assert_eq!(output.code, 0, "{}", output.stderr);
    bus(dir, &["verify", "bus"]).success();
    let events = events(dir);
    let of_type =
        |event_type: &str| events.iter().filter(|event| event.event_type == event_type).collect::<Vec<_>>();
    let given: Vec<u64> = of_type("operator.command").iter().map(|event| event.index).collect();
    let mut applied: Vec<u64> = of_type("operator.applied")
        .iter()
        .map(|event| event.payload.value().get("command_index").and_then(Value::as_u64).unwrap())
        .collect();
    applied.sort_unstable();
    assert_eq!(given.len(), runs);
    assert_eq!(applied, given);
    assert!(
        published_decisions(dir) == fs::read_to_string(dir.join("d.jsonl")).unwrap(),
        "journal and bus differ"
    );
    // The replay takes the commands into account.
    bus(dir, &["replay", "bus"]).success();
}

/// A writer that was stopped while it held the lock must not block the operator in silence.
#[test]
fn a_command_that_waits_for_a_lock_names_the_holder() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 1);
    let holder = Command::new("flock")
        .arg(dir.join("bus/bus.lock"))
        .args(["sh", "-c", "echo locked; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut holder) = holder else { return println!("not tested: flock is missing") };
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
    let mut child = Command::new(BUS)
        .args(["command", "bus", "kill", "--actor", "ops", "--reason", "test"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("lock")).unwrap();
    assert!(
        line.contains("bus/bus.lock: ") && line.contains("holds the lock; waiting for up to 30 s"),
        "{line}"
    );
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert!(child.wait().unwrap().success());
}
