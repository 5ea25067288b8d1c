//! What every program of this project shares: how it reads its arguments, what it prints for people, and how it ends.
//!
//! Exit codes: 0 success; 1 the check ran and failed; 2 the command could not run; 3 an operator's `kill` stopped the
//! run or blocks the start (`zero-engine-run` only). Results go to standard output, messages to standard error.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod exit;
pub mod message;
pub mod outcome;
pub mod output;
pub mod signals;
