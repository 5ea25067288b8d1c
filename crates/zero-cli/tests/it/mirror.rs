//! `zero-bus mirror`, `mirror-verify` and `restore`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{BUS, CLOCK, RECORDS, bus, conformance, engine, fill, root, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::Value;

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn log(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("events.jsonl")).unwrap()
}

#[test]
fn a_flight_is_mirrored_verified_and_restored_byte_for_byte() {
    let place = place();
    let here = place.path();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let flight = ["--scenario", scenario.to_str().unwrap(), "--max-cycles", "6", "--interval", "0"];
    engine(here, &[&RECORDS[..], &flight, &["--fixed-clock", CLOCK]].concat()).fine();
    let said = bus(here, &["mirror", "bus", "--to", "sqlite:m.db", "--to", "sqlite:again.db"]).fine();
    let mut said: Vec<&str> = said.lines().collect();
    said.sort_unstable();
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with("sqlite:again.db: 30 events of sha256:"), "{said:?}");
    assert!(said[1].starts_with("sqlite:m.db: 30 events of sha256:"), "{said:?}");
    let id = said[1].rsplit(' ').next().unwrap();
    let verified = bus(here, &["mirror-verify", "sqlite:m.db"]).fine();
    assert!(
        verified.starts_with(&format!("bus             {id}\nmirror    ok    30 events, last sha256:")),
        "{verified}"
    );
    for (n, arguments) in [&[][..], &["--bus", id], &["--bus", &id[7..19]]].iter().enumerate() {
        let directory = format!("restored/{n}");
        let said =
            bus(here, &[&["restore", &directory, "--from", "sqlite:m.db"], *arguments].concat()).fine();
        assert_eq!(said, format!("{directory}: 30 events of {id}, from sqlite:m.db\n"));
        assert_eq!(log(&here.join(&directory)), log(&here.join("bus")));
        let mode = |path: &str| fs::metadata(here.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&format!("{directory}/events.jsonl"))), (0o700, 0o600));
    }
    // What is there is not written over, whatever it is.
    let said = bus(here, &["restore", "restored/0", "--from", "sqlite:m.db"]).refused();
    assert_eq!(said, "zero-bus: restored/0: holds `events.jsonl` already; name an empty directory");
    fs::create_dir(here.join("kept")).unwrap();
    fs::write(here.join("kept/note"), "mine").unwrap();
    assert!(
        bus(here, &["restore", "kept", "--from", "sqlite:m.db"]).refused().contains("holds `note` already")
    );
    assert_eq!(fs::read_dir(here.join("kept")).unwrap().count(), 1);
    // What was restored goes on where it was.
    bus(here, &["append", "restored/0", "--type", "note", "{}"]).fine();
    let said = bus(here, &["mirror", "restored/0", "--to", "sqlite:m.db"]).fine();
    assert!(said.contains(": 31 events of "), "{said}");
}

