//! The exit code of a command.

use crate::message::print_error;
use crate::outcome::{Outcome, Reported};
use crate::output::is_broken_pipe;

/// Prints the error of a command, if it has one, and returns the exit code.
///
/// `is_failed_check` selects the errors that mean a failed check (exit code 1). Damage to a log,
/// for example, is what a command looks for; it does not mean that the command could not run. A
/// closed pipe counts as success: the reader of the output needed no more of it.
pub fn exit(
    program: &str,
    result: anyhow::Result<Outcome>,
    is_failed_check: impl FnOnce(&anyhow::Error) -> bool,
) -> u8 {
    let error = match result {
        Ok(Outcome::Passed) => return 0,
        Ok(Outcome::Failed) => return 1,
        Err(error) => error,
    };
    if let Some(reported) = error.downcast_ref::<Reported>() {
        return if reported.failed_check { 1 } else { 2 };
    }
    if is_broken_pipe(&error) {
        return 0;
    }
    print_error(program, &error);
    if is_failed_check(&error) { 1 } else { 2 }
}

/// Returns whether an error reports damage to a log, missing events, an ambiguous tail, or a log
/// that was replaced or shortened while it was open.
pub fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_runtime = || match cause.downcast_ref()? {
            zero_paper::Error::Bus(inner) => Some(inner),
            _ => None,
        };
        let of_backup = || match cause.downcast_ref()? {
            zero_bus::BackupError::Bus(inner) => Some(inner),
            _ => None,
        };
        let inner = cause.downcast_ref().or_else(of_runtime).or_else(of_backup);
        inner.is_some_and(is_damaged_log)
    })
}

/// As [`is_damage`], for an error of the bus library.
pub fn is_damaged_log(error: &zero_bus::Error) -> bool {
    use zero_bus::Error::{Ambiguous, Changed, Damaged, Missing};
    matches!(error, Damaged { .. } | Missing { .. } | Ambiguous { .. } | Changed { .. })
}
