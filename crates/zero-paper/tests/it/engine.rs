//! Scenario, risk, positions, the engine and its journal.

use proptest::prelude::*;
use zero_paper::decision::{Decision, Submission};
use zero_paper::engine::Engine;
use zero_paper::journal::Journal;
use zero_paper::position::{Position, to_cents};
use zero_paper::risk::{RiskDecision, TradingMode, check};
use zero_paper::scenario::{Limits, Order, Scenario, Side};
use zero_paper::{Clock, Error, RecordPaths, Runtime, rfc3339};

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
fn a_scenario_has_defaults_and_folds_case() {
    let text = r#"{"orders":[{"symbol":"straße","side":"BUY","quantity":2,"price":3,"confidence":1},
                              {"symbol":"b","side":"Sell","quantity":1e1,"price":0.5,"confidence":0,"reduce_only":true}]}"#;
    let scenario = Scenario::parse(text).unwrap();
    assert_eq!(scenario.name, "paper-scenario");
    let Limits { max_notional_usd, max_position_notional_usd, max_leverage, min_confidence } =
        scenario.limits;
    assert_eq!(
        (max_notional_usd, max_position_notional_usd, max_leverage, min_confidence),
        (1000.0, 2500.0, 1.0, 0.6)
    );
    assert_eq!(scenario.orders[0].symbol, "STRASSE");
    assert_eq!((scenario.orders[1].side, scenario.orders[1].reduce_only), (Side::Sell, true));
    let turns: Vec<&str> = (1..=5).map(|cycle| scenario.order(cycle).symbol.as_str()).collect();
    assert_eq!(turns, ["STRASSE", "B", "STRASSE", "B", "STRASSE"]);
}

/// The first rule that speaks decides, and each limit is the most or least that is still let through.
#[test]
fn risk_is_judged_in_its_order() {
    let limits = Limits {
        max_notional_usd: 100.0,
        max_position_notional_usd: 150.0,
        max_leverage: 1.0,
        min_confidence: 0.5,
    };
    let risk_decision = |held: f64, order: &Order| {
        let held = Position { quantity: held, avg_price: 1.0 };
        check(TradingMode::Open, &limits, &held, &held.after(order), order)
    };
    let all_wrong = Order { confidence: 0.1, ..order(Side::Buy, 200.0, 1.0) };
    assert_eq!(
        risk_decision(0.0, &Order { reduce_only: true, ..all_wrong.clone() }),
        RiskDecision::ReduceOnly
    );
    assert_eq!(risk_decision(0.0, &all_wrong), RiskDecision::LowConfidence);
    assert_eq!(risk_decision(0.0, &Order { confidence: 0.5, ..all_wrong }), RiskDecision::OrderNotional);
    assert_eq!(risk_decision(0.0, &order(Side::Buy, 100.0, 1.0)), RiskDecision::Allowed);
    assert_eq!(risk_decision(50.0, &order(Side::Buy, 100.0, 1.0)), RiskDecision::Allowed);
    assert_eq!(risk_decision(50.5, &order(Side::Buy, 100.0, 1.0)), RiskDecision::ProjectedPosition);
    assert_eq!(risk_decision(-50.5, &order(Side::Sell, 100.0, 1.0)), RiskDecision::ProjectedPosition);
    // The operator asks what an order does, not what it says.
    let bound = |trading_mode, held: f64, order: &Order| {
        let held = Position { quantity: held, avg_price: 1.0 };
        check(trading_mode, &limits, &held, &held.after(order), order)
    };
    let reducing = |side, quantity| Order { reduce_only: true, ..order(side, quantity, 1.0) };
    for (trading_mode, refused) in [
        (TradingMode::Paused, RiskDecision::OperatorPause),
        (TradingMode::ReduceOnly, RiskDecision::OperatorReduceOnly),
    ] {
        assert_eq!(bound(trading_mode, 2.0, &reducing(Side::Sell, 1.0)), RiskDecision::ReduceOnly);
        assert_eq!(bound(trading_mode, 2.0, &reducing(Side::Sell, 2.0)), RiskDecision::ReduceOnly);
        assert_eq!(bound(trading_mode, -2.0, &reducing(Side::Buy, 1.0)), RiskDecision::ReduceOnly);
        assert_eq!(bound(trading_mode, 0.0, &reducing(Side::Sell, 1.0)), refused, "it opens");
        assert_eq!(bound(trading_mode, -1.0, &reducing(Side::Sell, 1.0)), refused, "it grows");
        assert_eq!(bound(trading_mode, 2.0, &reducing(Side::Sell, 3.0)), refused, "it crosses");
        assert_eq!(bound(trading_mode, 2.0, &order(Side::Sell, 1.0, 1.0)), refused, "it does not say so");
    }
    assert_eq!(bound(TradingMode::Killed, 2.0, &reducing(Side::Sell, 1.0)), RiskDecision::OperatorPause);
    for risk_decision in [RiskDecision::Allowed, RiskDecision::ReduceOnly] {
        assert!(risk_decision.allowed());
    }
}

