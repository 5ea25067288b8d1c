//! Public keys, and key files, which OpenSSL reads and writes too.

use std::process::Command;

use proptest::prelude::*;
use zero_proof::key::{SignatureType, check_key_name};
use zero_proof::{Error, Hash, SigningKey, VerifierKey};

use crate::support::{signer, unhex, vkey, vkey_of};

/// The example key of RFC 8410, section 10.3.
const RFC8410_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
/// The example key of RFC 9881, appendix C.
const RFC9881_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMDQCAQAwCwYJYIZIAWUDBAMRBCKAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ\nGhscHR4f\n-----END PRIVATE KEY-----\n";

#[test]
fn key_files_hold_the_example_keys_of_the_standards() {
    let file = format!("Name: example.com/bus\n{RFC8410_KEY}{RFC9881_KEY}");
    let key = SigningKey::parse(file.as_bytes()).unwrap();
    assert_eq!(key.name(), "example.com/bus");
    assert_eq!(*key.encode(), file);
    let ed25519 = vkey(&key, SignatureType::Ed25519).public_key();
    let expected = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    assert_eq!(ed25519, unhex(expected));
    let ml_dsa = vkey(&key, SignatureType::CosignatureMlDsa44).public_key();
    assert_eq!(ml_dsa.len(), 1312);
    // Computed by OpenSSL, through Python's cryptography.
    let expected = "9f107644c1084526af3bc8098680b05499a2325a644e388fb4f970e058d19d46";
    assert_eq!(Hash::of(&ml_dsa).as_bytes().as_slice(), unhex(expected));
    let without = SigningKey::parse(format!("Name: x\n{RFC8410_KEY}").as_bytes()).unwrap();
    assert_eq!(without.verifier_key(SignatureType::CosignatureMlDsa44), None);
    assert_eq!(format!("{key:?}"), "SigningKey(example.com/bus)");
}

#[test]
fn openssl_reads_our_key_files_and_we_read_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let key = signer("example.com/bus");
    std::fs::write(folder.path().join("ours"), key.encode().as_bytes()).unwrap();
    let public = openssl(&["pkey", "-in", "ours", "-pubout", "-outform", "DER"]);
    assert!(public.ends_with(&vkey(&key, SignatureType::Ed25519).public_key()));

    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "theirs"]);
    let pem = std::fs::read_to_string(folder.path().join("theirs")).unwrap();
    let key = SigningKey::parse(format!("Name: example.com/bus\n{pem}").as_bytes()).unwrap();
    let public = openssl(&["pkey", "-in", "theirs", "-pubout", "-outform", "DER"]);
    assert!(public.ends_with(&vkey(&key, SignatureType::Ed25519).public_key()));
}

#[test]
fn other_key_files_are_refused_with_the_line_and_without_the_secret() {
    let body = RFC8410_KEY.lines().nth(1).unwrap();
    let begin = "-----BEGIN PRIVATE KEY-----";
    let end = "-----END PRIVATE KEY-----";
    for (file, line, problem) in [
        (String::new(), 1, "the name is missing"),
        (RFC8410_KEY.to_owned(), 1, "must begin with `Name: `"),
        ("Name: x\n".to_owned(), 2, "the Ed25519 key is missing"),
        (format!("Name: x y\n{RFC8410_KEY}"), 1, "space"),
        (format!("Name: \n{RFC8410_KEY}"), 1, "empty"),
        (format!("Name: {}\n{RFC8410_KEY}", "x".repeat(256)), 1, "255"),
        (format!("Name: x\n{RFC9881_KEY}"), 3, "PKCS#8"),
        (format!("Name: x\n{RFC8410_KEY}{RFC8410_KEY}"), 6, "PKCS#8"),
        (format!("Name: x\n{RFC8410_KEY}{RFC9881_KEY}more\n"), 9, "nothing may follow"),
        (format!("Name: x\n{RFC8410_KEY}\n"), 5, "must be `-----BEGIN"),
        (format!("Name: x\n{begin}\n{}\n{end}\n", &body[..60]), 3, "PKCS#8"),
        (format!("Name: x\n{begin}\n{body}A\n{end}\n"), 3, "longer than 64"),
        (format!("Name: x\n{begin}\n{}\n{}\n{end}\n", &body[..32], &body[32..]), 4, "too short"),
        (format!("Name: x\n{begin}\n{body}\n"), 4, "END PRIVATE KEY"),
        (format!("Name: x\n{begin}\n{body}\n{end}"), 4, "line break"),
        (format!("Name: x\n{}", RFC8410_KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")), 2, "BEGIN"),
        (format!("Name: x\r\n{RFC8410_KEY}"), 1, "space"),
    ] {
        let error = SigningKey::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("key file, line {line}: ")), "{file:?}: {error}");
        assert!(error.contains(problem), "{file:?}: {error}");
        assert!(!error.contains(&body[30..40]), "{error}");
    }
    assert!(SigningKey::parse(&[b'x'; 5000]).is_err());
    assert!(SigningKey::parse(b"Name: \xff\n").is_err());
}

