//! `zero-bus mirror`, `mirror-verify` and `restore`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::runs::run_cycles;
use crate::support::{BUS, append_events, bus, conformance, temp_dir, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::Value;

fn log(bus: &Path) -> Vec<u8> {
    fs::read(bus.join("events.jsonl")).unwrap()
}

#[test]
fn a_bus_is_mirrored_verified_and_restored_byte_for_byte() {
    let temp = temp_dir();
    let dir = temp.path();
    run_cycles(dir, "6", &[]).success();
    let stdout = bus(dir, &["mirror", "bus", "--to", "sqlite:m.db", "--to", "sqlite:again.db"]).success();
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("sqlite:again.db: 30 events of sha256:"), "{lines:?}");
    assert!(lines[1].starts_with("sqlite:m.db: 30 events of sha256:"), "{lines:?}");
    let id = lines[1].rsplit(' ').next().unwrap();
    let verified = bus(dir, &["mirror-verify", "sqlite:m.db"]).success();
    assert!(
        verified.starts_with(&format!("bus             {id}\nmirror    ok    30 events, last sha256:")),
        "{verified}"
    );
    let json = bus(dir, &["mirror-verify", "sqlite:m.db", "--json"]).success();
    let head = json.split("\"last_checksum\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(verified.contains(head));
    assert_eq!(
        json,
        format!(
            "{{\"bus\":\"{id}\",\"events\":30,\"last_checksum\":\"{head}\",\"mirror\":\"sqlite:m.db\",\"ok\":true,\
             \"reason\":\"ok\"}}\n"
        )
    );
    let json = bus(dir, &["restore", "restored/json", "--from", "sqlite:m.db", "--json"]).success();
    assert_eq!(
        json,
        format!(
            "{{\"bus\":\"{id}\",\"events\":30,\"last_checksum\":\"{head}\",\"mirror\":\"sqlite:m.db\"}}\n"
        )
    );
    for (n, arguments) in [&[][..], &["--bus", id], &["--bus", &id[7..19]]].iter().enumerate() {
        let directory = format!("restored/{n}");
        let stdout =
            bus(dir, &[&["restore", &directory, "--from", "sqlite:m.db"], *arguments].concat()).success();
        assert_eq!(stdout, format!("{directory}: 30 events of {id}, from sqlite:m.db\n"));
        assert_eq!(log(&dir.join(&directory)), log(&dir.join("bus")));
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&format!("{directory}/events.jsonl"))), (0o700, 0o600));
    }
    // No file is overwritten.
    let message = bus(dir, &["restore", "restored/0", "--from", "sqlite:m.db"]).failure(2);
    assert_eq!(message, "zero-bus: restored/0: holds `events.jsonl` already; name an empty directory");
    fs::create_dir(dir.join("kept")).unwrap();
    fs::write(dir.join("kept/note"), "mine").unwrap();
    assert!(
        bus(dir, &["restore", "kept", "--from", "sqlite:m.db"]).failure(2).contains("holds `note` already")
    );
    assert_eq!(fs::read_dir(dir.join("kept")).unwrap().count(), 1);
    // The restored bus can be appended to and mirrored.
    bus(dir, &["append", "restored/0", "--type", "note", "{}"]).success();
    let stdout = bus(dir, &["mirror", "restored/0", "--to", "sqlite:m.db"]).success();
    assert!(stdout.contains(": 31 events of "), "{stdout}");
}

