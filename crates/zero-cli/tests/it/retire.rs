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

    // As a bind mount of the bus would be: the same files under another name.
    fs::create_dir_all(dir.join("linked/segments")).unwrap();
    fs::copy(dir.join("bus/events.jsonl"), dir.join("linked/events.jsonl")).unwrap();
    for entry in fs::read_dir(dir.join("bus/segments")).unwrap() {
        let entry = entry.unwrap();
        fs::hard_link(entry.path(), dir.join("linked/segments").join(entry.file_name())).unwrap();
    }
    for (place, message) in [
        ("bus/segments", "is in the bus itself"),
        ("  ", "is blank"),
        ("coppy", "there is no directory of this name"),
        ("sqlit:mirror.db", "it is not the address of a mirror"),
        ("linked", "linked/segments/events-0000000000"),
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

    let in_words = ["retire", "bus", "--before", "13", "--kept-in", "tape 17", "--yes"];
    assert!(bus(dir, &in_words).failure(2).contains("give --without-copy, too"));
    let done = bus(dir, &[&in_words[..], &["--without-copy"]].concat()).success();
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
        &["explain", "bus", "1"],
        &["explain", "bus", "runtime-cycle-4"],
        &["public", "profile", "bus", "--handle", "desk-1"],
        &["replay", "bus"],
        &["report", "bus"],
        &["verify", "bus", "--expect", &format!("3:sha256:{}", "0".repeat(64))],
    ] {
        let refused = bus(dir, arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains("the log starts at event 23"), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("/copy"), "{arguments:?}: {}", refused.stderr);
    }
    let replay = bus(dir, &["replay", "bus"]).failure(2);
    assert!(replay.ends_with("replay that copy; this log lacks what the run began with"), "{replay}");
    let report = bus(dir, &["report", "bus"]).failure(2);
    assert!(report.ends_with("report on that copy, or with --from about what is left"), "{report}");
    let report = bus(dir, &["report", "bus", "--from", "23", "--json"]).success();
    assert!(report.contains(r#""begins_after":24,"#), "{report}");
    let whole = bus(dir, &["report", "copy", "--from", "23", "--json"]).success();
    let figures = |report: &str| Value::parse(report.trim()).unwrap().get("by_symbol").cloned();
    assert_eq!(figures(&report), figures(&whole));
    let none = bus(dir, &["report", "bus", "--from", "31"]).failure(2);
    assert!(none.contains("no position snapshot comes after this place"), "{none}");
    let public = bus(dir, &["public", "profile", "bus", "--handle", "desk-1"]).failure(2);
    assert!(public.contains("from the decision journal with --journal"), "{public}");
    let public = |bus_or_copy: &str| {
        let options = ["--handle", "desk-1", "--journal", "d.jsonl", "--generated-at", "0"];
        bus(dir, &[&["public", "profile", bus_or_copy], &options[..]].concat()).success()
    };
    assert_eq!(public("bus"), public("copy"));
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
    assert!(
        new.contains("the log starts at event 23") && new.contains("Mirror that copy to it first"),
        "{new}"
    );
    assert!(!dir.join("new.db").exists());
    for place in ["copy", "bus"] {
        bus(dir, &["mirror", place, "--to", "sqlite:new.db"]).success();
    }
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
    // The tree of the retired events is in the tiles, that of the others is computed from the log.
    let verify = ["verify", "bus", "--policy", "policy", "--secret", "bus.secret"];
    let anchored = bus(dir, &verify).success();
    assert!(anchored.contains("anchored up to 106 of 106"), "{anchored}");
    fs::rename(dir.join("bus/tiles"), dir.join("tiles")).unwrap();
    let refused = bus(dir, &verify).failure(2);
    assert!(refused.contains("does not have the tree of the retired events"), "{refused}");
    assert!(refused.contains("the log starts at event 91"), "{refused}");
    fs::rename(dir.join("tiles"), dir.join("bus/tiles")).unwrap();
    // What was signed of the retired events still counts.
    let state = dir.join("bus.checkpoints/signed.000000000050");
    let signed = fs::read(&state).unwrap();
    fs::write(&state, fs::read(dir.join("bus.checkpoints/signed.000000000106")).unwrap()).unwrap();
    assert!(
        bus(dir, &verify).success_with_warning("is a checkpoint of 106 events").contains("anchored up to")
    );
    fs::write(&state, &signed).unwrap();
    // The one that the producer's clock went back.
    let times = bus(dir, &["doctor", "bus"]);
    assert!(times.stdout.contains("went back 1 time, at most by 49.0 s"), "{}", times.stdout);
    // Nor does the time of the machine in bus.retired hide what is older.
    bus(dir, &["seal", "bus", "--keep-events", "4"]).success();
    let plan = bus(dir, &["retire", "bus", "--before", "99.5", "--without-copy"]).success();
    assert!(plan.starts_with("would retire events 91 to 102"), "{plan}");
}

#[test]
fn a_retirement_after_which_nothing_could_be_signed_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 50);
    checkpoint(dir);
    append_events(dir, 50);
    bus(dir, &["seal", "bus", "--keep-events", "10"]).success();
    let retire = ["retire", "bus", "--before", "last", "--without-copy", "--yes"];
    let refuse = |message: &str| {
        let refused = bus(dir, &retire).failure(2);
        assert!(refused.contains(message), "{message}: {refused}");
        assert_eq!(first_held(dir), 1);
    };
    let (tiles, state) = (dir.join("bus/tiles"), dir.join("bus.checkpoints"));
    fs::rename(&tiles, dir.join("tiles")).unwrap();
    refuse("bus.checkpoints/signed shows that this bus is signed");
    fs::rename(state.join("signed"), dir.join("signed")).unwrap();
    refuse("bus.checkpoints/signed.000000000050 shows that this bus is signed");
    // The checkpoints lie elsewhere: the record of the key names their place, or an option does.
    fs::rename(&state, dir.join("elsewhere")).unwrap();
    refuse(".used-for shows that this bus is signed. Without the tree");
    for name in ["log.key.used-for", "bus.secret.used-for"] {
        fs::rename(dir.join(name), dir.join(format!("{name}.away"))).unwrap();
    }
    let refused = bus(dir, &[&retire[..], &["--state", "elsewhere/signed"]].concat()).failure(2);
    assert!(refused.contains("elsewhere/signed.000000000050 shows"), "{refused}");
    for name in ["log.key.used-for", "bus.secret.used-for"] {
        fs::rename(dir.join(format!("{name}.away")), dir.join(name)).unwrap();
    }
    fs::rename(dir.join("elsewhere"), &state).unwrap();
    fs::rename(dir.join("signed"), state.join("signed")).unwrap();

    // The tiles of another log.
    fs::create_dir(dir.join("other")).unwrap();
    set_up(&dir.join("other"), 120);
    checkpoint(&dir.join("other"));
    fs::rename(dir.join("other/bus/tiles"), &tiles).unwrap();
    refuse("is not the tree of this log. Run zero-bus checkpoint --full-check");
    fs::remove_dir_all(&tiles).unwrap();
    fs::rename(dir.join("tiles"), &tiles).unwrap();
    refuse("has the tree of 50 events");

    // The last signed size may be among the retired events if the tiles cover them.
    bus(dir, &[&["prove", "bus", "5", "--reveal", "*", "-o", "proof"], &KEYS[2..]].concat()).success();
    bus(dir, &retire).success();
    assert_eq!(first_held(dir), 91);
    assert_eq!(checkpoint(dir).checkpoint().size, 101);
    append_events(dir, 1);
    assert_eq!(checkpoint(dir).checkpoint().size, 102);
    // Without the tiles, the log itself still tells why nothing is signed.
    fs::rename(&tiles, dir.join("tiles")).unwrap();
    let refused = bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat()).failure(2);
    assert!(refused.contains("the log starts at event 91"), "{refused}");
}

