//! `zero-bus key`, `secret`, `checkpoint`, `prove` and `check`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use zero_bus::Value;
use zero_proof::key::SignatureType;

use crate::support::proofs::{KEYS, checkpoint, read_key, rewrite_log, set_up};
use crate::support::{append_events, bus, temp_dir, tree};

#[test]
fn a_key_is_created_once_and_shown_with_each_use() {
    let temp = temp_dir();
    let dir = temp.path();
    let printed = bus(dir, &["key", "new", "--name", "example.com/bus", "-o", "k", "--ml-dsa"]).success();
    assert_eq!(fs::metadata(dir.join("k")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(bus(dir, &["key", "show", "k"]).success(), printed);
    let key = read_key(dir, "k");
    let vkey = |signature_type| key.verifier_key(signature_type).unwrap();
    assert_eq!(
        printed,
        format!(
            "log      {}\nwitness  {}\nml-dsa   {}\n",
            vkey(SignatureType::Ed25519),
            vkey(SignatureType::CosignatureEd25519),
            vkey(SignatureType::CosignatureMlDsa44)
        )
    );
    let document = Value::parse(bus(dir, &["key", "show", "k", "--json"]).success().trim_end()).unwrap();
    assert_eq!(document.get("name").and_then(Value::as_str), Some("example.com/bus"));
    let before = fs::read(dir.join("k")).unwrap();
    let message = bus(dir, &["key", "new", "--name", "other", "-o", "k"]).failure(2);
    assert!(message.contains("k: exists already, and is not replaced"), "{message}");
    assert_eq!(fs::read(dir.join("k")).unwrap(), before);
    // Without ML-DSA there is no such key, and keys differ.
    let plain = bus(dir, &["key", "new", "--name", "example.com/bus", "-o", "k2"]).success();
    assert_eq!(plain.lines().count(), 2);
    assert_ne!(plain.lines().next(), printed.lines().next());
    // OpenSSL reads the Ed25519 key.
    let openssl =
        Command::new("openssl").args(["pkey", "-in", "k2", "-noout", "-text"]).current_dir(dir).output();
    if let Ok(openssl) = openssl {
        assert!(String::from_utf8_lossy(&openssl.stdout).contains("ED25519 Private-Key"), "{openssl:?}");
    }
    for (name, problem) in [("a b", "contains a space"), ("a+b", "contains a `+`"), ("", "is empty")] {
        let message = bus(dir, &["key", "new", "--name", name, "-o", "k3"]).failure(2);
        assert!(message.contains(problem), "{message}");
        assert!(!dir.join("k3").exists());
    }
}

#[test]
fn keys_and_secrets_stay_outside_the_bus_and_private() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    fs::create_dir(dir.join("bus/deeper")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    let before = tree(dir);
    for arguments in [
        &["key", "new", "--name", "n", "-o", "bus/k"][..],
        &["key", "new", "--name", "n", "-o", "bus/deeper/k"],
        &["secret", "new", "bus", "-o", "bus/deeper/s"],
        &["secret", "new", "empty", "-o", "empty/s"],
    ] {
        let message = bus(dir, arguments).failure(2);
        assert!(message.contains("is inside the bus"), "{message}");
    }
    assert!(bus(dir, &["secret", "new", "none", "-o", "s"]).failure(2).contains("no such directory"));
    let message = bus(dir, &["secret", "new", "bus", "-o", "bus.secret"]).failure(2);
    assert!(message.contains("exists already"), "{message}");
    assert_eq!(tree(dir), before);
    let secret = fs::read(dir.join("bus.secret")).unwrap();
    assert_eq!(secret.len(), 32);
    assert_eq!(fs::metadata(dir.join("bus.secret")).unwrap().permissions().mode() & 0o777, 0o600);
    bus(dir, &["secret", "new", "bus", "-o", "second"]).success();
    assert_ne!(fs::read(dir.join("second")).unwrap(), secret);
    // Files that others may read, or that are inside the bus, are not used.
    for name in ["log.key", "bus.secret"] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o640)).unwrap();
        let message = bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat()).failure(2);
        assert!(message.contains(&format!("{name}: other users may access it; run: chmod 600")), "{message}");
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::rename(dir.join("bus.secret"), dir.join("bus/s")).unwrap();
    let message = bus(dir, &["checkpoint", "bus", "--key", "log.key", "--secret", "bus/s"]).failure(2);
    assert!(message.contains("bus/s: is inside the bus"), "{message}");
    // A message about a file that is no key quotes nothing of it.
    fs::write(dir.join("log.key"), "Name: x\nhunter2\n").unwrap();
    let message = bus(dir, &["key", "show", "log.key"]).failure(2);
    assert!(message.contains("log.key: key file, line 2") && !message.contains("hunter2"), "{message}");
}