#[test]
fn a_contradiction_is_exit_1_and_an_obstacle_exit_2() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 20);
    fs::create_dir_all(dir.join("other")).unwrap();
    fs::create_dir_all(dir.join("short")).unwrap();
    for copy in ["other", "short"] {
        fs::copy(dir.join("bus/events.jsonl"), dir.join(copy).join("events.jsonl")).unwrap();
    }
    bus(dir, &["append", "bus", "--type", "a", "{}"]).success();
    bus(dir, &["append", "other", "--type", "b", "{}"]).success();
    bus(dir, &["mirror", "bus", "--to", "sqlite:m.db"]).success();
    let fork = bus(dir, &["mirror", "other", "--to", "sqlite:m.db"]);
    assert_eq!((fork.code, fork.stdout.as_str()), (1, ""));
    assert!(fork.stderr.contains("sqlite:m.db: holds another chain for bus sha256:"), "{}", fork.stderr);
    assert!(fork.stderr.contains(": event 21 is the first that differs"), "{}", fork.stderr);
    let short = bus(dir, &["mirror", "short", "--to", "sqlite:m.db"]);
    assert_eq!((short.code, short.stderr.lines().count()), (1, 1));
    assert!(
        short.stderr.contains("holds 21 events of bus sha256:")
            && short.stderr.contains("but the log has only 20")
    );
    // A contradiction at one destination does not stop the other.
    let both = bus(dir, &["mirror", "other", "--to", "sqlite:m.db", "--to", "sqlite:other.db"]);
    assert_eq!((both.code, both.stdout.lines().count(), both.stderr.lines().count()), (1, 1, 1), "{both:?}");
    assert!(both.stdout.starts_with("sqlite:other.db: 21 events of "), "{}", both.stdout);
    // An obstacle has precedence over a contradiction.
    let worse = bus(dir, &["mirror", "other", "--to", "sqlite:m.db", "--to", "sqlite:bus"]);
    assert_eq!((worse.code, worse.stderr.lines().count()), (2, 2), "{worse:?}");
    // A damaged log.
    let damaged = conformance().join("logs/mutated-payload");
    let damaged = bus(dir, &["mirror", damaged.to_str().unwrap(), "--to", "sqlite:damaged.db"]);
    assert_eq!(damaged.code, 1);
    assert!(damaged.stderr.contains("checksum mismatch at event 13"), "{}", damaged.stderr);
    assert!(bus(dir, &["mirror-verify", "sqlite:damaged.db"]).success().contains("ok    12 events"));
    for (arguments, problem) in [
        (&["mirror", "none", "--to", "sqlite:m.db"][..], "none: there is no such directory"),
        (&["mirror", "bus", "--to", "ftp://x"], "the address: must begin with sqlite:"),
        (&["mirror", "bus", "--to", "sqlite:"], "names no file; write sqlite:PATH"),
        (&["mirror", "bus", "--to", "sqlite::memory:"], "sqlite::memory:: is a special name of SQLite"),
        (
            &["mirror", "bus", "--to", "sqlite:file:none.db"],
            "sqlite:file:none.db: is a special name of SQLite",
        ),
        (&["mirror", "bus"], "--to <URL>"),
        (&["mirror-verify", "sqlite:none.db"], "sqlite:none.db: there is no such file"),
        (
            &["mirror-verify", "sqlite:m.db", "--bus", "x"],
            "holds no bus whose id starts like this; it holds sha256:",
        ),
        (&["restore", "r", "--from", "sqlite:none.db"], "sqlite:none.db: there is no such file"),
    ] {
        let message = bus(dir, arguments).failure(2);
        assert!(message.contains(problem), "{message}");
    }
    for name in ["none.db", "r", ":memory:", "file:none.db"] {
        assert!(!dir.join(name).exists(), "{name}");
    }
    // Several buses in one destination have to be named.
    bus(dir, &["append", "more", "--type", "a", "{}"]).success();
    bus(dir, &["mirror", "more", "--to", "sqlite:m.db"]).success();
    let message = bus(dir, &["restore", "r", "--from", "sqlite:m.db"]).failure(2);
    assert!(message.contains("holds several buses; name one with --bus: sha256:"), "{message}");
    assert!(!dir.join("r").exists());
    // An empty log has no bus yet.
    fs::create_dir(dir.join("empty")).unwrap();
    let stdout = bus(dir, &["mirror", "empty", "--to", "sqlite:m.db"]).success();
    assert_eq!(stdout, "sqlite:m.db: nothing to mirror: the log has no event yet\n");
}

