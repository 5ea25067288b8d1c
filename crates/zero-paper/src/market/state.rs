//! The state of a run: a function of its recorded cycles.
//!
//! The runtime changes it while it computes a cycle, and a restart changes it in the same way while
//! it reads the records of that cycle.

use std::collections::VecDeque;

use serde::Serialize;
use zero_bus::Json;

use crate::account::Account;
use crate::candle::Bar;
use crate::error::Result;
use crate::field::{Field, Problem};
use crate::order_record::{OpenOrder, OrderDecision, OrderFill};
use crate::strategy::StrategyIdentity;
use crate::used_keys::UsedKeys;

use super::record::{RecordedCycle, read_strategy};

/// The window of the order rate, in seconds.
const RATE_WINDOW_S: f64 = 60.0;

const DAY_S: f64 = 86_400.0;

/// The state of a run.
#[derive(Clone, Debug)]
pub struct RunState {
    account: Account,
    counts: RunCounts,
    last_cycle_id: u64,
    /// Every key, and the cycle that first decided about it.
    keys: UsedKeys,
    /// Times of the orders that were accepted in the last minute.
    accepted_at: VecDeque<f64>,
    day: Day,
    /// Equity at the end of the last cycle, in USD.
    end_equity_usd: f64,
    last_decisions: Vec<OrderDecision>,
    strategy: Option<StrategyIdentity>,
    strategy_state: Option<Json>,
}

/// What happened so far, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunCounts {
    /// Decisions about intents.
    pub decisions: u64,
    /// Fills.
    pub fills: u64,
    /// Rejected intents.
    pub rejections: u64,
    /// Cycles whose strategy failed.
    pub failures: u64,
}

/// The loss of the current UTC day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Day {
    /// Days since the Unix epoch; `None` before the first cycle.
    number: Option<f64>,
    start_equity_usd: f64,
    /// Greatest loss after a bar; `None` before the first bar.
    worst_loss_usd: Option<f64>,
}

impl RunState {
    /// Returns the state before the first cycle.
    pub fn new(start_cash_usd: f64) -> Self {
        Self {
            account: Account::new(start_cash_usd),
            counts: RunCounts::default(),
            last_cycle_id: 0,
            keys: UsedKeys::default(),
            accepted_at: VecDeque::new(),
            day: Day { number: None, start_equity_usd: start_cash_usd, worst_loss_usd: None },
            end_equity_usd: start_cash_usd,
            last_decisions: Vec::new(),
            strategy: None,
            strategy_state: None,
        }
    }

    /// Applies a recorded cycle.
    pub fn apply(&mut self, bar: &Bar, cycle: &RecordedCycle) {
        self.begin_cycle(cycle.as_of, bar);
        cycle.act.fills.iter().for_each(|fill| self.apply_fill(fill));
        for expired in &cycle.act.expired {
            self.account.close_order(&expired.order_id);
        }
        self.account.mark_bar(bar);
        if bar.candles.is_empty() {
            // An order that was submitted with its price.
            let prices = cycle
                .act
                .decisions
                .iter()
                .filter_map(|decision| Some((decision.symbol.as_str(), decision.price?)));
            prices.for_each(|(symbol, price)| self.account.mark(symbol, price));
        }
        self.day.start_equity_usd = cycle.day_start_equity_usd;
        self.day.worst_loss_usd = Some(cycle.worst_daily_loss_usd);
        self.account.update_peak();
        self.counts.failures += u64::from(cycle.failure.is_some());
        self.set_strategy(&cycle.strategy);
        if let Some(state) = &cycle.state {
            self.strategy_state = Some(state.clone());
        }
        cycle.act.decisions.iter().for_each(|decision| self.apply_decision(decision));
        cycle.act.opened.iter().for_each(|order| self.account.open_order(order.clone()));
        cycle.act.immediate_fills.iter().for_each(|fill| self.apply_fill(fill));
        self.end_cycle(cycle.cycle_id, cycle.act.decisions.clone());
    }

    /// Begins a cycle: the day may change, and open orders have waited for another bar.
    pub(super) fn begin_cycle(&mut self, as_of: f64, bar: &Bar) {
        let number = (as_of / DAY_S).floor();
        if self.day.number.is_none_or(|day| day < number) {
            let start_equity_usd = self.end_equity_usd;
            self.day = Day { number: Some(number), start_equity_usd, worst_loss_usd: None };
        }
        self.account.count_bar(bar);
        while self.accepted_at.front().is_some_and(|accepted| as_of - accepted >= RATE_WINDOW_S) {
            self.accepted_at.pop_front();
        }
    }

    pub(super) fn apply_fill(&mut self, fill: &OrderFill) {
        self.account.apply_fill(fill);
        self.counts.fills += 1;
    }

    pub(super) fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Updates peak and daily loss once the bar's closes are the marks.
    pub(super) fn value(&mut self) {
        self.account.update_peak();
        let loss = self.daily_loss_usd();
        self.day.worst_loss_usd = Some(self.day.worst_loss_usd.map_or(loss, |worst| worst.max(loss)));
    }

    pub(super) fn count_failure(&mut self) {
        self.counts.failures += 1;
    }

    /// Names the strategy of the cycle. The state of another one is dropped.
    pub(super) fn set_strategy(&mut self, strategy: &StrategyIdentity) {
        if self.strategy.as_ref() != Some(strategy) {
            self.strategy = Some(strategy.clone());
            self.strategy_state = None;
        }
    }

    pub(super) fn set_strategy_state(&mut self, state: Json) {
        self.strategy_state = Some(state);
    }

