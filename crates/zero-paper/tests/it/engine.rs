//! Scenario, risk checks, positions, the engine and its journal, times.

use std::sync::Arc;

use proptest::prelude::*;
use zero_paper::decision::{Decision, Submission};
use zero_paper::engine::Engine;
use zero_paper::journal::Journal;
use zero_paper::position::{Position, to_cents};
use zero_paper::risk::{ReduceOnlyRule, RiskDecision, TradingMode, check};
use zero_paper::scenario::{Limits, Order, Scenario, Side};
use zero_paper::{Error, FixedClock, RecordPaths, Runtime, rfc3339};

fn order(side: Side, quantity: f64, price: f64) -> Order {
    Order { symbol: "X".to_owned(), side, quantity, price, confidence: 0.9, reduce_only: false }
}

fn submission(key: Option<&str>) -> Submission<'_> {
    Submission { source: "test", idempotency_key: key, trace_id: None, as_of: 1.5 }
}

fn engine() -> Engine {
    Engine::recover(Limits::default(), Journal::Memory(Vec::new())).unwrap()
}

#[test]
fn scenario_parsing_fills_defaults_and_normalizes_case() {
    let text = r#"{"orders":[{"symbol":"straße","side":"BUY","quantity":2,"price":3,"confidence":1},
                              {"symbol":"b","side":"Sell","quantity":1e1,"price":0.5,"confidence":0,"reduce_only":true}]}"#;
    let scenario = Scenario::parse(text).unwrap();
    assert_eq!(scenario.name, "paper-scenario");
    let Limits { max_notional_usd, max_position_notional_usd, max_leverage, min_confidence, .. } =
        scenario.limits;
    assert_eq!(
        (max_notional_usd, max_position_notional_usd, max_leverage, min_confidence),
        (1000.0, 2500.0, 1.0, 0.6)
    );
    assert_eq!(scenario.orders[0].symbol, "STRASSE");
    assert_eq!((scenario.orders[1].side, scenario.orders[1].reduce_only), (Side::Sell, true));
    let symbols: Vec<&str> = (1..=5).map(|cycle| scenario.order(cycle).symbol.as_str()).collect();
    assert_eq!(symbols, ["STRASSE", "B", "STRASSE", "B", "STRASSE"]);
}

/// The first rule that applies decides, and a value equal to its limit passes.
#[test]
fn risk_checks_apply_in_their_documented_order() {
    let limits = Limits {
        max_notional_usd: 100.0,
        max_position_notional_usd: 150.0,
        max_leverage: 1.0,
        min_confidence: 0.5,
        ..Limits::default()
    };
    let decide_in = |trading_mode, quantity: f64, order: &Order| {
        let current = Position { quantity, avg_price: 1.0 };
        check(trading_mode, ReduceOnlyRule::Enforce, &limits, &current, &current.after(order), order)
    };
    let decide = |quantity: f64, order: &Order| decide_in(TradingMode::Open, quantity, order);
    let violates_all = Order { confidence: 0.1, ..order(Side::Buy, 200.0, 1.0) };
    let reduces = Order { reduce_only: true, ..violates_all.clone() };
    assert_eq!(decide(-200.0, &reduces), RiskDecision::ReduceOnly, "no limit applies");
    assert_eq!(decide(0.0, &reduces), RiskDecision::NotReducing, "before the limits");
    assert_eq!(decide(0.0, &violates_all), RiskDecision::LowConfidence);
    assert_eq!(decide(0.0, &Order { confidence: 0.5, ..violates_all }), RiskDecision::OrderNotional);
    assert_eq!(decide(0.0, &order(Side::Buy, 100.0, 1.0)), RiskDecision::Allowed);
    assert_eq!(decide(50.0, &order(Side::Buy, 100.0, 1.0)), RiskDecision::Allowed);
    assert_eq!(decide(50.5, &order(Side::Buy, 100.0, 1.0)), RiskDecision::ProjectedPosition);
    assert_eq!(decide(-50.5, &order(Side::Sell, 100.0, 1.0)), RiskDecision::ProjectedPosition);
    // In a restricted mode the order's effect counts, and its reduce-only mark is required as well.
    let reduce_only = |side, quantity| Order { reduce_only: true, ..order(side, quantity, 1.0) };
    for (trading_mode, rejected) in [
        (TradingMode::Paused, RiskDecision::OperatorPause),
        (TradingMode::ReduceOnly, RiskDecision::OperatorReduceOnly),
    ] {
        let decide = |quantity, order: &Order| decide_in(trading_mode, quantity, order);
        assert_eq!(decide(2.0, &reduce_only(Side::Sell, 1.0)), RiskDecision::ReduceOnly);
        assert_eq!(decide(2.0, &reduce_only(Side::Sell, 2.0)), RiskDecision::ReduceOnly);
        assert_eq!(decide(-2.0, &reduce_only(Side::Buy, 1.0)), RiskDecision::ReduceOnly);
        assert_eq!(decide(0.0, &reduce_only(Side::Sell, 1.0)), rejected, "opens a position");
        assert_eq!(decide(-1.0, &reduce_only(Side::Sell, 1.0)), rejected, "increases the position");
        assert_eq!(decide(2.0, &reduce_only(Side::Sell, 3.0)), rejected, "crosses zero");
        assert_eq!(decide(2.0, &order(Side::Sell, 1.0, 1.0)), rejected, "is not marked reduce-only");
    }
    assert_eq!(
        decide_in(TradingMode::Killed, 2.0, &reduce_only(Side::Sell, 1.0)),
        RiskDecision::OperatorPause
    );
    for accepted in [RiskDecision::Allowed, RiskDecision::ReduceOnly] {
        assert!(accepted.allowed());
    }
}

