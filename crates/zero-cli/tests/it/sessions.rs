//! The recorded sessions of `conformance/`: the same scenario and clock give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{CLOCK, bus, conformance, engine, temp_dir};
use zero_bus::{Json, Value};

const FILES: [&str; 4] =
    ["decisions.jsonl", "cycles.jsonl", "runtime-bus/events.jsonl", "runtime-bus/state-snapshot.json"];

fn sessions() -> Vec<PathBuf> {
    let mut sessions: Vec<_> =
        fs::read_dir(conformance().join("sessions")).unwrap().map(|entry| entry.unwrap().path()).collect();
    sessions.sort();
    assert_eq!(sessions.len(), 5);
    sessions
}

fn assert_same_bytes(recorded: &Path, written: &Path) {
    let (recorded_bytes, written_bytes) = (fs::read(recorded).unwrap(), fs::read(written).unwrap());
    assert!(recorded_bytes == written_bytes, "{} differs from {}", written.display(), recorded.display());
}

/// The options of the session that has reduce-only orders which do not reduce a position. All other
/// sessions are the same under both rules.
fn reduce_only_options(session: &Path) -> &'static [&'static str] {
    if session.ends_with("many") { &["--trust-reduce-only"] } else { &[] }
}

/// Repeats a recorded run, one process per step, and compares the files and the last output.
fn repeat(session: &Path, run: &str) {
    let temp = temp_dir();
    fs::copy(session.join("scenario.json"), temp.path().join("scenario.json")).unwrap();
    let dir = temp.path().join(run);
    fs::create_dir(&dir).unwrap();
    let steps = Value::parse(&fs::read_to_string(session.join(run).join("steps.json")).unwrap()).unwrap();
    let Value::Array(steps) = steps else { panic!("steps.json is a list") };
    let mut last = String::new();
    for step in &steps {
        let cycles = step.as_u64().unwrap().to_string();
        let arguments = [
            &[
                "--scenario",
                "../scenario.json",
                "--journal",
                "decisions.jsonl",
                "--cycle-journal",
                "cycles.jsonl",
                "--runtime-bus",
                "runtime-bus",
                "--max-cycles",
                &cycles,
                "--interval",
                "0",
                "--fixed-clock",
                CLOCK,
            ],
            reduce_only_options(session),
        ]
        .concat();
        last = engine(&dir, &arguments).success();
    }
    for file in FILES {
        assert_same_bytes(&session.join(run).join(file), &dir.join(file));
    }
    assert_eq!(last, fs::read_to_string(session.join(run).join("stdout.json")).unwrap());
    bus(&dir, &["verify", "runtime-bus"]).success();
}

#[test]
fn one_run_is_reproduced() {
    sessions().iter().for_each(|session| repeat(session, "one-run"));
}

#[test]
fn runs_with_restarts_are_reproduced() {
    sessions().iter().for_each(|session| repeat(session, "restarts"));
}

/// A parity report without two checks that are constants in the recording, and without the hash
/// over them.
fn comparable_report(report: &str) -> Value {
    let Value::Object(mut report) = Value::parse(report).unwrap() else { panic!("a report is an object") };
    assert!(report.remove("parity_hash").is_some());
    let Some(Value::Object(checks)) = report.get_mut("checks") else { panic!("a report has checks") };
    checks.retain(|check, _| {
        !["operator_owned_canary_required", "protected_live_code_mutation_blocked"].contains(&check.as_str())
    });
    Value::Object(report)
}

#[test]
fn parity_reports_are_reproduced() {
    let mut compared = 0;
    for session in sessions().iter().filter(|session| session.join("parity").is_dir()) {
        let temp = temp_dir();
        fs::copy(session.join("scenario.json"), temp.path().join("scenario.json")).unwrap();
        let arguments = [
            "--production-parity",
            "--scenario",
            "scenario.json",
            "--output",
            "parity",
            "--fixed-clock",
            CLOCK,
        ];
        let printed = engine(temp.path(), &arguments).success();
        let written = fs::read_to_string(temp.path().join("parity/production-parity.json")).unwrap();
        assert_eq!(printed, written);
        let recorded = fs::read_to_string(session.join("parity/production-parity.json")).unwrap();
        let (written_report, recorded_report) = (comparable_report(&written), comparable_report(&recorded));
        assert_eq!(
            Json::try_from(&written_report).unwrap().pretty(),
            Json::try_from(&recorded_report).unwrap().pretty()
        );
        for file in FILES {
            assert_same_bytes(&session.join("parity").join(file), &temp.path().join("parity").join(file));
        }
        // The hash covers the documented members, without the time.
        let report = Value::parse(&written).unwrap();
        let hash = report.get("parity_hash").cloned();
        assert_eq!(hash.as_ref().and_then(Value::as_str), Some(documented_hash(&report).as_str()));
        // A later time does not change the hash.
        let later = engine(temp.path(), &[&arguments[..6], &["1777593601.5"]].concat()).success();
        assert_eq!(Value::parse(&later).unwrap().get("parity_hash"), hash.as_ref());
        compared += 1;
    }
    assert_eq!(compared, 4);
}

fn documented_hash(report: &Value) -> String {
    let Value::Object(members) = report else { panic!("a report is an object") };
    let mut hashed = members.clone();
    hashed.retain(|member, _| {
        ["checks", "cycles_run", "feedback", "scenario", "schema_version"].contains(&member.as_str())
    });
    let Some(Value::Object(feedback)) = hashed.get_mut("feedback") else { panic!("a report has feedback") };
    feedback.remove("generated_at");
    zero_bus::Checksum::of(Json::try_from(&Value::Object(hashed)).unwrap().as_str().as_bytes()).to_string()
}
