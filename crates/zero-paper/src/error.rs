//! Errors of the paper runtime. Each variant is a different next step for the caller.

use std::io;
use std::path::{Path, PathBuf};

use zero_bus::event_id;

/// What a function of this library can report. A message names the file, the place in it and what
/// to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The scenario is invalid. Correct the file.
    #[error("{}: {problem}", path.display())]
    Scenario {
        /// The scenario file.
        path: PathBuf,
        /// The field (`orders[2].quantity`) and what is wrong with it.
        problem: String,
    },
    /// A journal contains an invalid line. Restore the journal.
    #[error("{}: line {line} (byte {byte_offset}): {problem}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Number of the line, counted from 1.
        line: u64,
        /// Byte offset of the line.
        byte_offset: u64,
        /// What is wrong with the line.
        problem: String,
    },
    /// The records contradict each other, or they contradict the run. Nothing was repaired.
    #[error("{}: {mismatch}", path.display())]
    Reconcile {
        /// The file that the message is about: the decision journal or the log of the bus.
        path: PathBuf,
        /// The contradiction.
        mismatch: Box<Mismatch>,
    },
    /// The runtime cannot start or continue with this file or directory.
    #[error("{}: {problem}", path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// The reason, and what to do.
        problem: String,
    },
    /// The operator's kill is in force: no cycle runs. Start the runtime again after a resume.
    #[error(
        "{}: the runtime was stopped ({command}); resume it before the next start: zero-bus command DIR resume",
        path.display()
    )]
    Killed {
        /// The log of the bus.
        path: PathBuf,
        /// The command, described for a person.
        command: String,
    },
    /// The engine cannot process the order: a field is invalid, or a result exceeds the range of a
    /// double.
    #[error("{symbol}: {problem}")]
    Order {
        /// The order's symbol.
        symbol: String,
        /// What is wrong.
        problem: String,
    },
    /// The order source failed. Nothing of this cycle was recorded.
    #[error("cannot run cycle {cycle_id}: the order source failed: {source}; nothing was recorded")]
    OrderSource {
        /// The cycle that the order source was asked about.
        cycle_id: u64,
        /// The error of the order source.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The order source returned an intent that a cycle record cannot hold. Nothing of this cycle
    /// was recorded.
    #[error(
        "cannot run cycle {cycle_id}: the order source returned {intent}, but cycle records v1 \
         (zero.runtime.cycle.v1) hold exactly one order and cannot record it; nothing was recorded. \
         Use an order source that returns one order per cycle."
    )]
    UnsupportedIntent {
        /// The cycle that the order source was asked about.
        cycle_id: u64,
        /// What the order source returned.
        intent: UnsupportedIntent,
    },
    /// The strategy failed, and the run ends because of it. The cycle is recorded.
    #[error(
        "the strategy {strategy} failed in cycle {cycle_id}: {reason}; the cycle is recorded as a hold; correct the \
         strategy and start again"
    )]
    StrategyFailed {
        /// Name of the strategy.
        strategy: String,
        /// The cycle.
        cycle_id: u64,
        /// What happened.
        reason: String,
    },
    /// The strategy cannot be started. Nothing was recorded.
    #[error("cannot start the strategy {strategy}: {reason}")]
    StrategyNotStarted {
        /// Name of the strategy.
        strategy: String,
        /// What happened.
        reason: String,
    },
    /// The feed failed. Every cycle so far is recorded.
    #[error("{place}: {problem}")]
    Feed {
        /// The file and the line, or the command.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An operation on the bus failed.
    #[error(transparent)]
    Bus(#[from] zero_bus::Error),
}

/// An intent that cycle records v1 cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsupportedIntent {
    /// No order in this cycle.
    #[error("a hold ({reason})")]
    Hold {
        /// The reason that the order source gave.
        reason: String,
    },
    /// Several orders in one cycle, or an empty list of orders.
    #[error("{count} orders")]
    Orders {
        /// Number of orders.
        count: usize,
    },
}

