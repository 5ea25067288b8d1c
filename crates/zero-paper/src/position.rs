//! What is held: signed quantities at average prices.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::scenario::{Order, Side};

/// What is held of one symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Above 0 for a long position, below 0 for a short one.
    pub quantity: f64,
    /// Average price in USD; 0 where nothing is held.
    pub avg_price: f64,
}

/// A position as the records show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PositionRecord {
    /// Average price in USD.
    pub avg_price: f64,
    /// What it is worth at that price in USD, to the cent.
    pub notional_usd: f64,
    /// Signed quantity.
    pub quantity: f64,
    /// Of what.
    pub symbol: String,
}

impl Position {
    /// What it is worth at its average price, in USD, not rounded.
    pub fn notional_usd(&self) -> f64 {
        (self.quantity * self.avg_price).abs()
    }

    /// The position after an order was filled at its price.
    ///
    /// Growing or opening averages the price by quantity; shrinking keeps it. An order that crosses zero sets
    /// it to its own price where what it leaves is at least as large as what it found, and keeps it where
    /// it is smaller: so it is in the recorded sessions.
    pub fn after(&self, order: &Order) -> Self {
        let bought = match order.side {
            Side::Buy => order.quantity,
            Side::Sell => -order.quantity,
        };
        let quantity = self.quantity + bought;
        if quantity == 0.0 {
            return Self::default();
        }
        let grows = self.quantity == 0.0 || (self.quantity > 0.0) == (bought > 0.0);
        let crosses = !grows && (self.quantity > 0.0) != (quantity > 0.0);
        let avg_price = if grows {
            (self.avg_price * self.quantity.abs() + order.price * order.quantity) / quantity.abs()
        } else if crosses && quantity.abs() >= self.quantity.abs() {
            order.price
        } else {
            self.avg_price
        };
        Self { quantity, avg_price }
    }
}

/// All positions that are open, by symbol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book(BTreeMap<String, Position>);

impl Book {
    /// What is held of a symbol: nothing, where there is no entry.
    pub fn position(&self, symbol: &str) -> Position {
        self.0.get(symbol).copied().unwrap_or_default()
    }

    /// Enters a position; one of quantity 0 is closed and leaves the book.
    pub fn set(&mut self, symbol: &str, position: Position) {
        if position.quantity == 0.0 {
            self.0.remove(symbol);
        } else {
            self.0.insert(symbol.to_owned(), position);
        }
    }

    /// How many are open.
    pub fn open_positions(&self) -> u64 {
        self.0.len() as u64
    }

    /// The open ones in the order of their symbols.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position)> {
        self.0.iter().map(|(symbol, position)| (symbol.as_str(), *position))
    }

    /// The open ones as the records show them, in the order of their symbols.
    pub fn records(&self) -> Vec<PositionRecord> {
        let record = |(symbol, position): (&str, Position)| PositionRecord {
            avg_price: position.avg_price,
            notional_usd: to_cents(position.notional_usd()),
            quantity: position.quantity,
            symbol: symbol.to_owned(),
        };
        self.iter().map(record).collect()
    }
}

/// Rounded to two places by the double's exact value, ties to even, as Python's `round(value, 2)`.
pub fn to_cents(value: f64) -> f64 {
    rounded(value, 2)
}

/// Rounded to some places by the double's exact value, ties to even.
pub(crate) fn rounded(value: f64, places: usize) -> f64 {
    // Formatting with a precision works on the exact value and rounds ties to even.
    format!("{value:.places$}").parse().unwrap_or(value)
}
