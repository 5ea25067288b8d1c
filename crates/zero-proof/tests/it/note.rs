//! Signed notes, checkpoints and cosignatures.

use proptest::prelude::*;
use zero_proof::key::SignatureType;
use zero_proof::note::{MAX_SIGNATURES, Signature};
use zero_proof::signed_checkpoint::Signed;
use zero_proof::{Checkpoint, Error, Hash, Note, SignedCheckpoint, SigningKey, VerifierKey};

use crate::support::{COSIGNED_AT, ORIGIN, SIGNED_AT, base64, signer, unhex, vkey, vkey_of};

const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

#[test]
fn the_example_of_the_standard_verifies() {
    let keys: [VerifierKey; 1] = [VKEY.parse().unwrap()];
    let note = Note::parse(NOTE.as_bytes()).unwrap();
    assert_eq!(note.text(), "This is an example message.\n");
    assert_eq!(note.verify(&keys).unwrap(), [&keys[0]]);
    assert_eq!(note.encode(), NOTE);
    let other = Note::parse(NOTE.replace("example message", "Example message").as_bytes()).unwrap();
    let key = "example.com/foo+530d903a".to_owned();
    assert_eq!(other.verify(&keys), Err(Error::BadSignature { number: 1, key }));
}

#[test]
fn signatures_by_unknown_keys_are_ignored_and_one_known_key_must_have_signed() {
    let (one, two) = (signer("one.example"), signer("two.example"));
    let mut note = Note::sign("first\n\nsecond\n", &one).unwrap();
    let other = Note::sign(note.text(), &two).unwrap();
    note.add_signatures(other.signatures().to_vec()).unwrap();
    note.add_signatures(other.signatures().to_vec()).unwrap();
    assert_eq!(note.signatures().len(), 2);
    let note = Note::parse(note.encode().as_bytes()).unwrap();
    assert_eq!(note.text(), "first\n\nsecond\n");
    let keys = [vkey(&two, SignatureType::Ed25519), vkey(&one, SignatureType::Ed25519)];
    assert_eq!(note.verify(&keys).unwrap(), [&keys[1], &keys[0]]);
    assert_eq!(note.verify(&keys[..1]).unwrap(), [&keys[0]]);
    let unknown = vkey(&signer("three.example"), SignatureType::Ed25519);
    let error = note.verify(std::slice::from_ref(&unknown)).unwrap_err();
    assert_eq!(error, Error::NotSigned { keys: vec![format!("three.example+{}", unknown.id())] });
    assert!(matches!(note.verify(&[]), Err(Error::NotSigned { .. })));
    // The same name with another key, and the same id with another name, are unknown keys.
    let renamed: VerifierKey = vkey_of("two.example", 1, &keys[1].public_key()).parse().unwrap();
    assert!(matches!(note.verify(&[renamed]), Err(Error::NotSigned { .. })));
    let cosigner = vkey(&one, SignatureType::CosignatureEd25519);
    assert!(matches!(note.verify(&[cosigner]), Err(Error::Invalid { .. })));
}

#[test]
fn a_note_with_an_invalid_signature_by_a_known_key_is_refused_whole() {
    let (one, two) = (signer("one.example"), signer("two.example"));
    let mut note = Note::sign("text\n", &one).unwrap();
    let mut forged = Note::sign("other\n", &two).unwrap().signatures()[0].clone();
    note.add_signatures([forged.clone()]).unwrap();
    let keys = [vkey(&one, SignatureType::Ed25519), vkey(&two, SignatureType::Ed25519)];
    assert_eq!(note.verify(&keys[..1]).unwrap(), [&keys[0]]);
    assert!(matches!(note.verify(&keys), Err(Error::BadSignature { number: 2, .. })));
    // A signature with more bytes than its type has.
    forged = Note::sign("text\n", &two).unwrap().signatures()[0].clone();
    forged.bytes.push(0);
    let mut note = Note::sign("text\n", &one).unwrap();
    note.add_signatures([forged]).unwrap();
    assert!(matches!(note.verify(&keys), Err(Error::BadSignature { number: 2, .. })));
}

