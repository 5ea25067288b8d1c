//! A report about a run, as one HTML file or as CSV files.
//!
//! The figures come from [`zero_paper::report`]; this crate only shows them.

#![forbid(unsafe_code)]

mod axis;
mod chart;
pub mod csv;
pub mod html;
mod tables;
mod text;

pub use chart::ChartError;
