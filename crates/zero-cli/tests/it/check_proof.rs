//! `conformance/judges/check_proof.py`, a checker of proofs that was written from the specification
//! alone, agrees with `zero-bus`. `ZERO_TEST_WITHOUT_CRYPTOGRAPHY=1` skips the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zero_proof::{Policy, Proof};

use crate::support::proofs::{checkpoint, cosign_stored, set_up, write_policy};
use crate::support::{bus, rounds, temp_dir, venv};

const VERSION: &str = "50.0.2";
const SKIP: &str = "ZERO_TEST_WITHOUT_CRYPTOGRAPHY";

/// What the judge printed, or its exit status and reason.
fn judge(python: &Path, policy: &Path, proof: &Path) -> Result<String, (i32, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/judges/check_proof.py");
    let output = Command::new(python).arg(script).args([policy, proof]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap()),
        code => {
            assert!(output.stdout.is_empty() && stderr.lines().count() == 1, "{stderr}");
            Err((code.unwrap(), stderr))
        }
    }
}

fn python() -> Option<PathBuf> {
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        println!("SKIPPED: the checker in Python, because {SKIP} is set");
        return None;
    }
    Some(venv::with_package("cryptography", VERSION, SKIP).join("python3"))
}

#[test]
fn the_independent_checker_shows_what_zero_bus_proves() {
    let Some(python) = python() else { return };
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 9);
    checkpoint(dir);
    cosign_stored(dir, 9, &[("north", 1_777_593_700), ("south", 1_777_593_710)]);
    write_policy(dir, "both", &["north", "south"]);
    write_policy(dir, "third", &["north", "east"]);
    for (event, reveal) in [("1", "event_type"), ("5", "event_type,payload/n"), ("9", "*")] {
        let prove =
            ["prove", "bus", event, "--secret", "bus.secret", "--reveal", reveal, "-o", "p.tlog-proof"];
        bus(dir, &prove).success();
        let proof = dir.join("p.tlog-proof");
        for (policy, proven) in [("policy", true), ("both", true), ("third", false)] {
            let judged = judge(&python, &dir.join(policy), &proof);
            assert_eq!(judged.is_ok(), proven, "{policy}: {judged:?}");
            let ours = bus(dir, &["check", "p.tlog-proof", "--policy", policy]);
            if !proven {
                assert_eq!(
                    (ours.code, ours.stdout.starts_with("FAIL  not proven: ")),
                    (1, true),
                    "{}",
                    ours.stdout
                );
                assert_eq!(judged.unwrap_err().0, 1);
                continue;
            }
            ours.success();
            let judged = judged.unwrap();
            assert!(judged.starts_with(r#"{"origin": "example.com/bus", "tree_size": 9}"#), "{judged}");
            let cosigned = judged.matches(r#""role": "witness""#).count();
            assert_eq!(cosigned, if policy == "both" { 2 } else { 0 }, "{judged}");
            let parsed = Proof::parse(&fs::read(&proof).unwrap()).unwrap();
            let policy = Policy::parse(&fs::read(dir.join(policy)).unwrap()).unwrap();
            let fields: Vec<String> =
                judged.lines().filter(|line| line.contains(r#""event_index""#)).map(str::to_owned).collect();
            let proven = parsed.check(&policy).unwrap();
            assert_eq!(fields.len(), proven.disclosures.len(), "{judged}");
            for (line, disclosed) in fields.iter().zip(&proven.disclosures) {
                let expected = format!(
                    r#"{{"event_index": {event}, "name": "{}", "value": {}}}"#,
                    disclosed.name(),
                    disclosed.value().as_str()
                );
                assert_eq!(*line, expected);
            }
        }
        fs::remove_file(&proof).unwrap();
    }
}

#[test]
fn the_independent_checker_refuses_what_zero_bus_refuses() {
    let Some(python) = python() else { return };
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 5);
    checkpoint(dir);
    cosign_stored(dir, 5, &[("north", 1_777_593_700)]);
    let policy = write_policy(dir, "one", &["north"]);
    let prove =
        ["prove", "bus", "3", "--secret", "bus.secret", "--reveal", "event_type", "-o", "p.tlog-proof"];
    bus(dir, &prove).success();
    let proof = fs::read(dir.join("p.tlog-proof")).unwrap();
    let changed = dir.join("changed");
    let mut refused = 0;
    let changes = rounds(13, 400);
    for position in (0..proof.len()).step_by(proof.len() / changes) {
        let mut bytes = proof.clone();
        bytes[position] ^= 1;
        fs::write(&changed, &bytes).unwrap();
        let ours = Proof::parse(&bytes).and_then(|proof| proof.check(&policy).map(|_| ()));
        let judged = judge(&python, &dir.join("one"), &changed);
        assert_eq!(judged.is_ok(), ours.is_ok(), "byte {position}: {judged:?}, {ours:?}");
        refused += usize::from(ours.is_err());
    }
    assert!(refused >= changes * 3 / 4, "{refused}");
}
