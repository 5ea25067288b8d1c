//! The report: its figures equal sums over the events, which are computed here without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use zero_bus::{Bus, Draft, Event, Json, Reader};
use zero_paper::report::{DEFAULT_START_CASH_USD, EquityPoint, Reading, Report, Row, read, read_from};

use crate::market_bus::{START_CASH_USD, write_run};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn reading(dir: &Path) -> Reading {
    read(&Reader::open(dir).unwrap(), &mut |_| Ok::<(), zero_bus::Error>(()), &mut |_| {}).unwrap()
}

fn report(dir: &Path) -> Report {
    reading(dir).report
}

fn events(dir: &Path) -> Vec<Event> {
    Reader::open(dir).unwrap().events(1).unwrap().map(Result::unwrap).collect()
}

fn payload(event: &Event) -> Value {
    event.payload_as().unwrap()
}

fn draft(event_type: &str, payload: &Value) -> Draft {
    let payload = Json::of(payload).unwrap();
    Draft { event_type: event_type.into(), as_of: 1.0, payload, trace_id: None }
}

fn append(bus: &Bus, event_type: &str, payload: &Value) {
    bus.append(draft(event_type, payload)).unwrap();
}

/// Figures by the plainest means: lists of everything, and sums over them.
struct Sums {
    cash: f64,
    equity: f64,
    fees: f64,
    /// The profit of all fills, from cash flows and open quantities.
    profit: f64,
    quantities: BTreeMap<String, f64>,
    fills: u64,
    rejections: BTreeMap<String, u64>,
}