#[test]
fn a_reduce_only_order_must_reduce_the_position_unless_it_is_trusted() {
    let decide = |rule, quantity: f64, side, order_quantity| {
        let current = Position { quantity, avg_price: 64000.0 };
        let order = Order { reduce_only: true, ..order(side, order_quantity, 64000.0) };
        check(TradingMode::Open, rule, &Limits::default(), &current, &current.after(&order), &order)
    };
    let cases = [
        (0.0, Side::Sell, 10.0, false, "opens a short position"),
        (0.0, Side::Buy, 10.0, false, "opens a long position"),
        (1.0, Side::Buy, 1.0, false, "increases"),
        (-1.0, Side::Sell, 1.0, false, "increases"),
        (1.0, Side::Sell, 1.5, false, "reverses to a smaller position"),
        (-1.0, Side::Buy, 3.0, false, "reverses"),
        (1.0, Side::Sell, 1e-20, false, "changes nothing"),
        (1.0, Side::Sell, 0.5, true, "reduces"),
        (-1.0, Side::Buy, 1.0, true, "closes"),
    ];
    for (held, side, quantity, accepted, effect) in cases {
        let enforced = decide(ReduceOnlyRule::Enforce, held, side, quantity);
        let expected = if accepted { RiskDecision::ReduceOnly } else { RiskDecision::NotReducing };
        assert_eq!(enforced, expected, "{effect}");
        assert_eq!(decide(ReduceOnlyRule::Trust, held, side, quantity), RiskDecision::ReduceOnly, "{effect}");
    }
    assert!(!RiskDecision::NotReducing.allowed());
    assert_eq!(RiskDecision::NotReducing.reason(), "reduce-only order would not reduce the position");
}

#[test]
fn a_fill_updates_the_position_as_in_the_recorded_sessions() {
    let position = |quantity, avg_price| Position { quantity, avg_price };
    let after = |before: Position, order: Order| before.after(&order);
    assert_eq!(after(Position::default(), order(Side::Sell, 2.0, 10.0)), position(-2.0, 10.0));
    assert_eq!(
        after(position(2.0, 10.0), order(Side::Buy, 2.0, 20.0)),
        position(4.0, 15.0),
        "increasing averages the price"
    );
    assert_eq!(
        after(position(4.0, 15.0), order(Side::Sell, 1.0, 99.0)),
        position(3.0, 15.0),
        "reducing keeps the price"
    );
    assert_eq!(
        after(position(3.0, 15.0), order(Side::Sell, 3.0, 99.0)),
        Position::default(),
        "closing resets both"
    );
    assert_eq!(
        after(position(2.0, 15.0), order(Side::Sell, 6.0, 99.0)),
        position(-4.0, 99.0),
        "crossing zero to a larger position takes the order's price"
    );
    assert_eq!(
        after(position(4.0, 15.0), order(Side::Sell, 6.0, 99.0)),
        position(-2.0, 15.0),
        "crossing zero to a smaller position keeps the price"
    );
    assert_eq!(
        after(position(4.0, 15.0), order(Side::Sell, 8.0, 99.0)),
        position(-4.0, 99.0),
        "crossing zero to an equal position takes the order's price"
    );
    assert_eq!(after(position(-4.0, 15.0), order(Side::Sell, 1.0, 20.0)), position(-5.0, 16.0));
    assert_eq!(
        after(position(1e20, 15.0), order(Side::Sell, 1.0, 99.0)),
        position(1e20, 15.0),
        "below the precision of a double"
    );
}

/// The results of Python's `round(value, 2)`, for values that a rounding by adding one half gets
/// wrong.
#[test]
fn to_cents_rounds_the_exact_value_of_the_double() {
    for (value, cents) in [
        (2.675, 2.67),
        (1.005, 1.0),
        (0.125, 0.12),
        (0.375, 0.38),
        (1.015, 1.01),
        (2.5, 2.5),
        (0.005, 0.01),
        (1e300, 1e300),
        (1e-9, 0.0),
        (1e16, 1e16),
    ] {
        assert_eq!(to_cents(value), cents, "{value}");
    }
}

#[test]
fn submit_with_a_used_key_returns_the_recorded_decision_and_fills_nothing() {
    let mut engine = engine();
    let first = engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(Some("k"))).unwrap();
    assert!(!first.repeated && first.decision.allowed);
    let second = engine
        .submit(&order(Side::Sell, 7.0, 99.0), &Submission { as_of: 9.0, ..submission(Some("k")) })
        .unwrap();
    assert!(second.repeated);
    assert_eq!(second.decision, first.decision);
    assert_eq!((engine.counts().decisions, engine.counts().fills), (1, 1));
    assert_eq!(engine.book().position("X").quantity, 1.0);
    // Without a key, equal orders are separate orders.
    engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(None)).unwrap();
    engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(None)).unwrap();
    assert_eq!(engine.book().position("X").quantity, 3.0);
}