#[test]
fn each_checkpoint_extends_the_last_and_is_stored() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    let first = checkpoint(dir);
    assert_eq!((first.checkpoint().origin.as_str(), first.checkpoint().size), ("example.com/bus", 3));
    assert_eq!(checkpoint(dir), first);
    let stored = |size: u64| fs::read(dir.join(format!("bus.checkpoints/signed.{size:012}"))).unwrap();
    assert_eq!(stored(3), first.encode().as_bytes());
    append_events(dir, 2);
    let second = checkpoint(dir);
    assert_eq!((second.checkpoint().size, stored(5)), (5, second.encode().into_bytes()));
    // The tiles can be deleted.
    fs::remove_dir_all(dir.join("bus/tiles")).unwrap();
    assert_eq!(checkpoint(dir), second);
    let json = bus(dir, &[&["checkpoint", "bus", "--json"], &KEYS[..]].concat()).success();
    let document = Value::parse(json.trim_end()).unwrap();
    assert_eq!(document.get("events").and_then(Value::as_u64), Some(5));
    assert_eq!(document.get("checkpoint").and_then(Value::as_str), Some(second.encode().as_str()));
    assert_eq!(document.get("stored").and_then(Value::as_str), Some("bus.checkpoints/signed.000000000005"));
    assert_eq!(document.get("quorum"), Some(&Value::Null));
    for name in ["bus.checkpoints", "bus.checkpoints/signed", "bus/tiles", "bus/tiles/tiles.0"] {
        let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    // Other paths of the bus have the same state.
    assert_eq!(
        bus(&dir.join("bus"), &["checkpoint", ".", "--key", "../log.key", "--secret", "../bus.secret"])
            .success(),
        second.encode()
    );
    // Moved, with what is stored next to it.
    fs::rename(dir.join("bus.checkpoints"), dir.join("elsewhere")).unwrap();
    let state = ["--state", "elsewhere/signed"];
    assert_eq!(bus(dir, &[&["checkpoint", "bus/"], &KEYS[..], &state].concat()).success(), second.encode());
    assert!(!dir.join("bus.checkpoints").exists());
}

#[test]
fn what_must_not_be_signed_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    let refused =
        |options: &[&str]| bus(dir, &[&["checkpoint", "bus"], &KEYS[..], options].concat()).failure(2);
    let message = refused(&["--state", "bus/state"]);
    assert!(message.contains("is inside the bus"), "{message}");
    let message = refused(&["--origin", "example.com/other"]);
    assert!(message.contains("the key signs as `example.com/bus`, not as `example.com/other`"), "{message}");
    fs::write(dir.join("other-policy"), "quorum none\n").unwrap();
    let message = refused(&["--policy", "other-policy"]);
    assert!(message.contains("add the line: log example.com/bus+"), "{message}");
    assert!(refused(&["--every", "0s"]).contains("at least 1s"));
    assert!(!dir.join("bus.checkpoints").exists() && !dir.join("bus/tiles").exists());
    bus(
        dir,
        &[&["checkpoint", "bus", "--origin", "example.com/bus", "--policy", "policy"], &KEYS[..]].concat(),
    )
    .success();
    // A state belongs to one origin.
    bus(dir, &["key", "new", "--name", "example.com/other", "-o", "other.key"]).success();
    let message = bus(dir, &["checkpoint", "bus", "--key", "other.key", "--secret", "bus.secret"]).failure(2);
    assert!(message.contains("name another state with --state"), "{message}");
}

#[test]
fn a_log_that_does_not_extend_what_was_signed_is_refused_with_the_first_difference() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 6);
    let older: Vec<_> = tree(&dir.join("bus"));
    append_events(dir, 4);
    checkpoint(dir);
    let state = tree(&dir.join("bus.checkpoints"));
    let checkpoint_fails = |expected: &str| {
        let message = bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat()).failure(1);
        assert!(message.contains(expected), "{message}");
        assert_eq!(tree(&dir.join("bus.checkpoints")), state);
    };
    rewrite_log(dir, 8);
    checkpoint_fails("of 10 events: event 8 differs or is missing");
    // Restored from an older copy, to which events were appended since.
    for (name, content) in &older {
        fs::write(dir.join("bus").join(name), content).unwrap();
    }
    checkpoint_fails("event 7 differs or is missing");
    for _ in 0..5 {
        bus(dir, &["append", "bus", "--type", "other", "{}"]).success();
    }
    checkpoint_fails("event 7 differs or is missing");
    // Without the tiles the first difference is unknown, and the log is refused all the same.
    fs::remove_dir_all(dir.join("bus/tiles")).unwrap();
    checkpoint_fails("which event differs is unknown");
    fs::write(dir.join("bus/events.jsonl"), "").unwrap();
    assert_eq!(bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat()).code, 1);
}

