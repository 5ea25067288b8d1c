//! Public exports: byte for byte as recorded, and free of everything private.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft, Json, Reader, Value};
use zero_paper::candle::Bar;
use zero_paper::feed::{Feed, FeedError, Next};
use zero_paper::market::cycle::Rules;
use zero_paper::market::record::OnFailure;
use zero_paper::market::trading::{CycleTime, MarketRun, Trading};
use zero_paper::public::{Aggregates, Request, intelligence, profile};
use zero_paper::scenario::Side;
use zero_paper::strategy::{Answer, Intent};
use zero_paper::{FixedClock, Runtime, Scenario};

use crate::market_support::{T0, TestStrategy, WIDE, bar, bars, buy, failure, order, records, rules, start};
use crate::soak::rounds;

fn conformance() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance")
}

fn recorded_request(folder: &Path) -> Request {
    let value = Value::parse(&fs::read_to_string(folder.join("request.json")).unwrap()).unwrap();
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    Request::new(
        text("handle").unwrap(),
        text("display_name"),
        value.get("publish_enabled").and_then(Value::as_bool).unwrap(),
        text("generated_at").unwrap(),
        value.get("public_delay_s").and_then(Value::as_u64).unwrap(),
    )
    .unwrap()
}

#[test]
fn exports_match_the_recorded_ones_from_journal_and_bus() {
    let mut sessions = 0;
    for entry in fs::read_dir(conformance().join("public")).unwrap() {
        let folder = entry.unwrap().path();
        let run = conformance().join("sessions").join(folder.file_name().unwrap()).join("one-run");
        let request = recorded_request(&folder);
        let of_journal = Aggregates::of_journal(&run.join("decisions.jsonl")).unwrap();
        let of_bus = Aggregates::of_bus(&Reader::open(run.join("runtime-bus")).unwrap()).unwrap();
        for aggregates in [of_journal, of_bus] {
            let profile = profile(&aggregates, &request).unwrap();
            assert_eq!(format!("{profile}\n"), fs::read_to_string(folder.join("profile.json")).unwrap());
            let intelligence = intelligence(&aggregates, &request).unwrap();
            assert_eq!(
                format!("{intelligence}\n"),
                fs::read_to_string(folder.join("intelligence.json")).unwrap()
            );
        }
        sessions += 1;
    }
    assert_eq!(sessions, 5);
}

#[test]
fn an_export_without_decisions_is_empty() {
    let request = Request::new("desk-a1", None, false, "2026-05-01T00:00:00Z", 900).unwrap();
    let profile = profile(&Aggregates::default(), &request).unwrap().value();
    let verification = profile.get("verification").unwrap();
    assert_eq!(verification.get("status").and_then(Value::as_str), Some("empty"));
    let metrics = profile.get("metrics").unwrap();
    assert_eq!(metrics.get("acceptance_rate").and_then(Value::as_f64), Some(0.0));
    let signals = intelligence(&Aggregates::default(), &request).unwrap().value();
    let level = signals.get("signals").and_then(|signals| signals.get("activity_level")).unwrap().clone();
    assert_eq!(level.as_str(), Some("none"));
}

#[test]
fn a_request_names_the_field_at_fault() {
    let request = |handle: &str, name: Option<&str>| Request::new(handle, name, true, "", 0);
    for handle in ["", "ab", "a b c", "desk/1", "d\u{e9}sk", &"x".repeat(33)] {
        assert!(request(handle, None).unwrap_err().starts_with("handle: "), "{handle}");
    }
    for name in ["x".repeat(81), "two\nlines".to_owned()] {
        assert!(request("desk", Some(&name)).unwrap_err().starts_with("display name: "), "{name}");
    }
    assert!(request("Desk_-1", Some(&"\u{e9}".repeat(80))).is_ok());
}

/// A part of every secret below. It is not part of any export by itself.
const SECRET: &str = "QXZJKWVQ";

/// The encodings in which the secret could slip through. Each finds it at any place of a longer
/// text.
fn encodings() -> Vec<String> {
    let hex = |secret: &str| secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    // Base64 of a text depends on its offset modulo 3; the first and the last digits on its
    // neighbours.
    let base64 = (0..3).map(|offset| {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bytes: Vec<u8> = std::iter::repeat_n(0, offset).chain(SECRET.bytes()).collect();
        let groups = bytes
            .chunks_exact(3)
            .map(|group| group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)));
        let digits =
            groups.flat_map(|bits| (0..4).map(move |n| DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char));
        digits.skip(4).collect::<String>()
    });
    let reversed = SECRET.chars().rev().collect();
    let plain = [SECRET.to_owned(), SECRET.to_lowercase(), hex(SECRET), hex(SECRET).to_uppercase()];
    plain.into_iter().chain([percent, escaped, reversed]).chain(base64).collect()
}

