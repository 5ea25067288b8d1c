//! What was signed is compared with the log by every command that reads it, and neither a lost
//! state nor a lost checkpoint lets another log be signed.

use std::fs;
use std::path::Path;
use std::process::Command;

use zero_proof::SignedCheckpoint;
use zero_proof::key::SignatureType;

use crate::support::proofs::{
    KEYS, checkpoint, cosign_stored, create_keys, read_key, rewrite_log, set_up, write_policy,
};
use crate::support::{Finished, append_events, bus, runs, temp_dir, tree};

const STATE: &str = "bus.checkpoints/signed";

fn stored(size: u64) -> String {
    format!("{STATE}.{size:012}")
}

/// Checkpoints of 5 and of 7 events.
fn set_up_signed(dir: &Path) {
    set_up(dir, 5);
    checkpoint(dir);
    append_events(dir, 2);
    checkpoint(dir);
}

fn try_checkpoint(dir: &Path, options: &[&str]) -> Finished {
    bus(dir, &[&["checkpoint", "bus"], &KEYS[..], options].concat())
}

/// Puts back a log that has fewer events, without a trace of the others.
fn truncate_log(dir: &Path, events: usize) {
    let log = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    let kept: String = log.split_inclusive('\n').take(events).collect();
    fs::write(dir.join("bus/events.jsonl"), kept).unwrap();
    let _ = fs::remove_file(dir.join("bus/bus.lock"));
}

#[track_caller]
fn assert_anchor_fails(dir: &Path, expected: &str) {
    for command in ["verify", "status", "doctor"] {
        let checked = bus(dir, &[command, "bus", "--policy", "policy", "--secret", "bus.secret"]);
        assert_eq!(checked.code, 1, "{command}: {}", checked.stdout);
        assert!(checked.stdout.contains(expected), "{command}: {}", checked.stdout);
    }
}

#[test]
fn a_log_that_lacks_what_the_state_records_fails() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up_signed(dir);
    // Whoever cuts the log off deletes the checkpoints that show it, too.
    fs::remove_file(dir.join(stored(7))).unwrap();
    bus(dir, &["verify", "bus", "--policy", "policy", "--secret", "bus.secret"]).success();
    let log = fs::read(dir.join("bus/events.jsonl")).unwrap();
    truncate_log(dir, 5);
    assert_anchor_fails(
        dir,
        "a checkpoint of 7 events was signed, but the log has only 5 valid events: it was truncated or damaged, and events 6 to \
         7 are missing or not valid (bus.checkpoints/signed)",
    );
    fs::write(dir.join("bus/events.jsonl"), log).unwrap();
    rewrite_log(dir, 6);
    let rewritten =
        "events 6 to 7 are not all those that were signed: the log was rewritten (bus.checkpoints/signed)";
    assert_anchor_fails(dir, rewritten);
    fs::write(dir.join(STATE), "").unwrap();
    assert_anchor_fails(dir, "bus.checkpoints/signed: checkpoint state, line 1: the schema is missing");
    fs::remove_file(dir.join(STATE)).unwrap();
    let options = ["verify", "bus", "--policy", "policy", "--secret", "bus.secret"];
    let printed = bus(dir, &options).success_with_warning("bus.checkpoints/signed: does not exist");
    assert!(printed.contains("anchored up to 5 of 7"), "{printed}");
}

#[test]
fn without_the_state_another_log_is_not_signed() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up_signed(dir);
    let older = fs::read(dir.join(STATE)).unwrap();
    append_events(dir, 2);
    checkpoint(dir);
    let log = fs::read(dir.join("bus/events.jsonl")).unwrap();
    let assert_refused = |expected: &str| {
        let before = tree(&dir.join("bus.checkpoints"));
        let refused = try_checkpoint(dir, &[]);
        assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert_eq!(tree(&dir.join("bus.checkpoints")), before);
    };
    // The state is gone, or is an older copy, as after a restore of a backup.
    for older in [None, Some(older)] {
        match &older {
            Some(older) => fs::write(dir.join(STATE), older).unwrap(),
            None => fs::remove_file(dir.join(STATE)).unwrap(),
        }
        truncate_log(dir, 7);
        assert_refused("of 9 events: event 8 differs or is missing");
        fs::write(dir.join("bus/events.jsonl"), &log).unwrap();
        rewrite_log(dir, 8);
        assert_refused("of 9 events: event 8 differs or is missing");
        append_events(dir, 1);
        assert_refused("of 9 events: event 8 differs or is missing");
        // With tiles of the other log, or none.
        fs::remove_dir_all(dir.join("bus/tiles")).unwrap();
        assert_refused("events 1 to 7 are the signed ones, and the first that differs is one of 8 to 9");
        assert_refused("events 1 to 7 are the signed ones, and the first that differs is one of 8 to 9");
        // The log that was signed is signed on, and the state is made again.
        fs::write(dir.join("bus/events.jsonl"), &log).unwrap();
        let _ = fs::remove_file(dir.join("bus/bus.lock"));
        let signed = try_checkpoint(dir, &[]);
        assert_eq!(signed.code, 0, "{}", signed.stderr);
        let warning = "bus.checkpoints/signed: does not exist; the log is compared with the newest stored checkpoint \
                       instead, of 9 events";
        assert_eq!(signed.stderr.contains(warning), older.is_none(), "{}", signed.stderr);
        assert!(fs::read_to_string(dir.join(STATE)).unwrap().contains("\n9\n"));
    }
}

