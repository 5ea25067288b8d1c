//! `zero-engine-run` beyond the recorded sessions: what it refuses, how it stops, what it leaves alone.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{CLOCK, bus, engine, root, start, tree, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::{Reader, Value};

const ORDER: &str = r#"{"symbol":"btc","side":"buy","quantity":1,"price":10,"confidence":0.9}"#;

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn scenario(directory: &Path, text: &str) {
    fs::write(directory.join("s.json"), text).unwrap();
}

const RECORDS: [&str; 8] =
    ["--scenario", "s.json", "--journal", "d.jsonl", "--cycle-journal", "c.jsonl", "--runtime-bus", "bus"];

#[test]
fn a_bad_scenario_is_one_line_with_file_and_field_and_nothing_is_written() {
    let order = |field: &str, value: &str| {
        let Value::Object(mut order) = Value::parse(ORDER).unwrap() else { unreachable!() };
        order.remove(field);
        let order = zero_bus::Json::try_from(&Value::Object(order)).unwrap();
        format!(r#"{{"orders":[{ORDER},{ORDER},{{"{field}":{value},{}]}}"#, &order.as_str()[1..])
    };
    let cases = [
        ("", "the text ends where a value should be"),
        ("{", "expected a key"),
        ("not json", "expected a value"),
        ("[]", "expected an object, found an array"),
        ("{}", "orders: is missing"),
        (r#"{"orders":[]}"#, "orders: must contain at least one order"),
        (r#"{"orders":{}}"#, "orders: expected an array, found an object"),
        (r#"{"orders":[7]}"#, "orders[0]: expected an object, found an integer"),
        (&format!(r#"{{"mode":"live","orders":[{ORDER}]}}"#), "mode: must be `paper`, is `live`"),
        (&format!(r#"{{"mode":1,"orders":[{ORDER}]}}"#), "mode: expected a string"),
        (&format!(r#"{{"name":null,"orders":[{ORDER}]}}"#), "name: expected a string, found null"),
        (
            &format!(r#"{{"limits":{{"min_confidence":1.5}},"orders":[{ORDER}]}}"#),
            "limits.min_confidence: must be at most 1",
        ),
        (
            &format!(r#"{{"limits":{{"max_notional_usd":0}},"orders":[{ORDER}]}}"#),
            "limits.max_notional_usd: must be above 0",
        ),
        (
            &format!(r#"{{"limits":{{"max_leverage":-1}},"orders":[{ORDER}]}}"#),
            "limits.max_leverage: must be above 0",
        ),
        (&order("quantity", "-1"), "orders[2].quantity: must be above 0, is -1"),
        (&order("quantity", "0"), "orders[2].quantity: must be above 0, is 0"),
        (&order("quantity", "NaN"), "orders[2].quantity: NaN is not a finite number"),
        (&order("quantity", "1e999"), "orders[2].quantity: the number is beyond a double"),
        (&order("quantity", "\"1\""), "orders[2].quantity: expected a number, found a string"),
        (&order("quantity", "true"), "orders[2].quantity: expected a number, found a boolean"),
        (&order("quantity", &"9".repeat(400)), "orders[2].quantity: is too large for a double"),
        (&order("quantity", "1e308"), "orders[2].quantity: times price is too large for a double"),
        (&order("price", "-Infinity"), "orders[2].price: -Infinity is not a finite number"),
        (&order("confidence", "1.01"), "orders[2].confidence: must be between 0 and 1, is 1.01"),
        (&order("side", "\"hold\""), "orders[2].side: must be `buy` or `sell`, is `hold`"),
        (&order("symbol", "\"\""), "orders[2].symbol: must not be empty"),
        (&order("reduce_only", "\"yes\""), "orders[2].reduce_only: expected true or false, found a string"),
        (&order("quantity", &"[".repeat(100_000)), "nested deeper than 1000 levels"),
    ];
    for (text, expected) in cases {
        let place = place();
        scenario(place.path(), text);
        for parity in [false, true] {
            let arguments: Vec<&str> = match parity {
                false => RECORDS.iter().copied().chain(["--once"]).collect(),
                true => vec!["--scenario", "s.json", "--production-parity", "--output", "out"],
            };
            let said = engine(place.path(), &arguments).refused();
            assert!(
                said.starts_with("zero-engine-run: s.json: ") && said.contains(expected),
                "{expected}: {said}"
            );
        }
        assert_eq!(tree(place.path()).len(), 1, "nothing was written");
    }
}

#[test]
fn what_cannot_be_opened_is_one_line_and_leaves_nothing_behind() {
    let place = place();
    let here = place.path();
    let said = engine(here, &["--once", "--scenario", "paper-trading/scenario.json"]).refused();
    assert!(
        said.ends_with("paper-trading/scenario.json: there is no such scenario; name one with --scenario"),
        "{said}"
    );
    assert!(engine(here, &["--once", "--scenario", "."]).refused().contains("cannot read the scenario"));
    fs::write(here.join("s.json"), b"\xff{}").unwrap();
    assert!(
        engine(here, &["--once", "--scenario", "s.json"])
            .refused()
            .contains("s.json: is not UTF-8: invalid byte at offset 0")
    );

    scenario(here, &format!(r#"{{"orders":[{ORDER}]}}"#));
    fs::write(here.join("file"), "").unwrap();
    symlink("file", here.join("link")).unwrap();
    fs::create_dir(here.join("folder")).unwrap();
    let before = tree(here);
    let cases: [(&[&str], &str); 9] = [
        (&["--journal", "file/d.jsonl"], "file"),
        (&["--journal", "folder"], "folder"),
        (&["--journal", "link"], "symbolic link"),
        (&["--journal", "/proc/d.jsonl"], "/proc"),
        (&["--journal", "new/d.jsonl", "--cycle-journal", "new/folder/../../file/c"], "file"),
        (&["--journal", "new/d.jsonl", "--runtime-bus", "file"], "file: it is a file, not a directory"),
        (
            &["--journal", "new/a/d.jsonl", "--cycle-journal", "new/b/c.jsonl", "--runtime-bus", "/proc/bus"],
            "/proc/bus",
        ),
        (&["--runtime-bus", "file/bus"], "file"),
        (&["--journal", ".."], "is no path of a file"),
    ];
    for (records, expected) in cases {
        let said = engine(here, &[&["--once", "--scenario", "s.json"], records].concat()).refused();
        assert!(said.contains(expected), "{expected}: {said}");
        assert_eq!(tree(here), before, "{records:?}");
        assert!(!here.join("new").exists(), "{records:?}");
    }
}

#[test]
fn usage_is_checked() {
    let place = place();
    let said = |arguments: &[&str]| engine(place.path(), arguments).refused();
    assert!(said(&["--interval", "-1"]).contains("--interval"));
    assert!(said(&["--interval", "nan"]).contains("not a finite number"));
    assert!(said(&["--max-cycles", "0"]).contains("--max-cycles"));
    assert!(said(&["--max-cycles", "-3"]).contains("-3"));
    assert!(said(&["--once", "--max-cycles", "2"]).contains("cannot be used with"));
    assert!(said(&["--fixed-clock", "inf"]).contains("not a finite number"));
    assert!(said(&["--no-such-thing"]).contains("--no-such-thing"));
    assert!(engine(place.path(), &["--help"]).fine().contains("Examples:"));
    assert!(engine(place.path(), &["--version"]).fine().starts_with("zero-engine-run 0."));
}

#[test]
fn unknown_fields_of_a_scenario_are_told_and_ignored() {
    let place = place();
    scenario(place.path(), &format!(r#"{{"note":1,"orders":[{{"reduceonly":true,{}]}}"#, &ORDER[1..]));
    let ended = engine(place.path(), &["--once", "--scenario", "s.json"]);
    assert_eq!(ended.code, 0);
    assert_eq!(
        ended.err,
        "zero-engine-run: warning: s.json: note: is not known and has no effect\n\
         zero-engine-run: warning: s.json: orders[0].reduceonly: is not known and has no effect\n"
    );
}

#[test]
fn a_signal_ends_the_run_after_the_cycle_in_hand() {
    for (signal, interval) in [(Signal::INT, "0"), (Signal::TERM, "0"), (Signal::TERM, "3600")] {
        let place = place();
        scenario(place.path(), &format!(r#"{{"orders":[{ORDER}]}}"#));
        let child = start(place.path(), &[&RECORDS[..], &["--interval", interval]].concat());
        // The first cycle is on the bus: the run is on.
        let mut tail = Command::new(crate::support::BUS)
            .args(["tail", "bus", "-f", "--type", "runtime.health"])
            .current_dir({
                wait_until(|| place.path().join("bus/events.jsonl").exists());
                place.path()
            })
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(tail.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("runtime.health"));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = crate::support::Ended::from(child.wait_with_output().unwrap());
        tail.kill().unwrap();
        tail.wait().unwrap();
        let last = Value::parse(&ended.fine()).unwrap();
        let cycles = last.get("cycle_id").unwrap().as_u64().unwrap();
        let lines = |file: &str| fs::read_to_string(place.path().join(file)).unwrap().lines().count() as u64;
        assert_eq!((lines("d.jsonl"), lines("c.jsonl")), (cycles, cycles));
        let reader = Reader::open(place.path().join("bus")).unwrap();
        assert!(reader.verify().unwrap().ok());
        assert_eq!(reader.head().unwrap().index, 5 * cycles);
        if interval == "3600" {
            assert_eq!(cycles, 1, "the signal ends the wait");
        }
    }
}

#[test]
fn one_runtime_a_journal() {
    let place = place();
    scenario(place.path(), &format!(r#"{{"orders":[{ORDER}]}}"#));
    let child = start(place.path(), &[&RECORDS[..], &["--interval", "3600"]].concat());
    wait_until(|| fs::metadata(place.path().join("d.jsonl")).is_ok_and(|file| file.len() > 0));
    let said = engine(place.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]).refused();
    assert!(said.contains("d.jsonl: is in use by another runtime"), "{said}");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait_with_output().unwrap();
    // Its owner is dead: nothing is in the way.
    engine(place.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]).fine();
}

#[test]
fn a_journal_that_holds_what_it_should_not_is_refused_by_its_place() {
    let place = place();
    scenario(place.path(), &format!(r#"{{"orders":[{ORDER}]}}"#));
    engine(
        place.path(),
        &[&RECORDS[..], &["--max-cycles", "3", "--interval", "0", "--fixed-clock", CLOCK]].concat(),
    )
    .fine();
    let journal = place.path().join("d.jsonl");
    let whole = fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let offset = lines[0].len() + 1;
    let refused = |text: String, expected: &str| {
        fs::write(&journal, &text).unwrap();
        let said =
            engine(place.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]).refused();
        assert!(said.contains("d.jsonl: line ") && said.contains(expected), "{expected}: {said}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), text, "nothing was changed");
    };
    refused(
        format!("{}\ngarbage\n{}\n", lines[0], lines[2]),
        &format!("line 2 (byte {offset}): expected a value"),
    );
    refused(format!("{}\n{}\n", lines[0], lines[1].replace("\"allowed\":true,", "")), "allowed: is missing");
    refused(format!("{}\n{}\n", lines[0], lines[1].replace("1.0", "-1.0")), "quantity: must be above 0");
    refused(format!("{0}\n{0}\n", lines[0]), "idempotency_key: `runtime-paper-scenario-1` was used before");

    // A decision is missing: the next cycle's key is known already.
    fs::write(&journal, format!("{}\n{}\n", lines[0], lines[2])).unwrap();
    let ended = engine(place.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]);
    assert_eq!(ended.code, 2, "{}", ended.err);
    let said = ended.err;
    assert!(said.contains("d.jsonl: line 2 belongs to another cycle than 2: lines are missing"), "{said}");
    assert!(said.contains("already contains the key `runtime-paper-scenario-3` of cycle 3"), "{said}");
}

#[test]
fn an_unfinished_last_line_of_a_journal_is_set_aside() {
    let place = place();
    scenario(place.path(), &format!(r#"{{"orders":[{ORDER}]}}"#));
    let go = |cycles: &str| {
        engine(
            place.path(),
            &[&RECORDS[..], &["--max-cycles", cycles, "--interval", "0", "--fixed-clock", CLOCK]].concat(),
        )
    };
    go("2").fine();
    for file in ["d.jsonl", "c.jsonl"] {
        let path = place.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"allow")).unwrap();
    }
    let ended = go("1");
    assert_eq!(ended.code, 0);
    assert_eq!(ended.err.lines().count(), 2);
    assert!(
        ended.err.contains("d.jsonl: an unfinished last line of 7 bytes was set aside in d.jsonl.torn-at-"),
        "{}",
        ended.err
    );
    for file in ["d.jsonl", "c.jsonl"] {
        let text = fs::read_to_string(place.path().join(file)).unwrap();
        assert_eq!(text.lines().count(), 3);
        text.lines().for_each(|line| drop(Value::parse(line).unwrap()));
    }
    // Complete, and only its end is missing.
    let journal = place.path().join("d.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.trim_end()).unwrap();
    go("1").fine();
    assert_eq!(fs::read_to_string(&journal).unwrap().lines().count(), 4);
    bus(place.path(), &["verify", "bus"]).fine();
}

/// Two that start at once: one runs and keeps its journal, the other is told.
#[test]
fn of_two_that_start_at_once_one_runs() {
    for _ in 0..20 {
        let place = place();
        scenario(place.path(), &format!(r#"{{"orders":[{ORDER}]}}"#));
        let arguments =
            ["--scenario", "s.json", "--journal", "new/d.jsonl", "--max-cycles", "3", "--interval", "0"];
        let two = [start(place.path(), &arguments), start(place.path(), &arguments)];
        let codes = two.map(|child| child.wait_with_output().unwrap().status.code().unwrap());
        let ran = codes.iter().filter(|code| **code == 0).count();
        assert!(ran >= 1 && codes.iter().all(|code| [0, 2].contains(code)), "{codes:?}");
        // If one was done before the other began, both ran.
        let decisions = fs::read_to_string(place.path().join("new/d.jsonl")).unwrap();
        assert_eq!(decisions.lines().count(), 3 * ran);
    }
}

#[test]
fn a_cycle_journal_is_not_appended_to_something_else() {
    let place = place();
    let here = place.path();
    scenario(here, &format!(r#"{{"orders":[{ORDER}]}}"#));
    engine(here, &[&RECORDS[..], &["--max-cycles", "2", "--interval", "0"]].concat()).fine();
    let before = tree(here);
    for (file, expected) in [
        ("bus/events.jsonl", "bus/events.jsonl: contains lines that are not zero.runtime.cycle.v1 records"),
        ("d.jsonl", "d.jsonl: contains lines that are not zero.runtime.cycle.v1 records"),
        ("s.json", "s.json: contains lines that are not zero.runtime.cycle.v1 records"),
    ] {
        let said = engine(here, &["--scenario", "s.json", "--once", "--cycle-journal", file]).refused();
        assert!(said.contains(expected), "{said}");
        assert_eq!(tree(here), before);
    }
    // Laid out over many lines, none of which is JSON by itself, it is still somebody's file.
    fs::write(here.join("pretty.json"), "{\n  \"a\": 1,\n  \"b\": 2\n}\n").unwrap();
    let before = tree(here);
    for option in ["--journal", "--cycle-journal"] {
        let said = engine(here, &["--scenario", "s.json", "--once", option, "pretty.json"]).refused();
        assert!(said.contains("pretty.json: "), "{said}");
        assert_eq!(tree(here), before);
    }
    // Without a bus each record was synced before the next: what is spoilt in the middle no crash has spoilt.
    engine(
        here,
        &["--scenario", "s.json", "--max-cycles", "3", "--interval", "0", "--cycle-journal", "alone.jsonl"],
    )
    .fine();
    let text = fs::read_to_string(here.join("alone.jsonl")).unwrap();
    fs::write(here.join("alone.jsonl"), text.replacen("\n{\"act\"", "\n[\"act\"", 1)).unwrap();
    let before = tree(here);
    let said = engine(here, &["--scenario", "s.json", "--once", "--cycle-journal", "alone.jsonl"]).refused();
    assert!(said.contains("alone.jsonl: what begins at byte"), "{said}");
    assert_eq!(tree(here), before);
    let twice = engine(
        here,
        &["--scenario", "s.json", "--once", "--journal", "n.jsonl", "--cycle-journal", "n.jsonl"],
    );
    assert!(twice.refused().contains("n.jsonl: is named as both journals"));
    assert_eq!(tree(here), before);
}

#[test]
fn a_start_that_fails_does_not_mend_either() {
    let place = place();
    let here = place.path();
    scenario(here, &format!(r#"{{"orders":[{ORDER}]}}"#));
    engine(here, &[&RECORDS[..], &["--max-cycles", "2", "--interval", "0"]].concat()).fine();
    let whole = fs::read_to_string(here.join("d.jsonl")).unwrap();
    let refused = |journal: &[u8], bus: &str, expected: &str| {
        fs::write(here.join("d.jsonl"), journal).unwrap();
        let before = tree(here);
        let said =
            engine(here, &["--scenario", "s.json", "--once", "--journal", "d.jsonl", "--runtime-bus", bus])
                .refused();
        assert!(said.contains(expected), "{said}");
        assert_eq!(tree(here), before);
    };
    refused(format!("garbage\n{whole}{{\"allow").as_bytes(), "bus", "d.jsonl: line 1 (byte 0)");
    refused(format!("{whole}{{\"allow").as_bytes(), "s.json", "s.json: it is a file");
    let first = whole.lines().next().unwrap().replace("BTC", "B?C");
    let at = first.find('?').unwrap();
    let mut bytes = (first + "\n").into_bytes();
    bytes[at] = 0xff;
    let torn = format!("d.jsonl: ends with decision 0 and {} bytes of an unfinished line, but", bytes.len());
    refused(&bytes, "bus", &torn);
    bytes.extend_from_slice(whole.as_bytes());
    refused(&bytes, "bus", &format!("d.jsonl: line 1 (byte 0): is not UTF-8 (byte {at} of the line)"));
}

#[test]
fn a_journal_that_is_moved_away_ends_the_run() {
    let place = place();
    let here = place.path();
    scenario(here, &format!(r#"{{"orders":[{ORDER}]}}"#));
    let child = start(here, &["--scenario", "s.json", "--journal", "d.jsonl", "--interval", "0"]);
    wait_until(|| fs::metadata(here.join("d.jsonl")).is_ok_and(|file| file.len() > 0));
    fs::rename(here.join("d.jsonl"), here.join("old.jsonl")).unwrap();
    let said = crate::support::Ended::from(child.wait_with_output().unwrap()).refused();
    assert!(said.contains("d.jsonl: is no longer the file that was opened"), "{said}");
}

#[test]
fn a_damaged_bus_is_judged_and_takes_no_cycle() {
    let place = place();
    let here = place.path();
    scenario(here, &format!(r#"{{"orders":[{ORDER}]}}"#));
    engine(here, &[&RECORDS[..], &["--max-cycles", "2", "--interval", "0"]].concat()).fine();
    let log = here.join("bus/events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replace("\"last_cycle_id\":2", "\"last_cycle_id\":7")).unwrap();
    let before = tree(here);
    let ended = engine(here, &[&RECORDS[..], &["--once"]].concat());
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("checksum mismatch at event 10"), "{}", ended.err);
    assert_eq!(tree(here), before);
}

/// What comes from a file does not command the terminal, nor break the one line.
#[test]
fn control_characters_are_escaped() {
    let place = place();
    scenario(place.path(), &format!(r#"{{"\u001b[31mred\nline2":1,"orders":[{ORDER}]}}"#));
    let ended = engine(place.path(), &["--once", "--scenario", "s.json"]);
    assert_eq!(ended.err.lines().count(), 1);
    assert!(ended.err.contains(r"\u{1b}[31mred\nline2") && !ended.err.contains('\x1b'), "{}", ended.err);
}

/// Without files nothing is written, and every start is the first.
#[test]
fn without_records_nothing_is_kept() {
    let place = place();
    scenario(place.path(), &format!(r#"{{"orders":[{ORDER}]}}"#));
    for _ in 0..2 {
        let cycle = Value::parse(&engine(place.path(), &["--once", "--scenario", "s.json"]).fine()).unwrap();
        assert_eq!(cycle.get("cycle_id").unwrap().as_u64(), Some(1));
    }
    assert_eq!(tree(place.path()).len(), 1);
}

#[test]
fn parity_leaves_what_is_not_its_own() {
    let place = place();
    let here = place.path();
    scenario(here, &format!(r#"{{"orders":[{ORDER}]}}"#));
    let parity = || {
        engine(here, &["--scenario", "s.json", "--production-parity", "--output", "out", "--max-cycles", "2"])
    };
    // RecordPaths of a real run.
    engine(
        here,
        &[
            "--scenario",
            "s.json",
            "--journal",
            "out/decisions.jsonl",
            "--runtime-bus",
            "out/runtime-bus",
            "--once",
        ],
    )
    .fine();
    let before = tree(here);
    assert!(parity().refused().contains("out: contains records but no production-parity.json"));
    assert_eq!(tree(here), before);
    fs::write(here.join("out/mine"), "x").unwrap();
    assert!(parity().refused().contains("contains `mine`"));
    fs::remove_dir_all(here.join("out")).unwrap();
    let first = Value::parse(&parity().fine()).unwrap();
    assert_eq!(first.get("cycles_run").unwrap().as_u64(), Some(2));
    parity().fine();
    // A real run that went on where a report had been made.
    engine(
        here,
        &[
            "--scenario",
            "s.json",
            "--journal",
            "out/decisions.jsonl",
            "--runtime-bus",
            "out/runtime-bus",
            "--once",
        ],
    )
    .fine();
    let before = tree(here);
    assert!(parity().refused().contains("out: contains a bus that does not match production-parity.json"));
    assert_eq!(tree(here), before);
    // An end in the middle leaves a report that says so.
    fs::write(here.join("out/production-parity.json"), "{\"ok\":false,\"unfinished\":true}\n").unwrap();
    assert_eq!(Value::parse(&parity().fine()).unwrap().get("ok"), Some(&Value::Bool(true)));
}

/// The scenario on real prices runs to its end with a restart in between, and its bus is sound.
#[test]
fn real_prices_run_to_the_end() {
    let place = place();
    let here = place.path();
    let path = root().join("examples/real-market/scenario.json").canonicalize().unwrap();
    let scenario = path.to_str().unwrap();
    let orders = 250;
    for cycles in ["97", "153"] {
        let records = [&["--scenario", scenario], &crate::support::RECORDS[..]].concat();
        engine(here, &[&records[..], &["--max-cycles", cycles, "--interval", "0"]].concat()).fine();
    }
    let verdict = Value::parse(&bus(here, &["verify", "bus", "--json"]).fine()).unwrap();
    let events = verdict.get("integrity").unwrap().get("events").unwrap().as_u64();
    assert_eq!(events, Some(5 * orders));
    bus(here, &["audit", "bus", "-o", "audit.json"]).fine();
    let audit = Value::parse(&fs::read_to_string(here.join("audit.json")).unwrap()).unwrap();
    let types = audit.get("summary").unwrap().get("event_types").unwrap();
    assert_eq!(types.get("fill.record").unwrap().as_u64(), Some(201));
    assert_eq!(types.get("rejection.record").unwrap().as_u64(), Some(49));
    let decisions = fs::read_to_string(here.join("d.jsonl")).unwrap();
    let count = |reason: &str| {
        decisions.lines().filter(|line| line.contains(&format!("\"reason\":\"{reason}\""))).count()
    };
    assert_eq!(count("confidence below minimum"), 9);
    assert_eq!(count("order notional exceeds limit"), 13);
    assert_eq!(count("projected position exceeds limit"), 27);
    assert_eq!(count("reduce-only orders bypass risk-increasing friction"), 98);
    assert_eq!(decisions.lines().count() as u64, orders);
}
