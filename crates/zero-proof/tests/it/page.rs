//! The page of a proof in a real Chromium. What it says must be what `Proof::check` says.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zero_proof::key::SignatureType;
use zero_proof::proof::Extra;
use zero_proof::{Checkpoint, Entry, Hash, Policy, Proof, SignedCheckpoint, SigningKey, page};

use crate::chromium::{Chromium, in_chromium};
use crate::support::{
    COSIGNED_AT, ORIGIN, SIGNED_AT, base64, base64url, events, leaves_of, secret, signer, vkey,
};

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

/// For each changed byte of the proof: how many cosignatures the page shows if it says what it says of
/// the unchanged proof, which is proven; -1 if it says that nothing is proven and shows no field; -2
/// for everything else.
const FLIP: &str = r#"async (policyText, flips) => {
    const policy = await parsePolicy(bytesOf(policyText));
    const original = embeddedProof();
    const text = (id) => document.getElementById(id).textContent;
    const shown = () => ["verdict-title", "claim", "fields"].map(text).join();
    const times = () => Array.from(document.getElementById("times").children, (item) => item.textContent);
    await present(original, policy);
    const [expected, expectedTimes] = [shown(), times()];
    const results = [];
    for (const [at, mask] of flips) {
        const file = original.slice();
        file[at] ^= mask;
        await present(file, policy);
        const isHidden = document.getElementById("fields").hidden;
        if (text("verdict-title") === "Not proven" && isHidden) {
            results.push(-1);
        } else {
            const isSame = shown() === expected && !isHidden && times().every((time) => expectedTimes.includes(time));
            results.push(isSame ? times().length : -2);
        }
    }
    return [expected, results];
}"#;

/// Files of one test, and the browser that opens them.
struct Reader<'a> {
    chromium: &'a mut Chromium,
    folder: tempfile::TempDir,
}