/// Free texts that hold the secret: wallet-like, hostile to terminals, in other encodings.
fn secret_text(random: &mut impl FnMut(u64) -> u64) -> String {
    let number = random(1 << 40);
    match random(6) {
        0 => format!("0x{SECRET}{number:032x}"),
        1 => format!("{SECRET}\u{1b}[31m\u{202e}{number}"),
        2 => format!("{number} {} \u{1f680}", SECRET.to_lowercase()),
        3 => SECRET.bytes().map(|byte| format!("{byte:02x}")).collect(),
        4 => SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        _ => format!("{SECRET}-{number}"),
    }
}

/// A market with one symbol, whose name is secret.
struct SecretFeed {
    source: String,
    bars: VecDeque<Bar>,
}

impl Feed for SecretFeed {
    fn source(&self) -> &str {
        &self.source
    }

    fn next(&mut self, _: Duration) -> Result<Next, FeedError> {
        Ok(self.bars.pop_front().map_or(Next::End, Next::Bar))
    }

    fn is_live(&self) -> bool {
        false
    }

    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Writes a run on market data with secrets in every free text of its records.
fn write_market_run(directory: &Path, random: &mut impl FnMut(u64) -> u64, cycles: u64) {
    let mut secret = || secret_text(random);
    // The runtime accepts only upper-case symbols.
    let (symbol, other) = (secret().to_uppercase(), secret().to_uppercase());
    let bars = (0..cycles).map(|n| bar(n as u32, &[(&symbol, [100.0, 101.0, 99.0, 100.0 + n as f64 / 2.0])]));
    let feed = SecretFeed { source: secret(), bars: bars.collect() };
    let texts: Vec<String> = (0..cycles * 5).map(|_| secret()).collect();
    let strategy = TestStrategy::new(move |observation| {
        let n = observation.cycle_id as usize - 1;
        let [reason, key, state, hold, fault] = [0, 1, 2, 3, 4].map(|k| texts[n * 5 + k].clone());
        if n % 5 == 4 {
            return Err(failure(&fault));
        }
        let side = if n.is_multiple_of(2) { Side::Buy } else { Side::Sell };
        let intent = Intent { symbol: symbol.clone(), reason, key: Some(key), ..order(side, 1.0) };
        let rejected = Intent { symbol: other.clone(), key: None, ..intent.clone() };
        let intents = if n % 3 == 2 { Vec::new() } else { vec![intent, rejected] };
        let hold_reason = intents.is_empty().then_some(hold);
        Ok(Answer { intents, state: Some(Json::of(&state).unwrap()), hold_reason })
    });
    let mut run = Rules { on_failure: OnFailure::Hold, ..rules(WIDE) };
    run.run.name = secret();
    let run = MarketRun {
        rules: run,
        feed: Box::new(feed),
        strategy: Box::new(strategy),
        cycle_time: CycleTime::Bar,
    };
    let clock = Arc::new(FixedClock(T0));
    let mut trading = Trading::start(run, &records(directory, true, true), clock, &mut Vec::new()).unwrap();
    trading.run(None, || false, &mut ()).unwrap();
}

#[test]
fn no_secret_of_a_market_run_reaches_an_export() {
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 24) % below
    };
    let request = Request::new("desk", Some("Desk"), true, "2026-05-01T00:00:00Z", 900).unwrap();
    let encodings = encodings();
    let mut decisions_exported = 0;
    let rounds = rounds(15, 60);
    for round in 0..rounds {
        let directory = tempfile::tempdir().unwrap();
        let cycles = 1 + round % 6;
        write_market_run(directory.path(), &mut random, cycles);
        let note = format!(r#"{{"actor":{},"reason":"x"}}"#, Json::of(&secret_text(&mut random)).unwrap());
        let bus = Bus::open(directory.path().join("bus")).unwrap();
        for event_type in ["operator.command", "decision.record", SECRET] {
            let (payload, trace_id) = (Json::parse(&note).unwrap(), Some(format!("{SECRET}-{round}")));
            bus.append(Draft { event_type: event_type.to_owned(), as_of: 1.0, payload, trace_id }).unwrap();
        }
        drop(bus);
        let of_bus = Aggregates::of_bus(&Reader::open(directory.path().join("bus")).unwrap()).unwrap();
        let of_journal = Aggregates::of_journal(&directory.path().join("cycles.jsonl")).unwrap();
        let exports = [of_bus, of_journal].map(|aggregates| {
            [profile(&aggregates, &request).unwrap(), intelligence(&aggregates, &request).unwrap()]
        });
        assert_eq!(exports[0], exports[1]);
        let [profile, _] = &exports[0];
        decisions_exported +=
            profile.value().get("metrics").and_then(|metrics| metrics.get("decisions")?.as_u64()).unwrap();
        for export in exports.as_flattened() {
            for encoded in &encodings {
                assert!(!export.as_str().contains(encoded), "{encoded} in {export}");
            }
        }
    }
    assert!(decisions_exported > 5 * rounds / 2, "{decisions_exported}");
}

