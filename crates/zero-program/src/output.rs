//! Results, on standard output.

use std::io::{self, Write};

use crate::outcome::Outcome;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputClosed(pub io::Error);

/// Prints a result on standard output, flushes it and returns `outcome`. A pipe that its reader has
/// closed is not an error.
///
/// # Errors
/// [`OutputClosed`] if standard output cannot be written for another reason.
pub fn print(text: &str, outcome: Outcome) -> anyhow::Result<Outcome> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputClosed(error).into()),
        _ => Ok(outcome),
    }
}

pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<OutputClosed>().is_some_and(|closed| closed.0.kind() == io::ErrorKind::BrokenPipe)
}
