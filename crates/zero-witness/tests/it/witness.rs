//! Which checkpoints a witness cosigns.

use zero_bus::sim::SimDisk;
use zero_proof::key::SignatureType;
use zero_proof::note::Note;
use zero_proof::{AddCheckpoint, Checkpoint, Hash, SignedCheckpoint, VerifierKey};
use zero_witness::witness::hash_origin;
use zero_witness::{Error, Rejection, StateDirectory, Witness};

use crate::support::{COSIGNED_AT, WITNESS, new_witness, open_witness};
use crate::test_log::{ORIGIN, SIGNED_AT, TestLog, ed25519_signer, log_vkey, signer, vkey};

fn witness_of(key: &VerifierKey) -> Result<Witness, Error> {
    let state = StateDirectory::open(SimDisk::new().storage()).unwrap();
    Witness::open(signer(WITNESS), vec![key.clone()], state)
}

/// The same key under another name.
fn vkey_with_name(name: &str, key: &VerifierKey) -> VerifierKey {
    let id_of = |text: &str| text.rsplit("should be ").next().unwrap().to_owned();
    let text = key.to_string();
    let public = text.rsplit('+').next().unwrap();
    let wrong = format!("{name}+00000000+{public}").parse::<VerifierKey>().unwrap_err().to_string();
    format!("{name}+{}+{public}", id_of(&wrong)).parse().unwrap()
}

fn with_signatures(checkpoint: &SignedCheckpoint, signatures: &str) -> SignedCheckpoint {
    SignedCheckpoint::parse(format!("{}\n{signatures}", checkpoint.note().text()).as_bytes()).unwrap()
}

/// The sizes cover trees that are perfect and trees that are not.
#[test]
fn every_growth_of_a_log_is_cosigned_with_both_keys() {
    let log = TestLog::new(20);
    for old_size in 0..=20 {
        for size in old_size..=20 {
            let witness = new_witness();
            if old_size > 0 {
                witness.add_checkpoint(&log.request(0, old_size), COSIGNED_AT).unwrap();
            }
            let request = log.request(old_size, size);
            let cosignatures = witness.add_checkpoint(&request, COSIGNED_AT).unwrap();
            let mut signed = request.checkpoint.clone();
            signed.add_signatures(cosignatures).unwrap();
            let keys = witness.verifier_keys();
            let signed = signed.verify(&keys).unwrap();
            let types: Vec<_> = signed.iter().map(|signed| signed.key.signature_type()).collect();
            assert_eq!(types, [SignatureType::CosignatureEd25519, SignatureType::CosignatureMlDsa44]);
            assert!(signed.iter().all(|signed| signed.timestamp == Some(COSIGNED_AT)));
        }
    }
}

