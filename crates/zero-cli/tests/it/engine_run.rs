//! `zero-engine-run`: invalid input, signals, locks, and files that it must not change.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{
    BUS, CLOCK, Finished, REAL_MARKET_SCENARIO, bus, engine, start_engine, temp_dir, tree, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use zero_bus::{Reader, Value};

const ORDER: &str = r#"{"symbol":"btc","side":"buy","quantity":1,"price":10,"confidence":0.9}"#;

fn write_scenario(dir: &Path, text: &str) {
    fs::write(dir.join("s.json"), text).unwrap();
}

/// Writes a scenario with one order.
fn write_valid_scenario(dir: &Path) {
    write_scenario(dir, &format!(r#"{{"orders":[{ORDER}]}}"#));
}

const RECORDS: [&str; 8] =
    ["--scenario", "s.json", "--journal", "d.jsonl", "--cycle-journal", "c.jsonl", "--runtime-bus", "bus"];

#[test]
fn an_invalid_scenario_is_refused_with_file_and_field() {
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
        let temp = temp_dir();
        write_scenario(temp.path(), text);
        for parity in [false, true] {
            let arguments: Vec<&str> = match parity {
                false => RECORDS.iter().copied().chain(["--once"]).collect(),
                true => vec!["--scenario", "s.json", "--production-parity", "--output", "out"],
            };
            let message = engine(temp.path(), &arguments).failure(2);
            assert!(
                message.starts_with("zero-engine-run: s.json: ") && message.contains(expected),
                "{expected}: {message}"
            );
        }
        assert_eq!(tree(temp.path()).len(), 1, "no record was written");
    }
}

#[test]
fn files_that_cannot_be_opened_are_refused_and_nothing_is_created() {
    let temp = temp_dir();
    let dir = temp.path();
    let message = engine(dir, &["--once", "--scenario", "paper-trading/scenario.json"]).failure(2);
    assert!(
        message.ends_with("paper-trading/scenario.json: there is no such scenario; name one with --scenario"),
        "{message}"
    );
    assert!(engine(dir, &["--once", "--scenario", "."]).failure(2).contains("cannot read the scenario"));
    fs::write(dir.join("s.json"), b"\xff{}").unwrap();
    assert!(
        engine(dir, &["--once", "--scenario", "s.json"])
            .failure(2)
            .contains("s.json: is not UTF-8: invalid byte at offset 0")
    );

    write_valid_scenario(dir);
    fs::write(dir.join("file"), "").unwrap();
    symlink("file", dir.join("link")).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    let before = tree(dir);
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
        (&["--journal", ".."], "is not the path of a file"),
    ];
    for (records, expected) in cases {
        let message = engine(dir, &[&["--once", "--scenario", "s.json"], records].concat()).failure(2);
        assert!(message.contains(expected), "{expected}: {message}");
        assert_eq!(tree(dir), before, "{records:?}");
        assert!(!dir.join("new").exists(), "{records:?}");
    }
}

#[test]
fn invalid_arguments_are_refused() {
    let temp = temp_dir();
    let message = |arguments: &[&str]| engine(temp.path(), arguments).failure(2);
    assert!(message(&["--interval", "-1"]).contains("--interval"));
    assert!(message(&["--interval", "nan"]).contains("not a finite number"));
    assert!(message(&["--max-cycles", "0"]).contains("--max-cycles"));
    assert!(message(&["--max-cycles", "-3"]).contains("-3"));
    assert!(message(&["--once", "--max-cycles", "2"]).contains("cannot be used with"));
    assert!(message(&["--fixed-clock", "inf"]).contains("not a finite number"));
    assert!(message(&["--no-such-thing"]).contains("--no-such-thing"));
    assert!(engine(temp.path(), &["--help"]).success().contains("Examples:"));
    assert!(engine(temp.path(), &["--version"]).success().starts_with("zero-engine-run 0."));
}

