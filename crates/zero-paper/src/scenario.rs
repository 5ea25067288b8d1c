//! The scenario of a paper run: risk limits, and orders that are submitted in turn.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use zero_bus::Value;

use crate::error::{Error, Result};
use crate::field::{Field, Problem};
use crate::repeated_keys::repeated_keys;

/// Larger scenario files are refused.
const MAX_SCENARIO_BYTES: u64 = 64 << 20;

/// Longest scenario name and symbol, in characters. Both appear in every record.
pub const MAX_NAME_CHARACTERS: usize = 1_000;

/// A paper scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The name of the run; part of every idempotency key and source.
    pub name: String,
    /// Limits of the risk checks.
    pub limits: Limits,
    /// At least one order. Cycles use them in turn and start over after the last one.
    pub orders: Vec<Order>,
    /// Paths of the unknown fields of the file, as in `orders[0].note`. They have no effect.
    pub ignored: Vec<String>,
    /// Paths of the members that repeat a key of their object. The last one counts.
    pub repeated: Vec<String>,
}

/// Limits of the risk checks. Runs on market data use all of them, scenario runs the first four.
///
/// The serialized form is that of the records of runs on market data: every limit that is set and
/// that a check uses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Largest notional of one order, in USD.
    pub max_notional_usd: f64,
    /// Largest notional of one position, in USD.
    pub max_position_notional_usd: f64,
    /// Accepted for compatibility; no risk check uses it.
    #[serde(skip)]
    pub max_leverage: f64,
    /// Smallest confidence of a risk-increasing order, 0 to 1.
    pub min_confidence: f64,
    /// Largest sum of all positions and open orders, each valued at its mark, in USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gross_exposure_usd: Option<f64>,
    /// Largest loss of equity within one UTC day, in USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_daily_loss_usd: Option<f64>,
    /// Largest loss of equity since its peak, in percent of the peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drawdown_pct: Option<f64>,
    /// Most accepted orders within one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_orders_per_minute: Option<f64>,
    /// Greatest age of a bar when it is decided on, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_age_s: Option<f64>,
}

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Symbol of the instrument, in upper case.
    pub symbol: String,
    /// Buy or sell.
    pub side: Side,
    /// Quantity, positive.
    pub quantity: f64,
    /// Price in USD, positive.
    pub price: f64,
    /// The strategy's confidence, 0 to 1.
    pub confidence: f64,
    /// Whether the order is meant to reduce a position and never to open or increase one.
    pub reduce_only: bool,
}

/// The side of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Adds to the signed quantity of the position.
    Buy,
    /// Subtracts from the signed quantity of the position.
    Sell,
}

impl Side {
    /// Parses `buy` or `sell`, in upper or lower case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_lowercase().as_str() {
            "buy" => Some(Self::Buy),
            "sell" => Some(Self::Sell),
            _ => None,
        }
    }

    /// Returns a quantity with the sign that this side gives it.
    pub fn signed(self, quantity: f64) -> f64 {
        match self {
            Self::Buy => quantity,
            Self::Sell => -quantity,
        }
    }

    /// Returns the other side.
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
    /// Checks the fields: the symbol is in upper case and has 1 to [`MAX_NAME_CHARACTERS`]
    /// characters; quantity, price and their product are positive and finite; the confidence is 0
    /// to 1.
    ///
    /// # Errors
    /// The invalid field and the problem with it.
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
            return Err(("symbol", format!("has more than {MAX_NAME_CHARACTERS} characters")));
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
            return wrong("quantity", "times price is too large for a double");
        }
        Ok(())
    }

    /// Returns the notional value, quantity times price, in USD, not rounded.
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
            max_gross_exposure_usd: None,
            max_daily_loss_usd: None,
            max_drawdown_pct: None,
            max_orders_per_minute: None,
            max_data_age_s: None,
        }
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Scenario`] if its content is invalid.
    pub fn load(path: &Path) -> Result<Self> {
        let problem = |problem: String| Error::Scenario { path: path.to_owned(), problem };
        let text = read_text(path)?;
        Self::parse(&text).map_err(problem)
    }

    /// Parses a scenario from JSON text.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    ///
    /// ```
    /// use zero_paper::Scenario;
    ///
    /// let text = r#"{"orders": [{"symbol": "btc", "side": "buy",
    ///     "quantity": -1, "price": 40000, "confidence": 0.9}]}"#;
    /// let error = Scenario::parse(text).unwrap_err();
    /// assert_eq!(error, "orders[0].quantity: must be above 0, is -1");
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        let scenario = read_scenario(&Field::root(&document))?;
        Ok(Self { repeated: repeated_keys(text), ..scenario })
    }
}

