//! How a run ended.

use zero_paper::operator::Command;
use zero_program::message::{print_message, print_warning};
use zero_program::outcome::Outcome;

use crate::arguments::PROGRAM;

/// How a run ended.
pub(crate) enum RunEnd {
    /// By itself or by a signal.
    Finished(Outcome),
    /// By the operator's kill.
    Killed,
}

impl RunEnd {
    /// Returns the end of a run with this outcome, which a command may have stopped.
    pub(crate) fn of(killed_by: Option<&Command>, outcome: Outcome) -> Self {
        if killed_by.is_some() { Self::Killed } else { Self::Finished(outcome) }
    }
}

/// Prints the operator's command that stopped the run, if one did.
pub(crate) fn report_kill(killed_by: Option<&Command>) {
    if let Some(command) = killed_by {
        print_message(PROGRAM, &format!("stopped by the operator: {}", command.describe()));
    }
}

/// Warns that the next start will take longer, if the checkpoint for it could not be written.
pub(crate) fn report_checkpoint_problem(problem: Option<&str>) {
    if let Some(problem) = problem {
        print_warning(PROGRAM, &format!("{problem}; the next start reads more of the records"));
    }
}
