//! The page of a proof agrees with `Proof::check` about policies, canonical JSON and hostile
//! proofs.

use serde_json::json;
use zero_proof::key::SignatureType;
use zero_proof::{Checkpoint, Entry, Hash, Proof, SignedCheckpoint, SigningKey, page};

use crate::chromium::Chromium;
use crate::page_reader::{ed25519_proof, log_line, log_only, only_ed25519, policy, read, witness_line};
use crate::support::{ORIGIN, SIGNED_AT, base64, base64url, signer, unhex, vkey, vkey_of};

/// The salt of every disclosure here: 16 bytes.
pub(crate) const SALT: &str = "AAAAAAAAAAAAAAAAAAAAAA";

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
        let both_uses = vkey(&signer(ORIGIN), SignatureType::CosignatureMlDsa44);
        let two = "group g 2 a b";
        let mut policies: Vec<Vec<u8>> = [
            policy(),
            format!("{base}quorum none\n"),
            format!("{base}quorum a\n"),
            format!("{base}quorum c\n"),
            format!("{base}group g all a b\nquorum g\n"),
            format!("{base}group g all a b c\nquorum g\n"),
            format!("{base}group g 2 a b c\nquorum g\n"),
            format!("{base}group g 3 a b c\nquorum g\n"),
            format!("{base}{two}\ngroup h all g c\nquorum h\n"),
            format!("{base}{two}\ngroup h any c g\nquorum h\n"),
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
            format!("log {both_uses}\n{log}witness w {both_uses}\nquorum none\n"),
            format!("witness w {both_uses}\nlog {both_uses}\n{log}quorum none\n"),
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
            let line = b" any a\nquorum ".to_vec();
            policies.push([base.as_bytes(), b"group ", name, &line, name, b"\n# \xff\n"].concat());
            policies.push([base.as_bytes(), b"group ", name, &line, b"\xef\xbf\xbd\n"].concat());
        }
        policies
            .extend(weak_keys().into_iter().map(|key| format!("{log}log {key}\nquorum none\n").into_bytes()));
        for name in
            ["a b", "a\u{85}", "a\u{a0}", "a\u{feff}", "a\u{2028}", "a\u{3000}", "a\u{180e}", "a\u{200b}", ""]
        {
            let key = vkey_of(name, 1, &vkey(&signer("x"), SignatureType::Ed25519).public_key());
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
    let order_8 = unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    points.push(order_8.try_into().unwrap());
    points.iter().map(|point| vkey_of("example.com/weak", 1, point)).collect()
}

/// JSON values that are canonical, and others.
const VALUES: &str = r#"null true false True nul {} [] [1,] [,1] [1,2] {"a":1} {"a":1,"b":2} {"b":1,"a":2}
    {"a":1,"a":2} {"":1,"a":2} {"a":1,} {a:1} {"__proto__":1} {"\uffff":1,"\ud800\udc00":2}
    {"\ud800\udc00":1,"\uffff":2} {"~":1,"\u007f":2} {"\n":1,"\"":2,"A":3} "" "a" 'a' "\u0061" "\u00e9" "\u00E9"
    "é" "\/" "/" "\\" "\b\f\n\r\t\"" "\u0008" "\u000b" "\u007f" "\u007e" "\ud83d\ude00" "\ud83d" "\ude00"
    "\ude00\ud83d" "\ud83dx" "\ud83d\u0041" "\u202e" "\x41" "\u00g0" "open 0 -0 00 01 -1 --1 +1 1. .5 1.0 1.50 -0.0
    0.0 1e5 1E5 1e+5 100000.0 1e+16 1e16 1.0e+16 1e-05 1e-5 0.0001 0.00001 1e+308 1e+309 1.7976931348623157e+308
    5e-324 2.2250738585072014e-308 9007199254740993 9007199254740993.0 9007199254740992.0 1811028892944024.2
    1811028892944024.3 123456789012345678901234567890 1234567890123456.7 NaN Infinity -Infinity 0x10 1_0 [[[]]] [[] ]"#;

/// Names that a field of an event can have, and others.
const NAMES: &str = r"/event_type /as_of /trace_id /checksum /previous_checksum /payload /payload/ /payload/a/b
    /payload/a~1b /payload/~0 /payload/~ /payload/~2 /payload/a~01 payload/a / /payload/\n /payload/\u2028 /payload/<i>
    /Event_type";

