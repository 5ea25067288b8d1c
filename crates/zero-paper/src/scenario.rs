//! What a paper run trades: limits, and orders that are used in turn.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use zero_bus::Value;

use crate::error::{Error, Result};
use crate::field::{Field, Problem};

/// The largest scenario file that is read, in bytes.
const MAX_SCENARIO_BYTES: u64 = 64 << 20;

/// Most characters that a scenario's name and a symbol may have: they stand in every record.
pub const MAX_NAME_CHARACTERS: usize = 1_000;

/// A paper scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What the run is called; part of every key and source.
    pub name: String,
    /// What the risk rules hold orders against.
    pub limits: Limits,
    /// At least one. Used in turn; after the last comes the first again.
    pub orders: Vec<Order>,
    /// Fields of the file that mean nothing to this program, as in `orders[0].note`.
    pub ignored: Vec<String>,
}

/// What the risk rules hold orders against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Most that one order may be worth, in USD.
    pub max_notional_usd: f64,
    /// Most that one position may be worth, in USD.
    pub max_position_notional_usd: f64,
    /// Accepted and kept; no rule uses it.
    pub max_leverage: f64,
    /// Least confidence of a risk-increasing order, 0 to 1.
    pub min_confidence: f64,
}

/// What somebody wants to trade.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What, in upper case.
    pub symbol: String,
    /// Which way.
    pub side: Side,
    /// How much, above 0.
    pub quantity: f64,
    /// At what price in USD, above 0.
    pub price: f64,
    /// How sure the strategy is, 0 to 1.
    pub confidence: f64,
    /// Whether it is meant to reduce risk only.
    pub reduce_only: bool,
}

/// Which way an order goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// More of it.
    Buy,
    /// Less of it.
    Sell,
}

impl Side {
    /// Reads `buy` or `sell`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_lowercase().as_str() {
            "buy" => Some(Self::Buy),
            "sell" => Some(Self::Sell),
            _ => None,
        }
    }

    /// The side that undoes this one.
    pub fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        })
    }
}

impl Order {
    /// Whether this is an order: a symbol in upper case, of no more than [`MAX_NAME_CHARACTERS`]; quantity, price and
    /// their product positive and finite; confidence 0 to 1.
    ///
    /// # Errors
    /// The field at fault, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |field, problem: &str| Err((field, problem.to_owned()));
        let positive = |number: f64| number > 0.0 && number.is_finite();
        if self.symbol.is_empty() {
            return wrong("symbol", "must not be empty");
        }
        if self.symbol != self.symbol.to_uppercase() {
            return wrong("symbol", "must be in upper case");
        }
        if self.symbol.chars().count() > MAX_NAME_CHARACTERS {
            return wrong("symbol", "is too long");
        }
        if !positive(self.quantity) {
            return Err(("quantity", format!("must be above 0, is {}", self.quantity)));
        }
        if !positive(self.price) {
            return Err(("price", format!("must be above 0, is {}", self.price)));
        }
        if !(0.0..=1.0).contains(&self.confidence) {
            return Err(("confidence", format!("must be between 0 and 1, is {}", self.confidence)));
        }
        if !self.notional_usd().is_finite() {
            return wrong("quantity", "times the price is beyond a double");
        }
        Ok(())
    }

    /// Quantity times price, in USD, not rounded.
    pub fn notional_usd(&self) -> f64 {
        self.quantity * self.price
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_notional_usd: 1000.0,
            max_position_notional_usd: 2500.0,
            max_leverage: 1.0,
            min_confidence: 0.60,
        }
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::Scenario`] naming the field where it cannot be run.
    pub fn load(path: &Path) -> Result<Self> {
        let mut text = Vec::new();
        let file = File::open(path).map_err(Error::io("read the scenario", path))?;
        file.take(MAX_SCENARIO_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(Error::io("read the scenario", path))?;
        let problem = |problem: String| Error::Scenario { path: path.to_owned(), problem };
        if text.len() as u64 > MAX_SCENARIO_BYTES {
            return Err(problem(format!("is longer than {MAX_SCENARIO_BYTES} bytes")));
        }
        let text = String::from_utf8(text).map_err(|error| {
            problem(format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
        })?;
        Self::parse(&text).map_err(problem)
    }

    /// Reads a scenario from JSON text.
    ///
    /// # Errors
    /// The field at fault, and why.
    ///
    /// ```
    /// use zero_paper::Scenario;
    ///
    /// let text = r#"{"orders": [{"symbol": "btc", "side": "buy", "quantity": -1, "price": 40000, "confidence": 0.9}]}"#;
    /// assert_eq!(Scenario::parse(text).unwrap_err(), "orders[0].quantity: must be above 0, is -1");
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        read(&Field::root(&document))
    }
}

