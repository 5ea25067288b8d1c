//! Policies: the file, and what they accept.

use proptest::prelude::*;
use zero_proof::key::SignatureType;
use zero_proof::{Checkpoint, Error, Hash, Policy, SignedCheckpoint};

use crate::support::{COSIGNED_AT, ORIGIN, SIGNED_AT, signer, vkey};

fn log() -> String {
    format!("log {}\n", vkey(&signer(ORIGIN), SignatureType::Ed25519))
}

fn witness(name: &str) -> String {
    format!("witness {name} {}\n", vkey(&signer(name), SignatureType::CosignatureEd25519))
}

fn witnesses(names: &str) -> String {
    names.split(' ').map(witness).collect()
}

/// A checkpoint of the log that the named witnesses have cosigned.
fn cosigned_by(names: &[&str]) -> SignedCheckpoint {
    let checkpoint = Checkpoint::new(ORIGIN, 0, Hash::EMPTY_TREE);
    let mut signed = SignedCheckpoint::sign(checkpoint, &signer(ORIGIN), SIGNED_AT).unwrap();
    for name in names {
        let cosignatures = signed.cosign(&signer(name), COSIGNED_AT).unwrap();
        signed.add_signatures(cosignatures).unwrap();
    }
    signed
}

fn accepts(policy: &str, names: &[&str]) -> bool {
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    match policy.check(&cosigned_by(names)) {
        Ok(accepted) => {
            let accepted: Vec<&str> =
                accepted.cosigners.iter().map(|one| one.witness.name.as_str()).collect();
            let known = names.iter().filter(|name| policy.witnesses().any(|witness| witness.name == **name));
            assert_eq!(accepted, known.copied().collect::<Vec<_>>());
            true
        }
        Err(Error::QuorumNotMet { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// The example of the standard.
#[test]
fn the_quorum_of_two_levels_of_groups_is_the_standard_s() {
    let policy = format!(
        "# Two operators.\n{}\n{}group X-witnesses 2 X1 X2 X3\n\n{}group Y-witnesses any Y1 Y2 Y3\n\
         \t group\tX-and-Y  all X-witnesses Y-witnesses \nquorum X-and-Y\n",
        log(),
        witnesses("X1 X2 X3"),
        witnesses("Y1 Y2 Y3"),
    );
    for names in
        [&["X1", "X3", "Y2"][..], &["X1", "X2", "X3", "Y1", "Y2", "Y3"], &["Y3", "other", "X3", "X2"]]
    {
        assert!(accepts(&policy, names), "{names:?}");
    }
    for names in [&[][..], &["X1", "Y1"], &["X1", "X2", "X3"], &["Y1", "Y2", "Y3", "X2"], &["other"]] {
        assert!(!accepts(&policy, names), "{names:?}");
    }
    let error = Policy::parse(policy.as_bytes()).unwrap().check(&cosigned_by(&["Y1"])).unwrap_err();
    assert_eq!(error.to_string(), "the checkpoint does not meet the quorum `X-and-Y`; cosigned by: Y1");
}

#[test]
fn a_quorum_can_be_a_witness_or_none() {
    let one = format!("{}{}quorum b\n", log(), witnesses("a b"));
    assert!(accepts(&one, &["b"]) && accepts(&one, &["a", "b"]) && !accepts(&one, &["a"]));
    assert!(accepts(&format!("{}quorum none\n", log()), &[]));
    assert!(accepts(&format!("quorum none\n{}{}", witnesses("a"), log()), &["a"]));
}

#[test]
fn the_log_must_be_listed_and_must_have_signed() {
    let policy = |text: &str| Policy::parse(text.as_bytes()).unwrap();
    let signed = cosigned_by(&[]);
    let origin = ORIGIN.to_owned();
    assert_eq!(policy("quorum none\n").check(&signed), Err(Error::UnknownLog { origin }));
    // A key with the name of the log that has not signed.
    let seed = [1; 32];
    let other = zero_proof::SigningKey::from_seeds(ORIGIN, &seed, None).unwrap();
    let other = format!("log {}\n", vkey(&other, SignatureType::Ed25519));
    let error = policy(&format!("{other}quorum none\n")).check(&signed).unwrap_err();
    assert!(matches!(error, Error::NotSigned { .. }), "{error}");
    let both = policy(&format!("{other}{}quorum none\n", log()));
    assert_eq!(both.check(&signed).unwrap().log_keys.len(), 1);
    // Only the second signature, of type 0x06, is known.
    let post_quantum =
        format!("log {}\nquorum none\n", vkey(&signer(ORIGIN), SignatureType::CosignatureMlDsa44));
    assert_eq!(policy(&post_quantum).check(&signed).unwrap().log_keys.len(), 1);
    // Another log that the policy lists signs nothing for this one.
    let elsewhere = Checkpoint::new("example.com/other", 0, Hash::EMPTY_TREE);
    let elsewhere = SignedCheckpoint::sign(elsewhere, &signer("example.com/other"), 1).unwrap();
    assert!(matches!(
        policy(&format!("{}quorum none\n", log())).check(&elsewhere),
        Err(Error::UnknownLog { .. })
    ));
}

#[test]
fn a_cosignature_that_does_not_verify_refuses_the_checkpoint_even_if_the_quorum_is_met() {
    let policy = format!("{}{}group one any a b\nquorum one\n", log(), witnesses("a b"));
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let mut signed = cosigned_by(&["a"]);
    let mut forged = signed.cosign(&signer("b"), COSIGNED_AT).unwrap().remove(0);
    forged.bytes[0] ^= 1;
    signed.add_signatures([forged]).unwrap();
    assert!(matches!(policy.check(&signed), Err(Error::BadSignature { .. })));
}

#[test]
fn urls_are_kept() {
    let policy = format!(
        "{} https://log.example/\n{} https://w.example/sub\nquorum a\n",
        log().trim(),
        witness("a").trim()
    );
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    assert_eq!(policy.logs()[0].url.as_deref(), Some("https://log.example/"));
    assert_eq!(policy.witnesses().next().unwrap().url.as_deref(), Some("https://w.example/sub"));
}

#[test]
fn other_policies_are_refused_with_the_line() {
    let (a, b) = (witness("a"), witness("b"));
    let log_vkey = vkey(&signer(ORIGIN), SignatureType::Ed25519);
    let witness_vkey = vkey(&signer("a"), SignatureType::CosignatureEd25519);
    let both_uses = vkey(&signer(ORIGIN), SignatureType::CosignatureMlDsa44);
    let rewrapped = zero_proof::SigningKey::from_seeds("x", Hash::of(b"a").as_bytes(), None).unwrap();
    let rewrapped = vkey(&rewrapped, SignatureType::CosignatureEd25519);
    for (policy, problem) in [
        (String::new(), "line 1: the quorum line is missing"),
        (a.clone(), "line 2: the quorum line is missing"),
        ("quorum none".to_owned(), "line 1: the line break is missing"),
        ("quorum none\nquorum none\n".to_owned(), "line 2: there is a quorum line already"),
        ("quorum\n".to_owned(), "line 1: a quorum line is"),
        ("quorum none none\n".to_owned(), "line 1: a quorum line is"),
        (format!("quorum a\n{a}"), "line 1: `a` is not a witness or group of an earlier line"),
        ("Quorum none\n".to_owned(), "line 1: `Quorum` is not log"),
        ("quorum none\r\n".to_owned(), "line 1: contains a control character"),
        ("quorum none\n# \u{7f}\n".to_owned(), "line 2: contains a control character"),
        ("log\n".to_owned(), "line 1: a log line is"),
        ("log a b c\n".to_owned(), "line 1: a log line is"),
        ("log nonsense\n".to_owned(), "line 1: vkey, byte 8"),
        (format!("log {log_vkey}\nlog {log_vkey} url\n"), "line 2: an earlier line has this key already"),
        (format!("log {witness_vkey}\n"), "line 1: a key of type 0x04 is for witnesses"),
        (format!("witness a {log_vkey}\n"), "line 1: a key of type 0x01 is for logs"),
        ("witness a\n".to_owned(), "line 1: a witness line is"),
        (format!("{a}witness b {witness_vkey}\n"), "line 2: an earlier line has this key already"),
        (
            format!("log {both_uses}\nwitness b {both_uses}\n"),
            "line 2: an earlier line has this key already, as that of a log",
        ),
        (
            format!("witness b {both_uses}\nlog {both_uses}\n"),
            "line 2: an earlier line has this key already, as that of a witness",
        ),
        (format!("{a}witness b {rewrapped}\n"), "line 2: an earlier line has this key already"),
        (format!("witness none {witness_vkey}\n"), "line 1: the name `none` is reserved"),
        (format!("{a}{}", b.replace("witness b", "witness a")), "line 2: `a` is defined already"),
        (format!("{a}group a any a\n"), "line 2: `a` is defined already"),
        (format!("{a}group g any\n"), "line 2: the group has no members"),
        (format!("{a}group g\n"), "line 2: a group line is"),
        (format!("{a}group g any g\n"), "line 2: `g` is not a witness"),
        (format!("{a}group g any none\n"), "line 2: `none` is not a witness"),
        (format!("{a}group g any a a\n"), "line 2: `a` is a member of a group already"),
        (format!("{a}{b}group g any a\ngroup h any b a\n"), "line 4: `a` is a member of a group already"),
        (format!("{a}group g 0 a\n"), "line 2: the threshold must be"),
        (format!("{a}group g 2 a\n"), "line 2: the threshold must be"),
        (format!("{a}group g 01 a\n"), "line 2: the threshold must be"),
        (format!("{a}group g All a\n"), "line 2: the threshold must be"),
    ] {
        let error = Policy::parse(policy.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("policy, ") && error.contains(problem), "{policy:?}: {error}");
    }
    assert!(Policy::parse(&vec![b'\n'; (1 << 20) + 1]).is_err());
}

/// Bytes that are not ASCII are opaque; a Kelvin sign is not a K.
#[test]
fn names_are_bytes() {
    let key = vkey(&signer("a"), SignatureType::CosignatureEd25519);
    let policy = |name: &[u8], quorum: &[u8]| {
        let text = [b"witness ", name, format!(" {key}\nquorum ").as_bytes(), quorum, b"\n# \xff\n"].concat();
        Policy::parse(&text)
    };
    assert!(policy(b"\xff\xfe", b"\xff\xfe").is_ok());
    assert!(policy(b"K", "\u{212a}".as_bytes()).is_err());
    assert!(policy(b"\xff", b"\xfe").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        words in prop::collection::vec("log|witness|group|quorum|none|any|all|1|a|b|\n|\t|#", 0..40),
    ) {
        let _ = Policy::parse(&bytes);
        let _ = Policy::parse([words.join(" "), "\n".to_owned()].concat().as_bytes());
    }
}
