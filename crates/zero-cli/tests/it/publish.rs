//! `zero-bus publish`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use zero_bus::Value;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::key::SignatureType;
use zero_proof::tile::{Layer, Tile, encode_entries, encode_hashes, new_tiles};
use zero_proof::tree::CompactRange;
use zero_proof::{Entry, Hash, Node};

use crate::judge::Judge;
use crate::support::proofs::{checkpoint, read_key, rewrite_log, set_up};
use crate::support::{Finished, append_events, bus, events, temp_dir, tree};

fn publish(dir: &Path, size: u64) -> Finished {
    let checkpoint = format!("bus.checkpoints/signed.{size:012}");
    bus(dir, &["publish", "bus", "--secret", "bus.secret", "--checkpoint", &checkpoint, "--to", "site/log"])
}

fn secret(dir: &Path) -> DisclosureSecret {
    DisclosureSecret::parse(&fs::read(dir.join("bus.secret")).unwrap()).unwrap()
}

/// The files that a tree of the first events has, made from the log alone.
fn expected_tiles(dir: &Path, size: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries: Vec<Entry> =
        events(dir).iter().take(size as usize).map(|event| Entry::of(event, &secret(dir))).collect();
    let mut nodes: BTreeMap<Node, Hash> = BTreeMap::new();
    let mut range = CompactRange::empty(0);
    for entry in &entries {
        let mut insert = |node, hash| {
            nodes.insert(node, hash);
        };
        range.push(entry.leaf_hash(), &mut insert).unwrap();
    }
    let mut files = BTreeMap::new();
    for tile in new_tiles(0, size).unwrap() {
        let Layer::Hashes(level) = tile.layer else { unreachable!() };
        let hashes: Vec<Hash> = tile.range().map(|index| nodes[&Node { level: 8 * level, index }]).collect();
        files.insert(PathBuf::from(tile.path()), encode_hashes(&hashes));
        if level == 0 {
            let texts: Vec<String> = tile.range().map(|index| entries[index as usize].encode()).collect();
            let tile = Tile { layer: Layer::Entries, ..tile };
            files.insert(PathBuf::from(tile.path()), encode_entries(&texts).unwrap());
        }
    }
    files
}

/// Every byte of the publication is a byte of the checkpoint, of a hash or of an entry; and no
/// value that only the log knows occurs in it.
#[test]
fn a_publication_holds_nothing_but_sizes_times_and_hashes() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 300);
    for (number, text) in ["tangerine", "kumquat"].iter().enumerate() {
        let payload = format!("{{\"note\":\"{text}\",\"price\":64012.{number}}}");
        bus(dir, &["append", "bus", "--type", "decision.record", "--trace-id", "persimmon", &payload])
            .success();
    }
    let signed = checkpoint(dir);
    assert_eq!(publish(dir, 302).success(), "site/log: 302 events of example.com/bus, 6 new files\n");
    let mut published: BTreeMap<PathBuf, Vec<u8>> = tree(&dir.join("site/log")).into_iter().collect();
    assert_eq!(published.remove(Path::new("checkpoint")), Some(signed.encode().into_bytes()));
    assert_eq!(published, expected_tiles(dir, 302));
    let secret = fs::read(dir.join("bus.secret")).unwrap();
    let mut secrets: Vec<Vec<u8>> = vec![secret.clone(), secret[..8].to_vec()];
    secrets.extend(
        ["tangerine", "kumquat", "persimmon", "64012", "decision.record", "a.one", "b.one"]
            .map(|text| text.as_bytes().to_vec()),
    );
    for event in events(dir) {
        let text = event.checksum.to_string();
        let hex = text.strip_prefix("sha256:").unwrap();
        let bytes = hex.as_bytes().chunks(2);
        secrets.push(
            bytes.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect(),
        );
        secrets.push(hex.as_bytes()[..16].to_vec());
    }
    for (path, content) in &published {
        for secret in &secrets {
            let occurs = content.windows(secret.len()).any(|window| window == secret);
            assert!(!occurs, "{}: {}", path.display(), String::from_utf8_lossy(secret));
        }
    }
}

