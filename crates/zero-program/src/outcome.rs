//! What a command reports.

/// The outcome of a command that could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong: exit code 0.
    Passed,
    /// The check ran and failed: exit code 1.
    Failed,
}

impl Outcome {
    /// Passed if `holds`, otherwise failed.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Passed } else { Self::Failed }
    }
}

/// The error of a command that has already printed every problem it met, because it continued after each.
#[derive(Debug, thiserror::Error)]
#[error("some of the work failed, see above")]
pub struct Reported {
    /// Whether a problem was a failed check (exit code 1) and not an obstacle (exit code 2).
    pub failed_check: bool,
}
