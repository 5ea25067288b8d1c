//! How a run ended.

use zero_program::outcome::Outcome;

/// How a run ended.
pub(crate) enum RunEnd {
    /// By itself or by a signal.
    Finished(Outcome),
    /// By the operator's kill.
    Killed,
}