fn sums(dir: &Path, start_cash: f64) -> Sums {
    let events = events(dir);
    let of_type = |event_type: &str| {
        let events = events.iter().filter(|event| event.event_type == event_type);
        events.map(payload).collect::<Vec<_>>()
    };
    let number = |payload: &Value, key: &str| payload[key].as_f64().unwrap_or(0.0);
    let signed = |fill: &Value| {
        if fill["side"] == "buy" { number(fill, "quantity") } else { -number(fill, "quantity") }
    };
    let fills = of_type("fill.record");
    let fees: f64 = fills.iter().map(|fill| number(fill, "fee_usd")).sum();
    let bought: f64 = fills.iter().map(|fill| signed(fill) * number(fill, "price")).sum();
    let cash = start_cash - bought - fees;
    let mut quantities = BTreeMap::<String, f64>::new();
    for fill in &fills {
        *quantities.entry(fill["symbol"].as_str().unwrap().to_owned()).or_default() += signed(fill);
    }
    let mark = |symbol: &str| {
        let mut candles = of_type("market.observation")
            .into_iter()
            .flat_map(|observation| observation["candles"].as_array().unwrap().clone());
        let close = candles.rfind(|candle| candle["symbol"] == symbol);
        let decision = of_type("decision.record").into_iter().rfind(|d| d["symbol"] == symbol);
        let fill = fills.iter().rfind(|fill| fill["symbol"] == symbol).unwrap();
        match (close, decision) {
            (Some(candle), _) => number(&candle, "close"),
            (None, Some(decision)) => number(&decision, "price"),
            (None, None) => number(fill, "price"),
        }
    };
    let value: f64 = quantities.iter().map(|(symbol, quantity)| quantity * mark(symbol)).sum();
    let mut rejections = BTreeMap::<String, u64>::new();
    for rejection in of_type("rejection.record") {
        *rejections.entry(rejection["reason"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    Sums {
        cash,
        equity: cash + value,
        fees,
        profit: value - bought,
        quantities,
        fills: fills.len() as u64,
        rejections,
    }
}

#[track_caller]
fn assert_near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{what}: {found}, not {expected}");
}

#[track_caller]
fn assert_equals_sums(dir: &Path, start_cash: f64) {
    let (report, sums) = (report(dir), sums(dir, start_cash));
    assert_eq!(report.ignored, None);
    assert_eq!(report.contradiction, None);
    assert_near(report.cash_usd, sums.cash, "cash");
    assert_near(report.equity_usd, sums.equity, "equity");
    assert_near(report.fees_usd, sums.fees, "fees");
    assert_near(report.realized_pnl_usd + report.unrealized_pnl_usd, sums.profit, "profit");
    assert_eq!((report.fills, &report.rejections), (sums.fills, &sums.rejections));
    for position in &report.positions {
        assert_near(position.quantity, sums.quantities[&position.symbol], &position.symbol);
    }
    let by_symbol = |figure: fn(&zero_paper::report::SymbolFigures) -> f64| {
        report.by_symbol.values().map(figure).sum::<f64>()
    };
    assert_near(by_symbol(|s| s.realized_pnl_usd), report.realized_pnl_usd, "realised by symbol");
    assert_near(by_symbol(|s| s.unrealized_pnl_usd), report.unrealized_pnl_usd, "unrealised by symbol");
    assert_near(by_symbol(|s| s.fees_usd), report.fees_usd, "fees by symbol");
    assert_near(by_symbol(|s| s.fills as f64), report.fills as f64, "fills by symbol");
    assert_near(by_symbol(|s| s.trades as f64), report.trades.count as f64, "trades by symbol");
    assert_near(
        by_symbol(|s| s.sold_usd - s.bought_usd),
        report.cash_usd - start_cash + report.fees_usd,
        "flow",
    );
}

#[test]
fn the_figures_of_a_run_on_market_data_equal_sums_over_its_events() {
    for seed in 1..=20 {
        let dir = tempfile::tempdir().unwrap();
        write_run(dir.path(), seed, 60);
        assert_equals_sums(dir.path(), START_CASH_USD);
        let report = report(dir.path());
        assert!(report.start_cash_recorded && report.fills > 10 && !report.rejections.is_empty());
        // The runtime's own figures, from the last snapshot of the positions.
        let events = events(dir.path());
        let last = events.iter().rfind(|event| event.event_type == "position.snapshot").unwrap();
        let stated = |key: &str| payload(last)[key].as_f64().unwrap();
        assert_near(report.realized_pnl_usd, stated("realized_pnl_usd"), "realised");
        assert_near(report.unrealized_pnl_usd, stated("unrealized_pnl_usd"), "unrealised");
        let snapshots = events.iter().filter(|event| event.event_type == "position.snapshot");
        let deepest =
            snapshots.map(|event| payload(event)["drawdown_pct"].as_f64().unwrap()).fold(0.0, f64::max);
        assert_near(report.max_drawdown.unwrap().pct, deepest, "drawdown");
    }
}

/// The report about a part of a run ends with the same account, and what it adds to the value at
/// its beginning is what its own fills and prices made.
#[test]
fn a_report_from_any_event_on_ends_as_the_whole_one() {
    for (seed, from) in [(1, 2), (2, 40), (3, 77), (4, 120), (5, 161)] {
        let dir = tempfile::tempdir().unwrap();
        write_run(dir.path(), seed, 60);
        let (whole, events) = (report(dir.path()), events(dir.path()));
        let reader = Reader::open(dir.path()).unwrap();
        let read = read_from(&reader, from, &mut |_| Ok::<(), zero_bus::Error>(()), &mut |_| {});
        let part = read.unwrap().report;
        let snapshot = &events[part.begins_after.unwrap() as usize - 1];
        assert!(snapshot.index >= from && snapshot.event_type == "position.snapshot");
        assert_eq!((part.contradiction, part.ignored), (None, None), "seed {seed}");
        assert_near(part.cash_usd, whole.cash_usd, "cash");
        assert_near(part.equity_usd, whole.equity_usd, "equity");
        assert_near(part.unrealized_pnl_usd, whole.unrealized_pnl_usd, "unrealised");
        let stated = |key: &str| payload(snapshot)[key].as_f64().unwrap();
        assert_near(part.start_cash_usd, stated("equity_usd") - stated("unrealized_pnl_usd"), "start");
        assert_near(part.realized_pnl_usd, whole.realized_pnl_usd - stated("realized_pnl_usd"), "realised");
        assert_near(part.fees_usd, whole.fees_usd - stated("fees_usd"), "fees");
        let later = |event_type: &str| {
            let later = events.iter().filter(|event| event.index > snapshot.index);
            later.filter(|event| event.event_type == event_type).count() as u64
        };
        assert_eq!((part.fills, part.decisions), (later("fill.record"), later("decision.record")));
        assert_eq!((part.from, part.to), (Some(snapshot.as_of), whole.to));
    }
}

#[test]
fn the_figures_of_recorded_sessions_equal_sums_over_their_events() {
    for session in ["defaults", "first-steps", "flips", "unicode"] {
        let dir = root().join("conformance/sessions").join(session).join("one-run/runtime-bus");
        assert_equals_sums(&dir, DEFAULT_START_CASH_USD);
        let report = report(&dir);
        assert!(!report.start_cash_recorded && report.fills > 0 && report.cycles > 0, "{session}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_figures_of_any_fills_equal_sums_over_them(
        fills in prop::collection::vec(
            (0usize..3, any::<bool>(), 1u32..1000, 1u32..100_000, 0u32..500, any::<bool>()), 1..60
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut drafts = Vec::new();
        for (symbol, buys, quantity, price, fee, has_fee) in fills {
            let side = if buys { "buy" } else { "sell" };
            let mut fill = json!({
                "symbol": (["A", "B", "C"][symbol]), "side": side, "quantity": f64::from(quantity) / 8.0,
                "price": f64::from(price) / 100.0,
            });
            if has_fee {
                fill["fee_usd"] = json!(f64::from(fee) / 100.0);
            }
            drafts.push(draft("fill.record", &fill));
        }
        Bus::open(dir.path()).unwrap().append_batch(drafts).unwrap();
        assert_equals_sums(dir.path(), DEFAULT_START_CASH_USD);
    }
}

fn fill(bus: &Bus, side: &str, quantity: f64, price: f64, fee: f64) {
    append(
        bus,
        "fill.record",
        &json!({"symbol": "BTC", "side": side, "quantity": quantity, "price": price, "fee_usd": fee}),
    );
}

#[test]
fn a_fill_that_crosses_zero_ends_one_round_trip_and_begins_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    fill(&bus, "buy", 2.0, 100.0, 1.0);
    fill(&bus, "buy", 2.0, 110.0, 1.0);
    fill(&bus, "sell", 1.0, 120.0, 1.0);
    fill(&bus, "sell", 4.0, 125.0, 4.0);
    fill(&bus, "buy", 1.0, 130.0, 1.0);
    drop(bus);
    let report = report(dir.path());
    let trades: Vec<_> = report.last_trades.iter().collect();
    assert_eq!(trades.len(), 2);
    assert!(trades[0].long && !trades[1].long);
    assert_eq!((trades[0].quantity, trades[0].entry_price, trades[0].exit_price), (4.0, 105.0, 123.75));
    assert_eq!((trades[0].realized_pnl_usd, trades[0].fees_usd, trades[0].fills), (75.0, 6.0, 4));
    assert_eq!((trades[1].realized_pnl_usd, trades[1].fees_usd, trades[1].fills), (-5.0, 2.0, 2));
    assert_eq!((report.realized_pnl_usd, report.trades.count, report.trades.won), (70.0, 2, 1));
    assert_eq!((report.trades.gross_profit_usd, report.trades.gross_loss_usd), (69.0, 7.0));
    assert!(report.positions.is_empty());
    assert_eq!(report.equity_usd, DEFAULT_START_CASH_USD + 70.0 - 8.0);
}

#[test]
fn a_rounding_residue_ends_a_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    fill(&bus, "buy", 0.1, 100.0, 0.0);
    fill(&bus, "buy", 0.2, 100.0, 0.0);
    fill(&bus, "sell", 0.3, 110.0, 0.0);
    drop(bus);
    let report = report(dir.path());
    assert_eq!(report.trades.count, 1);
    assert!(report.positions.len() == 1 && report.positions[0].quantity < 1e-9);
}

#[test]
fn events_that_lack_a_field_are_named_and_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    fill(&bus, "buy", 1.0, 100.0, 0.0);
    append(&bus, "fill.record", &json!({"symbol": "BTC", "side": "buy", "quantity": 1.0}));
    append(&bus, "fill.record", &json!({"symbol": "BTC", "side": "up", "quantity": 1.0, "price": 1.0}));
    append(&bus, "fill.record", &json!({"symbol": "BTC", "side": "buy", "quantity": 1e308, "price": 1e308}));
    append(&bus, "market.observation", &json!({"candles": [{"symbol": "BTC"}]}));
    append(&bus, "rejection.record", &json!({}));
    drop(bus);
    let report = report(dir.path());
    let (count, first) = report.ignored.clone().unwrap();
    assert_eq!((count, first.as_str()), (4, "evt-000000000002 (fill.record): price: is missing"));
    assert_eq!((report.fills, report.cash_usd), (1, DEFAULT_START_CASH_USD - 100.0));
    assert_eq!(report.rejections, BTreeMap::from([("-".to_owned(), 1)]));
}

#[test]
fn a_snapshot_that_contradicts_the_fills_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    fill(&bus, "buy", 1.0, 100.0, 0.0);
    append(&bus, "position.snapshot", &json!({"positions": [], "cash_usd": 9900.0, "equity_usd": 10000.0}));
    append(&bus, "position.snapshot", &json!({"positions": [], "cash_usd": 9900.0, "equity_usd": 10000.5}));
    drop(bus);
    assert_eq!(
        report(dir.path()).contradiction.as_deref(),
        Some("evt-000000000003 states equity_usd 10000.5, but the events up to it add up to 10000")
    );
}

