//! Replays with a strategy, and their certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use zero_bus::{Bus, Checksum, Json, Reader};
use zero_paper::Error;
use zero_paper::candle::Bar;
use zero_paper::market::cycle::Rules;
use zero_paper::market::record::OnFailure;
use zero_paper::replay::{Certificate, EngineIdentity, StrategyReplay, replay_strategy};
use zero_paper::strategy::{self, Strategy};

use crate::market_support::{WIDE, bars, events, records, rules, start, wide};

/// Time for an answer where the test expects one.
const PATIENT: Duration = Duration::from_secs(60);

fn market(count: u32) -> Vec<Bar> {
    let price = |n: u32| 100.0 + 20.0 * (f64::from(n) / 3.0).sin();
    bars(&(0..count).map(|n| [price(n), price(n + 1)]).collect::<Vec<_>>())
}

fn run_on(directory: &Path, rules: Rules, bars: &[Bar], strategy: Box<dyn Strategy>) {
    let mut trading = start(rules, bars, strategy, &records(directory, false, true)).unwrap();
    trading.run(None, || false, &mut ()).unwrap();
    trading.finish(&mut ()).unwrap();
}

fn engine() -> EngineIdentity {
    EngineIdentity { name: "test".to_owned(), sha256: Checksum::of(b"test"), version: "1".to_owned() }
}

fn replay_result(directory: &Path, mut strategy: Box<dyn Strategy>) -> Result<StrategyReplay, Error> {
    let reader = Reader::open(directory.join("bus")).unwrap();
    replay_strategy(&reader, &mut *strategy, engine(), &mut |_| {})
}

fn replay_with(directory: &Path, strategy: Box<dyn Strategy>) -> Certificate {
    let replay = replay_result(directory, strategy).unwrap();
    check_schema(&replay.certificate);
    replay.certificate
}

fn check_schema(certificate: &Certificate) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas/replay.certificate.v1.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let document: Value = serde_json::from_str(Json::of(certificate).unwrap().as_str()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:?} in {document}");
    // A document that lacks a field, or has another one, is none.
    let mut other = document.clone();
    other["more"] = Value::Null;
    assert!(!validator.is_valid(&other));
    for key in document.as_object().unwrap().keys() {
        let mut other = document.clone();
        other.as_object_mut().unwrap().remove(key);
        assert!(!validator.is_valid(&other), "{key}");
    }
}

/// A shell script as a strategy. `$line` has the bar's line.
struct Script {
    dir: TempDir,
}

impl Script {
    fn new(first: &str, for_each_bar: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "read -r start\n{first}\nwhile read -r line; do\ncase $line in *'\"type\":\"stop\"'*) break ;; esac\n\
             {for_each_bar}\ndone\n"
        );
        fs::write(dir.path().join("strategy.sh"), text).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("strategy.sh")
    }

    fn open(&self) -> Box<dyn Strategy> {
        strategy::open(&format!("exec:sh {}", self.path().display()), PATIENT).unwrap()
    }
}

/// Prints an order with a quantity that is the value of a shell expression.
fn order(quantity: &str) -> String {
    format!(
        "echo '{{\"orders\":[{{\"symbol\":\"A\",\"side\":\"buy\",\"quantity\":'{quantity}',\"confidence\":0.9,\"reason\":\"r\"}}]}}'"
    )
}

