//! The outcome of a command.

/// The outcome of a command that could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command succeeded, and its check, if it has one, passed: exit code 0.
    Passed,
    /// The check ran and failed: exit code 1.
    Failed,
}

impl Outcome {
    /// Returns `Passed` for true and `Failed` for false.
    pub fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }
}

/// The error of a command that continued after problems and has already printed them.
#[derive(Debug, thiserror::Error)]
#[error("some of the work failed, see above")]
pub struct Reported {
    /// Whether the problems include a failed check (exit code 1). Otherwise the exit code is 2.
    pub failed_check: bool,
}
