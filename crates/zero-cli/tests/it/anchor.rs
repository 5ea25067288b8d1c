//! `zero-bus verify --policy`, and the same in `doctor`, `status` and `public`.

use std::fs;
use std::path::Path;

use zero_bus::Value;

use crate::support::proofs::{
    KEYS, checkpoint, cosign_stored, create_keys, rewrite_log, set_up, write_policy,
};
use crate::support::{Finished, append_events, bus, runs, temp_dir, tree};

/// 2026-05-01T00:00:00Z.
const TIME: u64 = 1_777_593_600;

fn verify(dir: &Path, policy: &str) -> Finished {
    bus(dir, &["verify", "bus", "--policy", policy, "--secret", "bus.secret"])
}

/// Five events that two witnesses have cosigned, two more that are only signed, and one more.
fn set_up_anchored(dir: &Path) {
    set_up(dir, 5);
    write_policy(dir, "both", &["w1", "w2"]);
    checkpoint(dir);
    cosign_stored(dir, 5, &[("w1", TIME), ("w2", TIME + 60)]);
    append_events(dir, 2);
    checkpoint(dir);
    append_events(dir, 1);
}

#[test]
fn verify_says_up_to_which_event_the_log_is_anchored() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up_anchored(dir);
    let before = tree(dir);
    let line = "anchor    ok    anchored up to 5 of 8, cosigned by 2 witnesses at 2026-05-01T00:01:00Z; the last 3 events \
                are not anchored\n";
    let printed = verify(dir, "both").success();
    assert!(printed.ends_with(line), "{printed}");
    // Only the log has signed the newest one.
    let printed = verify(dir, "policy").success();
    assert!(printed.ends_with("anchored up to 7 of 8, cosigned by 0 witnesses, at an unknown time; the last event is not anchored\n"), "{printed}");
    let json = bus(dir, &["verify", "bus", "--policy", "both", "--secret", "bus.secret", "--json"]).success();
    let document = Value::parse(json.trim_end()).unwrap();
    let anchor = document.get("anchor").unwrap();
    let number = |name: &str| anchor.get(name).and_then(Value::as_u64);
    assert_eq!(
        (number("anchored"), number("events"), number("cosigned_at")),
        (Some(5), Some(8), Some(TIME + 60))
    );
    // Doctor and status say the same; without the option they say nothing of it.
    let sentence = line.split("  ").last().unwrap();
    let options = ["--policy", "both", "--secret", "bus.secret"];
    for command in ["doctor", "status"] {
        let printed = bus(dir, &[&[command, "bus"], &options[..]].concat()).stdout;
        assert!(printed.contains(sentence.trim_end()), "{command}: {printed}");
        let printed = bus(dir, &[&[command, "bus", "--json"], &options[..]].concat()).stdout;
        assert!(printed.contains("anchor"), "{command}: {printed}");
        for json in [&[][..], &["--json"]] {
            let printed = bus(dir, &[&[command, "bus"], json].concat()).stdout;
            assert!(
                !printed.contains("anchored up to") && !printed.contains("\"anchor\""),
                "{command}: {printed}"
            );
        }
    }
    assert!(bus(dir, &["verify", "bus", "--policy", "both"]).failure(2).contains("--secret"));
    assert_eq!(tree(dir), before);
}

#[test]
fn the_earliest_cosignature_counts_and_one_from_the_future_is_warned_of() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    write_policy(dir, "both", &["w1", "w2"]);
    checkpoint(dir);
    // Until the year 2100.
    cosign_stored(dir, 5, &[("w2", 4_102_444_800), ("w1", TIME + 60), ("w1", TIME)]);
    let warning = "witness w2 states a time in the future, 2100-01-01T00:00:00Z";
    let printed = bus(dir, &["verify", "bus", "--policy", "both", "--secret", "bus.secret"]);
    assert!(printed.code == 0 && printed.stderr.contains(warning), "{}", printed.stderr);
    bus(dir, &["prove", "bus", "5", "--secret", "bus.secret", "--reveal", "*", "-o", "p"]).success();
    let shown = bus(dir, &["check", "p", "--policy", "both"]).success();
    assert!(shown.contains("cosigned by witness w1 at 2026-05-01T00:00:00Z, "), "{shown}");
    assert!(shown.contains(&format!("warn  {warning}")) && !shown.contains("withheld"), "{shown}");
    let json = bus(dir, &["check", "p", "--policy", "both", "--json"]).success();
    assert!(json.contains(&format!("\"warnings\":[\"{warning}")), "{json}");
    let doctor = bus(dir, &["doctor", "bus", "--policy", "both", "--secret", "bus.secret"]).stdout;
    assert!(doctor.contains("anchored up to 5 of 5") && !doctor.contains("unanchored"), "{doctor}");
    assert!(bus(dir, &["doctor", "bus"]).stdout.contains("an unanchored chain cannot show"));
}

