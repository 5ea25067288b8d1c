//! `zero-bus state`, `diff`, `explain`, `completions` and `man`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::runs::run_cycles;
use crate::support::{bus, engine, temp_dir};
use tempfile::TempDir;

/// A directory with a run of four cycles.
fn recorded_run() -> TempDir {
    let temp = temp_dir();
    run_cycles(temp.path(), "4", &[]).success();
    temp
}

#[test]
fn state_prints_the_state_after_an_event() {
    let temp = recorded_run();
    let last = bus(temp.path(), &["state", "bus"]).success();
    assert_eq!(bus(temp.path(), &["state", "bus", "--at", "20"]).success(), last);
    assert!(
        last.starts_with(r#"{"cycle":{"#) && last.contains(r#""event_index":20,"health":{"decisions":4"#),
        "{last}"
    );
    let first = bus(temp.path(), &["state", "bus", "--at", "1"]).success();
    assert!(first.ends_with("\"event_index\":1,\"health\":null,\"positions\":null}\n"), "{first}");
    assert_eq!(bus(temp.path(), &["state", "bus", "--at", "evt-000000000001"]).success(), first);
    let beyond = bus(temp.path(), &["state", "bus", "--at", "21"]).failure(2);
    assert!(beyond.contains("has no event 21; the last one is 20"), "{beyond}");
}

#[test]
fn state_at_a_time_is_that_of_the_last_event_until_then() {
    let temp = temp_dir();
    // The clock was set back before the third event.
    for as_of in ["1577836800", "1577836900", "1577836850", "1577837000"] {
        bus(temp.path(), &["append", "bus", "--type", "t", "--as-of", as_of, "{}"]).success();
    }
    for (time, index) in [
        ("2020-01-01T00:00:00Z", 1),
        ("1577836800", 1),
        ("1577836849.5", 1),
        ("2020-01-01T00:01:00+00:00", 3),
        ("1577836999", 3),
        ("1d", 4),
        ("-1", 4),
        ("3", 3),
    ] {
        let state = bus(temp.path(), &["state", "bus", "--at", time, "--json"]).success();
        assert!(state.contains(&format!("\"event_index\":{index},")), "{time}: {state}");
    }
    let message = bus(temp.path(), &["state", "bus", "--at", "2019-12-31T23:59:59Z"]).failure(2);
    assert!(message.contains("bus/events.jsonl: has no event at or before this time"), "{message}");
    let message = bus(temp.path(), &["state", "bus", "--at", "soon"]).failure(2);
    assert!(message.contains("expected an event"), "{message}");
}

#[test]
fn diff_prints_what_changed_between_two_events() {
    let temp = recorded_run();
    let stdout = bus(temp.path(), &["diff", "bus", "10", "20"]).success();
    let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.splitn(2, "  ").collect()).collect();
    let value = |path: &str| {
        let line = lines.iter().find(|line| line[0] == path);
        line.unwrap_or_else(|| panic!("{path} is not in {stdout}"))[1].trim()
    };
    assert_eq!(value("health.decisions"), "2 -> 4");
    assert_eq!(value("cycle.cycle_id"), "2 -> 4");
    assert!(!stdout.contains("positions.BTC"), "{stdout}");
    let stdout = bus(temp.path(), &["diff", "bus", "5", "10"]).success();
    assert!(
        stdout.contains("\npositions.ETH") && stdout.contains(r#"null -> {"avg_price":3100.0"#),
        "{stdout}"
    );
    assert_eq!(bus(temp.path(), &["diff", "bus", "20", "20"]).success(), "no difference\n");
    let json = bus(temp.path(), &["diff", "bus", "10", "20", "--json"]).success();
    assert!(json.contains(r#"{"after":4,"before":2,"path":"health.decisions"}"#), "{json}");
}

/// Bash completes a command with the printed script.
#[test]
fn completions_and_manual_pages_are_printed() {
    let temp = temp_dir();
    for shell in ["bash", "zsh", "fish"] {
        let script = bus(temp.path(), &["completions", shell]).success();
        assert!(script.contains("zero-bus") && script.contains("verify"), "{shell}");
    }
    let script = bus(temp.path(), &["completions", "bash"]).success();
    let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let request = "COMP_WORDS=(zero-bus ver); COMP_CWORD=1; _zero__bus zero-bus ver zero-bus; echo \"${COMPREPLY[@]}\"\n";
    bash.stdin.take().unwrap().write_all(format!("{script}\n{request}").as_bytes()).unwrap();
    let completed = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap().trim(), "verify");
    let page = bus(temp.path(), &["man"]).success();
    assert!(page.contains(".TH zero-bus 1") && page.contains("verify"), "{page}");
    bus(temp.path(), &["man", "--to", "."]).success();
    assert!(temp.path().join("zero-bus-command.1").exists());
    bus(temp.path(), &["man", "--to", "share/man1"]).success();
    assert!(temp.path().join("share/man1/zero-bus-verify.1").exists());
    assert!(bus(temp.path(), &["man", "--to", "zero-bus.1"]).failure(2).contains("zero-bus.1: cannot write"));
}

#[test]
fn explain_prints_one_cycle() {
    let temp = recorded_run();
    let stdout = bus(temp.path(), &["explain", "bus", "4"]).success();
    let expected = "\
cycle 4 of first-flight, 2026-05-01T00:00:00Z
observe  BTC 0.01 @ 64,000.00, ETH 0.3 @ 3,100.00; 3 decisions before, 2 fills, 1 rejection; a start without earlier decisions
orient   exposed: all positions together hold 1,570.00 USD, less than the 1,800.00 USD that one position may hold
decide   buy 0.31 ETH @ 3,150.00 = 976.50 USD, confidence 0.88
act      rejected: projected position exceeds limit (projected position 1,906.50 > limit 1,800.00)
learn    ETH unchanged: 0.3 @ 3,100.00; 4 decisions, 2 fills, 2 rejections
events   evt-000000000016 runtime.cycle
         evt-000000000017 decision.record
         evt-000000000018 rejection.record
         evt-000000000019 position.snapshot
         evt-000000000020 runtime.health
";
    assert_eq!(stdout, expected);
    for other in ["runtime-cycle-4", "evt-000000000016", "evt-000000000018", "evt-000000000020"] {
        assert_eq!(bus(temp.path(), &["explain", "bus", other]).success(), expected, "{other}");
    }
    let low = bus(temp.path(), &["explain", "bus", "3"]).success();
    assert!(low.contains("confidence below minimum (confidence 0.41 < minimum 0.6)"), "{low}");
    let filled = bus(temp.path(), &["explain", "bus", "1"]).success();
    assert!(
        filled.contains("observe  no open positions;")
            && filled.contains("BTC changes from no position to 0.01 @ 64,000.00")
    );
    let json = bus(temp.path(), &["explain", "bus", "4", "--json"]).success();
    assert!(
        json.contains(r#""limit":{"limit":1800.0,"name":"projected position","value":1906.5}"#),
        "{json}"
    );
    for (unknown, expected) in
        [("99", "no cycle 99"), ("evt-000000000099", "has no event 99"), ("x", "no cycle x")]
    {
        assert!(bus(temp.path(), &["explain", "bus", unknown]).failure(2).contains(expected));
    }
}

/// 0.1 + 0.2 - 0.3 is not 0 in doubles. The recorded position is printed as it is.
#[test]
fn state_names_rounding_residues_on_standard_error() {
    let temp = temp_dir();
    let order = |side: &str, quantity: &str| {
        format!(r#"{{"symbol":"X","side":"{side}","quantity":{quantity},"price":100,"confidence":0.9}}"#)
    };
    let orders = [order("buy", "0.1"), order("buy", "0.2"), order("sell", "0.3")].join(",");
    std::fs::write(temp.path().join("s.json"), format!(r#"{{"orders":[{orders}]}}"#)).unwrap();
    let arguments = ["--scenario", "s.json", "--max-cycles", "3", "--interval", "0", "--runtime-bus", "bus"];
    engine(temp.path(), &arguments).success();
    let message = "zero-bus: X 5.55111512313e-17 is a rounding residue of a closed position\n";
    let stdout = bus(temp.path(), &["state", "bus"]).success_with_warning(message);
    assert!(stdout.contains(r#""quantity":5.551115123125783e-17,"symbol":"X""#), "{stdout}");
    bus(temp.path(), &["diff", "bus", "10", "15"]).success_with_warning(message);
    bus(temp.path(), &["state", "bus", "--at", "10"]).success();
}

#[test]
fn explain_shows_as_many_digits_as_show_the_violated_limit() {
    let temp = temp_dir();
    let order = r#"{"symbol":"X","side":"buy","quantity":0.07,"price":100,"confidence":0.9}"#;
    let scenario = format!(r#"{{"limits":{{"max_notional_usd":7}},"orders":[{order}]}}"#);
    std::fs::write(temp.path().join("s.json"), scenario).unwrap();
    engine(temp.path(), &["--scenario", "s.json", "--once", "--runtime-bus", "bus"]).success();
    let stdout = bus(temp.path(), &["explain", "bus", "1"]).success();
    let expected = "order notional exceeds limit (order notional 7.000000000000001 > limit 7.00)\n";
    assert!(stdout.contains(expected), "{stdout}");
}