#[test]
fn a_proof_shows_what_it_discloses_and_nothing_else() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 20);
    checkpoint(dir);
    append_events(dir, 5);
    let prove = |options: &[&str]| bus(dir, &[&["prove", "bus", "--secret", "bus.secret"], options].concat());
    let printed = prove(&["7", "--reveal", "event_type,/payload/n", "-o", "p"]).success();
    assert!(printed.starts_with("p: event 7 of 20 events; discloses /event_type, /payload/n\n"), "{printed}");
    let shown = bus(dir, &["check", "p", "--policy", "policy"]).success();
    for expected in [
        "event 7 of the log example.com/bus\n",
        "/event_type  \"a.two\"\n",
        "/payload/n   7\n",
        "2 of 5 fields disclosed\n",
        "the event is in the tree of the first 20 events\n",
        "signed by the log, key example.com/bus+",
        "no witness has cosigned",
        "3 fields withheld; a withheld field can have the same name as a disclosed one, and another value\n",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let json = bus(dir, &["check", "p", "--policy", "policy", "--json"]).success();
    assert!(json.contains("\"disclosures\":{\"/event_type\":\"a.two\",\"/payload/n\":7}"), "{json}");
    assert!(
        json.contains("\"warnings\":[\"3 fields withheld; ") && json.contains("\"withheld\":3"),
        "{json}"
    );
    // All fields, and none.
    prove(&["-6", "--reveal", "*", "-o", "all"]).success();
    let shown = bus(dir, &["check", "all", "--policy", "policy"]).success();
    assert!(shown.contains("event 20 of the log") && shown.contains("5 of 5 fields disclosed"), "{shown}");
    assert!(!shown.contains("withheld"), "{shown}");
    let json = bus(dir, &["check", "all", "--policy", "policy", "--json"]).success();
    assert!(
        json.contains("\"warnings\":[\"no witness has cosigned") && json.contains("\"withheld\":0"),
        "{json}"
    );
    prove(&["1", "-o", "none"]).success_with_warning("discloses no field");
    assert!(bus(dir, &["check", "none", "--policy", "policy"]).success().contains("0 of 5 fields disclosed"));
    // A page with the same proof. The tests of zero-proof run it in a browser.
    prove(&["1", "-o", "none.html"]).success_with_warning("discloses no field");
    let proof = zero_proof::Proof::parse(&fs::read(dir.join("none")).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(dir.join("none.html")).unwrap(), zero_proof::page::html(&proof));
    // What cannot be proven.
    for (options, expected) in [
        (&["last", "-o", "x"][..], "event 25 is not in the checkpoint, which ends with event 20"),
        (&["26", "-o", "x"], "has no event 26"),
        (
            &["3", "--reveal", "payload/none", "-o", "x"],
            "event 3: `/payload/none` is not a field of this event",
        ),
        (&["3", "--reveal", "checksum", "-o", "x"], "`/checksum` may be disclosed only together"),
        (&["3", "-o", "bus/x"], "is inside the bus"),
    ] {
        let message = prove(options).failure(2);
        assert!(message.contains(expected), "{message}");
        assert!(!dir.join("x").exists());
    }
    let message = bus(dir, &["prove", "bus", "3", "--secret", "log.key", "-o", "x"]).failure(2);
    assert!(message.contains("log.key: longer than 32 bytes"), "{message}");
}

#[test]
fn a_proof_that_was_changed_proves_nothing() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 9);
    checkpoint(dir);
    bus(dir, &["prove", "bus", "4", "--secret", "bus.secret", "--reveal", "*", "-o", "p"]).success();
    let proof = fs::read(dir.join("p")).unwrap();
    let check = |content: &[u8], policy: &str| {
        fs::write(dir.join("q"), content).unwrap();
        bus(dir, &["check", "q", "--policy", policy])
    };
    // A bit of each tenth byte, so that every part is hit.
    for at in (0..proof.len()).step_by(10) {
        let mut changed = proof.clone();
        changed[at] ^= 1;
        let checked = check(&changed, "policy");
        assert_eq!(checked.code, 1, "byte {at}: {}", checked.stdout);
        assert!(checked.stdout.contains("not proven: "), "{}", checked.stdout);
    }
    assert_eq!(check(b"", "policy").code, 1);
    // Another log, and another policy.
    bus(dir, &["key", "new", "--name", "example.com/bus", "-o", "other.key"]).success();
    let other = read_key(dir, "other.key").verifier_key(SignatureType::Ed25519).unwrap();
    fs::write(dir.join("other-policy"), format!("log {other}\nquorum none\n")).unwrap();
    let checked = check(&proof, "other-policy");
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("none of the known keys has signed"), "{}", checked.stdout);
    let json = bus(dir, &["check", "p", "--policy", "other-policy", "--json"]);
    assert!(json.stdout.starts_with("{\"ok\":false,\"reason\":"), "{}", json.stdout);
    fs::write(dir.join("other-policy"), "log nothing\n").unwrap();
    let message = bus(dir, &["check", "p", "--policy", "other-policy"]).failure(2);
    assert!(message.contains("other-policy: policy, line 1"), "{message}");
}