fn read(root: &Field<'_>) -> Result<Scenario, Problem> {
    let mut ignored = Vec::new();
    let mut known = |field: &Field<'_>, keys: &[&str]| -> Result<(), Problem> {
        let unknown = field.object()?.filter(|member| !member.is_one_of(keys));
        ignored.extend(unknown.map(|member| member.path().to_owned()));
        Ok(())
    };
    known(root, &["name", "mode", "limits", "orders"])?;
    let name = match root.optional("name") {
        None => "paper-scenario".to_owned(),
        Some(name) if name.text()?.chars().count() > MAX_NAME_CHARACTERS => {
            return Err(name.problem(&format!("has more than {MAX_NAME_CHARACTERS} characters")));
        }
        Some(name) => name.text()?.to_owned(),
    };
    if let Some(mode) = root.optional("mode") {
        let text = mode.text()?;
        if text != "paper" {
            return Err(mode.problem(&format!("must be `paper`, is `{text}`; nothing else is run here")));
        }
    }
    let mut limits = Limits::default();
    if let Some(given) = root.optional("limits") {
        known(&given, &["max_notional_usd", "max_position_notional_usd", "max_leverage", "min_confidence"])?;
        let set = |key: &str, limit: &mut f64| -> Result<(), Problem> {
            if let Some(field) = given.optional(key) {
                *limit = field.positive()?;
            }
            Ok(())
        };
        set("max_notional_usd", &mut limits.max_notional_usd)?;
        set("max_position_notional_usd", &mut limits.max_position_notional_usd)?;
        set("max_leverage", &mut limits.max_leverage)?;
        set("min_confidence", &mut limits.min_confidence)?;
        if let Some(field) = given.optional("min_confidence")
            && limits.min_confidence > 1.0
        {
            return Err(field.problem(&format!("must be at most 1, is {}", limits.min_confidence)));
        }
    }
    let given = root.required("orders")?;
    let mut orders = Vec::new();
    for order in given.items()? {
        known(&order, &["symbol", "side", "quantity", "price", "confidence", "reduce_only"])?;
        orders.push(read_order(&order)?);
    }
    if orders.is_empty() {
        return Err(given.problem("must hold at least one order"));
    }
    Ok(Scenario { name, limits, orders, ignored })
}

/// The fields of an order, as a scenario and a decision record hold them.
pub(crate) fn read_order(field: &Field<'_>) -> Result<Order, Problem> {
    let side = field.required("side")?;
    let order = Order {
        symbol: field.required("symbol")?.text()?.to_uppercase(),
        side: Side::parse(side.text()?).ok_or_else(|| {
            side.problem(&format!("must be `buy` or `sell`, is `{}`", side.text().unwrap_or_default()))
        })?,
        quantity: field.required("quantity")?.number()?,
        price: field.required("price")?.number()?,
        confidence: field.required("confidence")?.number()?,
        reduce_only: field.optional("reduce_only").map_or(Ok(false), |reduce_only| reduce_only.bool())?,
    };
    match order.check() {
        Ok(()) => Ok(order),
        Err((at_fault, problem)) => Err(field.required(at_fault)?.problem(&problem)),
    }
}

impl Scenario {
    /// The order that a cycle hands in.
    pub fn order(&self, cycle_id: u64) -> &Order {
        let turn = (cycle_id.max(1) - 1) % self.orders.len() as u64;
        &self.orders[turn as usize]
    }
}