/// A contradiction between decision journal, bus and run.
///
/// Journal and bus both number decisions by cycle, so `cycle_id` is also the position of the
/// decision in the journal, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The bus has a decision that the journal lacks.
    #[error(
        "ends with decision {decisions}{}, but {} in {} is decision {cycle_id}: the bus is ahead; restore \
         the journal, or rebuild it from the bus with --rebuild-journal",
        unfinished_line(*unfinished_bytes), event_id(*event_index), log.display()
    )]
    BusAhead {
        /// Number of decisions in the journal.
        decisions: u64,
        /// Length of the unfinished line at the end of the journal; 0 without one.
        unfinished_bytes: u64,
        /// The log of the bus.
        log: PathBuf,
        /// Index of the event with the missing decision.
        event_index: u64,
        /// Cycle of the missing decision.
        cycle_id: u64,
    },
    /// Journal and bus have different decisions for the same cycle.
    #[error(
        "line {line} (byte {byte_offset}) and {} in {} are both decision {cycle_id}, but they differ; restore \
         the wrong one, or rebuild the journal from the bus with --rebuild-journal",
        event_id(*event_index), log.display()
    )]
    DecisionDiffers {
        /// Number of the journal's line, counted from 1.
        line: u64,
        /// Byte offset of that line.
        byte_offset: u64,
        /// The log of the bus.
        log: PathBuf,
        /// Index of the event on the bus.
        event_index: u64,
        /// Cycle of both decisions.
        cycle_id: u64,
    },
    /// The bus lacks a cycle, so the state cannot be rebuilt from it.
    #[error(
        "lacks the decision of cycle {cycle_id}, so the state cannot be rebuilt from it; name the journal \
         that has the decision, or another bus"
    )]
    CycleMissing {
        /// The first missing cycle.
        cycle_id: u64,
    },
    /// The journal's decision has the idempotency key of another run or cycle.
    #[error(
        "the decision after those on the bus does not belong to cycle {cycle_id}: its idempotency key is not \
         `{expected_key}`; if the scenario was renamed, start once with the old name"
    )]
    OtherRun {
        /// The cycle to publish.
        cycle_id: u64,
        /// The key of that cycle in the current run.
        expected_key: String,
    },
    /// The current limits would decide an unpublished decision differently, so a record made now
    /// would state the wrong limits.
    #[error(
        "decision {cycle_id} was recorded as `{recorded_reason}`, but the current limits give \
         `{current_reason}`; if the limits were changed, start once with the old ones"
    )]
    LimitsChanged {
        /// Cycle of the decision.
        cycle_id: u64,
        /// The recorded reason.
        recorded_reason: String,
        /// The reason that the current limits give.
        current_reason: &'static str,
    },
    /// A recorded decision cannot be applied to the state before it.
    #[error("decision {cycle_id} cannot be applied: {problem}")]
    NotApplicable {
        /// Cycle of the decision.
        cycle_id: u64,
        /// What is wrong.
        problem: String,
    },
    /// Journal and bus of a run on market data have different cycles.
    #[error("{problem}")]
    CyclesDiffer {
        /// The event at fault, and what to do.
        problem: String,
    },
    /// The journal already contains the key of the next cycle.
    #[error(
        "already contains the key `{key}` of cycle {cycle_id}, but only {decisions} decisions: decisions are \
         missing, or the journal belongs to another run; restore it, or name another journal"
    )]
    KeyAlreadyUsed {
        /// The next cycle.
        cycle_id: u64,
        /// Its idempotency key.
        key: String,
        /// Number of decisions in the journal.
        decisions: u64,
    },
}

fn unfinished_line(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(" and {bytes} bytes of an unfinished line") }
}

impl Error {
    /// Adds the operation and the file to a system error; for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn reconcile(path: PathBuf, mismatch: Mismatch) -> Self {
        Self::Reconcile { path, mismatch: Box::new(mismatch) }
    }
}

impl From<zero_bus::JsonError> for Error {
    fn from(error: zero_bus::JsonError) -> Self {
        Self::Bus(error.into())
    }
}

/// The result of a function of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;
