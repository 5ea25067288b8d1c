//! Proof files: what they prove, and that nothing else is believed.

use proptest::prelude::*;
use zero_proof::proof::{Extra, Proof};
use zero_proof::{Error, Hash};

use crate::support::{COSIGNED_AT, checkpoint_of, events, leaves_of, policy, secret};

/// A proof that discloses type and symbol of event 6 of 9.
fn proof() -> Proof {
    let events = events(9);
    let leaves = leaves_of(&events);
    let reveal = ["/event_type", "/payload/symbol"];
    Proof::prove(&events[5], &secret(), &reveal, leaves.inclusion(5), checkpoint_of(&leaves)).unwrap()
}

#[test]
fn a_proof_shows_the_disclosed_fields_and_nothing_else() {
    let text = proof().encode();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra ey") && text.contains("\nindex 5\n"));
    let proof = Proof::parse(text.as_bytes()).unwrap();
    assert_eq!(proof.encode(), text);
    let policy = policy();
    let proven = proof.check(&policy).unwrap();
    assert_eq!((proven.event_index, proven.fields), (6, 8));
    let shown: Vec<(&str, &str)> =
        proven.disclosures.iter().map(|field| (field.name(), field.value().as_str())).collect();
    assert_eq!(shown, [("/event_type", "\"decision.record\""), ("/payload/symbol", "\"BTC\"")]);
    assert_eq!(proven.accepted.cosigners[0].timestamp, Some(COSIGNED_AT));
    let extra = String::from_utf8(proof.extra.unwrap()).unwrap();
    for hidden in ["confidential", "notional", "sha256"] {
        assert!(!extra.contains(hidden));
    }
}

#[test]
fn an_event_of_another_tree_is_not_proven() {
    let events = events(9);
    let leaves = leaves_of(&events);
    let prove = |position: usize, index| {
        Proof::prove(
            &events[position],
            &secret(),
            &["/event_type"],
            leaves.inclusion(index),
            checkpoint_of(&leaves),
        )
    };
    assert!(prove(5, 5).is_ok());
    assert_eq!(prove(5, 4), Err(Error::NotIncluded { index: 5, size: 9 }));
    let shorter = leaves_of(&events[..5]);
    let late = Proof::prove(&events[5], &secret(), &["/event_type"], Vec::new(), checkpoint_of(&shorter));
    assert_eq!(late, Err(Error::NotIncluded { index: 5, size: 5 }));
}

#[test]
fn each_step_of_the_check_can_fail() {
    let policy = policy();
    let check = |change: &dyn Fn(&mut Proof)| {
        let mut proof = proof();
        change(&mut proof);
        proof.check(&policy).unwrap_err()
    };
    let with_extra = |change: &dyn Fn(&mut Extra)| {
        check(&|proof| {
            let mut extra = Extra::parse(proof.extra.as_deref().unwrap()).unwrap();
            change(&mut extra);
            proof.extra = Some(extra.encode().into_bytes());
        })
    };
    assert!(matches!(check(&|proof| proof.extra = None), Error::Malformed { .. }));
    assert!(matches!(check(&|proof| proof.index = 4), Error::Malformed { .. }));
    // What no event has: fewer digests than every event has fields.
    assert!(matches!(with_extra(&|extra| extra.digests.truncate(2)), Error::Malformed { .. }));
    // A checksum without every other field.
    let checksum = |extra: &mut Extra| {
        let all = zero_proof::entry::disclosures(&events(6)[5], &secret());
        extra.disclosures = all.into_iter().filter(|field| field.name() == "/checksum").collect();
    };
    assert!(matches!(with_extra(&checksum), Error::Invalid { .. }));
    // A disclosure of another event, and one that is repeated.
    let other = zero_proof::entry::disclosures(&events(8)[7], &secret()).remove(0);
    assert_eq!(
        with_extra(&|extra| extra.disclosures[0] = other.clone()),
        Error::NotCommitted { event_index: 6, number: 1, name: "/event_type".to_owned() }
    );
    let repeated = with_extra(&|extra| extra.disclosures.push(extra.disclosures[0].clone()));
    assert!(repeated.to_string().contains("`/event_type` is disclosed twice"), "{repeated}");
    // A digest that is missing or added.
    let not_included = Error::NotIncluded { index: 5, size: 9 };
    let hidden = |extra: &Extra| {
        let shown: Vec<Hash> = extra.disclosures.iter().map(|disclosure| disclosure.digest()).collect();
        extra.digests.iter().position(|digest| !shown.contains(digest)).unwrap()
    };
    assert_eq!(
        with_extra(&|extra| {
            extra.digests.remove(hidden(extra));
        }),
        not_included
    );
    assert_eq!(with_extra(&|extra| extra.digests.insert(0, Hash::from_bytes([0; 32]))), not_included);
    assert_eq!(check(&|proof| proof.path[0] = Hash::EMPTY_TREE), not_included);
    assert_eq!(check(&|proof| proof.path.truncate(proof.path.len() - 1)), not_included);
    // The policy is asked last.
    let elsewhere = zero_proof::Policy::parse(b"quorum none\n").unwrap();
    assert!(matches!(proof().check(&elsewhere), Err(Error::UnknownLog { .. })));
}

