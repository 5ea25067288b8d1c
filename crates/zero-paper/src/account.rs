//! The account: cash, positions at average cost, fees, profit and equity.
//!
//! Pure: no clock, no file. The runtime, a restart and a replay apply the same records to it, in
//! the same order, and get the same doubles. Sums over symbols are taken in the order of symbols.

use std::collections::BTreeMap;

use serde::Serialize;
use zero_bus::Json;

use crate::candle::{Bar, Candle};
use crate::error::Result;
use crate::field::{Field, Problem};
use crate::order_record::{OpenOrder, OrderFill};
use crate::position::{Book, Position, PositionRecord, to_cents};
use crate::scenario::Side;

/// What a fill costs. All are 0 or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Costs {
    /// Fee, in hundredths of a percent of the filled value.
    pub fee_bps: f64,
    /// Half of the spread between bid and ask, in hundredths of a percent of the price.
    pub half_spread_bps: f64,
    /// Loss against the quoted price, in hundredths of a percent of the price.
    pub slippage_bps: f64,
}

impl Costs {
    /// Returns the price at which a market order fills, given the price before costs.
    pub fn market_price(&self, side: Side, reference_price: f64) -> f64 {
        let cost = (self.half_spread_bps + self.slippage_bps) / 10_000.0;
        match side {
            Side::Buy => reference_price * (1.0 + cost),
            Side::Sell => reference_price * (1.0 - cost),
        }
    }

    /// Returns the fee of a fill in USD.
    pub fn fee_usd(&self, quantity: f64, price: f64) -> f64 {
        quantity * price * self.fee_bps / 10_000.0
    }
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

/// The price at which a limit order fills in a candle, which is also its price before costs. `None`
/// if the candle does not trade through the limit.
pub fn limit_fill_price(side: Side, limit_price: f64, candle: &Candle) -> Option<f64> {
    match side {
        Side::Buy => (candle.low < limit_price).then(|| candle.open.min(limit_price)),
        Side::Sell => (candle.high > limit_price).then(|| candle.open.max(limit_price)),
    }
}

/// The account of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    cash_usd: f64,
    fees_usd: f64,
    realized_pnl_usd: f64,
    peak_equity_usd: f64,
    book: Book,
    /// The last price of each symbol.
    marks: BTreeMap<String, f64>,
    /// In the order in which they were opened.
    open_orders: Vec<OpenOrder>,
}

impl Account {
    /// Returns an account that holds cash only.
    pub fn new(start_cash_usd: f64) -> Self {
        Self {
            cash_usd: start_cash_usd,
            fees_usd: 0.0,
            realized_pnl_usd: 0.0,
            peak_equity_usd: start_cash_usd,
            book: Book::default(),
            marks: BTreeMap::new(),
            open_orders: Vec::new(),
        }
    }

    /// Applies a fill: cash, fee, position at average cost, realised profit. If the order is open,
    /// it no longer is.
    pub fn apply_fill(&mut self, fill: &OrderFill) {
        let position = self.book.position(&fill.symbol).after_fill(fill.signed_quantity(), fill.price);
        self.book.set(&fill.symbol, position);
        self.cash_usd -= fill.signed_quantity() * fill.price;
        self.cash_usd -= fill.fee_usd;
        self.fees_usd += fill.fee_usd;
        self.realized_pnl_usd += fill.realized_pnl_usd;
        self.close_order(&fill.order_id);
    }

    /// Returns the profit that a fill would realise, in USD: the closed quantity times the
    /// difference between the price and the average price, with the position's sign.
    pub fn realized_by_fill(&self, symbol: &str, signed_quantity: f64, price: f64) -> f64 {
        let position = self.book.position(symbol);
        if position.quantity == 0.0 || (position.quantity > 0.0) == (signed_quantity > 0.0) {
            return 0.0;
        }
        let closed = position.quantity.abs().min(signed_quantity.abs());
        // Adding 0.0 turns -0.0 into 0.0.
        closed * (price - position.avg_price) * position.quantity.signum() + 0.0
    }

    /// Adds an order that waits for its fill.
    pub fn open_order(&mut self, order: OpenOrder) {
        self.open_orders.push(order);
    }

    /// Removes an open order, because it was filled or has expired. Returns it.
    pub fn close_order(&mut self, order_id: &str) -> Option<OpenOrder> {
        let index = self.open_orders.iter().position(|order| order.order_id == order_id)?;
        Some(self.open_orders.remove(index))
    }

    /// Counts a bar for each open order whose symbol has a candle in it.
    pub fn count_bar(&mut self, bar: &Bar) {
        let waiting = self.open_orders.iter_mut().filter(|order| bar.candle(&order.symbol).is_some());
        waiting.for_each(|order| order.bars_waited += 1);
    }

    /// Values the symbols of a bar at their closes.
    pub fn mark_bar(&mut self, bar: &Bar) {
        bar.candles.iter().for_each(|candle| self.mark(&candle.symbol, candle.close));
    }

    /// Values a symbol at a price.
    pub fn mark(&mut self, symbol: &str, price: f64) {
        match self.marks.get_mut(symbol) {
            Some(mark) => *mark = price,
            None => drop(self.marks.insert(symbol.to_owned(), price)),
        }
    }

    /// Raises the peak to the current equity if that is higher.
    pub fn update_peak(&mut self) {
        self.peak_equity_usd = self.peak_equity_usd.max(self.equity_usd());
    }

