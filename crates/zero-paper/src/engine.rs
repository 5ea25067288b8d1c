//! The paper engine: orders in, decisions out, fills at the order's own price.

use std::collections::HashMap;

use crate::decision::{Decision, Submission};
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalEntry};
use crate::position::{Book, Position};
use crate::risk::{self, RiskDecision, TradingMode};
use crate::scenario::{Limits, Order};

/// The paper engine. Its state is what its journal says.
pub struct Engine {
    limits: Limits,
    trading_mode: TradingMode,
    journal: Journal,
    book: Book,
    counts: Counts,
    last_decision_as_of: Option<f64>,
    /// Which keys were used, and where in the journal their decisions are.
    keys: HashMap<String, u64>,
    /// The price of the last order about each symbol.
    prices: HashMap<String, f64>,
}

/// How many decisions there were, and what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub decisions: u64,
    /// Let through, and so filled.
    pub fills: u64,
    /// Not let through.
    pub rejections: u64,
}

/// What came of an order that was handed in.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The decision on record.
    pub decision: Decision,
    /// The key was known: this is the earlier decision, and nothing was filled now.
    pub repeated: bool,
}

impl Engine {
    /// An engine in the state that the journal tells of.
    ///
    /// # Errors
    /// [`Error::Journal`] naming the first line that is no decision or uses a key for the second time.
    pub fn recover(limits: Limits, journal: Journal) -> Result<Self> {
        Self::recover_seeing(limits, journal, |_, _| {})
    }

    /// The same, with each decision shown on the way, and its position counted from 1.
    pub(crate) fn recover_seeing(
        limits: Limits,
        journal: Journal,
        mut see: impl FnMut(u64, &JournalEntry),
    ) -> Result<Self> {
        let mut engine = Self::in_memory(limits);
        for recorded in journal.decisions() {
            let recorded = recorded?;
            see(engine.counts.decisions + 1, &recorded);
            let JournalEntry { at, line, decision } = recorded;
            engine.adopt(at, &decision).map_err(|problem| Error::Journal {
                path: journal.path(),
                line,
                byte_offset: at,
                problem,
            })?;
        }
        Ok(Self { journal, ..engine })
    }

    fn new(limits: Limits, journal: Journal) -> Self {
        let (book, counts) = (Book::default(), Counts::default());
        let (trading_mode, last_decision_as_of) = (TradingMode::Open, None);
        let (keys, prices) = (HashMap::new(), HashMap::new());
        Self { limits, trading_mode, journal, book, counts, last_decision_as_of, keys, prices }
    }

    /// An engine without any state, whose journal lives as long as it does.
    pub(crate) fn in_memory(limits: Limits) -> Self {
        Self::new(limits, Journal::Memory(Vec::new()))
    }

    /// The state before the decision at a position (counted from 1) of its journal: an engine in memory, to go through
    /// the rest of it again.
    ///
    /// # Errors
    /// As [`Engine::recover`].
    pub(crate) fn before(&self, position: u64) -> Result<(Self, Vec<Decision>)> {
        let mut engine = Self::in_memory(self.limits);
        let mut rest = Vec::new();
        for (n, recorded) in (1..).zip(self.journal.decisions()) {
            let JournalEntry { at, decision, .. } = recorded?;
            if n < position {
                let adopted = engine.adopt(at, &decision);
                adopted.map_err(|problem| Error::Refused { path: self.journal.path(), problem })?;
            } else {
                rest.push(decision);
            }
        }
        Ok((engine, rest))
    }

    /// Takes over a decision that is on record: what it says happened.
    pub(crate) fn adopt(&mut self, at: u64, decision: &Decision) -> Result<(), String> {
        let position = after(&self.book, &decision.order())?;
        if let Some(key) = &decision.idempotency_key {
            if self.keys.contains_key(key) {
                return Err(format!("idempotency_key: `{key}` was used before"));
            }
            self.keys.insert(key.clone(), at);
        }
        self.enter(decision, position);
        Ok(())
    }

