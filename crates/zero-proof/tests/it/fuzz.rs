//! Runs the fuzz targets over their corpus and over seeded mutations of it: a bounded run that
//! needs no fuzzer. Inputs that a longer run found are in the corpus.

#[path = "../../../../fuzz/proof_targets.rs"]
mod targets;

#[path = "../../../../fuzz/bounded.rs"]
mod bounded;

use std::fs;

use bounded::{Mutations, folder};
use zero_proof::disclosure::payload_field;
use zero_proof::entry::disclosures;
use zero_proof::key::SignatureType;
use zero_proof::tile::{Layer, Tile, encode_entries, encode_hashes};
use zero_proof::track_record::TrackRecordBuilder;
use zero_proof::tree::prove_consistency;
use zero_proof::{AddCheckpoint, Entry, Proof};

use crate::support::{ORIGIN, checkpoint_of, events, leaves_of, secret, signer, vkey};

fn run(target: &str, check: fn(&[u8])) {
    let mutations =
        Mutations { count: 5_000, max_edits: 3, bytes: b"\n =+0Aa\xff", piece_bytes: 60, min_corpus: 1 };
    mutations.run(target, check);
}

#[test]
fn keys() {
    run("vkey", targets::vkey);
    run("key_file", targets::key_file);
}

#[test]
fn notes_and_checkpoints() {
    run("note", targets::note);
    run("checkpoint", targets::checkpoint);
    run("add_checkpoint", targets::add_checkpoint);
}

#[test]
fn policies() {
    run("policy", targets::policy);
}

#[test]
fn entries_and_disclosures() {
    run("entry", targets::entry);
    run("disclosure", targets::disclosure);
    run("extra", targets::extra);
}

#[test]
fn proofs() {
    run("proof", targets::proof);
}

#[test]
fn track_records() {
    run("track_record", targets::track_record);
}

#[test]
fn tiles() {
    run("tile", targets::tile);
}

/// The valid inputs of the corpus are what this version writes. To write them again after a change
/// of a format, set `ZERO_WRITE_CORPUS=1`.
#[test]
fn the_corpus_holds_one_valid_input_of_each_form() {
    let log = signer(ORIGIN);
    let witness = signer("a.example");
    let events = events(9);
    let leaves = leaves_of(&events);
    let event = &events[5];
    let names = ["/event_type", "/payload/symbol"];
    let proof = Proof::prove(event, &secret(), &names, leaves.inclusion(5), checkpoint_of(&leaves)).unwrap();
    let six = leaves_of(&events[..6]);
    let mut record = TrackRecordBuilder::new(2, &[payload_field("allowed")]).unwrap();
    events[1..4].iter().for_each(|event| record.push(event, &secret()).unwrap());
    let record = record.finish(&six.covering(0, 1), &six.covering(4, 6), &checkpoint_of(&six)).unwrap();
    let checkpoint = checkpoint_of(&leaves);
    let grown = prove_consistency(6, 9, |node| leaves.node(node)).unwrap();
    let request = AddCheckpoint { old_size: 6, proof: grown, checkpoint: checkpoint.clone() };
    let tile = |layer, content: Vec<u8>| {
        let path = Tile { layer, index: 0, width: 9 }.path();
        [path.as_bytes(), b"\n", &content].concat()
    };
    let entries: Vec<String> = events.iter().map(|event| Entry::of(event, &secret()).encode()).collect();
    let policy = format!(
        "log {}\nwitness a {} https://a.example/\ngroup g 1 a\nquorum g\n",
        vkey(&log, SignatureType::Ed25519),
        vkey(&witness, SignatureType::CosignatureEd25519),
    );
    for (target, name, content) in [
        ("vkey", "ed25519", vkey(&log, SignatureType::Ed25519).to_string().into_bytes()),
        ("vkey", "ml-dsa-44", vkey(&log, SignatureType::CosignatureMlDsa44).to_string().into_bytes()),
        ("key_file", "both", log.encode().as_bytes().to_vec()),
        ("note", "checkpoint", checkpoint.encode().into_bytes()),
        ("checkpoint", "plain", checkpoint.checkpoint().text().into_bytes()),
        ("add_checkpoint", "six-to-nine", request.encode().into_bytes()),
        ("policy", "accepts-the-corpus", policy.into_bytes()),
        ("entry", "plain", entries[5].clone().into_bytes()),
        ("disclosure", "member", disclosures(event, &secret())[4].as_str().as_bytes().to_vec()),
        ("extra", "two-of-eight", proof.extra.clone().unwrap()),
        ("proof", "two-of-eight", proof.encode().into_bytes()),
        ("track_record", "three-of-six", record.into_bytes()),
        ("tile", "entries", tile(Layer::Entries, encode_entries(&entries).unwrap())),
        ("tile", "hashes", tile(Layer::Hashes(0), encode_hashes(&leaves.0))),
    ] {
        let path = folder(target).join(name);
        if std::env::var_os("ZERO_WRITE_CORPUS").is_some() {
            fs::create_dir_all(folder(target)).unwrap();
            fs::write(&path, &content).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), content, "{}", path.display());
    }
}
