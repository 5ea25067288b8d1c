//! The scenario of a run without `--scenario`.

use std::fs;
use std::path::Path;

use crate::support::{DEFAULT_SCENARIO, example_scenario, run};

const CYCLES: [&str; 6] = ["--max-cycles", "6", "--interval", "0", "--fixed-clock", "1777593600"];

const WARNING: &str = "zero-engine-run: warning: examples/paper-trading/scenario.json does not exist here; \
                       using the built-in copy (--scenario names another)\n";

fn put_default_scenario(directory: &Path, text: &str) {
    let path = directory.join(DEFAULT_SCENARIO);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn an_empty_directory_runs_the_built_in_scenario_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let built_in = run(directory.path(), &CYCLES).success();
    assert_eq!(built_in.stderr, WARNING);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written");

    let scenario = example_scenario();
    let from_file = [&["--scenario", scenario.to_str().unwrap()], &CYCLES[..]].concat();
    let from_file = run(directory.path(), &from_file).success();
    assert_eq!(from_file.stderr, "");
    assert_eq!(built_in.stdout, from_file.stdout);
}

#[test]
fn the_default_file_is_preferred_to_the_built_in_scenario() {
    let directory = tempfile::tempdir().unwrap();
    let order = r#"{"symbol":"X","side":"buy","quantity":1,"price":10,"confidence":0.9}"#;
    put_default_scenario(directory.path(), &format!(r#"{{"name":"mine","orders":[{order}]}}"#));
    let finished = run(directory.path(), &CYCLES).success();
    assert_eq!(finished.stderr, "");
    assert!(finished.stdout.contains(r#""scenario": "mine""#), "{}", finished.stdout);
}

#[test]
fn an_invalid_default_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    put_default_scenario(directory.path(), "{}");
    let finished = run(directory.path(), &CYCLES).failure(2);
    assert_eq!(finished.stderr, format!("zero-engine-run: {DEFAULT_SCENARIO}: orders: is missing\n"));
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_named_scenario_that_does_not_exist_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for named in ["missing.json", DEFAULT_SCENARIO] {
        let finished = run(directory.path(), &["--once", "--scenario", named]).failure(2);
        let expected =
            format!("zero-engine-run: {named}: there is no such scenario; name one with --scenario\n");
        assert_eq!(finished.stderr, expected);
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn the_parity_report_uses_the_built_in_scenario_too() {
    let directory = tempfile::tempdir().unwrap();
    let finished = run(directory.path(), &["--production-parity", "--output", "out"]).success();
    assert_eq!(finished.stderr, WARNING);
    assert!(finished.stdout.contains(r#""scenario": "first-flight""#), "{}", finished.stdout);
}

/// Every spelling is a symbol of its own, with its own position limit.
#[test]
fn symbols_that_look_alike_are_warned_of_with_both_names() {
    let directory = tempfile::tempdir().unwrap();
    let order = |symbol: &str| {
        format!(r#"{{"symbol":"{symbol}","side":"buy","quantity":1,"price":10,"confidence":0.9}}"#)
    };
    let write = |symbols: &[&str]| {
        let orders: Vec<String> = symbols.iter().map(|symbol| order(symbol)).collect();
        let text = format!(r#"{{"orders":[{}]}}"#, orders.join(","));
        fs::write(directory.path().join("s.json"), text).unwrap();
    };
    let arguments = ["--scenario", "s.json", "--max-cycles", "1", "--interval", "0", "--journal", "d.jsonl"];
    let warning = |source: &str, second: &str| {
        format!(
            "zero-engine-run: warning: {source}the symbols \"BTC\" and \"{second}\" look alike but are different: \
             each has a position and a position limit of its own\n"
        )
    };
    write(&["BTC", "BTC ", " btc", "BTC\u{200b}", "ETH", "btc"]);
    let expected = ["BTC ", " BTC", "BTC\\u{200b}"].map(|second| warning("s.json: ", second)).concat();
    assert_eq!(run(directory.path(), &arguments).success().stderr, expected);
    // The position of the first run is in BTC.
    write(&["ETH", "BTC "]);
    let expected = warning("", "BTC").replace("\"BTC\" and \"BTC\"", "\"BTC \" and \"BTC\"");
    assert_eq!(run(directory.path(), &arguments).success().stderr, expected);
}

#[test]
fn a_repeated_key_is_warned_of_and_its_last_value_counts() {
    let directory = tempfile::tempdir().unwrap();
    let order = r#"{"symbol":"X","side":"buy","quantity":1,"price":1,"price":10,"confidence":0.9}"#;
    let limits = r#"{"max_notional_usd":5,"max_notional_usd":50}"#;
    put_default_scenario(directory.path(), &format!(r#"{{"limits":{limits},"orders":[{order}]}}"#));
    let finished = run(directory.path(), &CYCLES[..]).success();
    let warning = |path: &str| {
        format!(
            "zero-engine-run: warning: {DEFAULT_SCENARIO}: {path}: is given more than once; the last one counts\n"
        )
    };
    assert_eq!(finished.stderr, warning("limits.max_notional_usd") + &warning("orders[0].price"));
    assert!(finished.stdout.contains(r#""price": 10"#), "{}", finished.stdout);
}