/// The policy knows two of the four signatures. A change of the others is ignored, any other change
/// is an error.
#[test]
fn no_changed_byte_proves_anything_else() {
    let policy = policy();
    let text = proof().encode();
    let expected = Proof::parse(text.as_bytes()).unwrap().check(&policy).unwrap();
    let mut line_begin = 0;
    for line in text.split_inclusive('\n') {
        // Signatures of ML-DSA-44 are longer than those of Ed25519.
        let is_ignored = line.starts_with('\u{2014}') && line.len() > 1000;
        for at in line_begin..line_begin + line.len() {
            let bits = if crate::page::is_soak() { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                if let Ok(proof) = Proof::parse(&changed)
                    && let Ok(proven) = proof.check(&policy)
                {
                    assert!(is_ignored, "byte {at}, bit {bit}");
                    assert_eq!(proven, expected, "byte {at}, bit {bit}");
                }
            }
        }
        line_begin += line.len();
    }
}

#[test]
fn other_proof_files_are_refused_with_the_line() {
    let text = proof().encode();
    let extra = text.lines().nth(1).unwrap();
    let hash = text.lines().nth(3).unwrap();
    for (text, problem) in [
        (String::new(), "proof, line 1: the header is missing"),
        (text.replace("@v1", "@v2"), "proof, line 1: must be `c2sp.org/tlog-proof@v1`"),
        (text.replace("extra ", "extra  "), "proof, line 2: the extra data are not base64"),
        (text.replace("extra ", "Extra "), "proof, line 2: must be `index `"),
        (text.replace(extra, &format!("{extra}\n{extra}")), "proof, line 3: must be `index `"),
        (text.replace("index 5", "index 05"), "proof, line 3: must be `index `"),
        (text.replace(hash, "AAAA"), "proof, line 4: a hash must be"),
        (text.replace(hash, &vec![hash; 64].join("\n")), "proof, line 67: the path has more than 63"),
        (text.replace("\n\nexample", "\nexample"), "proof, line 8: a hash must be"),
        (text.replace("\n9\n", "\n09\n"), "checkpoint, line 10: the tree size"),
        (text.replace("\u{2014} a", "- a"), "signed note, line 15: a signature begins"),
        (text.trim_end().to_owned(), "signed note, line 16: the line break is missing"),
        (text.lines().take(8).map(|line| format!("{line}\n")).collect(), "signed note, line 9"),
    ] {
        let error = Proof::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}, expected {problem}");
    }
}

#[test]
fn other_extra_data_are_refused() {
    let extra = String::from_utf8(proof().extra.unwrap()).unwrap();
    assert!(Extra::parse(extra.as_bytes()).is_ok());
    let first = Extra::parse(extra.as_bytes()).unwrap().digests[0].to_string();
    for (text, problem) in [
        (String::new(), "is not canonical JSON"),
        (extra.replace(':', ": "), "is not canonical JSON"),
        ("[]".to_owned(), "is not an object"),
        (extra.replace("\"event_index\":6,", ""), "must have digests"),
        (extra.replace("\"event_index\":6", "\"event_index\":6,\"more\":1"), "must have digests"),
        (extra.replace("disclosure.v1", "disclosure.v2"), "schema_version"),
        (extra.replace(":6", ":0"), "event_index"),
        (extra.replace(":6", ":6.0"), "event_index"),
        (extra.replace(":6", ":-6"), "event_index"),
        (extra.replace(":6", ":18446744073709551616"), "event_index"),
        (extra.replace(&first, &first[1..]), "digests, item 1: hash"),
        (extra.replace(&format!("\"{first}\""), "1"), "digests, item 1: must be a string"),
        (extra.replace(&format!("[\"{first}\","), &format!("[\"{first}\",\"{first}\",")), "ascending order"),
        (extra.replace("\"disclosures\":[\"", "\"disclosures\":[\"!"), "disclosures, item 1: disclosure"),
        (extra.replace("\"disclosures\":[", "\"disclosures\":[["), "is not canonical JSON"),
    ] {
        let error = Extra::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("extra data, byte 0: ") && error.contains(problem), "{text}: {error}");
    }
    assert!(Extra::parse(b"\"\xff\"").unwrap_err().to_string().contains("byte 1: is not UTF-8"));
}

/// The largest leaf index does not overflow anything.
#[test]
fn extreme_indexes_are_refused() {
    let policy = policy();
    let mut proof = proof();
    let mut extra = Extra::parse(proof.extra.as_deref().unwrap()).unwrap();
    extra.event_index = u64::MAX;
    proof.extra = Some(extra.encode().into_bytes());
    proof.index = u64::MAX - 1;
    let proof = Proof::parse(proof.encode().as_bytes()).unwrap();
    assert_eq!(proof.check(&policy), Err(Error::NotIncluded { index: u64::MAX - 1, size: 9 }));
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "(extra |index |[A-Za-z0-9+/]{43}=|\n|\u{2014} |\\PC){0,40}", bytes: Vec<u8>) {
        let _ = Proof::parse(&bytes);
        let _ = Proof::parse(text.as_bytes());
        let _ = Proof::parse(format!("c2sp.org/tlog-proof@v1\n{text}").as_bytes());
        let _ = Extra::parse(&bytes);
    }
}
