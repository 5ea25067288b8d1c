//! Signals: one that was ignored at start stays ignored, and process 1 handles them like any other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{BUS, ENGINE, EXAMPLE_SCENARIO, RECORDS, append_events, bus, temp_dir, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Starts a program as `nohup` does, with an ignored signal.
fn start_ignoring(signal: &str, dir: &Path, program: &str, arguments: &[&str]) -> Child {
    Command::new("sh")
        .args(["-c", &format!("trap '' {signal}; exec \"$0\" \"$@\""), program])
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_signal_that_was_ignored_at_start_stays_ignored() {
    let runtime = [&["--scenario", *EXAMPLE_SCENARIO, "--interval", "3600"][..], &RECORDS[..4]].concat();
    let mirror = ["mirror", "bus", "--to", "sqlite:m.db", "--follow"];
    let ingest = ["ingest", "--listen", "127.0.0.1:0", "--to", "sqlite:store.db"];
    let cases: [(&str, &[&str], &str); 3] =
        [(*ENGINE, &runtime, "c.jsonl"), (BUS, &mirror, "m.db"), (BUS, &ingest, "store.db")];
    for (program, arguments, file) in cases {
        for (name, ignored) in [("HUP", Signal::HUP), ("INT", Signal::INT)] {
            let temp = temp_dir();
            let dir = temp.path();
            append_events(dir, 3);
            let mut child = start_ignoring(name, dir, program, arguments);
            let pid = Pid::from_child(&child);
            // The handlers are installed once the program has done its first work.
            wait_until(|| fs::metadata(dir.join(file)).is_ok_and(|file| file.len() > 0));
            let status = || fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
            let mask = |key: &str| {
                let status = status();
                let mask = status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
                u64::from_str_radix(&mask, 16).unwrap()
            };
            wait_until(|| mask("SigCgt:") & (1 << (Signal::TERM.as_raw() - 1)) != 0);
            assert_ne!(mask("SigIgn:") & (1 << (ignored.as_raw() - 1)), 0, "{arguments:?} {name}");
            kill_process(pid, ignored).unwrap();
            kill_process(pid, ignored).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{arguments:?} {name}");
            // Another signal ends it in order.
            kill_process(pid, Signal::TERM).unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// In a container a program is often process 1, which the system ends by no signal that the
/// program does not handle. Without the right to make a process namespace, set
/// `ZERO_TEST_WITHOUT_NAMESPACES=1` to skip this test.
#[test]
fn following_as_process_1_ends_on_sigterm() {
    if std::env::var_os("ZERO_TEST_WITHOUT_NAMESPACES").is_some() {
        return;
    }
    let temp = temp_dir();
    append_events(temp.path(), 1);
    for signal in [Signal::TERM, Signal::INT] {
        let mut unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--map-root-user", "--kill-child", BUS, "tail", "bus", "-f"])
            .current_dir(temp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(unshare.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let pid = unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let tail = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        kill_process(tail, signal).unwrap();
        assert_eq!(unshare.wait().unwrap().code(), Some(128 + signal.as_raw()));
    }
}

#[test]
fn following_ends_when_the_reader_of_its_output_is_gone() {
    let temp = temp_dir();
    append_events(temp.path(), 2);
    // `head` ends after one line. No further event arrives.
    let output = Command::new("bash")
        .args(["-c", "\"$0\" tail bus -f | head -n 1; exit \"${PIPESTATUS[0]}\"", BUS])
        .current_dir(temp.path())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"event_index\":1,"));
    // A file and an open pipe do not end it.
    let mut tail = Command::new(BUS)
        .args(["tail", "bus", "-f"])
        .current_dir(temp.path())
        .stdout(fs::File::create(temp.path().join("out")).unwrap())
        .spawn()
        .unwrap();
    let lines = || fs::read_to_string(temp.path().join("out")).unwrap().lines().count();
    wait_until(|| lines() == 2);
    bus(temp.path(), &["append", "bus", "--type", "t", "{}"]).success();
    wait_until(|| lines() == 3);
    tail.kill().unwrap();
    tail.wait().unwrap();
}
