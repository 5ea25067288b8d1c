//! `zero-bus retire`: what it refuses, and what every command does on a log that starts later.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use zero_bus::sim::Rng;
use zero_bus::storage::{Access, Directory, Lock, Storage};
use zero_bus::{Reader, RetireOptions, Value};

use crate::support::proofs::{KEYS, checkpoint, set_up};
use crate::support::runs::{lines, run_cycles, start_cycles, wait_for_events};
use crate::support::{BUS, append_events, bus, engine, temp_dir};

/// Runs six cycles, seals them in segments of the events 1 to 12 and 13 to 22, and makes a backup
/// and a mirror.
fn sealed_run(dir: &Path) {
    run_cycles(dir, "6", &[]).success();
    seal_and_copy(dir);
}

fn seal_and_copy(dir: &Path) {
    for keep in ["18", "8"] {
        bus(dir, &["seal", "bus", "--keep-events", keep]).success();
    }
    bus(dir, &["backup", "bus", "copy"]).success();
    bus(dir, &["mirror", "bus", "--to", "sqlite:mirror.db"]).success();
}

/// Retires the events before one, and returns the result.
fn retire(dir: &Path, before: &str) -> Value {
    let options = ["--before", before, "--kept-in", "copy", "--by", "anna", "--yes", "--json"];
    Value::parse(bus(dir, &[&["retire", "bus"], &options[..]].concat()).success().trim()).unwrap()
}

fn first_held(dir: &Path) -> u64 {
    Reader::open(dir.join("bus")).unwrap().first_index().unwrap()
}