#[test]
fn unknown_fields_of_a_scenario_are_ignored_with_a_warning() {
    let temp = temp_dir();
    write_scenario(temp.path(), &format!(r#"{{"note":1,"orders":[{{"reduceonly":true,{}]}}"#, &ORDER[1..]));
    let output = engine(temp.path(), &["--once", "--scenario", "s.json"]);
    assert_eq!(output.code, 0);
    assert_eq!(
        output.stderr,
        "zero-engine-run: warning: s.json: note: is not known and has no effect\n\
         zero-engine-run: warning: s.json: orders[0].reduceonly: is not known and has no effect\n"
    );
}

#[test]
fn a_signal_ends_the_run_after_the_current_cycle() {
    for (signal, interval) in [(Signal::INT, "0"), (Signal::TERM, "0"), (Signal::TERM, "3600")] {
        let temp = temp_dir();
        write_valid_scenario(temp.path());
        let child = start_engine(temp.path(), &[&RECORDS[..], &["--interval", interval]].concat());
        // Sends the signal once the first cycle is on the bus.
        let mut tail = Command::new(BUS)
            .args(["tail", "bus", "-f", "--type", "runtime.health"])
            .current_dir({
                wait_until(|| temp.path().join("bus/events.jsonl").exists());
                temp.path()
            })
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(tail.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("runtime.health"));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = Finished::from(child.wait_with_output().unwrap());
        tail.kill().unwrap();
        tail.wait().unwrap();
        let last = Value::parse(&output.success()).unwrap();
        let cycles = last.get("cycle_id").unwrap().as_u64().unwrap();
        let lines = |file: &str| fs::read_to_string(temp.path().join(file)).unwrap().lines().count() as u64;
        assert_eq!((lines("d.jsonl"), lines("c.jsonl")), (cycles, cycles));
        let reader = Reader::open(temp.path().join("bus")).unwrap();
        assert!(reader.verify().unwrap().ok());
        assert_eq!(reader.head().unwrap().index, 5 * cycles);
        if interval == "3600" {
            assert_eq!(cycles, 1, "the signal did not end the pause");
        }
    }
}

#[test]
fn a_journal_has_one_runtime() {
    let temp = temp_dir();
    write_valid_scenario(temp.path());
    let child = start_engine(temp.path(), &[&RECORDS[..], &["--interval", "3600"]].concat());
    wait_until(|| fs::metadata(temp.path().join("d.jsonl")).is_ok_and(|file| file.len() > 0));
    let message = engine(temp.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]).failure(2);
    assert!(message.contains("d.jsonl: is in use by another runtime"), "{message}");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait_with_output().unwrap();
    // The kernel released the lock of the killed runtime.
    engine(temp.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]).success();
}