    pub(super) fn apply_decision(&mut self, decision: &OrderDecision) {
        self.counts.decisions += 1;
        if self.cycle_of_key(&decision.idempotency_key).is_none() {
            self.keys.insert(&decision.idempotency_key, self.last_cycle_id + 1);
        }
        if decision.allowed {
            self.accepted_at.push_back(decision.as_of);
        } else {
            self.counts.rejections += 1;
        }
    }

    pub(super) fn open_order(&mut self, order: OpenOrder) {
        self.account.open_order(order);
    }

    pub(super) fn end_cycle(&mut self, cycle_id: u64, decisions: Vec<OrderDecision>) {
        self.last_cycle_id = cycle_id;
        self.last_decisions = decisions;
        self.end_equity_usd = self.account.equity_usd();
    }

    /// Begins to count the day's loss anew, because the operator has resumed the run.
    pub fn resume(&mut self) {
        self.day.start_equity_usd = self.end_equity_usd;
        self.day.worst_loss_usd = None;
    }

    /// Returns the account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Returns the counts over the whole run.
    pub fn counts(&self) -> RunCounts {
        self.counts
    }

    /// Returns the number of the last cycle; 0 before the first one.
    pub fn last_cycle_id(&self) -> u64 {
        self.last_cycle_id
    }

    /// Returns the cycle that first decided about an idempotency key. `None` also if the keys of a
    /// long run cannot be searched; the runtime records nothing after that.
    pub fn cycle_of_key(&self, key: &str) -> Option<u64> {
        self.keys.place(key, self.last_cycle_id + 1).ok().flatten()
    }

    /// Returns an error if a search for a key has failed, so that nothing is recorded that depends
    /// on it.
    pub(super) fn check_keys(&self) -> Result<()> {
        self.keys.check()
    }

    /// Returns the number of keys that are not in an index.
    pub(super) fn recent_keys(&self) -> u64 {
        self.keys.recent()
    }

    pub(super) fn keys_mut(&mut self) -> &mut UsedKeys {
        &mut self.keys
    }

    /// Returns how many orders were accepted in the minute that ends with the cycle.
    pub fn orders_last_minute(&self) -> u64 {
        self.accepted_at.len() as u64
    }

    /// Returns the equity that the loss of the day is counted from, in USD.
    pub fn day_start_equity_usd(&self) -> f64 {
        self.day.start_equity_usd
    }

    /// Returns the loss of the day, in USD; negative for a profit.
    pub fn daily_loss_usd(&self) -> f64 {
        self.day.start_equity_usd - self.account.equity_usd()
    }

    /// Returns the greatest loss after a bar of the day, in USD.
    pub fn worst_daily_loss_usd(&self) -> f64 {
        self.day.worst_loss_usd.unwrap_or_else(|| self.daily_loss_usd())
    }

    /// Returns the decisions of the last cycle.
    pub fn last_decisions(&self) -> &[OrderDecision] {
        &self.last_decisions
    }

    /// Returns the strategy of the last cycle.
    pub fn strategy(&self) -> Option<&StrategyIdentity> {
        self.strategy.as_ref()
    }

    /// Returns the last state that the strategy of the last cycle has sent.
    pub fn strategy_state(&self) -> Option<&Json> {
        self.strategy_state.as_ref()
    }
}

impl RunState {
    /// Returns the form that a start-up checkpoint keeps: everything but the keys.
    pub(super) fn to_json(&self) -> Result<Json> {
        #[derive(Serialize)]
        struct Form<'a> {
            accepted_at: &'a VecDeque<f64>,
            account: Json,
            counts: RunCounts,
            day: Day,
            end_equity_usd: f64,
            last_cycle_id: u64,
            last_decisions: &'a [OrderDecision],
            strategy: Option<&'a StrategyIdentity>,
            strategy_state: Option<&'a Json>,
        }
        Ok(Json::of(&Form {
            accepted_at: &self.accepted_at,
            account: self.account.to_json()?,
            counts: self.counts,
            day: self.day,
            end_equity_usd: self.end_equity_usd,
            last_cycle_id: self.last_cycle_id,
            last_decisions: &self.last_decisions,
            strategy: self.strategy.as_ref(),
            strategy_state: self.strategy_state.as_ref(),
        })?)
    }

    /// Reads that form.
    pub(super) fn read(field: &Field<'_>, keys: UsedKeys) -> Result<Self, Problem> {
        let (counts, day) = (field.required("counts")?, field.required("day")?);
        let count = |key| counts.required(key)?.count();
        let accepted_at = field.required("accepted_at")?;
        let last_decisions = field.required("last_decisions")?;
        let strategy = field.optional_unless_null("strategy");
        Ok(Self {
            account: Account::read(&field.required("account")?)?,
            counts: RunCounts {
                decisions: count("decisions")?,
                fills: count("fills")?,
                rejections: count("rejections")?,
                failures: count("failures")?,
            },
            last_cycle_id: field.required("last_cycle_id")?.count()?,
            keys,
            accepted_at: accepted_at.items()?.map(|time| time.number()).collect::<Result<_, _>>()?,
            day: Day {
                number: day.required("number")?.nullable_number()?,
                start_equity_usd: day.required("start_equity_usd")?.number()?,
                worst_loss_usd: day.required("worst_loss_usd")?.nullable_number()?,
            },
            end_equity_usd: field.required("end_equity_usd")?.number()?,
            last_decisions: last_decisions
                .items()?
                .map(|decision| OrderDecision::read(&decision))
                .collect::<Result<_, _>>()?,
            strategy: strategy.map(|strategy| read_strategy(&strategy)).transpose()?,
            strategy_state: field
                .optional_unless_null("strategy_state")
                .map(|state| state.json())
                .transpose()?,
        })
    }
}
