//! Errors, sorted by what the caller does next.

use std::io;
use std::path::PathBuf;

/// An option, a file or a directory that cannot be used.
///
/// A message is one line without a final period. It contains no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, a file or a URL cannot be used as it is. The problem says what to change.
    #[error("{subject}: {problem}")]
    Invalid {
        /// The option, file, URL or key.
        subject: String,
        /// What is wrong with it, and what to change.
        problem: String,
    },
    /// The system refused a file operation. Fix the cause, then try again.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What failed, as a verb phrase that the path completes.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why a witness has not cosigned a submitted checkpoint, sorted by what the operator does next.
///
/// A message is one line without a final period and begins with the URL. Text of the witness in it
/// is short and escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The witness was not reached, or cannot answer now. Try again later.
    #[error("{url}: {problem}")]
    Unavailable {
        /// The submission prefix.
        url: String,
        /// Why there is no answer.
        problem: String,
    },
    /// The witness refused the request, or its answer is no cosignature by the policy's key. The
    /// same request will fail again; policy or witness must change.
    #[error("{url}: {problem}")]
    Refused {
        /// The submission prefix.
        url: String,
        /// What the witness answered.
        problem: String,
    },
    /// The witness has cosigned a checkpoint that this one does not extend. The log was truncated,
    /// rewritten or restored from an older copy, or its key signs two logs.
    #[error("{url}: {problem}")]
    Inconsistent {
        /// The submission prefix.
        url: String,
        /// What the witness has cosigned.
        problem: String,
    },
    /// The consistency proof that the witness needs cannot be made.
    #[error("{url}: cannot prove that the checkpoint extends the tree of {old_size} events: {problem}")]
    NoProof {
        /// The submission prefix.
        url: String,
        /// The size that the witness cosigned last.
        old_size: u64,
        /// Why there is no proof.
        problem: String,
    },
}

/// The result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { subject: subject.into(), problem: problem.into() }
    }

    pub(crate) fn io(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path, source }
    }
}

impl From<zero_http::Error> for Error {
    fn from(error: zero_http::Error) -> Self {
        Self::Invalid { subject: error.subject, problem: error.problem }
    }
}
