//! Logs to mirror.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zero_bus::{Bus, Draft, Json, RetireOptions, SealOptions};

/// A log in a temporary directory.
pub(crate) struct Log {
    pub(crate) directory: TempDir,
}

impl Log {
    /// A log with this many events of all kinds. Each call creates another bus.
    pub(crate) fn of(events: u64) -> Self {
        let log = Self::empty();
        log.append(1, events, "all");
        log
    }

    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Appends events with these numbers, which also name their writer.
    pub(crate) fn append(&self, from: u64, to: u64, writer: &str) {
        let unique = self.path().display().to_string();
        let bus = Bus::open(self.path()).unwrap();
        bus.append_batch((from..=to).map(|number| draft(number, writer, &unique)).collect()).unwrap();
    }

    /// Seals the events up to one in two segments, and retires them.
    pub(crate) fn retire(&self, up_to: u64) {
        let bus = Bus::open(self.path()).unwrap();
        for up_to in [up_to / 2, up_to] {
            bus.seal(SealOptions::default().up_to(up_to), &mut |_| {}).unwrap();
        }
        bus.retire(&RetireOptions::new(up_to, "anna", 1777593600.0), &mut |_| {}).unwrap().retired.unwrap();
    }

    /// Copies the log to another directory.
    pub(crate) fn copy(&self) -> Self {
        Self::copy_of(self.path())
    }

    pub(crate) fn copy_of(log: &Path) -> Self {
        let copy = Self::empty();
        fs::copy(log.join("events.jsonl"), copy.path().join("events.jsonl")).unwrap();
        copy
    }
}

/// An event that contains its number. Some have a payload or a trace that is hard to store.
fn draft(number: u64, writer: &str, unique: &str) -> Draft {
    let kinds = ["decision.record", "fill.record", "position.snapshot", "runtime.cycle", "rejection.record"];
    let kind = kinds[number as usize % kinds.len()];
    let payload = match number % 50 {
        10 => Json::parse(&awkward()[number as usize / 50 % awkward().len()]).unwrap(),
        _ => Json::of(&BTreeMap::from([
            ("number", number.to_string()),
            ("symbol", "BTC".to_owned()),
            ("unique", unique.to_owned()),
            ("writer", writer.to_owned()),
        ]))
        .unwrap(),
    };
    let trace_id = match number % 50 {
        20 => Some("long".repeat(2500)),
        21 => Some("with a \0 in it".to_owned()),
        _ => (!number.is_multiple_of(3)).then(|| format!("trace-{}", number / 3)),
    };
    Draft { event_type: kind.to_owned(), as_of: 1777593600.0 + number as f64, payload, trace_id }
}

/// Payloads that some database cannot store as JSON.
pub(crate) fn awkward() -> Vec<String> {
    let deep = format!("{}{}{}", r#"{"a":"#.repeat(999), "{}", "}".repeat(999));
    vec![
        r#"{"symbol":"a\u0000b","positions":["\u0000",1,null,{"symbol":{}}]}"#.to_owned(),
        format!(r#"{{"quantity":{},"price":1e308,"positions":{{"a":"b"}}}}"#, "9".repeat(400)),
        deep,
        r#"{"positions":"none","symbol":[1,{"a":2}],"":"","\ud83d\ude00":"\uffff\u007f"}"#.to_owned(),
        r#"{"price":5e-324,"quantity":-0.0,"symbol":null,"positions":[[]]}"#.to_owned(),
    ]
}

/// The valid recorded logs, in every spelling.
pub(crate) fn recorded() -> Vec<PathBuf> {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/logs");
    ["valid-1", "valid-40", "reformatted", "reordered-keys", "blank-lines", "no-final-newline"]
        .map(|name| logs.join(name))
        .to_vec()
}