/// Runs the program with a directory that is mounted read-only.
fn bus_on_read_only_mount(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let script = "mount --bind ro ro && mount -o remount,bind,ro ro && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "--", "sh", "-c", script, "sh", BUS]).args(arguments);
    let output = command.current_dir(dir).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_mirror_on_a_read_only_mount_is_verified_and_restored() {
    if std::env::var("ZERO_TEST_WITHOUT_MOUNT").is_ok_and(|value| value == "1") {
        println!("SKIPPED: a read-only mount, since ZERO_TEST_WITHOUT_MOUNT is set");
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 20);
    fs::create_dir(dir.join("ro")).unwrap();
    bus(dir, &["mirror", "bus", "--to", "sqlite:ro/100% m?.db"]).success();
    assert_eq!(fs::read_dir(dir.join("ro")).unwrap().count(), 1, "no -wal after a clean end");
    let (code, text) = bus_on_read_only_mount(dir, &["mirror-verify", "sqlite:ro/100% m?.db"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok    20 events"), "{text}");
    let (code, text) =
        bus_on_read_only_mount(dir, &["restore", "restored", "--from", "sqlite:ro/100% m?.db"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(log(&dir.join("restored")) == log(&dir.join("bus")));
    let (code, text) = bus_on_read_only_mount(dir, &["mirror", "bus", "--to", "sqlite:ro/100% m?.db"]);
    assert_eq!(code, Some(2), "{text}");
    // A killed process leaves the events in the -wal file. With a -shm file SQLite can read them.
    bus(dir, &["append", "bus", "--type", "x", "{}"]).success();
    let mut child = start_following(dir, &["--to", "sqlite:ro/100% m?.db", "--json"]);
    let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
    reports.find(|report| report.as_ref().unwrap().contains("\"mirrored\":21")).unwrap().unwrap();
    child.kill().unwrap();
    let _ = child.wait().unwrap();
    let (code, text) = bus_on_read_only_mount(dir, &["mirror-verify", "sqlite:ro/100% m?.db"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok    21 events"), "{text}");
    fs::remove_file(dir.join("ro/100% m?.db-shm")).unwrap();
    let (code, text) = bus_on_read_only_mount(dir, &["mirror-verify", "sqlite:ro/100% m?.db"]);
    assert_eq!(code, Some(2), "{text}");
    let remedy =
        "copy ro/100% m?.db and ro/100% m?.db-wal together into a directory of your own, and read the copy";
    assert!(text.contains(remedy), "{text}");
    fs::create_dir(dir.join("copy")).unwrap();
    for name in ["100% m?.db", "100% m?.db-wal"] {
        fs::copy(dir.join("ro").join(name), dir.join("copy").join(name)).unwrap();
    }
    assert!(bus(dir, &["mirror-verify", "sqlite:copy/100% m?.db"]).success().contains("ok    21 events"));
}

fn start_following(dir: &Path, options: &[&str]) -> Child {
    Command::new(BUS)
        .args([&["mirror", "bus", "--follow"], options].concat())
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

/// The sync mark, the snapshot or the destination shows that the log held events.
#[test]
fn an_emptied_log_fails_the_check() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 20);
    bus(dir, &["mirror", "bus", "--to", "sqlite:m.db"]).success();
    let file = dir.join("bus/events.jsonl");
    let check = |expected: &str| {
        for options in [&[][..], &["--follow"]] {
            let arguments = [&["mirror", "bus", "--to", "sqlite:m.db"], options].concat();
            let message = bus(dir, &arguments).failure(1);
            assert!(message.contains(expected), "{message}");
        }
    };
    fs::write(&file, "").unwrap();
    check("the log holds 0 events, but bus.lock records 20: its end is missing");
    fs::remove_file(&file).unwrap();
    check("the log holds 0 events, but bus.lock records 20: its end is missing");
    fs::remove_file(dir.join("bus/bus.lock")).unwrap();
    fs::write(&file, "").unwrap();
    check("sqlite:m.db: holds events, but bus/events.jsonl is empty: the log was emptied");
    // The same log is new for a destination without events.
    let stdout = bus(dir, &["mirror", "bus", "--to", "sqlite:new.db"]).success();
    assert_eq!(stdout, "sqlite:new.db: nothing to mirror: the log has no event yet\n");
}

#[test]
fn following_reports_a_log_that_is_emptied_removed_or_replaced() {
    let temp = temp_dir();
    let dir = temp.path();
    bus(dir, &["append", "other", "--type", "other", "{}"]).success();
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("was emptied or removed", |dir| fs::write(dir.join("bus/events.jsonl"), "").unwrap()),
        ("was emptied or removed", |dir| fs::remove_file(dir.join("bus/events.jsonl")).unwrap()),
        ("was replaced by the log of another bus", |dir| {
            fs::rename(dir.join("other/events.jsonl"), dir.join("bus/events.jsonl")).unwrap();
        }),
    ];
    for (expected, change) in changes {
        let _ = fs::remove_dir_all(dir.join("bus"));
        append_events(dir, 20);
        let mut child = start_following(dir, &["--to", "sqlite:m.db", "--json"]);
        let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
        reports.find(|report| report.as_ref().unwrap().contains("\"mirrored\":20")).unwrap().unwrap();
        // Without the sync mark, only the run itself knows that there were events.
        fs::remove_file(dir.join("bus/bus.lock")).unwrap();
        change(dir);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains("holds 20 of its events"), "{stderr}");
    }
}

/// Starts before the log exists, and continues through a torn tail.
#[test]
fn following_mirrors_events_as_they_become_durable() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::create_dir(dir.join("bus")).unwrap();
    let mut child = start_following(dir, &["--to", "sqlite:a.db", "--to", "sqlite:b.db", "--json"]);
    let mut reports = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| {
        let report = Value::parse(&line.unwrap()).unwrap();
        assert_eq!(report.get("away"), Some(&Value::Null));
        let number = |field: &str| report.get(field).unwrap().as_u64().unwrap();
        assert_eq!(number("lag"), number("events") - number("mirrored"));
        (report.get("destination").unwrap().as_str().unwrap().to_owned(), number("mirrored"))
    });
    let mut wait_for_both = |events: u64| {
        let mut lagging = vec!["sqlite:a.db", "sqlite:b.db"];
        while !lagging.is_empty() {
            let (destination, mirrored) = reports.next().unwrap();
            assert!(mirrored <= events);
            lagging.retain(|other| *other != destination || mirrored < events);
        }
    };
    for events in 1..=10 {
        bus(dir, &["append", "bus", "--type", "x", "{}"]).success();
        wait_for_both(events);
    }
    // A producer dies in the middle of a line. The next one quarantines it.
    let mut torn = fs::OpenOptions::new().append(true).open(dir.join("bus/events.jsonl")).unwrap();
    std::io::Write::write_all(&mut torn, br#"{"as_of":17"#).unwrap();
    let output = bus(dir, &["append", "bus", "--type", "x", "{}"]);
    assert!(
        output.stderr.contains("quarantined an incomplete last line of 11 bytes in"),
        "{}",
        output.stderr
    );
    // The eleventh event records the quarantine.
    wait_for_both(12);
    terminate(&child);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
    for url in ["sqlite:a.db", "sqlite:b.db"] {
        assert!(bus(dir, &["mirror-verify", url]).success().contains("ok    12 events"));
    }
}

/// The message is printed once. A signal ends the wait.
#[test]
fn following_waits_for_an_unreachable_destination() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 3);
    // No process listens on a port that was just released.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://me:secret@127.0.0.1:{port}/none");
    let mut child = start_following(dir, &["--to", &url, "--to", "sqlite:m.db"]);
    let mut messages = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = messages.next().unwrap().unwrap();
    assert!(
        first.starts_with(&format!("zero-bus: postgres://me@127.0.0.1:{port}/none: cannot read it: ")),
        "{first}"
    );
    assert!(first.ends_with("; retrying") && !first.contains("secret"), "{first}");
    wait_until(|| bus(dir, &["mirror-verify", "sqlite:m.db"]).stdout.contains("ok    3 events"));
    terminate(&child);
    assert_eq!(messages.next().map(Result::unwrap), None);
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(stdout.contains("sqlite:m.db: 3 events of ") && stdout.lines().count() == 2, "{stdout}");
}

/// What the destination lacks is not known while it is away, and neither is the length of the log.
#[test]
fn reports_of_a_destination_that_is_away_claim_no_figures() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 3);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = start_following(dir, &["--to", &format!("http://127.0.0.1:{port}"), "--json"]);
    let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
    let report = Value::parse(&reports.next().unwrap().unwrap()).unwrap();
    assert!(report.get("away").unwrap().as_str().is_some());
    for unknown in ["events", "lag", "mirrored"] {
        assert_eq!(report.get(unknown), Some(&Value::Null), "{unknown}");
    }
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The destinations accept the connection and never answer.
#[test]
fn a_signal_ends_the_wait_for_silent_destinations() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 3);
    for follow in [true, false] {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let (http, postgres) =
            (format!("http://127.0.0.1:{port}"), format!("postgres://me@127.0.0.1:{port}/none"));
        let destinations = ["--to", &http, "--to", &postgres, "--to", "sqlite:m.db"];
        let follow_option = if follow { &["--follow"][..] } else { &[] };
        let child = Command::new(BUS)
            .args(["mirror", "bus"])
            .args(destinations)
            .args(follow_option)
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let connections = (silent.accept().unwrap(), silent.accept().unwrap());
        terminate(&child);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let names = format!("{http}, {postgres} within 3 s. Nothing is lost");
        assert!(stderr.contains(&format!("stopped without an answer from {names}")), "{stderr}");
        assert_eq!(output.status.code(), Some(if follow { 0 } else { 128 + Signal::TERM.as_raw() }));
        drop(connections);
    }
}

