//! Strategies: what decides on market data.
//!
//! The runtime starts a strategy, shows it each bar, and checks and records what it asks for. A
//! strategy sees the account but cannot change it, and it cannot loosen a limit.
//! `docs/TRADING.md` describes the strategies that a SPEC can name, and the protocol of programs.

mod answer;
mod close_above_open;
mod flat_yaml;
mod interface;
mod process;
mod sma_cross;

use std::time::Duration;

use close_above_open::CloseAboveOpen;
pub use interface::{
    Answer, Failure, FailureKind, Intent, MAX_REASON_CHARACTERS, Observation, Start, Strategy, StrategyError,
    StrategyIdentity,
};
use process::ProcessStrategy;
use sma_cross::SmaCross;

/// Opens the strategy that a SPEC of the command line names: `close-above-open:FILE`,
/// `sma-cross:fast=N,slow=M,quantity=Q`, or `exec:COMMAND`. A program has `timeout` for each
/// answer.
///
/// # Errors
/// The strategy is not known, or its file or parameters are not valid.
pub fn open(spec: &str, timeout: Duration) -> Result<Box<dyn Strategy>, StrategyError> {
    let (kind, argument) = spec.split_once(':').unwrap_or((spec, ""));
    Ok(match kind {
        "close-above-open" => Box::new(CloseAboveOpen::open(argument)?),
        "sma-cross" => Box::new(SmaCross::open(spec, argument)?),
        "exec" => Box::new(ProcessStrategy::open(spec, argument, timeout)?),
        _ => {
            let problem = "is not a strategy; write close-above-open:FILE, sma-cross:fast=N,slow=M,quantity=Q \
                           or exec:COMMAND";
            return Err(StrategyError { place: spec.to_owned(), problem: problem.to_owned() });
        }
    })
}
