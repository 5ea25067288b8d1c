//! What the programs of this project share: arguments, output, messages and exit codes.
//!
//! Results go to standard output, messages for people to standard error. Exit codes: 0 success, 1
//! the check ran and failed, 2 the command could not run.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod exit;
pub mod message;
pub mod outcome;
pub mod output;
pub mod signals;
pub mod summary_lines;
