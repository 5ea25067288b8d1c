//! The paper engine: takes orders, decides about them, and fills accepted ones at the order's
//! price.
//!
//! The journal is a write-ahead log of decisions. [`Engine::submit`] makes a decision durable
//! before it changes the state, so replaying the journal yields the state.

use std::collections::HashMap;

use crate::decision::{Decision, Submission};
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalEntry};
use crate::position::{Book, Position};
use crate::risk::{self, ReduceOnlyRule, RiskDecision, TradingMode};
use crate::scenario::{Limits, Order};

/// The paper engine. Its state is a function of its journal, apart from limits, trading mode and
/// reduce-only rule.
pub struct Engine {
    limits: Limits,
    trading_mode: TradingMode,
    reduce_only_rule: ReduceOnlyRule,
    journal: Journal,
    book: Book,
    counts: Counts,
    last_decision_as_of: Option<f64>,
    /// Idempotency keys in use, with the journal location of each decision (see
    /// [`JournalEntry::location`]).
    keys: HashMap<String, u64>,
    /// The price of the last order of each symbol, also of a rejected one.
    last_prices: HashMap<String, f64>,
}

/// Number of decisions, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All decisions.
    pub decisions: u64,
    /// Accepted orders; each was filled.
    pub fills: u64,
    /// Rejected orders.
    pub rejections: u64,
}

/// The result of a submitted order.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The recorded decision.
    pub decision: Decision,
    /// The idempotency key was in use: `decision` is the earlier decision, and the order had no
    /// effect.
    pub repeated: bool,
}

impl Engine {
    /// Rebuilds the engine's state from a journal.
    ///
    /// # Errors
    /// [`Error::Journal`] with the first line that is not a decision, or that reuses an idempotency
    /// key.
    pub fn recover(limits: Limits, journal: Journal) -> Result<Self> {
        Self::recover_with(limits, journal, |_, _| {})
    }

    /// Like [`Engine::recover`]. Passes each entry to `inspect` before it is applied, with its
    /// position counted from 1.
    pub(crate) fn recover_with(
        limits: Limits,
        journal: Journal,
        mut inspect: impl FnMut(u64, &JournalEntry),
    ) -> Result<Self> {
        let mut engine = Self::in_memory(limits);
        for entry in journal.entries() {
            let entry = entry?;
            inspect(engine.counts.decisions + 1, &entry);
            engine.apply_entry(&entry, &journal)?;
        }
        Ok(Self { journal, ..engine })
    }

    fn new(limits: Limits, journal: Journal) -> Self {
        let (book, counts) = (Book::default(), Counts::default());
        let (trading_mode, reduce_only_rule) = (TradingMode::Open, ReduceOnlyRule::Enforce);
        let (last_decision_as_of, keys, last_prices) = (None, HashMap::new(), HashMap::new());
        Self {
            limits,
            trading_mode,
            reduce_only_rule,
            journal,
            book,
            counts,
            last_decision_as_of,
            keys,
            last_prices,
        }
    }

    /// Returns an engine without decisions whose journal is in memory.
    pub(crate) fn in_memory(limits: Limits) -> Self {
        Self::new(limits, Journal::Memory(Vec::new()))
    }

    /// Returns an in-memory engine with the state before the decision at `position` (counted from
    /// 1), and the decisions from that position on, in order.
    ///
    /// # Errors
    /// As [`Engine::recover`].
    pub(crate) fn rewind(&self, position: u64) -> Result<(Self, Vec<Decision>)> {
        let mut engine = Self::in_memory(self.limits);
        engine.reduce_only_rule = self.reduce_only_rule;
        let mut later = Vec::new();
        for (n, entry) in (1..).zip(self.journal.entries()) {
            let entry = entry?;
            if n < position {
                engine.apply_entry(&entry, &self.journal)?;
            } else {
                later.push(entry.decision);
            }
        }
        Ok((engine, later))
    }

    fn apply_entry(&mut self, entry: &JournalEntry, journal: &Journal) -> Result<()> {
        let JournalEntry { location, line, decision } = entry;
        self.apply_recorded(*location, decision).map_err(|problem| Error::Journal {
            path: journal.path(),
            line: *line,
            byte_offset: *location,
            problem,
        })
    }

    /// Applies a recorded decision to the state without checking it against the rules. `location`
    /// is where the journal has the decision; an engine that is never asked for it by key can pass
    /// 0.
    pub(crate) fn apply_recorded(&mut self, location: u64, decision: &Decision) -> Result<(), String> {
        let position = projected_position(&self.book, &decision.order())?;
        if let Some(key) = &decision.idempotency_key {
            if self.keys.contains_key(key) {
                return Err(format!("idempotency_key: `{key}` was used before"));
            }
            self.keys.insert(key.clone(), location);
        }
        self.apply(decision, position);
        Ok(())
    }