/// Runs a test with the page of a proof open.
fn read(page: &str, test: impl FnOnce(&mut Reader<'_>)) {
    in_chromium(|chromium| {
        let mut reader = Reader { chromium, folder: tempfile::tempdir().unwrap() };
        reader.open(page.as_bytes());
        test(&mut reader);
    });
}

impl Reader<'_> {
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn open(&mut self, page: &[u8]) -> PathBuf {
        let path = self.file("proof.html", page);
        self.chromium.open(&path);
        path
    }

    fn give_policy(&mut self, policy: &str) {
        self.chromium.apply(TYPE_POLICY, &json!([policy]));
    }

    fn verdict(&mut self) -> (String, String) {
        serde_json::from_value(self.chromium.evaluate(VERDICT)).unwrap()
    }

    /// Checks that the page and this crate judge all the proofs alike. Returns their verdicts.
    fn compare(&mut self, cases: &[(Vec<u8>, Vec<u8>)]) -> Vec<bool> {
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
fn is_proven(proof: &[u8], policy: &[u8]) -> bool {
    let Ok(policy) = Policy::parse(policy) else { return false };
    Proof::parse(proof).is_ok_and(|proof| proof.check(&policy).is_ok())
}

fn only_ed25519(name: &str) -> SigningKey {
    SigningKey::from_seeds(name, Hash::of(name.as_bytes()).as_bytes(), None).unwrap()
}

fn log_line(signature_type: SignatureType) -> String {
    format!("log {}\n", vkey(&signer(ORIGIN), signature_type))
}

fn witness_line(name: &str, key: &str, signature_type: SignatureType) -> String {
    format!("witness {name} {}\n", vkey(&signer(key), signature_type))
}

/// The Ed25519 keys of the log and of witnesses `a`, `b` and `c`, of which one is needed.
fn policy() -> String {
    let witness = |name| witness_line(name, &format!("{name}.example"), SignatureType::CosignatureEd25519);
    let witnesses: String = ["a", "b", "c"].into_iter().map(witness).collect();
    format!("{}{witnesses}group one any a b c\nquorum one\n", log_line(SignatureType::Ed25519))
}

/// A proof that discloses type and symbol of event 6 of 9. Its checkpoint has the cosignatures of these
/// signers.
fn proof(log: &SigningKey, cosigners: &[SigningKey]) -> Proof {
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

/// Signed by Ed25519 only. Witness `b` is beyond the quorum, `unknown.example` is not in the policy.
fn ed25519_proof() -> Proof {
    let cosigners = ["a.example", "b.example", "unknown.example"].map(only_ed25519);
    proof(&only_ed25519(ORIGIN), &cosigners)
}

/// A proof of a log with one event, whose only disclosure encodes this text.
fn proof_of_disclosure(array: &[u8]) -> Vec<u8> {
    proof_of_extra(
        |disclosure, digest| {
            format!(
                r#"{{"digests":["{digest}"],"disclosures":["{disclosure}"],"event_index":1,"schema_version":"zero.runtime.disclosure.v1"}}"#
            )
        },
        array,
    )
}

/// As [`proof_of_disclosure`], with other extra data. The tree holds the digest of the disclosure.
fn proof_of_extra(extra: impl Fn(&str, &Hash) -> String, array: &[u8]) -> Vec<u8> {
    let disclosure = base64url(array);
    let digest = Hash::of(disclosure.as_bytes());
    let entry = Entry { event_index: 1, commitment: zero_proof::entry::commitment(&[digest]) };
    let checkpoint = Checkpoint::new(ORIGIN, 1, entry.leaf_hash());
    let checkpoint = SignedCheckpoint::sign(checkpoint, &only_ed25519(ORIGIN), SIGNED_AT).unwrap();
    let extra = Some(extra(&disclosure, &digest).into_bytes());
    Proof { extra, index: 0, path: Vec::new(), checkpoint }.encode().into_bytes()
}

/// The policy without witnesses.
fn log_only() -> String {
    format!("{}quorum none\n", log_line(SignatureType::Ed25519))
}

#[test]
fn the_scripts_of_the_page_stay_inside_their_elements() {
    let page = page::html(&ed25519_proof());
    assert_eq!(page.matches("</script").count(), 2);
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</style").count(), 1);
    assert!(!page.contains("<!--") && !page.contains('\r') && !page.contains("://"));
    // Pages differ only in the line with the proof.
    let other = page::html(&proof(&signer(ORIGIN), &[]));
    let differing = page.lines().zip(other.lines()).filter(|(one, other)| one != other).count();
    assert_eq!((differing, page.lines().count()), (1, other.lines().count()));
}

#[test]
fn a_page_says_proven_only_with_the_policy_of_its_reader() {
    read(&page::html(&ed25519_proof()), |reader| {
        let nothing = |title: &str| (title.to_owned(), String::new());
        assert_eq!(reader.verdict(), nothing("Not proven yet"));
        let text = reader.chromium.evaluate("document.body.innerText").as_str().unwrap().to_owned();
        assert!(text.contains("event 6 of the log example.com/bus is among its first 9 events"), "{text}");
        // The fingerprints are shown, the values are not.
        let id = vkey(&signer("a.example"), SignatureType::CosignatureEd25519).id().to_string();
        assert!(text.contains(&id) && !text.contains("BTC"), "{text}");
        reader.give_policy(&policy());
        let proven =
            ("Proven".to_owned(), "/event_type\t\"decision.record\"\n/payload/symbol\t\"BTC\"".to_owned());
        assert_eq!(reader.verdict(), proven);
        let text = reader.chromium.evaluate("document.getElementById('verdict').innerText").to_string();
        assert!(text.contains("a (a.example+") && text.contains("2026-05-01 00:01:45 UTC"), "{text}");
        // What is typed need not end with a line break. What was proven does not stay.
        reader.give_policy(policy().trim());
        assert_eq!(reader.verdict(), proven);
        for (policy, reason) in [
            ("quorum none", "Your policy lists no log with the origin example.com/bus"),
            ("nonsense", "Policy, line 1"),
            (&policy().replace("any a b c", "all a b c"), "The quorum one is not met; cosigned by: a, b"),
        ] {
            reader.give_policy(policy);
            assert_eq!(reader.verdict(), nothing("Not proven"), "{policy}");
            let text = reader.chromium.evaluate("document.getElementById('verdict-text').textContent");
            assert!(text.as_str().unwrap().contains(reason), "{text}");
        }
        reader.give_policy("");
        assert_eq!(reader.verdict(), nothing("Not proven yet"));
        // A file is chosen, and one is dropped.
        let file = reader.file("policy", policy().as_bytes());
        choose_file(reader.chromium, &file);
        assert_eq!(reader.verdict(), proven);
        let drop = r#"async (text) => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([text], "policy"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        await readPolicyFile(dataTransfer.files[0]);
    }"#;
        reader.chromium.apply(drop, &json!(["quorum none\r\n"]));
        assert_eq!(reader.verdict(), nothing("Not proven"));
        reader.chromium.apply(drop, &json!([policy()]));
        assert_eq!(reader.verdict(), proven);
        assert_eq!(
            reader.chromium.requested(),
            [format!("file://{}", reader.folder.path().join("proof.html").display())]
        );
    });
}

fn choose_file(chromium: &mut Chromium, file: &Path) {
    let document = chromium.call("DOM.getDocument", json!({}));
    let query = json!({"nodeId": document["root"]["nodeId"], "selector": "#policy-file"});
    let input = chromium.call("DOM.querySelector", query);
    chromium.call("DOM.setFileInputFiles", json!({"files": [file], "nodeId": input["nodeId"]}));
    // The page reads the file in the background.
    chromium.evaluate(
        "new Promise((done) => { const look = () => document.getElementById('policy').value === '' \
         ? setTimeout(look, 1) : done(); look(); })",
    );
}

/// The text of a proof as lines, with the offset of each.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let begin = *at;
        *at += line.len();
        Some((begin, line))
    })
}