/// The mirror has each event once although the program is killed while a producer appends.
#[test]
fn mirroring_resumes_after_a_kill_at_any_moment() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 20_000);
    let mut kills = 0;
    for step in 0.. {
        let mut child = start_following(dir, &["--to", "sqlite:m.db", "--json"]);
        // Kills it a short time after up to two reports.
        let mut reports = BufReader::new(child.stdout.take().unwrap()).lines();
        let lagging = reports
            .by_ref()
            .take(step % 3)
            .map(Result::unwrap)
            .take_while(|report| !report.contains("\"lag\":0"));
        assert!(lagging.count() <= step % 3);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(3 + step as u64 * 7 % 60) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
        kills += 1;
        if kills % 5 == 0 {
            append_events(dir, 2000);
        }
        if kills == 30 {
            break;
        }
    }
    // A reader sees what a killed process left in the database's write-ahead log.
    assert!(bus(dir, &["mirror-verify", "sqlite:m.db"]).success().contains("ok    "));
    bus(dir, &["mirror", "bus", "--to", "sqlite:m.db"]).success();
    bus(dir, &["restore", "restored", "--from", "sqlite:m.db"]).success();
    assert!(log(&dir.join("restored")) == log(&dir.join("bus")));
}

/// A killed restore leaves no log.
#[test]
fn a_killed_restore_can_be_repeated() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 20_000);
    bus(dir, &["mirror", "bus", "--to", "sqlite:m.db"]).success();
    let partial = dir.join("restored/events.jsonl.restoring");
    for _ in 0..5 {
        let mut child = Command::new(BUS)
            .args(["restore", "restored", "--from", "sqlite:m.db"])
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(|| {
            fs::metadata(&partial).is_ok_and(|partial| partial.len() > 0)
                || dir.join("restored/events.jsonl").exists()
        });
        child.kill().unwrap();
        let _ = child.wait().unwrap();
        if dir.join("restored/events.jsonl").exists() {
            break;
        }
        assert!(bus(dir, &["verify", "restored", "--json"]).stdout.contains(r#""events":0"#));
        // A restore in progress is not disturbed.
        let partial_file = fs::File::open(&partial).unwrap();
        partial_file.try_lock().unwrap();
        let message = bus(dir, &["restore", "restored", "--from", "sqlite:m.db"]).failure(2);
        assert_eq!(message, "zero-bus: restored: another process is restoring a bus here");
    }
    if !dir.join("restored/events.jsonl").exists() {
        bus(dir, &["restore", "restored", "--from", "sqlite:m.db"]).success();
    }
    assert!(log(&dir.join("restored")) == log(&dir.join("bus")));
    assert_eq!(fs::read_dir(dir.join("restored")).unwrap().count(), 1);
}