#[test]
fn a_log_that_contradicts_its_checkpoints_fails() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up_anchored(dir);
    rewrite_log(dir, 7);
    let assert_fails = |expected: &str| {
        let checked = verify(dir, "both");
        assert_eq!(checked.code, 1, "{}", checked.stdout);
        assert!(
            checked.stdout.contains("anchor    FAIL  ") && checked.stdout.contains(expected),
            "{}",
            checked.stdout
        );
        let options = ["--policy", "both", "--secret", "bus.secret"];
        for command in ["doctor", "status"] {
            let checked = bus(dir, &[&[command, "bus"], &options[..]].concat());
            assert!(checked.code == 1 && checked.stdout.contains(expected), "{command}: {}", checked.stdout);
        }
    };
    assert_fails(
        "events 6 to 7 are not all those that were signed: the log was rewritten (bus.checkpoints/signed.000000000007)",
    );
    rewrite_log(dir, 2);
    assert_fails("the first 5 events are not those that were signed: the log was rewritten");
    fs::remove_dir_all(dir.join("bus")).unwrap();
    append_events(dir, 4);
    assert_fails("a checkpoint of 5 events was signed, but the log has only 4 valid events");
}

#[test]
fn a_log_without_an_accepted_checkpoint_is_not_anchored() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    write_policy(dir, "both", &["w1", "w2"]);
    let assert_fails = |policy: &str, expected: &str| {
        let checked = verify(dir, policy);
        assert_eq!(checked.code, 1, "{}", checked.stdout);
        assert!(checked.stdout.contains(expected), "{}", checked.stdout);
    };
    assert_fails("both", "no checkpoint is stored next to bus.checkpoints/signed");
    checkpoint(dir);
    assert_fails("both", "the checkpoint does not meet the quorum `all`; cosigned by: nobody");
    cosign_stored(dir, 5, &[("w1", TIME)]);
    assert_fails("both", "cosigned by: w1");
    cosign_stored(dir, 5, &[("w2", TIME)]);
    let printed = verify(dir, "both").success();
    assert!(
        printed.ends_with("anchored up to 5 of 5, cosigned by 2 witnesses at 2026-05-01T00:00:00Z\n"),
        "{printed}"
    );
    // A checkpoint that another key signed says nothing about this log.
    let path = dir.join("bus.checkpoints/signed.000000000005");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("example.com/bus\n", "example.com/other\n", 1)).unwrap();
    assert_fails("both", "the policy lists no log with the origin `example.com/other`");
    fs::write(&path, "nothing").unwrap();
    let checked = verify(dir, "both");
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    assert!(checked.stderr.contains("signed.000000000005: signed note, line 1"), "{}", checked.stderr);
}

#[test]
fn public_exports_carry_the_checkpoint_of_their_figures() {
    let temp = temp_dir();
    let dir = temp.path();
    runs::run_cycles(dir, "3", &[]).success();
    create_keys(dir);
    let signed = bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat()).success();
    let export = |export: &str, options: &[&str]| {
        let common = ["public", export, "bus", "--handle", "desk", "--generated-at", "0"];
        bus(dir, &[&common[..], options].concat()).success()
    };
    let before = ["profile", "intelligence"].map(|name| export(name, &[]));
    runs::run_cycles(dir, "2", &[]).success();
    let id = runs::lines(&dir.join("bus/events.jsonl"))[0].clone();
    let id = Value::parse(&id).unwrap().get("checksum").and_then(Value::as_str).unwrap().to_owned();
    let options = ["--secret", "bus.secret", "--checkpoint", "bus.checkpoints/signed.000000000015"];
    for (name, before) in ["profile", "intelligence"].into_iter().zip(before) {
        let text = export(name, &options);
        let Value::Object(mut members) = Value::parse(text.trim_end()).unwrap() else { panic!("{text}") };
        let carried = members.remove("checkpoint").unwrap();
        assert_eq!(carried.get("events").and_then(Value::as_u64), Some(15));
        assert_eq!(carried.get("note").and_then(Value::as_str), Some(signed.as_str()));
        // Apart from it, the figures are those of the time of the checkpoint.
        assert_eq!(Value::Object(members), Value::parse(before.trim_end()).unwrap());
        assert!(!text.contains(&id) && !text.contains(id.strip_prefix("sha256:").unwrap()), "{text}");
        assert_ne!(export(name, &[]), before);
    }
    // A checkpoint of another log is refused.
    append_events(&dir.join("bus.checkpoints"), 20);
    let arguments = ["public", "profile", "bus.checkpoints/bus", "--handle", "desk"];
    let message = bus(dir, &[&arguments[..], &options[..]].concat()).failure(1);
    assert!(message.contains("the first 15 events have another tree"), "{message}");
}
