//! Cash, positions at average cost and round trips, from fills and prices.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::position::{Position, to_cents};
use crate::scenario::Side;

/// A fill, as an event of the bus states it.
#[derive(Clone, Debug, PartialEq)]
pub struct FillRow {
    /// Time of the event, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Index of the event.
    pub event_index: u64,
    /// The fee in USD; 0 if the event states none.
    pub fee_usd: f64,
    /// The id of the fill, if it has one.
    pub fill_id: Option<String>,
    /// The id of the order, if it has one.
    pub order_id: Option<String>,
    /// The price in USD.
    pub price: f64,
    /// The quantity, positive.
    pub quantity: f64,
    /// The price in USD before spread and slippage, if the event states it.
    pub reference_price: Option<f64>,
    /// Buy or sell.
    pub side: Side,
    /// Symbol of the instrument.
    pub symbol: String,
}

/// A round trip: from the fill that opened a position to the one that closed it. A fill that
/// crosses zero ends one and begins the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trade {
    /// Time of the last fill, in seconds since the Unix epoch.
    pub closed_as_of: f64,
    /// Average price in USD at which the position was opened and increased.
    pub entry_price: f64,
    /// Average price in USD at which it was reduced and closed.
    pub exit_price: f64,
    /// The fees of its fills, in USD.
    pub fees_usd: f64,
    /// Number of its fills.
    pub fills: u64,
    /// Whether the position was long.
    pub long: bool,
    /// Time of the first fill, in seconds since the Unix epoch.
    pub opened_as_of: f64,
    /// The quantity that was opened in total.
    pub quantity: f64,
    /// Profit at average cost in USD, before fees.
    pub realized_pnl_usd: f64,
    /// Symbol of the instrument.
    pub symbol: String,
}

impl Trade {
    /// Returns the profit after fees, in USD.
    pub fn net_pnl_usd(&self) -> f64 {
        self.realized_pnl_usd - self.fees_usd
    }

    /// Returns the profit after fees in percent of the value at the entry price.
    pub fn return_pct(&self) -> f64 {
        self.net_pnl_usd() / (self.quantity * self.entry_price) * 100.0
    }
}

/// Figures over all round trips that are closed. A trade wins if its profit after fees is above 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TradeFigures {
    /// The best profit after fees, in USD; negative if every trade lost, 0 without trades.
    pub best_usd: f64,
    /// Number of trades.
    pub count: u64,
    /// Sum of the losses after fees, in USD, as a positive number.
    pub gross_loss_usd: f64,
    /// Sum of the profits after fees, in USD.
    pub gross_profit_usd: f64,
    /// Trades with a profit after fees.
    pub won: u64,
    /// The worst profit after fees, in USD; positive if every trade won, 0 without trades.
    pub worst_usd: f64,
}

/// Figures of one symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SymbolFigures {
    /// Sum of quantity times price of all buys, in USD.
    pub bought_usd: f64,
    /// Fees in USD.
    pub fees_usd: f64,
    /// Number of fills.
    pub fills: u64,
    /// Profit at average cost in USD, before fees.
    pub realized_pnl_usd: f64,
    /// Number of rejected orders.
    pub rejections: u64,
    /// Sum of quantity times price of all sales, in USD.
    pub sold_usd: f64,
    /// Number of closed round trips.
    pub trades: u64,
    /// Profit of the open position at its mark, in USD.
    pub unrealized_pnl_usd: f64,
}

/// An open position at its mark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenPosition {
    /// Average price in USD.
    pub avg_price: f64,
    /// The last price of the symbol, in USD.
    pub mark_price: f64,
    /// Notional at the average price, in USD, rounded to cents.
    pub notional_usd: f64,
    /// Signed quantity.
    pub quantity: f64,
    /// Symbol of the instrument.
    pub symbol: String,
    /// Profit at the mark, in USD.
    pub unrealized_pnl_usd: f64,
}

/// A position, as a snapshot states it.
pub(super) struct HeldPosition {
    pub(super) symbol: String,
    /// Signed.
    pub(super) quantity: f64,
    pub(super) avg_price: f64,
    pub(super) mark_price: Option<f64>,
}

