//! What the binaries have in common: how a program ends, and how long work is shown.

#![forbid(unsafe_code)]

pub mod end;
pub mod progress;