#[test]
fn the_page_agrees_about_canonical_json() {
    let mut values: Vec<String> = VALUES.split_whitespace().map(str::to_owned).collect();
    values.extend(
        ["[ ]", "[1 ,2]", "{\"a\" :1}", "\"\n\"", "\"\u{7f}\"", "1 ", " 1", "1\n", "\u{feff}1", ""]
            .map(str::to_owned),
    );
    for depth in [998, 999, 1000, 1001] {
        values.push(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        values.push(format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)));
    }
    // Doubles of all sizes, as this project writes them. One spelling that the page writes
    // otherwise refuses the whole array.
    let doubles = (0_u64..20_000).map(|number| f64::from_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let doubles: Vec<f64> = doubles.filter(|double| double.is_finite()).collect();
    let canonical = zero_bus::Json::of(&doubles).unwrap().to_string();
    values.push(canonical.replacen('7', "6", 1));
    values.push(canonical);
    let array = |salt: &str, name: &str, value: &str| format!("[\"{salt}\",\"{name}\",{value}]").into_bytes();
    let mut arrays: Vec<Vec<u8>> = values.iter().map(|value| array(SALT, "/payload/a", value)).collect();
    arrays.extend(NAMES.split_whitespace().chain([""]).map(|name| array(SALT, name, "1")));
    for salt in [
        "",
        "AA",
        &SALT[1..],
        "AAAAAAAAAAAAAAAAAAAAAB",
        "AAAAAAAAAAAAAAAAAAAAAA==",
        "++AAAAAAAAAAAAAAAAAAAA",
        "__-AAAAAAAAAAAAAAAAAAA",
    ] {
        arrays.push(array(salt, "/payload/a", "1"));
    }
    arrays.extend(
        [&b"[]"[..], b"{}", b"\xff", b"[\"\xff\"]", b"1", b"", b"\xef\xbb\xbf[]"].map(<[u8]>::to_vec),
    );
    arrays.push(format!("[\"{SALT}\",\"/payload/a\"]").into_bytes());
    arrays.push(format!("[\"{SALT}\",\"/payload/a\",1,2]").into_bytes());
    arrays.push(b"[1,\"/payload/a\",1]".to_vec());
    arrays.push(format!("[\"{SALT}\",null,1]").into_bytes());
    let cases: Vec<_> =
        arrays.iter().map(|array| (proof_of_disclosure(array), log_only().into_bytes())).collect();
    read(&page::html(&ed25519_proof()), |reader| {
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
                |disclosure, digests| {
                    change(format!(
                        r#"{{"digests":[{digests}],"disclosures":["{disclosure}"],"event_index":1,"schema_version":"zero.runtime.disclosure.v1"}}"#
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
            // Twice the same disclosure; no disclosure at all, which still proves that there is an
            // event.
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

/// Three checkpoints signed by the owner of the key: as the standard says, with a malleable
/// signature (S + L), and with the neutral element as R.
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

/// A proof of a log with one event, whose only disclosure encodes this text.
pub(crate) fn proof_of_disclosure(array: &[u8]) -> Vec<u8> {
    proof_of_extra(
        |disclosure, digests| {
            format!(
                r#"{{"digests":[{digests}],"disclosures":["{disclosure}"],"event_index":1,"schema_version":"zero.runtime.disclosure.v1"}}"#
            )
        },
        array,
    )
}

/// As [`proof_of_disclosure`], with other extra data. They are made of the disclosure and the list
/// of the digests.
fn proof_of_extra(extra: impl Fn(&str, &str) -> String, array: &[u8]) -> Vec<u8> {
    let disclosure = base64url(array);
    // Two fields are withheld, since every event has three. Their digests come first.
    let withheld = [0, 1].map(|last| {
        let mut digest = [0; 32];
        digest[31] = last;
        Hash::from_bytes(digest)
    });
    let digests = [withheld[0], withheld[1], Hash::of(disclosure.as_bytes())];
    let entry = Entry { event_index: 1, commitment: zero_proof::entry::commitment(&digests) };
    let digests = digests.map(|digest| format!("\"{digest}\"")).join(",");
    let checkpoint = Checkpoint::new(ORIGIN, 1, entry.leaf_hash());
    let checkpoint = SignedCheckpoint::sign(checkpoint, &only_ed25519(ORIGIN), SIGNED_AT).unwrap();
    let extra = Some(extra(&disclosure, &digests).into_bytes());
    Proof { extra, index: 0, path: Vec::new(), checkpoint }.encode().into_bytes()
}
