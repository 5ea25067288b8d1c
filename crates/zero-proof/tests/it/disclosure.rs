//! Disclosures and entries.

use proptest::prelude::*;
use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft, Json};
use zero_proof::disclosure::{Disclosure, DisclosureSecret, check_field_name, digest, payload_field};
use zero_proof::entry::{self, Entry, MAX_ENTRY_BYTES, commitment, disclosures};
use zero_proof::{Error, Hash};

use crate::support::{base64url, events, secret};

/// The example of RFC 9901, section 4.2.
#[test]
fn the_digest_is_that_of_rfc_9901() {
    let array = r#"["_26bc4LT-ac6q2KI6cBW5es", "family_name", "Möbius"]"#;
    let disclosure = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0";
    assert_eq!(base64url(array.as_bytes()), disclosure);
    assert_eq!(digest(disclosure).to_string(), "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0=");
}

/// Computed with Python's hmac, hashlib, base64 and json for the event below.
#[test]
fn the_entry_of_an_event_follows_from_event_and_secret() {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let payload = Json::parse(r#"{"a/b~c":[1,{"x":null}],"price":1.5,"é":"ü"}"#).unwrap();
    let draft = Draft { event_type: "t".to_owned(), as_of: 1e9, payload, trace_id: Some("é".to_owned()) };
    let event = bus.append(draft).unwrap();
    let disclosures = disclosures(&event, &secret());
    let names: Vec<&str> = disclosures.iter().map(Disclosure::name).collect();
    assert_eq!(
        names,
        [
            "/event_type",
            "/as_of",
            "/trace_id",
            "/checksum",
            "/payload/a~1b~0c",
            "/payload/price",
            "/payload/é"
        ]
    );
    assert_eq!(Entry::of(&event, &secret()).encode(), PYTHON_ENTRY);
    assert_eq!(disclosures[6].as_str(), PYTHON_DISCLOSURE);
}

const PYTHON_ENTRY: &str = "zero.runtime.leaf.v1\n1\nbS62UHr+lNoCiiQx6Uv3P/BgzpyBvYJA5mVUcvNVTDs=\n";
const PYTHON_DISCLOSURE: &str = "WyJ1MXF2Tkdla0kwTHVHWXZlbDJ0SmhnIiwiL3BheWxvYWQvXHUwMGU5IiwiXHUwMGZjIl0";

#[test]
fn every_field_but_the_previous_checksum_has_a_digest() {
    for event in events(3) {
        let all = disclosures(&event, &secret());
        assert!(all.iter().all(|field| check_field_name(field.name()).is_ok()));
        let text: String = all.iter().map(|field| format!("{} ", field.value())).collect();
        let previous = event.previous_checksum.map(|checksum| checksum.to_string());
        assert!(previous.is_none_or(|previous| !text.contains(&previous)));
        let mut digests: Vec<Hash> = all.iter().map(Disclosure::digest).collect();
        digests.sort();
        assert_eq!(Entry::of(&event, &secret()).commitment, commitment(&digests));
    }
}

#[test]
fn without_the_secret_an_entry_says_nothing_about_its_event() {
    let event = &events(1)[0];
    let entries =
        [[7; 32], [8; 32]].map(|bytes| Entry::of(event, &DisclosureSecret::from_bytes(bytes)).commitment);
    assert_ne!(entries[0], entries[1]);
    // The salts of equal fields of different events differ.
    let events = events(4);
    let salt_of_type = |index: usize| disclosures(&events[index], &secret())[0].as_str()[..24].to_owned();
    assert_ne!(salt_of_type(1), salt_of_type(3));
    assert_eq!(format!("{:?}", secret()), "DisclosureSecret(...)");
}

#[test]
fn the_checksum_is_disclosed_only_with_everything() {
    let event = &events(2)[1];
    let reveal = |names: &[&str]| entry::reveal(event, &secret(), names);
    let all: Vec<String> =
        disclosures(event, &secret()).iter().map(|field| field.name().to_owned()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (revealed, digests) = reveal(&all).unwrap();
    assert_eq!((revealed.len(), digests.len()), (8, 8));
    assert!(matches!(reveal(&["/checksum"]), Err(Error::Invalid { .. })));
    assert!(matches!(reveal(&all[1..]), Err(Error::Invalid { .. })));
    let (revealed, digests) = reveal(&["/payload/symbol", "/event_type"]).unwrap();
    assert_eq!((revealed[0].value().as_str(), digests.len()), ("\"BTC\"", 8));
    assert!(digests.is_sorted());
    for names in
        [&["/payload/other"][..], &["/payload"], &["/previous_checksum"], &["/as_of", "/as_of"], &["as_of"]]
    {
        assert!(matches!(reveal(names), Err(Error::Invalid { .. })), "{names:?}");
    }
}

#[test]
fn an_empty_payload_adds_no_digest() {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let draft = Draft { event_type: "t".into(), as_of: 0.0, payload: Json::empty_object(), trace_id: None };
    let event = bus.append(draft).unwrap();
    assert_eq!(disclosures(&event, &secret()).len(), 3);
}

#[test]
fn field_names_are_pointers_to_whole_fields() {
    for name in [
        "/event_type",
        "/as_of",
        "/trace_id",
        "/checksum",
        "/payload/a",
        "/payload/",
        "/payload/~0~1",
        "/payload/é ü",
    ] {
        assert_eq!(check_field_name(name), Ok(()), "{name}");
    }
    for name in [
        "",
        "/",
        "event_type",
        "/payload",
        "/payload/a/b",
        "/payload/~",
        "/payload/~2",
        "/previous_checksum",
        "/event_id",
    ] {
        assert!(check_field_name(name).is_err(), "{name}");
    }
    assert_eq!(payload_field("~1/"), "/payload/~01~1");
}

#[test]
fn other_disclosures_are_refused() {
    let salt = "AAAAAAAAAAAAAAAAAAAAAA";
    let parse = |array: &str| Disclosure::parse(&base64url(array.as_bytes()));
    let good = format!(r#"["{salt}","/as_of",1.0]"#);
    assert_eq!(parse(&good).unwrap().value().as_str(), "1.0");
    for (array, problem) in [
        (String::new(), "is not canonical JSON"),
        (good.replace(',', ", "), "is not canonical JSON"),
        (good.replace("1.0", "1.00"), "is not canonical JSON"),
        (good.replace("1.0", "\"\u{e9}\""), "is not canonical JSON"),
        (good.replace(",1.0", ""), "must be an array"),
        (good.replace("1.0", "1.0,2"), "must be an array"),
        (good.replace("\"/as_of\"", "1"), "must be an array"),
        ("{}".to_owned(), "must be an array"),
        (good.replace(salt, "AAAA"), "the salt must be"),
        (good.replace(salt, "AAAAAAAAAAAAAAAAAAAAAB"), "the salt must be"),
        (good.replace("/as_of", "/payload/a/b"), "field name"),
    ] {
        let error = parse(&array).unwrap_err().to_string();
        assert!(error.contains(problem), "{array}: {error}");
    }
    assert!(Disclosure::parse("WyI=").is_err() && Disclosure::parse("W yI").is_err());
    assert!(
        Disclosure::parse(&base64url(b"[\"\xff\"]"))
            .unwrap_err()
            .to_string()
            .contains("byte 2: is not UTF-8")
    );
    let deep = format!(r#"["{salt}","/payload/a",{}{}]"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(&deep).is_err());
}

#[test]
fn other_entries_are_refused_with_the_line() {
    let entry = Entry { event_index: u64::MAX, commitment: Hash::of(b"") };
    let text = entry.encode();
    assert!(text.len() <= MAX_ENTRY_BYTES);
    assert_eq!(Entry::parse(text.as_bytes()), Ok(entry));
    for (text, line) in [
        (String::new(), 1),
        (text.replace("v1", "v2"), 1),
        (text.replace(&u64::MAX.to_string(), "0"), 2),
        (text.replace(&u64::MAX.to_string(), "01"), 2),
        (text.replace("=\n", "\n"), 3),
        (text.trim_end().to_owned(), 3),
        (format!("{text}\n"), 4),
    ] {
        let error = Entry::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("entry, line {line}: ")), "{text:?}: {error}");
    }
    assert!(Entry::parse(&[b'z'; 121]).unwrap_err().to_string().contains("longer than 120"));
}

#[test]
fn a_secret_file_is_32_bytes() {
    assert_eq!(DisclosureSecret::parse(&[3; 32]).unwrap().encode(), &[3; 32]);
    for length in [0, 31, 33, 44] {
        let error = DisclosureSecret::parse(&vec![3; length]).unwrap_err().to_string();
        assert!(error.starts_with("secret file, byte "), "{error}");
    }
}

proptest! {
    #[test]
    fn every_disclosure_is_read_back(member in ".{0,20}", text in ".{0,20}", number: f64) {
        let disk = SimDisk::new();
        let bus = Bus::open_in(disk.storage()).unwrap();
        let number = if number.is_finite() { number } else { 0.0 };
        let payload = std::collections::BTreeMap::from([(member.as_str(), text.clone()), ("n", number.to_string())]);
        let event = bus.append(Draft::new("t", 0.0, &payload).unwrap()).unwrap();
        for disclosure in disclosures(&event, &secret()) {
            prop_assert_eq!(Disclosure::parse(disclosure.as_str()).unwrap(), disclosure);
        }
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,60}", bytes: Vec<u8>) {
        let _ = Disclosure::parse(&text);
        let _ = Disclosure::parse(&base64url(&bytes));
        let _ = Entry::parse(&bytes);
    }
}

/// The entry of an event is computed without its disclosures, and leads to the same digests.
#[test]
fn an_entry_commits_to_the_digests_of_all_disclosures() {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let payloads = [
        "{}",
        r#"{"a":1,"b":[1.5,{"c":null}],"":"empty"}"#,
        r#"{"a/b":1,"~":2,"~1/~0":3,"/":4}"#,
        r#"{"\u00e4\"\\":"\u20ac","new\nline/~":"\u007f","\ud83d\ude00":true}"#,
    ];
    for (number, payload) in payloads.iter().enumerate() {
        for trace_id in [None, Some("t \"quoted\" \u{e4}".to_owned())] {
            let event = bus
                .append(Draft {
                    event_type: "type \"\u{e4}\"".to_owned(),
                    as_of: 1777593600.25 + number as f64,
                    payload: Json::parse(payload).unwrap(),
                    trace_id,
                })
                .unwrap();
            let mut digests: Vec<Hash> =
                disclosures(&event, &secret()).iter().map(Disclosure::digest).collect();
            digests.sort_unstable();
            assert_eq!(Entry::of(&event, &secret()).commitment, commitment(&digests), "{payload}");
        }
    }
}