#[test]
fn without_the_signed_tiles_the_stored_checkpoints_tell_what_differs() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up_signed(dir);
    let older = |name: &str| {
        let _ = fs::remove_dir_all(dir.join(name));
        Command::new("cp").args(["-r", "bus", name]).current_dir(dir).status().unwrap();
    };
    older("older");
    append_events(dir, 5);
    checkpoint(dir);
    let log = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    let restore = |events: usize| {
        fs::remove_dir_all(dir.join("bus")).unwrap();
        Command::new("cp").args(["-r", "older", "bus"]).current_dir(dir).status().unwrap();
        let kept: String = log.split_inclusive('\n').take(events).collect();
        fs::write(dir.join("bus/events.jsonl"), kept).unwrap();
        let _ = fs::remove_file(dir.join("bus/bus.lock"));
    };
    let assert_refused = |expected: &str| {
        for options in [&[][..], &["--full-check"]] {
            let message = try_checkpoint(dir, options).failure(1);
            assert!(message.contains(expected), "{message}");
        }
    };
    // An older copy with its own, older tiles.
    restore(7);
    assert_refused("of 12 events: event 8 is missing or damaged, and those before it are the signed ones");
    restore(9);
    assert_refused(
        "of 12 events: event 10 is missing or damaged; events 1 to 7 are the signed ones, and no checkpoint shows",
    );
    restore(12);
    rewrite_log(dir, 9);
    assert_refused(
        "of 12 events: events 1 to 7 are the signed ones, and the first that differs is one of 8 to 12",
    );
    rewrite_log(dir, 6);
    assert_refused(
        "of 12 events: events 1 to 5 are the signed ones, and the first that differs is one of 6 to 7",
    );
}

#[test]
fn a_full_check_names_the_event_that_differs() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 20);
    checkpoint(dir);
    rewrite_log(dir, 12);
    for options in [&["--full-check"][..], &[]] {
        let message = try_checkpoint(dir, options).failure(1);
        assert!(message.contains("of 20 events: event 12 differs or is missing"), "{message}");
    }
}

#[test]
fn status_and_doctor_compare_a_log_that_they_cannot_read() {
    let temp = temp_dir();
    let dir = temp.path();
    runs::run_cycles(dir, "3", &[]).success();
    create_keys(dir);
    checkpoint(dir);
    let vkey = read_key(dir, "log.key").verifier_key(SignatureType::Ed25519).unwrap();
    fs::write(dir.join("policy"), format!("log {vkey}\nquorum none\n")).unwrap();
    truncate_log(dir, 9);
    assert!(dir.join("bus/state-snapshot.json").exists());
    let expected = "a checkpoint of 15 events was signed, but the log has only 9 valid events: it was truncated or damaged, and \
                    events 10 to 15 are missing or not valid";
    for command in ["status", "doctor"] {
        for json in [&[][..], &["--json"]] {
            let options = [command, "bus", "--policy", "policy", "--secret", "bus.secret"];
            let checked = bus(dir, &[&options[..], json].concat());
            assert_eq!(checked.code, 1, "{command}: {}", checked.stdout);
            assert!(checked.stdout.contains(expected), "{command}: {}", checked.stdout);
            assert!(checked.stderr.contains("its end is missing"), "{command}: {}", checked.stderr);
        }
    }
}

#[test]
fn a_wrong_state_is_named_and_made_again_once_it_is_moved_away() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up_signed(dir);
    let state = fs::read(dir.join(STATE)).unwrap();
    for wrong in ["", "zero.runtime.checkpoint-state.v2\n"] {
        fs::write(dir.join(STATE), wrong).unwrap();
        let message = try_checkpoint(dir, &[]).failure(2);
        assert!(
            message
                .contains("bus.checkpoints/signed: cannot be used; restore it from a copy, or move it away")
                && message.contains("checkpoint state, line 1"),
            "{message}"
        );
    }
    // The record of a checkpoint that was never signed, of events that the log has lost since.
    append_events(dir, 1);
    fs::write(dir.join(STATE), &state).unwrap();
    let log = fs::read(dir.join("bus/events.jsonl")).unwrap();
    checkpoint(dir);
    fs::remove_file(dir.join(stored(8))).unwrap();
    truncate_log(dir, 7);
    assert!(try_checkpoint(dir, &[]).failure(1).contains("event 8 differs or is missing"));
    fs::rename(dir.join(STATE), dir.join("wrong")).unwrap();
    bus(dir, &["append", "bus", "--type", "other", "{}"]).success();
    try_checkpoint(dir, &[]).success_with_warning("compared with the newest stored checkpoint instead");
    assert_ne!(fs::read(dir.join("bus/events.jsonl")).unwrap(), log);
    assert_eq!(checkpoint(dir).checkpoint().size, 8);
}

