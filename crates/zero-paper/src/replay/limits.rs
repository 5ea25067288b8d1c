//! Other limits for a what-if replay.

use zero_bus::Value;

use crate::field::Field;
use crate::scenario::Limits;

/// The limits that a run of a scenario has. `max_leverage` is accepted as in scenarios; no check
/// uses it.
const SCENARIO_LIMITS: [&str; 4] =
    ["max_notional_usd", "max_position_notional_usd", "max_leverage", "min_confidence"];

/// The limits that only runs on market data have.
const MARKET_LIMITS: [&str; 5] = [
    "max_gross_exposure_usd",
    "max_daily_loss_usd",
    "max_drawdown_pct",
    "max_orders_per_minute",
    "max_data_age_s",
];

/// Limits that replace the recorded ones. A limit of `None` keeps the recorded value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitOverrides {
    max_notional_usd: Option<f64>,
    max_position_notional_usd: Option<f64>,
    min_confidence: Option<f64>,
    /// In the order of [`MARKET_LIMITS`].
    market: [Option<f64>; 5],
}

impl LimitOverrides {
    /// Parses limits from JSON text: either an object of limits, or a scenario or run file with
    /// `limits`.
    ///
    /// # Errors
    /// The path of the invalid or unknown field and the problem with it.
    ///
    /// ```
    /// use zero_paper::replay::LimitOverrides;
    /// assert!(LimitOverrides::parse(r#"{"max_notional_usd": 5000}"#).is_ok());
    /// assert!(LimitOverrides::parse(r#"{"max_drawdown_pct": 5}"#).is_ok());
    /// let error = LimitOverrides::parse(r#"{"max_notonal_usd": 5000}"#).unwrap_err();
    /// assert!(error.starts_with("max_notonal_usd: is not a limit"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        let root = Field::root(&document);
        let given = match root.optional("orders") {
            Some(_) => root.required("limits")?,
            None => root.optional("limits").unwrap_or(root),
        };
        let known = [&SCENARIO_LIMITS[..], &MARKET_LIMITS[..]].concat();
        if let Some(unknown) = given.object()?.find(|member| !member.is_one_of(&known)) {
            return Err(unknown.problem(&format!("is not a limit; the limits are {}", known.join(", "))));
        }
        let limit = |key| given.optional(key).map(|field| field.positive()).transpose();
        let min_confidence = limit("min_confidence")?;
        if min_confidence.is_some_and(|min_confidence| min_confidence > 1.0) {
            return Err(given.required("min_confidence")?.problem("must be at most 1"));
        }
        let mut market = [None; 5];
        for (value, key) in market.iter_mut().zip(MARKET_LIMITS) {
            *value = limit(key)?;
        }
        Ok(Self {
            max_notional_usd: limit("max_notional_usd")?,
            max_position_notional_usd: limit("max_position_notional_usd")?,
            min_confidence,
            market,
        })
    }

    /// Returns the name of a limit that only runs on market data have, if one is given.
    pub(super) fn market_limit(&self) -> Option<&'static str> {
        MARKET_LIMITS.into_iter().zip(self.market).find_map(|(name, value)| value.map(|_| name))
    }

    /// Returns the recorded limits with these overrides.
    pub(super) fn apply(&self, recorded: Limits) -> Limits {
        let [gross_exposure, daily_loss, drawdown, orders, data_age] = self.market;
        Limits {
            max_notional_usd: self.max_notional_usd.unwrap_or(recorded.max_notional_usd),
            max_position_notional_usd: self
                .max_position_notional_usd
                .unwrap_or(recorded.max_position_notional_usd),
            max_leverage: recorded.max_leverage,
            min_confidence: self.min_confidence.unwrap_or(recorded.min_confidence),
            max_gross_exposure_usd: gross_exposure.or(recorded.max_gross_exposure_usd),
            max_daily_loss_usd: daily_loss.or(recorded.max_daily_loss_usd),
            max_drawdown_pct: drawdown.or(recorded.max_drawdown_pct),
            max_orders_per_minute: orders.or(recorded.max_orders_per_minute),
            max_data_age_s: data_age.or(recorded.max_data_age_s),
        }
    }
}
