//! Replays a recorded run with the current engine.
//!
//! [`replay`] re-runs each recorded cycle under its recorded conditions and compares every event
//! with the log: it shows that the engine still decides the same. [`what_if`] submits the recorded
//! orders under other limits and compares the results of the two runs. Both know the cycles of
//! scenarios and those on market data. [`replay_strategy`] has a strategy decide again on the
//! recorded observations.

mod as_recorded;
mod certificate;
mod commands;
mod comparison;
mod limits;
mod market;
mod reading;
mod results;
mod scenario;
mod strategy;
mod what_if;

pub use as_recorded::replay;
pub use certificate::{
    CERTIFICATE_SCHEMA, Certificate, EngineIdentity, Reproduced, Sequence, TakenFromRecord,
};
pub use limits::LimitOverrides;
pub use results::{ChangedDecision, Difference, Outcome, Replay, Tally, WhatIf};
pub use strategy::{StrategyReplay, replay_strategy};
pub use what_if::what_if;