#[test]
fn vkeys_of_all_types_are_read_back() {
    let key = signer("example.com/bus");
    let types =
        [SignatureType::Ed25519, SignatureType::CosignatureEd25519, SignatureType::CosignatureMlDsa44];
    let keys = types.map(|signature_type| vkey(&key, signature_type));
    for key in &keys {
        let parsed: VerifierKey = key.to_string().parse().unwrap();
        assert_eq!((&parsed, parsed.id(), parsed.signature_type()), (key, key.id(), key.signature_type()));
    }
    assert!(keys[0].id() != keys[1].id() && keys[0] != keys[1]);
}

#[test]
fn other_vkeys_are_refused_with_the_place() {
    let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    assert!(vkey.parse::<VerifierKey>().is_ok());
    for (text, problem) in [
        (String::new(), "vkey, byte 0: must be NAME+ID+KEY"),
        ("example.com/foo".to_owned(), "byte 15: must be NAME+ID+KEY"),
        ("a+530d903a".to_owned(), "must be NAME+ID+KEY"),
        (vkey.replace("example.com/foo", ""), "byte 0"),
        (vkey.replace("/foo", " foo"), "byte 0"),
        (vkey.replace("530d903a", "530d903b"), "byte 16: the key id should be 530d903a"),
        (vkey.replace("530d903a", "530D903A"), "byte 16: the key id must be 8"),
        (vkey.replace("530d903a", "0530d903a"), "byte 16: the key id must be 8"),
        (vkey.replace("530d903a", "+30d903a"), "byte 16: the key id must be 8"),
        (vkey.replace("AekyeR", "A ekyeR"), "byte 25: the key is not base64"),
        (vkey.replace("+AekyeR", "++ekyeR"), "not supported"),
        (format!("{vkey}="), "byte 25: the key is not base64"),
        ("a+00000000+".to_owned(), "byte 11: the key is empty"),
        (vkey_of("a", 1, &[1; 31]), "32 bytes"),
        (vkey_of("a", 6, &[1; 1311]), "1312 bytes"),
        (vkey_of("a", 2, &[1; 32]), "type 0x02"),
        (format!("{vkey}{}", "A".repeat(5000)), "longer"),
    ] {
        let error = text.parse::<VerifierKey>().unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

/// The points of small order, for which anybody can make signatures, and a point that is not
/// encoded canonically.
#[test]
fn weak_public_keys_are_refused() {
    for public in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        // The first one again, with y + p.
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        // No point of the curve.
        "0200000000000000000000000000000000000000000000000000000000000000",
    ] {
        for signature_type in [1, 4] {
            let result = vkey_of("a", signature_type, &unhex(public)).parse::<VerifierKey>();
            assert!(matches!(result, Err(Error::Malformed { .. })), "{public}: {result:?}");
        }
    }
}

#[test]
fn key_names_follow_the_standard() {
    for name in ["example.com/foo", "a", "é", "-", "a\u{7f}"] {
        assert_eq!(check_key_name(name), Ok(()), "{name}");
    }
    for name in ["", " ", "a b", "a+b", "a\n", "a\tb", "a\u{a0}b", "a\u{2003}", "a\u{85}", "a\u{0}", "\u{1f}"]
    {
        assert!(matches!(check_key_name(name), Err(Error::Invalid { .. })), "{name:?}");
    }
}

proptest! {
    #[test]
    fn any_key_file_is_read_back(name in "[!-*,-~]{1,40}", one: [u8; 32], two: Option<[u8; 32]>) {
        let key = SigningKey::from_seeds(&name, &one, two.as_ref()).unwrap();
        let file = key.encode();
        let parsed = SigningKey::parse(file.as_bytes()).unwrap();
        prop_assert_eq!(&*parsed.encode(), &*file);
        prop_assert_eq!(parsed.verifier_key(SignatureType::CosignatureMlDsa44).is_some(), two.is_some());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,60}") {
        let _ = SigningKey::parse(&bytes);
        let _ = SigningKey::parse(&[b"Name: x\n-----BEGIN PRIVATE KEY-----\n", &bytes[..]].concat());
        prop_assert!(text.parse::<VerifierKey>().is_err());
    }
}