    /// Decides about an order, puts the decision on record, and fills the order where it is let through. A
    /// key that was used before gives the decision on record and fills nothing.
    ///
    /// # Errors
    /// [`Error::Io`] where the decision cannot be recorded: it has not taken effect. [`Error::Order`] where
    /// the order is none, or the position it would leave is beyond a double.
    pub fn submit(&mut self, order: &Order, submission: &Submission<'_>) -> Result<Outcome> {
        if let Some(place) = submission.idempotency_key.and_then(|key| self.keys.get(key)) {
            return Ok(Outcome { decision: self.journal.decision(*place)?, repeated: true });
        }
        // What would not be read back must not be recorded.
        order.check().map_err(|(field, problem)| Error::Order {
            symbol: order.symbol.clone(),
            problem: format!("{field}: {problem}"),
        })?;
        let projected = self.projected(order)?;
        // Of what follows, the next cycle must be able to tell the sum.
        let others = self.book.iter().filter(|(symbol, _)| *symbol != order.symbol);
        let sum: f64 = others.map(|(_, position)| position.notional_usd()).sum();
        if !(sum + projected.notional_usd()).is_finite() {
            let problem = "what would be held together is beyond a double".to_owned();
            return Err(Error::Order { symbol: order.symbol.clone(), problem });
        }
        let risk_decision = self.risk_decision(self.trading_mode, order)?;
        let decision = Decision::new(order, submission, risk_decision.allowed(), risk_decision.reason());
        let place = self.journal.record(&decision)?;
        // From here on it happened.
        self.enter(&decision, projected);
        if let Some(key) = submission.idempotency_key {
            self.keys.insert(key.to_owned(), place);
        }
        Ok(Outcome { decision, repeated: false })
    }

    /// What the rules say to an order while the operator has bound the engine so.
    ///
    /// # Errors
    /// [`Error::Order`] where the position it would leave is beyond a double.
    pub(crate) fn risk_decision(&self, trading_mode: TradingMode, order: &Order) -> Result<RiskDecision> {
        let held = self.book.position(&order.symbol);
        Ok(risk::check(trading_mode, &self.limits, &held, &self.projected(order)?, order))
    }

    fn projected(&self, order: &Order) -> Result<Position> {
        after(&self.book, order).map_err(|problem| Error::Order { symbol: order.symbol.clone(), problem })
    }

    fn enter(&mut self, decision: &Decision, position: Position) {
        self.counts.decisions += 1;
        if decision.allowed {
            self.counts.fills += 1;
            self.book.set(&decision.symbol, position);
        } else {
            self.counts.rejections += 1;
        }
        self.last_decision_as_of = Some(decision.as_of);
        match self.prices.get_mut(&decision.symbol) {
            Some(price) => *price = decision.price,
            None => drop(self.prices.insert(decision.symbol.clone(), decision.price)),
        }
    }

    /// What is held.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// How many decisions, fills and rejections there were, those before a restart included.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When the last decision was made, in seconds since the Unix epoch.
    pub fn last_decision_as_of(&self) -> Option<f64> {
        self.last_decision_as_of
    }

    /// What orders are held against.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Holds orders against other limits from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Binds the engine to what the operator said.
    pub fn set_trading_mode(&mut self, trading_mode: TradingMode) {
        self.trading_mode = trading_mode;
    }

    /// The price of the last order about a symbol, in USD.
    pub fn last_price(&self, symbol: &str) -> Option<f64> {
        self.prices.get(symbol).copied()
    }

    /// Where the decisions are kept.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Leaves the journal at the end of a whole line, see [`Journal::mend`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn mend(&mut self) -> Result<()> {
        self.journal.mend()
    }

    /// Whether a key was used.
    pub fn knows(&self, idempotency_key: &str) -> bool {
        self.keys.contains_key(idempotency_key)
    }
}

/// The position an order would leave.
fn after(book: &Book, order: &Order) -> Result<Position, String> {
    let position = book.position(&order.symbol).after(order);
    if position.quantity.is_finite() && position.notional_usd().is_finite() && position.avg_price.is_finite()
    {
        return Ok(position);
    }
    Err("the position it would leave is beyond a double".to_owned())
}
