//! `zero-bus checkpoint` that is killed, and `--every`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use zero_bus::sim::Rng;
use zero_proof::SignedCheckpoint;

use crate::support::proofs::{KEYS, checkpoint, rewrite_log, set_up};
use crate::support::{BUS, append_events, bus, temp_dir};

/// Kills the command at a random moment, then replaces the log by another continuation of what was
/// signed before. Whatever the killed command has shown or stored, both logs are never signed.
#[test]
fn a_kill_never_leads_to_two_inconsistent_signatures() {
    let rounds = if std::env::var_os("ZERO_TEST_SOAK").is_some() { 400 } else { 24 };
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 40);
    let mut dice = Rng::new(3);
    let (mut killed, mut signed_before_kill, mut refused) = (0, 0, 0);
    for round in 0..rounds {
        let size = checkpoint(dir).checkpoint().size;
        copy_log(dir, "bus", "kept");
        bus(dir, &["append", "bus", "--type", "one", "{}"]).success();
        // Sometimes the tiles are built again, which takes longer.
        if dice.below(3) == 0 {
            fs::remove_dir_all(dir.join("bus/tiles")).unwrap();
        }
        let mut child = start(dir, &[]);
        std::thread::sleep(Duration::from_micros(dice.below(20_000) as u64));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        let mut shown = String::new();
        child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        let stored = dir.join(format!("bus.checkpoints/signed.{:012}", size + 1));
        let has_signed = !shown.is_empty() || stored.exists();
        if stored.exists() {
            // What is stored is whole.
            let signed = SignedCheckpoint::parse(&fs::read(&stored).unwrap()).unwrap();
            assert_eq!(signed.checkpoint().size, size + 1);
        }
        signed_before_kill += usize::from(has_signed);
        copy_log(dir, "bus", "true");
        copy_log(dir, "kept", "bus");
        bus(dir, &["append", "bus", "--type", "other", "{}"]).success();
        let other = bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat());
        match other.code {
            0 => assert!(!has_signed, "round {round}: both logs were signed"),
            1 => {
                assert!(other.stderr.contains(&format!("of {} events", size + 1)), "{}", other.stderr);
                refused += 1;
                copy_log(dir, "true", "bus");
            }
            code => panic!("exit {code}: {}", other.stderr),
        }
    }
    println!(
        "{killed} of {rounds} were killed, {signed_before_kill} had signed, {refused} other logs were refused"
    );
    assert!(killed > 0 && refused >= signed_before_kill);
}

fn copy_log(dir: &Path, from: &str, to: &str) {
    fs::create_dir_all(dir.join(to)).unwrap();
    for name in ["events.jsonl", "bus.lock"] {
        fs::copy(dir.join(from).join(name), dir.join(to).join(name)).unwrap();
    }
}

fn start(dir: &Path, options: &[&str]) -> Child {
    Command::new(BUS)
        .args([&["checkpoint", "bus"], &KEYS[..], options].concat())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_service_signs_what_is_new_and_stops_in_order() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    let mut child = start(dir, &["--every", "1s"]);
    let pid = Pid::from_child(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let line = next();
    assert!(line.ends_with("Z  3 events"), "{line}");
    // No other process waits for the service meanwhile, and its checkpoint is not printed again.
    append_events(dir, 1);
    let by_hand = checkpoint(dir).checkpoint().size;
    append_events(dir, 2);
    let mut sizes = Vec::new();
    while sizes.last() != Some(&6) {
        let line = next();
        sizes.push(line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap());
    }
    assert_eq!(by_hand, 4);
    assert!(sizes.is_sorted_by(|one, next| one < next), "{sizes:?}");
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // A log that does not extend what was signed ends it.
    fs::remove_dir_all(dir.join("bus")).unwrap();
    append_events(dir, 2);
    let output = start(dir, &["--every", "1s"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// A disk that is full or not mounted for a while does not end the service; a rewritten log does.
#[test]
fn a_service_survives_errors_of_the_system() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    let mut child = start(dir, &["--every", "1s"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut warnings = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().ends_with("Z  3 events"));
    // The directory of the state is gone, and so is the bus.
    for name in ["bus.checkpoints", "bus"] {
        fs::rename(dir.join(name), dir.join("away")).unwrap();
        fs::write(dir.join(name), "").unwrap();
        let warning = warnings.next().unwrap().unwrap();
        assert!(warning.contains("warning: no checkpoint was signed: "), "{warning}");
        assert!(warning.ends_with("; trying again"), "{warning}");
        fs::remove_file(dir.join(name)).unwrap();
        fs::rename(dir.join("away"), dir.join(name)).unwrap();
        let mut line = warnings.next().unwrap().unwrap();
        while !line.ends_with("checkpoints are signed again") {
            // Between the two renames, the path leads nowhere.
            assert!(line.ends_with("; trying again") || line.contains("does not exist"), "{line}");
            line = warnings.next().unwrap().unwrap();
        }
    }
    append_events(dir, 1);
    assert!(lines.next().unwrap().unwrap().ends_with("Z  4 events"));
    rewrite_log(dir, 2);
    let message = warnings.next().unwrap().unwrap();
    assert!(message.contains("event 2 differs or is missing"), "{message}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
