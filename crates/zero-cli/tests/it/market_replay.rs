//! Commands on the records of a run on market data: `replay`, `doctor`, `public`; and `drill`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use zero_bus::{Bus, Draft, Json, Reader};

use crate::support::{bus, engine, temp_dir};

const SPEC: &str = "sma-cross:fast=2,slow=5,quantity=1";

const RUN: &str =
    r#"{"name":"r","limits":{"max_notional_usd":500,"max_position_notional_usd":500,"max_drawdown_pct":50}}"#;

/// Records a run with the bus `bus` and the journal `j.jsonl`.
fn record(dir: &Path, strategy: &str) {
    let price = |n: u32| 100.0 + 10.0 * (f64::from(n) / 3.0).sin();
    let rows = (0..40).map(|n| {
        let (open, close) = (price(n), price(n + 1));
        format!("{},{open},{},{},{close}\n", 60 * n, open.max(close), open.min(close))
    });
    fs::write(dir.join("btc.csv"), format!("time,open,high,low,close\n{}", rows.collect::<String>()))
        .unwrap();
    fs::write(dir.join("run.json"), RUN).unwrap();
    let records = ["--runtime-bus", "bus", "--journal", "j.jsonl"];
    let arguments =
        [&["--market", "btc.csv", "--strategy", strategy, "--scenario", "run.json"][..], &records];
    engine(dir, &arguments.concat()).success();
}