    /// Returns the last price of a symbol, in USD; `None` before its first.
    pub fn mark_price(&self, symbol: &str) -> Option<f64> {
        self.marks.get(symbol).copied()
    }

    /// Returns cash plus marked positions, in USD.
    pub fn equity_usd(&self) -> f64 {
        let values = self.book.iter().map(|(symbol, position)| {
            position.quantity * self.mark_price(symbol).unwrap_or(position.avg_price)
        });
        // Not `sum`: it starts at -0.0.
        self.cash_usd + values.fold(0.0, |sum, value| sum + value)
    }

    /// Returns how far the equity is below its peak, in percent of the peak.
    pub fn drawdown_pct(&self) -> f64 {
        (self.peak_equity_usd - self.equity_usd()) / self.peak_equity_usd * 100.0
    }

    /// Returns the open positions with their values, by symbol.
    pub fn positions(&self) -> Vec<MarkedPosition> {
        let marked = |(symbol, position): (&str, Position)| {
            let mark_price = self.mark_price(symbol).unwrap_or(position.avg_price);
            MarkedPosition {
                avg_price: position.avg_price,
                mark_price,
                notional_usd: to_cents(position.notional_usd()),
                quantity: position.quantity,
                symbol: symbol.to_owned(),
                unrealized_pnl_usd: position.quantity * (mark_price - position.avg_price) + 0.0,
            }
        };
        self.book.iter().map(marked).collect()
    }

    /// Returns the quantity of a symbol once all of its open orders are filled.
    pub fn projected_quantity(&self, symbol: &str) -> f64 {
        self.projected_position(symbol).quantity
    }

    /// Returns the position in a symbol once all of its open orders are filled at the mark.
    pub fn projected_position(&self, symbol: &str) -> Position {
        let mark_price = self.mark_price(symbol).unwrap_or_default();
        let orders = self.open_orders.iter().filter(|order| order.symbol == symbol);
        orders.fold(self.book.position(symbol), |position, order| {
            position.after_fill(order.signed_quantity(), mark_price)
        })
    }

    /// Returns the sum over all symbols of the projected quantity's value at the mark, in USD.
    /// `change` is added to the quantity of its symbol.
    pub fn gross_exposure_usd(&self, change: Option<(&str, f64)>) -> f64 {
        let mut quantities: BTreeMap<&str, f64> =
            self.book.iter().map(|(symbol, position)| (symbol, position.quantity)).collect();
        let orders = self.open_orders.iter().map(|order| (order.symbol.as_str(), order.signed_quantity()));
        for (symbol, quantity) in orders.chain(change) {
            *quantities.entry(symbol).or_default() += quantity;
        }
        let value =
            |(symbol, quantity): (&str, f64)| (quantity * self.mark_price(symbol).unwrap_or_default()).abs();
        quantities.into_iter().map(value).fold(0.0, |sum, value| sum + value)
    }

    /// Returns the open positions.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Returns the orders that wait for their fill, in the order in which they were opened.
    pub fn open_orders(&self) -> &[OpenOrder] {
        &self.open_orders
    }

    /// Returns the cash, in USD.
    pub fn cash_usd(&self) -> f64 {
        self.cash_usd
    }

    /// Returns the sum of all fees, in USD.
    pub fn fees_usd(&self) -> f64 {
        self.fees_usd
    }

    /// Returns the realised profit at average cost, in USD, without fees.
    pub fn realized_pnl_usd(&self) -> f64 {
        self.realized_pnl_usd
    }

    /// Returns the greatest equity after a bar, or the start cash if that is greater, in USD.
    pub fn peak_equity_usd(&self) -> f64 {
        self.peak_equity_usd
    }

    /// Returns the form that a start-up checkpoint keeps.
    pub(crate) fn to_json(&self) -> Result<Json> {
        #[derive(Serialize)]
        struct Form<'a> {
            bars_waited: Vec<u64>,
            cash_usd: f64,
            fees_usd: f64,
            marks: &'a BTreeMap<String, f64>,
            open_orders: &'a [OpenOrder],
            peak_equity_usd: f64,
            positions: Vec<PositionRecord>,
            realized_pnl_usd: f64,
        }
        Ok(Json::of(&Form {
            bars_waited: self.open_orders.iter().map(|order| order.bars_waited).collect(),
            cash_usd: self.cash_usd,
            fees_usd: self.fees_usd,
            marks: &self.marks,
            open_orders: &self.open_orders,
            peak_equity_usd: self.peak_equity_usd,
            positions: self.book.records(),
            realized_pnl_usd: self.realized_pnl_usd,
        })?)
    }

    /// Reads that form.
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let number = |key| field.required(key)?.number();
        let (orders, waited) = (field.required("open_orders")?, field.required("bars_waited")?);
        let open_orders = orders.items()?.zip(waited.items()?).map(|(order, bars_waited)| {
            Ok(OpenOrder { bars_waited: bars_waited.count()?, ..OpenOrder::read(&order)? })
        });
        let marks = field.required("marks")?;
        let marks = marks.object()?.map(|mark| Ok((mark.name().to_owned(), mark.number()?)));
        Ok(Self {
            cash_usd: number("cash_usd")?,
            fees_usd: number("fees_usd")?,
            realized_pnl_usd: number("realized_pnl_usd")?,
            peak_equity_usd: number("peak_equity_usd")?,
            book: Book::read(&field.required("positions")?)?,
            marks: marks.collect::<Result<_, Problem>>()?,
            open_orders: open_orders.collect::<Result<_, Problem>>()?,
        })
    }
}
