//! Runs on market data through the program: SIGKILL, orders of another program, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use zero_bus::{Bus, Event, Reader, Value};
use zero_paper::operator::{Action, command as operator_command};

use crate::support::{OnTerminal, command, plain, run};

/// Bars in the file of [`write_candles`]. The soak (`.ci/soak`) has more of them.
fn bars() -> u32 {
    if std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1") { 300 } else { 120 }
}

/// Writes `candles.csv`, with prices that swing.
fn write_candles(directory: &Path) {
    let mut text = "ts,symbol,open,high,low,close\n".to_owned();
    let mut open = 100.0;
    for n in 0..bars() {
        let close = 100.0 + f64::from(n % 23) - f64::from(n % 7) * 1.5;
        let (high, low) = (f64::max(open, close) + 0.25, f64::min(open, close) - 0.25);
        text += &format!("{},BTC,{open},{high},{low},{close}\n", 1_777_593_600 + 60 * n);
        open = close;
    }
    fs::write(directory.join("candles.csv"), text).unwrap();
    let run =
        r#"{"name":"kill","costs":{"fee_bps":4,"half_spread_bps":1},"limits":{"max_orders_per_minute":1}}"#;
    fs::write(directory.join("run.json"), run).unwrap();
}

const SMA: &str = "sma-cross:fast=3,slow=9,quantity=2";

/// Buys and sells in turn by the number of bars it has seen. `STATE` decides whether it sends that
/// number as its state or counts the recorded bars again.
const COUNTER: &str = r#"n=0
while read -r line; do
  case "$line" in
    *'"type":"start"'*)
      case "$line" in *'"state":'*) n=${line#*\"state\":}; n=${n%%,*} ;; esac ;;
    *'"type":"bar"'*)
      n=$((n + 1))
      state=""
      if [ "$STATE" = yes ]; then state=",\"state\":$n"; fi
      case $((n % 6)) in
        1) orders='{"symbol":"BTC","side":"buy","quantity":1,"confidence":0.9,"reason":"one"}' ;;
        4) orders='{"symbol":"BTC","side":"sell","quantity":1,"confidence":0.9,"reason":"four","reduce_only":true}' ;;
        *) orders='' ;;
      esac
      echo "{\"orders\":[$orders]$state}" ;;
    *) exit 0 ;;
  esac
done
"#;