/// Flips bits of the proof in the page and compares each verdict with the one of this crate. Returns
/// the lines of the proof of which a flip leaves the result as it is.
fn flip(reader: &mut Reader<'_>, proof: &Proof, policy: &str, flips: &[(usize, u8)]) -> Vec<String> {
    reader.open(page::html(proof).as_bytes());
    let mut results = Vec::new();
    for some in flips.chunks(5_000) {
        let answer = reader.chromium.apply(FLIP, &json!([policy, some]));
        let (shown, some): (String, Vec<i64>) = serde_json::from_value(answer).unwrap();
        assert!(shown.starts_with("Proven"), "{shown}");
        results.extend(some);
    }
    assert_eq!(results.len(), flips.len());
    let trusted = Policy::parse(policy.as_bytes()).unwrap();
    let (text, mut still_proven) = (proof.encode(), Vec::new());
    for (result, (at, mask)) in results.iter().zip(flips) {
        let mut changed = text.clone().into_bytes();
        changed[*at] ^= mask;
        let cosigners = Proof::parse(&changed).ok().and_then(|proof| {
            proof.check(&trusted).ok().map(|proven| proven.accepted.cosigners.len() as i64)
        });
        let text_of = || String::from_utf8_lossy(&changed);
        assert_eq!(*result, cosigners.unwrap_or(-1), "byte {at} ^ {mask}: {}", text_of());
        if cosigners.is_some() {
            let (_, line) = lines_of(&text).filter(|(begin, _)| begin <= at).last().unwrap();
            still_proven.push(line.split_inclusive(' ').take(2).collect());
        }
    }
    still_proven.dedup();
    still_proven
}

fn is_soak() -> bool {
    std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1")
}

/// A flipped byte can leave the proof valid in two ways only. It is in a signature by a key that the
/// policy does not know; or it turns a signature that the quorum does not need into one by such a key.
#[test]
fn the_page_says_not_proven_for_every_flipped_byte() {
    read(&page::html(&ed25519_proof()), |reader| {
        let proof = ed25519_proof();
        let length = proof.encode().len();
        let flips: Vec<(usize, u8)> = match is_soak() {
            true => (0..length).flat_map(|at| (1..=255).map(move |mask| (at, mask))).collect(),
            false => (0..length).flat_map(|at| [(at, 1 << (at % 7))]).collect(),
        };
        let one = flip(reader, &proof, &policy(), &flips);
        assert_eq!(one, ["\u{2014} a.example ", "\u{2014} b.example ", "\u{2014} unknown.example "]);
        // Here the quorum needs every signature that the policy knows.
        let all = policy().replace("any a b c", "2 a b c");
        let flips: Vec<(usize, u8)> = flips.into_iter().step_by(5).collect();
        assert_eq!(flip(reader, &proof, &all, &flips), ["\u{2014} unknown.example "]);
    });
}

/// ML-DSA-44 signatures are long, so a normal run flips a part of their bytes.
#[test]
fn the_page_agrees_about_signatures_of_ml_dsa() {
    read(&page::html(&ed25519_proof()), |reader| {
        let proof = proof(&signer(ORIGIN), &[signer("a.example")]);
        let text = proof.encode();
        reader.open(page::html(&proof).as_bytes());
        let probe = r#"crypto.subtle.importKey("raw-public", new Uint8Array(1312), { name: "ML-DSA-44" }, false, ["verify"])
        .then(() => true, () => false)"#;
        let is_supported = reader.chromium.evaluate(probe) == json!(true);
        let ml_dsa = SignatureType::CosignatureMlDsa44;
        let both = format!(
            "{}{}{}{}group one any a a6\nquorum one\n",
            log_line(SignatureType::Ed25519),
            log_line(ml_dsa),
            witness_line("a", "a.example", SignatureType::CosignatureEd25519),
            witness_line("a6", "a.example", ml_dsa),
        );
        if !is_supported {
            // A signature by a key of the policy might be invalid, so nothing is proven.
            reader.give_policy(&both);
            assert_eq!(reader.verdict().0, "Not proven");
            return;
        }
        let step = if is_soak() { 1 } else { 41 };
        let flips: Vec<(usize, u8)> = (0..text.len()).step_by(step).map(|at| (at, 1 << (at % 8))).collect();
        let known = flip(reader, &proof, &both, &flips);
        assert!(known.len() <= 4, "{known:?}");
        let unknown = flip(reader, &proof, &policy(), &flips);
        assert!(unknown.len() >= 2, "{unknown:?}");
        let cases = ["quorum a6\n", "quorum a\n", "group g all a a6\nquorum g\n"].map(|quorum| {
            let policy = both.replace("group one any a a6\nquorum one\n", quorum);
            (text.clone().into_bytes(), policy.into_bytes())
        });
        assert_eq!(reader.compare(&cases), [true; 3]);
    });
}

