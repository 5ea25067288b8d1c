//! `explain`, `state`, `diff`, `completions` and `man`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{CLOCK, RECORDS, bus, engine, root};

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let scenario = root().join("examples/paper-trading/scenario.json");
    let arguments = ["--scenario", scenario.to_str().unwrap(), "--interval", "0", "--max-cycles", "4"];
    engine(place.path(), &[&arguments, &RECORDS[..], &["--fixed-clock", CLOCK]].concat()).fine();
    place
}

#[test]
fn the_state_after_any_event() {
    let place = place();
    let last = bus(place.path(), &["state", "bus"]).fine();
    assert_eq!(bus(place.path(), &["state", "bus", "--at", "20"]).fine(), last);
    assert!(
        last.starts_with(r#"{"cycle":{"#) && last.contains(r#""event_index":20,"health":{"decisions":4"#),
        "{last}"
    );
    let first = bus(place.path(), &["state", "bus", "--at", "1"]).fine();
    assert!(first.ends_with("\"event_index\":1,\"health\":null,\"positions\":null}\n"), "{first}");
    let beyond = bus(place.path(), &["state", "bus", "--at", "21"]).refused();
    assert!(beyond.contains("there is no event 21; the last one is 20"), "{beyond}");
}

#[test]
fn what_changed_between_two_events() {
    let place = place();
    let said = bus(place.path(), &["diff", "bus", "10", "20"]).fine();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.splitn(2, "  ").collect()).collect();
    let value = |path: &str| {
        let line = lines.iter().find(|line| line[0] == path);
        line.unwrap_or_else(|| panic!("{path} is not in {said}"))[1].trim()
    };
    assert_eq!(value("health.decisions"), "2 -> 4");
    assert_eq!(value("cycle.cycle_id"), "2 -> 4");
    assert!(!said.contains("positions.BTC"), "{said}");
    let said = bus(place.path(), &["diff", "bus", "5", "10"]).fine();
    assert!(said.contains("\npositions.ETH") && said.contains(r#"null -> {"avg_price":3100.0"#), "{said}");
    assert_eq!(bus(place.path(), &["diff", "bus", "20", "20"]).fine(), "no difference\n");
    let json = bus(place.path(), &["diff", "bus", "10", "20", "--json"]).fine();
    assert!(json.contains(r#"{"after":4,"before":2,"path":"health.decisions"}"#), "{json}");
}

/// Bash reads what is printed for it, and completes a command by it.
#[test]
fn completions_and_manual_pages() {
    let place = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = bus(place.path(), &["completions", shell]).fine();
        assert!(script.contains("zero-bus") && script.contains("verify"), "{shell}");
    }
    let script = bus(place.path(), &["completions", "bash"]).fine();
    let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let asks = "COMP_WORDS=(zero-bus ver); COMP_CWORD=1; _zero__bus zero-bus ver zero-bus; echo \"${COMPREPLY[@]}\"\n";
    bash.stdin.take().unwrap().write_all(format!("{script}\n{asks}").as_bytes()).unwrap();
    let completed = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap().trim(), "verify");
    let page = bus(place.path(), &["man"]).fine();
    assert!(page.contains(".TH zero-bus 1") && page.contains("verify"), "{page}");
    bus(place.path(), &["man", "--to", "."]).fine();
    assert!(place.path().join("zero-bus-command.1").exists());
    bus(place.path(), &["man", "--to", "share/man1"]).fine();
    assert!(place.path().join("share/man1/zero-bus-verify.1").exists());
    assert!(bus(place.path(), &["man", "--to", "zero-bus.1"]).refused().contains("zero-bus.1: cannot write"));
}

#[test]
fn a_cycle_for_a_person() {
    let place = place();
    let said = bus(place.path(), &["explain", "bus", "4"]).fine();
    let expected = "\
cycle 4 of first-flight, 2026-05-01T00:00:00Z
observe  BTC 0.01 @ 64,000.00, ETH 0.3 @ 3,100.00; 3 decisions before, 2 fills, 1 rejection; state from memory
orient   exposed: 1,570.00 USD held in total, limit 1,800.00 per position
decide   buy 0.31 ETH @ 3,150.00 = 976.50 USD, confidence 0.88
act      rejected: projected position exceeds limit (projected position 1,906.50 > limit 1,800.00)
learn    ETH unchanged: 0.3 @ 3,100.00; 4 decisions, 2 fills, 2 rejections
events   evt-000000000016 runtime.cycle
         evt-000000000017 decision.record
         evt-000000000018 rejection.record
         evt-000000000019 position.snapshot
         evt-000000000020 runtime.health
";
    assert_eq!(said, expected);
    for other in ["runtime-cycle-4", "evt-000000000016", "evt-000000000018", "evt-000000000020"] {
        assert_eq!(bus(place.path(), &["explain", "bus", other]).fine(), expected, "{other}");
    }
    let low = bus(place.path(), &["explain", "bus", "3"]).fine();
    assert!(low.contains("confidence below minimum (confidence 0.41 < minimum 0.6)"), "{low}");
    let filled = bus(place.path(), &["explain", "bus", "1"]).fine();
    assert!(
        filled.contains("observe  no open positions;")
            && filled.contains("BTC changes from no position to 0.01 @ 64,000.00")
    );
    let json = bus(place.path(), &["explain", "bus", "4", "--json"]).fine();
    assert!(
        json.contains(r#""limit":{"limit":1800.0,"name":"projected position","value":1906.5}"#),
        "{json}"
    );
    for (unknown, expected) in
        [("99", "no cycle 99"), ("evt-000000000099", "no event evt-000000000099"), ("x", "no cycle x")]
    {
        assert!(bus(place.path(), &["explain", "bus", unknown]).refused().contains(expected));
    }
}
