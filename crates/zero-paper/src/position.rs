//! Positions: signed quantities at average prices.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::field::{Field, Problem};
use crate::scenario::{Order, Side};

/// The position in one symbol. The default is a closed position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Positive for a long position, negative for a short one, 0 for a closed one.
    pub quantity: f64,
    /// Average price in USD; 0 for a closed position.
    pub avg_price: f64,
}

/// A position in the form of the records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PositionRecord {
    /// Average price in USD.
    pub avg_price: f64,
    /// Notional value at the average price, in USD, rounded to cents.
    pub notional_usd: f64,
    /// Signed quantity.
    pub quantity: f64,
    /// Symbol of the instrument.
    pub symbol: String,
}

/// The notional of a rounding residue is below this, in USD.
const MAX_RESIDUE_USD: f64 = 1e-6;

impl PositionRecord {
    /// Returns the position of this record.
    pub fn position(&self) -> Position {
        Position { quantity: self.quantity, avg_price: self.avg_price }
    }
}

impl Position {
    /// Returns the notional value at the average price, in USD, not rounded.
    pub fn notional_usd(&self) -> f64 {
        (self.quantity * self.avg_price).abs()
    }

    /// Whether this is what rounding left of a closed position: it is open, but worth less than a
    /// millionth of a dollar. Sums of doubles leave such a residue, as 0.1 + 0.2 - 0.3 does.
    pub fn is_rounding_residue(&self) -> bool {
        self.quantity != 0.0 && self.notional_usd() < MAX_RESIDUE_USD
    }

    /// Returns what follows the position in a text for people: nothing, or that it is a rounding
    /// residue.
    pub fn residue_note(&self) -> &'static str {
        if self.is_rounding_residue() { " (rounding residue)" } else { "" }
    }

    /// Whether `projected`, the position after an order, is smaller than this one and not on the
    /// other side.
    pub fn is_reduced_by(&self, projected: &Self) -> bool {
        projected.quantity.abs() < self.quantity.abs()
            && (projected.quantity == 0.0 || (projected.quantity > 0.0) == (self.quantity > 0.0))
    }

    /// Returns the position after an order is filled at the order's price.
    ///
    /// Opening or increasing a position weights the average price by quantity. Reducing it keeps
    /// the average price. An order that crosses zero sets the average price to the order's price if
    /// the new position is at least as large as the old one, and keeps it otherwise. The recorded
    /// sessions require this rule.
    pub fn after(&self, order: &Order) -> Self {
        let change = match order.side {
            Side::Buy => order.quantity,
            Side::Sell => -order.quantity,
        };
        let quantity = self.quantity + change;
        if quantity == 0.0 {
            return Self::default();
        }
        let increases = self.quantity == 0.0 || (self.quantity > 0.0) == (change > 0.0);
        let crosses_zero = !increases && (self.quantity > 0.0) != (quantity > 0.0);
        let avg_price = if increases {
            (self.avg_price * self.quantity.abs() + order.price * order.quantity) / quantity.abs()
        } else if crosses_zero && quantity.abs() >= self.quantity.abs() {
            order.price
        } else {
            self.avg_price
        };
        Self { quantity, avg_price }
    }
}

impl Position {
    /// Returns the position after a fill in a run on market data, where an order that crosses zero
    /// always opens the rest at the price of the fill.
    pub fn after_fill(&self, signed_quantity: f64, price: f64) -> Self {
        let quantity = self.quantity + signed_quantity;
        if quantity == 0.0 {
            return Self::default();
        }
        let increases = self.quantity == 0.0 || (self.quantity > 0.0) == (signed_quantity > 0.0);
        let avg_price = if increases {
            (self.avg_price * self.quantity.abs() + price * signed_quantity.abs()) / quantity.abs()
        } else if (self.quantity > 0.0) == (quantity > 0.0) {
            self.avg_price
        } else {
            price
        };
        Self { quantity, avg_price }
    }
}

/// The open positions by symbol. Invariant: no position in the book has quantity 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book(BTreeMap<String, Position>);

impl Book {
    /// Returns the position in a symbol; the closed position if the book has none.
    pub fn position(&self, symbol: &str) -> Position {
        self.0.get(symbol).copied().unwrap_or_default()
    }

    /// Sets the position in a symbol. A position of quantity 0 is removed from the book.
    pub fn set(&mut self, symbol: &str, position: Position) {
        if position.quantity == 0.0 {
            self.0.remove(symbol);
        } else {
            self.0.insert(symbol.to_owned(), position);
        }
    }

    /// Returns the number of open positions.
    pub fn open_positions(&self) -> u64 {
        self.0.len() as u64
    }

    /// Returns how many of the open positions are rounding residues, see
    /// [`Position::is_rounding_residue`].
    pub fn rounding_residues(&self) -> u64 {
        self.0.values().filter(|position| position.is_rounding_residue()).count() as u64
    }

    /// Returns the open positions, ordered by symbol.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position)> {
        self.0.iter().map(|(symbol, position)| (symbol.as_str(), *position))
    }

    /// Reads the open positions from the form of the records.
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let position = |record: Field<'_>| {
            let number = |key| record.required(key)?.number();
            let position = Position { quantity: number("quantity")?, avg_price: number("avg_price")? };
            Ok((record.required("symbol")?.text()?.to_owned(), position))
        };
        field.items()?.map(position).collect::<Result<_, Problem>>().map(Self)
    }

    /// Returns the open positions in the form of the records, ordered by symbol.
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

/// Rounds to two decimals by the exact value of the double, ties to even, like Python's
/// `round(value, 2)`.
pub fn to_cents(value: f64) -> f64 {
    rounded(value, 2)
}

/// Rounds to `places` decimals by the exact value of the double, ties to even.
pub(crate) fn rounded(value: f64, places: usize) -> f64 {
    // Formatting with a precision uses the exact value and rounds ties to even.
    format!("{value:.places$}").parse().unwrap_or(value)
}
