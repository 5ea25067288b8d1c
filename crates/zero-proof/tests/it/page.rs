//! The page of a proof in a real Chromium: what it says, and what cannot make it say "Proven".

use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};
use zero_proof::key::SignatureType;
use zero_proof::proof::Extra;
use zero_proof::{Checkpoint, Hash, Policy, Proof, SignedCheckpoint, page};

use crate::chromium::Chromium;
use crate::page_agreement::{SALT, proof_of_disclosure};
use crate::page_reader::{
    Reader, ed25519_proof, is_proven, log_line, log_only, only_ed25519, policy, proof, read, witness_line,
};
use crate::support::{ORIGIN, SIGNED_AT, signer, vkey};

/// For each changed byte of the proof: how many cosignatures the page shows if it says what it says
/// of the unchanged proof, which is proven; -1 if it says that nothing is proven and shows no
/// field; -2 for everything else.
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
        let verdict = |reader: &mut Reader| {
            let (title, fields) = reader.verdict();
            (title, fields.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let shown = ["/event_type", "\"decision.record\"", "/payload/symbol", "\"BTC\""].map(str::to_owned);
        let proven = ("Proven".to_owned(), shown.to_vec());
        assert_eq!(verdict(reader), proven);
        let text = reader.chromium.evaluate("document.getElementById('verdict').innerText").to_string();
        assert!(text.contains("a (a.example+") && text.contains("2026-05-01 00:01:45 UTC"), "{text}");
        // What is typed need not end with a line break. What was proven does not stay.
        reader.give_policy(policy().trim());
        assert_eq!(verdict(reader), proven);
        for (policy, reason) in [
            ("quorum none", "Your policy lists no log with the origin example.com/bus"),
            ("nonsense", "The policy cannot be used: policy, line 1: must be log VKEY"),
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
        assert_eq!(verdict(reader), proven);
        let drop = r#"async (text) => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([text], "policy"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        await readPolicyFile(dataTransfer.files[0]);
    }"#;
        reader.chromium.apply(drop, &json!(["quorum none\r\n"]));
        assert_eq!(reader.verdict(), nothing("Not proven"));
        reader.chromium.apply(drop, &json!([policy()]));
        assert_eq!(verdict(reader), proven);
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

/// Flips bits of the proof in the page and compares each verdict with the one of this crate.
/// Returns the lines of the proof of which a flip leaves the result as it is.
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

pub(crate) fn is_soak() -> bool {
    std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1")
}

/// A flipped byte can leave the proof valid in two ways only. It is in a signature by a key that
/// the policy does not know; or it turns a signature that the quorum does not need into one by such
/// a key.
#[test]
fn the_page_says_not_proven_for_every_flipped_byte() {
    read(&page::html(&ed25519_proof()), |reader| {
        let proof = ed25519_proof();
        let length = proof.encode().len();
        let flips: Vec<(usize, u8)> = match is_soak() {
            true => (0..length).flat_map(|at| (1..=255).map(move |mask| (at, mask))).collect(),
            false => (0..length).map(|at| (at, 1 << (at % 7))).collect(),
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