    /// Decides about an order, records the decision durably, and fills the order if it is accepted.
    /// If the idempotency key is in use, returns the recorded decision and changes nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the decision cannot be recorded: it has not taken effect. [`Error::Order`]
    /// if the order is invalid, or if the position that it leaves exceeds the range of a double.
    pub fn submit(&mut self, order: &Order, submission: &Submission<'_>) -> Result<Outcome> {
        if let Some(location) = submission.idempotency_key.and_then(|key| self.keys.get(key)) {
            return Ok(Outcome { decision: self.journal.decision(*location)?, repeated: true });
        }
        // An order that a reader of the journal would refuse must not be recorded.
        order.check().map_err(|(field, problem)| Error::Order {
            symbol: order.symbol.clone(),
            problem: format!("{field}: {problem}"),
        })?;
        let projected = self.projected(order)?;
        // The next cycle records the sum of all notionals, so the sum must stay finite.
        let others = self.book.iter().filter(|(symbol, _)| *symbol != order.symbol);
        let sum: f64 = others.map(|(_, position)| position.notional_usd()).sum();
        if !(sum + projected.notional_usd()).is_finite() {
            let problem = "the sum of all positions would exceed the range of a double".to_owned();
            return Err(Error::Order { symbol: order.symbol.clone(), problem });
        }
        let risk_decision = self.risk_decision(self.trading_mode, self.reduce_only_rule, order)?;
        let decision = Decision::new(order, submission, risk_decision.allowed(), risk_decision.reason());
        // The commit point: after this the decision has happened, and the state must follow it.
        let location = self.journal.record(&decision)?;
        self.apply(&decision, projected);
        if let Some(key) = submission.idempotency_key {
            self.keys.insert(key.to_owned(), location);
        }
        Ok(Outcome { decision, repeated: false })
    }

    /// Returns what the risk checks decide about an order in a trading mode and under a reduce-only
    /// rule. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Order`] if the position that the order leaves exceeds the range of a double.
    pub(crate) fn risk_decision(
        &self,
        trading_mode: TradingMode,
        reduce_only_rule: ReduceOnlyRule,
        order: &Order,
    ) -> Result<RiskDecision> {
        let current = self.book.position(&order.symbol);
        let projected = self.projected(order)?;
        Ok(risk::check(trading_mode, reduce_only_rule, &self.limits, &current, &projected, order))
    }

    fn projected(&self, order: &Order) -> Result<Position> {
        projected_position(&self.book, order)
            .map_err(|problem| Error::Order { symbol: order.symbol.clone(), problem })
    }

    /// Updates the state. `position` is the position that the decision's order leaves if it is
    /// filled.
    fn apply(&mut self, decision: &Decision, position: Position) {
        self.counts.decisions += 1;
        if decision.allowed {
            self.counts.fills += 1;
            self.book.set(&decision.symbol, position);
        } else {
            self.counts.rejections += 1;
        }
        self.last_decision_as_of = Some(decision.as_of);
        match self.last_prices.get_mut(&decision.symbol) {
            Some(price) => *price = decision.price,
            None => drop(self.last_prices.insert(decision.symbol.clone(), decision.price)),
        }
    }

    /// Returns the open positions.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Returns the counts over the whole journal, including decisions of earlier processes.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the time of the last decision, in seconds since the Unix epoch.
    pub fn last_decision_as_of(&self) -> Option<f64> {
        self.last_decision_as_of
    }

    /// Returns the limits of the risk checks.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Replaces the limits for the decisions that follow.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Sets the trading mode for the decisions that follow.
    pub fn set_trading_mode(&mut self, trading_mode: TradingMode) {
        self.trading_mode = trading_mode;
    }

    /// Returns the reduce-only rule of the risk checks.
    pub(crate) fn reduce_only_rule(&self) -> ReduceOnlyRule {
        self.reduce_only_rule
    }

    /// Sets the reduce-only rule for the decisions that follow.
    pub fn set_reduce_only_rule(&mut self, reduce_only_rule: ReduceOnlyRule) {
        self.reduce_only_rule = reduce_only_rule;
    }

    /// Returns the price of the last order of a symbol, in USD.
    pub fn last_price(&self, symbol: &str) -> Option<f64> {
        self.last_prices.get(symbol).copied()
    }

    /// Returns the decision journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Repairs the end of the journal file, see [`Journal::repair_tail`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn repair_journal_tail(&mut self) -> Result<()> {
        self.journal.repair_tail()
    }

    /// Whether a decision with this idempotency key exists.
    pub fn has_key(&self, idempotency_key: &str) -> bool {
        self.keys.contains_key(idempotency_key)
    }
}

/// Returns the position that an order leaves if it is filled, unless a number in it is not finite.
fn projected_position(book: &Book, order: &Order) -> Result<Position, String> {
    let position = book.position(&order.symbol).after(order);
    if position.quantity.is_finite() && position.notional_usd().is_finite() && position.avg_price.is_finite()
    {
        return Ok(position);
    }
    Err("the resulting position would exceed the range of a double".to_owned())
}
