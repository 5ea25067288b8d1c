//! Drills of the limits that only runs on market data have: each drives a run without records just
//! below its limit, past it and back, and checks every decision and its numbers.

use serde::Serialize;

use crate::candle::{Bar, Candle};
use crate::market::checks::{DAILY_LOSS, DRAWDOWN, GROSS_EXPOSURE, ORDER_RATE, STALE_DATA};
use crate::market::cycle::{CycleInput, Rules, run as run_cycle};
use crate::market::record::OnFailure;
use crate::market::run_file::{FillRule, RunFile};
use crate::market::state::RunState;
use crate::order_record::ReachedLimit;
use crate::risk::{ReduceOnlyRule, RiskDecision, TradingMode};
use crate::scenario::{Limits, Side};
use crate::strategy::{Answer, Intent, StrategyIdentity};

/// The `schema_version` of the results.
pub const DRILLS_SCHEMA: &str = "zero.limit_drills.v1";

/// The results of all drills.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitDrills {
    /// One per limit.
    pub drills: Vec<LimitDrill>,
    /// Whether every drill passed.
    pub passed: bool,
    /// [`DRILLS_SCHEMA`].
    pub schema_version: &'static str,
}

/// The result of a drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitDrill {
    /// The limit.
    pub bound: f64,
    /// Whether the run file sets the limit. Otherwise the drill has an example of its own.
    pub bound_of_run_file: bool,
    /// The first deviation from what the limit demands.
    pub failure: Option<String>,
    /// Name of the limit in the run file.
    pub limit: &'static str,
    /// The orders, and what was decided about them.
    pub steps: Vec<DrillStep>,
}

/// An order of a drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillStep {
    /// Whether the order was accepted.
    pub allowed: bool,
    /// The limit that rejected it, with its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReachedLimit>,
    /// The situation and the order, for people.
    pub order: &'static str,
    /// Why, as the records state it.
    pub reason: String,
}

/// The most orders per minute that the drill submits.
const MAX_RATE: f64 = 10_000.0;

/// Drills each limit with the bound that a run file sets. No file is written and no order leaves
/// the process.
pub fn run(file: &RunFile) -> LimitDrills {
    let of = |limits: &Limits| {
        [
            ("max_gross_exposure_usd", limits.max_gross_exposure_usd, 1_000.0, gross_exposure as Drill),
            ("max_daily_loss_usd", limits.max_daily_loss_usd, 100.0, daily_loss),
            ("max_drawdown_pct", limits.max_drawdown_pct, 5.0, drawdown),
            (
                "max_orders_per_minute",
                limits.max_orders_per_minute.map(|rate| rate.min(MAX_RATE)),
                3.0,
                order_rate,
            ),
            ("max_data_age_s", limits.max_data_age_s, 60.0, data_age),
        ]
    };
    let drill = |(limit, set, example, steps): (&'static str, Option<f64>, f64, Drill)| {
        let bound = set.unwrap_or(example);
        let mut rig = Rig::new(limit, bound, file.start_cash_usd);
        let failure = steps(&mut rig, bound).err();
        LimitDrill { bound, bound_of_run_file: set.is_some(), failure, limit, steps: rig.steps }
    };
    let drills: Vec<LimitDrill> = of(&file.limits).into_iter().map(drill).collect();
    let passed = drills.iter().all(|drill| drill.failure.is_none());
    LimitDrills { drills, passed, schema_version: DRILLS_SCHEMA }
}

type Drill = fn(&mut Rig, f64) -> Result<(), String>;

/// Price of the first bar, in USD.
const PRICE: f64 = 100.0;

/// Length of a bar, in seconds.
const INTERVAL_S: f64 = 60.0;

fn gross_exposure(rig: &mut Rig, bound: f64) -> Result<(), String> {
    let quantity = bound / PRICE;
    rig.buys("a buy of 0.9 times the limit", 0.9 * quantity)?;
    rig.is_rejected("a buy of 0.2 times the limit in addition", 0.2 * quantity, GROSS_EXPOSURE)?;
    rig.sells("a sale of 0.5 times the limit, which reduces", 0.5 * quantity)?;
    rig.buys("a buy of 0.2 times the limit after it", 0.2 * quantity)
}

