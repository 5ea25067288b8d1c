//! Exit codes: 0 success, 1 the check ran and failed, 2 the command could not run.

use std::process::ExitCode;

use crate::message::print_error;
use crate::outcome::{Outcome, Reported};
use crate::output::is_broken_pipe;

/// Turns the result of a command into an exit code, and prints an error as one line on standard error.
///
/// `is_failed_check` decides which errors are findings (exit code 1): damage to a log, for example, is what the command
/// looked for, not what stopped it. A closed pipe is not an error: whoever read the output had seen enough.
pub fn exit(
    program: &str,
    result: anyhow::Result<Outcome>,
    is_failed_check: impl FnOnce(&anyhow::Error) -> bool,
) -> ExitCode {
    let error = match result {
        Ok(Outcome::Passed) => return ExitCode::SUCCESS,
        Ok(Outcome::Failed) => return ExitCode::from(1),
        Err(error) => error,
    };
    if let Some(reported) = error.downcast_ref::<Reported>() {
        return ExitCode::from(if reported.failed_check { 1 } else { 2 });
    }
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    print_error(program, &error);
    ExitCode::from(if is_failed_check(&error) { 1 } else { 2 })
}

/// Whether an error reports what is wrong with a log: damage, a missing tail, or an ambiguous one.
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

/// The same for an error of the library itself.
pub fn is_damaged_log(error: &zero_bus::Error) -> bool {
    use zero_bus::Error::{Ambiguous, Damaged, Missing};
    matches!(error, Damaged { .. } | Missing { .. } | Ambiguous { .. })
}