#[test]
fn a_changed_page_says_not_proven() {
    read(&page::html(&ed25519_proof()), |reader| {
        let page = page::html(&ed25519_proof());
        let proof_at = page.find("id=\"proof\">").unwrap() + "id=\"proof\">".len();
        let proof_length = page[proof_at..].find('<').unwrap();
        let step = if is_soak() { 7 } else { 311 };
        for at in (proof_at..proof_at + proof_length).step_by(step) {
            let mut changed = page.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            use base64::Engine as _;
            let carried = base64::engine::general_purpose::STANDARD
                .decode(&changed[proof_at..proof_at + proof_length])
                .unwrap_or_default();
            reader.open(&changed);
            reader.give_policy(&policy());
            let expected = if is_proven(&carried, policy().as_bytes()) { "Proven" } else { "Not proven" };
            assert_eq!(reader.verdict().0, expected, "byte {at}");
        }
        // A changed script does not run: the content security policy has other hashes.
        let script_at = page.find("class Failure").unwrap();
        for at in [page.find("sha256-").unwrap() + 10, script_at, page.rfind("start();").unwrap()] {
            let mut changed = page.clone().into_bytes();
            changed[at] ^= 1;
            reader.open(&changed);
            reader.give_policy(&policy());
            assert_eq!(reader.verdict(), ("Not proven".to_owned(), String::new()), "byte {at}");
        }
    });
}

/// A browser may lack all cryptography, or one kind of signatures.
#[test]
fn a_page_proves_nothing_in_a_browser_that_cannot_verify() {
    let proof = proof(&signer(ORIGIN), &[signer("a.example")]);
    read(&page::html(&proof), |reader| {
        let with_ml_dsa = policy() + &witness_line("a6", "a.example", SignatureType::CosignatureMlDsa44);
        let without = |algorithm: &str| {
            format!(
                "const importKey = SubtleCrypto.prototype.importKey;
                SubtleCrypto.prototype.importKey = function (format, key, algorithm, ...others) {{
                    return algorithm.name === '{algorithm}'
                        ? Promise.reject(new DOMException('', 'NotSupportedError'))
                        : importKey.call(this, format, key, algorithm, ...others);
                }};"
            )
        };
        let no_cryptography = "Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined });";
        for (change, policy, title, reason) in [
            (no_cryptography, &policy(), "Not proven", "offers no cryptography"),
            (&without("Ed25519"), &policy(), "Not proven", "cannot verify signatures of type Ed25519"),
            (&without("ML-DSA-44"), &policy(), "Proven", "Witnesses of your policy"),
            (&without("ML-DSA-44"), &with_ml_dsa, "Not proven", "cannot verify signatures of type ML-DSA-44"),
        ] {
            let script = json!({"source": change});
            let script = reader.chromium.call("Page.addScriptToEvaluateOnNewDocument", script);
            reader.open(page::html(&proof).as_bytes());
            reader.give_policy(policy);
            assert_eq!(reader.verdict().0, title, "{change}");
            let text = reader.chromium.evaluate("document.getElementById('verdict').innerText").to_string();
            assert!(text.contains(reason), "{text}");
            reader.chromium.call("Page.removeScriptToEvaluateOnNewDocument", script);
        }
    });
}