#[test]
fn nothing_is_retired_without_yes_or_without_a_copy() {
    let temp = temp_dir();
    let dir = temp.path();
    sealed_run(dir);
    let refused = bus(dir, &["retire", "bus", "--before", "last", "--yes"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("--kept-in") && refused.stderr.contains("--without-copy"), "{refused:?}");
    let both = ["retire", "bus", "--before", "13", "--kept-in", "copy", "--without-copy", "--yes"];
    assert_eq!(bus(dir, &both).code, 2);

    let plan = bus(dir, &["retire", "bus", "--before", "last", "--kept-in", "copy"]).success();
    assert!(plan.starts_with("would retire events 1 to 22 in 2 segments: "), "{plan}");
    assert!(plan.contains("copy, which holds them\nnothing was done; give --yes to do it"), "{plan}");
    let plan = bus(dir, &["retire", "bus", "--before", "22", "--without-copy", "--json"]).success();
    assert!(plan.contains(r#""last":12"#) && plan.contains(r#""retired":false"#), "{plan}");
    assert_eq!(first_held(dir), 1);

    for (place, message) in [
        ("bus/segments", "is in the bus itself"),
        ("/no/such/backup", "is not a directory"),
        ("d.jsonl", "is not a directory"),
        ("sqlite:missing.db", "missing.db"),
    ] {
        let refused =
            bus(dir, &["retire", "bus", "--before", "last", "--kept-in", place, "--yes"]).failure(2);
        assert!(refused.contains(message), "{place}: {refused}");
    }
    // A copy that ends too early, and one that is damaged.
    fs::create_dir(dir.join("short")).unwrap();
    let log = fs::read_to_string(dir.join("copy/events.jsonl")).unwrap();
    let start: String = log.split_inclusive('\n').take(20).collect();
    fs::write(dir.join("short/events.jsonl"), start).unwrap();
    let refused = bus(dir, &["retire", "bus", "--before", "last", "--kept-in", "short", "--yes"]).failure(1);
    assert!(refused.contains("does not hold the events 1 to 22: it ends at event 20"), "{refused}");
    fs::write(dir.join("short/events.jsonl"), log.replacen("3100.0", "3100.5", 1)).unwrap();
    let refused = bus(dir, &["retire", "bus", "--before", "last", "--kept-in", "short", "--yes"]).failure(1);
    assert!(refused.contains("checksum mismatch") && refused.contains("nothing was retired"), "{refused}");
    assert_eq!(first_held(dir), 1);

    let done = bus(dir, &["retire", "bus", "--before", "13", "--kept-in", "tape 17", "--yes"]).success();
    assert!(done.contains("kept in tape 17, which was not checked\nthe log starts at event 13;"), "{done}");
    let rest = bus(dir, &["retire", "bus", "--before", "0", "--kept-in", "copy", "--yes"]).success();
    assert!(rest.starts_with("nothing to retire"), "{rest}");
    // A mirror with a hole, which its ends do not show.
    fs::copy(dir.join("mirror.db"), dir.join("hole.db")).unwrap();
    let database = rusqlite::Connection::open(dir.join("hole.db")).unwrap();
    assert_eq!(database.execute("delete from events where event_index = 15", []).unwrap(), 1);
    drop(database);
    let hole = ["retire", "bus", "--before", "last", "--kept-in", "sqlite:hole.db", "--yes"];
    let refused = bus(dir, &hole).failure(1);
    assert!(refused.contains("does not hold event 15 as the log does"), "{refused}");
    let mirror = ["retire", "bus", "--before", "last", "--kept-in", "sqlite:mirror.db", "--yes", "--json"];
    let done = bus(dir, &mirror).success();
    assert!(done.contains(r#""copy_checked":true"#) && done.contains(r#""first":13,"#), "{done}");
    let nothing = bus(dir, &["retire", "bus", "--before", "last", "--without-copy", "--yes"]).success();
    assert!(nothing.starts_with("nothing to retire"), "{nothing}");
    let verify = bus(dir, &["verify", "bus"]).success();
    assert!(verify.contains("log       ok    events 23 to 32, last "), "{verify}");
    assert!(verify.contains("events 1 to 12 on ") && verify.contains("kept in tape 17"), "{verify}");
    assert!(verify.contains("events 13 to 22 on ") && verify.contains("every event from 23"), "{verify}");
}

#[test]
fn each_command_works_on_what_is_left_or_says_where_the_log_starts() {
    let temp = temp_dir();
    let dir = temp.path();
    sealed_run(dir);
    let show_before = bus(dir, &["show", "bus", "25"]).success();
    let (state_before, explain_before) =
        (bus(dir, &["state", "bus", "--at", "30"]).success(), bus(dir, &["explain", "bus", "6"]).success());
    let done = retire(dir, "last");
    let event_index = done.get("event_index").and_then(Value::as_u64).unwrap();
    assert_eq!((done.get("last").and_then(Value::as_u64), event_index), (Some(22), 31));
    assert_eq!(first_held(dir), 23);

    assert_eq!(bus(dir, &["show", "bus", "25"]).success(), show_before);
    assert_eq!(bus(dir, &["state", "bus", "--at", "30"]).success(), state_before);
    assert_eq!(bus(dir, &["explain", "bus", "6"]).success(), explain_before);
    let count = |arguments: &[&str]| bus(dir, arguments).success().lines().count();
    assert_eq!(count(&["tail", "bus"]), 9);
    assert_eq!(count(&["tail", "bus", "-n", "7", "--json"]), 7);
    assert_eq!(count(&["tail", "bus", "--since", "0", "--type", "bus.retired"]), 1);
    assert_eq!(count(&["tail", "bus", "--from", "-100"]), 9);
    let stats = bus(dir, &["stats", "bus", "--json"]).success();
    assert!(stats.contains(r#""bus.retired":1"#), "{stats}");
    bus(dir, &["diff", "bus", "30", "31"]).success();
    bus(dir, &["audit", "bus"]).success();
    bus(dir, &["repair", "bus"]).success();
    bus(dir, &["status", "bus"]);
    let since = bus(dir, &["verify", "bus", "--since-last", "--json"]).success();
    assert!(since.contains(r#""first_held":23"#) && since.contains(r#""kept_in":""#), "{since}");
    bus(dir, &["verify", "bus", "--since-last"]).success();
    let head = bus(dir, &["verify", "copy", "--json"]).success();
    assert!(!head.contains("retired"), "{head}");
    let unsealed = bus(dir, &["unseal", "bus", "-o", "plain.jsonl"]);
    assert!(unsealed.code == 0 && unsealed.stderr.contains("the log starts at event 23"), "{unsealed:?}");
    assert_eq!(lines(&dir.join("plain.jsonl")).len(), 9);
    for arguments in [
        &["show", "bus", "3"][..],
        &["tail", "bus", "--from", "3"],
        &["tail", "bus", "--from", "3", "-f"],
        &["state", "bus", "--at", "3"],
        &["state", "bus", "--at", "25"],
        &["diff", "bus", "3", "30"],
        &["explain", "bus", "evt-000000000003"],
        &["replay", "bus"],
        &["report", "bus"],
        &["verify", "bus", "--expect", &format!("3:sha256:{}", "0".repeat(64))],
    ] {
        let refused = bus(dir, arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains("the log starts at event 23"), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("/copy"), "{arguments:?}: {}", refused.stderr);
    }
    let doctor = bus(dir, &["doctor", "bus", "--journal", "d.jsonl"]);
    assert_eq!(doctor.code, 0, "{}", doctor.stdout);
    assert!(doctor.stdout.contains("events 23 to 31, each linked"), "{}", doctor.stdout);

    // The runtime goes on. So short a run has no checkpoint, so each start compares what is left.
    run_cycles(dir, "1", &[]).success_with_warning("the bus lacks the cycles 1 to 5");
    run_cycles(dir, "1", &["--full-check"]).success_with_warning("the bus lacks the cycles 1 to 5");
    run_cycles(dir, "1", &[]).success_with_warning("the bus lacks the cycles 1 to 5");
    assert_eq!(lines(&dir.join("d.jsonl")).len(), 9);
    bus(dir, &["append", "bus", "--type", "t", "{}"]).success();

    // Backup and mirror keep what they have, and grow. A new mirror is refused.
    bus(dir, &["backup", "bus", "copy"]).success();
    bus(dir, &["verify", "copy", "--min-events", "47"]).success();
    assert_eq!(Reader::open(dir.join("copy")).unwrap().first_index().unwrap(), 1);
    bus(dir, &["backup", "bus", "late"]).success();
    assert!(bus(dir, &["verify", "late"]).success().contains("events 23 to 47"));
    bus(dir, &["mirror", "bus", "--to", "sqlite:mirror.db"]).success();
    assert!(bus(dir, &["mirror-verify", "sqlite:mirror.db"]).success().contains("47 events"));
    bus(dir, &["restore", "restored", "--from", "sqlite:mirror.db"]).success();
    assert_eq!(
        fs::read(dir.join("restored/events.jsonl")).unwrap(),
        fs::read(dir.join("copy/events.jsonl")).unwrap()
    );
    let new = bus(dir, &["mirror", "bus", "--to", "sqlite:new.db"]).failure(2);
    assert!(new.contains("the log starts at event 23"), "{new}");
    for arguments in [&["replay", "copy"][..], &["report", "copy"]] {
        bus(dir, arguments).success();
    }
}

#[test]
fn a_command_in_force_and_the_last_cycle_are_kept() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "2", &[]).success();
    let warned = bus(dir, &["command", "bus", "pause"]);
    assert_eq!(warned.code, 0, "{}", warned.stderr);
    run_cycles(dir, "4", &[]).success();
    append_events(dir, 9);
    seal_and_copy(dir);
    let refused = bus(dir, &["retire", "bus", "--before", "last", "--kept-in", "copy", "--yes"]).failure(2);
    assert!(refused.contains("event 11 is an operator command that is still in force"), "{refused}");
    assert_eq!(first_held(dir), 1);
    assert_eq!(bus(dir, &["command", "bus", "resume"]).code, 0);
    run_cycles(dir, "1", &[]).success();
    for keep in ["12", "3"] {
        bus(dir, &["seal", "bus", "--keep-events", keep]).success();
    }
    bus(dir, &["backup", "bus", "copy"]).success();
    retire(dir, "last");
    let first = first_held(dir);
    let cycles = bus(dir, &["tail", "bus", "--type", "runtime.cycle", "--json"]).success();
    assert!(first > 11 && cycles.lines().count() >= 1, "{first}: {cycles}");
    run_cycles(dir, "1", &["--full-check"]);
    assert_eq!(lines(&dir.join("d.jsonl")).len(), 8);
}

#[test]
fn a_run_on_market_data_is_compared_with_what_is_left() {
    let temp = temp_dir();
    let dir = temp.path();
    let order = r#"{"symbol":"A","side":"buy","quantity":1,"price":5,"confidence":1}"#;
    fs::write(dir.join("orders.jsonl"), format!("{order}\n").repeat(6)).unwrap();
    let options = ["--orders", "orders.jsonl", "--journal", "c.jsonl", "--runtime-bus", "bus"];
    let run = |more: &[&str]| engine(dir, &[&options[..], &["--fixed-clock", "1"], more].concat());
    run(&[]).success();
    seal_and_copy(dir);
    retire(dir, "last");
    let first = first_held(dir);
    assert!(first > 20, "{first}");
    let doctor = bus(dir, &["doctor", "bus", "--journal", "c.jsonl"]);
    assert!(doctor.stdout.contains("6 cycles, the same as on the bus"), "{}", doctor.stdout);
    run(&["--full-check"]).success();
    let refused = engine(
        dir,
        &["--orders", "orders.jsonl", "--runtime-bus", "bus", "--fixed-clock", "1", "--full-check"],
    )
    .failure(2);
    assert!(refused.contains(&format!("the log starts at event {first}")), "{refused}");
    let text = fs::read_to_string(dir.join("c.jsonl")).unwrap();
    let mut changed: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    let held = &mut changed[8];
    *held = held.replacen("\"confidence\":1.0", "\"confidence\":0.9", 1);
    fs::write(dir.join("c.jsonl"), changed.concat()).unwrap();
    let doctor = bus(dir, &["doctor", "bus", "--journal", "c.jsonl"]);
    assert!(doctor.stdout.contains("FAIL  journal"), "{}", doctor.stdout);
}

#[test]
fn proofs_go_on_with_the_tree_of_the_whole_log() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 50);
    checkpoint(dir);
    append_events(dir, 50);
    bus(dir, &["seal", "bus", "--keep-events", "10"]).success();
    let retire = ["retire", "bus", "--before", "last", "--without-copy", "--yes"];
    let refused = bus(dir, &retire).failure(2);
    assert!(
        refused.contains("has the tree of 50 events") && refused.contains("Sign a checkpoint"),
        "{refused}"
    );
    checkpoint(dir);
    bus(dir, &retire).success();
    assert_eq!(first_held(dir), 91);
    append_events(dir, 5);
    assert_eq!(checkpoint(dir).checkpoint().size, 106);
    let prove = |event: &str| {
        bus(dir, &[&["prove", "bus", event, "--reveal", "*", "-o", "proof"], &KEYS[2..]].concat())
    };
    prove("95").success();
    let refused = prove("5").failure(2);
    assert!(refused.contains("the log starts at event 91"), "{refused}");
    let verify = ["verify", "bus", "--policy", "policy", "--secret", "bus.secret"];
    let refused = bus(dir, &verify).failure(2);
    assert!(refused.contains("the log starts at event 91"), "{refused}");
}

#[test]
fn a_killed_retirement_is_completed_while_others_append_and_follow() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 4_000);
    for keep in (1..=20).rev() {
        bus(dir, &["seal", "bus", "--keep-events", &(keep * 190).to_string()]).success();
    }
    let mut follow = Command::new(BUS);
    follow.args(["tail", "bus", "-f", "--json", "--type", "late", "--from", "3990"]).current_dir(dir);
    let mut follower = follow.stdout(Stdio::piped()).spawn().unwrap();
    let followed = BufReader::new(follower.stdout.take().unwrap());
    let following = thread::spawn(move || followed.lines().map_while(Result::ok).take(20).count());
    let mut appender = Command::new(BUS);
    appender.args(["append", "bus", "--batch"]).current_dir(dir).stdin(Stdio::piped());
    let mut appender = appender.stdout(Stdio::piped()).spawn().unwrap();
    let mut receipts = BufReader::new(appender.stdout.take().unwrap()).lines();
    let mut input = appender.stdin.take().unwrap();
    let (mut dice, mut killed) = (Rng::new(5), 0);
    for number in 1..=20 {
        let before = (190 * number + 11).to_string();
        let mut retirer = Command::new(BUS);
        retirer.args(["retire", "bus", "--before", &before, "--without-copy", "--yes"]).current_dir(dir);
        let mut retirer = retirer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_micros(dice.below(25_000) as u64));
        input.write_all(b"{\"event_type\":\"late\",\"payload\":{},\"as_of\":1}\n").unwrap();
        receipts.next().unwrap().unwrap();
        retirer.kill().unwrap();
        killed += usize::from(retirer.wait().unwrap().code().is_none());
        if number % 5 == 0 {
            bus(dir, &["verify", "bus"]).success();
        }
    }
    drop(input);
    assert!(appender.wait().unwrap().success());
    assert_eq!(following.join().unwrap(), 20);
    follower.kill().unwrap();
    follower.wait().unwrap();
    bus(dir, &["retire", "bus", "--before", "3811", "--without-copy", "--yes"]).success();
    bus(dir, &["verify", "bus", "--min-events", "4020"]).success();
    let reader = Reader::open(dir.join("bus")).unwrap();
    let first = first_held(dir);
    assert_eq!(first, 3811, "a segment ends with event 3810");
    let held: Vec<_> = reader.events(first).unwrap().map(Result::unwrap).collect();
    assert_eq!(held.iter().filter(|event| event.event_type == "late").count(), 20);
    let recorded = held.iter().filter(|event| event.event_type == "bus.retired").count();
    assert_eq!(reader.retired().unwrap().unwrap().parts().len(), recorded);
    let left = fs::read_dir(dir.join("bus/segments")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name != "lock" && name != "retired.json").collect();
    assert!(left.is_empty(), "{left:?}");
    println!("{killed} of 20 retirements were killed");
}

#[test]
fn two_retirements_do_not_meet() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 50);
    bus(dir, &["seal", "bus", "--keep-events", "20"]).success();
    let lock = Directory::open(&dir.join("bus")).unwrap().open("segments/lock", Access::ReadWrite).unwrap();
    assert!(lock.try_lock(Lock::Exclusive).unwrap());
    let refused = bus(dir, &["retire", "bus", "--before", "31", "--without-copy", "--yes"]).failure(2);
    assert!(refused.contains("try again once it has finished"), "{refused}");
    assert_eq!(first_held(dir), 1);
    drop(lock);
    let handles = [(); 4].map(|()| zero_bus::Bus::open(dir.join("bus")).unwrap());
    let done: usize = thread::scope(|scope| {
        let retire = |bus| {
            let options = RetireOptions::new(30, "anna", 1.0);
            move || match zero_bus::Bus::retire(bus, &options, &mut |_| {}) {
                Ok(part) => usize::from(part.is_some()),
                Err(zero_bus::Error::Sealing { .. }) => 0,
                Err(error) => panic!("{error}"),
            }
        };
        let threads: Vec<_> = handles.iter().map(|bus| scope.spawn(retire(bus))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((done, first_held(dir)), (1, 31));
    bus(dir, &["verify", "bus", "--min-events", "51"]).success();
}

#[test]
fn a_runtime_runs_on_while_its_events_are_retired() {
    let temp = temp_dir();
    let dir = temp.path();
    let mut runtime = start_cycles(dir, "300");
    for round in 1..=4 {
        wait_for_events(dir, 60 * round);
        bus(dir, &["seal", "bus", "--keep-events", "10"]).success();
        bus(dir, &["retire", "bus", "--before", "last", "--without-copy", "--yes"]).success();
    }
    assert!(runtime.wait().unwrap().success());
    assert!(first_held(dir) > 150);
    bus(dir, &["verify", "bus", "--min-events", "1500"]).success();
    let doctor = bus(dir, &["doctor", "bus", "--journal", "d.jsonl"]);
    assert_eq!(doctor.code, 0, "{}", doctor.stdout);
    run_cycles(dir, "1", &["--full-check"]);
    assert_eq!(lines(&dir.join("d.jsonl")).len(), 301);
}
