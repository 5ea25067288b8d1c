//! The paper engine: takes orders, decides about them, and fills accepted ones at the order's
//! price.
//!
//! The journal is a write-ahead log of decisions. [`Engine::submit`] makes a decision durable
//! before it changes the state, so replaying the journal yields the state.

use std::collections::BTreeMap;

use serde::Serialize;
use zero_bus::Json;

use crate::decision::{Decision, Submission};
use crate::error::{Error, Result};
use crate::field::{Field, Problem};
use crate::journal::{Journal, JournalEntry};
use crate::line_file::FileStart;
use crate::position::{Book, Position, PositionRecord};
use crate::risk::{self, ReduceOnlyRule, RiskDecision, TradingMode};
use crate::scenario::{Limits, Order};
use crate::used_keys::UsedKeys;

/// The paper engine. Its state is a function of its journal, apart from limits, trading mode and
/// reduce-only rule.
pub struct Engine {
    limits: Limits,
    trading_mode: TradingMode,
    reduce_only_rule: ReduceOnlyRule,
    journal: Journal,
    state: EngineState,
    /// Idempotency keys in use, with the journal location of each decision (see
    /// [`JournalEntry::location`]).
    keys: UsedKeys,
    /// Where the recovery began.
    origin: Origin,
}

/// What the journal's decisions leave, apart from their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EngineState {
    book: Book,
    counts: Counts,
    last_decision_as_of: Option<f64>,
    /// The price of the last order of each symbol, also of a rejected one.
    last_prices: BTreeMap<String, f64>,
}

/// A state, and the place of the journal that it was taken at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Origin {
    pub(crate) state: EngineState,
    pub(crate) start: FileStart,
}