#[test]
fn the_page_agrees_about_policies() {
    read(&page::html(&ed25519_proof()), |reader| {
        let (log, cosignature) = (log_line(SignatureType::Ed25519), SignatureType::CosignatureEd25519);
        let witness = |name: &str| witness_line(name, &format!("{name}.example"), cosignature);
        let (a, b, c) = (witness("a"), witness("b"), witness("c"));
        let base = format!("{log}{a}{b}{c}");
        let log_vkey = vkey(&signer(ORIGIN), SignatureType::Ed25519).to_string();
        let other = only_ed25519("example.com/other");
        let imposter = SigningKey::from_seeds(ORIGIN, &[1; 32], None).unwrap();
        let [other, imposter] = [other, imposter].map(|key| vkey(&key, SignatureType::Ed25519));
        let long_group = format!("group g 2 {}", "a b ".repeat(1));
        let mut policies: Vec<Vec<u8>> = [
            policy(),
            format!("{base}quorum none\n"),
            format!("{base}quorum a\n"),
            format!("{base}quorum c\n"),
            format!("{base}group g all a b\nquorum g\n"),
            format!("{base}group g all a b c\nquorum g\n"),
            format!("{base}group g 2 a b c\nquorum g\n"),
            format!("{base}group g 3 a b c\nquorum g\n"),
            format!("{base}{long_group}\ngroup h all g c\nquorum h\n"),
            format!("{base}{long_group}\ngroup h any c g\nquorum h\n"),
            format!("{base}group g any a\ngroup h all b\ngroup i 2 g h c\n\n \t\n# end\nquorum i\n"),
            format!("quorum none\n{log}"),
            format!("quorum a\n{log}{a}"),
            "quorum none\n".to_owned(),
            format!("log {other}\nquorum none\n"),
            format!("log {imposter}\nquorum none\n"),
            format!("log {imposter}\n{log}quorum none\n"),
            format!("{log}log {other} https://log.example/\nquorum none\n"),
            format!("\tlog\t{log_vkey}  https://log.example/ \nquorum \t none\n"),
            log.clone(),
            String::new(),
            format!("{log}quorum none"),
            format!("{log}quorum none\r\n"),
            format!("{log}quorum none\n\u{7f}\n"),
            format!("{log}quorum none\nquorum none\n"),
            format!("{log}{log}quorum none\n"),
            format!("{base}{}quorum a\n", a.replace("witness a", "witness d")),
            format!("{base}group a any b\nquorum a\n"),
            format!("{base}group g any\nquorum a\n"),
            format!("{base}group g any a a\nquorum a\n"),
            format!("{base}group g any a\ngroup h any a\nquorum a\n"),
            format!("{base}group none any a\nquorum a\n"),
            format!("{base}group toString any a\nquorum toString\n"),
            format!("{base}quorum toString\n"),
            format!("{base}group __proto__ any a\nquorum __proto__\n"),
            format!("{base}group g toString a\nquorum a\n"),
            format!("{base}witness w {log_vkey}\nquorum a\n"),
            format!("log {}\nquorum none\n", vkey(&signer(ORIGIN), cosignature)),
            format!("log {log_vkey} a b\nquorum none\n"),
            format!("logs {log_vkey}\nquorum none\n"),
            format!("log {}\nquorum none\n", &log_vkey[..log_vkey.len() - 1]),
            format!("log {}\nquorum none\n", log_vkey.replacen('+', "++", 1)),
            format!("log {}\nquorum none\n", log_vkey.to_uppercase()),
            format!("{log}{}quorum none\n", "\n".repeat((1 << 20) - log.len() - 12)),
            format!("{log}{}quorum none\n", "\n".repeat((1 << 20) - log.len() - 11)),
        ]
        .map(String::into_bytes)
        .into();
        for threshold in
            ["0", "1", "01", "+1", "1.0", "4", "18446744073709551617", "All", "any", "all", "\u{661}"]
        {
            policies.push(format!("{base}group g {threshold} a b c\nquorum g\n").into_bytes());
        }
        // Names are bytes; keys that prove nothing are refused.
        for name in [&b"\xff"[..], b"\xfe", b"a\xc2\x85", "\u{212a}".as_bytes(), b"K", b"<b>", b"constructor"]
        {
            let line = format!(" any a\nquorum ").into_bytes();
            policies.push([base.as_bytes(), b"group ", name, &line, name, b"\n# \xff\n"].concat());
            policies.push([base.as_bytes(), b"group ", name, &line, b"\xef\xbf\xbd\n"].concat());
        }
        policies
            .extend(weak_keys().into_iter().map(|key| format!("{log}log {key}\nquorum none\n").into_bytes()));
        for name in
            ["a b", "a\u{85}", "a\u{a0}", "a\u{feff}", "a\u{2028}", "a\u{3000}", "a\u{180e}", "a\u{200b}", ""]
        {
            let key =
                crate::support::vkey_of(name, 1, &vkey(&signer("x"), SignatureType::Ed25519).public_key());
            policies.push(format!("{log}log {key}\nquorum none\n").into_bytes());
        }
        let proof = ed25519_proof().encode().into_bytes();
        let cases: Vec<_> = policies.into_iter().map(|policy| (proof.clone(), policy)).collect();
        let verdicts = reader.compare(&cases);
        let proven = verdicts.iter().filter(|is_proven| **is_proven).count();
        assert!(proven > 20 && verdicts.len() - proven > 40, "{proven} of {}", verdicts.len());
    });
}

/// Public keys of Ed25519 that no policy may contain, and some at the edge that it may.
fn weak_keys() -> Vec<String> {
    let point = |low: u8, middle: u8, high: u8| {
        let mut point = [middle; 32];
        (point[0], point[31]) = (low, high);
        point
    };
    let mut points: Vec<[u8; 32]> = (0..40).map(|low| point(low, 0, 0)).collect();
    points.extend((0xe0..=0xff).map(|low| point(low, 0xff, 0x7f)));
    points.extend([point(1, 0, 0x80), point(0, 0, 0x80), point(2, 0, 0x80), point(0xff, 0xff, 0xff)]);
    // A point of order 8.
    let order_8 = crate::support::unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    points.push(order_8.try_into().unwrap());
    points.iter().map(|point| crate::support::vkey_of("example.com/weak", 1, point)).collect()
}