/// Signatures that verify only under lax rules. All are over `text\n`.
#[test]
fn malleable_signatures_and_points_of_small_order_are_refused() {
    let public = "fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618";
    let valid = "ef4f62f8479733ad879cfaced3c89a9c39dd4fc795ef2efa1c3eafe4d729a081\
                 29e7352de7acec9b7fab65d7c05ebc67b7b088cc8bb104b8af71836d7949f50c";
    let malleable = "ef4f62f8479733ad879cfaced3c89a9c39dd4fc795ef2efa1c3eafe4d729a081\
                     16bb2b8a0110fff355485d7a9f589b7cb7b088cc8bb104b8af71836d7949f51c";
    let small_order_r = "0100000000000000000000000000000000000000000000000000000000000000\
                         bb1126970a21c57f415c71ac4f65d85138a89ece510d0245d5b791431cdf5e05";
    // A key with a component of small order: this signature verifies only after a multiplication
    // with the cofactor.
    let mixed_public = "d0d31a3cb4bf59a067bce65dbb4e453eb75450b39b1f8a15bd2cce95fa47c958";
    let cofactored = "5866666666666666666666666666666666666666666666666666666666666666\
                      3a43748184c0416fa0a9ca62b205f76722a39f11fbed3318a933e67befbd0106";
    let verify = |public: &str, signature: &str| {
        let key: VerifierKey = vkey_of("a", 1, &unhex(public)).parse().unwrap();
        let bytes = [&key.id().0.to_be_bytes()[..], &unhex(signature)].concat();
        let note = Note::parse(format!("text\n\n\u{2014} a {}\n", base64(&bytes)).as_bytes()).unwrap();
        note.verify(&[key]).map(|keys| keys.len())
    };
    assert_eq!(verify(public, valid), Ok(1));
    for (public, signature) in [(public, malleable), (public, small_order_r), (mixed_public, cofactored)] {
        assert!(
            matches!(verify(public, signature), Err(Error::BadSignature { number: 1, .. })),
            "{signature}"
        );
    }
}

#[test]
fn other_notes_are_refused_with_the_line() {
    let signature = NOTE.lines().nth(2).unwrap();
    for (note, problem) in [
        (String::new(), "line 1: an empty line and signatures are missing"),
        ("text\n".to_owned(), "line 1: an empty line"),
        (format!("text\n{signature}\n"), "line 1: an empty line"),
        ("text\n\n".to_owned(), "line 3: there is no signature"),
        (format!("text\n\n{signature}"), "line 3: the line break is missing"),
        (format!("text\n\n{signature}\n\n"), "line 5: there is no signature"),
        (format!("text\n\n{signature}\nmore\n"), "line 4: a signature begins with"),
        (format!("a\tb\n\n{signature}\n"), "line 1: contains a control character"),
        (format!("a\n\r\n\n{signature}\n"), "line 2: contains a control character"),
        (format!("text\n\n{}\n", signature.replace('\u{2014}', "-")), "line 3: a signature begins with"),
        (format!("text\n\n{}\n", signature.replace("foo ", "foo  ")), "line 3: the signature is not base64"),
        (format!("text\n\n{}\n", signature.replace("foo ", "foo")), "line 3: a signature is a key name"),
        (format!("text\n\n{}\n", signature.replace("foo", "f+o")), "line 3: key name"),
        (format!("text\n\n{}\n", signature.replace("/foo", "\u{2003}foo")), "line 3: key name"),
        (format!("text\n\n{}\n", signature.trim_end_matches('=')), "line 3: the signature is not base64"),
        ("text\n\n\u{2014} a AAAAAA==\n".to_owned(), "line 3: the signature has fewer than 5 bytes"),
        (
            format!("text\n\n{}", format!("{signature}\n").repeat(MAX_SIGNATURES + 1)),
            "line 103: there are more than",
        ),
    ] {
        let error = Note::parse(note.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("signed note, ") && error.contains(problem), "{note:?}: {error}");
    }
    assert_eq!(Note::parse(b"te\xffxt\n\n").unwrap_err().to_string(), "signed note, byte 2: is not UTF-8");
    assert!(Note::parse(&vec![b'x'; (1 << 20) + 1]).unwrap_err().to_string().contains("longer than"));
    assert!(Note::new("no line break").is_err() && Note::new("").is_err());
    let many = format!("text\n\n{}", format!("{signature}\n").repeat(MAX_SIGNATURES));
    assert_eq!(Note::parse(many.as_bytes()).unwrap().signatures().len(), MAX_SIGNATURES);
}

