//! What an operator should know of a run while it goes on: failures of the strategy, and orders
//! that can never be accepted.

use std::collections::BTreeSet;

use crate::text::counted;

use super::checks::NO_PRICE;
use super::record::{MarketCycle, OnFailure};

/// How many failures in a process are shown. The rest is counted.
const MAX_FAILURES: u64 = 3;

/// How many symbols without a price are named.
const MAX_SYMBOLS: usize = 20;

/// What was noticed in this process.
#[derive(Default)]
pub(super) struct Notices {
    /// Whether the strategy has answered a bar.
    pub(super) has_answered: bool,
    failures: u64,
    /// Whether the user has been told that the strategy cannot be started again.
    holds_to_the_end: bool,
    /// Symbols without a price that were named.
    symbols: BTreeSet<String>,
}

impl Notices {
    /// Returns what to tell of a cycle, one line each.
    pub(super) fn of_cycle(&mut self, cycle: &MarketCycle) -> Vec<String> {
        let mut notices = Vec::new();
        // A failure that ends the run is its error.
        if let Some(failure) = cycle.decide.failure.as_ref().filter(|f| f.on_failure == OnFailure::Hold) {
            self.failures += 1;
            if self.failures <= MAX_FAILURES {
                notices.push(format!(
                    "the strategy {} failed in cycle {}: {}; the cycle holds, and the run continues \
                     (--on-failure hold)",
                    cycle.decide.strategy.name, cycle.cycle_id, failure.reason
                ));
            }
        }
        let without_price = cycle.act.decisions.iter().filter(|decision| decision.reason == NO_PRICE);
        for symbol in without_price.map(|decision| &decision.symbol) {
            if self.symbols.len() < MAX_SYMBOLS && self.symbols.insert(symbol.clone()) {
                notices.push(format!(
                    "cycle {}: the strategy ordered {symbol}, but the feed has had no candle of it; the order is \
                     rejected, as every one until there is a candle",
                    cycle.cycle_id
                ));
            }
        }
        notices
    }

    /// Returns, once, that the strategy is not started again in this process.
    pub(super) fn of_hold_to_the_end(&mut self, reason: &str) -> Option<String> {
        let is_told = std::mem::replace(&mut self.holds_to_the_end, true);
        (!is_told).then(|| format!("{reason}; this process holds to its end"))
    }

    /// Returns how many failures were not shown one by one, and forgets them.
    pub(super) fn failures_not_shown(&mut self) -> Option<String> {
        let failures = std::mem::take(&mut self.failures);
        let more = failures.saturating_sub(MAX_FAILURES);
        (more > 0).then(|| format!("the strategy failed in {}", counted(more, "more cycle")))
    }
}
