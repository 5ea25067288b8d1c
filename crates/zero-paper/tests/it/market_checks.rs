//! The checks of runs on market data: each with its reason and its numbers.

use std::sync::Arc;

use zero_paper::FixedClock;
use zero_paper::RecordPaths;
use zero_paper::candle::Bar;
use zero_paper::market::checks::{self, CycleConditions, OrderConditions};
use zero_paper::market::cycle::Rules;
use zero_paper::market::record::MarketCycle;
use zero_paper::market::run_file::{FillRule, RunFile};
use zero_paper::market::trading::{CycleTime, MarketRun, Trading};
use zero_paper::order_record::ReachedLimit;
use zero_paper::position::Position;
use zero_paper::risk::{ReduceOnlyRule, TradingMode};
use zero_paper::scenario::{Limits, Side};
use zero_paper::strategy::Intent;

use crate::market_support::{
    Cycles, T0, TestFeed, TestStrategy, WIDE, bar, bars, buy, order, reduce, rules, run, run_with, sell,
};

fn limits(members: &str) -> String {
    format!(
        r#"{{"name":"t","fill":"close","limits":{{"max_notional_usd":1e9,"max_position_notional_usd":1e9,"min_confidence":0.5,{members}}}}}"#
    )
}

/// Reason, and name, bound and value of the limit, of every decision of a cycle.
type Outcome<'a> = (&'a str, Option<(&'a str, f64, f64)>);

fn outcomes(cycle: &MarketCycle) -> Vec<Outcome<'_>> {
    fn numbers(limit: &ReachedLimit) -> (&str, f64, f64) {
        (&limit.name, limit.bound, limit.value)
    }
    let decisions = cycle.act.decisions.iter();
    decisions.map(|decision| (decision.reason.as_str(), decision.limit.as_ref().map(numbers))).collect()
}

fn flat(prices: &[f64]) -> Vec<Bar> {
    bars(&prices.iter().map(|price| [*price; 2]).collect::<Vec<_>>())
}

fn always(intents: Vec<Intent>) -> Box<dyn zero_paper::strategy::Strategy> {
    TestStrategy::of(move |_| intents.clone())
}

#[test]
fn the_limits_of_size_and_confidence_name_their_numbers() {
    let file = r#"{"limits":{"max_notional_usd":500,"max_position_notional_usd":800}}"#;
    let unsure = Intent { confidence: 0.3, ..buy(1.0) };
    let intents = vec![unsure, buy(6.0), buy(4.0), buy(4.0), buy(5.0), sell(4.0)];
    let cycles = run(file, &flat(&[100.0]), always(intents));
    assert_eq!(
        outcomes(&cycles[0]),
        [
            ("confidence below minimum", Some(("min_confidence", 0.6, 0.3))),
            ("order notional exceeds limit", Some(("max_notional_usd", 500.0, 600.0))),
            ("allowed", None),
            ("allowed", None),
            // The orders before it wait for their fills, and count.
            ("projected position exceeds limit", Some(("max_position_notional_usd", 800.0, 1300.0))),
            ("allowed", None),
        ]
    );
}

