//! The schemas of `docs/schemas` describe every payload that this program writes, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::{Value, json};
use zero_bus::{Bus, Event, Reader, RetireOptions, SealOptions};
use zero_paper::operator::{Action, command};
use zero_paper::report::{Row, read};
use zero_paper::{FixedClock, RecordPaths, Runtime, Scenario};

use crate::market_bus::write_run;
use crate::market_support::{bars, rules, start, wide};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The schemas by name, as in `fill.record.v2`.
fn schemas() -> BTreeMap<String, (Value, Validator)> {
    let files = fs::read_dir(root().join("docs/schemas")).unwrap().map(|entry| entry.unwrap().path());
    let schema = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let schema: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(schema["$id"], format!("urn:zero:{name}"));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        (name, (schema, validator))
    };
    files.map(schema).collect()
}

/// The name of the schema of an event that this program wrote.
fn schema_name(event: &Event, payload: &Value) -> String {
    let stated = payload["schema_version"].as_str().unwrap_or("v1");
    let (_, version) = stated.rsplit_once('.').unwrap_or(("", stated));
    let event_type = match event.event_type.as_str() {
        "rejection.record" => "decision.record",
        event_type => event_type,
    };
    format!("{event_type}.{version}")
}

fn events(dir: &Path) -> Vec<Event> {
    let reader = Reader::open(dir).unwrap();
    reader.events(reader.first_index().unwrap()).unwrap().map(Result::unwrap).collect()
}

/// A scenario run in which the operator gives every command.
fn write_commanded_run(dir: &Path) {
    let scenario =
        r#"{"orders": [{"symbol": "A", "side": "buy", "quantity": 1, "price": 10, "confidence": 0.9}]}"#;
    let records = RecordPaths { runtime_bus: Some(dir.to_owned()), ..RecordPaths::default() };
    let clock = Arc::new(FixedClock(1.0));
    let mut runtime = Runtime::start(Scenario::parse(scenario).unwrap(), &records, clock).unwrap();
    for action in [Action::Pause, Action::Resume, Action::ReduceOnly, Action::Flatten, Action::Kill] {
        runtime.run_cycle().unwrap();
        Bus::open(dir).unwrap().append(command(action, "ops", "", 1.0).unwrap()).unwrap();
    }
    let _ = runtime.run_cycle();
}

/// The same, of which the first events were retired in two parts.
fn write_retired_run(dir: &Path) {
    write_commanded_run(dir);
    let bus = Bus::open(dir).unwrap();
    let options = |up_to| RetireOptions::new(up_to, "ops", 1.0);
    for options in [(4, options(4).kept_in("/backup")), (8, options(8))] {
        bus.seal(SealOptions::default().up_to(options.0), &mut |_| {}).unwrap();
        assert!(bus.retire(&options.1, &mut |_| {}).unwrap().retired.is_some());
    }
}

/// A run of the runtime on market data, with fills as the run file says.
fn write_market_run(dir: &Path, fill: &str) {
    let price = |n: u32| 100.0 + 20.0 * (f64::from(n) / 5.0).sin();
    let prices: Vec<[f64; 2]> = (0..120).map(|n| [price(n), price(n + 1)]).collect();
    let file = wide(&format!(
        r#""fill":"{fill}","costs":{{"fee_bps":5,"half_spread_bps":1,"slippage_bps":2}},"start_cash_usd":2500"#
    ));
    let strategy =
        zero_paper::strategy::open("sma-cross:fast=2,slow=5,quantity=3", STRATEGY_TIMEOUT).unwrap();
    let records = RecordPaths { runtime_bus: Some(dir.to_owned()), ..RecordPaths::default() };
    let mut trading = start(rules(&file), &bars(&prices), strategy, &records).unwrap();
    trading.run(None, || false, &mut ()).unwrap();
}

const STRATEGY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

