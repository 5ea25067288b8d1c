//! Records under names that are not UTF-8.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use zero_bus::Reader;
use zero_paper::reconcile::check_journal;

use crate::support::{Finished, command, example_scenario};

/// `d`, a byte that UTF-8 does not have, `.jsonl`.
const JOURNAL: &[u8] = b"d\xff.jsonl";
const CYCLE_JOURNAL: &[u8] = b"dir\xfe/c\xff.jsonl";
const BUS: &[u8] = b"bus\xfd";

fn run_cycles(directory: &Path, cycles: &str) -> Finished {
    let scenario = example_scenario();
    let options = ["--scenario", scenario.to_str().unwrap(), "--max-cycles", cycles, "--interval", "0"];
    let mut command = command(directory, &options);
    for (option, path) in [("--journal", JOURNAL), ("--cycle-journal", CYCLE_JOURNAL), ("--runtime-bus", BUS)]
    {
        command.arg(option).arg(OsStr::from_bytes(path));
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn records_under_names_that_are_not_utf8_are_kept_and_recovered() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &[u8]| directory.path().join(OsStr::from_bytes(path));
    assert_eq!(run_cycles(directory.path(), "2").success().stderr, "");
    let finished = run_cycles(directory.path(), "2").success();
    assert_eq!(finished.stderr, "");
    // The record names the journal as text.
    assert!(finished.stdout.contains(r#""journal_path": "d\ufffd.jsonl""#), "{}", finished.stdout);
    let lines = |path| fs::read_to_string(at(path)).unwrap().lines().count();
    assert_eq!((lines(JOURNAL), lines(CYCLE_JOURNAL)), (4, 4));
    assert_eq!(at(JOURNAL).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let check = check_journal(&at(JOURNAL), &Reader::open(at(BUS)).unwrap()).unwrap();
    assert_eq!((check.decisions, check.decisions_ahead), (4, 0));
}

#[test]
fn a_torn_line_under_a_name_that_is_not_utf8_is_quarantined_next_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join(OsStr::from_bytes(JOURNAL));
    run_cycles(directory.path(), "2").success();
    let whole = fs::read(&journal).unwrap();
    fs::write(&journal, [&whole[..], b"{\"allow"].concat()).unwrap();
    let finished = run_cycles(directory.path(), "1").success();
    assert!(
        finished.stderr.contains("quarantined an incomplete last line of 7 bytes"),
        "{}",
        finished.stderr
    );
    let mut quarantine = journal.into_os_string();
    quarantine.push(format!(".torn-at-{}", whole.len()));
    assert_eq!(fs::read(quarantine).unwrap(), b"{\"allow");
}

#[test]
fn a_link_under_a_name_that_is_not_utf8_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join(OsStr::from_bytes(JOURNAL));
    fs::write(directory.path().join("file"), "").unwrap();
    symlink("file", &journal).unwrap();
    let finished = run_cycles(directory.path(), "1").failure(2);
    assert!(finished.stderr.contains("it is a symbolic link, which is not followed"), "{}", finished.stderr);
    assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing was created");
}

#[test]
fn a_start_warns_of_a_snapshot_that_contradicts_the_log() {
    let directory = tempfile::tempdir().unwrap();
    run_cycles(directory.path(), "2").success();
    let path = directory.path().join(OsStr::from_bytes(BUS)).join(zero_bus::SNAPSHOT);
    let snapshot = fs::read_to_string(&path).unwrap();
    assert!(snapshot.contains("\"event_count\":10"), "{snapshot}");
    fs::write(&path, snapshot.replace("\"event_count\":10", "\"event_count\":9")).unwrap();
    let warned = run_cycles(directory.path(), "1").success().stderr;
    assert!(
        warned.contains(
            "state-snapshot.json: snapshot checksum does not match event log; the state follows from"
        ),
        "{warned}"
    );
    // The cycle has replaced it.
    assert_eq!(run_cycles(directory.path(), "1").success().stderr, "");
}

/// A crash would otherwise leave a journal that no start can repair.
#[test]
fn a_new_journal_whose_name_leaves_no_room_for_recovery_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = example_scenario();
    let run = |journal: &str| {
        let options = ["--scenario", scenario.to_str().unwrap(), "--max-cycles", "1", "--interval", "0"];
        let output = command(directory.path(), &options).args(["--journal", journal]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for too_long in ["k".repeat(216), "k".repeat(255)] {
        let (code, message) = run(&too_long);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains("name a file with at most 215 bytes"), "{message}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let longest = "k".repeat(215);
    assert_eq!(run(&longest), (Some(0), String::new()));
    let journal = directory.path().join(&longest);
    let whole = fs::read(&journal).unwrap();
    fs::write(&journal, [&whole[..], b"{\"allow"].concat()).unwrap();
    let (code, message) = run(&longest);
    assert_eq!(code, Some(0), "{message}");
    assert!(message.contains("quarantined an incomplete last line of 7 bytes"), "{message}");
    // A journal that exists is not refused, so that an older one can go on.
    let older = directory.path().join("k".repeat(255));
    fs::rename(&journal, &older).unwrap();
    assert_eq!(run(&"k".repeat(255)), (Some(0), String::new()));
}