#[test]
fn gross_exposure_counts_both_sides_of_all_symbols_and_open_orders() {
    let file = limits(r#""max_gross_exposure_usd":250"#).replace("\"close\"", "\"next_open\"");
    let of = |symbol: &str, side, quantity| Intent { symbol: symbol.to_owned(), ..order(side, quantity) };
    let market = [bar(0, &[("A", [100.0; 4]), ("B", [50.0; 4])])];
    let intents = vec![
        of("A", Side::Buy, 1.0),
        of("B", Side::Sell, 2.0),
        of("B", Side::Sell, 2.0),
        of("A", Side::Sell, 0.5),
    ];
    let cycles = run(&file, &market, always(intents));
    let reached = ("gross exposure exceeds limit", Some(("max_gross_exposure_usd", 250.0, 300.0)));
    assert_eq!(outcomes(&cycles[0]), [("allowed", None), ("allowed", None), reached, ("allowed", None)]);
}

#[test]
fn a_reached_daily_loss_accepts_only_reducing_orders_until_the_next_utc_day() {
    let file = limits(r#""max_daily_loss_usd":50"#);
    // The price recovers, but the limit stays reached for the day.
    let mut market = flat(&[100.0, 40.0, 90.0]);
    market.push(bar(24 * 60, &[("A", [90.0; 4])]));
    let strategy =
        TestStrategy::of(|cycle_id| if cycle_id == 1 { vec![buy(1.0)] } else { vec![buy(1.0), sell(0.5)] });
    let cycles = run(&file, &market, strategy);
    let reached = ("daily loss limit reached", Some(("max_daily_loss_usd", 50.0, 60.0)));
    assert_eq!(outcomes(&cycles[1]), [reached, ("allowed", None)]);
    assert_eq!(outcomes(&cycles[2]), [reached, ("allowed", None)]);
    let losses: Vec<f64> = cycles.iter().map(|cycle| cycle.orient.daily_loss_usd).collect();
    assert_eq!(losses, [0.0, 60.0, 35.0, 0.0]);
    assert_eq!(cycles[3].orient.day_start_equity_usd, 9_965.0);
    assert_eq!(outcomes(&cycles[3])[0], ("allowed", None), "the next day begins anew");
}

#[test]
fn a_bar_that_closes_at_midnight_belongs_to_the_new_day() {
    let file = limits(r#""max_daily_loss_usd":50"#);
    let market = [
        bar(0, &[("A", [100.0; 4])]),
        bar(24 * 60 - 2, &[("A", [100.0; 4])]),
        bar(24 * 60 - 1, &[("A", [40.0; 4])]),
        bar(24 * 60, &[("A", [40.0; 4])]),
    ];
    let strategy = TestStrategy::of(|cycle_id| if cycle_id == 1 { vec![buy(1.0)] } else { Vec::new() });
    let cycles = run(&file, &market, strategy);
    let losses: Vec<f64> = cycles.iter().map(|cycle| cycle.orient.daily_loss_usd).collect();
    assert_eq!(losses, [0.0, 0.0, 60.0, 60.0]);
    assert_eq!(cycles[2].as_of, T0 + 86_400.0);
}

#[test]
fn a_reached_drawdown_accepts_only_reducing_orders() {
    let file = limits(r#""max_drawdown_pct":10"#);
    let strategy = TestStrategy::of(|cycle_id| match cycle_id {
        1 => vec![buy(50.0)],
        _ => vec![buy(1.0), sell(1.0), reduce(sell(1.0))],
    });
    let cycles = run(&file, &flat(&[100.0, 80.0]), strategy);
    let reached = ("drawdown limit reached", Some(("max_drawdown_pct", 10.0, 10.0)));
    let reduced = ("reduce-only orders bypass risk-increasing friction", None);
    assert_eq!(outcomes(&cycles[1]), [reached, ("allowed", None), reduced]);
}

#[test]
fn the_order_rate_counts_accepted_orders_of_the_last_sixty_seconds() {
    let file = limits(r#""max_orders_per_minute":2"#);
    let cycles = run(&file, &flat(&[100.0, 100.0]), always(vec![buy(1.0), buy(1.0), buy(1.0), sell(1.0)]));
    let reached = ("order rate exceeds limit", Some(("max_orders_per_minute", 2.0, 2.0)));
    let expected = [("allowed", None), ("allowed", None), reached, ("allowed", None)];
    assert_eq!(outcomes(&cycles[0]), expected);
    // An order is not counted once it is sixty seconds old.
    assert_eq!(cycles[1].orient.orders_last_minute, 0);
    assert_eq!(outcomes(&cycles[1]), expected);
}

#[test]
fn a_symbol_without_a_candle_has_no_price_and_later_its_last_close() {
    let market = [bar(0, &[("A", [100.0; 4])]), bar(1, &[("B", [5.0; 4])])];
    let cycles = run(
        WIDE,
        &market,
        TestStrategy::of(|cycle_id| {
            vec![Intent { symbol: if cycle_id == 1 { "B" } else { "A" }.to_owned(), ..buy(1.0) }]
        }),
    );
    let decision = &cycles[0].act.decisions[0];
    assert_eq!(decision.reason, "no market price for the symbol");
    assert_eq!((decision.price, decision.notional_usd, decision.allowed), (None, None, false));
    assert_eq!(cycles[1].act.decisions[0].price, Some(100.0));
}

#[test]
fn a_key_places_one_order_over_the_whole_run() {
    let keyed = |key: &str| Intent { key: Some(key.to_owned()), ..buy(1.0) };
    let strategy = TestStrategy::of(move |cycle_id| match cycle_id {
        1 => vec![keyed("k"), keyed("k"), buy(1.0)],
        2 => vec![keyed("k"), keyed("runtime-t-1-3")],
        _ => Vec::new(),
    });
    let cycles = run(WIDE, &flat(&[1.0, 1.0, 1.0]), strategy);
    let used = ("idempotency key was used before", None);
    assert_eq!(outcomes(&cycles[0]), [("allowed", None), used, ("allowed", None)]);
    assert_eq!(outcomes(&cycles[1]), [used, used]);
    assert_eq!(cycles[1].act.fills.len(), 2);
    assert_eq!(cycles[0].act.decisions[0].order_id, cycles[0].act.decisions[1].order_id);
    assert_eq!(cycles[0].act.decisions[2].idempotency_key, "runtime-t-1-3");
}

#[test]
fn reduce_only_looks_at_position_and_open_orders() {
    let strategy = || {
        TestStrategy::of(|cycle_id| match cycle_id {
            1 => vec![reduce(sell(1.0)), buy(2.0), reduce(sell(1.5)), reduce(sell(1.0)), reduce(sell(0.5))],
            _ => Vec::new(),
        })
    };
    let market = flat(&[10.0, 10.0]);
    let passes = ("reduce-only orders bypass risk-increasing friction", None);
    let refused = ("reduce-only order would not reduce the position", None);
    let cycles = run(WIDE, &market, strategy());
    assert_eq!(outcomes(&cycles[0]), [refused, ("allowed", None), passes, refused, passes]);
    assert_eq!(cycles[1].act.fills.len(), 3);
    assert!(cycles[1].observe.open_positions.is_empty());

    let trusting = Rules { reduce_only_rule: ReduceOnlyRule::Trust, ..rules(WIDE) };
    let cycles = run_with(trusting, &market, strategy());
    assert_eq!(outcomes(&cycles[0]), [passes, ("allowed", None), passes, passes, passes]);
    assert_eq!(cycles[1].act.fills.len(), 5, "a trusted order fills whatever it does to the position");
}

/// Runs one bar at an age of `age` seconds.
fn at_age(file: &str, live: bool, cycle_time: CycleTime, age: f64) -> MarketCycle {
    let bars = flat(&[100.0]);
    let clock = Arc::new(FixedClock(bars[0].close_ts() + age));
    let feed = Box::new(TestFeed { bars: bars.into(), live });
    let run = MarketRun { rules: rules(file), feed, strategy: always(vec![buy(1.0)]), cycle_time };
    let mut trading = Trading::start(run, &RecordPaths::default(), clock, &mut Vec::new()).unwrap();
    let mut cycles = Cycles::default();
    trading.run(None, || false, &mut cycles).unwrap();
    cycles.0.remove(0)
}

#[test]
fn a_late_bar_takes_no_risk() {
    let limited = limits(r#""max_data_age_s":10"#);
    let stale = |bound, age| ("market data is stale", Some(("max_data_age_s", bound, age)));
    let late = at_age(&limited, true, CycleTime::Bar, 11.0);
    assert_eq!(outcomes(&late), [stale(10.0, 11.0)]);
    assert!(late.orient.stale_data);
    let in_time = at_age(&limited, true, CycleTime::Bar, 10.0);
    assert_eq!((outcomes(&in_time), in_time.orient.stale_data), (vec![("allowed", None)], false));
    // Without the limit, a live bar may be as late as it is long.
    assert_eq!(outcomes(&at_age(WIDE, true, CycleTime::Bar, 61.0)), [stale(60.0, 61.0)]);
    let in_time = at_age(WIDE, true, CycleTime::Bar, 60.0);
    assert_eq!((outcomes(&in_time), in_time.orient.data_age_s), (vec![("allowed", None)], Some(60.0)));
}

#[test]
fn recorded_bars_have_an_age_only_on_the_wall_clock() {
    let limited = limits(r#""max_data_age_s":10"#);
    let by_bar = at_age(&limited, false, CycleTime::Bar, 1e6);
    assert_eq!((outcomes(&by_bar), by_bar.orient.data_age_s), (vec![("allowed", None)], None));
    assert_eq!(by_bar.as_of, by_bar.observe.close_ts);
    let by_wall = at_age(&limited, false, CycleTime::Wall, 1e6);
    assert_eq!(by_wall.as_of, by_wall.observe.close_ts + 1e6);
    assert!(by_wall.orient.stale_data && !by_wall.act.decisions[0].allowed);
}

/// Every pair of neighbouring rules: the earlier one decides.
#[test]
fn the_first_rule_that_applies_decides() {
    let limits = Limits {
        max_notional_usd: 10.0,
        max_position_notional_usd: 10.0,
        max_daily_loss_usd: Some(1.0),
        max_drawdown_pct: Some(1.0),
        max_orders_per_minute: Some(1.0),
        max_gross_exposure_usd: Some(10.0),
        ..Limits::default()
    };
    let mut cycle = CycleConditions {
        limits: &limits,
        trading_mode: TradingMode::Killed,
        reduce_only_rule: ReduceOnlyRule::Enforce,
        stale: Some((2.0, 1.0)),
        worst_daily_loss_usd: 1.0,
        drawdown_pct: 1.0,
    };
    let mut order = OrderConditions {
        key_used: true,
        price: None,
        projected: Position::default(),
        gross_exposure_usd: 100.0,
        orders_last_minute: 1,
    };
    let mut intent = Intent { confidence: 0.1, reduce_only: true, ..buy(100.0) };
    let mut reasons = Vec::new();
    let calm = Limits { max_notional_usd: 1e9, max_position_notional_usd: 1e9, ..limits };
    let wide = Limits { max_notional_usd: 1e9, ..limits };
    for step in 0..14 {
        match step {
            1 => order.key_used = false,
            2 => order.price = Some(1.0),
            3 => cycle.trading_mode = TradingMode::ReduceOnly,
            4 => cycle.trading_mode = TradingMode::Open,
            5 => intent.reduce_only = false,
            6 => intent.confidence = 0.9,
            7 => cycle.limits = &wide,
            8 => cycle.limits = &calm,
            9 => order.gross_exposure_usd = 10.0,
            10 => cycle.worst_daily_loss_usd = 0.0,
            11 => cycle.drawdown_pct = 0.0,
            12 => order.orders_last_minute = 0,
            13 => cycle.stale = None,
            _ => {}
        }
        reasons.push(checks::check(&cycle, &order, &intent).reason);
    }
    assert_eq!(
        reasons,
        [
            "idempotency key was used before",
            "no market price for the symbol",
            "operator pause",
            "operator reduce-only",
            "reduce-only order would not reduce the position",
            "confidence below minimum",
            "order notional exceeds limit",
            "projected position exceeds limit",
            "gross exposure exceeds limit",
            "daily loss limit reached",
            "drawdown limit reached",
            "order rate exceeds limit",
            "market data is stale",
            "allowed",
        ]
    );
}

/// A reducing order that is not marked skips every limit but the four of every run; a killed
/// runtime accepts nothing.
#[test]
fn a_reducing_order_skips_the_further_limits() {
    let limits = Limits {
        max_notional_usd: 1050.0,
        max_position_notional_usd: 1000.0,
        max_daily_loss_usd: Some(1.0),
        max_drawdown_pct: Some(1.0),
        max_orders_per_minute: Some(1.0),
        max_gross_exposure_usd: Some(1.0),
        ..Limits::default()
    };
    let cycle = CycleConditions {
        limits: &limits,
        trading_mode: TradingMode::Open,
        reduce_only_rule: ReduceOnlyRule::Enforce,
        stale: Some((2.0, 1.0)),
        worst_daily_loss_usd: 9.0,
        drawdown_pct: 9.0,
    };
    let order = OrderConditions {
        key_used: false,
        price: Some(100.0),
        projected: Position { quantity: 10.0, avg_price: 100.0 },
        gross_exposure_usd: 900.0,
        orders_last_minute: 9,
    };
    assert_eq!(checks::check(&cycle, &order, &sell(10.0)).reason, "allowed");
    assert_eq!(checks::check(&cycle, &order, &sell(10.5)).reason, "gross exposure exceeds limit");
    assert_eq!(checks::check(&cycle, &order, &sell(10.6)).reason, "order notional exceeds limit");
    let unsure = Intent { confidence: 0.1, ..sell(1.0) };
    assert_eq!(checks::check(&cycle, &order, &unsure).reason, "confidence below minimum");
    for mode in [TradingMode::ReduceOnly, TradingMode::Paused] {
        let cycle = CycleConditions { trading_mode: mode, ..cycle };
        assert!(checks::check(&cycle, &order, &reduce(sell(1.0))).allowed);
        assert!(!checks::check(&cycle, &order, &sell(1.0)).allowed);
    }
    let killed = CycleConditions { trading_mode: TradingMode::Killed, ..cycle };
    assert_eq!(checks::check(&killed, &order, &reduce(sell(1.0))).reason, "operator pause");
    assert_eq!(killed.trading_mode, TradingMode::Killed);
}

#[test]
fn amounts_beyond_any_account_are_rejected_also_where_no_limit_applies() {
    let trusting = Rules { reduce_only_rule: ReduceOnlyRule::Trust, ..rules(WIDE) };
    let cycles =
        run_with(trusting, &flat(&[100.0, 100.0]), always(vec![reduce(sell(1e305)), reduce(buy(1e308))]));
    let reasons: Vec<&str> = outcomes(&cycles[0]).into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["order notional exceeds limit"; 2]);
    assert_eq!(cycles[0].act.decisions[1].notional_usd, None);
}

#[test]
fn a_run_file_has_defaults_and_names_what_is_wrong() {
    let run = RunFile::parse("{}").unwrap();
    assert_eq!((run.start_cash_usd, run.limit_bars, run.fill), (10_000.0, 1, FillRule::NextOpen));
    assert_eq!(run.name, "paper-scenario");
    let scenario = r#"{"orders":[],"note":1,"limits":{"max_drawdown_pct":5}}"#;
    let run = RunFile::parse(scenario).unwrap();
    assert_eq!(run.ignored, ["note"]);
    assert_eq!(run.limits.max_drawdown_pct, Some(5.0));
    for (text, problem) in [
        (
            r#"{"limits":{"max_notional":310}}"#,
            "limits.max_notional: is not known; known are max_notional_usd, ",
        ),
        (
            r#"{"costs":{"fee":1}}"#,
            "costs.fee: is not known; known are fee_bps, half_spread_bps, slippage_bps",
        ),
        (r#"{"start_cash_usd":0}"#, "start_cash_usd: must be above 0, is 0"),
        (r#"{"costs":{"fee_bps":-1}}"#, "costs.fee_bps: must be at least 0 and below 10000, is -1"),
        (
            r#"{"costs":{"half_spread_bps":6000,"slippage_bps":6000}}"#,
            "costs: half_spread_bps and slippage_bps",
        ),
        (r#"{"fill":"open"}"#, "fill: must be `next_open` or `close`, is `open`"),
        (r#"{"limit_bars":1.5}"#, "limit_bars: must be a whole number"),
        (r#"{"limits":{"max_data_age_s":"1"}}"#, "limits.max_data_age_s: expected a number"),
        (r#"{"mode":"live"}"#, "mode: must be `paper`"),
    ] {
        let error = RunFile::parse(text).unwrap_err();
        assert!(error.starts_with(problem), "{error}");
    }
}
