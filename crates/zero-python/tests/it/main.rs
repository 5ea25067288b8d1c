//! Runs the tests of the Python package, which are written in Python (`tests/python`).

#![allow(clippy::unwrap_used)]

mod environment;
mod package;