#[test]
fn every_recorded_and_generated_payload_matches_its_schema() {
    let schemas = schemas();
    let temp = tempfile::tempdir().unwrap();
    let names = ["market", "commands", "next_open", "close", "retired"];
    let generated = names.map(|name| temp.path().join(name));
    write_run(&generated[0], 5, 60);
    write_commanded_run(&generated[1]);
    write_market_run(&generated[2], "next_open");
    write_market_run(&generated[3], "close");
    write_retired_run(&generated[4]);
    let mut buses = Vec::from(generated);
    for session in fs::read_dir(root().join("conformance/sessions")).unwrap() {
        for run in ["one-run", "restarts", "parity"] {
            buses.push(session.as_ref().unwrap().path().join(run).join("runtime-bus"));
        }
    }
    let mut used: BTreeMap<String, u64> = BTreeMap::new();
    for dir in buses.iter().filter(|dir| dir.join("events.jsonl").exists()) {
        for event in events(dir) {
            let payload: Value = event.payload_as().unwrap();
            let name = schema_name(&event, &payload);
            let (_, validator) = schemas.get(&name).unwrap_or_else(|| panic!("no schema {name}"));
            let problems: Vec<String> = validator
                .iter_errors(&payload)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(problems.is_empty(), "{} {}: {problems:?}", dir.display(), event.id());
            *used.entry(name).or_default() += 1;
        }
    }
    // The certificate is no event; `strategy_replay.rs` checks its schema.
    let is_used = |name: &&String| used.contains_key(*name) || *name == "replay.certificate.v1";
    let unused: Vec<&String> = schemas.keys().filter(|name| !is_used(name)).collect();
    assert!(unused.is_empty(), "no event for {unused:?}");
}

#[test]
fn a_schema_refuses_a_payload_that_lacks_a_field_or_has_another() {
    let schemas = schemas();
    let (_, validator) = &schemas["fill.record.v1"];
    let fill = json!({"as_of": 1.0, "notional_usd": 1.0, "price": 1.0, "quantity": 1.0, "side": "buy", "symbol": "A"});
    assert!(validator.is_valid(&fill));
    for (field, value) in
        [("price", json!(null)), ("side", json!("up")), ("quantity", json!(0.0)), ("more", json!(1))]
    {
        let mut changed = fill.clone();
        changed[field] = value;
        assert!(!validator.is_valid(&changed), "{field}");
    }
    for (name, (schema, _)) in &schemas {
        assert_eq!(schema["additionalProperties"], false, "{name}");
    }
}

/// A record inside a cycle record has the schema of its own event.
#[test]
fn parts_of_cycle_records_have_the_schemas_of_their_events() {
    let schemas = schemas();
    for (cycle, part, name) in [
        ("runtime.cycle.v1", "decision", "decision.record.v1"),
        ("runtime.cycle.v2", "decision", "decision.record.v2"),
        ("runtime.cycle.v2", "fill", "fill.record.v2"),
        ("runtime.cycle.v2", "order", "order.open.v1"),
        ("runtime.cycle.v2", "expired", "order.expired.v1"),
    ] {
        let mut own = schemas[name].0.clone();
        for key in ["$id", "$schema", "title", "description"] {
            own.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(schemas[cycle].0["$defs"][part], own, "{cycle} {part}");
    }
}

/// The report adds up the fills; the runtime keeps an account. Both must say the same.
#[test]
fn the_report_of_a_run_equals_the_account_of_the_runtime() {
    for fill in ["next_open", "close"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("bus");
        write_market_run(&dir, fill);
        let mut ignore = |_: Row<'_>| Ok::<(), zero_bus::Error>(());
        let report = read(&Reader::open(&dir).unwrap(), &mut ignore, &mut |_| {}).unwrap().report;
        assert_eq!((report.contradiction, report.ignored), (None, None), "{fill}");
        assert!(report.start_cash_recorded && report.trades.count > 2, "{fill}");
        let events = events(&dir);
        let snapshots = events.iter().filter(|event| event.event_type == "position.snapshot");
        let accounts: Vec<Value> = snapshots.map(|event| event.payload_as().unwrap()).collect();
        let last = accounts.last().unwrap();
        for (name, figure) in [
            ("cash_usd", report.cash_usd),
            ("equity_usd", report.equity_usd),
            ("realized_pnl_usd", report.realized_pnl_usd),
            ("unrealized_pnl_usd", report.unrealized_pnl_usd),
            ("fees_usd", report.fees_usd),
        ] {
            assert_eq!(last[name].as_f64().unwrap(), figure, "{fill} {name}");
        }
        let deepest = accounts.iter().map(|account| account["drawdown_pct"].as_f64().unwrap());
        let found = report.max_drawdown.unwrap().pct;
        assert!((deepest.fold(0.0, f64::max) - found).abs() < 1e-9, "{fill}: {found}");
    }
}