#[test]
fn a_built_in_strategy_is_reproduced() {
    let directory = tempfile::tempdir().unwrap();
    let spec = "sma-cross:fast=2,slow=5,quantity=0.5";
    let open = |spec: &str| strategy::open(spec, PATIENT).unwrap();
    run_on(directory.path(), rules(WIDE), &market(40), open(spec));
    let certificate = replay_with(directory.path(), open(spec));
    assert_eq!(certificate.difference, None);
    assert_eq!((certificate.cycles.recorded, certificate.cycles.reproduced), (40, 40));
    let decisions = certificate.decisions;
    assert!(decisions.recorded > 3 && decisions.recorded == decisions.reproduced, "{decisions:?}");
    assert_eq!(certificate.observations.count, 40);
    assert_eq!(certificate.configuration.count, 1);
    let reader = Reader::open(directory.path().join("bus")).unwrap();
    assert_eq!(certificate.head, reader.head().unwrap());
    assert_eq!(certificate.bus_id, Some(reader.event(1).unwrap().unwrap().checksum));
    // The same run gives the same certificate.
    assert_eq!(certificate, replay_with(directory.path(), open(spec)));

    // The checksum of the observations can be computed by anybody.
    let mut checksum = String::new();
    for event in reader.events(1).unwrap().map(Result::unwrap) {
        if event.event_type == "market.observation" {
            checksum = Checksum::of(format!("{checksum}{}", event.payload).as_bytes()).to_string();
        }
    }
    assert_eq!(certificate.observations.sha256.unwrap().to_string(), checksum);

    // Another strategy is noticed in the first cycle, by its name.
    let other = replay_with(directory.path(), open("sma-cross:fast=2,slow=6,quantity=0.5"));
    let difference = other.difference.unwrap();
    assert_eq!((difference.cycle_id, other.cycles.reproduced, other.cycles.recorded), (1, 0, 40));
    assert_eq!(difference.fields[0].path, "payload.decide.strategy.sha256");
}

#[test]
fn a_declarative_strategy_is_reproduced() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("s.json");
    let text = r#"{"name":"up","version":"1","symbol":"A","side":"buy","quantity":0.5,"confidence":0.9,
        "condition":{"type":"close_above_open","min_move_pct":1}}"#;
    fs::write(&file, text).unwrap();
    let open = || strategy::open(&format!("close-above-open:{}", file.display()), PATIENT).unwrap();
    run_on(directory.path(), rules(WIDE), &market(20), open());
    let certificate = replay_with(directory.path(), open());
    assert_eq!((certificate.difference, certificate.decisions.reproduced > 2), (None, true));
}

#[test]
fn a_program_is_reproduced_with_its_state() {
    let directory = tempfile::tempdir().unwrap();
    // Counts the bars, and states the count.
    let script = Script::new(
        "n=0; case $start in *'\"state\":'*) n=${start#*\\\"state\\\":}; n=${n%%,*} ;; esac",
        "n=$((n+1)); echo '{\"orders\":[{\"symbol\":\"A\",\"side\":\"buy\",\"quantity\":'$n',\"confidence\":0.9,\"reason\":\"r\"}],\"state\":'$n'}'",
    );
    // Two processes: the second one begins with the state of the first.
    run_on(directory.path(), rules(WIDE), &market(4), script.open());
    run_on(directory.path(), rules(WIDE), &market(9), script.open());
    let certificate = replay_with(directory.path(), script.open());
    assert_eq!(certificate.difference, None);
    assert_eq!(certificate.decisions.reproduced, 9);
}

/// The clock and random numbers are noticed in the first cycle whose decision depends on them.
#[test]
fn a_strategy_that_reads_the_clock_or_random_numbers_is_noticed() {
    let clock = Script::new("", &format!("q=1.$(date +%s%N)\n{}", order("$q")));
    let random = "q=1.$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')";
    let random_order = Script::new("", &format!("{random}\n{}", order("$q")));
    // Says nothing random in its orders, but has a random state.
    let state = Script::new("", &format!("{random}\necho '{{\"orders\":[],\"state\":'$q'}}'"));
    for (script, path) in [
        (&clock, "payload.act.decisions.A.quantity"),
        (&random_order, "payload.act.decisions.A.quantity"),
        (&state, "payload.decide.state"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        run_on(directory.path(), rules(WIDE), &market(3), script.open());
        let certificate = replay_with(directory.path(), script.open());
        let difference = certificate.difference.unwrap();
        assert_eq!((difference.cycle_id, difference.event_type.as_str()), (1, "runtime.cycle"));
        let paths: Vec<&str> = difference.fields.iter().map(|field| field.path.as_str()).collect();
        assert!(paths.contains(&path), "{paths:?}");
        assert_eq!((certificate.cycles.recorded, certificate.cycles.reproduced), (3, 0));
        assert_eq!(certificate.decisions.reproduced, 0);
    }
}

#[test]
fn a_program_that_has_changed_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let script = Script::new("", &order("1"));
    run_on(directory.path(), rules(WIDE), &market(3), script.open());
    let text = fs::read_to_string(script.path()).unwrap();
    fs::write(script.path(), format!("{text}# changed\n")).unwrap();
    let certificate = replay_with(directory.path(), script.open());
    assert_eq!(certificate.difference.unwrap().fields[0].path, "payload.decide.strategy.sha256");
}