/// Where a mark comes from. A later variant is better evidence and replaces an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MarkSource {
    Fill,
    Decision,
    Candle,
}

/// The newest of these are kept.
pub(super) const MAX_KEPT_TRADES: usize = 1000;

/// An account in one currency. The sums are taken in the order of the events.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) cash_usd: f64,
    pub(super) fees_usd: f64,
    pub(super) fills: u64,
    pub(super) realized_pnl_usd: f64,
    /// What spread and slippage cost, for the fills that state their reference price.
    pub(super) price_costs_usd: f64,
    pub(super) trades: TradeFigures,
    pub(super) last_trades: VecDeque<Trade>,
    holdings: BTreeMap<String, Holding>,
}

#[derive(Clone, Debug, Default)]
struct Holding {
    position: Position,
    mark: Option<(MarkSource, f64)>,
    open: Option<OpenTrade>,
    figures: SymbolFigures,
}

/// A round trip in progress.
#[derive(Clone, Copy, Debug, Default)]
struct OpenTrade {
    long: bool,
    opened_as_of: f64,
    fills: u64,
    entry_quantity: f64,
    entry_usd: f64,
    exit_quantity: f64,
    exit_usd: f64,
    fees_usd: f64,
    realized_pnl_usd: f64,
}

/// Sums over the open positions at their marks, taken in the order of the symbols.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exposure {
    pub(super) gross_usd: f64,
    pub(super) net_usd: f64,
    pub(super) unrealized_pnl_usd: f64,
}

/// The new position of a fill, and what it closes.
struct Change {
    position: Position,
    closed_quantity: f64,
    realized_pnl_usd: f64,
}

impl Change {
    /// Average cost: an increase weights the average price by quantity, a reduction keeps it, and a
    /// fill that crosses zero closes the old position and opens the rest at its own price.
    fn of(position: Position, fill: &FillRow) -> Self {
        let Position { quantity, avg_price } = position;
        let signed = signed_quantity(fill);
        let new_quantity = quantity + signed;
        if quantity == 0.0 || (quantity > 0.0) == (signed > 0.0) {
            let total_usd = avg_price * quantity.abs() + fill.price * fill.quantity;
            let position = Position { quantity: new_quantity, avg_price: total_usd / new_quantity.abs() };
            return Self { position, closed_quantity: 0.0, realized_pnl_usd: 0.0 };
        }
        let crosses_zero = new_quantity != 0.0 && (new_quantity > 0.0) != (quantity > 0.0);
        let closed_quantity = if crosses_zero { quantity.abs() } else { fill.quantity };
        let new_price = match new_quantity {
            0.0 => 0.0,
            _ if crosses_zero => fill.price,
            _ => avg_price,
        };
        let realized_pnl_usd = closed_quantity * (fill.price - avg_price) * quantity.signum();
        let position = Position { quantity: new_quantity, avg_price: new_price };
        Self { position, closed_quantity, realized_pnl_usd }
    }
}

fn signed_quantity(fill: &FillRow) -> f64 {
    match fill.side {
        Side::Buy => fill.quantity,
        Side::Sell => -fill.quantity,
    }
}

impl Ledger {
    pub(super) fn new(start_cash_usd: f64) -> Self {
        Self {
            cash_usd: start_cash_usd,
            fees_usd: 0.0,
            fills: 0,
            realized_pnl_usd: 0.0,
            price_costs_usd: 0.0,
            trades: TradeFigures::default(),
            last_trades: VecDeque::new(),
            holdings: BTreeMap::new(),
        }
    }

    /// Adds a position that was opened before. Its round trip counts from this time on.
    pub(super) fn begin_with(&mut self, held: &HeldPosition, as_of: f64) {
        let HeldPosition { symbol, quantity, avg_price, mark_price } = held;
        if let Some(price) = mark_price {
            self.set_mark(symbol, MarkSource::Fill, *price);
        }
        let holding = self.holding(symbol);
        holding.position = Position { quantity: *quantity, avg_price: *avg_price };
        holding.open = Some(OpenTrade {
            long: *quantity > 0.0,
            opened_as_of: as_of,
            entry_quantity: quantity.abs(),
            entry_usd: quantity.abs() * avg_price,
            ..OpenTrade::default()
        });
    }