#[test]
fn an_invalid_journal_is_refused_with_the_line() {
    let temp = temp_dir();
    write_valid_scenario(temp.path());
    engine(
        temp.path(),
        &[&RECORDS[..], &["--max-cycles", "3", "--interval", "0", "--fixed-clock", CLOCK]].concat(),
    )
    .success();
    let journal = temp.path().join("d.jsonl");
    let whole = fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let offset = lines[0].len() + 1;
    let assert_refused = |text: String, expected: &str| {
        fs::write(&journal, &text).unwrap();
        let message =
            engine(temp.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]).failure(2);
        assert!(message.contains("d.jsonl: line ") && message.contains(expected), "{expected}: {message}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), text, "nothing was changed");
    };
    assert_refused(
        format!("{}\ngarbage\n{}\n", lines[0], lines[2]),
        &format!("line 2 (byte {offset}): expected a value"),
    );
    assert_refused(
        format!("{}\n{}\n", lines[0], lines[1].replace("\"allowed\":true,", "")),
        "allowed: is missing",
    );
    assert_refused(
        format!("{}\n{}\n", lines[0], lines[1].replace("1.0", "-1.0")),
        "quantity: must be above 0",
    );
    assert_refused(
        format!("{0}\n{0}\n", lines[0]),
        "idempotency_key: `runtime-paper-scenario-1` was used before",
    );

    // A decision is missing, so the key of the next cycle is already in the journal.
    fs::write(&journal, format!("{}\n{}\n", lines[0], lines[2])).unwrap();
    let output = engine(temp.path(), &["--scenario", "s.json", "--journal", "d.jsonl", "--once"]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    let stderr = output.stderr;
    assert!(
        stderr.contains("d.jsonl: line 2 belongs to another cycle than 2: lines are missing"),
        "{stderr}"
    );
    assert!(stderr.contains("already contains the key `runtime-paper-scenario-3` of cycle 3"), "{stderr}");
}

#[test]
fn an_unfinished_last_line_of_a_journal_is_quarantined() {
    let temp = temp_dir();
    write_valid_scenario(temp.path());
    let run_cycles = |cycles: &str| {
        engine(
            temp.path(),
            &[&RECORDS[..], &["--max-cycles", cycles, "--interval", "0", "--fixed-clock", CLOCK]].concat(),
        )
    };
    run_cycles("2").success();
    for file in ["d.jsonl", "c.jsonl"] {
        let path = temp.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"allow")).unwrap();
    }
    let output = run_cycles("1");
    assert_eq!(output.code, 0);
    assert_eq!(output.stderr.lines().count(), 2);
    assert!(
        output.stderr.contains("d.jsonl: quarantined an incomplete last line of 7 bytes in d.jsonl.torn-at-"),
        "{}",
        output.stderr
    );
    for file in ["d.jsonl", "c.jsonl"] {
        let text = fs::read_to_string(temp.path().join(file)).unwrap();
        assert_eq!(text.lines().count(), 3);
        text.lines().for_each(|line| drop(Value::parse(line).unwrap()));
    }
    // The last line is complete, and only its newline is missing.
    let journal = temp.path().join("d.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.trim_end()).unwrap();
    run_cycles("1").success();
    assert_eq!(fs::read_to_string(&journal).unwrap().lines().count(), 4);
    bus(temp.path(), &["verify", "bus"]).success();
}

#[test]
fn of_two_concurrent_starts_on_a_journal_one_runs() {
    for _ in 0..20 {
        let temp = temp_dir();
        write_valid_scenario(temp.path());
        let arguments =
            ["--scenario", "s.json", "--journal", "new/d.jsonl", "--max-cycles", "3", "--interval", "0"];
        let two = [start_engine(temp.path(), &arguments), start_engine(temp.path(), &arguments)];
        let codes = two.map(|child| child.wait_with_output().unwrap().status.code().unwrap());
        let ran = codes.iter().filter(|code| **code == 0).count();
        assert!(ran >= 1 && codes.iter().all(|code| [0, 2].contains(code)), "{codes:?}");
        // Both ran if one ended before the other started.
        let decisions = fs::read_to_string(temp.path().join("new/d.jsonl")).unwrap();
        assert_eq!(decisions.lines().count(), 3 * ran);
    }
}

#[test]
fn a_file_that_is_not_a_cycle_journal_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    write_valid_scenario(dir);
    engine(dir, &[&RECORDS[..], &["--max-cycles", "2", "--interval", "0"]].concat()).success();
    let before = tree(dir);
    for (file, expected) in [
        ("bus/events.jsonl", "bus/events.jsonl: contains lines that are not zero.runtime.cycle.v1 records"),
        ("d.jsonl", "d.jsonl: contains lines that are not zero.runtime.cycle.v1 records"),
        ("s.json", "s.json: contains lines that are not zero.runtime.cycle.v1 records"),
    ] {
        let message = engine(dir, &["--scenario", "s.json", "--once", "--cycle-journal", file]).failure(2);
        assert!(message.contains(expected), "{message}");
        assert_eq!(tree(dir), before);
    }
    // Indented JSON, of which no line is JSON by itself.
    fs::write(dir.join("pretty.json"), "{\n  \"a\": 1,\n  \"b\": 2\n}\n").unwrap();
    let before = tree(dir);
    for option in ["--journal", "--cycle-journal"] {
        let message = engine(dir, &["--scenario", "s.json", "--once", option, "pretty.json"]).failure(2);
        assert!(message.contains("pretty.json: "), "{message}");
        assert_eq!(tree(dir), before);
    }
    // Without a bus each record is synced before the next one, so a crash cannot damage an earlier
    // record.
    engine(
        dir,
        &["--scenario", "s.json", "--max-cycles", "3", "--interval", "0", "--cycle-journal", "alone.jsonl"],
    )
    .success();
    let text = fs::read_to_string(dir.join("alone.jsonl")).unwrap();
    fs::write(dir.join("alone.jsonl"), text.replacen("\n{\"act\"", "\n[\"act\"", 1)).unwrap();
    let before = tree(dir);
    let message =
        engine(dir, &["--scenario", "s.json", "--once", "--cycle-journal", "alone.jsonl"]).failure(2);
    assert!(message.contains("alone.jsonl: the line at byte"), "{message}");
    assert_eq!(tree(dir), before);
    let twice = engine(
        dir,
        &["--scenario", "s.json", "--once", "--journal", "n.jsonl", "--cycle-journal", "n.jsonl"],
    );
    assert!(twice.failure(2).contains("n.jsonl: is named as both journals"));
    assert_eq!(tree(dir), before);
}