#[test]
fn idempotency_keys_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.jsonl");
    let open = || Engine::recover(Limits::default(), Journal::open(&path).unwrap()).unwrap();
    let mut engine = open();
    let filled = engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(Some("filled"))).unwrap();
    let rejected = engine.submit(&order(Side::Buy, 1e6, 10.0), &submission(Some("rejected"))).unwrap();
    assert!(!rejected.decision.allowed);
    let state = (engine.counts(), engine.book().clone(), engine.last_decision_as_of());
    drop(engine);
    let mut engine = open();
    assert_eq!((engine.counts(), engine.book().clone(), engine.last_decision_as_of()), state);
    for (key, decision) in [("filled", filled.decision), ("rejected", rejected.decision)] {
        assert!(engine.has_key(key).unwrap());
        let repeated = engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(Some(key))).unwrap();
        assert!(repeated.repeated);
        assert_eq!(repeated.decision, decision);
    }
    assert_eq!((engine.counts(), engine.book().clone()), (state.0, state.1));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}

#[test]
fn recovery_from_the_journal_restores_the_state_for_any_orders() {
    let orders = prop::collection::vec(
        (0..3usize, any::<bool>(), 1..500u32, 1..500u32, 0..=10u8, any::<bool>()),
        1..60,
    );
    proptest!(ProptestConfig::with_cases(64), |(orders in orders)| {
        let mut engine = engine();
        let mut decisions = Vec::new();
        for (n, (symbol, buy, quantity, price, confidence, reduce_only)) in orders.into_iter().enumerate() {
            let order = Order {
                symbol: ["A", "B", "C"][symbol].to_owned(),
                side: if buy { Side::Buy } else { Side::Sell },
                quantity: f64::from(quantity) / 7.0,
                price: f64::from(price) / 3.0,
                confidence: f64::from(confidence) / 10.0,
                reduce_only,
            };
            let key = format!("k{n}");
            decisions.push(engine.submit(&order, &submission(Some(&key))).unwrap().decision);
        }
        let parsed: Vec<Decision> = decisions.iter()
            .map(|decision| Decision::parse(zero_bus::Json::of(decision).unwrap().as_str()).unwrap()).collect();
        prop_assert_eq!(&parsed, &decisions);
        let recovered = Engine::recover(Limits::default(), Journal::Memory(parsed)).unwrap();
        prop_assert_eq!(recovered.counts(), engine.counts());
        prop_assert_eq!(recovered.book(), engine.book());
    });
}

#[test]
fn submit_refuses_a_position_outside_the_range_of_a_double_and_records_nothing() {
    let mut engine = engine();
    // Only a trusted reduce-only order passes the limits with this size.
    engine.set_reduce_only_rule(ReduceOnlyRule::Trust);
    let huge = Order { reduce_only: true, ..order(Side::Buy, 1e308, 1.0) };
    engine.submit(&huge, &submission(Some("1"))).unwrap();
    assert!(matches!(engine.submit(&huge, &submission(Some("2"))), Err(Error::Order { .. })));
    assert_eq!(engine.counts().decisions, 1);
    assert!(!engine.has_key("2").unwrap());
}

#[test]
fn a_restarted_runtime_continues_with_the_next_cycle() {
    let dir = tempfile::tempdir().unwrap();
    let records = RecordPaths {
        journal: Some(dir.path().join("deep/d.jsonl")),
        cycle_journal: Some(dir.path().join("c.jsonl")),
        runtime_bus: Some(dir.path().join("bus")),
        rebuild_journal: false,
        ..RecordPaths::default()
    };
    let text = r#"{"orders":[{"symbol":"A","side":"buy","quantity":1,"price":2,"confidence":1}]}"#;
    for start in 0..3u64 {
        let mut runtime =
            Runtime::start(Scenario::parse(text).unwrap(), &records, Arc::new(FixedClock(start as f64)))
                .unwrap();
        for cycle in 1..=2 {
            assert_eq!(runtime.run_cycle().unwrap().cycle_id, 2 * start + cycle);
        }
        assert!(runtime.warnings().is_empty());
        assert_eq!(runtime.bus().unwrap().head().index, 10 * (start + 1));
    }
}

#[test]
fn rfc3339_rounds_down_to_seconds_and_refuses_years_outside_the_calendar() {
    assert_eq!(rfc3339(1777593600.0).as_deref(), Some("2026-05-01T00:00:00Z"));
    assert_eq!(rfc3339(1777593600.999).as_deref(), Some("2026-05-01T00:00:00Z"));
    assert_eq!(rfc3339(-0.5).as_deref(), Some("1969-12-31T23:59:59Z"));
    for seconds in [1e300, -1e300, f64::INFINITY] {
        assert_eq!(rfc3339(seconds), None);
    }
}