#[test]
fn a_track_record_leaves_no_event_out() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 30);
    checkpoint(dir);
    let prove = |options: &[&str]| {
        bus(
            dir,
            &[
                &["prove", "bus", "--all", "--secret", "bus.secret", "--reveal", "payload/n", "-o", "r"],
                options,
            ]
            .concat(),
        )
    };
    assert!(prove(&[]).success().starts_with("r: events 1 to 30 of 30 events; discloses /payload/n\n"));
    let shown = bus(dir, &["check", "r", "--policy", "policy"]).success();
    for expected in [
        "events 1 to 30",
        "a.one: 10 events\n",
        "10 numbers, sum 165, smallest 3, largest 30",
        "none is left out",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.contains("nothing is stated about"), "{shown}");
    let record = fs::read_to_string(dir.join("r")).unwrap();
    // Without the line of one event.
    let cut: String =
        record.lines().enumerate().filter(|(at, _)| *at != 10).map(|(_, line)| format!("{line}\n")).collect();
    fs::write(dir.join("cut"), cut.replacen("events 1 30", "events 1 29", 1)).unwrap();
    let checked = bus(dir, &["check", "cut", "--policy", "policy"]);
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("not proven: "), "{}", checked.stdout);
    // With one event in place of another.
    let mut lines: Vec<&str> = record.lines().collect();
    lines[10] = lines[13];
    fs::write(dir.join("cut"), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let checked = bus(dir, &["check", "cut", "--policy", "policy"]);
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("do not lead to the root of the 30 leaves"), "{}", checked.stdout);
    // A range.
    prove(&["--from", "4", "--to", "-3"]).success();
    let shown = bus(dir, &["check", "r", "--policy", "policy"]).success();
    assert!(shown.contains("events 4 to 28") && shown.contains("before 4 or after 28"), "{shown}");
    let json = bus(dir, &["check", "r", "--policy", "policy", "--json"]).success();
    let document = Value::parse(json.trim_end()).unwrap();
    let events = document.get("aggregates").unwrap().get("events").and_then(Value::as_u64);
    assert_eq!((events, document.get("first").and_then(Value::as_u64)), (Some(25), Some(4)));
    assert!(prove(&["--from", "9", "--to", "8"]).failure(2).contains("no event from 9 to 8"));
    let arguments = ["prove", "bus", "--all", "--secret", "bus.secret", "-o", "r.html"];
    assert!(bus(dir, &arguments).failure(2).contains("a track record has no page"));
    assert!(prove(&["--to", "31"]).failure(2).contains("event 31 is not in the checkpoint"));
}

#[test]
fn an_older_checkpoint_and_another_secret_are_told_apart() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    checkpoint(dir);
    append_events(dir, 5);
    checkpoint(dir);
    let older = "bus.checkpoints/signed.000000000005";
    let printed = bus(
        dir,
        &["prove", "bus", "2", "--secret", "bus.secret", "--checkpoint", older, "-o", "p", "--reveal", "*"],
    )
    .success();
    assert!(printed.contains("event 2 of 5 events"), "{printed}");
    bus(dir, &["check", "p", "--policy", "policy"]).success();
    bus(dir, &["secret", "new", "bus", "-o", "other.secret"]).success_with_warning("has a tree already");
    for arguments in [
        &["prove", "bus", "2", "--secret", "other.secret", "-o", "x"][..],
        &["checkpoint", "bus", "--key", "log.key", "--secret", "other.secret"],
    ] {
        let message = bus(dir, arguments).failure(1);
        assert!(message.contains("the secret is that of another bus"), "{message}");
    }
    assert_eq!(checkpoint(dir).checkpoint().size, 10);
    rewrite_log(dir, 9);
    let message = bus(dir, &["prove", "bus", "2", "--secret", "bus.secret", "-o", "x"]).failure(1);
    assert!(message.contains("the first 10 events have another tree"), "{message}");
    let arguments =
        ["prove", "bus", "2", "--secret", "bus.secret", "--reveal", "*", "--checkpoint", older, "-o", "x"];
    bus(dir, &arguments).success();
}
