//! The paper trading runtime: it takes the orders of a scenario through observe, orient, decide, act and
//! learn, fills them on paper, and leaves a record of what it saw, decided and did.
//!
//! Modules in reading order: what is asked ([`scenario`]), what is held ([`position`]), what is let through
//! ([`risk`]), what was decided ([`decision`]) and where that is kept ([`journal`]), the [`engine`] between
//! them, one [`cycle`] around it, what a cycle leaves on the bus ([`publish`]), the [`runtime`] that goes on
//! and on. A bus can be told and gone through again: [`reconcile`], [`summary`], [`explain`], [`state`], [`replay`]. Beside it stands the [`live`] executor, closed, with its [`drills`], the [`parity`] report that
//! shows it stays closed, and the [`feedback`] a run gives.
//!
//! ```
//! use zero_paper::{Clock, RecordPaths, Runtime, Scenario};
//!
//! let scenario = Scenario::parse(
//!     r#"{"orders": [{"symbol": "BTC", "side": "buy", "quantity": 0.01, "price": 40000, "confidence": 0.8}]}"#,
//! ).unwrap();
//! let mut runtime = Runtime::start(scenario, &RecordPaths::default(), Clock::Fixed(1777593600.0))?;
//! let cycle = runtime.run_cycle()?;
//! assert!(cycle.act.decision.allowed);
//! assert_eq!(runtime.engine().book().position("BTC").quantity, 0.01);
//! # Ok::<(), zero_paper::Error>(())
//! ```

#![forbid(unsafe_code)]

mod clock;
pub mod cycle;
pub mod decision;
pub mod drills;
pub mod engine;
mod error;
pub mod event_types;
pub mod explain;
pub mod feedback;
mod field;
pub mod journal;
pub mod line_file;
pub mod live;
pub mod operator;
pub mod parity;
pub mod position;
pub mod publish;
pub mod reconcile;
pub mod replay;
pub mod risk;
pub mod runtime;
pub mod scenario;
pub mod state;
pub mod summary;
pub mod text;

pub use clock::{Clock, moment, rfc3339};
pub use error::{Error, Result};
pub use runtime::{Pause, RecordPaths, Runtime};
pub use scenario::Scenario;
