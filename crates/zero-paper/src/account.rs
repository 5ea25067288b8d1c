//! The account: cash, positions at average cost, fees, profit and equity.

use serde::Serialize;

/// What a fill costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Costs {
    /// Fee, in hundredths of a percent of the filled value.
    pub fee_bps: f64,
    /// Half of the spread between bid and ask, in hundredths of a percent of the price.
    pub half_spread_bps: f64,
    /// Loss against the quoted price, in hundredths of a percent of the price.
    pub slippage_bps: f64,
}

/// An open position and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MarkedPosition {
    /// Average price in USD.
    pub avg_price: f64,
    /// Price at which the position is valued, in USD.
    pub mark_price: f64,
    /// Notional value at the average price, in USD, rounded to cents.
    pub notional_usd: f64,
    /// Signed quantity.
    pub quantity: f64,
    /// Symbol of the instrument.
    pub symbol: String,
    /// Quantity times the difference between mark and average price, in USD.
    pub unrealized_pnl_usd: f64,
}