fn daily_loss(rig: &mut Rig, bound: f64) -> Result<(), String> {
    // A fall by 10 USD costs as much as the limit.
    let (quantity, small) = (bound / 10.0, bound / 10_000.0);
    rig.buys("a buy before the fall", quantity)?;
    rig.price = PRICE - 9.0;
    rig.buys("a buy after a loss of 0.9 times the limit", small)?;
    rig.price = PRICE - 11.0;
    rig.is_rejected("a buy after a loss of 1.1 times the limit", small, DAILY_LOSS)?;
    rig.sells("a sale, which reduces", small)?;
    rig.price = PRICE;
    rig.is_rejected("a buy on the same day, after the price recovered", small, DAILY_LOSS)?;
    rig.state.resume();
    rig.buys("a buy on the same day, after the operator's resume", small)?;
    rig.price = PRICE - 11.0;
    rig.is_rejected("a buy after the same loss again", small, DAILY_LOSS)?;
    rig.ts += 86_400.0;
    rig.buys("a buy on the next day", small)
}

fn drawdown(rig: &mut Rig, bound: f64) -> Result<(), String> {
    // A fall by 10 USD is as deep as the limit.
    let quantity = bound / 100.0 * rig.start_cash_usd / 10.0;
    let small = quantity / 1_000.0;
    rig.buys("a buy before the fall", quantity)?;
    rig.price = PRICE - 9.0;
    rig.buys("a buy in a drawdown of 0.9 times the limit", small)?;
    rig.price = PRICE - 11.0;
    rig.is_rejected("a buy in a drawdown of 1.1 times the limit", small, DRAWDOWN)?;
    rig.sells("a sale, which reduces", small)?;
    rig.ts += 86_400.0;
    rig.is_rejected("a buy on the next day", small, DRAWDOWN)?;
    rig.price = PRICE;
    rig.buys("a buy after the price recovered", small)?;
    // Without a position, the equity does not rise again.
    rig.price = PRICE - 11.0;
    let held = rig.state.account().book().position(SYMBOL).quantity;
    rig.sells("a sale of everything after another fall", held)?;
    rig.price = PRICE;
    rig.is_rejected("a buy without a position, after the price recovered", small, DRAWDOWN)?;
    rig.ts += 365.0 * 86_400.0;
    rig.is_rejected("a buy a year later", small, DRAWDOWN)
}

fn order_rate(rig: &mut Rig, bound: f64) -> Result<(), String> {
    let rate = bound.ceil().max(1.0) as u64;
    // Only the last one is a step of its own.
    for _ in 1..rate {
        let decided = rig.decide(Side::Buy, 1.0);
        if !decided.allowed {
            return Err(format!("an order below the limit was rejected: {}", decided.reason));
        }
        rig.ts -= INTERVAL_S;
    }
    rig.buys("the last order that the limit allows", 1.0)?;
    rig.ts -= INTERVAL_S;
    rig.is_rejected("one more within the minute", 1.0, ORDER_RATE)?;
    rig.ts -= INTERVAL_S;
    rig.sells("a sale within the minute, which reduces", 0.5)?;
    rig.ts += 60.0;
    rig.buys("a buy after the minute", 1.0)
}

fn data_age(rig: &mut Rig, bound: f64) -> Result<(), String> {
    rig.data_age_s = 0.9 * bound;
    rig.buys("a buy on a bar of 0.9 times the age", 1.0)?;
    rig.data_age_s = 1.1 * bound;
    rig.is_rejected("a buy on a bar of 1.1 times the age", 1.0, STALE_DATA)?;
    rig.sells("a sale on that bar, which reduces", 0.5)?;
    rig.data_age_s = 0.0;
    rig.buys("a buy on a new bar", 1.0)
}

/// A run with one limit, on bars that a drill makes up.
struct Rig {
    rules: Rules,
    state: RunState,
    start_cash_usd: f64,
    limit: &'static str,
    /// Start of the next bar, its price, and its age when it is decided on.
    ts: f64,
    price: f64,
    data_age_s: f64,
    steps: Vec<DrillStep>,
}

const SYMBOL: &str = "DRILL";