#[test]
fn what_does_not_fit_is_told_by_its_exit_code() {
    let place = place();
    let here = place.path();
    fill(here, 20);
    fs::create_dir_all(here.join("other")).unwrap();
    fs::create_dir_all(here.join("short")).unwrap();
    for copy in ["other", "short"] {
        fs::copy(here.join("bus/events.jsonl"), here.join(copy).join("events.jsonl")).unwrap();
    }
    bus(here, &["append", "bus", "--type", "a", "{}"]).fine();
    bus(here, &["append", "other", "--type", "b", "{}"]).fine();
    bus(here, &["mirror", "bus", "--to", "sqlite:m.db"]).fine();
    let fork = bus(here, &["mirror", "other", "--to", "sqlite:m.db"]);
    assert_eq!((fork.code, fork.out.as_str()), (1, ""));
    assert!(fork.err.contains("sqlite:m.db: holds another chain for bus sha256:"), "{}", fork.err);
    assert!(fork.err.contains(": event 21 is the first that differs"), "{}", fork.err);
    let short = bus(here, &["mirror", "short", "--to", "sqlite:m.db"]);
    assert_eq!((short.code, short.err.lines().count()), (1, 1));
    assert!(
        short.err.contains("holds 21 events of bus sha256:") && short.err.contains("but the log has only 20")
    );
    // One destination that does not fit keeps nothing from the other.
    let both = bus(here, &["mirror", "other", "--to", "sqlite:m.db", "--to", "sqlite:other.db"]);
    assert_eq!((both.code, both.out.lines().count(), both.err.lines().count()), (1, 1, 1), "{both:?}");
    assert!(both.out.starts_with("sqlite:other.db: 21 events of "), "{}", both.out);
    // What cannot be done weighs more than what was found wanting.
    let worse = bus(here, &["mirror", "other", "--to", "sqlite:m.db", "--to", "sqlite:bus"]);
    assert_eq!((worse.code, worse.err.lines().count()), (2, 2), "{worse:?}");
    // Damage.
    let damaged = conformance().join("logs/mutated-payload");
    let damaged = bus(here, &["mirror", damaged.to_str().unwrap(), "--to", "sqlite:damaged.db"]);
    assert_eq!(damaged.code, 1);
    assert!(damaged.err.contains("checksum mismatch at event 13"), "{}", damaged.err);
    assert!(bus(here, &["mirror-verify", "sqlite:damaged.db"]).fine().contains("ok    12 events"));
    for (arguments, problem) in [
        (&["mirror", "none", "--to", "sqlite:m.db"][..], "none: there is no such directory"),
        (&["mirror", "bus", "--to", "ftp://x"], "the address: must begin with sqlite:"),
        (&["mirror", "bus", "--to", "sqlite:"], "names no file; write sqlite:PATH"),
        (&["mirror", "bus"], "--to <URL>"),
        (&["mirror-verify", "sqlite:none.db"], "sqlite:none.db: there is no such file"),
        (
            &["mirror-verify", "sqlite:m.db", "--bus", "x"],
            "holds no bus whose id starts like this; it holds sha256:",
        ),
        (&["restore", "r", "--from", "sqlite:none.db"], "sqlite:none.db: there is no such file"),
    ] {
        let said = bus(here, arguments).refused();
        assert!(said.contains(problem), "{said}");
    }
    assert!(!here.join("none.db").exists() && !here.join("r").exists());
    // Several buses in one destination have to be named.
    bus(here, &["append", "more", "--type", "a", "{}"]).fine();
    bus(here, &["mirror", "more", "--to", "sqlite:m.db"]).fine();
    let said = bus(here, &["restore", "r", "--from", "sqlite:m.db"]).refused();
    assert!(said.contains("holds several buses; name one with --bus: sha256:"), "{said}");
    assert!(!here.join("r").exists());
    // An empty log has no bus yet.
    fs::create_dir(here.join("empty")).unwrap();
    let said = bus(here, &["mirror", "empty", "--to", "sqlite:m.db"]).fine();
    assert_eq!(said, "sqlite:m.db: nothing to mirror, as there is no event yet\n");
}

