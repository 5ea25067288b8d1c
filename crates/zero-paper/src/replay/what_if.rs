//! Runs the recorded orders under other limits.

use std::ops::ControlFlow;

use zero_bus::{Progress, Reader};

use crate::error::{Error, Result};

use super::commands::is_applied_resume;
use super::limits::LimitOverrides;
use super::market::MarketWhatIf;
use super::reading::{Item, for_each_item};
use super::results::WhatIf;
use super::scenario::ScenarioWhatIf;

/// Submits the recorded orders under other limits and returns the results of both runs. A
/// reduce-only order keeps its recorded quantity, even if the position differs under the other
/// limits. A strategy does not decide again: its orders are the recorded ones.
///
/// If a scenario run accepted a reduce-only order that did not reduce its position, the other run
/// is under [`ReduceOnlyRule::Trust`](crate::risk::ReduceOnlyRule::Trust) as well, except where the
/// record shows a rejection by the other rule. Cycles on market data keep their recorded rule.
///
/// # Errors
/// As for a replay; [`Error::Order`] if a position becomes too large for a double;
/// [`Error::Refused`] if a limit is given that the run does not have.
pub fn what_if(
    reader: &Reader,
    limits: LimitOverrides,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<WhatIf> {
    let (mut scenario, mut market) = (ScenarioWhatIf::new(limits), MarketWhatIf::new(limits));
    let mut last_is_market = None;
    for_each_item(reader, progress, |item| {
        match item {
            Item::Scenario(recorded) => {
                last_is_market = Some(false);
                scenario.add(&recorded)?;
            }
            Item::Market(recorded) => {
                last_is_market = Some(true);
                market.add(&recorded);
            }
            Item::Other(event) if is_applied_resume(&event) => market.resume(),
            Item::Observation(..) | Item::Other(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match limits.market_limit().filter(|_| last_is_market == Some(false)) {
        Some(name) => {
            let problem = format!("is the run of a scenario, which has no limit {name}; leave it out");
            Err(Error::Refused { path: reader.log_path(), problem })
        }
        None if last_is_market == Some(true) => Ok(market.finish()),
        None => Ok(scenario.finish()),
    }
}