#[test]
fn only_what_is_new_is_published_and_the_checkpoint_last() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 250);
    checkpoint(dir);
    publish(dir, 250).success();
    assert!(publish(dir, 250).success().ends_with("250 events of example.com/bus, 0 new files\n"));
    let first = tree(&dir.join("site/log"));
    append_events(dir, 300);
    let signed = checkpoint(dir);
    // Tiles of a publication that was interrupted before its checkpoint, and a file that it left.
    fs::create_dir_all(dir.join("site/log/tile/0/001.p")).unwrap();
    fs::write(dir.join("site/log/tile/0/000"), "torn").unwrap();
    fs::write(dir.join("site/log/tile/0/000.tmp"), "torn").unwrap();
    publish(dir, 550).success();
    let all: BTreeMap<PathBuf, Vec<u8>> = tree(&dir.join("site/log")).into_iter().collect();
    assert_eq!(all[Path::new("checkpoint")], signed.encode().as_bytes());
    for (path, content) in expected_tiles(dir, 550) {
        assert_eq!(all[&path], content, "{}", path.display());
    }
    // What readers of the older checkpoint may still need has not changed.
    for (path, content) in first.iter().filter(|(path, _)| path != Path::new("checkpoint")) {
        assert_eq!(&all[path], content, "{}", path.display());
    }
    let document = bus(
        dir,
        &[
            "publish",
            "bus",
            "--secret",
            "bus.secret",
            "--checkpoint",
            "bus.checkpoints/signed.000000000550",
            "--to",
            "site/log",
            "--json",
        ],
    );
    let document = Value::parse(document.success().trim_end()).unwrap();
    assert_eq!(document.get("files_new").and_then(Value::as_u64), Some(0));
    let message = publish(dir, 250).failure(2);
    assert!(message.contains("has 550 events already"), "{message}");
}

#[test]
fn nothing_is_published_into_the_directory_of_the_state() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    checkpoint(dir);
    let before = tree(dir);
    let publish =
        ["publish", "bus", "--secret", "bus.secret", "--checkpoint", "bus.checkpoints/signed.000000000003"];
    for to in ["bus.checkpoints", "bus.checkpoints/../bus.checkpoints"] {
        let message = bus(dir, &[&publish[..], &["--to", to]].concat()).failure(2);
        assert!(message.contains("is the directory of the stored checkpoints"), "{message}");
    }
    assert_eq!(tree(dir), before);
}

#[test]
fn what_contradicts_the_log_or_the_publication_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 6);
    checkpoint(dir);
    publish(dir, 6).success();
    let before = tree(&dir.join("site"));
    let message = bus(
        dir,
        &[
            "publish",
            "bus",
            "--secret",
            "bus.secret",
            "--checkpoint",
            "bus.checkpoints/signed.000000000006",
            "--to",
            "bus/site",
        ],
    )
    .failure(2);
    assert!(message.contains("is inside the bus"), "{message}");
    // Another log with a state of its own, signed with a copy of the key: its record would refuse.
    rewrite_log(dir, 3);
    append_events(dir, 1);
    let message = publish(dir, 6).failure(1);
    assert!(message.contains("the first 6 events have another tree"), "{message}");
    fs::copy(dir.join("log.key"), dir.join("copy.key")).unwrap();
    let options = ["--key", "copy.key", "--secret", "bus.secret", "--state", "other/signed"];
    bus(dir, &[&["checkpoint", "bus"], &options[..]].concat()).success();
    let publish_other = |to: &str| {
        bus(
            dir,
            &[
                "publish",
                "bus",
                "--secret",
                "bus.secret",
                "--checkpoint",
                "other/signed.000000000007",
                "--to",
                to,
            ],
        )
    };
    let message = publish_other("site/log").failure(1);
    assert!(message.contains("the log does not lead to what is published"), "{message}");
    assert_eq!(tree(&dir.join("site")), before);
    publish_other("elsewhere").success();
}

/// Go's `sumdb/note` and `sumdb/tlog` verify the published files: signature, every tile, every
/// entry.
#[test]
fn go_verifies_a_publication() {
    let Some(mut judge) = Judge::start() else { return };
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 600);
    for size in [600, 1100] {
        let signed = checkpoint(dir);
        publish(dir, size).success();
        let log = read_key(dir, "log.key").verifier_key(SignatureType::Ed25519).unwrap();
        let note = fs::read_to_string(dir.join("site/log/checkpoint")).unwrap();
        let opened = judge.ask(json!({ "op": "open", "vkeys": [log.to_string()], "text": note }));
        assert_eq!(opened["signers"], json!(["example.com/bus"]), "{opened}");
        let site = dir.join("site/log");
        let root = signed.checkpoint().root.to_string();
        let tiles = json!({ "op": "check_tiles", "dir": site, "size": size, "root": root });
        assert_eq!(judge.ask(tiles.clone())["checked"], json!(size));
        append_events(dir, 500);
        if size == 1100 {
            let path = site.join("tile/entries/002");
            let mut entries = fs::read(&path).unwrap();
            entries[100] ^= 1;
            fs::write(&path, entries).unwrap();
            assert!(!judge.accepts(tiles));
        }
    }
}
