//! Go's `sumdb/note` and `sumdb/tlog` verify what this library makes, and make what it verifies.
//!
//! The program is `conformance/judges/tlog`. The tests need Debian's packages golang-go and
//! golang-golang-x-mod-dev; `ZERO_TEST_WITHOUT_GO=1` skips them.

use serde_json::{Value, json};
use zero_proof::key::SignatureType;
use zero_proof::tile::{
    Layer, Tile, decode_entries, decode_hashes, encode_entries, encode_hashes, new_tiles, node_hash,
};
use zero_proof::tree::{check_consistency, check_inclusion, prove_consistency};
use zero_proof::{Error, Hash, Node, Note, SignedCheckpoint, VerifierKey};

use crate::judge::Judge;
use crate::support::{Leaves, ORIGIN, base64, checkpoint_of, signer, vkey};

const SIZES: [u64; 14] = [1, 2, 3, 4, 7, 8, 9, 31, 255, 256, 257, 1000, 65_536, 70_000];

fn hashes(value: &Value) -> Vec<Hash> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect()
}

fn hash(value: &Value) -> Hash {
    value.as_str().unwrap().parse().unwrap()
}

fn texts(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(Hash::to_string).collect()
}

#[test]
fn go_opens_our_notes_and_checkpoints_and_refuses_changed_ones() {
    let Some(mut judge) = Judge::start() else { return };
    let key = signer(ORIGIN);
    let vkeys = [vkey(&key, SignatureType::Ed25519).to_string()];
    for text in ["text\n", "\n", "one\n\ntwo \u{2014} three\n", "\u{2014} x AAAA\n"] {
        let note = Note::sign(text, &key).unwrap().encode();
        let answer = judge.ask(json!({"op": "open", "vkeys": vkeys, "text": note}));
        assert_eq!(answer, json!({"text": text, "signers": [ORIGIN]}), "{note}");
        assert!(!judge.accepts(json!({"op": "open", "vkeys": vkeys, "text": format!("x{note}")})));
    }
    // A checkpoint with signatures of three types, of which Go knows one.
    let signed = checkpoint_of(&Leaves::numbered(9));
    let answer = judge.ask(json!({"op": "open", "vkeys": vkeys, "text": signed.encode()}));
    assert_eq!(answer["text"], signed.checkpoint().text());
}

#[test]
fn we_verify_go_s_notes_and_agree_on_its_vkeys() {
    let Some(mut judge) = Judge::start() else { return };
    for number in 0..50_u8 {
        let name = format!("example.com/{number}");
        let root = Hash::of(&[number]);
        let text = format!("{name}\n{number}\n{root}\n");
        let seed = base64(&[number; 32]);
        let answer = judge.ask(json!({"op": "sign", "seed": seed, "name": name, "text": text}));
        let key: VerifierKey = answer["vkey"].as_str().unwrap().parse().unwrap();
        let ours = zero_proof::SigningKey::from_seeds(&name, &[number; 32], None).unwrap();
        assert_eq!(vkey(&ours, SignatureType::Ed25519), key);
        let note = answer["text"].as_str().unwrap();
        let signed = SignedCheckpoint::parse(note.as_bytes()).unwrap();
        assert_eq!(signed.verify([&key]).unwrap().len(), 1);
        assert_eq!((signed.checkpoint().size, signed.checkpoint().root), (u64::from(number), root));
        // Ed25519 is deterministic, so that both make the same note.
        assert_eq!(Note::sign(text, &ours).unwrap().encode(), note);
    }
}

#[test]
fn go_accepts_our_proofs_and_refuses_changed_ones() {
    let Some(mut judge) = Judge::start() else { return };
    for size in SIZES.into_iter().filter(|size| *size <= 1000) {
        let leaves = Leaves::numbered(size);
        let root = leaves.root().to_string();
        for index in [0, size / 2, size - 1] {
            let proof = leaves.inclusion(index);
            let mut request = json!({
                "op": "check_inclusion", "size": size, "root": root, "index": index,
                "leaf": leaves.0[index as usize].to_string(), "proof": texts(&proof),
            });
            assert!(judge.accepts(request.clone()), "{request}");
            request["leaf"] = json!(Hash::of(b"other").to_string());
            assert!(!judge.accepts(request));
        }
        for old_size in [1, size / 2, size - 1, size].into_iter().filter(|old_size| *old_size > 0) {
            let proof = prove_consistency(old_size, size, |node| leaves.node(node)).unwrap();
            let mut request = json!({
                "op": "check_consistency", "size": size, "root": root, "old_size": old_size,
                "old_root": leaves.hash(0, old_size).to_string(), "proof": texts(&proof),
            });
            assert!(judge.accepts(request.clone()), "{request}");
            request["old_root"] = json!(Hash::of(b"other").to_string());
            assert!(!judge.accepts(request));
        }
    }
}

