//! The error of this library.

/// An option, a file, an address or the environment cannot be used as it is. The message says what
/// to change.
///
/// There is one kind only, since the caller always does the same: report it and stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {problem}")]
pub struct Error {
    /// The file, address or variable. It contains no secret.
    pub subject: String,
    /// What is wrong with it, and what to change.
    pub problem: String,
}

impl Error {
    pub(crate) fn new(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { subject: subject.into(), problem: problem.into() }
    }
}

/// The result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;