    /// Sets the mark of a symbol, unless its present mark is from a better source.
    pub(super) fn set_mark(&mut self, symbol: &str, source: MarkSource, price: f64) {
        let holding = self.holding(symbol);
        if holding.mark.is_none_or(|(present, _)| present <= source) {
            holding.mark = Some((source, price));
        }
    }

    pub(super) fn reject(&mut self, symbol: &str, max_symbols: usize) {
        if self.holdings.len() < max_symbols || self.holdings.contains_key(symbol) {
            self.holding(symbol).figures.rejections += 1;
        }
    }

    /// Applies a fill and returns the trade that it closes.
    ///
    /// # Errors
    /// A figure would exceed the range of a double. The ledger is unchanged then.
    pub(super) fn fill(&mut self, fill: &FillRow) -> Result<Option<Trade>, String> {
        self.set_mark(&fill.symbol, MarkSource::Fill, fill.price);
        let mut holding = self.holding(&fill.symbol).clone();
        let change = Change::of(holding.position, fill);
        let cash_usd = self.cash_usd - signed_quantity(fill) * fill.price - fill.fee_usd;
        let realized_pnl_usd = self.realized_pnl_usd + change.realized_pnl_usd;
        let price_costs_usd = self.price_costs_usd + price_cost_usd(fill);
        let notional_usd = fill.quantity * fill.price;
        let figures = &mut holding.figures;
        match fill.side {
            Side::Buy => figures.bought_usd += notional_usd,
            Side::Sell => figures.sold_usd += notional_usd,
        }
        let all = [
            cash_usd,
            realized_pnl_usd,
            price_costs_usd,
            change.position.quantity,
            change.position.avg_price,
            self.fees_usd + fill.fee_usd,
            figures.bought_usd + figures.sold_usd,
        ];
        if all.iter().any(|figure| !figure.is_finite()) {
            return Err("the sums would exceed the range of a double".to_owned());
        }
        figures.fills += 1;
        figures.fees_usd += fill.fee_usd;
        figures.realized_pnl_usd += change.realized_pnl_usd;
        let trade = holding.advance_trade(fill, &change);
        holding.position = change.position;
        holding.figures.trades += u64::from(trade.is_some());
        self.holdings.insert(fill.symbol.clone(), holding);
        self.cash_usd = cash_usd;
        self.fees_usd += fill.fee_usd;
        self.fills += 1;
        self.realized_pnl_usd = realized_pnl_usd;
        self.price_costs_usd = price_costs_usd;
        if let Some(trade) = &trade {
            self.keep(trade);
        }
        Ok(trade)
    }

    fn keep(&mut self, trade: &Trade) {
        let net_usd = trade.net_pnl_usd();
        self.trades.count += 1;
        if net_usd > 0.0 {
            self.trades.won += 1;
            self.trades.gross_profit_usd += net_usd;
        } else {
            self.trades.gross_loss_usd -= net_usd;
        }
        let first = self.trades.count == 1;
        self.trades.best_usd = if first { net_usd } else { self.trades.best_usd.max(net_usd) };
        self.trades.worst_usd = if first { net_usd } else { self.trades.worst_usd.min(net_usd) };
        if self.last_trades.len() == MAX_KEPT_TRADES {
            self.last_trades.pop_front();
        }
        self.last_trades.push_back(trade.clone());
    }

    pub(super) fn exposure(&self) -> Exposure {
        let mut exposure = Exposure::default();
        for holding in self.holdings.values().filter(|holding| holding.position.quantity != 0.0) {
            let value_usd = holding.position.quantity * holding.mark_price();
            exposure.gross_usd += value_usd.abs();
            exposure.net_usd += value_usd;
            exposure.unrealized_pnl_usd += holding.unrealized_pnl_usd();
        }
        exposure
    }

