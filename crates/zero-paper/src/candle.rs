//! Candles and bars: what a feed delivers and a strategy sees.

use serde::Serialize;

/// The candle of one symbol over one bar.
///
/// Prices are above 0 and finite, `high` is the greatest and `low` the least of them, and `volume`
/// is 0 or more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candle {
    /// Price of the last trade, in USD.
    pub close: f64,
    /// Highest price, in USD.
    pub high: f64,
    /// Lowest price, in USD.
    pub low: f64,
    /// Price of the first trade, in USD.
    pub open: f64,
    /// Symbol of the instrument, in upper case.
    pub symbol: String,
    /// Start of the bar, in seconds since the Unix epoch.
    pub ts: f64,
    /// Traded quantity; 0 if it is not known.
    pub volume: f64,
}

/// All candles with one start time.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Start of the bar, in seconds since the Unix epoch.
    pub ts: f64,
    /// Length of the bar in seconds, positive and finite.
    pub interval_s: f64,
    /// At least one candle, ordered by symbol, one per symbol.
    pub candles: Vec<Candle>,
}

impl Bar {
    /// Returns the end of the bar, in seconds since the Unix epoch.
    pub fn close_ts(&self) -> f64 {
        self.ts + self.interval_s
    }

    /// Returns the candle of a symbol, if the bar has one.
    pub fn candle(&self, symbol: &str) -> Option<&Candle> {
        // Most bars have one candle, and a search in a few is as fast as in order.
        self.candles.iter().find(|candle| candle.symbol == symbol)
    }
}
