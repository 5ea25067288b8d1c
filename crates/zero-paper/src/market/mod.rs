//! Runs on market data: a feed delivers bars, a strategy decides, the runtime checks, fills and
//! records.
//!
//! One bar is one cycle. The cycle is computed without I/O ([`cycle`]), becomes a record
//! ([`record`]) and events ([`events`]), and is written to the journal and to the bus ([`journal`],
//! [`runtime`]). A restart applies the recorded cycles to the same state ([`state`]), so that it
//! continues where the records end.
//!
//! Modules in reading order: [`run_file`], [`checks`], [`state`], [`cycle`], [`record`],
//! [`events`], [`journal`], [`reader`], `recovery`, `checkpoint`, [`runtime`], `notices`,
//! [`trading`], [`orders`], `journal_check`, `totals`.

mod checkpoint;
pub mod checks;
pub mod cycle;
pub mod events;
pub mod journal;
pub(crate) mod journal_check;
mod notices;
pub mod orders;
pub mod reader;
pub mod record;
mod recovery;
pub mod run_file;
pub mod runtime;
pub mod state;
pub(crate) mod totals;
pub mod trading;