fn checkpoint() -> Checkpoint {
    Checkpoint::new(ORIGIN, 20_852_163, Hash::of(b"root"))
}

#[test]
fn a_log_signs_with_both_keys_and_a_witness_cosigns_with_both() {
    let (log, witness) = (signer(ORIGIN), signer("witness.example"));
    let mut signed = SignedCheckpoint::sign(checkpoint(), &log, SIGNED_AT).unwrap();
    let log_keys = [vkey(&log, SignatureType::Ed25519), vkey(&log, SignatureType::CosignatureMlDsa44)];
    let of_log = signed.verify(&log_keys).unwrap();
    assert_eq!(
        of_log,
        [
            Signed { key: &log_keys[0], timestamp: None },
            Signed { key: &log_keys[1], timestamp: Some(SIGNED_AT) },
        ]
    );
    let cosignatures = signed.cosign(&witness, COSIGNED_AT).unwrap();
    assert_eq!(cosignatures.iter().map(|one| one.bytes.len()).collect::<Vec<_>>(), [8 + 64, 8 + 2420]);
    let text = Note::encode_signatures(&cosignatures);
    signed.add_signatures(Note::parse_signatures(&text).unwrap()).unwrap();
    let signed = SignedCheckpoint::parse(signed.encode().as_bytes()).unwrap();
    assert_eq!(signed.checkpoint(), &checkpoint());
    let keys = [SignatureType::CosignatureMlDsa44, SignatureType::CosignatureEd25519]
        .map(|kind| vkey(&witness, kind));
    let verified = signed.verify(&keys).unwrap();
    let timestamp = Some(COSIGNED_AT);
    assert_eq!(verified, [Signed { key: &keys[1], timestamp }, Signed { key: &keys[0], timestamp }]);
    assert_eq!(signed.verify(log_keys.iter().chain(&keys)).unwrap().len(), 4);
}

/// Both cosignatures were made by Python's cryptography, which uses OpenSSL.
#[test]
fn cosignatures_of_another_implementation_verify() {
    let signed = SignedCheckpoint::parse(include_bytes!("fixtures/python-cosignatures.note")).unwrap();
    let keys: Vec<VerifierKey> =
        include_str!("fixtures/python-vkeys.txt").lines().map(|vkey| vkey.parse().unwrap()).collect();
    let verified = signed.verify(&keys).unwrap();
    assert_eq!(verified.iter().map(|one| one.timestamp).collect::<Vec<_>>(), [Some(1_679_315_147); 2]);
    // The same seeds lead to the same keys here.
    let seed: Vec<u8> = (0..32).collect();
    let seed = seed.as_slice().try_into().unwrap();
    let key = SigningKey::from_seeds("witness.example/python", seed, Some(seed)).unwrap();
    assert_eq!(vkey(&key, SignatureType::CosignatureMlDsa44), keys[0]);
    assert_eq!(vkey(&key, SignatureType::CosignatureEd25519), keys[1]);
}

/// Changes each part of what a cosignature covers.
#[test]
fn a_cosignature_is_bound_to_origin_size_root_time_and_key() {
    let witness = signer("witness.example");
    for (position, kind) in
        [SignatureType::CosignatureEd25519, SignatureType::CosignatureMlDsa44].iter().enumerate()
    {
        let key = vkey(&witness, *kind);
        let cosignature =
            zero_proof::cosignature::cosign(&checkpoint(), &witness, COSIGNED_AT).unwrap().remove(position);
        let sign = |checkpoint: Checkpoint| {
            SignedCheckpoint::sign(checkpoint.clone(), &signer(&checkpoint.origin), 1).unwrap()
        };
        let verify = |signed: &SignedCheckpoint, cosignature: Signature| {
            let mut signed = signed.clone();
            signed.add_signatures([cosignature]).unwrap();
            signed.verify([&key]).map(|keys| keys.len())
        };
        let signed = sign(checkpoint());
        assert_eq!(verify(&signed, cosignature.clone()), Ok(1));
        let refused = Err(Error::BadSignature { number: 3, key: format!("witness.example+{}", key.id()) });
        for other in [
            Checkpoint { origin: "example.com/other".to_owned(), ..checkpoint() },
            Checkpoint { size: 1, ..checkpoint() },
            Checkpoint { root: Hash::EMPTY_TREE, ..checkpoint() },
        ] {
            assert_eq!(verify(&sign(other), cosignature.clone()), refused);
        }
        // 102 of ML-DSA's 2,428 bytes, and all of Ed25519's.
        for byte in (0..cosignature.bytes.len()).step_by(1 + cosignature.bytes.len() / 105) {
            let mut changed = cosignature.clone();
            changed.bytes[byte] ^= 1;
            assert_eq!(verify(&signed, changed), refused, "byte {byte}");
        }
        let mut truncated = cosignature.clone();
        truncated.bytes.truncate(7);
        assert_eq!(verify(&signed, truncated), refused);
        let mut longer = cosignature.clone();
        longer.bytes.push(0);
        assert_eq!(verify(&signed, longer), refused);
    }
}

