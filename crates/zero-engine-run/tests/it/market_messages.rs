//! What a run on market data tells its operator, and what a run that never began leaves behind.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use zero_bus::{Reader, Value};

use crate::support::{Finished, command, run};

/// Writes `a.csv` with rising prices of the symbol A, and a run file.
fn write_market(dir: &Path, bars: u32, limits: &str) {
    let row = |n: u32| format!("{},{1},{1},{1},{1}\n", 60 * n, 100 + n);
    let rows: String = (0..bars).map(row).collect();
    fs::write(dir.join("a.csv"), format!("ts,open,high,low,close\n{rows}")).unwrap();
    fs::write(dir.join("run.json"), format!(r#"{{"name":"m","limits":{{{limits}}}}}"#)).unwrap();
}

const SMA: &str = "sma-cross:fast=2,slow=3,quantity=1";

fn market(dir: &Path, strategy: &str, options: &[&str]) -> Finished {
    let arguments = ["--market", "a.csv", "--scenario", "run.json", "--strategy", strategy];
    run(dir, &[&arguments[..], options].concat())
}

const RECORDS: [&str; 4] = ["--runtime-bus", "bus", "--journal", "j.jsonl"];

/// A script that answers each bar with these words of the shell.
fn write_script(dir: &Path, answer: &str) {
    let text = format!(
        "read -r start\nwhile read -r line; do\ncase $line in *'\"stop\"'*) break ;; esac\n{answer}\ndone\n"
    );
    fs::write(dir.join("strategy.sh"), text).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_start_names_each_setting_that_differs_from_the_last_cycle() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    for records in [&RECORDS[..], &RECORDS[..2], &RECORDS[2..]] {
        for file in ["bus", "j.jsonl"] {
            let _ = fs::remove_dir_all(dir.join(file));
            let _ = fs::remove_file(dir.join(file));
        }
        write_market(dir, 9, r#""max_notional_usd":500,"max_drawdown_pct":10"#);
        let next = [records, &["--max-cycles", "3"]].concat();
        assert_eq!(market(dir, SMA, &next).success().stderr, "");
        assert_eq!(market(dir, SMA, &next).success().stderr, "", "nothing has changed");
        write_market(dir, 9, r#""max_notional_usd":800"#);
        let stderr = market(dir, SMA, &next).success().stderr;
        let expected = "the settings changed after cycle 6: max_notional_usd from 500 to 800 (looser), \
                        max_drawdown_pct from 10 to unset (looser); the records name the new ones from here on";
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn a_run_on_a_feed_without_new_candles_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 3, "");
    let first = market(dir, SMA, &RECORDS).success();
    assert!(first.stdout.contains(r#""cycle_id": 3"#) && first.stderr.is_empty(), "{}", first.stderr);
    let again = market(dir, SMA, &RECORDS).success();
    let expected =
        "a.csv: the feed has no candle after those of cycle 3, where the records end; no cycle ran";
    assert!(again.stdout.is_empty() && again.stderr.contains(expected), "{}{}", again.stdout, again.stderr);
    write_market(dir, 4, "");
    let continued = market(dir, SMA, &RECORDS).success();
    assert!(continued.stdout.contains(r#""cycle_id": 4"#) && continued.stderr.is_empty());
    write_market(dir, 0, "");
    let empty = market(dir, SMA, &["--dry"]);
    assert!(empty.stderr.contains("no candle"), "{:?} {}", empty.code, empty.stderr);
}

#[test]
fn failures_under_hold_are_shown_and_counted() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 8, "");
    write_script(dir, "echo nonsense");
    let hold = ["--on-failure", "hold"];
    let stderr =
        market(dir, "exec:sh strategy.sh", &[&hold[..], &["--runtime-bus", "bus"]].concat()).success().stderr;
    for expected in [
        "strategy.sh failed in cycle 1: not a line of JSON",
        "strategy.sh failed in cycle 3: ",
        "the cycle holds, and the run continues (--on-failure hold)",
        "the strategy failed in 5 more cycles",
    ] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    assert!(!stderr.contains("cycle 4"), "{stderr}");
    // Without records the program is not started again.
    let stderr = market(dir, "exec:sh strategy.sh", &[&hold[..], &["--dry"]].concat()).success().stderr;
    let held = "the strategy failed in cycle 1; without records and without a state it cannot continue; this process \
                holds to its end";
    assert_eq!(stderr.matches(held).count(), 1, "{stderr}");
}

#[test]
fn a_program_that_never_reads_its_input_is_not_a_strategy_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 4, "");
    fs::write(dir.join("rise.sh"), "#!/bin/sh\n").unwrap();
    let before = names(dir);
    for (strategy, expected) in [
        // The script does not exist.
        ("exec:sh risc.sh", "cannot start the strategy sh: the program exited with code "),
        (
            "exec:sh rise.sh",
            "cannot start the strategy rise.sh: the program exited with code 0 without reading",
        ),
        (
            "exec:rise.sh --fast",
            "there is no program rise.sh in PATH; for the file in this directory, write exec:./rise.sh",
        ),
        ("exec:no-such-program", "there is no program no-such-program in PATH"),
        ("exec:./rise.sh", "cannot start the strategy rise.sh: cannot start `./rise.sh`"),
    ] {
        for options in [&RECORDS[..], &["--runtime-bus", "new/bus", "--on-failure", "hold"]] {
            let stderr = market(dir, strategy, options).failure(2).stderr;
            assert!(stderr.contains(expected), "{expected}: {stderr}");
            assert_eq!(names(dir), before, "{strategy}");
        }
    }
    // A program that has read its input did run: its failure is recorded.
    fs::write(dir.join("rise.sh"), "read -r start\nread -r bar\nexit 3\n").unwrap();
    let stderr = market(dir, "exec:sh rise.sh", &RECORDS).failure(1).stderr;
    assert!(stderr.contains("rise.sh failed in cycle 1: the program exited with code 3"), "{stderr}");
}

#[test]
fn a_feed_that_fails_before_its_first_bar_leaves_no_records() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 4, "");
    fs::write(dir.join("a.csv"), "time,open,high,low,last\n0,1,1,1,1\n").unwrap();
    let before = names(dir);
    let stderr = market(dir, SMA, &RECORDS).failure(2).stderr;
    let expected = "a.csv: line 1: the header has no column close; it needs ts (or date, time, timestamp), open, high, low \
                    and close; it can have volume, and symbol, which otherwise is the name of the file";
    assert!(stderr.contains(expected), "{stderr}");
    assert_eq!(names(dir), before);

    let live = ["--market", "exec:echo nonsense", "--strategy", SMA, "--runtime-bus", "bus"];
    run(dir, &live).failure(2);
    assert_eq!(names(dir), before);
    // A bus that was there before stays.
    fs::create_dir(dir.join("bus")).unwrap();
    fs::write(dir.join("bus/events.jsonl"), "").unwrap();
    market(dir, SMA, &RECORDS).failure(2);
    assert!(dir.join("bus/events.jsonl").exists());
}

#[test]
fn a_lost_bus_is_published_again_with_one_message() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 20, "");
    market(dir, SMA, &[&RECORDS[..], &["--max-cycles", "12"]].concat()).success();
    fs::remove_dir_all(dir.join("bus")).unwrap();
    let stderr = market(dir, SMA, &RECORDS).success().stderr;
    assert_eq!(stderr.matches("warning").count(), 1, "{stderr}");
    assert!(stderr.contains("12 cycles (1 to 12) were completed on the bus"), "{stderr}");
    assert!(Reader::open(dir.join("bus")).unwrap().verify().unwrap().ok());
}