/// A failure is taken from the record, and the strategy starts again as it did in the run.
#[test]
fn a_failure_is_taken_from_the_record() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("failed");
    // Fails once in its life, after two bars; counts the bars that it has seen.
    let script = Script::new(
        "n=0",
        &format!(
            "n=$((n+1)); if [ $n = 3 ] && [ ! -e {0} ]; then : > {0}; exit 1; fi\n{1}",
            marker.display(),
            order("$n")
        ),
    );
    let rules = Rules { on_failure: OnFailure::Hold, ..rules(WIDE) };
    run_on(directory.path(), rules, &market(6), script.open());
    let certificate = replay_with(directory.path(), script.open());
    assert_eq!(certificate.difference, None);
    assert_eq!((certificate.taken_from_record.failures, certificate.decisions.reproduced), (1, 5));
    // A program that fails in the replay differs.
    let always = Script::new("exit 1", "");
    fs::write(script.path(), fs::read_to_string(always.path()).unwrap()).unwrap();
    let certificate = replay_with(directory.path(), script.open());
    let difference = certificate.difference.unwrap();
    assert!(difference.fields.iter().any(|field| field.path == "payload.decide.failure"), "{difference:?}");
}

/// A restart with other limits tells them to the strategy, which has seen the bars before.
#[test]
fn changed_limits_reach_the_strategy_as_in_the_run() {
    let directory = tempfile::tempdir().unwrap();
    // The quantity depends on the bars seen, and on the limits.
    let script = Script::new(
        "n=0; case $start in *'\"max_drawdown_pct\":'*) n=100 ;; esac",
        &format!("n=$((n+1))\n{}", order("$n")),
    );
    run_on(directory.path(), rules(WIDE), &market(3), script.open());
    let limits = r#""max_position_notional_usd":1e9,"min_confidence":0.5,"max_drawdown_pct":90"#;
    let limited = format!(r#"{{"name":"t","limits":{{"max_notional_usd":1e9,{limits}}}}}"#);
    run_on(directory.path(), rules(&limited), &market(5), script.open());
    let quantities: Vec<bool> = events(&directory.path().join("bus"))
        .iter()
        .filter(|event| event.starts_with("decision.record"))
        .map(|event| event.contains("\"quantity\":104.0"))
        .collect();
    assert_eq!(quantities, [false, false, false, true, false]);
    let certificate = replay_with(directory.path(), script.open());
    assert_eq!((certificate.difference, certificate.configuration.count), (None, 2));
}

#[test]
fn a_bus_without_a_strategy_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let spec = "sma-cross:fast=2,slow=5,quantity=0.5";
    let open = || strategy::open(spec, PATIENT).unwrap();
    Bus::open(directory.path().join("bus")).unwrap();
    let error = replay_result(directory.path(), open()).unwrap_err().to_string();
    assert!(error.contains("has no cycle on market data in which a strategy decided"), "{error}");
    let session = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../conformance/sessions/first-steps/one-run/runtime-bus");
    let reader = Reader::open(session).unwrap();
    let error = replay_strategy(&reader, &mut *open(), engine(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("evt-000000000001 is a cycle of a scenario"), "{error}");
}

#[test]
fn an_incomplete_last_cycle_is_stated() {
    let directory = tempfile::tempdir().unwrap();
    let spec = "sma-cross:fast=2,slow=5,quantity=0.5";
    let open = || strategy::open(spec, PATIENT).unwrap();
    run_on(directory.path(), rules(&wide(r#""fill":"close""#)), &market(12), open());
    let log = directory.path().join("bus/events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let cut = tempfile::tempdir().unwrap();
    fs::create_dir(cut.path().join("bus")).unwrap();
    let kept: String = lines[..lines.len() - 1].iter().map(|line| format!("{line}\n")).collect();
    fs::write(cut.path().join("bus/events.jsonl"), kept).unwrap();
    let certificate = replay_with(cut.path(), open());
    assert_eq!((certificate.difference, certificate.events_missing), (None, 1));
}
