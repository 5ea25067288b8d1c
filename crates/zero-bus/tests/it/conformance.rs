//! The recorded cases of `conformance/`: canonical forms, refusals, verdicts and an audit document.

use std::fs;
use std::path::{Path, PathBuf};

use zero_bus::{FaultKind, Finding, Json, Reader, Value};

fn conformance() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance")
}

fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(conformance().join(file)).unwrap();
    text.lines().map(|line| Value::parse(line).unwrap()).collect()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case.get(field).and_then(Value::as_str).unwrap()
}

#[test]
fn every_recorded_text_has_its_canonical_form() {
    let cases = cases("canonical.jsonl");
    assert!(cases.len() > 8_000);
    for case in &cases {
        let (input, canonical) = (text(case, "input"), text(case, "canonical"));
        let json = Json::parse(input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(json.as_str(), canonical, "of {input}");
        assert_eq!(Json::parse(canonical).unwrap().as_str(), canonical);
    }
}

#[test]
fn every_recorded_refusal_is_refused() {
    let cases = cases("rejected.jsonl");
    assert!(cases.len() > 20);
    for case in &cases {
        let input = text(case, "input");
        assert!(Json::parse(input).is_err(), "{input:?} has no canonical form");
    }
}

#[test]
fn every_recorded_log_has_its_verdicts_and_counts() {
    let verdicts =
        Value::parse(&fs::read_to_string(conformance().join("logs/verdicts.json")).unwrap()).unwrap();
    let Value::Object(verdicts) = verdicts else { panic!("verdicts.json is an object") };
    assert!(verdicts.len() > 20);
    let empty = tempfile::tempdir().unwrap();
    for (name, recorded) in &verdicts {
        let directory =
            if name == "missing" { empty.path().to_owned() } else { conformance().join("logs").join(name) };
        let reader = Reader::open(directory).unwrap();
        let mut document = Vec::new();
        let (verdict, summary) = reader.audit(&mut document, &mut |_| {}).unwrap();
        assert_eq!(verdict, reader.verify().unwrap(), "{name}: audit and verify agree");
        let integrity = Json::of(&verdict.integrity).unwrap().value();
        let Some(Value::Object(expected)) = recorded.get("integrity") else { panic!("{name} has a verdict") };
        for (field, value) in expected {
            assert_eq!(integrity.get(field), Some(value), "{name}: integrity.{field}");
        }
        let snapshot_integrity = Json::of(&verdict.snapshot_integrity).unwrap().value();
        assert_eq!(Some(&snapshot_integrity), recorded.get("snapshot_integrity"), "{name}");
        assert_eq!(Some(&Json::of(&summary).unwrap().value()), recorded.get("summary"), "{name}");
        let document = Value::parse(std::str::from_utf8(&document).unwrap()).unwrap();
        assert_eq!(document.get("integrity"), Some(&integrity), "{name}");
    }
}

#[test]
fn the_audit_document_is_the_recorded_one() {
    let directory = conformance().join("logs/valid-40");
    let mut document = Vec::new();
    Reader::open(&directory).unwrap().audit(&mut document, &mut |_| {}).unwrap();
    assert_eq!(
        String::from_utf8(document).unwrap(),
        fs::read_to_string(directory.join("audit.json")).unwrap()
    );
}

/// The recording implementation fails on the first two of these logs and accepts the third.
#[test]
fn logs_without_a_recorded_verdict_have_distinct_findings() {
    let verdict = |name: &str| Reader::open(conformance().join("logs").join(name)).unwrap().verify().unwrap();

    let torn = verdict("torn-tail");
    assert!(!torn.integrity.ok());
    assert_eq!(torn.integrity.head.index, 25);
    assert_eq!(torn.integrity.finding, Finding::Torn { byte_offset: 12966, bytes: 203 });
    assert_eq!(torn.integrity.reason(), "torn tail after event 25: 203 bytes of an unfinished append");
    assert_eq!(torn.snapshot_integrity.reason, "snapshot references missing tail events");

    let garbage = verdict("garbage-line");
    assert_eq!(garbage.integrity.head.index, 25);
    let Finding::Fault(fault) = &garbage.integrity.finding else { panic!("a fault") };
    assert!(matches!(fault.kind, FaultKind::NotJson(..)));
    assert_eq!((fault.event, fault.byte_offset), (26, 12966));

    let unknown_field = verdict("extra-key");
    assert_eq!(unknown_field.integrity.head.index, 4);
    let Finding::Fault(fault) = &unknown_field.integrity.finding else { panic!("a fault") };
    assert_eq!(fault.kind, FaultKind::UnknownField("note".to_owned()));
    assert_eq!(fault.to_string(), "unknown field `note` at event 5");
}

/// Runs only if the original of the recorded cases is next to the project.
#[test]
fn the_recorded_cases_are_an_exact_copy_of_the_original() {
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    if !original.is_dir() {
        return;
    }
    let (original, mut copy) = (tree(&original), tree(&conformance()));
    assert!(original.len() > 100);
    // The project's own cases and judges stand next to the copy.
    copy.retain(|(name, _)| !name.starts_with("judges") && !name.starts_with("market"));
    let names = |tree: &[(PathBuf, Vec<u8>)]| tree.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&original), names(&copy));
    for ((name, original), (_, copy)) in original.iter().zip(&copy) {
        assert!(original == copy, "{} differs from the original", name.display());
    }
}

fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