#[test]
fn impossible_checkpoints_are_not_signed() {
    let key = signer(ORIGIN);
    let refused = |checkpoint: Checkpoint, time: u64| {
        matches!(SignedCheckpoint::sign(checkpoint, &key, time), Err(Error::Invalid { .. }))
    };
    assert!(refused(Checkpoint { origin: "example.com/other".to_owned(), ..checkpoint() }, 1));
    assert!(refused(Checkpoint { extension_lines: vec!["more".to_owned()], ..checkpoint() }, 1));
    assert!(refused(checkpoint(), 0) && refused(checkpoint(), u64::MAX));
    let signed = SignedCheckpoint::sign(checkpoint(), &key, 1).unwrap();
    assert!(signed.cosign(&key, 0).is_err() && signed.cosign(&key, 1 << 63).is_err());
    let long = Checkpoint { origin: "x".repeat(256), ..checkpoint() };
    assert!(zero_proof::cosignature::cosign(&long, &key, 1).is_err());
}

#[test]
fn other_checkpoints_are_refused_with_the_line() {
    let root = Hash::of(b"root");
    for (text, problem) in [
        (String::new(), "line 1: the origin is missing"),
        (format!("\n1\n{root}\n"), "line 1: the origin is empty"),
        ("o\n".to_owned(), "line 2: the tree size is missing"),
        (format!("o\n01\n{root}\n"), "line 2: the tree size must be"),
        (format!("o\n-1\n{root}\n"), "line 2: the tree size must be"),
        (format!("o\n9223372036854775808\n{root}\n"), "line 2: the tree size must be"),
        ("o\n1\n".to_owned(), "line 3: the root hash is missing"),
        ("o\n1\nAAAA\n".to_owned(), "line 3: the root hash must be"),
        (format!("o\n1\n{}\n", root.to_string().trim_end_matches('=')), "line 3: the root hash must be"),
        (format!("o\n1\n{root}"), "line 3: the line break is missing"),
        (format!("o\n1\n{root}\n\n"), "line 4: an extension line is empty"),
    ] {
        let error = Checkpoint::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("checkpoint, ") && error.contains(problem), "{text:?}: {error}");
    }
    let extended = format!("o\n1\n{root}\nmore\nand more\n");
    let checkpoint = Checkpoint::parse(&extended).unwrap();
    assert_eq!((checkpoint.extension_lines.len(), checkpoint.text()), (2, extended));
}

proptest! {
    #[test]
    fn any_note_that_parses_is_written_as_it_was(
        text in "([a-z\u{2014} +]{0,9}\n){1,4}",
        lines in prop::collection::vec(("[a-z]{1,3}", prop::collection::vec(any::<u8>(), 5..9)), 1..4),
    ) {
        let lines: String = lines.iter().map(|(name, bytes)| format!("\u{2014} {name} {}\n", base64(bytes))).collect();
        let note = format!("{text}\n{lines}");
        let parsed = Note::parse(note.as_bytes()).unwrap();
        prop_assert_eq!(parsed.encode(), note);
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in "(\u{2014} |[a-c]|\n|=|\\PC|[0-9]){0,80}", bytes: Vec<u8>) {
        let _ = Note::parse(&bytes);
        if let Ok(note) = Note::parse(text.as_bytes()) {
            prop_assert_eq!(note.encode(), text.clone());
        }
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.text(), text);
        }
    }
}