/// Reads the text of a scenario or run file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(Error::io("read the scenario", path))?;
    file.take(MAX_SCENARIO_BYTES + 1).read_to_end(&mut text).map_err(Error::io("read the scenario", path))?;
    let problem = |problem: String| Error::Scenario { path: path.to_owned(), problem };
    if text.len() as u64 > MAX_SCENARIO_BYTES {
        return Err(problem(format!("is larger than {MAX_SCENARIO_BYTES} bytes")));
    }
    String::from_utf8(text).map_err(|error| {
        problem(format!("is not UTF-8: invalid byte at offset {}", error.utf8_error().valid_up_to()))
    })
}

/// Reads the name of a run.
pub(crate) fn read_name(root: &Field<'_>) -> Result<String, Problem> {
    match root.optional("name") {
        None => Ok("paper-scenario".to_owned()),
        Some(name) if name.text()?.chars().count() > MAX_NAME_CHARACTERS => {
            Err(name.problem(&format!("has more than {MAX_NAME_CHARACTERS} characters")))
        }
        Some(name) => Ok(name.text()?.to_owned()),
    }
}

/// Checks that the mode, if it is given, is `paper`.
pub(crate) fn check_mode(root: &Field<'_>) -> Result<(), Problem> {
    let Some(mode) = root.optional("mode") else { return Ok(()) };
    match mode.text()? {
        "paper" => Ok(()),
        text => Err(mode.problem(&format!("must be `paper`, is `{text}`; this runtime has no other mode"))),
    }
}

/// The names of the limits that every run has.
pub(crate) const LIMITS: [&str; 4] =
    ["max_notional_usd", "max_position_notional_usd", "max_leverage", "min_confidence"];

/// Reads the limits that every run has. Missing ones have their defaults.
pub(crate) fn read_limits(given: &Field<'_>) -> Result<Limits, Problem> {
    let mut limits = Limits::default();
    let set = |key: &'static str, limit: &mut f64| -> Result<(), Problem> {
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
    Ok(limits)
}

fn read_scenario(root: &Field<'_>) -> Result<Scenario, Problem> {
    let mut ignored = Vec::new();
    let mut collect_unknown = |field: &Field<'_>, known: &[&str]| -> Result<(), Problem> {
        let unknown = field.object()?.filter(|member| !member.is_one_of(known));
        ignored.extend(unknown.map(|member| member.path().to_owned()));
        Ok(())
    };
    collect_unknown(root, &["name", "mode", "limits", "orders"])?;
    let name = read_name(root)?;
    check_mode(root)?;
    let mut limits = Limits::default();
    if let Some(given) = root.optional("limits") {
        collect_unknown(&given, &LIMITS)?;
        limits = read_limits(&given)?;
    }
    let given = root.required("orders")?;
    let mut orders = Vec::new();
    for order in given.items()? {
        collect_unknown(&order, &["symbol", "side", "quantity", "price", "confidence", "reduce_only"])?;
        orders.push(read_order(&order)?);
    }
    if orders.is_empty() {
        return Err(given.problem("must contain at least one order"));
    }
    Ok(Scenario { name, limits, orders, ignored, repeated: Vec::new() })
}

/// Reads and checks the order fields, which scenarios and decision records share.
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
        Err((invalid, problem)) => Err(field.required(invalid)?.problem(&problem)),
    }
}

impl Scenario {
    /// Returns the order of a cycle. Cycles are numbered from 1.
    pub fn order(&self, cycle_id: u64) -> &Order {
        let index = (cycle_id.max(1) - 1) % self.orders.len() as u64;
        &self.orders[index as usize]
    }
}