/// Number of decisions, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
        Self::recover_from(limits, journal, Origin::default(), UsedKeys::default(), |_, _, _| Ok(()))
    }

    /// Like [`Engine::recover`], from a state on, whose keys are `keys`. Passes each entry to
    /// `inspect` after it was applied, with its position counted from 1.
    pub(crate) fn recover_from(
        limits: Limits,
        mut journal: Journal,
        origin: Origin,
        keys: UsedKeys,
        mut inspect: impl FnMut(u64, &JournalEntry, &mut UsedKeys) -> Result<()>,
    ) -> Result<Self> {
        let mut engine = Self::in_memory(limits);
        engine.state = origin.state.clone();
        engine.keys = keys;
        let mut last_line = origin.start.lines;
        for entry in journal.entries_after(origin.start) {
            let entry = entry?;
            engine.apply_entry(&entry, &journal)?;
            last_line = entry.line;
            inspect(engine.state.counts.decisions, &entry, &mut engine.keys)?;
        }
        journal.set_line_count(last_line);
        Ok(Self { journal, origin, ..engine })
    }

    /// Returns an engine without decisions whose journal is in memory.
    pub(crate) fn in_memory(limits: Limits) -> Self {
        Self {
            limits,
            trading_mode: TradingMode::Open,
            reduce_only_rule: ReduceOnlyRule::Enforce,
            journal: Journal::Memory(Vec::new()),
            state: EngineState::default(),
            keys: UsedKeys::default(),
            origin: Origin::default(),
        }
    }

    /// Returns an in-memory engine with the state before the decision at `position` (counted from
    /// 1), and the decisions from that position on, in order. The engine does not know the keys of
    /// earlier decisions.
    ///
    /// # Errors
    /// As [`Engine::recover`]; [`Error::Refused`] if the recovery began after that position.
    pub(crate) fn rewind(&self, position: u64) -> Result<(Self, Vec<Decision>)> {
        let mut engine = Self::in_memory(self.limits);
        engine.reduce_only_rule = self.reduce_only_rule;
        engine.state = self.origin.state.clone();
        let first = engine.state.counts.decisions + 1;
        if position < first {
            let problem = format!(
                "decision {position} comes before the start-up checkpoint, which has {} decisions; restart with \
                 --full-check",
                first - 1
            );
            return Err(Error::Refused { path: self.journal.path(), problem });
        }
        let mut later = Vec::new();
        for (n, entry) in (first..).zip(self.journal.entries_after(self.origin.start)) {
            let entry = entry?;
            if n < position {
                engine
                    .state
                    .apply_recorded(&entry.decision)
                    .map_err(|problem| self.invalid(&entry, problem))?;
            } else {
                later.push(entry.decision);
            }
        }
        Ok((engine, later))
    }

    fn invalid(&self, entry: &JournalEntry, problem: String) -> Error {
        let (line, byte_offset) = (entry.line, entry.location);
        Error::Journal { path: self.journal.path(), line, byte_offset, problem }
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
        if let Some(key) = &decision.idempotency_key
            && self.keys.place(key, location).map_err(|error| error.to_string())?.is_some()
        {
            return Err(format!("idempotency_key: `{key}` was used before"));
        }
        self.state.apply_recorded(decision)?;
        if let Some(key) = &decision.idempotency_key {
            self.keys.insert(key, location);
        }
        Ok(())
    }

    /// Decides about an order, records the decision durably, and fills the order if it is accepted.
    /// If the idempotency key is in use, returns the recorded decision and changes nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the decision cannot be recorded: it has not taken effect. [`Error::Order`]
    /// if the order is invalid, or if the position that it leaves exceeds the range of a double.
    pub fn submit(&mut self, order: &Order, submission: &Submission<'_>) -> Result<Outcome> {
        if let Some(key) = submission.idempotency_key
            && let Some(location) = self.keys.place(key, self.journal.next_location())?
        {
            return Ok(Outcome { decision: self.journal.decision(location)?, repeated: true });
        }
        // An order that a reader of the journal would refuse must not be recorded.
        order.check().map_err(|(field, problem)| Error::Order {
            symbol: order.symbol.clone(),
            problem: format!("{field}: {problem}"),
        })?;
        let projected = self.projected(order)?;
        // The next cycle records the sum of all notionals, so the sum must stay finite.
        let others = self.state.book.iter().filter(|(symbol, _)| *symbol != order.symbol);
        let sum: f64 = others.map(|(_, position)| position.notional_usd()).sum();
        if !(sum + projected.notional_usd()).is_finite() {
            let problem = "the sum of all positions would exceed the range of a double".to_owned();
            return Err(Error::Order { symbol: order.symbol.clone(), problem });
        }
        let risk_decision = self.risk_decision(self.trading_mode, self.reduce_only_rule, order)?;
        let decision = Decision::new(order, submission, risk_decision.allowed(), risk_decision.reason());
        // The commit point: after this the decision has happened, and the state must follow it.
        let location = self.journal.record(&decision)?;
        self.state.apply(&decision, projected);
        if let Some(key) = submission.idempotency_key {
            self.keys.insert(key, location);
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
        let current = self.state.book.position(&order.symbol);
        let projected = self.projected(order)?;
        Ok(risk::check(trading_mode, reduce_only_rule, &self.limits, &current, &projected, order))
    }

    fn projected(&self, order: &Order) -> Result<Position> {
        projected_position(&self.state.book, order)
            .map_err(|problem| Error::Order { symbol: order.symbol.clone(), problem })
    }

    /// Returns the open positions.
    pub fn book(&self) -> &Book {
        &self.state.book
    }

    /// Returns the counts over the whole journal, including decisions of earlier processes.
    pub fn counts(&self) -> Counts {
        self.state.counts
    }

    /// Returns the time of the last decision, in seconds since the Unix epoch.
    pub fn last_decision_as_of(&self) -> Option<f64> {
        self.state.last_decision_as_of
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
        self.state.last_prices.get(symbol).copied()
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
    ///
    /// # Errors
    /// [`Error::Io`] if the keys of a long run cannot be searched.
    pub fn has_key(&self, idempotency_key: &str) -> Result<bool> {
        Ok(self.keys.place(idempotency_key, self.journal.next_location())?.is_some())
    }

    pub(crate) fn state(&self) -> &EngineState {
        &self.state
    }

    pub(crate) fn keys_mut(&mut self) -> &mut UsedKeys {
        &mut self.keys
    }

    /// Forgets the decisions of a journal in memory, which the bus has, see
    /// [`Journal::forget_published`].
    pub(crate) fn forget_published(&mut self) {
        self.journal.forget_published();
    }
}

impl EngineState {
    /// Returns the counts over the whole journal.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Applies a recorded decision without checking it against the rules.
    fn apply_recorded(&mut self, decision: &Decision) -> Result<(), String> {
        let position = projected_position(&self.book, &decision.order())?;
        self.apply(decision, position);
        Ok(())
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

    /// Returns the form that a start-up checkpoint keeps.
    pub(crate) fn to_json(&self) -> Result<Json> {
        #[derive(Serialize)]
        struct Form<'a> {
            counts: Counts,
            last_decision_as_of: Option<f64>,
            last_prices: &'a BTreeMap<String, f64>,
            positions: Vec<PositionRecord>,
        }
        Ok(Json::of(&Form {
            counts: self.counts,
            last_decision_as_of: self.last_decision_as_of,
            last_prices: &self.last_prices,
            positions: self.book.records(),
        })?)
    }

    /// Reads that form.
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let counts = field.required("counts")?;
        let count = |key| counts.required(key)?.count();
        let last_prices = field.required("last_prices")?;
        let last_prices = last_prices.object()?.map(|price| Ok((price.name().to_owned(), price.number()?)));
        Ok(Self {
            book: Book::read(&field.required("positions")?)?,
            counts: Counts {
                decisions: count("decisions")?,
                fills: count("fills")?,
                rejections: count("rejections")?,
            },
            last_decision_as_of: field.required("last_decision_as_of")?.nullable_number()?,
            last_prices: last_prices.collect::<Result<_, Problem>>()?,
        })
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