#[test]
fn a_start_that_fails_quarantines_nothing() {
    let temp = temp_dir();
    let dir = temp.path();
    write_valid_scenario(dir);
    engine(dir, &[&RECORDS[..], &["--max-cycles", "2", "--interval", "0"]].concat()).success();
    let whole = fs::read_to_string(dir.join("d.jsonl")).unwrap();
    let assert_refused = |journal: &[u8], bus: &str, expected: &str| {
        fs::write(dir.join("d.jsonl"), journal).unwrap();
        let before = tree(dir);
        let message =
            engine(dir, &["--scenario", "s.json", "--once", "--journal", "d.jsonl", "--runtime-bus", bus])
                .failure(2);
        assert!(message.contains(expected), "{message}");
        assert_eq!(tree(dir), before);
    };
    assert_refused(format!("garbage\n{whole}{{\"allow").as_bytes(), "bus", "d.jsonl: line 1 (byte 0)");
    assert_refused(format!("{whole}{{\"allow").as_bytes(), "s.json", "s.json: it is a file");
    let first = whole.lines().next().unwrap().replace("BTC", "B?C");
    let at = first.find('?').unwrap();
    let mut bytes = (first + "\n").into_bytes();
    bytes[at] = 0xff;
    let torn = format!("d.jsonl: ends with decision 0 and {} bytes of an unfinished line, but", bytes.len());
    assert_refused(&bytes, "bus", &torn);
    bytes.extend_from_slice(whole.as_bytes());
    assert_refused(&bytes, "bus", &format!("d.jsonl: line 1 (byte 0): is not UTF-8 (byte {at} of the line)"));
}

#[test]
fn a_journal_that_is_moved_away_ends_the_run() {
    let temp = temp_dir();
    let dir = temp.path();
    write_valid_scenario(dir);
    let child = start_engine(dir, &["--scenario", "s.json", "--journal", "d.jsonl", "--interval", "0"]);
    wait_until(|| fs::metadata(dir.join("d.jsonl")).is_ok_and(|file| file.len() > 0));
    fs::rename(dir.join("d.jsonl"), dir.join("old.jsonl")).unwrap();
    let message = Finished::from(child.wait_with_output().unwrap()).failure(2);
    assert!(message.contains("d.jsonl: is no longer the file that was opened"), "{message}");
}

#[test]
fn a_damaged_bus_is_refused_and_left_unchanged() {
    let temp = temp_dir();
    let dir = temp.path();
    write_valid_scenario(dir);
    engine(dir, &[&RECORDS[..], &["--max-cycles", "2", "--interval", "0"]].concat()).success();
    let log = dir.join("bus/events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replace("\"last_cycle_id\":2", "\"last_cycle_id\":7")).unwrap();
    let before = tree(dir);
    let output = engine(dir, &[&RECORDS[..], &["--once"]].concat());
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    assert!(output.stderr.contains("checksum mismatch at event 10"), "{}", output.stderr);
    assert_eq!(tree(dir), before);
}