#[test]
fn an_order_for_a_symbol_that_the_feed_does_not_have_is_warned_of_once() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 4, "");
    write_script(
        dir,
        r#"echo '{"orders":[{"symbol":"AA","side":"buy","quantity":1,"confidence":1,"reason":""}]}'"#,
    );
    let stderr = market(dir, "exec:sh strategy.sh", &RECORDS).success().stderr;
    let expected = "cycle 1: the strategy ordered AA, but the feed has had no candle of it";
    assert_eq!(stderr.matches("AA").count(), 1, "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn a_changed_strategy_is_told_to_start_new_records_for_a_certificate() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 8, "");
    market(dir, SMA, &[&RECORDS[..], &["--max-cycles", "4"]].concat()).success();
    let stderr = market(dir, "sma-cross:fast=2,slow=4,quantity=1", &RECORDS).success().stderr;
    assert!(stderr.contains("No replay with one strategy reproduces both parts of the run"), "{stderr}");
    assert!(stderr.contains("start new records (another journal and another bus)"), "{stderr}");
}

#[test]
fn a_run_that_keeps_nothing_says_so_unless_that_is_meant() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 4, "");
    assert!(market(dir, SMA, &[]).success().stderr.contains("nothing of this run is kept"));
    assert_eq!(market(dir, SMA, &["--dry"]).success().stderr, "");
    fs::write(dir.join("orders.jsonl"), "").unwrap();
    let stderr = run(dir, &["--orders", "orders.jsonl"]).success().stderr;
    assert!(stderr.contains("nothing of this run is kept"), "{stderr}");
}