#[test]
fn a_bus_with_several_runs_is_reported_from_its_last_run_on() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 1, 10);
    let first_run = events(dir.path()).len() as u64;
    write_run(dir.path(), 2, 15);
    let report = report(dir.path());
    assert_eq!((report.earlier_runs, report.cycles), (1, 15));
    let alone = tempfile::tempdir().unwrap();
    write_run(alone.path(), 2, 15);
    let expected = self::report(alone.path());
    assert_eq!((report.cash_usd, report.equity_usd), (expected.cash_usd, expected.equity_usd));
    assert_eq!(report.head.index, first_run + expected.head.index);
}

#[test]
fn rows_are_passed_on_as_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 3, 40);
    let (mut fills, mut rejections, mut trades) = (0, 0, 0);
    let mut points: Vec<EquityPoint> = Vec::new();
    let mut row = |row: Row<'_>| {
        match row {
            Row::Fill(_) => fills += 1,
            Row::Rejection(rejection) => {
                assert!(rejection.limit.is_some());
                rejections += 1;
            }
            Row::Trade(_) => trades += 1,
            Row::Point(point) => points.push(*point),
        }
        Ok::<(), zero_bus::Error>(())
    };
    let report = read(&Reader::open(dir.path()).unwrap(), &mut row, &mut |_| {}).unwrap().report;
    assert_eq!((fills, rejections, trades), (report.fills, report.rejected(), report.trades.count));
    assert_eq!(points, report.curve);
    assert_eq!(points.len(), 40);
    assert_eq!(points.last().unwrap().equity_usd, report.equity_usd);
}

#[test]
fn the_document_has_the_documented_fields() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 1, 60);
    let report = report(dir.path());
    let document: Value = serde_json::from_str(report.to_json("ok").unwrap().as_str()).unwrap();
    let fields: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "by_symbol",
            "cash_usd",
            "equity_usd",
            "expired",
            "fees_usd",
            "fills",
            "from",
            "head",
            "max_drawdown_pct",
            "positions",
            "realized_pnl_usd",
            "rejections",
            "settings_changes",
            "to",
            "trades",
            "unrealized_pnl_usd",
            "verdict"
        ]
    );
    assert_eq!(document["head"]["index"], report.head.index);
    assert!(document["head"]["checksum"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(document["verdict"], "ok");
}