const SALT: &str = "AAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn the_page_agrees_about_canonical_json() {
    read(&page::html(&ed25519_proof()), |reader| {
        let policy = log_only().into_bytes();
        let mut values: Vec<String> = [
            "null",
            "true",
            "false",
            "True",
            "nul",
            "{}",
            "[]",
            "[ ]",
            "[1,]",
            "[,1]",
            "[1 ,2]",
            "[1,2]",
            "{\"a\":1}",
            "{\"a\":1,\"b\":2}",
            "{\"b\":1,\"a\":2}",
            "{\"a\":1,\"a\":2}",
            "{\"\":1,\"a\":2}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" :1}",
            "{\"__proto__\":1}",
            "{\"\\uffff\":1,\"\\ud800\\udc00\":2}",
            "{\"\\ud800\\udc00\":1,\"\\uffff\":2}",
            "{\"~\":1,\"\\u007f\":2}",
            "{\"\\n\":1,\"\\\"\":2,\"A\":3}",
            "\"\"",
            "\"a\"",
            "'a'",
            "\"\\u0061\"",
            "\"\\u00e9\"",
            "\"\\u00E9\"",
            "\"\u{e9}\"",
            "\"\\/\"",
            "\"/\"",
            "\"\\\\\"",
            "\"\\b\\f\\n\\r\\t\\\"\"",
            "\"\\u0008\"",
            "\"\\u000b\"",
            "\"\\u007f\"",
            "\"\u{7f}\"",
            "\"\\u007e\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ude00\\ud83d\"",
            "\"\\ud83dx\"",
            "\"\\ud83d\\u0041\"",
            "\"\\u202e\"",
            "\"\n\"",
            "\"\\x41\"",
            "\"\\u00g0\"",
            "\"open",
            "0",
            "-0",
            "00",
            "01",
            "-1",
            "--1",
            "+1",
            "1.",
            ".5",
            "1.0",
            "1.50",
            "-0.0",
            "0.0",
            "1e5",
            "1E5",
            "1e+5",
            "100000.0",
            "1e+16",
            "1e16",
            "1.0e+16",
            "1e-05",
            "1e-5",
            "0.0001",
            "0.00001",
            "1e+308",
            "1e+309",
            "1.7976931348623157e+308",
            "5e-324",
            "2.2250738585072014e-308",
            "9007199254740993",
            "9007199254740993.0",
            "9007199254740992.0",
            "1811028892944024.2",
            "1811028892944024.3",
            "123456789012345678901234567890",
            "1234567890123456.7",
            "NaN",
            "Infinity",
            "-Infinity",
            "0x10",
            "1_0",
            "1 ",
            " 1",
            "1\n",
            "\u{feff}1",
            "[[[]]]",
            "[[]",
            "]",
        ]
        .map(str::to_owned)
        .into();
        for depth in [998, 999, 1000, 1001] {
            values.push(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
            values.push(format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)));
        }
        // Doubles of all sizes, as this project writes them. One spelling that the page writes otherwise
        // refuses the whole array.
        let doubles =
            (0_u64..20_000).map(|number| f64::from_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let doubles: Vec<f64> = doubles.filter(|double| double.is_finite()).collect();
        let canonical = zero_bus::Json::of(&doubles).unwrap().to_string();
        values.push(canonical.clone());
        values.push(canonical.replacen('7', "6", 1));
        let mut arrays: Vec<Vec<u8>> =
            values.iter().map(|value| format!("[\"{SALT}\",\"/payload/a\",{value}]").into_bytes()).collect();
        for name in [
            "/event_type",
            "/as_of",
            "/trace_id",
            "/checksum",
            "/previous_checksum",
            "/payload",
            "/payload/",
            "/payload/a/b",
            "/payload/a~1b",
            "/payload/~0",
            "/payload/~",
            "/payload/~2",
            "/payload/a~01",
            "payload/a",
            "",
            "/",
            "/payload/\\n",
            "/payload/\\u2028",
            "/payload/<i>",
            "/Event_type",
        ] {
            arrays.push(format!("[\"{SALT}\",\"{name}\",1]").into_bytes());
        }
        for salt in [
            "",
            "AA",
            &SALT[1..],
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "++AAAAAAAAAAAAAAAAAAAA",
            "__-AAAAAAAAAAAAAAAAAAA",
        ] {
            arrays.push(format!("[\"{salt}\",\"/payload/a\",1]").into_bytes());
        }
        for array in [&b"[]"[..], b"{}", b"\xff", b"[\"\xff\"]", b"1", b"", b"\xef\xbb\xbf[]"] {
            arrays.push(array.to_vec());
        }
        arrays.push(format!("[\"{SALT}\",\"/payload/a\"]").into_bytes());
        arrays.push(format!("[\"{SALT}\",\"/payload/a\",1,2]").into_bytes());
        arrays.push(format!("[1,\"/payload/a\",1]").into_bytes());
        arrays.push(format!("[\"{SALT}\",null,1]").into_bytes());
        let cases: Vec<_> = arrays.iter().map(|array| (proof_of_disclosure(array), policy.clone())).collect();
        let verdicts = reader.compare(&cases);
        let proven = verdicts.iter().filter(|is_proven| **is_proven).count();
        assert!(proven > 40 && verdicts.len() - proven > 60, "{proven} of {}", verdicts.len());
    });
}