    pub(super) fn positions(&self) -> Vec<OpenPosition> {
        let open = self.holdings.iter().filter(|(_, holding)| holding.position.quantity != 0.0);
        open.map(|(symbol, holding)| OpenPosition {
            avg_price: holding.position.avg_price,
            mark_price: holding.mark_price(),
            notional_usd: to_cents(holding.position.notional_usd()),
            quantity: holding.position.quantity,
            symbol: symbol.clone(),
            unrealized_pnl_usd: holding.unrealized_pnl_usd(),
        })
        .collect()
    }

    /// The figures of every symbol that has a fill or a rejection.
    pub(super) fn by_symbol(&self) -> BTreeMap<String, SymbolFigures> {
        let traded = |figures: &SymbolFigures| figures.fills > 0 || figures.rejections > 0;
        let traded = self.holdings.iter().filter(|(_, holding)| traded(&holding.figures));
        traded
            .map(|(symbol, holding)| {
                let unrealized_pnl_usd = holding.unrealized_pnl_usd();
                (symbol.clone(), SymbolFigures { unrealized_pnl_usd, ..holding.figures })
            })
            .collect()
    }

    fn holding(&mut self, symbol: &str) -> &mut Holding {
        self.holdings.entry(symbol.to_owned()).or_default()
    }
}

/// What spread and slippage cost in USD; 0 if the fill does not state its reference price.
fn price_cost_usd(fill: &FillRow) -> f64 {
    let Some(reference) = fill.reference_price else { return 0.0 };
    signed_quantity(fill) * (fill.price - reference)
}

impl Holding {
    fn mark_price(&self) -> f64 {
        self.mark.map_or(self.position.avg_price, |(_, price)| price)
    }

    fn unrealized_pnl_usd(&self) -> f64 {
        match self.position.quantity {
            0.0 => 0.0,
            quantity => quantity * (self.mark_price() - self.position.avg_price),
        }
    }

    /// Adds a fill to the round trip in progress. Returns the round trip that it closes. A position
    /// that is only a rounding residue counts as closed.
    fn advance_trade(&mut self, fill: &FillRow, change: &Change) -> Option<Trade> {
        let closed_part = change.closed_quantity / fill.quantity;
        let mut closed = None;
        if change.closed_quantity > 0.0
            && let Some(open) = &mut self.open
        {
            open.fills += 1;
            open.exit_quantity += change.closed_quantity;
            open.exit_usd += change.closed_quantity * fill.price;
            open.fees_usd += fill.fee_usd * closed_part;
            open.realized_pnl_usd += change.realized_pnl_usd;
            let is_over = change.position.quantity == 0.0
                || change.position.is_rounding_residue()
                || (change.position.quantity > 0.0) != open.long;
            if is_over {
                closed = self.open.take().map(|open| open.close(fill));
            }
        }
        let opened_quantity = fill.quantity - change.closed_quantity;
        if opened_quantity > 0.0 && change.position.quantity != 0.0 {
            let long = change.position.quantity > 0.0;
            let begin = || OpenTrade { long, opened_as_of: fill.as_of, ..OpenTrade::default() };
            let open = self.open.get_or_insert_with(begin);
            open.fills += 1;
            open.entry_quantity += opened_quantity;
            open.entry_usd += opened_quantity * fill.price;
            open.fees_usd += fill.fee_usd * (1.0 - closed_part);
        }
        closed
    }
}

impl OpenTrade {
    fn close(self, fill: &FillRow) -> Trade {
        Trade {
            closed_as_of: fill.as_of,
            entry_price: self.entry_usd / self.entry_quantity,
            exit_price: self.exit_usd / self.exit_quantity,
            fees_usd: self.fees_usd,
            fills: self.fills,
            long: self.long,
            opened_as_of: self.opened_as_of,
            quantity: self.entry_quantity,
            realized_pnl_usd: self.realized_pnl_usd,
            symbol: fill.symbol.clone(),
        }
    }
}