/// The figures of a run on market data, counted by hand.
#[test]
fn figures_of_a_market_run_count_orders_and_fills_apart() {
    let directory = tempfile::tempdir().unwrap();
    let limit = |price: f64| Intent { limit_price: Some(price), ..buy(1.0) };
    let strategy = TestStrategy::of(move |cycle_id| match cycle_id {
        // One fills, one expires, one has no price, one is too large.
        1 => vec![buy(2.0), limit(1.0), Intent { symbol: "C".to_owned(), ..buy(3.0) }, buy(1e9)],
        3 => vec![order(Side::Sell, 2.0)],
        _ => Vec::new(),
    });
    let file = r#"{"name":"t","limits":{"max_notional_usd":1e6,"max_position_notional_usd":1e6,"min_confidence":0.5}}"#;
    let bars = bars(&[[10.0, 10.0], [10.0, 20.0], [20.0, 20.0], [20.0, 30.0]]);
    let mut trading = start(rules(file), &bars, strategy, &records(directory.path(), false, true)).unwrap();
    trading.run(None, || false, &mut ()).unwrap();
    let aggregates = Aggregates::of_bus(&Reader::open(directory.path().join("bus")).unwrap()).unwrap();
    let request = Request::new("desk", None, true, "2026-05-01T00:00:00Z", 900).unwrap();
    let export = profile(&aggregates, &request).unwrap().value();
    let metrics = export.get("metrics").unwrap();
    let number = |key: &str| metrics.get(key).and_then(Value::as_f64).unwrap();
    assert_eq!((number("decisions"), number("fills"), number("rejections")), (5.0, 2.0, 2.0));
    assert_eq!((number("acceptance_rate"), number("rejection_rate")), (0.6, 0.4));
    assert_eq!(number("open_positions"), 0.0);
    assert_eq!(number("total_notional_usd"), 20.0 + 10.0 + 1e10 + 40.0);
}

/// Thousands of runs with secrets in every free text: scenario names, symbols, keys, traces,
/// sources, reasons, actors, event types and other programs' payloads. No export holds one of them,
/// in any encoding.
#[test]
fn no_secret_of_a_bus_reaches_an_export() {
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 24) % below
    };
    let quoted = |text: &str| Json::of(text).unwrap().to_string();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("decisions.jsonl");
    let request = Request::new("desk", Some("Desk"), true, "2026-05-01T00:00:00Z", 900).unwrap();
    let encodings = encodings();
    let mut decisions_exported = 0;
    for round in 0..rounds(250, 2_000) {
        let cycles = 1 + round % 3;
        let mut secret = || quoted(&secret_text(&mut random));
        let order = |symbol: String, side: &str, confidence: f64| {
            format!(
                r#"{{"symbol":{symbol},"side":"{side}","quantity":0.5,"price":100,"confidence":{confidence}}}"#
            )
        };
        let orders = [order(secret(), "buy", 0.9), order(secret(), "sell", 0.7), order(secret(), "buy", 0.1)];
        let scenario = format!(r#"{{"name":{},"orders":[{}]}}"#, secret(), orders.join(","));
        // A run on a disk in memory, and what others write to its bus.
        let storage = SimDisk::new().storage();
        let clock = Arc::new(FixedClock(1_777_593_600.0));
        let mut runtime = Runtime::start_in(Scenario::parse(&scenario).unwrap(), &storage, clock).unwrap();
        for _ in 0..cycles {
            runtime.run_cycle().unwrap();
        }
        drop(runtime);
        let bus = Bus::open_in(storage.clone()).unwrap();
        let note = format!(r#"{{"actor":{},"reason":{},{}:{}}}"#, secret(), secret(), secret(), secret());
        for event_type in ["operator.command", "decision.record", SECRET] {
            let payload = Json::parse(&note).unwrap();
            let trace_id = Some(format!("{SECRET}-{round}"));
            bus.append(Draft { event_type: event_type.to_owned(), as_of: 1.0, payload, trace_id }).unwrap();
        }
        drop(bus);
        // A journal whose other texts are secrets, too.
        let mut journal = String::new();
        for cycle in 1..=cycles {
            let (key, reason, source, symbol, trace) = (secret(), secret(), secret(), secret(), secret());
            journal += &format!(
                r#"{{"allowed":{},"as_of":1.0,"confidence":0.9,"idempotency_key":{key},"notional_usd":2.0,"price":1.0,"quantity":2.0,"reason":{reason},"reduce_only":false,"side":"buy","source":{source},"symbol":{symbol},"trace_id":{trace}}}"#,
                cycle % 2 == 1
            );
            journal.push('\n');
        }
        fs::write(&path, journal).unwrap();
        let of_bus = Aggregates::of_bus(&Reader::open_in(storage)).unwrap();
        for aggregates in [of_bus, Aggregates::of_journal(&path).unwrap()] {
            let profile = profile(&aggregates, &request).unwrap();
            let metrics =
                profile.value().get("metrics").and_then(|metrics| metrics.get("decisions")?.as_u64());
            assert_eq!(metrics, Some(cycles));
            decisions_exported += cycles;
            for export in [profile, intelligence(&aggregates, &request).unwrap()] {
                for encoded in &encodings {
                    assert!(!export.as_str().contains(encoded), "{encoded} in {export}");
                }
            }
        }
    }
    assert!(decisions_exported > rounds(625, 5_000), "{decisions_exported}");
}
