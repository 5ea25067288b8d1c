//! Fills, costs and profit of runs on market data.

use zero_paper::market::record::MarketCycle;
use zero_paper::strategy::Intent;

use crate::market_support::{TestStrategy, WIDE, bar, bars, buy, reduce, run, sell, wide};

/// The intents of one cycle.
fn once(cycle: u64, intents: Vec<Intent>) -> Box<dyn zero_paper::strategy::Strategy> {
    TestStrategy::of(move |cycle_id| if cycle_id == cycle { intents.clone() } else { Vec::new() })
}

fn reasons(cycle: &MarketCycle) -> Vec<(bool, &str)> {
    cycle.act.decisions.iter().map(|decision| (decision.allowed, decision.reason.as_str())).collect()
}

#[test]
fn a_market_order_fills_at_the_next_open_with_spread_slippage_and_fee() {
    let file = wide(r#""costs":{"fee_bps":10,"half_spread_bps":5,"slippage_bps":15}"#);
    let cycles =
        run(&file, &bars(&[[100.0, 101.0], [102.0, 104.0], [105.0, 105.0]]), once(1, vec![buy(2.0)]));
    assert_eq!(reasons(&cycles[0]), [(true, "allowed")]);
    assert_eq!(cycles[0].act.decisions[0].price, Some(101.0));
    assert_eq!(cycles[0].act.opened.len(), 1);
    assert_eq!(cycles[0].learn.open_orders, 1);

    let fill = &cycles[1].act.fills[0];
    let price = 102.0 * (1.0 + 20.0 / 10_000.0);
    assert_eq!((fill.reference_price, fill.price, fill.quantity), (102.0, price, 2.0));
    assert_eq!(fill.fee_usd, 2.0 * price * 10.0 / 10_000.0);
    assert_eq!((fill.fill_id.as_str(), fill.realized_pnl_usd), ("fill-1", 0.0));
    assert_eq!(fill.order_id, cycles[0].act.decisions[0].order_id);
    let observe = &cycles[1].observe;
    assert_eq!(observe.cash_usd, 10_000.0 - 2.0 * price - fill.fee_usd);
    assert_eq!(observe.equity_usd, observe.cash_usd + 2.0 * 104.0);
    assert_eq!(observe.open_positions[0].unrealized_pnl_usd, 2.0 * (104.0 - price));
    assert_eq!((observe.fills_seen, observe.decisions_seen), (1, 1));
    assert!(cycles[2].act.fills.is_empty(), "an order fills once");
}

#[test]
fn an_order_waits_for_the_next_bar_of_its_own_symbol() {
    let quiet = [1.0; 4];
    let bars =
        [bar(0, &[("A", [10.0; 4]), ("B", quiet)]), bar(1, &[("B", quiet)]), bar(2, &[("A", [12.0; 4])])];
    let cycles = run(WIDE, &bars, once(1, vec![buy(1.0)]));
    assert!(cycles[1].act.fills.is_empty());
    assert_eq!(cycles[1].observe.open_orders.len(), 1);
    assert_eq!(cycles[2].act.fills[0].price, 12.0);
}

#[test]
fn with_close_an_order_fills_at_the_close_that_was_seen() {
    let file = wide(r#""fill":"close","costs":{"half_spread_bps":100}"#);
    let cycles = run(&file, &bars(&[[100.0, 110.0], [50.0, 50.0]]), once(1, vec![sell(1.0)]));
    let fill = &cycles[0].act.immediate_fills[0];
    assert_eq!((fill.reference_price, fill.price), (110.0, 110.0 * (1.0 - 100.0 / 10_000.0)));
    assert!(cycles[0].act.opened.is_empty() && cycles[1].act.fills.is_empty());
    assert_eq!(cycles[0].learn.fills, 1);
}

#[test]
fn with_close_an_order_for_a_symbol_without_a_candle_waits() {
    let bars = [bar(0, &[("A", [10.0; 4])]), bar(1, &[("B", [1.0; 4])]), bar(2, &[("A", [12.0; 4])])];
    let cycles = run(&wide(r#""fill":"close""#), &bars, once(2, vec![buy(1.0)]));
    assert_eq!(cycles[1].act.opened.len(), 1);
    assert_eq!(cycles[2].act.fills[0].reference_price, 12.0);
}

fn limit(intent: Intent, limit_price: f64) -> Intent {
    Intent { limit_price: Some(limit_price), ..intent }
}

#[test]
fn a_limit_order_fills_when_a_later_bar_trades_through_its_price() {
    let file = wide(r#""limit_bars":3,"costs":{"fee_bps":10,"half_spread_bps":50,"slippage_bps":50}"#);
    let candles = [[100.0; 4], [100.0, 101.0, 95.0, 100.0], [100.0, 101.0, 94.9, 100.0]];
    let bars: Vec<_> = (0..).zip(candles).map(|(n, candle)| bar(n, &[("A", candle)])).collect();
    let cycles = run(&file, &bars, once(1, vec![limit(buy(1.0), 95.0)]));
    assert!(cycles[1].act.fills.is_empty(), "a low at the limit does not trade through it");
    let fill = &cycles[2].act.fills[0];
    assert_eq!((fill.price, fill.reference_price), (95.0, 95.0), "no spread and no slippage");
    assert_eq!(fill.fee_usd, 95.0 * 10.0 / 10_000.0);
}

#[test]
fn a_limit_order_fills_at_an_open_that_is_better_than_its_price() {
    let bars = [bar(0, &[("A", [100.0; 4])]), bar(1, &[("A", [90.0, 120.0, 90.0, 110.0])])];
    let buys = run(WIDE, &bars, once(1, vec![limit(buy(1.0), 95.0)]));
    assert_eq!(buys[1].act.fills[0].price, 90.0);
    let sells = run(WIDE, &bars, once(1, vec![limit(sell(1.0), 80.0)]));
    assert_eq!(sells[1].act.fills[0].price, 90.0);
    let sells = run(WIDE, &bars, once(1, vec![limit(sell(1.0), 119.0)]));
    assert_eq!(sells[1].act.fills[0].price, 119.0);
}

#[test]
fn a_limit_order_expires_after_its_bars_of_its_symbol() {
    let bars = [
        bar(0, &[("A", [100.0; 4])]),
        bar(1, &[("A", [100.0; 4])]),
        bar(2, &[("B", [1.0; 4])]),
        bar(3, &[("A", [100.0; 4])]),
        bar(4, &[("A", [1.0; 4])]),
    ];
    let cycles = run(&wide(r#""limit_bars":2"#), &bars, once(1, vec![limit(buy(1.0), 95.0)]));
    let expired: Vec<usize> = cycles.iter().map(|cycle| cycle.act.expired.len()).collect();
    assert_eq!(expired, [0, 0, 0, 1, 0]);
    assert_eq!(cycles[3].act.expired[0].reason, "not filled within 2 bars");
    assert_eq!(cycles[3].learn.open_orders, 0);
    assert!(cycles.iter().all(|cycle| cycle.act.fills.is_empty()));
}

#[test]
fn average_cost_realises_profit_and_a_reversal_opens_the_rest_at_its_price() {
    let prices = [[10.0, 10.0], [10.0, 20.0], [20.0, 30.0], [30.0, 40.0], [40.0, 40.0]];
    let strategy = TestStrategy::of(|cycle_id| match cycle_id {
        1 => vec![buy(1.0)],
        2 => vec![buy(1.0)],
        3 => vec![sell(3.0)],
        4 => vec![buy(1.0)],
        _ => Vec::new(),
    });
    let cycles = run(WIDE, &bars(&prices), strategy);
    let position = |cycle: usize| {
        cycles[cycle].observe.open_positions.first().map(|position| (position.quantity, position.avg_price))
    };
    assert_eq!(position(1), Some((1.0, 10.0)));
    assert_eq!(position(2), Some((2.0, 15.0)));
    assert_eq!(position(3), Some((-1.0, 30.0)), "the rest of a reversal is open at its price");
    assert_eq!(position(4), None);
    let realized: Vec<f64> =
        cycles.iter().flat_map(|cycle| &cycle.act.fills).map(|fill| fill.realized_pnl_usd).collect();
    assert_eq!(realized, [0.0, 0.0, 30.0, -10.0]);
    assert_eq!(cycles[4].observe.cash_usd, 10_020.0);
    assert_eq!(cycles[4].observe.equity_usd, 10_020.0);
}

#[test]
fn drawdown_counts_from_the_highest_equity_after_a_bar() {
    let prices = [[100.0, 100.0], [100.0, 200.0], [200.0, 150.0]];
    let cycles = run(WIDE, &bars(&prices), once(1, vec![buy(10.0)]));
    let drawdowns: Vec<f64> = cycles.iter().map(|cycle| cycle.orient.drawdown_pct).collect();
    assert_eq!(drawdowns, [0.0, 0.0, 500.0 / 11_000.0 * 100.0]);
}

/// A reduce-only order that was accepted because an open order would have opened the position.
#[test]
fn a_reduce_only_order_never_opens_a_position_when_it_fills() {
    let bars = [bar(0, &[("A", [100.0; 4])]), bar(1, &[("A", [100.0; 4])]), bar(2, &[("A", [100.0; 4])])];
    let cycles = run(WIDE, &bars, once(1, vec![limit(buy(1.0), 50.0), reduce(sell(1.0))]));
    assert_eq!(reasons(&cycles[0])[1].1, "reduce-only orders bypass risk-increasing friction");
    let reasons: Vec<&str> = cycles[1].act.expired.iter().map(|order| order.reason.as_str()).collect();
    assert_eq!(reasons, ["not filled within 1 bar", "reduce-only order would not reduce the position"]);
    assert!(cycles[1].act.fills.is_empty());
}
