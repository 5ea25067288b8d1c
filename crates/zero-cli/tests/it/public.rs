//! `zero-bus public`: the exports are byte for byte as recorded.

use std::fs;
use std::path::Path;

use crate::support::{Finished, bus, conformance, runs, temp_dir};
use zero_bus::Value;

/// The options of a recorded request.
fn recorded_options(folder: &Path) -> Vec<String> {
    let request = Value::parse(&fs::read_to_string(folder.join("request.json")).unwrap()).unwrap();
    let text = |key: &str| request.get(key).and_then(Value::as_str).map(str::to_owned);
    let delay_s = request.get("public_delay_s").and_then(Value::as_u64).unwrap().to_string();
    let mut options = vec![
        "--handle".to_owned(),
        text("handle").unwrap(),
        "--generated-at".to_owned(),
        text("generated_at").unwrap(),
        "--public-delay".to_owned(),
        delay_s,
    ];
    if let Some(name) = text("display_name") {
        options.extend(["--display-name".to_owned(), name]);
    }
    if request.get("publish_enabled").and_then(Value::as_bool).unwrap() {
        options.push("--publish".to_owned());
    }
    options
}

fn public(dir: &Path, export: &str, options: &[&str]) -> Finished {
    bus(dir, &[&["public", export], options].concat())
}

#[test]
fn exports_match_the_recorded_ones_from_journal_and_bus() {
    let mut sessions = 0;
    for entry in fs::read_dir(conformance().join("public")).unwrap() {
        let folder = entry.unwrap().path();
        let run = conformance().join("sessions").join(folder.file_name().unwrap()).join("one-run");
        let options = recorded_options(&folder);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        for source in [&["runtime-bus"][..], &["runtime-bus", "--journal", "decisions.jsonl"]] {
            for export in ["profile", "intelligence"] {
                let printed = public(&run, export, &[source, &options].concat()).success();
                let recorded = fs::read_to_string(folder.join(format!("{export}.json"))).unwrap();
                assert_eq!(printed, recorded, "{}", folder.display());
            }
        }
        sessions += 1;
    }
    assert_eq!(sessions, 5);
}

#[test]
fn exports_have_defaults_and_refuse_invalid_requests() {
    let temp = temp_dir();
    let dir = temp.path();
    runs::run_cycles(dir, "3", &[]).success();
    let export = |export: &str| {
        let stdout = public(dir, export, &["bus", "--handle", "desk-1"]).success();
        Value::parse(stdout.trim_end()).unwrap()
    };
    let profile = export("profile");
    let identity = profile.get("profile").unwrap();
    assert_eq!(identity.get("display_name").and_then(Value::as_str), Some("desk-1"));
    assert_eq!(identity.get("publish_enabled").and_then(Value::as_bool), Some(false));
    let generated_at = profile.get("generated_at").and_then(Value::as_str).unwrap();
    assert!(generated_at.starts_with("20") && generated_at.ends_with('Z'), "{generated_at}");
    let access = export("intelligence").get("access").cloned().unwrap();
    assert_eq!(access.get("delay_s").and_then(Value::as_u64), Some(900));
    let long = "x".repeat(81);
    for (options, expected) in [
        (&["--handle", "ab"][..], "handle: must be 3 to 32 characters"),
        (&["--handle", "a b c"], "handle: must be 3 to 32 characters"),
        (&["--handle", "desk", "--display-name", &long], "display name: must be at most 80 characters"),
        (&["--handle", "desk", "--generated-at", "later"], "`later` is not a time"),
        (&["--handle", "desk", "--journal", "none.jsonl"], "none.jsonl: cannot open it for reading"),
    ] {
        let message = public(dir, "profile", &[&["bus"], options].concat()).failure(2);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn exports_are_refused_if_journal_and_bus_disagree() {
    let temp = temp_dir();
    let dir = temp.path();
    runs::run_cycles(dir, "3", &[]).success();
    let journal = fs::read_to_string(dir.join("d.jsonl")).unwrap();
    fs::write(
        dir.join("d.jsonl"),
        journal.lines().take(2).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    let message = public(dir, "profile", &["bus", "--handle", "desk", "--journal", "d.jsonl"]).failure(1);
    assert!(message.contains("the bus is ahead"), "{message}");
    assert_eq!(
        public(&conformance().join("logs"), "profile", &["mutated-payload", "--handle", "desk"]).code,
        1
    );
}
