//! The recorded sessions of `conformance/`: the real binary, the same clock, the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{CLOCK, bus, conformance, engine};
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

fn same(recorded: &Path, written: &Path) {
    let (recorded_bytes, written_bytes) = (fs::read(recorded).unwrap(), fs::read(written).unwrap());
    assert!(recorded_bytes == written_bytes, "{} differs from {}", written.display(), recorded.display());
}

/// One process for each number, one after the other, in a folder beside the scenario.
fn replay(session: &Path, run: &str) {
    let place = tempfile::tempdir().unwrap();
    fs::copy(session.join("scenario.json"), place.path().join("scenario.json")).unwrap();
    let here = place.path().join(run);
    fs::create_dir(&here).unwrap();
    let steps = Value::parse(&fs::read_to_string(session.join(run).join("steps.json")).unwrap()).unwrap();
    let Value::Array(steps) = steps else { panic!("steps.json is a list") };
    let mut last = String::new();
    for step in &steps {
        let cycles = step.as_u64().unwrap().to_string();
        last = engine(
            &here,
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
        )
        .fine();
    }
    for file in FILES {
        same(&session.join(run).join(file), &here.join(file));
    }
    assert_eq!(last, fs::read_to_string(session.join(run).join("stdout.json")).unwrap());
    bus(&here, &["verify", "runtime-bus"]).fine();
}

#[test]
fn one_run_comes_out_as_recorded() {
    sessions().iter().for_each(|session| replay(session, "one-run"));
}

#[test]
fn restarts_come_out_as_recorded() {
    sessions().iter().for_each(|session| replay(session, "restarts"));
}

/// What the recorded report must become: two checks are constants and go; the hash goes with them.
fn without_what_may_differ(report: &str) -> Value {
    let Value::Object(mut report) = Value::parse(report).unwrap() else { panic!("a report is an object") };
    assert!(report.remove("parity_hash").is_some());
    let Some(Value::Object(checks)) = report.get_mut("checks") else { panic!("a report has checks") };
    checks.retain(|check, _| {
        !["operator_owned_canary_required", "protected_live_code_mutation_blocked"].contains(&check.as_str())
    });
    Value::Object(report)
}

#[test]
fn parity_comes_out_as_recorded() {
    let mut compared = 0;
    for session in sessions().iter().filter(|session| session.join("parity").is_dir()) {
        let place = tempfile::tempdir().unwrap();
        fs::copy(session.join("scenario.json"), place.path().join("scenario.json")).unwrap();
        let arguments = [
            "--production-parity",
            "--scenario",
            "scenario.json",
            "--output",
            "parity",
            "--fixed-clock",
            CLOCK,
        ];
        let printed = engine(place.path(), &arguments).fine();
        let written = fs::read_to_string(place.path().join("parity/production-parity.json")).unwrap();
        assert_eq!(printed, written);
        let recorded = fs::read_to_string(session.join("parity/production-parity.json")).unwrap();
        let (ours, theirs) = (without_what_may_differ(&written), without_what_may_differ(&recorded));
        assert_eq!(Json::try_from(&ours).unwrap().pretty(), Json::try_from(&theirs).unwrap().pretty());
        for file in FILES {
            same(&session.join("parity").join(file), &place.path().join("parity").join(file));
        }
        // The hash is over what the documentation says, and the time is not part of it.
        let report = Value::parse(&written).unwrap();
        let hash = report.get("parity_hash").cloned();
        assert_eq!(hash.as_ref().and_then(Value::as_str), Some(documented_hash(&report).as_str()));
        // A second run writes the report anew; a later time does not change the hash.
        let later = engine(place.path(), &[&arguments[..6], &["1777593601.5"]].concat()).fine();
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
    let Some(Value::Object(feedback)) = hashed.get_mut("feedback") else { panic!("there is feedback") };
    feedback.remove("generated_at");
    zero_bus::Checksum::of(Json::try_from(&Value::Object(hashed)).unwrap().as_str().as_bytes()).to_string()
}
