//! Properties of the parsers of `zero-proof` that hold for any input. libFuzzer runs them from
//! `fuzz_targets`; `cargo test` runs them over the corpus and seeded mutations of it
//! (`crates/zero-proof/tests/it/fuzz.rs`).
//!
//! What is read is written as it was: each form has one spelling.

use std::sync::LazyLock;

use zero_proof::add_checkpoint::{encode_size, parse_size};
use zero_proof::disclosure::Disclosure;
use zero_proof::proof::Extra;
use zero_proof::tile::{Layer, Tile, decode_entries, decode_hashes, encode_entries, encode_hashes};
use zero_proof::{
    AddCheckpoint, Checkpoint, Entry, Error, Note, Policy, Proof, SignedCheckpoint, SigningKey, VerifierKey,
};

/// Accepts the proofs and track records of the corpus.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Policy::parse(include_bytes!("corpus/policy/accepts-the-corpus")).expect("the policy is valid")
});

/// An error of a parser names a place inside the input, or right after it.
fn check_error(error: &Error, data: &[u8]) {
    use zero_proof::Position;
    match error {
        Error::Malformed { position: Position::Line(line), .. } => {
            let lines = data.split(|byte| *byte == b'\n').count() as u64;
            assert!((1..=lines + 1).contains(line), "{error}");
        }
        Error::Malformed { position: Position::Byte(offset), .. } => {
            assert!(*offset <= data.len() as u64, "{error}");
        }
        other => panic!("{other}"),
    }
}

pub(crate) fn vkey(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<VerifierKey>() {
        Ok(key) => assert_eq!(key.to_string(), text),
        Err(error) => check_error(&error, data),
    }
}

pub(crate) fn key_file(data: &[u8]) {
    match SigningKey::parse(data) {
        // Lines of a PEM block may be of any length but the last, so compare what was read.
        Ok(key) => {
            let again = SigningKey::parse(key.encode().as_bytes()).expect("the encoding is valid");
            assert_eq!(*again.encode(), *key.encode());
        }
        Err(error) => check_error(&error, data),
    }
}

pub(crate) fn note(data: &[u8]) {
    match Note::parse(data) {
        Ok(note) => assert_eq!(note.encode().as_bytes(), data),
        Err(error) => check_error(&error, data),
    }
    match SignedCheckpoint::parse(data) {
        Ok(signed) => {
            assert_eq!(signed.encode().as_bytes(), data);
            assert_eq!(signed.checkpoint().text(), signed.note().text());
            let _ = POLICY.check(&signed);
        }
        Err(error) => check_error(&error, data),
    }
}

pub(crate) fn checkpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Checkpoint::parse(text) {
        Ok(checkpoint) => assert_eq!(checkpoint.text(), text),
        Err(error) => check_error(&error, data),
    }
}

pub(crate) fn add_checkpoint(data: &[u8]) {
    match AddCheckpoint::parse(data) {
        Ok(request) => assert_eq!(request.encode().as_bytes(), data),
        Err(error) => check_error(&error, data),
    }
    let size = std::str::from_utf8(data).ok().and_then(parse_size);
    assert!(size.is_none_or(|size| encode_size(size).as_bytes() == data));
}

pub(crate) fn policy(data: &[u8]) {
    match Policy::parse(data) {
        Ok(policy) => assert!(policy.witnesses().count() + policy.logs().len() <= data.len()),
        Err(error) => check_error(&error, data),
    }
}

pub(crate) fn entry(data: &[u8]) {
    match Entry::parse(data) {
        Ok(entry) => assert_eq!(entry.encode().as_bytes(), data),
        Err(error) => check_error(&error, data),
    }
}

pub(crate) fn disclosure(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(disclosure) = Disclosure::parse(text) {
        assert_eq!(disclosure.as_str(), text);
        assert!(zero_proof::disclosure::check_field_name(disclosure.name()).is_ok());
    }
}

/// The extra data of a proof.
pub(crate) fn extra(data: &[u8]) {
    match Extra::parse(data) {
        Ok(extra) => {
            assert_eq!(extra.encode().as_bytes(), data);
            let _ = extra.check();
        }
        Err(error) => check_error(&error, data),
    }
}

/// A proof file that the policy accepts is the one of the corpus, whose fields are known.
pub(crate) fn proof(data: &[u8]) {
    match Proof::parse(data) {
        Ok(proof) => {
            assert_eq!(proof.encode().as_bytes(), data);
            if let Ok(proven) = proof.check(&POLICY) {
                assert_eq!((proven.event_index, proven.fields), (6, 8));
                assert!(
                    proven
                        .disclosures
                        .iter()
                        .all(|field| ["/event_type", "/payload/symbol"].contains(&field.name()))
                );
            }
        }
        Err(error) => check_error(&error, data),
    }
}

pub(crate) fn track_record(data: &[u8]) {
    if let Ok(proven) = zero_proof::track_record::check(data, &POLICY) {
        assert_eq!((proven.first, proven.last, proven.size), (2, 4, 6));
        assert_eq!(proven.aggregates.events, 3);
    }
}

/// The first line is the path of a tile, and the rest is its content.
pub(crate) fn tile(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let content = data.get(end + 1..).unwrap_or_default();
    let Ok(path) = std::str::from_utf8(&data[..end]) else { return };
    let tile = match Tile::parse(path) {
        Ok(tile) => tile,
        Err(error) => return check_error(&error, path.as_bytes()),
    };
    assert_eq!(tile.path(), path);
    match tile.layer {
        Layer::Entries => {
            if let Ok(entries) = decode_entries(&tile, content) {
                assert_eq!(encode_entries(&entries).as_deref(), Ok(content));
            }
        }
        Layer::Hashes(_) => {
            if let Ok(hashes) = decode_hashes(&tile, content) {
                assert_eq!(encode_hashes(&hashes), content);
            }
        }
    }
}
