//! The paper trading runtime.
//!
//! A runtime takes orders from an order source, passes each through one cycle (observe, orient,
//! decide, act, learn), fills accepted orders on paper, and records what it saw, decided and did.
//!
//! Modules in reading order:
//!
//! - Inputs: [`scenario`], [`order_source`] (the seam for strategies), [`Clock`].
//! - Core: [`position`], [`risk`], [`decision`], [`journal`] on [`line_file`], [`engine`],
//!   [`cycle`].
//! - Runtime: [`event_types`], [`publish`] (a cycle's events), [`operator`] (commands),
//!   [`reconcile`] (journal and bus at start), [`start_checkpoint`], [`runtime`].
//! - Reading a bus: [`summary`], [`explain`], [`state`], [`replay`].
//! - Live path, disabled: [`live`], [`drills`], [`parity`], [`feedback`].
//!
//! ```
//! use std::sync::Arc;
//! use zero_paper::{FixedClock, RecordPaths, Runtime, Scenario};
//!
//! let scenario = Scenario::parse(
//!     r#"{"orders": [{"symbol": "BTC", "side": "buy", "quantity": 0.01, "price": 40000,
//!                     "confidence": 0.8}]}"#,
//! ).unwrap();
//! let clock = Arc::new(FixedClock(1777593600.0));
//! let mut runtime = Runtime::start(scenario, &RecordPaths::default(), clock)?;
//! let cycle = runtime.run_cycle()?;
//! assert!(cycle.act.decision.allowed);
//! assert_eq!(runtime.engine().book().position("BTC").quantity, 0.01);
//! # Ok::<(), zero_paper::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod account;
mod bus_lock;
pub mod candle;
mod child_process;
mod clock;
pub mod cycle;
mod cycle_events;
mod cycle_sequence;
mod cycle_settings;
pub mod decision;
pub mod drills;
pub mod engine;
mod error;
pub mod event_types;
pub mod explain;
pub mod feed;
pub mod feedback;
mod field;
pub mod journal;
pub mod journal_check;
mod key_index;
pub mod limit_drills;
pub mod line_file;
mod line_reader;
pub mod live;
pub mod market;
mod opening_bus;
pub mod operator;
pub mod order_record;
pub mod order_source;
pub mod parity;
pub mod position;
pub mod public;
pub mod publish;
mod raw_name;
pub mod reached_limit;
pub mod reconcile;
mod record_paths;
mod recovery;
pub mod repeated_keys;
pub mod replay;
pub mod report;
pub mod risk;
pub mod runtime;
pub mod scenario;
pub mod start_checkpoint;
pub mod state;
pub mod strategy;
pub mod summary;
pub mod symbol;
pub mod text;
mod used_keys;

pub use clock::{Clock, FixedClock, SystemClock, duration, moment, rfc3339};
pub use error::{Error, Mismatch, Result, UnsupportedIntent};
pub use order_source::{Intent, OrderSource, Run};
pub use record_paths::RecordPaths;
pub use runtime::{PauseEnd, Runtime};
pub use scenario::Scenario;
