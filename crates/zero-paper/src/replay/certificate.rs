//! The certificate of a replay, `zero.runtime.replay.v1`: whether a strategy, run again on the
//! recorded observations, gave the recorded decisions.

use serde::Serialize;
use zero_bus::{Checksum, Head};

use crate::strategy::StrategyIdentity;

use super::results::Difference;

/// The `schema_version` of a certificate.
pub const CERTIFICATE_SCHEMA: &str = "zero.runtime.replay.v1";

/// The result of a replay with a strategy. It has no time of its own: the same run, strategy and
/// engine give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    /// Checksum of the first event, which identifies the bus.
    pub bus_id: Option<Checksum>,
    /// The settings that the run was recorded under.
    pub configuration: Sequence,
    /// The cycles.
    pub cycles: Reproduced,
    /// The decisions about orders.
    pub decisions: Reproduced,
    /// The first event that differs: `before` is recorded, `after` is replayed.
    pub difference: Option<Difference>,
    /// The program that ran the cycles again.
    pub engine: EngineIdentity,
    /// Number of events missing from the last cycle, at least: it is still running, or a crash
    /// interrupted it.
    pub events_missing: u64,
    /// The last event that was read.
    pub head: Head,
    /// The recorded observations.
    pub observations: Sequence,
    /// Name of the run.
    pub run: String,
    /// [`CERTIFICATE_SCHEMA`].
    pub schema_version: &'static str,
    /// The strategy that ran again.
    pub strategy: StrategyIdentity,
    /// The cycles in which the strategy was not asked.
    pub taken_from_record: TakenFromRecord,
}

/// How many were recorded, and how many of them came out the same up to the first difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reproduced {
    /// Number on the bus.
    pub recorded: u64,
    /// Number that the replay reproduced.
    pub reproduced: u64,
}

/// What ran the cycles again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineIdentity {
    /// Name of the program.
    pub name: String,
    /// Checksum of the program's file.
    pub sha256: Checksum,
    /// Version of the program.
    pub version: String,
}

/// Cycles whose outcome did not come from an answer of the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TakenFromRecord {
    /// Cycles in which the strategy failed. A failure is a fact from outside the strategy.
    pub failures: u64,
    /// Cycles about an order of another program.
    pub orders: u64,
}

/// A checksum over a sequence of documents.
///
/// The checksum after a document is that of two texts, one after the other: the text form of the
/// checksum before it (empty at first), and the canonical document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sequence {
    /// Number of documents.
    pub count: u64,
    /// The checksum after the last document; `None` without documents.
    pub sha256: Option<Checksum>,
}

impl Sequence {
    /// Adds a document.
    pub(super) fn add(&mut self, document: &str) {
        let before = self.sha256.map(|checksum| checksum.to_string()).unwrap_or_default();
        self.sha256 = Some(Checksum::of((before + document).as_bytes()));
        self.count += 1;
    }
}