/// The events of a bus, without index and checksum.
fn events(bus: &Path) -> Vec<String> {
    let text = |event: Event| {
        let trace = event.trace_id.unwrap_or_default();
        format!("{} {} {trace} {}", event.event_type, event.as_of, event.payload)
    };
    let events = Reader::open(bus).unwrap().events(1).unwrap();
    // Recovery records what it quarantined; an undisturbed run has no such event.
    let events = events.filter(|event| event.as_ref().unwrap().event_type != zero_bus::RECOVERED_TYPE);
    events.map(|event| text(event.unwrap())).collect()
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Runs the program until it ends by itself, and kills it again and again on the way: whenever the
/// log has grown by `step` bytes. Returns the number of kills.
fn run_with_kills(directory: &Path, arguments: &[&str], bus: &str, step: u64, state: &str) -> u64 {
    let log = directory.join(bus).join("events.jsonl");
    let mut kills = 0;
    loop {
        let target = length(&log) + step;
        let mut command = command(directory, arguments);
        command.env("STATE", state).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if length(&log) >= target {
                break None;
            }
            assert!(Instant::now() < deadline, "the run stands still");
            std::thread::yield_now();
        };
        match ended {
            Some(status) => {
                let mut stderr = String::new();
                std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
                assert!(status.success(), "{stderr}");
                return kills;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
        }
    }
}

/// Kills runs with this strategy, and compares them with an undisturbed one.
fn check_kills(strategy: &str, state: &str, journal: bool, step: u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_candles(path);
    fs::write(path.join("counter.sh"), COUNTER).unwrap();
    let arguments = |bus: &'static str, file: &'static str| {
        let mut arguments = vec![
            "--market",
            "candles.csv",
            "--scenario",
            "run.json",
            "--fixed-clock",
            "1",
            "--runtime-bus",
            bus,
        ];
        if journal {
            arguments.extend(["--journal", file]);
        }
        arguments.extend(["--strategy", strategy]);
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let of = |bus, file, step| {
        let arguments = arguments(bus, file);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_with_kills(path, &arguments, bus, step, state)
    };
    assert_eq!(of("calm", "calm.jsonl", u64::MAX / 2), 0);
    let kills = of("killed", "killed.jsonl", step);
    let (calm, killed) = (events(&path.join("calm")), events(&path.join("killed")));
    for (number, (expected, found)) in calm.iter().zip(&killed).enumerate() {
        assert_eq!(found, expected, "event {}", number + 1);
    }
    assert_eq!(killed.len(), calm.len());
    if journal {
        assert!(fs::read(path.join("calm.jsonl")).unwrap() == fs::read(path.join("killed.jsonl")).unwrap());
    }
    let fills = calm.iter().filter(|event| event.starts_with("fill.record")).count();
    println!("{strategy}: {kills} kills, {} events, {fills} fills", calm.len());
    assert!(kills >= 10 && fills >= 10, "{kills} kills, {fills} fills");
    assert!(Reader::open(path.join("killed")).unwrap().verify().unwrap().ok());
}

#[test]
fn a_run_that_is_killed_again_and_again_has_the_events_of_an_undisturbed_one() {
    check_kills(SMA, "no", true, 30_011);
}

#[test]
fn without_a_journal_a_killed_run_continues_from_its_bus() {
    check_kills(SMA, "no", false, 30_029);
}

#[test]
fn a_killed_run_shows_a_program_the_recorded_bars() {
    check_kills("exec:sh counter.sh", "no", true, 30_013);
}

#[test]
fn a_killed_run_gives_a_program_its_last_state() {
    check_kills("exec:sh counter.sh", "yes", true, 30_013);
}

/// The strategy kills itself once, in the middle of a run.
#[test]
fn a_killed_strategy_is_recorded_and_the_next_start_continues_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_candles(path);
    let dying = COUNTER.replace(
        "      n=$((n + 1))\n",
        "      n=$((n + 1))\n      if [ $n = 20 ] && [ ! -e died ]; then touch died; kill -9 $$; fi\n",
    );
    fs::write(path.join("counter.sh"), dying).unwrap();
    let arguments = ["--market", "candles.csv", "--scenario", "run.json", "--strategy", "exec:sh counter.sh"];
    let with_bus = |bus| [&arguments[..], &["--runtime-bus", bus]].concat();
    let failed = run(path, &with_bus("bus")).failure(1);
    assert!(failed.stderr.contains("failed in cycle 20: the program"), "{}", failed.stderr);
    assert!(failed.stdout.contains("\"kind\": \"exited\""), "{}", failed.stdout);
    run(path, &with_bus("bus")).success();
    run(path, &with_bus("calm")).success();
    let (calm, recorded) = (events(&path.join("calm")), events(&path.join("bus")));
    let failures: Vec<&String> =
        recorded.iter().filter(|event| event.starts_with("strategy.failed")).collect();
    assert_eq!(failures.len(), 1);
    // The strategy has seen the bar of its failure on the second start, so all other decisions are
    // those of a run without the failure.
    let decisions = |events: &[String]| -> Vec<String> {
        events.iter().filter(|event| event.starts_with("decision.record")).cloned().collect()
    };
    assert_eq!(decisions(&recorded), decisions(&calm));

    fs::remove_file(path.join("died")).unwrap();
    let hold = [&with_bus("hold")[..], &["--on-failure", "hold"]].concat();
    run(path, &hold).success();
    assert_eq!(decisions(&events(&path.join("hold"))), decisions(&calm));
}

fn answers(text: &str) -> Vec<Value> {
    text.lines().map(|line| Value::parse(line).unwrap()).collect()
}

fn member(answer: &Value, key: &str) -> String {
    answer.get(key).map_or("none".to_owned(), |value| match value {
        Value::String(text) => text.clone(),
        Value::Integer(integer) => integer.as_str().to_owned(),
        other => format!("{other:?}"),
    })
}

#[test]
fn orders_are_answered_one_for_one_and_a_key_places_one_order_also_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let order = |key: &str, side: &str, price: f64| {
        format!(
            r#"{{"symbol":"btc","side":"{side}","quantity":1,"price":{price},"confidence":0.9,"key":"{key}"}}"#
        )
    };
    let orders: Vec<String> = (0..40)
        .map(|n| order(&format!("k{n}"), if n % 2 == 0 { "buy" } else { "sell" }, 100.0 + f64::from(n)))
        .collect();
    for records in [&["--runtime-bus", "bus"][..], &["--runtime-bus", "both", "--journal", "j.jsonl"]] {
        let mut arguments = vec!["--orders", "-", "--fixed-clock", "1777593600"];
        arguments.extend(records);
        let mut started = command(path, &arguments);
        let mut child = started.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // An answer is durable: after a kill it is on the record.
        let mut first = Vec::new();
        for order in &orders[..20] {
            writeln!(input, "{order}").unwrap();
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            first.push(Value::parse(&line).unwrap());
        }
        // Some of these may be decided and not answered.
        for order in &orders[20..30] {
            writeln!(input, "{order}").unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        fs::write(path.join("orders.jsonl"), orders.join("\n")).unwrap();
        arguments[1] = "orders.jsonl";
        let second = answers(&run(path, &arguments).success().stdout);
        assert_eq!(second.len(), 40);
        for (n, (before, after)) in first.iter().zip(&second).enumerate() {
            assert_eq!(after.get("repeated").and_then(Value::as_bool), Some(true), "{n}");
            for key in ["order_id", "cycle_id", "reason", "fill", "line"] {
                assert_eq!(member(after, key), member(before, key), "{n} {key}");
            }
        }
        let bus = path.join(records[1]);
        let fills = events(&bus).iter().filter(|event| event.starts_with("fill.record")).count();
        assert_eq!(fills, 40, "each order is filled once");
        let cycles: Vec<String> = second.iter().map(|answer| member(answer, "cycle_id")).collect();
        assert_eq!(cycles, (1..=40).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn a_line_that_is_no_order_is_answered_with_what_is_wrong_and_records_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let lines = [
        "garbage",
        r#"{"symbol":"A","side":"buy","quantity":1,"price":1,"confidence":0.9,"keey":"typo"}"#,
        "",
        r#"{"symbol":"A","side":"buy","quantity":-1,"price":1,"confidence":0.9}"#,
        r#"{"symbol":"A","side":"buy","quantity":1,"confidence":0.9}"#,
        r#"{"symbol":"A","side":"buy","quantity":1,"price":1,"confidence":0.1}"#,
    ];
    fs::write(path.join("orders.jsonl"), lines.join("\n")).unwrap();
    let finished = run(path, &["--orders", "orders.jsonl", "--runtime-bus", "bus"]).success();
    let answers = answers(&finished.stdout);
    let errors: Vec<String> = answers.iter().map(|answer| member(answer, "error")).collect();
    assert_eq!(errors.len(), 5);
    assert!(errors[1].starts_with("keey: is not known"), "{errors:?}");
    assert_eq!(errors[2], "quantity: must be above 0, is -1");
    assert_eq!(errors[3], "price: is missing");
    assert_eq!(member(&answers[3], "line"), "5");
    assert_eq!(member(&answers[4], "reason"), "confidence below minimum");
    assert_eq!(
        events(&path.join("bus")).iter().filter(|event| event.starts_with("runtime.cycle")).count(),
        1
    );
}

#[test]
fn the_operator_governs_orders_and_a_flatten_closes_at_the_last_price() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let order = r#"{"symbol":"A","side":"buy","quantity":2,"price":10,"confidence":0.9}"#;
    fs::write(path.join("orders.jsonl"), order).unwrap();
    let arguments = ["--orders", "orders.jsonl", "--runtime-bus", "bus"];
    let give = |action| {
        let draft = operator_command(action, "ops", "", 1.0).unwrap();
        Bus::open(path.join("bus")).unwrap().append(draft).unwrap();
    };
    run(path, &arguments).success();
    give(Action::Flatten);
    let rejected = answers(&run(path, &arguments).success().stdout);
    assert_eq!(member(&rejected[0], "reason"), "operator reduce-only");
    assert_eq!(member(&rejected[0], "cycle_id"), "3", "the flatten was a cycle of its own");
    let recorded = events(&path.join("bus"));
    assert!(recorded.iter().any(|event| event.contains(r#""effect":"flat, reduce only""#)));
    give(Action::Kill);
    let killed = run(path, &arguments).failure(3);
    assert_eq!(killed.stdout, "");
}

#[test]
fn records_of_another_kind_of_run_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_candles(path);
    let market = ["--market", "candles.csv", "--strategy", SMA, "--max-cycles", "2"];
    let scenario = ["--scenario", "scenario.json", "--once"];
    fs::copy(crate::support::example_scenario(), path.join("scenario.json")).unwrap();
    let records = |arguments: &[&'static str], bus: &'static str, journal: &'static str| {
        run(path, &[arguments, &["--runtime-bus", bus, "--journal", journal]].concat())
    };
    records(&market, "market", "market.jsonl").success();
    records(&scenario, "scenario", "scenario.jsonl").success();
    let refused = |finished: crate::support::Finished, text: &str| {
        let finished = finished.failure(2);
        assert!(finished.stderr.contains(text), "{}", finished.stderr);
    };
    refused(records(&market, "scenario", "new.jsonl"), "is a cycle of a scenario run");
    refused(records(&market, "new", "scenario.jsonl"), "is the journal of a scenario run");
    refused(records(&scenario, "market", "new.jsonl"), "is a cycle of a run on market data");
    // A journal with a line that is no decision is a damaged record for a scenario run.
    let finished = records(&scenario, "new", "market.jsonl").failure(2);
    assert!(finished.stderr.contains("is a cycle of a run on market data"), "{}", finished.stderr);
    assert!(!path.join("new").exists(), "a refused start leaves nothing");
}

#[test]
fn options_of_the_other_kind_of_run_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], text: &str| {
        let finished = run(directory.path(), arguments).failure(2);
        assert!(finished.stderr.contains(text), "{}", finished.stderr);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    };
    refused(&["--market", "x.csv"], "--strategy");
    refused(&["--strategy", SMA], "--market");
    refused(&["--clock", "wall", "--once"], "--market");
    refused(&["--market", "x.csv", "--strategy", SMA, "--interval", "1"], "--interval");
    refused(&["--market", "x.csv", "--strategy", SMA, "--dry", "--journal", "j"], "--journal");
    refused(&["--market", "x.csv", "--strategy", SMA, "--cycle-journal", "c"], "--cycle-journal");
    refused(&["--orders", "-", "--market", "x.csv", "--strategy", SMA], "--orders");
    refused(&["--market", "x.csv", "--strategy", "fortune", "--runtime-bus", "bus"], "is not a strategy");
    refused(&["--market", "x.csv", "--strategy", SMA, "--runtime-bus", "bus"], "x.csv");
    refused(&["--market", "x.csv", "--strategy", SMA, "--scenario", "no.json"], "no such run file");
}

#[test]
fn a_terminal_shows_what_happened_to_orders_and_the_account() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_candles(path);
    let arguments = ["--market", "candles.csv", "--strategy", SMA, "--scenario", "run.json", "--dry"];
    let mut command = command(path, &arguments);
    command.stdin(Stdio::null());
    let out = fs::File::create(path.join("out.json")).unwrap();
    let (code, text) = OnTerminal::start(command, Some(out)).finish();
    let text = plain(&text);
    assert_eq!(code, Some(0), "{text}");
    for expected in [
        "market        candles.csv",
        "records       none",
        "fill      BTC buy 2 @",
        &format!("cycles        {}", bars()),
        "equity        ",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let record = fs::read_to_string(path.join("out.json")).unwrap();
    assert!(
        record.contains(&format!("\"cycle_id\": {}", bars())) && record.contains("zero.runtime.cycle.v2"),
        "{record}"
    );
}
