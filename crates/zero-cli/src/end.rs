//! How a program ends: 0 fine, 1 judged and found wanting, 2 could not be done.

use std::io;
use std::process::ExitCode;

use zero_bus::JsonError;

/// What a command that could be carried out found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing to complain about.
    Fine,
    /// Something is wrong with what was looked at.
    Wanting,
}

impl Judgement {
    /// Fine where something holds.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Fine } else { Self::Wanting }
    }
}

/// Turns what a command came to into an exit code, with one line on standard error where it could not be
/// done.
pub fn exit(program: &str, result: anyhow::Result<Judgement>) -> ExitCode {
    let error = match result {
        Ok(Judgement::Fine) => return ExitCode::SUCCESS,
        Ok(Judgement::Wanting) => return ExitCode::from(1),
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    eprintln!("{program}: {}", one_line(&format!("{error:#}")));
    ExitCode::from(if is_damage(&error) { 1 } else { 2 })
}

/// Damage to a log is something that was found by looking, not something that kept us from it.
fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(zero_bus::Error::Damaged { .. })))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<OutputClosed>().is_some_and(|closed| is_broken(&closed.0))
}

/// Standard output could not be written to.
#[derive(Debug)]
pub struct OutputClosed(pub io::Error);

impl std::fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for OutputClosed {}

/// What is wrong with a line of JSON, where the line itself is named by the caller.
pub fn problem_in_line(error: &JsonError) -> String {
    let path = error.path();
    let separator = if path.is_empty() { "" } else { ": " };
    let byte = error.offset().map(|offset| format!(" (byte {} of the line)", offset + 1)).unwrap_or_default();
    format!("{path}{separator}{}{byte}", error.problem())
}

/// Control characters from outside must not reach a terminal, nor break the one line.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