#[test]
fn an_interrupted_retirement_is_reported_with_its_own_figures() {
    let temp = temp_dir();
    let dir = temp.path();
    sealed_run(dir);
    let segment = fs::read_dir(dir.join("bus/segments")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "zst")).min().unwrap();
    let content = fs::read(&segment).unwrap();
    retire(dir, "13");
    let options = ["--before", "last", "--kept-in", "sqlite:mirror.db", "--yes"];
    let again = |more: &[&str]| bus(dir, &[&["retire", "bus"], &options[..], more].concat()).success();
    // As if it had been killed before it renamed its record.
    let segments = dir.join("bus/segments");
    fs::rename(segments.join("retired.json"), segments.join("retiring.json")).unwrap();
    fs::write(&segment, &content).unwrap();
    let text = again(&[]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("completed an interrupted retirement of the events 1 to 12 in 1 segment"),
        "{text}"
    );
    assert!(lines[0].ends_with("copy; event 31 records it"), "{text}");
    assert!(lines[1].starts_with("retired events 13 to 22 in 1 segment: "), "{text}");
    assert!(lines[1].ends_with("mirror.db, which holds them"), "{text}");
    assert_eq!(lines[2], "the log starts at event 23; event 32 records it");
    // As if the first one had been killed before it removed its segment.
    fs::write(&segment, &content).unwrap();
    let json = again(&["--json"]);
    assert!(json.contains(r#""completed":{"event_index":32,"first":13,"last":22}"#), "{json}");
    assert!(json.contains(r#""copy_checked":false"#) && json.contains(r#""retired":true"#), "{json}");
    assert!(again(&[]).starts_with("nothing to retire"));
}

#[test]
fn a_lost_record_is_written_again_and_until_then_each_command_says_how() {
    let temp = temp_dir();
    let dir = temp.path();
    sealed_run(dir);
    retire(dir, "13");
    retire(dir, "last");
    let path = dir.join("bus/segments/retired.json");
    let record = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for arguments in [
        &["verify", "bus"][..],
        &["verify", "bus", "--since-last"],
        &["tail", "bus"],
        &["stats", "bus"],
        &["show", "bus", "25"],
        &["state", "bus"],
        &["explain", "bus", "6"],
        &["audit", "bus"],
        &["doctor", "bus"],
        &["report", "bus"],
        &["append", "bus", "--type", "t", "{}"],
        &["seal", "bus"],
        &["backup", "bus", "copy"],
        &["mirror", "bus", "--to", "sqlite:mirror.db"],
        &["retire", "bus", "--before", "last", "--without-copy", "--yes"],
    ] {
        let refused = bus(dir, arguments);
        let output = refused.stdout.clone() + &refused.stderr;
        // What needs the end of the log only still works.
        if refused.code == 0 && ["show", "state", "explain"].contains(&arguments[0]) {
            continue;
        }
        assert_eq!(refused.code, 1, "{arguments:?}: {output}");
        let advice = ["run `zero-bus repair`", "run zero-bus repair bus"];
        assert!(advice.iter().any(|advice| output.contains(advice)), "{arguments:?}: {output}");
    }
    let found = bus(dir, &["repair", "bus"]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.stdout.contains("events 13 to 22 were retired by anna"), "{}", found.stdout);
    assert!(found.stdout.contains("run again with --yes to write segments/retired.json"), "{}", found.stdout);
    assert!(!path.exists());
    let done = bus(dir, &["repair", "bus", "--yes", "--json"]).success();
    assert!(done.contains(r#""ok":true"#) && done.contains(r#""repairable":true"#), "{done}");
    assert_eq!(fs::read(&path).unwrap(), record);
    assert!(bus(dir, &["repair", "bus"]).success().starts_with("nothing to repair"));
    bus(dir, &["verify", "bus", "--min-events", "32"]).success();
    run_cycles(dir, "1", &[]).success_with_warning("the bus lacks the cycles 1 to 5");
}

#[test]
fn a_backup_beside_retirements_is_good_or_absent() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 3_000);
    for keep in (1..=10).rev() {
        bus(dir, &["seal", "bus", "--keep-events", &(keep * 280).to_string()]).success();
    }
    for round in 1..=10 {
        let target = format!("target-{round}");
        let mut backup = Command::new(BUS);
        let backup = backup.args(["backup", "bus", &target]).current_dir(dir).stdout(Stdio::null());
        let mut backup = backup.stderr(Stdio::piped()).spawn().unwrap();
        let before = (280 * round + 1).to_string();
        bus(dir, &["retire", "bus", "--before", &before, "--without-copy", "--yes"]).success();
        if round % 3 == 0 {
            backup.kill().unwrap();
        }
        let ended = backup.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() || ended.status.code().is_none(), "{round}: {message}");
        bus(dir, &["backup", "bus", &target]).success();
        bus(dir, &["verify", &target, "--min-events", "3000"]).success();
    }
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
                Ok(done) => usize::from(done.retired.is_some()),
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