#[test]
fn we_accept_go_s_proofs_and_make_the_same() {
    let Some(mut judge) = Judge::start() else { return };
    for size in SIZES {
        let leaves = Leaves::numbered(size);
        for (index, old_size) in [(0, 1), (size / 2, size / 2), (size - 1, size), (size / 3, size / 3)] {
            let old_size = old_size.max(1);
            let answer =
                judge.ask(json!({"op": "prove", "size": size, "index": index, "old_size": old_size}));
            let (root, old_root, leaf) =
                (hash(&answer["root"]), hash(&answer["old_root"]), hash(&answer["leaf"]));
            assert_eq!(root, leaves.root());
            let inclusion = hashes(&answer["inclusion"]);
            check_inclusion(&leaf, index, size, &inclusion, &root).unwrap();
            assert_eq!(inclusion, leaves.inclusion(index));
            let consistency = hashes(&answer["consistency"]);
            check_consistency(old_size, &old_root, size, &root, &consistency).unwrap();
            assert_eq!(consistency, prove_consistency(old_size, size, |node| leaves.node(node)).unwrap());
        }
    }
}

#[test]
fn go_reads_our_tiles() {
    let Some(mut judge) = Judge::start() else { return };
    for size in SIZES {
        let folder = tempfile::tempdir().unwrap();
        let leaves = Leaves::numbered(size);
        let write = |tile: &Tile, content: &[u8]| {
            let path = folder.path().join(tile.path());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        for tile in new_tiles(0, size).unwrap() {
            let Layer::Hashes(level) = tile.layer else { panic!("{tile:?}") };
            let hashes: Vec<Hash> =
                tile.range().map(|index| leaves.node(Node { level: level * 8, index }).unwrap()).collect();
            write(&tile, &encode_hashes(&hashes));
            if level == 0 {
                let entries: Vec<String> = tile.range().map(|index| index.to_string()).collect();
                let bundle = Tile { layer: Layer::Entries, ..tile };
                write(&bundle, &encode_entries(&entries).unwrap());
            }
        }
        let request = json!({"op": "check_tiles", "dir": folder.path(), "size": size, "root": leaves.root().to_string()});
        assert_eq!(judge.ask(request.clone()), json!({"checked": size}));
        let path = folder.path().join(Tile::at(Layer::Entries, 0, size).unwrap().path());
        let mut content = std::fs::read(&path).unwrap();
        content[2] ^= 1;
        std::fs::write(path, content).unwrap();
        assert!(!judge.accepts(request));
    }
}

#[test]
fn we_read_go_s_tiles() {
    let Some(mut judge) = Judge::start() else { return };
    for size in SIZES {
        let folder = tempfile::tempdir().unwrap();
        let answer = judge.ask(json!({"op": "write_tiles", "dir": folder.path(), "size": size}));
        let root = hash(&answer["root"]);
        let read = |tile: &Tile| std::fs::read(folder.path().join(tile.path())).unwrap();
        let node = |node: Node| -> Result<Hash, Error> {
            let (tile, range) = Tile::of_node(node, size).unwrap();
            Ok(node_hash(&decode_hashes(&tile, &read(&tile))?[range]))
        };
        assert_eq!(zero_proof::tree::root(size, node), Ok(root));
        let proof = zero_proof::tree::prove_inclusion(size / 2, size, node).unwrap();
        let bundle = Tile::at(Layer::Entries, size / 2 / 256, size).unwrap();
        let content = read(&bundle);
        let entries = decode_entries(&bundle, &content).unwrap();
        let leaf = Hash::of_leaf(entries[(size / 2 % 256) as usize]);
        check_inclusion(&leaf, size / 2, size, &proof, &root).unwrap();
    }
}