#[test]
fn a_clock_before_the_last_cosignature_is_not_cosigned_with() {
    let (log, disk) = (TestLog::new(9), SimDisk::new());
    let witness = open_witness(disk.storage()).unwrap();
    witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
    let before = witness.checkpoint(&hash_origin(ORIGIN)).unwrap();
    drop(witness);
    // After a restart, too.
    let witness = open_witness(disk.storage()).unwrap();
    for size in [5, 9] {
        match witness.add_checkpoint(&log.request(5, size), COSIGNED_AT - 1) {
            Err(rejection @ Rejection::ClockBehind { .. }) => {
                let message = rejection.to_string();
                let times = [COSIGNED_AT - 1, COSIGNED_AT].map(|time| time.to_string());
                assert!(times.iter().all(|time| message.contains(time)), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(witness.checkpoint(&hash_origin(ORIGIN)).unwrap(), before);
    witness.add_checkpoint(&log.request(5, 9), COSIGNED_AT).unwrap();
}

#[test]
fn an_old_size_that_is_not_the_last_one_is_answered_with_the_last_one() {
    let (log, witness) = (TestLog::new(9), new_witness());
    let conflict = |old_size, size| match witness.add_checkpoint(&log.request(old_size, size), COSIGNED_AT) {
        Err(Rejection::Conflict { size }) => size,
        other => panic!("{other:?}"),
    };
    assert_eq!(conflict(3, 5), 0);
    witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
    assert_eq!(conflict(0, 5), 5);
    assert_eq!(conflict(4, 9), 5);
    assert_eq!(conflict(6, 9), 5);
    // A smaller tree than the last one, with the smaller tree as the old one.
    assert_eq!(conflict(3, 4), 5);
    witness.add_checkpoint(&log.request(5, 9), COSIGNED_AT).unwrap();
    assert_eq!(conflict(5, 9), 9);
}

#[test]
fn an_old_size_beyond_the_checkpoint_is_refused() {
    let (log, witness) = (TestLog::new(9), new_witness());
    witness.add_checkpoint(&log.request(0, 9), COSIGNED_AT).unwrap();
    let request = AddCheckpoint { old_size: 9, proof: Vec::new(), checkpoint: log.checkpoint(5) };
    let rejection = witness.add_checkpoint(&request, COSIGNED_AT).unwrap_err();
    assert!(matches!(rejection, Rejection::OldSizeTooLarge { old_size: 9, size: 5 }), "{rejection:?}");
}

#[test]
fn another_tree_is_never_cosigned() {
    let log = TestLog::new(16);
    for rewritten_from in 0..7 {
        let other = log.rewritten_from(rewritten_from);
        let witness = new_witness();
        witness.add_checkpoint(&log.request(0, 7), COSIGNED_AT).unwrap();
        for size in 7..=16 {
            for proof in [other.prove(7, size), log.prove(7, size), Vec::new()] {
                let request = AddCheckpoint { old_size: 7, proof, checkpoint: other.checkpoint(size) };
                let rejection = witness.add_checkpoint(&request, COSIGNED_AT).unwrap_err();
                assert!(matches!(rejection, Rejection::Inconsistent { .. }), "{rejection:?}");
            }
        }
        // The honest log still gets its cosignature.
        witness.add_checkpoint(&log.request(7, 16), COSIGNED_AT).unwrap();
    }
}

#[test]
fn a_proof_that_is_changed_shortened_or_lengthened_is_refused() {
    let (log, witness) = (TestLog::new(13), new_witness());
    witness.add_checkpoint(&log.request(0, 6), COSIGNED_AT).unwrap();
    let honest = log.request(6, 13);
    let mut proofs = Vec::new();
    for position in 0..honest.proof.len() {
        let mut changed = honest.proof.clone();
        changed[position] = Hash::EMPTY_TREE;
        let mut shortened = honest.proof.clone();
        shortened.remove(position);
        let mut lengthened = honest.proof.clone();
        lengthened.insert(position, honest.proof[position]);
        proofs.extend([changed, shortened, lengthened]);
    }
    assert!(proofs.len() >= 9);
    for proof in proofs {
        let request = AddCheckpoint { proof, ..honest.clone() };
        let rejection = witness.add_checkpoint(&request, COSIGNED_AT).unwrap_err();
        assert!(matches!(rejection, Rejection::Inconsistent { .. }), "{rejection:?}");
    }
    // A proof where none is allowed.
    for (old_size, size) in [(6, 6), (0, 6)] {
        let witness = new_witness();
        if old_size > 0 {
            witness.add_checkpoint(&log.request(0, old_size), COSIGNED_AT).unwrap();
        }
        let request = AddCheckpoint { proof: honest.proof.clone(), ..log.request(old_size, size) };
        let rejection = witness.add_checkpoint(&request, COSIGNED_AT).unwrap_err();
        assert!(matches!(rejection, Rejection::Inconsistent { .. }), "{rejection:?}");
    }
}

#[test]
fn a_log_without_events_has_the_root_of_the_empty_tree() {
    let (log, witness) = (TestLog::new(3), new_witness());
    let wrong = Checkpoint::new(ORIGIN, 0, log.root(1));
    let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint: log.sign(wrong) };
    let rejection = witness.add_checkpoint(&request, COSIGNED_AT).unwrap_err();
    assert!(matches!(rejection, Rejection::Inconsistent { evidence: None, .. }), "{rejection:?}");
    witness.add_checkpoint(&log.request(0, 0), COSIGNED_AT).unwrap();
    witness.add_checkpoint(&log.request(0, 3), COSIGNED_AT).unwrap();
}

#[test]
fn a_checkpoint_must_be_signed_by_a_key_of_its_log() {
    let witness = new_witness();
    let unknown = TestLog::with_origin("example.com/other", 3);
    let rejection = witness.add_checkpoint(&unknown.request(0, 3), COSIGNED_AT).unwrap_err();
    assert!(matches!(&rejection, Rejection::UnknownLog { origin } if origin == "example.com/other"));

    let checkpoint = TestLog::new(3).checkpoint(3);
    let refused = |signatures: &str| {
        let checkpoint = with_signatures(&checkpoint, signatures);
        let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
        match witness.add_checkpoint(&request, COSIGNED_AT) {
            Err(Rejection::NotSigned(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let lines = |checkpoint: &SignedCheckpoint| Note::encode_signatures(checkpoint.note().signatures());
    let valid = lines(&checkpoint);
    // By somebody else, with the same origin but another key.
    let stranger = SignedCheckpoint::sign(
        checkpoint.checkpoint().clone(),
        &zero_proof::SigningKey::from_seeds(ORIGIN, &[9; 32], None).unwrap(),
        SIGNED_AT,
    );
    let stranger = lines(&stranger.unwrap());
    assert!(matches!(refused(&stranger), zero_proof::Error::NotSigned { .. }));
    // Over another tree.
    let invalid = lines(&TestLog::new(3).checkpoint(2));
    assert!(matches!(refused(&invalid), zero_proof::Error::BadSignature { number: 1, .. }));
    // One invalid signature by a known key spoils the note, whatever else it has.
    let error = refused(&format!("{valid}{invalid}"));
    assert!(matches!(error, zero_proof::Error::BadSignature { number: 2, .. }));
    // Unknown keys are ignored.
    let checkpoint = with_signatures(&checkpoint, &format!("{stranger}{valid}"));
    let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
    witness.add_checkpoint(&request, COSIGNED_AT).unwrap();
}

#[test]
fn a_log_may_sign_with_ml_dsa_and_with_several_keys() {
    let key = signer(ORIGIN);
    let log = TestLog::new(3);
    let checkpoint = SignedCheckpoint::sign(log.checkpoint(3).checkpoint().clone(), &key, SIGNED_AT).unwrap();
    let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
    let ml_dsa = vkey(&key, SignatureType::CosignatureMlDsa44);
    witness_of(&ml_dsa).unwrap().add_checkpoint(&request, COSIGNED_AT).unwrap();
    // The Ed25519 signature alone does not satisfy the ML-DSA key.
    let witness = witness_of(&ml_dsa).unwrap();
    let rejection = witness.add_checkpoint(&log.request(0, 3), COSIGNED_AT).unwrap_err();
    assert!(matches!(rejection, Rejection::NotSigned(_)));
    // After a change of keys, any one of the listed keys suffices.
    let state = StateDirectory::open(SimDisk::new().storage()).unwrap();
    let witness = Witness::open(signer(WITNESS), vec![ml_dsa, log_vkey(ORIGIN)], state).unwrap();
    witness.add_checkpoint(&log.request(0, 2), COSIGNED_AT).unwrap();
    witness
        .add_checkpoint(&AddCheckpoint { old_size: 2, proof: log.prove(2, 3), ..request }, COSIGNED_AT)
        .unwrap();
}

#[test]
fn the_served_checkpoint_has_the_signatures_that_were_verified_and_no_others() {
    let (log, witness) = (TestLog::new(3), new_witness());
    let hash = hash_origin(ORIGIN);
    // printf example.com/bus | sha256sum
    assert_eq!(hash, "1f0faa05e92758f68fa3a09c0225f173c778715a4cc20e9270012e6016c0185f");
    assert_eq!(witness.checkpoint(&hash), None);
    let checkpoint = log.checkpoint(3);
    let valid = Note::encode_signatures(checkpoint.note().signatures());
    let foreign = checkpoint.cosign(&ed25519_signer("other.example"), 5).unwrap();
    let foreign = Note::encode_signatures(&foreign);
    // Repeated signatures must not crowd out the witness's own.
    let all = format!("{foreign}{}", valid.repeat(99));
    let request =
        AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint: with_signatures(&checkpoint, &all) };
    let cosignatures = witness.add_checkpoint(&request, COSIGNED_AT).unwrap();
    let expected = format!("{}{}", checkpoint.encode(), Note::encode_signatures(&cosignatures));
    assert_eq!(witness.checkpoint(&hash).unwrap(), expected);
    assert_eq!(witness.checkpoint(&hash.to_uppercase()), None);
}

#[test]
fn a_restarted_witness_knows_what_it_cosigned() {
    let (log, disk) = (TestLog::new(9), SimDisk::new());
    let witness = open_witness(disk.storage()).unwrap();
    witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
    let served = witness.checkpoint(&hash_origin(ORIGIN));
    drop(witness);
    let witness = open_witness(disk.storage()).unwrap();
    assert_eq!(witness.checkpoint(&hash_origin(ORIGIN)), served);
    assert_eq!(witness.logs().collect::<Vec<_>>(), [(ORIGIN, 5)]);
    assert!(matches!(
        witness.add_checkpoint(&log.request(0, 9), COSIGNED_AT),
        Err(Rejection::Conflict { size: 5 })
    ));
    witness.add_checkpoint(&log.request(5, 9), COSIGNED_AT).unwrap();
}

#[test]
fn a_state_has_one_witness_at_a_time() {
    let disk = SimDisk::new();
    let witness = open_witness(disk.storage()).unwrap();
    let error = open_witness(disk.storage()).err().unwrap();
    assert!(error.to_string().contains("another witness uses this state"), "{error}");
    drop(witness);
    open_witness(disk.storage()).unwrap();
}

#[test]
fn a_damaged_state_is_refused() {
    let (log, disk) = (TestLog::new(9), SimDisk::new());
    let witness = open_witness(disk.storage()).unwrap();
    witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
    drop(witness);
    let name = format!("{}.checkpoint", hash_origin(ORIGIN));
    let good = disk.content(&name).unwrap();
    let smaller = String::from_utf8(good.clone()).unwrap().replace("\n5\n", "\n4\n");
    let other = TestLog::with_origin("example.com/other", 5).checkpoint(5).encode();
    for bad in [b"".as_slice(), &good[..good.len() - 5], smaller.as_bytes(), other.as_bytes()] {
        disk.put(&name, bad);
        let error = open_witness(disk.storage()).err().unwrap();
        assert!(error.to_string().contains("Restore the file"), "{error}");
    }
    disk.put(&name, &good);
    open_witness(disk.storage()).unwrap();
}

/// The same second, so that a client that repeats a request does not wear out the disk.
#[test]
fn a_repeated_request_gets_the_same_answer_without_a_write() {
    let (log, disk) = (TestLog::new(9), SimDisk::new());
    let witness = open_witness(disk.storage()).unwrap();
    let first = witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
    let calls = disk.calls();
    assert_eq!(witness.add_checkpoint(&log.request(5, 5), COSIGNED_AT).unwrap(), first);
    assert_eq!(disk.calls(), calls);
    let later = witness.add_checkpoint(&log.request(5, 5), COSIGNED_AT + 1).unwrap();
    assert!(disk.calls() > calls);
    assert_ne!(later, first);
    assert_eq!(witness.checkpoint(&hash_origin(ORIGIN)).unwrap().matches(WITNESS).count(), 2);
}

#[test]
fn two_roots_of_one_size_are_kept_as_evidence_once() {
    let (log, disk) = (TestLog::new(9), SimDisk::new());
    let witness = open_witness(disk.storage()).unwrap();
    witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
    let served = witness.checkpoint(&hash_origin(ORIGIN)).unwrap();
    let mut kept = Vec::new();
    for from in [4, 2] {
        let other = log.rewritten_from(from);
        match witness.add_checkpoint(&other.request(5, 5), COSIGNED_AT) {
            Err(Rejection::Inconsistent { evidence, .. }) => kept.push(evidence.map(Result::unwrap)),
            result => panic!("{result:?}"),
        }
    }
    let name = format!("{}.conflict", hash_origin(ORIGIN));
    assert!(kept[0].as_ref().unwrap().ends_with(&name) && kept[1].is_none(), "{kept:?}");
    let evidence = String::from_utf8(disk.content(&name).unwrap()).unwrap();
    assert_eq!(evidence, format!("{served}{}", log.rewritten_from(4).checkpoint(5).encode()));
    // A wrong proof alone is no evidence: anybody can send one.
    let request = AddCheckpoint { old_size: 5, proof: Vec::new(), checkpoint: log.checkpoint(9) };
    let rejection = witness.add_checkpoint(&request, COSIGNED_AT).unwrap_err();
    assert!(matches!(rejection, Rejection::Inconsistent { evidence: None, .. }));
}

#[test]
fn the_keys_of_logs_are_checked() {
    let cosigner = vkey(&signer(ORIGIN), SignatureType::CosignatureEd25519);
    assert!(witness_of(&cosigner).err().unwrap().to_string().contains("0x04 is for witnesses"));
    let long = log_vkey(&"a".repeat(255));
    witness_of(&long).unwrap();
    // A vkey can have a longer name, but a cosignature of type 0x06 has no room for it.
    let key = Hash::of(b"long").as_bytes().to_owned();
    let key = zero_proof::SigningKey::from_seeds("a", &key, None).unwrap();
    let too_long = vkey_with_name(&"a".repeat(256), &key.verifier_key(SignatureType::Ed25519).unwrap());
    assert!(witness_of(&too_long).err().unwrap().to_string().contains("longer than 255 bytes"));
    assert_eq!(new_witness().logs_with_own_key(), <[&str; 0]>::default());
    let own = vkey(&signer(WITNESS), SignatureType::Ed25519);
    assert_eq!(witness_of(&own).unwrap().logs_with_own_key(), [WITNESS]);
}
