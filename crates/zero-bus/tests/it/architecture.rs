//! The house rules: which room may know of which, as `docs/ARCHITECTURE.md` draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The modules of its own crate that each module names, `crate::x` at any place of the file.
fn arrows(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(source) {
        let module = file
            .strip_prefix(source)
            .unwrap()
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy()
            .into_owned();
        let module = module.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let named =
            code.flat_map(|line| line.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>());
        let named = named
            .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
        arrows
            .entry(module.clone())
            .or_default()
            // With a capital it is an item of the root, not a room.
            .extend(named.filter(|name| name.starts_with(char::is_lowercase) && *name != module));
    }
    arrows
}

#[track_caller]
fn holds(source: &Path, allowed: Plan<'_>) {
    let found = arrows(source);
    let rooms: BTreeSet<&str> = found.keys().map(String::as_str).filter(|room| *room != "lib").collect();
    assert_eq!(rooms, allowed.iter().map(|(room, _)| *room).collect(), "every room is on the plan");
    // Each may know those that stand before it, so that there is no way round in a circle.
    for (position, (room, may_know)) in allowed.iter().enumerate() {
        for other in *may_know {
            assert!(
                allowed[..position].iter().any(|(earlier, _)| earlier == other),
                "{room} -> {other} on the plan"
            );
        }
        let unexpected: Vec<_> =
            found[*room].iter().filter(|other| !may_know.contains(&other.as_str())).collect();
        assert!(unexpected.is_empty(), "{room} names {unexpected:?}");
    }
}

type Plan<'a> = &'a [(&'a str, &'a [&'a str])];

const BUS: Plan<'_> = &[
    ("canonical", &[]),
    ("checksum", &[]),
    ("fault", &[]),
    ("storage", &[]),
    ("sync", &[]),
    ("queue", &["sync"]),
    ("sim", &["storage"]),
    ("error", &["canonical", "fault"]),
    ("event", &["canonical", "checksum"]),
    ("chain", &["canonical", "checksum", "error", "event", "fault"]),
    ("lines", &["event", "storage"]),
    ("note", &["canonical", "chain", "checksum", "event", "sim", "storage"]),
    ("stretch", &["chain", "event", "lines", "note", "storage", "sync"]),
    ("walk", &["chain", "fault", "lines", "note", "storage", "stretch"]),
    ("snapshot", &["canonical", "chain", "checksum", "error", "event", "storage"]),
    (
        "recover",
        &["canonical", "chain", "error", "event", "lines", "note", "snapshot", "storage", "stretch", "walk"],
    ),
    (
        "log",
        &[
            "canonical",
            "chain",
            "error",
            "event",
            "lines",
            "note",
            "queue",
            "recover",
            "snapshot",
            "storage",
            "sync",
        ],
    ),
    (
        "reader",
        &[
            "chain", "error", "event", "fault", "lines", "log", "note", "recover", "snapshot", "storage",
            "stretch", "walk",
        ],
    ),
    ("verify", &["error", "reader", "snapshot", "stretch", "walk"]),
    (
        "backup",
        &["chain", "error", "fault", "lines", "note", "reader", "snapshot", "storage", "stretch", "walk"],
    ),
    ("audit", &["canonical", "chain", "error", "reader", "snapshot", "stretch", "verify", "walk"]),
];

#[test]
fn the_arrows_inside_the_bus() {
    holds(&root().join("crates/zero-bus/src"), BUS);
}

#[test]
fn the_arrows_inside_the_paper_runtime() {
    holds(
        &root().join("crates/zero-paper/src"),
        &[
            ("clock", &[]),
            ("error", &[]),
            ("field", &[]),
            ("scenario", &["error", "field"]),
            ("position", &["scenario"]),
            ("risk", &["position", "scenario"]),
            ("decision", &["field", "position", "scenario"]),
            ("line_file", &["error"]),
            ("journal", &["decision", "error", "line_file"]),
            ("engine", &["decision", "error", "journal", "position", "risk", "scenario"]),
            ("cycle", &["decision", "engine", "error", "position", "risk", "scenario"]),
            ("publish", &["cycle", "decision", "engine", "error", "position"]),
            ("operator", &["error", "risk"]),
            ("agree", &["cycle", "decision", "error", "journal", "line_file", "operator", "publish"]),
            ("tell", &["operator"]),
            ("explain", &["clock", "decision", "field", "position", "risk", "tell"]),
            ("state", &["error"]),
            (
                "replay",
                &[
                    "agree", "cycle", "decision", "engine", "error", "field", "journal", "operator",
                    "position", "publish", "risk", "scenario", "state",
                ],
            ),
            (
                "runtime",
                &[
                    "agree",
                    "clock",
                    "cycle",
                    "engine",
                    "error",
                    "journal",
                    "line_file",
                    "operator",
                    "publish",
                    "risk",
                    "scenario",
                ],
            ),
            ("feedback", &["decision", "position", "risk"]),
            ("live", &["position", "scenario"]),
            ("drills", &["live", "position", "scenario"]),
            (
                "parity",
                &["clock", "cycle", "decision", "drills", "error", "feedback", "live", "runtime", "scenario"],
            ),
        ],
    );
}

#[test]
fn the_arrows_inside_the_mirrors() {
    holds(
        &root().join("crates/zero-mirror/src"),
        &[
            ("error", &[]),
            // What every destination knows of the others: the trait, in `lib`.
            ("catch_up", &["error"]),
            ("walk", &["error"]),
            ("restore", &["error", "walk"]),
            ("sqlite", &["error"]),
            ("postgres", &["error"]),
            // What the two ends of HTTP have in common.
            ("token", &["error"]),
            ("wire", &[]),
            ("http", &["error", "token", "wire"]),
            ("ingest", &["error", "token", "wire"]),
            ("jetstream", &["error"]),
        ],
    );
}

#[test]
fn the_arrows_between_the_crates() {
    let names = |name: &str| {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.lines().filter(|line| line.starts_with("zero-"));
        dependencies.map(|line| line.split('.').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("zero-bus"), [""; 0]);
    assert_eq!(names("zero-paper"), ["zero-bus"]);
    assert_eq!(names("zero-mirror"), ["zero-bus"]);
    assert_eq!(names("zero-cli"), ["zero-bus", "zero-mirror", "zero-paper"]);
}

/// The library is for any program: it knows nothing of trading.
#[test]
fn the_bus_has_no_trading_word_in_it() {
    for file in sources(&root().join("crates/zero-bus/src")) {
        let text = fs::read_to_string(&file).unwrap().to_lowercase();
        for word in
            ["trading", "order book", "exchange", "fill.record", "position.snapshot", "notional", "usd"]
        {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

#[test]
fn no_source_file_is_longer_than_one_reads_in_a_sitting() {
    for file in sources(&root().join("crates")) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 700, "{} has {lines} lines", file.display());
    }
}