#[test]
fn an_answer_to_an_order_has_the_numbers_of_the_limit_and_the_account() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 4, r#""max_notional_usd":500"#);
    let order = |quantity: f64, side: &str| {
        format!(
            r#"{{"symbol":"B","side":"{side}","quantity":{quantity},"price":100,"confidence":0.9,"key":"{side}{quantity}"}}"#
        )
    };
    let lines = [order(2.0, "buy"), order(8.0, "buy"), order(2.0, "sell"), order(2.0, "buy")];
    let arguments = [&["--orders", "-", "--scenario", "run.json"][..], &RECORDS].concat();
    let mut child = command(dir, &arguments);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    write!(child.stdin.take().unwrap(), "{}", lines.join("\n")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| Value::parse(line).unwrap()).collect();
    let number = |answer: &Value, path: &[&str]| {
        path.iter().try_fold(answer, |value, key| value.get(key)).and_then(Value::as_f64)
    };
    let account = |answer: &Value| {
        [&["cash_usd"][..], &["equity_usd"], &["position", "quantity"], &["position", "avg_price"]]
            .map(|path| number(answer, path))
    };
    let long = [Some(9_800.0), Some(10_000.0), Some(2.0), Some(100.0)];
    assert_eq!((account(&answers[0]), account(&answers[1])), (long, long));
    let limit = ["bound", "value"].map(|key| number(&answers[1], &["limit", key]));
    assert_eq!(limit, [Some(500.0), Some(800.0)]);
    assert_eq!(answers[0].get("limit"), None);
    // A repeated key has its earlier result, and the account of now.
    let flat = [Some(10_000.0), Some(10_000.0), None, None];
    assert_eq!((account(&answers[2]), account(&answers[3])), (flat, flat));
    assert_eq!(answers[3].get("repeated"), Some(&Value::Bool(true)));
    assert_eq!(number(&answers[3], &["cycle_id"]), Some(1.0));
}

#[test]
fn orders_that_continue_the_account_of_a_strategy_are_warned_of() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_market(dir, 8, "");
    market(dir, SMA, &RECORDS).success();
    fs::write(
        dir.join("orders.jsonl"),
        r#"{"symbol":"A","side":"sell","quantity":1,"price":100,"confidence":1}"#,
    )
    .unwrap();
    let arguments = [&["--orders", "orders.jsonl", "--scenario", "run.json"][..], &RECORDS].concat();
    let stderr = run(dir, &arguments).success().stderr;
    let expected =
        "these orders continue the account of the run `m`, whose last cycle 8 was decided by the strategy";
    assert!(stderr.contains(expected) && stderr.contains("1 open position"), "{stderr}");
    // From then on the account is that of the orders.
    assert_eq!(run(dir, &arguments).success().stderr, "");
    // A missing file leaves nothing behind.
    let missing = ["--orders", "none.jsonl", "--runtime-bus", "other"];
    run(dir, &missing).failure(2);
    assert!(!dir.join("other").exists());
}
