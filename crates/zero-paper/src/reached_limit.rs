//! The limit that rejected an order of a run on market data, for people.

use std::fmt;

use serde::Serialize;
use zero_bus::Value;

use crate::order_record::ReachedLimit;
use crate::text::{escape, format_money_apart, format_numbers_apart};

/// A limit and the value that reached it, as the field `limit` of a decision states them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitNumbers {
    /// The limit.
    pub bound: f64,
    /// Its name in the run file, as in `max_notional_usd`.
    pub name: String,
    /// The value that was compared with it.
    pub value: f64,
}

impl LimitNumbers {
    /// Reads the limit of a decision; `None` if no limit rejected it.
    pub fn of(decision: &Value) -> Option<Self> {
        let limit = decision.get("limit")?;
        let number = |key| limit.get(key).and_then(Value::as_f64);
        let name = limit.get("name")?.as_str()?.to_owned();
        Some(Self { bound: number("bound")?, name, value: number("value")? })
    }

    /// What the limit restricts.
    fn subject(&self) -> String {
        let known = match self.name.as_str() {
            "max_notional_usd" => "order notional",
            "max_position_notional_usd" => "projected position",
            "min_confidence" => "confidence",
            "max_gross_exposure_usd" => "gross exposure",
            "max_daily_loss_usd" => "loss of the day",
            "max_drawdown_pct" => "drawdown",
            "max_orders_per_minute" => "accepted orders in the last minute",
            "max_data_age_s" => "age of the data",
            name => return escape(name),
        };
        known.to_owned()
    }

    /// Value and bound with as many digits as tell them apart, and their unit.
    fn numbers(&self) -> ([String; 2], &'static str) {
        let pair = [self.value, self.bound];
        match self.name.rsplit('_').next() {
            Some("usd") => (format_money_apart(pair), " USD"),
            Some("pct") => (format_numbers_apart(pair), " %"),
            Some("s") => (format_numbers_apart(pair), " s"),
            _ => (format_numbers_apart(pair), ""),
        }
    }
}

impl From<ReachedLimit> for LimitNumbers {
    fn from(limit: ReachedLimit) -> Self {
        let ReachedLimit { bound, name, value } = limit;
        Self { bound, name, value }
    }
}

impl fmt::Display for LimitNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([value, bound], unit) = self.numbers();
        let relation = match self.value.total_cmp(&self.bound) {
            std::cmp::Ordering::Less => "<",
            std::cmp::Ordering::Equal => "=",
            std::cmp::Ordering::Greater => ">",
        };
        let kind = if self.name.starts_with("min_") { "minimum" } else { "limit" };
        write!(f, "{} {value} {relation} {kind} {bound}{unit}", self.subject())
    }
}