fn follow(here: &Path, more: &[&str]) -> Child {
    Command::new(BUS)
        .args([&["mirror", "bus", "--follow"], more].concat())
        .current_dir(here)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Events come as they become durable, to every destination, from a log that was not there yet, through a torn end and
/// what comes behind it.
#[test]
fn following_goes_on_through_what_happens_to_the_log() {
    let place = place();
    let here = place.path();
    fs::create_dir(here.join("bus")).unwrap();
    let mut child = follow(here, &["--to", "sqlite:a.db", "--to", "sqlite:b.db", "--json"]);
    let mut reports = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| {
        let report = Value::parse(&line.unwrap()).unwrap();
        assert_eq!(report.get("away"), Some(&Value::Null));
        let number = |field: &str| report.get(field).unwrap().as_u64().unwrap();
        assert_eq!(number("lag"), number("events") - number("mirrored"));
        (report.get("destination").unwrap().as_str().unwrap().to_owned(), number("mirrored"))
    });
    let mut until_both_have = |events: u64| {
        let mut waited_for = vec!["sqlite:a.db", "sqlite:b.db"];
        while !waited_for.is_empty() {
            let (destination, mirrored) = reports.next().unwrap();
            assert!(mirrored <= events);
            waited_for.retain(|waited| *waited != destination || mirrored < events);
        }
    };
    for events in 1..=10 {
        bus(here, &["append", "bus", "--type", "x", "{}"]).fine();
        until_both_have(events);
    }
    // A writer dies in the middle of a line, and the next one sets that aside.
    let mut torn = fs::OpenOptions::new().append(true).open(here.join("bus/events.jsonl")).unwrap();
    std::io::Write::write_all(&mut torn, br#"{"as_of":17"#).unwrap();
    let ended = bus(here, &["append", "bus", "--type", "x", "{}"]);
    assert!(ended.err.contains("was set aside"), "{}", ended.err);
    until_both_have(11);
    signal(&child, Signal::TERM);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
    for url in ["sqlite:a.db", "sqlite:b.db"] {
        assert!(bus(here, &["mirror-verify", url]).fine().contains("ok    11 events"));
    }
}

/// A destination that is away is said once, and waited for; a signal ends the waiting.
#[test]
fn a_destination_that_is_away_is_waited_for() {
    let place = place();
    let here = place.path();
    fill(here, 3);
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://me:secret@127.0.0.1:{port}/none");
    let mut child = follow(here, &["--to", &url, "--to", "sqlite:m.db"]);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert!(
        first.starts_with(&format!("zero-bus: postgres://me@127.0.0.1:{port}/none: cannot read it: ")),
        "{first}"
    );
    assert!(first.ends_with("; trying again") && !first.contains("secret"), "{first}");
    wait_until(|| bus(here, &["mirror-verify", "sqlite:m.db"]).out.contains("ok    3 events"));
    signal(&child, Signal::TERM);
    assert_eq!(said.next().map(Result::unwrap), None);
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(out.contains("sqlite:m.db: 3 events of ") && out.lines().count() == 2, "{out}");
}

/// The real program is killed again and again while a writer appends; what is there afterwards is all, once.
#[test]
fn killed_at_any_moment_it_goes_on() {
    let place = place();
    let here = place.path();
    fill(here, 20_000);
    let mut kills = 0;
    for step in 0.. {
        let mut child = follow(here, &["--to", "sqlite:m.db", "--json"]);
        // Behind so many batches, and then some.
        let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
        let behind = reports
            .by_ref()
            .take(step % 3)
            .map(Result::unwrap)
            .take_while(|report| !report.contains("\"lag\":0"));
        assert!(behind.count() <= step % 3);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(3 + step as u64 * 7 % 60) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
        kills += 1;
        if kills % 5 == 0 {
            fill(here, 2000);
        }
        if kills == 30 {
            break;
        }
    }
    // What a killed process left in the file's log beside it is read also by who only looks.
    assert!(bus(here, &["mirror-verify", "sqlite:m.db"]).fine().contains("ok    "));
    bus(here, &["mirror", "bus", "--to", "sqlite:m.db"]).fine();
    bus(here, &["restore", "restored", "--from", "sqlite:m.db"]).fine();
    assert!(log(&here.join("restored")) == log(&here.join("bus")));
}

/// A restore that was killed has left no bus, and is simply done again.
#[test]
fn a_killed_restore_is_done_again() {
    let place = place();
    let here = place.path();
    fill(here, 20_000);
    bus(here, &["mirror", "bus", "--to", "sqlite:m.db"]).fine();
    let partial = here.join("restored/events.jsonl.restoring");
    for _ in 0..5 {
        let mut child = Command::new(BUS)
            .args(["restore", "restored", "--from", "sqlite:m.db"])
            .current_dir(here)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(|| {
            fs::metadata(&partial).is_ok_and(|partial| partial.len() > 0)
                || here.join("restored/events.jsonl").exists()
        });
        child.kill().unwrap();
        let _ = child.wait().unwrap();
        if here.join("restored/events.jsonl").exists() {
            break;
        }
        assert!(bus(here, &["verify", "restored", "--json"]).out.contains(r#""events":0"#));
        // One that is at work is left alone.
        let held = fs::File::open(&partial).unwrap();
        held.try_lock().unwrap();
        let said = bus(here, &["restore", "restored", "--from", "sqlite:m.db"]).refused();
        assert_eq!(said, "zero-bus: restored: another process is restoring a bus here");
    }
    if !here.join("restored/events.jsonl").exists() {
        bus(here, &["restore", "restored", "--from", "sqlite:m.db"]).fine();
    }
    assert!(log(&here.join("restored")) == log(&here.join("bus")));
    assert_eq!(fs::read_dir(here.join("restored")).unwrap().count(), 1);
}