#[test]
fn the_page_agrees_about_hostile_proofs() {
    read(&page::html(&ed25519_proof()), |reader| {
        let proof = ed25519_proof();
        let text = proof.encode();
        let array = format!("[\"{SALT}\",\"/payload/a\",1]");
        let extra = |change: &dyn Fn(String) -> String| {
            proof_of_extra(
                |disclosure, digest| {
                    change(format!(
                        r#"{{"digests":["{digest}"],"disclosures":["{disclosure}"],"event_index":1,"schema_version":"zero.runtime.disclosure.v1"}}"#
                    ))
                },
                array.as_bytes(),
            )
        };
        let mut proofs: Vec<Vec<u8>> = vec![
            extra(&|extra| extra),
            extra(&|extra| format!(" {extra}")),
            extra(&|extra| extra.replace(":1,", ":1.0,")),
            extra(&|extra| extra.replace(":1,", ":\"1\",")),
            extra(&|extra| extra.replace(":1,", ":0,")),
            extra(&|extra| extra.replace(":1,", ":2,")),
            extra(&|extra| extra.replace(":1,", ":18446744073709551617,")),
            extra(&|extra| extra.replace("e.v1", "e.v2")),
            extra(&|extra| {
                extra.replace("\"schema_version\":\"zero.runtime.disclosure.v1\"", "\"schema_version\":1")
            }),
            extra(&|extra| extra.replace("}", ",\"x\":1}")),
            extra(&|_| r#"{"digests,disclosures,event_index,schema_version":1}"#.to_owned()),
            extra(&|_| "[]".to_owned()),
            extra(&|_| String::new()),
            extra(&|extra| extra.replace("\"disclosures\":[", "\"disclosures\":[1,")),
            extra(&|extra| extra.replace("\"digests\":[", "\"digests\":[\"\",")),
            extra(&|extra| extra.replace("\"digests\":[", "\"digests\":{}")),
            // Twice the same disclosure; no disclosure at all, which still proves that there is an event.
            extra(&|extra| {
                let begin = extra.find("ures\":[").unwrap() + 7;
                let end = begin + extra[begin..].find(']').unwrap();
                format!("{}{},{}", &extra[..begin], &extra[begin..end], &extra[begin..])
            }),
            extra(&|extra| {
                let begin = extra.find("ures\":[").unwrap() + 7;
                let end = begin + extra[begin..].find(']').unwrap();
                format!("{}{}", &extra[..begin], &extra[end..])
            }),
        ];
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        // Each line is missing, doubled, moved, cut short or made longer.
        for number in 0..lines.len() {
            let without = [&lines[..number], &lines[number + 1..]].concat();
            proofs.push(without.concat().into_bytes());
            proofs.push([&lines[..=number], &lines[number..]].concat().concat().into_bytes());
            let mut swapped = lines.clone();
            swapped.swap(number, lines.len() - 1 - number);
            proofs.push(swapped.concat().into_bytes());
            for (end, insert) in [
                (1, ""),
                (2, "\n"),
                (1, "\r\n"),
                (1, " \n"),
                (1, "A\n"),
                (1, "=\n"),
                (1, "\n\n"),
                (1, "\0\n"),
            ] {
                let kept = lines[number].len().saturating_sub(end);
                let line = format!("{}{insert}", lines[number].get(..kept).unwrap_or_default());
                proofs.push(
                    [&lines[..number], &[line.as_str()], &lines[number + 1..]].concat().concat().into_bytes(),
                );
            }
        }
        for length in (0..text.len()).step_by(97) {
            proofs.push(text.as_bytes()[..length].to_vec());
        }
        proofs.push([b"\xef\xbb\xbf", text.as_bytes()].concat());
        proofs.push([text.as_bytes(), b"\n"].concat());
        proofs.push([text.as_bytes(), b"\xff"].concat());
        // Many signatures, and a long note.
        let unknown = lines[lines.len() - 1];
        for count in [96, 97] {
            proofs.push(format!("{text}{}", unknown.repeat(count - 1)).into_bytes());
        }
        let long = format!("\u{2014} x {}\n", base64(&vec![0; 786_000]));
        proofs.push(format!("{text}{long}").into_bytes());
        proofs.push(format!("{text}{long}{long}").into_bytes());
        proofs.extend(forged(reader.chromium));
        let cases: Vec<_> = proofs.into_iter().map(|proof| (proof, log_only().into_bytes())).collect();
        let verdicts = reader.compare(&cases);
        let proven = verdicts.iter().filter(|is_proven| **is_proven).count();
        assert!(proven > 5 && verdicts.len() - proven > 100, "{proven} of {}", verdicts.len());
        assert_eq!(verdicts[verdicts.len() - 3..], [true, false, false]);
    });
}

/// Three checkpoints signed by the owner of the key: as the standard says, with a malleable signature
/// (S + L), and with the neutral element as R.
fn forged(chromium: &mut Chromium) -> Vec<Vec<u8>> {
    let script = r#"async (seed, checkpoint) => {
        const [secret, order] = [decodeBase64(seed), (1n << 252n) + 27742317777372353535851937790883648493n];
        const number = (bytes) => BigInt("0x" + hex(bytes.slice().reverse()));
        const bytes = (number) => Uint8Array.from({ length: 32 }, (_, at) => Number((number >> BigInt(8 * at)) & 255n));
        const sha512 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-512", concat(...parts)));
        const clamped = (await sha512(secret)).slice(0, 32);
        clamped[0] &= 248;
        clamped[31] = (clamped[31] & 127) | 64;
        const { text, signatures: [{ id, name, bytes: signature }] } = parseCheckpoint(checkpoint, 0);
        const r = new Uint8Array(32);
        r[0] = 1;
        const policy = await parsePolicy(bytesOf(POLICY));
        const k = number(await sha512(r, policy.logs[0].public, bytesOf(text))) % order;
        const malleable = concat(signature.slice(0, 32), bytes(number(signature.slice(32)) + order));
        const neutral = concat(r, bytes((k * number(clamped)) % order));
        const idBytes = Uint8Array.from(id.match(/../g), (digits) => parseInt(digits, 16));
        return [signature, malleable, neutral].map((signature) =>
            `${text}\n\u2014 ${name} ${encodeBase64(concat(idBytes, signature))}\n`);
    }"#;
    let script = script.replace("POLICY", &json!(log_only()).to_string());
    let text = ed25519_proof().encode();
    let (before, checkpoint) = text.split_once("\n\n").unwrap();
    let seed = base64(Hash::of(ORIGIN.as_bytes()).as_bytes());
    let checkpoints: Vec<String> =
        serde_json::from_value(chromium.apply(&script, &json!([seed, checkpoint]))).unwrap();
    checkpoints.iter().map(|checkpoint| format!("{before}\n\n{checkpoint}").into_bytes()).collect()
}