#[test]
fn positions_follow_the_recorded_rules() {
    let held = |quantity, avg_price| Position { quantity, avg_price };
    let after = |position: Position, order: Order| position.after(&order);
    assert_eq!(after(Position::default(), order(Side::Sell, 2.0, 10.0)), held(-2.0, 10.0));
    assert_eq!(after(held(2.0, 10.0), order(Side::Buy, 2.0, 20.0)), held(4.0, 15.0), "growing averages");
    assert_eq!(after(held(4.0, 15.0), order(Side::Sell, 1.0, 99.0)), held(3.0, 15.0), "shrinking keeps");
    assert_eq!(after(held(3.0, 15.0), order(Side::Sell, 3.0, 99.0)), Position::default(), "closing clears");
    assert_eq!(after(held(2.0, 15.0), order(Side::Sell, 6.0, 99.0)), held(-4.0, 99.0), "crossing to more");
    assert_eq!(
        after(held(4.0, 15.0), order(Side::Sell, 6.0, 99.0)),
        held(-2.0, 15.0),
        "crossing to less keeps"
    );
    assert_eq!(after(held(4.0, 15.0), order(Side::Sell, 8.0, 99.0)), held(-4.0, 99.0), "crossing to as much");
    assert_eq!(after(held(-4.0, 15.0), order(Side::Sell, 1.0, 20.0)), held(-5.0, 16.0));
    assert_eq!(after(held(1e20, 15.0), order(Side::Sell, 1.0, 99.0)), held(1e20, 15.0), "too small to count");
}

/// Python's `round(value, 2)`, on values where adding a half would go wrong.
#[test]
fn cents_are_rounded_by_the_exact_value() {
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
fn a_known_key_gives_the_recorded_decision_and_no_second_fill() {
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
    // Without a key every order stands for itself.
    engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(None)).unwrap();
    engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(None)).unwrap();
    assert_eq!(engine.book().position("X").quantity, 3.0);
}

#[test]
fn a_known_key_is_known_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("d.jsonl");
    let open = || Engine::recover(Limits::default(), Journal::open(&path).unwrap()).unwrap();
    let mut engine = open();
    let first = engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(Some("filled"))).unwrap();
    let refused = engine.submit(&order(Side::Buy, 1e6, 10.0), &submission(Some("refused"))).unwrap();
    assert!(!refused.decision.allowed);
    let state = (engine.counts(), engine.book().clone(), engine.last_decision_as_of());
    drop(engine);
    let mut engine = open();
    assert_eq!((engine.counts(), engine.book().clone(), engine.last_decision_as_of()), state);
    for (key, decision) in [("filled", first.decision), ("refused", refused.decision)] {
        assert!(engine.knows(key));
        let again = engine.submit(&order(Side::Buy, 1.0, 10.0), &submission(Some(key))).unwrap();
        assert!(again.repeated);
        assert_eq!(again.decision, decision);
    }
    assert_eq!((engine.counts(), engine.book().clone()), (state.0, state.1));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}

/// What the journal says is what the engine does again, whatever was traded.
#[test]
fn replaying_the_journal_gives_the_same_state() {
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
        let texts: Vec<Decision> = decisions.iter()
            .map(|decision| Decision::parse(zero_bus::Json::of(decision).unwrap().as_str()).unwrap()).collect();
        prop_assert_eq!(&texts, &decisions);
        let again = Engine::recover(Limits::default(), Journal::Memory(texts)).unwrap();
        prop_assert_eq!(again.counts(), engine.counts());
        prop_assert_eq!(again.book(), engine.book());
    });
}

#[test]
fn a_position_beyond_a_double_is_refused_and_not_recorded() {
    let mut engine = engine();
    let huge = Order { reduce_only: true, ..order(Side::Buy, 1e308, 1.0) };
    engine.submit(&huge, &submission(Some("1"))).unwrap();
    assert!(matches!(engine.submit(&huge, &submission(Some("2"))), Err(Error::Order { .. })));
    assert_eq!(engine.counts().decisions, 1);
    assert!(!engine.knows("2"));
}

#[test]
fn a_runtime_goes_on_where_its_journal_ends() {
    let place = tempfile::tempdir().unwrap();
    let records = RecordPaths {
        journal: Some(place.path().join("deep/d.jsonl")),
        cycle_journal: Some(place.path().join("c.jsonl")),
        runtime_bus: Some(place.path().join("bus")),
        rebuild_journal: false,
    };
    let text = r#"{"orders":[{"symbol":"A","side":"buy","quantity":1,"price":2,"confidence":1}]}"#;
    for start in 0..3u64 {
        let mut runtime =
            Runtime::start(Scenario::parse(text).unwrap(), &records, Clock::Fixed(start as f64)).unwrap();
        for cycle in 1..=2 {
            assert_eq!(runtime.run_cycle().unwrap().cycle_id, 2 * start + cycle);
        }
        assert!(runtime.warnings().is_empty());
        assert_eq!(runtime.bus().unwrap().head().index, 10 * (start + 1));
    }
}

#[test]
fn times_are_written_as_a_calendar_has_them() {
    assert_eq!(rfc3339(1777593600.0).as_deref(), Some("2026-05-01T00:00:00Z"));
    assert_eq!(rfc3339(1777593600.999).as_deref(), Some("2026-05-01T00:00:00Z"));
    assert_eq!(rfc3339(-0.5).as_deref(), Some("1969-12-31T23:59:59Z"));
    for never in [1e300, -1e300, f64::INFINITY] {
        assert_eq!(rfc3339(never), None);
    }
}
