//! The events of a bus as tables: raw events, and the decisions, fills, rejections, positions,
//! cycles and candles in them, with proper types.
//!
//! [`TABLES`] says which columns each [`Table`] has; they are those of the views of a mirror in SQL
//! (`docs/QUERIES.md`). [`Batches`] reads a table in batches of bounded size. From there, feature
//! `arrow` leads to other programs in this process, and feature `parquet` to files: [`export`]
//! brings a directory of them up to date.

#![forbid(unsafe_code)]

mod batch;
mod batches;
mod extract;
mod json_text;
mod table;

#[cfg(feature = "arrow")]
pub mod arrow;
#[cfg(feature = "parquet")]
pub mod export;
#[cfg(feature = "parquet")]
mod parquet_file;

pub use batch::{Batch, Column, Values};
pub use batches::Batches;
pub use table::{ColumnDefinition, Kind, TABLES, Table};
