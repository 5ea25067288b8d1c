//! The page of a proof, open in Chromium, and the proofs and policies of its tests.

use std::path::PathBuf;

use serde_json::json;
use zero_proof::key::SignatureType;
use zero_proof::{Checkpoint, Hash, Policy, Proof, SignedCheckpoint, SigningKey};

use crate::chromium::{Chromium, in_chromium};
use crate::support::{COSIGNED_AT, ORIGIN, SIGNED_AT, base64, events, leaves_of, secret, signer, vkey};

/// The verdict of the page that is open, once it has one, and the fields that it shows.
const VERDICT: &str = r#"new Promise((resolve) => {
    const look = () => document.getElementById("verdict-text").textContent === "The proof is being checked."
        ? setTimeout(look, 1)
        : resolve([
            document.getElementById("verdict-title").textContent,
            document.getElementById("fields").hidden ? "" : document.getElementById("field-rows").innerText,
        ]);
    look();
})"#;

/// Types a policy into the page that is open.
const TYPE_POLICY: &str = r#"(text) => {
    const policy = document.getElementById("policy");
    policy.value = text;
    policy.dispatchEvent(new Event("input"));
}"#;

/// The titles that the page shows for proofs and policies, in base64.
const TITLES: &str = r#"async (cases) => {
    const titles = [];
    for (const [proof, policyText] of cases) {
        let policy = null;
        try {
            policy = await parsePolicy(decodeBase64(policyText));
        } catch (error) {
            titles.push(error instanceof Failure ? "Not proven" : String(error));
            continue;
        }
        await present(decodeBase64(proof), policy);
        titles.push(document.getElementById("verdict-title").textContent);
    }
    return titles;
}"#;

/// Files of one test, and the browser that opens them.
pub(crate) struct Reader<'a> {
    pub(crate) chromium: &'a mut Chromium,
    pub(crate) folder: tempfile::TempDir,
}

/// Runs a test with the page of a proof open.
pub(crate) fn read(page: &str, test: impl FnOnce(&mut Reader<'_>)) {
    in_chromium(|chromium| {
        let mut reader = Reader { chromium, folder: tempfile::tempdir().unwrap() };
        reader.open(page.as_bytes());
        test(&mut reader);
    });
}

impl Reader<'_> {
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn open(&mut self, page: &[u8]) -> PathBuf {
        let path = self.file("proof.html", page);
        self.chromium.open(&path);
        path
    }

    pub(crate) fn give_policy(&mut self, policy: &str) {
        self.chromium.apply(TYPE_POLICY, &json!([policy]));
    }

    pub(crate) fn verdict(&mut self) -> (String, String) {
        serde_json::from_value(self.chromium.evaluate(VERDICT)).unwrap()
    }

    /// Checks that the page and this crate judge all the proofs alike. Returns their verdicts.
    pub(crate) fn compare(&mut self, cases: &[(Vec<u8>, Vec<u8>)]) -> Vec<bool> {
        let encoded: Vec<[String; 2]> =
            cases.iter().map(|(proof, policy)| [base64(proof), base64(policy)]).collect();
        let titles = self.chromium.apply(TITLES, &json!([encoded]));
        let titles: Vec<String> = serde_json::from_value(titles).unwrap();
        let expected: Vec<bool> = cases.iter().map(|(proof, policy)| is_proven(proof, policy)).collect();
        for ((title, is_proven), (proof, policy)) in titles.iter().zip(&expected).zip(cases) {
            let (proof, policy) = (String::from_utf8_lossy(proof), String::from_utf8_lossy(policy));
            let expected = if *is_proven { "Proven" } else { "Not proven" };
            assert_eq!(title, expected, "{policy}\n{proof}");
        }
        assert_eq!(titles.len(), cases.len());
        expected
    }
}

/// What this crate says of a proof.
pub(crate) fn is_proven(proof: &[u8], policy: &[u8]) -> bool {
    let Ok(policy) = Policy::parse(policy) else { return false };
    Proof::parse(proof).is_ok_and(|proof| proof.check(&policy).is_ok())
}

pub(crate) fn only_ed25519(name: &str) -> SigningKey {
    SigningKey::from_seeds(name, Hash::of(name.as_bytes()).as_bytes(), None).unwrap()
}

pub(crate) fn log_line(signature_type: SignatureType) -> String {
    format!("log {}\n", vkey(&signer(ORIGIN), signature_type))
}

pub(crate) fn witness_line(name: &str, key: &str, signature_type: SignatureType) -> String {
    format!("witness {name} {}\n", vkey(&signer(key), signature_type))
}

/// The Ed25519 keys of the log and of witnesses `a`, `b` and `c`, of which one is needed.
pub(crate) fn policy() -> String {
    let witness = |name| witness_line(name, &format!("{name}.example"), SignatureType::CosignatureEd25519);
    let witnesses: String = ["a", "b", "c"].into_iter().map(witness).collect();
    format!("{}{witnesses}group one any a b c\nquorum one\n", log_line(SignatureType::Ed25519))
}

/// The policy without witnesses.
pub(crate) fn log_only() -> String {
    format!("{}quorum none\n", log_line(SignatureType::Ed25519))
}

/// A proof that discloses type and symbol of event 6 of 9. Its checkpoint has the cosignatures of
/// these signers.
pub(crate) fn proof(log: &SigningKey, cosigners: &[SigningKey]) -> Proof {
    let events = events(9);
    let leaves = leaves_of(&events);
    let checkpoint = Checkpoint::new(ORIGIN, 9, leaves.root());
    let mut checkpoint = SignedCheckpoint::sign(checkpoint, log, SIGNED_AT).unwrap();
    for (cosigner, seconds) in cosigners.iter().zip(0..) {
        let cosignatures = checkpoint.cosign(cosigner, COSIGNED_AT + seconds).unwrap();
        checkpoint.add_signatures(cosignatures).unwrap();
    }
    let reveal = ["/event_type", "/payload/symbol"];
    Proof::prove(&events[5], &secret(), &reveal, leaves.inclusion(5), checkpoint).unwrap()
}

/// Signed by Ed25519 only. Witness `b` is beyond the quorum, `unknown.example` is not in the
/// policy.
pub(crate) fn ed25519_proof() -> Proof {
    let cosigners = ["a.example", "b.example", "unknown.example"].map(only_ed25519);
    proof(&only_ed25519(ORIGIN), &cosigners)
}