#[test]
fn control_characters_in_messages_are_escaped() {
    let temp = temp_dir();
    write_scenario(temp.path(), &format!(r#"{{"\u001b[31mred\nline2":1,"orders":[{ORDER}]}}"#));
    let output = engine(temp.path(), &["--once", "--scenario", "s.json"]);
    assert_eq!(output.stderr.lines().count(), 1);
    assert!(
        output.stderr.contains(r"\u{1b}[31mred\nline2") && !output.stderr.contains('\x1b'),
        "{}",
        output.stderr
    );
}

#[test]
fn without_records_every_run_starts_at_cycle_1() {
    let temp = temp_dir();
    write_valid_scenario(temp.path());
    for _ in 0..2 {
        let cycle =
            Value::parse(&engine(temp.path(), &["--once", "--scenario", "s.json"]).success()).unwrap();
        assert_eq!(cycle.get("cycle_id").unwrap().as_u64(), Some(1));
    }
    assert_eq!(tree(temp.path()).len(), 1);
}

#[test]
fn parity_overwrites_no_foreign_file() {
    let temp = temp_dir();
    let dir = temp.path();
    write_valid_scenario(dir);
    let parity = || {
        engine(dir, &["--scenario", "s.json", "--production-parity", "--output", "out", "--max-cycles", "2"])
    };
    // Records of a real run.
    engine(
        dir,
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
    .success();
    let before = tree(dir);
    assert!(parity().failure(2).contains("out: contains records but no production-parity.json"));
    assert_eq!(tree(dir), before);
    fs::write(dir.join("out/mine"), "x").unwrap();
    assert!(parity().failure(2).contains("contains `mine`"));
    fs::remove_dir_all(dir.join("out")).unwrap();
    let first = Value::parse(&parity().success()).unwrap();
    assert_eq!(first.get("cycles_run").unwrap().as_u64(), Some(2));
    parity().success();
    // A real run that continued on the records of a report.
    engine(
        dir,
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
    .success();
    let before = tree(dir);
    assert!(parity().failure(2).contains("out: contains a bus that does not match production-parity.json"));
    assert_eq!(tree(dir), before);
    // An interrupted parity run leaves an unfinished report, which the next one replaces.
    fs::write(dir.join("out/production-parity.json"), "{\"ok\":false,\"unfinished\":true}\n").unwrap();
    assert_eq!(Value::parse(&parity().success()).unwrap().get("ok"), Some(&Value::Bool(true)));
}

#[test]
fn the_real_market_scenario_runs_to_its_end_with_a_restart() {
    let temp = temp_dir();
    let dir = temp.path();
    let orders = 250;
    for cycles in ["97", "153"] {
        let records = [&["--scenario", *REAL_MARKET_SCENARIO], &crate::support::RECORDS[..]].concat();
        engine(dir, &[&records[..], &["--max-cycles", cycles, "--interval", "0"]].concat()).success();
    }
    let verdict = Value::parse(&bus(dir, &["verify", "bus", "--json"]).success()).unwrap();
    let events = verdict.get("integrity").unwrap().get("events").unwrap().as_u64();
    assert_eq!(events, Some(5 * orders));
    bus(dir, &["audit", "bus", "-o", "audit.json"]).success();
    let audit = Value::parse(&fs::read_to_string(dir.join("audit.json")).unwrap()).unwrap();
    let types = audit.get("summary").unwrap().get("event_types").unwrap();
    assert_eq!(types.get("fill.record").unwrap().as_u64(), Some(201));
    assert_eq!(types.get("rejection.record").unwrap().as_u64(), Some(49));
    let decisions = fs::read_to_string(dir.join("d.jsonl")).unwrap();
    let count = |reason: &str| {
        decisions.lines().filter(|line| line.contains(&format!("\"reason\":\"{reason}\""))).count()
    };
    assert_eq!(count("confidence below minimum"), 9);
    assert_eq!(count("order notional exceeds limit"), 13);
    assert_eq!(count("projected position exceeds limit"), 27);
    assert_eq!(count("reduce-only orders bypass risk-increasing friction"), 98);
    assert_eq!(decisions.lines().count() as u64, orders);
}
