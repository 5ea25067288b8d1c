//! A bus whose checkpoints are signed.

use std::fs;
use std::path::Path;

use zero_bus::Value;
use zero_proof::key::SignatureType;
use zero_proof::{Policy, SignedCheckpoint, SigningKey};

use super::{append_events, bus, bus_with_input};

/// The options that name key and secret, as [`set_up`] creates them.
pub(crate) const KEYS: [&str; 4] = ["--key", "log.key", "--secret", "bus.secret"];

/// A bus with events, a key, a secret, and a policy without witnesses.
pub(crate) fn set_up(dir: &Path, events: usize) {
    append_events(dir, events);
    create_keys(dir);
    let key = read_key(dir, "log.key");
    let vkey = key.verifier_key(SignatureType::Ed25519).unwrap();
    fs::write(dir.join("policy"), format!("log {vkey}\nquorum none\n")).unwrap();
}

/// Creates the log key and the disclosure secret that [`KEYS`] names.
pub(crate) fn create_keys(dir: &Path) {
    bus(dir, &["key", "new", "--name", "example.com/bus", "-o", "log.key"]).success();
    bus(dir, &["secret", "new", "bus", "-o", "bus.secret"]).success();
}

pub(crate) fn read_key(dir: &Path, name: &str) -> SigningKey {
    SigningKey::parse(&fs::read(dir.join(name)).unwrap()).unwrap()
}

pub(crate) fn checkpoint(dir: &Path) -> SignedCheckpoint {
    let note = bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat()).success();
    SignedCheckpoint::parse(note.as_bytes()).unwrap()
}

/// Replaces the log of [`append_events`] by one with other events from `first` on, without a trace
/// of the old one.
pub(crate) fn rewrite_log(dir: &Path, first: u64) {
    let log = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    let drafts: String = log
        .lines()
        .map(|line| {
            let event = Value::parse(line).unwrap();
            let index = event.get("event_index").and_then(Value::as_u64).unwrap();
            let event_type = if index < first { event.get("event_type").unwrap().as_str().unwrap() } else { "other" };
            let n = event.get("payload").unwrap().get("n").and_then(Value::as_u64).unwrap();
            let trace = event.get("trace_id").unwrap().as_str().unwrap();
            format!(
                "{{\"event_type\":\"{event_type}\",\"payload\":{{\"n\":{n}}},\"as_of\":{n},\"trace_id\":\"{trace}\"}}\n"
            )
        })
        .collect();
    fs::remove_file(dir.join("bus/events.jsonl")).unwrap();
    let _ = fs::remove_file(dir.join("bus/bus.lock"));
    bus_with_input(dir, &["append", "bus", "--batch"], &drafts).success();
}

/// The key of a witness. Its name is that of the witness in the policy of [`add_witnesses`].
pub(crate) fn witness_key(name: &str) -> SigningKey {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SigningKey::from_seeds(name, &seed, None).unwrap()
}

/// Writes a policy that wants all of these witnesses to have cosigned.
pub(crate) fn write_policy(dir: &Path, name: &str, witnesses: &[&str]) -> Policy {
    let log = read_key(dir, "log.key").verifier_key(SignatureType::Ed25519).unwrap();
    let mut text = format!("log {log}\n");
    for witness in witnesses {
        let vkey = witness_key(witness).verifier_key(SignatureType::CosignatureEd25519).unwrap();
        text += &format!("witness {witness} {vkey}\n");
    }
    text += &format!("group all all {}\nquorum all\n", witnesses.join(" "));
    fs::write(dir.join(name), &text).unwrap();
    Policy::parse(text.as_bytes()).unwrap()
}

/// Adds the cosignatures of witnesses, each with its time, to the stored checkpoint of a size.
pub(crate) fn cosign_stored(dir: &Path, size: u64, witnesses: &[(&str, u64)]) {
    let path = dir.join(format!("bus.checkpoints/signed.{size:012}"));
    let mut signed = SignedCheckpoint::parse(&fs::read(&path).unwrap()).unwrap();
    for (witness, time) in witnesses {
        signed.add_signatures(signed.cosign(&witness_key(witness), *time).unwrap()).unwrap();
    }
    fs::write(path, signed.encode()).unwrap();
}