impl Rig {
    fn new(limit: &'static str, bound: f64, start_cash_usd: f64) -> Self {
        let only = |name: &str| (name == limit).then_some(bound);
        let limits = Limits {
            max_notional_usd: 1e299,
            max_position_notional_usd: 1e299,
            min_confidence: 0.5,
            max_gross_exposure_usd: only("max_gross_exposure_usd"),
            max_daily_loss_usd: only("max_daily_loss_usd"),
            max_drawdown_pct: only("max_drawdown_pct"),
            max_orders_per_minute: only("max_orders_per_minute"),
            max_data_age_s: only("max_data_age_s"),
            ..Limits::default()
        };
        // Orders fill at once, so that each step starts from the positions that it names.
        let run = RunFile { limits, start_cash_usd, fill: FillRule::Close, ..RunFile::default() };
        Self {
            rules: Rules { run, reduce_only_rule: ReduceOnlyRule::Enforce, on_failure: OnFailure::default() },
            state: RunState::new(start_cash_usd),
            start_cash_usd,
            limit,
            ts: 0.0,
            price: PRICE,
            data_age_s: 0.0,
            steps: Vec::new(),
        }
    }

    /// Runs a cycle with one order.
    fn decide(&mut self, side: Side, quantity: f64) -> DrillStep {
        let price = self.price;
        let candle = Candle {
            close: price,
            high: price,
            low: price,
            open: price,
            symbol: SYMBOL.to_owned(),
            ts: self.ts,
            volume: 0.0,
        };
        let bar = Bar { ts: self.ts, interval_s: INTERVAL_S, candles: vec![candle] };
        self.ts += INTERVAL_S;
        let strategy =
            StrategyIdentity { name: "drill".to_owned(), sha256: String::new(), version: String::new() };
        let input = CycleInput {
            source: "drill",
            bar: &bar,
            price: None,
            as_of: bar.close_ts(),
            data_age_s: Some(self.data_age_s),
            max_data_age_s: self.rules.run.limits.max_data_age_s,
            trading_mode: TradingMode::Open,
            flatten: None,
            strategy: &strategy,
        };
        let intent = Intent {
            symbol: SYMBOL.to_owned(),
            side,
            quantity,
            confidence: 1.0,
            reason: String::new(),
            reduce_only: false,
            limit_price: None,
            key: None,
        };
        let answer = Answer { intents: vec![intent], ..Answer::default() };
        let cycle = run_cycle(&mut self.state, &self.rules, &input, |_| Ok(answer));
        let decided = cycle.act.decisions.into_iter().next();
        let decided = decided.map(|decision| (decision.allowed, decision.limit, decision.reason));
        let (allowed, limit, reason) =
            decided.unwrap_or_else(|| (false, None, "no decision was made".to_owned()));
        DrillStep { allowed, limit, order: "", reason }
    }

    fn step(&mut self, order: &'static str, side: Side, quantity: f64) -> DrillStep {
        let step = DrillStep { order, ..self.decide(side, quantity) };
        self.steps.push(step.clone());
        step
    }

    fn is_allowed(&mut self, order: &'static str, side: Side, quantity: f64) -> Result<(), String> {
        let step = self.step(order, side, quantity);
        let allowed = step.allowed && step.reason == RiskDecision::Allowed.reason();
        if allowed {
            Ok(())
        } else {
            Err(format!("{order}: expected it to be accepted, found `{}`", step.reason))
        }
    }

    fn buys(&mut self, order: &'static str, quantity: f64) -> Result<(), String> {
        self.is_allowed(order, Side::Buy, quantity)
    }

    fn sells(&mut self, order: &'static str, quantity: f64) -> Result<(), String> {
        self.is_allowed(order, Side::Sell, quantity)
    }

    /// Submits a buy that the limit must reject with its reason and its numbers.
    fn is_rejected(&mut self, order: &'static str, quantity: f64, reason: &str) -> Result<(), String> {
        let step = self.step(order, Side::Buy, quantity);
        if step.allowed || step.reason != reason {
            return Err(format!("{order}: expected `{reason}`, found `{}`", step.reason));
        }
        match &step.limit {
            Some(limit) if limit.name == self.limit && limit.value >= limit.bound => Ok(()),
            limit => Err(format!("{order}: the numbers of the limit are {limit:?}")),
        }
    }
}