#[test]
fn hostile_names_and_values_stay_text() {
    read(&page::html(&ed25519_proof()), |reader| {
        let hostile = r#"</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"#;
        let reversed = r"\u202egnihton\u202c\u0000\u2066\ud83d\ude00";
        for (name, value) in [
            (format!("/payload/{}", hostile.replace('/', "~1")), format!("\"{hostile}\"")),
            (r"/payload/\u202eeman".to_owned(), format!("\"{reversed}\"")),
            ("/payload/a".to_owned(), format!("{{\"{hostile}\":[\"{hostile}\"]}}")),
        ] {
            let array = format!("[\"{SALT}\",\"{name}\",{value}]");
            let proof = Proof::parse(&proof_of_disclosure(array.as_bytes())).unwrap();
            reader.open(page::html(&proof).as_bytes());
            reader.give_policy(&log_only());
            let (title, fields) = reader.verdict();
            assert_eq!(title, "Proven");
            assert!(fields.contains(&value), "{fields}");
            let page =
                "[document.title, document.scripts.length, document.images.length, document.body.innerText]";
            let page: (String, u64, u64, String) =
                serde_json::from_value(reader.chromium.evaluate(page)).unwrap();
            assert_eq!((page.0.as_str(), page.1, page.2), ("Proof of one event of a log", 2, 0));
            for character in ['\u{202e}', '\u{202c}', '\u{2066}', '\0'] {
                assert!(!page.3.contains(character), "{}", page.3);
            }
        }
        // An origin may be any text.
        let key = only_ed25519("\u{202e}<img/src=x/onerror=document.title='owned'>");
        let checkpoint = Checkpoint::new(key.name(), 9, Hash::EMPTY_TREE);
        let checkpoint = SignedCheckpoint::sign(checkpoint, &key, SIGNED_AT).unwrap();
        let extra = Extra { event_index: 1, digests: Vec::new(), disclosures: Vec::new() };
        let proof =
            Proof { extra: Some(extra.encode().into_bytes()), index: 0, path: Vec::new(), checkpoint };
        reader.open(page::html(&proof).as_bytes());
        reader.give_policy(&format!("log {}\nquorum none\n", vkey(&key, SignatureType::Ed25519)));
        assert_eq!(reader.verdict().0, "Not proven");
        let text = reader.chromium.evaluate("document.body.innerText + document.images.length").to_string();
        assert!(text.contains(r"\\u{202e}<img/src") && text.ends_with("0\""), "{text}");
    });
}

#[test]
fn the_page_cannot_reach_the_network() {
    read(&page::html(&ed25519_proof()), |reader| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let attempts = r#"async (address) => {
        const blocked = [];
        document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
        await fetch(address).catch(() => null);
        await new Promise((done) => { const image = new Image(); image.onerror = done; image.src = address; });
        const style = document.createElement("style");
        style.textContent = "body { display: none }";
        document.body.append(style);
        try {
            document.body.innerHTML = "<b>";
        } catch (error) {
            blocked.push(error.name);
        }
        try {
            eval("1");
        } catch (error) {
            blocked.push(error.name);
        }
        await new Promise((done) => setTimeout(done, 0));
        return [blocked.sort(), getComputedStyle(document.body).display];
    }"#;
        let blocked: Value = reader.chromium.apply(attempts, &json!([address]));
        for directive in ["connect-src", "img-src", "style-src-elem", "TypeError", "EvalError"] {
            assert!(blocked[0].as_array().unwrap().contains(&json!(directive)), "{directive}: {blocked}");
        }
        assert_eq!(blocked[1], "block");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
    });
}