#[test]
fn a_file_that_is_no_checkpoint_is_named_and_does_not_hide_the_others() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up_signed(dir);
    fs::write(dir.join(stored(99)), "junk").unwrap();
    let options = ["verify", "bus", "--policy", "policy", "--secret", "bus.secret"];
    let printed = bus(dir, &options).success_with_warning("ignored: bus.checkpoints/signed.000000000099: ");
    assert!(printed.contains("anchored up to 7 of 7"), "{printed}");
    // Nothing is signed next to it: it could have been the newest checkpoint.
    let message = try_checkpoint(dir, &[]).failure(2);
    assert!(message.contains("signed.000000000099: signed note, line 1"), "{message}");
    fs::remove_file(dir.join(stored(99))).unwrap();
    checkpoint(dir);
}

#[test]
fn a_link_without_a_target_does_not_hide_what_was_signed() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    checkpoint(dir);
    fs::remove_file(dir.join("bus.checkpoints/signed")).unwrap();
    let link = dir.join("bus.checkpoints/signed.999999999999");
    std::os::unix::fs::symlink("/nonexistent", &link).unwrap();
    let refused = try_checkpoint(dir, &[]).failure(2);
    assert!(refused.contains("signed.999999999999"), "{refused}");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nonexistent", dir.join("bus.checkpoints/signed")).unwrap();
    let verify = ["verify", "bus", "--policy", "policy", "--secret", "bus.secret"];
    assert_ne!(bus(dir, &verify).code, 0);
}

#[test]
fn a_second_key_of_the_origin_keeps_the_cosignatures() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    write_policy(dir, "both", &["w1", "w2"]);
    checkpoint(dir);
    cosign_stored(dir, 5, &[("w1", 1_777_593_600), ("w2", 1_777_593_600)]);
    let before = fs::read(dir.join(stored(5))).unwrap();
    bus(dir, &["key", "new", "--name", "example.com/bus", "-o", "second.key", "--ml-dsa"]).success();
    let second = ["checkpoint", "bus", "--key", "second.key", "--secret", "bus.secret"];
    let printed = bus(dir, &second).success();
    let after = fs::read(dir.join(stored(5))).unwrap();
    assert!(after.starts_with(&before) && after == printed.as_bytes());
    assert_eq!(SignedCheckpoint::parse(&after).unwrap().note().signatures().len(), 5);
    // Neither key signs it again.
    assert_eq!(bus(dir, &second).success(), printed);
    assert_eq!(checkpoint(dir).encode(), printed);
    let verify = ["verify", "bus", "--policy", "both", "--secret", "bus.secret"];
    assert!(bus(dir, &verify).success().contains("anchored up to 5 of 5, cosigned by 2 witnesses"));
    // A stored signature of the key that does not verify is not replaced unseen.
    let own = printed.lines().filter(|line| line.starts_with("— example.com/bus ")).nth(1).unwrap();
    let (start, end) = own.split_at(own.len() - 20);
    let flipped = if end.starts_with('A') { "B" } else { "A" };
    let broken = printed.replacen(own, &format!("{start}{flipped}{}", &end[1..]), 1);
    fs::write(dir.join(stored(5)), &broken).unwrap();
    let message = bus(dir, &second).failure(2);
    assert!(
        message.contains("bus.checkpoints/signed.000000000005: signature 4 is not by the key"),
        "{message}"
    );
    assert_eq!(fs::read_to_string(dir.join(stored(5))).unwrap(), broken);
}

/// The promise of PROOF.md: only what is new is read, and a full check reads all.
#[test]
fn an_old_event_that_was_changed_in_place_is_found_by_a_full_check() {
    let temp = temp_dir();
    let dir = temp.path();
    // In a short log, the search for the last event reads the first ones, too.
    set_up(dir, 3000);
    let first = checkpoint(dir);
    let path = dir.join("bus/events.jsonl");
    let log = fs::read_to_string(&path).unwrap();
    let changed = log.replacen("{\"n\":2}", "{\"n\":9}", 1);
    assert_ne!(changed, log);
    fs::write(&path, changed).unwrap();
    // Not noticed, and not signed: the checkpoint is that of the event as it was.
    assert_eq!(checkpoint(dir), first);
    let before = tree(&dir.join("bus.checkpoints"));
    let message = try_checkpoint(dir, &["--full-check"]).failure(1);
    assert!(message.contains("event 2"), "{message}");
    assert_eq!(tree(&dir.join("bus.checkpoints")), before);
    let checked = bus(dir, &["verify", "bus", "--policy", "policy", "--secret", "bus.secret"]);
    assert_eq!(checked.code, 1);
    let expected = "a checkpoint of 3000 events was signed, but the log has only 1 valid event";
    assert!(checked.stdout.contains("event 2") && checked.stdout.contains(expected), "{}", checked.stdout);
    let prove = ["prove", "bus", "2", "--secret", "bus.secret", "--reveal", "*", "-o", "p"];
    assert!(bus(dir, &prove).failure(1).contains("event 2"));
    fs::write(&path, log).unwrap();
    try_checkpoint(dir, &["--full-check"]).success();
}
