//! What tests of strategies show to them.

use zero_bus::Json;
use zero_paper::account::{Costs, MarkedPosition};
use zero_paper::candle::{Bar, Candle};
use zero_paper::scenario::Limits;
use zero_paper::strategy::{Answer, Failure, Observation, Start, Strategy};

/// 2026-05-01T00:00:00Z
pub(crate) const START: f64 = 1_777_593_600.0;

/// A bar of one symbol, BTC.
pub(crate) fn bar(number: u64, open: f64, close: f64) -> Bar {
    let candle = Candle {
        symbol: "BTC".to_owned(),
        ts: START + 60.0 * number as f64,
        open,
        high: open.max(close),
        low: open.min(close),
        close,
        volume: 0.0,
    };
    Bar { ts: candle.ts, interval_s: 60.0, candles: vec![candle] }
}

pub(crate) fn position(quantity: f64) -> Vec<MarkedPosition> {
    if quantity == 0.0 {
        return Vec::new();
    }
    let symbol = "BTC".to_owned();
    vec![MarkedPosition {
        symbol,
        quantity,
        avg_price: 100.0,
        mark_price: 100.0,
        notional_usd: 100.0 * quantity.abs(),
        unrealized_pnl_usd: 0.0,
    }]
}

fn observation<'a>(cycle_id: u64, bar: &'a Bar, positions: &'a [MarkedPosition]) -> Observation<'a> {
    Observation { as_of: bar.close_ts(), cycle_id, bar, positions, equity_usd: 10_000.0, last: &[] }
}

pub(crate) fn start(strategy: &mut dyn Strategy, state: Option<&Json>) -> Result<(), Failure> {
    let (limits, costs, symbols) = (Limits::default(), Costs::default(), ["BTC".to_owned()]);
    strategy.start(&Start { limits: &limits, symbols: &symbols, costs: &costs, state })
}

pub(crate) fn decide(
    strategy: &mut dyn Strategy,
    cycle_id: u64,
    bar: &Bar,
    held: f64,
) -> Result<Answer, Failure> {
    strategy.decide(&observation(cycle_id, bar, &position(held)))
}

pub(crate) fn observe(strategy: &mut dyn Strategy, cycle_id: u64, bar: &Bar) -> Result<(), Failure> {
    strategy.observe(&observation(cycle_id, bar, &[]))
}