/// Copies the bus to `copy` with a change of one event's payload.
fn copy_with(dir: &Path, event_type: &str, from: &str, to: &str) {
    let mut changed = false;
    let drafts = Reader::open(dir.join("bus")).unwrap().events(1).unwrap().map(|event| {
        let event = event.unwrap();
        let mut payload = event.payload.to_string();
        if event.event_type == event_type && !changed && payload.contains(from) {
            payload = payload.replacen(from, to, 1);
            changed = true;
        }
        Draft {
            payload: Json::parse(&payload).unwrap(),
            event_type: event.event_type,
            as_of: event.as_of,
            trace_id: event.trace_id,
        }
    });
    Bus::open(dir.join("copy")).unwrap().append_batch(drafts.collect()).unwrap();
    assert!(changed);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_run_is_replayed_and_checked() {
    let temp = temp_dir();
    let dir = temp.path();
    record(dir, SPEC);
    let events = Reader::open(dir.join("bus")).unwrap().head().unwrap().index;
    let stdout = bus(dir, &["replay", "bus"]).success();
    assert_eq!(stdout, format!("40 cycles, {events} events: all as recorded\n"));
    let stdout = bus(dir, &["doctor", "bus", "--journal", "j.jsonl"]).success();
    assert!(stdout.contains(&format!("40 cycles run again, the same in all {events} events")), "{stdout}");
    assert!(stdout.contains("journal      40 cycles, the same as on the bus"), "{stdout}");

    // A history that was rewritten as a valid chain.
    copy_with(dir, "fill.record", "\"fee_usd\":0.0", "\"fee_usd\":1.0");
    bus(dir, &["verify", "copy"]).success();
    let output = bus(dir, &["replay", "copy"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
    assert!(output.stdout.contains("fill.record differs from the record"), "{}", output.stdout);
    assert!(output.stdout.contains("payload.fee_usd  recorded  1.0"), "{}", output.stdout);
    let output = bus(dir, &["doctor", "copy", "--journal", "j.jsonl"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("differs from the replay in payload.fee_usd"), "{}", output.stdout);
    assert!(
        output.stdout.contains("has 2 of the 5 events that j.jsonl has for cycle 6"),
        "{}",
        output.stdout
    );
}

#[test]
fn a_journal_that_does_not_fit_is_reported() {
    let temp = temp_dir();
    let dir = temp.path();
    record(dir, SPEC);
    let journal = fs::read_to_string(dir.join("j.jsonl")).unwrap();
    let lines: Vec<&str> = journal.split_inclusive('\n').collect();
    let check = |text: &str| {
        fs::write(dir.join("other.jsonl"), text).unwrap();
        fs::set_permissions(dir.join("other.jsonl"), fs::Permissions::from_mode(0o600)).unwrap();
        let output = bus(dir, &["doctor", "bus", "--journal", "other.jsonl"]);
        (output.code, output.stdout)
    };
    let (code, stdout) = check(&lines[..39].concat());
    assert!(
        code == 1
            && stdout.contains("belongs to cycle 40, but other.jsonl ends with cycle 39: the bus is ahead"),
        "{stdout}"
    );
    let (code, stdout) = check(&format!("{journal}{{\"as_of\":"));
    assert!(code == 0 && stdout.contains("ends with 9 bytes of an unfinished line"), "{stdout}");
    let (code, stdout) = check(&[&lines[..3], &lines[4..]].concat().concat());
    assert!(code == 1 && stdout.contains("line 4 ") && stdout.contains("cycle 4 must follow"), "{stdout}");
    let (code, stdout) = check("");
    assert!(code == 1 && stdout.contains("but other.jsonl ends with cycle 0: the bus is ahead"), "{stdout}");
    // A crash kept the last two cycles from the bus.
    let log = fs::read_to_string(dir.join("bus/events.jsonl")).unwrap();
    let end = log.find("runtime-cycle-39\"").unwrap();
    let end = log[..end].rfind('\n').unwrap() + 1;
    fs::create_dir(dir.join("short")).unwrap();
    fs::write(dir.join("short/events.jsonl"), &log[..end]).unwrap();
    let output = bus(dir, &["doctor", "short", "--journal", "j.jsonl"]);
    assert!(output.stdout.contains("the bus lacks the last 2 of 40 cycles"), "{}", output.stdout);
    // The figures of a public export must not come from a journal that contradicts the bus.
    fs::write(dir.join("other.jsonl"), lines[..39].concat()).unwrap();
    let message =
        bus(dir, &["public", "profile", "bus", "--handle", "desk", "--journal", "other.jsonl"]).failure(1);
    assert!(message.contains("the bus is ahead"), "{message}");
}

#[test]
fn other_limits_show_which_decisions_change() {
    let temp = temp_dir();
    let dir = temp.path();
    record(dir, SPEC);
    fs::write(dir.join("limits.json"), r#"{"max_gross_exposure_usd": 50}"#).unwrap();
    let stdout = bus(dir, &["replay", "bus", "--limits", "limits.json"]).success();
    assert!(stdout.contains("equity, USD"), "{stdout}");
    let change = "BTC: allowed -> gross exposure exceeds limit (gross exposure 9";
    assert!(stdout.contains("changed decisions:\n  cycle ") && stdout.contains(change), "{stdout}");
    let stdout = bus(dir, &["replay", "bus", "--limits", "limits.json", "--json"]).success();
    let document = json(&stdout);
    assert_eq!(document["changed_decisions"], document["changes"].as_array().unwrap().len());
    assert_eq!(document["what_if"]["fills"], 0);
    assert_eq!(document["what_if"]["equity_usd"], 10_000.0);
    assert!(document["recorded"]["fills"].as_u64().unwrap() > 2);
    for file in [r#"{"max_data_age":1}"#, r#"{"max_drawdown_pct":0}"#] {
        fs::write(dir.join("limits.json"), file).unwrap();
        bus(dir, &["replay", "bus", "--limits", "limits.json"]).failure(2);
    }
}

#[test]
fn a_strategy_is_run_again_and_certified() {
    let temp = temp_dir();
    let dir = temp.path();
    record(dir, SPEC);
    let arguments = ["replay", "bus", "--strategy", SPEC, "--certificate", "certificate.json"];
    let stdout = bus(dir, &arguments).success();
    assert!(stdout.contains("cycles     40 of 40 reproduced"), "{stdout}");
    let certificate = fs::read_to_string(dir.join("certificate.json")).unwrap();
    let mode = fs::metadata(dir.join("certificate.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(format!("{}\n", Json::parse(&certificate).unwrap()), certificate, "canonical");
    assert_eq!(bus(dir, &[&arguments[..], &["--json"]].concat()).success(), certificate);
    let document = json(&certificate);
    assert_eq!(document["schema_version"], "zero.runtime.replay.v1");
    assert_eq!(document["decisions"]["recorded"], document["decisions"]["reproduced"]);
    assert_eq!(document["engine"]["name"], "zero-bus");

    let other = "sma-cross:fast=2,slow=6,quantity=1";
    let output = bus(dir, &["replay", "bus", "--strategy", other, "--certificate", "certificate.json"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
    assert!(output.stdout.contains("payload.decide.strategy.sha256"), "{}", output.stdout);
    let document = json(&fs::read_to_string(dir.join("certificate.json")).unwrap());
    assert_eq!(document["difference"]["cycle_id"], 1);

    for (arguments, problem) in [
        (&["--certificate", "c.json"][..], "--strategy"),
        (&["--strategy", SPEC, "--limits", "run.json"], "--limits"),
        (&["--strategy", "sma"], "is not a strategy"),
        (&["--strategy", SPEC, "--strategy-timeout", "0"], "is not a number of seconds above 0"),
        (&["--strategy", SPEC, "--certificate", "bus/c.json"], "is inside the bus"),
        (&["--strategy", SPEC, "--certificate", "none/c.json"], "cannot write it"),
    ] {
        let message = bus(dir, &[&["replay", "bus"], arguments].concat()).failure(2);
        assert!(message.contains(problem), "{message}");
    }
}

/// The clock is no part of what a strategy is shown.
#[test]
fn a_program_that_reads_the_clock_is_not_certified() {
    let temp = temp_dir();
    let dir = temp.path();
    let order =
        r#"{"symbol":"BTC","side":"buy","quantity":0.1,"confidence":0.9,"reason":"at '$(date +%s%N)'"}"#;
    let script = format!(
        "while read -r line; do case $line in *'\"type\":\"bar\"'*) echo '{{\"orders\":[{order}]}}' ;; esac; done\n"
    );
    fs::write(dir.join("clock.sh"), script).unwrap();
    record(dir, "exec:sh clock.sh");
    bus(dir, &["replay", "bus"]).success();
    let output = bus(dir, &["replay", "bus", "--strategy", "exec:sh clock.sh"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""));
    assert!(output.stdout.contains("decisions  0 of 40 reproduced"), "{}", output.stdout);
    assert!(output.stdout.contains("strategy_reason"), "{}", output.stdout);
}

#[test]
fn public_exports_of_a_run_agree_from_journal_and_bus() {
    let temp = temp_dir();
    let dir = temp.path();
    record(dir, SPEC);
    for export in ["profile", "intelligence"] {
        let options =
            ["public", export, "bus", "--handle", "desk-1", "--generated-at", "2026-05-01T00:00:00Z"];
        let of_bus = bus(dir, &options).success();
        let of_journal = bus(dir, &[&options[..], &["--journal", "j.jsonl"]].concat()).success();
        assert_eq!(of_bus, of_journal);
        assert!(!of_bus.contains("BTC") && !of_bus.contains("sma"), "{of_bus}");
    }
}

#[test]
fn drills_show_the_numbers_of_the_limits() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("run.json"), RUN).unwrap();
    let stdout = bus(dir, &["drill", "run.json"]).success();
    assert!(stdout.contains("max_drawdown_pct 50\n"), "{stdout}");
    assert!(stdout.contains("max_data_age_s 60 (example; the limit is not set)\n"), "{stdout}");
    assert!(stdout.contains("rejected: drawdown limit reached (drawdown 55"), "{stdout}");
    let document = json(&bus(dir, &["drill", "--json"]).success());
    assert_eq!(document["passed"], true);
    assert_eq!(document["drills"].as_array().unwrap().len(), 5);
    assert!(bus(dir, &["drill", "none.json"]).failure(2).contains("none.json: cannot open it"));
    fs::write(dir.join("run.json"), r#"{"limits":{"max_drawdown_pct":-1}}"#).unwrap();
    let message = bus(dir, &["drill", "run.json"]).failure(2);
    assert!(message.contains("run.json: limits.max_drawdown_pct: must be above 0"), "{message}");
}

#[test]
fn a_drawdown_limit_above_100_is_refused_and_the_drill_shows_a_run_without_a_position() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("run.json"), r#"{"limits":{"max_drawdown_pct":120}}"#).unwrap();
    let message = bus(dir, &["drill", "run.json"]).failure(2);
    assert!(message.contains("limits.max_drawdown_pct: must be at most 100"), "{message}");
    fs::write(dir.join("run.json"), r#"{"limits":{"max_drawdown_pct":100}}"#).unwrap();
    let stdout = bus(dir, &["drill", "run.json"]).success();
    let step = stdout.lines().find(|line| line.contains("a buy a year later")).unwrap();
    assert!(step.contains("rejected: drawdown limit reached"), "{stdout}");
}

/// A script that buys in its second bar.
const BUYER: &str = r#"read -r start
n=0
while read -r line; do
  case $line in *'"stop"'*) break ;; esac
  n=$((n + 1))
  orders=''
  if [ $n = 2 ]; then
    orders='{"symbol":"BTC","side":"buy","quantity":1,"confidence":1,"reason":"r"}'
  fi
  echo "{\"orders\":[$orders]}"
done
"#;

#[test]
fn a_strategy_that_never_answers_is_no_result_of_a_replay() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("buyer.sh"), BUYER).unwrap();
    record(dir, "exec:sh buyer.sh");
    let replay = |strategy: &str| {
        bus(dir, &["replay", "bus", "--strategy", strategy, "--certificate", "certificate.json"])
    };
    assert!(replay("exec:sh buyer.sh").success().contains("decisions  1 of 1 reproduced"));
    fs::remove_file(dir.join("certificate.json")).unwrap();
    let output = replay("exec:sh bayer.sh");
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    let expected = "cannot start the strategy sh: the program exited with code ";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    assert!(replay("exec:buyer.sh").failure(2).contains("write exec:./buyer.sh"));
    assert!(!dir.join("certificate.json").exists());

    // `explain` names a strategy without a version.
    let stdout = bus(dir, &["explain", "bus", "2"]).success();
    assert!(stdout.contains("decide   buyer.sh, 1 intent"), "{stdout}");
}

#[test]
fn a_run_of_two_strategies_says_that_a_certificate_needs_new_records() {
    let temp = temp_dir();
    let dir = temp.path();
    record(dir, SPEC);
    let mut rows = fs::read_to_string(dir.join("btc.csv")).unwrap();
    rows += &format!("{},100,100,100,100\n", 60 * 40);
    fs::write(dir.join("btc.csv"), rows).unwrap();
    let other = "sma-cross:fast=3,slow=5,quantity=1";
    let records = ["--scenario", "run.json", "--runtime-bus", "bus", "--journal", "j.jsonl"];
    let arguments = [&["--market", "btc.csv", "--strategy", other][..], &records].concat();
    engine(dir, &arguments).success_with_warning("start new records (another journal and another bus)");
    for strategy in [SPEC, other] {
        let output = bus(dir, &["replay", "bus", "--strategy", strategy]);
        assert_eq!(output.code, 1);
        let expected = "the run was continued in cycle 41 with another strategy (sma-cross ";
        assert!(output.stderr.contains(expected), "{}", output.stderr);
        assert!(output.stderr.contains("start new records"), "{}", output.stderr);
    }
}

#[test]
fn a_report_counts_expired_orders_and_lists_changed_settings() {
    let temp = temp_dir();
    let dir = temp.path();
    // A limit far below the market.
    let limited = BUYER.replace("\"reason\"", "\"limit_price\":1,\"reason\"");
    fs::write(dir.join("buyer.sh"), limited).unwrap();
    record(dir, "exec:sh buyer.sh");
    let stdout = bus(dir, &["report", "bus"]).success();
    assert!(stdout.contains("1 decision, 0 fills, 0 rejections, 1 expired order, 0 round trips"), "{stdout}");
    assert!(!stdout.contains("settings"), "{stdout}");

    let mut rows = fs::read_to_string(dir.join("btc.csv")).unwrap();
    rows += &format!("{},100,100,100,100\n", 60 * 40);
    fs::write(dir.join("btc.csv"), rows).unwrap();
    fs::write(dir.join("run.json"), RUN.replace(":50}", ":60}")).unwrap();
    let records = ["--scenario", "run.json", "--runtime-bus", "bus", "--journal", "j.jsonl"];
    let arguments = [&["--market", "btc.csv", "--strategy", "exec:sh buyer.sh"][..], &records].concat();
    engine(dir, &arguments).success_with_warning("max_drawdown_pct from 50 to 60 (looser)");
    let stdout = bus(dir, &["report", "bus", "-o", "report.html"]).success();
    let changed = "the settings changed in evt-";
    assert!(
        stdout.contains(changed) && stdout.contains(": max_drawdown_pct from 50 to 60 (looser)"),
        "{stdout}"
    );
    let page = fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.contains("1 expired") && page.contains("max_drawdown_pct from 50 to 60 (looser)"));
    let document = json(&bus(dir, &["report", "bus", "--json"]).success());
    assert_eq!(document["expired"], 1);
    assert_eq!(document["settings_changes"][0]["changes"], "max_drawdown_pct from 50 to 60 (looser)");
}
