//! The file of a run on market data: limits, cash, costs, and how orders fill.

use std::path::Path;

use serde::Serialize;
use zero_bus::Value;

use crate::account::Costs;
use crate::error::{Error, Result};
use crate::field::{Field, Problem};
use crate::repeated_keys::repeated_keys;
use crate::scenario::{LIMITS, Limits, check_mode, read_limits, read_name, read_text};

/// When a market order fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FillRule {
    /// At the open of the symbol's next bar.
    #[default]
    NextOpen,
    /// At the close that the strategy has seen.
    Close,
}

impl FillRule {
    /// Returns the rule with this name in run files and records.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "next_open" => Some(Self::NextOpen),
            "close" => Some(Self::Close),
            _ => None,
        }
    }
}

/// A run on market data, as its file describes it.
///
/// It is a scenario file with more fields. Its orders, if it has any, are not used.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFile {
    /// The name of the run; part of every default idempotency key and source.
    pub name: String,
    /// Limits of the checks.
    pub limits: Limits,
    /// Cash at the start, in USD, positive.
    pub start_cash_usd: f64,
    /// What a fill costs.
    pub costs: Costs,
    /// When a market order fills.
    pub fill: FillRule,
    /// Number of bars of its symbol after which a limit order expires, at least 1.
    pub limit_bars: u64,
    /// Names of the unknown fields of the file. They have no effect. Unknown limits and costs are
    /// errors.
    pub ignored: Vec<String>,
    /// Paths of the members that repeat a key of their object. The last one counts.
    pub repeated: Vec<String>,
}

impl Default for RunFile {
    fn default() -> Self {
        Self {
            name: "paper-scenario".to_owned(),
            limits: Limits::default(),
            start_cash_usd: 10_000.0,
            costs: Costs::default(),
            fill: FillRule::default(),
            limit_bars: 1,
            ignored: Vec::new(),
            repeated: Vec::new(),
        }
    }
}

/// The limits of runs on market data, in addition to [`LIMITS`].
const MARKET_LIMITS: [&str; 5] = [
    "max_gross_exposure_usd",
    "max_daily_loss_usd",
    "max_drawdown_pct",
    "max_orders_per_minute",
    "max_data_age_s",
];

const COSTS: [&str; 3] = ["fee_bps", "half_spread_bps", "slippage_bps"];

/// Costs of 100 % and more would make a price of 0 or less.
const MAX_COST_BPS: f64 = 10_000.0;

/// With more, a run could lose all that it has and still open positions.
const MAX_DRAWDOWN_PCT: f64 = 100.0;

impl RunFile {
    /// Reads a run file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Scenario`] if its content is invalid.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&read_text(path)?).map_err(|problem| Error::Scenario { path: path.to_owned(), problem })
    }

    /// Parses a run file from JSON text.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    ///
    /// ```
    /// use zero_paper::market::run_file::RunFile;
    ///
    /// let run = RunFile::parse(r#"{"costs": {"fee_bps": 4.5}}"#).unwrap();
    /// assert_eq!((run.start_cash_usd, run.costs.fee_bps), (10000.0, 4.5));
    /// let error = RunFile::parse(r#"{"limit_bars": 0}"#).unwrap_err();
    /// assert_eq!(error, "limit_bars: must be a whole number, at least 1");
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        let run = read_run(&Field::root(&document))?;
        Ok(Self { repeated: repeated_keys(text), ..run })
    }
}

fn read_run(root: &Field<'_>) -> Result<RunFile, Problem> {
    let mut run = RunFile { name: read_name(root)?, ..RunFile::default() };
    check_mode(root)?;
    let known = ["name", "mode", "limits", "orders", "start_cash_usd", "costs", "fill", "limit_bars"];
    collect_unknown(root, &known, &mut run.ignored)?;
    if let Some(limits) = root.optional("limits") {
        check_known(&limits, &[&LIMITS[..], &MARKET_LIMITS[..]].concat())?;
        run.limits = read_market_limits(&limits)?;
    }
    if let Some(cash) = root.optional("start_cash_usd") {
        run.start_cash_usd = cash.positive()?;
    }
    if let Some(costs) = root.optional("costs") {
        check_known(&costs, &COSTS)?;
        run.costs = read_costs(&costs)?;
    }
    if let Some(fill) = root.optional("fill") {
        let text = fill.text()?;
        run.fill = FillRule::named(text)
            .ok_or_else(|| fill.problem(&format!("must be `next_open` or `close`, is `{text}`")))?;
    }
    if let Some(bars) = root.optional("limit_bars") {
        run.limit_bars = bars
            .count()
            .ok()
            .filter(|bars| *bars > 0)
            .ok_or_else(|| bars.problem("must be a whole number, at least 1"))?;
    }
    Ok(run)
}

fn collect_unknown(field: &Field<'_>, known: &[&str], ignored: &mut Vec<String>) -> Result<(), Problem> {
    let unknown = field.object()?.filter(|member| !member.is_one_of(known));
    ignored.extend(unknown.map(|member| member.path().to_owned()));
    Ok(())
}

/// Refuses unknown members: a misspelt limit must not leave a run without it.
fn check_known(field: &Field<'_>, known: &[&str]) -> Result<(), Problem> {
    match field.object()?.find(|member| !member.is_one_of(known)) {
        Some(unknown) => Err(unknown.problem(&format!("is not known; known are {}", known.join(", ")))),
        None => Ok(()),
    }
}

fn read_market_limits(given: &Field<'_>) -> Result<Limits, Problem> {
    let optional = |key| given.optional(key).map(|limit| limit.positive()).transpose();
    if let Some(drawdown) = given.optional("max_drawdown_pct")
        && drawdown.positive()? > MAX_DRAWDOWN_PCT
    {
        return Err(drawdown.problem("must be at most 100 (percent of the highest equity)"));
    }
    Ok(Limits {
        max_gross_exposure_usd: optional("max_gross_exposure_usd")?,
        max_daily_loss_usd: optional("max_daily_loss_usd")?,
        max_drawdown_pct: optional("max_drawdown_pct")?,
        max_orders_per_minute: optional("max_orders_per_minute")?,
        max_data_age_s: optional("max_data_age_s")?,
        ..read_limits(given)?
    })
}

fn read_costs(given: &Field<'_>) -> Result<Costs, Problem> {
    let cost = |key| -> Result<f64, Problem> {
        let Some(field) = given.optional(key) else { return Ok(0.0) };
        let cost = field.number()?;
        if (0.0..MAX_COST_BPS).contains(&cost) {
            return Ok(cost);
        }
        Err(field.problem(&format!("must be at least 0 and below {MAX_COST_BPS}, is {cost}")))
    };
    let costs = Costs {
        fee_bps: cost("fee_bps")?,
        half_spread_bps: cost("half_spread_bps")?,
        slippage_bps: cost("slippage_bps")?,
    };
    if costs.half_spread_bps + costs.slippage_bps >= MAX_COST_BPS {
        return Err(given.problem("half_spread_bps and slippage_bps together must be below 10000"));
    }
    Ok(costs)
}
