//! `zero-bus prove`: which checkpoint it takes, and what it discloses; `check` of special proofs.

use std::fs;
use std::path::Path;

use zero_bus::Value;

use crate::support::proofs::{checkpoint, cosign_stored, set_up, write_policy};
use crate::support::{Finished, append_events, bus, bus_with_input, temp_dir};

fn prove(dir: &Path, options: &[&str]) -> Finished {
    let output: &[&str] = if options.contains(&"-o") { &[] } else { &["-o", "p"] };
    bus(dir, &[&["prove", "bus", "--secret", "bus.secret"], output, options].concat())
}

#[test]
fn the_newest_checkpoint_that_the_policy_accepts_is_taken_and_named() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    write_policy(dir, "both", &["w1", "w2"]);
    checkpoint(dir);
    let options = ["2", "--reveal", "payload/n", "--policy", "both"];
    let message = prove(dir, &options).failure(1);
    let expected = "no stored checkpoint is accepted by the policy; the newest is not: \
                    bus.checkpoints/signed.000000000005: the policy does not accept it: the checkpoint does not meet the quorum";
    assert!(message.contains(expected), "{message}");
    assert!(!dir.join("p").exists());
    cosign_stored(dir, 5, &[("w1", 1_777_593_600), ("w2", 1_777_593_600)]);
    append_events(dir, 2);
    checkpoint(dir);
    assert_eq!(
        prove(dir, &options).success(),
        "p: event 2 of 5 events; discloses /payload/n\n\
         checkpoint: bus.checkpoints/signed.000000000005; accepted by the policy, cosigned by w1, w2\n"
    );
    bus(dir, &["check", "p", "--policy", "both"]).success();
    let json = prove(dir, &[&options[..], &["--json"]].concat()).success();
    let document = Value::parse(json.trim_end()).unwrap();
    let taken = document.get("checkpoint").and_then(Value::as_str);
    assert_eq!(taken, Some("bus.checkpoints/signed.000000000005"));
    assert!(json.contains("\"cosigned_by\":[\"w1\",\"w2\"]"), "{json}");
    // Without a policy, it is the newest one, and nothing is said about witnesses.
    let printed = prove(dir, &["2", "--reveal", "payload/n"]).success();
    assert!(
        printed.ends_with(
            "checkpoint: bus.checkpoints/signed.000000000007; without --policy, its cosignatures were not checked\n"
        ),
        "{printed}"
    );
    let named = ["--checkpoint", "bus.checkpoints/signed.000000000007"];
    let message = prove(dir, &[&options[..], &named].concat()).failure(1);
    assert!(message.contains("signed.000000000007: the policy does not accept it"), "{message}");
}

#[test]
fn names_without_a_field_are_refused_and_proofs_without_fields_warned_about() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 6);
    checkpoint(dir);
    let message = prove(dir, &["--all", "--reveal", "payload/n,payload/nope"]).failure(2);
    assert!(message.contains("no event from 1 to 6 has the field /payload/nope"), "{message}");
    assert!(!dir.join("p").exists());
    prove(dir, &["3"]).success_with_warning("discloses no field, and proves only that the event exists");
    prove(dir, &["--all"]).success_with_warning("discloses only the type of each event");
}

#[test]
fn a_file_that_is_no_proof_is_not_replaced() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    checkpoint(dir);
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    for file in ["bus.secret", "notes.txt"] {
        let before = fs::read(dir.join(file)).unwrap();
        let message = prove(dir, &["2", "--reveal", "payload/n", "-o", file]).failure(2);
        assert!(message.contains(&format!("{file}: exists already and is no proof")), "{message}");
        assert_eq!(fs::read(dir.join(file)).unwrap(), before);
    }
    // A proof, a page and a track record are.
    for arguments in [["2", "-o", "q"], ["2", "-o", "q.html"], ["--all", "-o", "r"]] {
        for _ in 0..2 {
            prove(dir, &[&["--reveal", "payload/n"], &arguments[..]].concat()).success();
        }
    }
}

/// A record may withhold a field of a whole type. The reader sees which fields that may concern.
#[test]
fn names_that_are_neither_disclosed_nor_proven_absent_are_listed() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    let losses = "{\"event_type\":\"loss\",\"payload\":{\"pnl\":-5},\"as_of\":9}\n";
    bus_with_input(dir, &["append", "bus", "--batch"], losses).success();
    checkpoint(dir);
    prove(dir, &["--all", "--reveal", "payload/n,payload/pnl"]).success();
    let shown = bus(dir, &["check", "p", "--policy", "policy"]).success();
    for expected in [
        "a.one: neither disclosed nor proven absent: /payload/pnl\n",
        "loss: neither disclosed nor proven absent: /payload/n\n",
        "warn  11 fields withheld; a withheld field can have the same name as a disclosed one",
    ] {
        assert!(shown.contains(expected), "{shown}");
    }
    let json = bus(dir, &["check", "p", "--policy", "policy", "--json"]).success();
    let document = Value::parse(json.trim_end()).unwrap();
    assert_eq!(document.get("withheld").and_then(Value::as_u64), Some(11));
    assert!(json.contains("\"warnings\":[\"11 fields withheld; "), "{json}");
    let of_loss = document.get("unproven").and_then(|unproven| unproven.get("loss")).unwrap();
    assert_eq!(*of_loss, Value::Array(vec![Value::String("/payload/n".to_owned())]));
}

#[test]
fn a_value_as_deep_as_an_event_allows_is_shown() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 2);
    let deep = format!("{}1{}", "[".repeat(999), "]".repeat(999));
    bus(dir, &["append", "bus", "--type", "deep", &format!("{{\"a\":{deep}}}")]).success();
    checkpoint(dir);
    prove(dir, &["3", "--reveal", "payload/a,event_type"]).success();
    let json = bus(dir, &["check", "p", "--policy", "policy", "--json"]).success();
    let disclosures =
        format!("\"disclosures\":{{\"/event_type\":\"deep\",\"/payload/a\":{deep}}},\"event_index\":3");
    assert!(json.contains(&disclosures), "{json}");
    // In the order and form of any other document.
    prove(dir, &["3", "--reveal", "event_type"]).success();
    let json = bus(dir, &["check", "p", "--policy", "policy", "--json"]).success();
    assert_eq!(zero_bus::Json::parse(json.trim_end()).unwrap().to_string(), json.trim_end());
}

#[test]
fn a_page_is_told_from_a_proof_file() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 2);
    checkpoint(dir);
    bus(dir, &["prove", "bus", "1", "--secret", "bus.secret", "--reveal", "*", "-o", "p.html"]).success();
    let checked = bus(dir, &["check", "p.html", "--policy", "policy"]);
    assert_eq!(checked.code, 1);
    assert!(
        checked.stdout.contains("is a page") && checked.stdout.contains("Save the proof file"),
        "{}",
        checked.stdout
    );
    fs::write(dir.join("q"), "junk").unwrap();
    assert!(!bus(dir, &["check", "q", "--policy", "policy"]).stdout.contains("is a page"));
}
