//! Public exports: what an operator may show to everybody.
//!
//! An export is built from [`Aggregates`] alone. Records never reach it, so no free text of a
//! record (symbols, reasons, keys, traces, sources) can leak: there is nothing to delete. Handle
//! and display name come from the operator.
//!
//! The formats `zero.network.profile.v1` and `zero.intelligence.snapshot.v1` are described in
//! `docs/FORMAT.md`.

use std::path::Path;

use serde::Serialize;
use zero_bus::{Checksum, Json, JsonError, Reader};

use crate::decision::Decision;
use crate::error::Error;
use crate::journal::Journal;
use crate::journal_check::first_line_is_market;
use crate::line_file::LineFile;
use crate::market::reader::is_market_bus;
use crate::market::totals::Totals;
use crate::position::{Book, rounded, to_cents};
use crate::reconcile;

/// The `schema_version` of the profile.
pub const PROFILE_SCHEMA: &str = "zero.network.profile.v1";

/// The `schema_version` of the intelligence snapshot.
pub const INTELLIGENCE_SCHEMA: &str = "zero.intelligence.snapshot.v1";

const PROOF_SCHEMA: &str = "zero.network.proof.v1";

/// Every recorded run is a paper run.
const MODE: &str = "paper";

/// What the exports leave out and what they contain, in the words of the format.
const EXCLUDED: [&str; 8] = [
    "raw decisions",
    "trace ids",
    "idempotency keys",
    "wallet addresses",
    "exchange order ids",
    "private notes",
    "strategy source labels",
    "per-trade symbols",
];
const INCLUDED: [&str; 7] = [
    "aggregate decision counts",
    "aggregate fill and rejection counts",
    "aggregate notional",
    "verification badge status",
    "proof hash",
    "deployment claim hash",
    "deployment heartbeat hash",
];
const COMMERCIAL_UNLOCKS: [&str; 8] = [
    "realtime feed",
    "longer history",
    "cohort analytics",
    "benchmark analytics",
    "webhooks",
    "bulk exports",
    "commercial redistribution rights",
    "enterprise reliability commitments",
];

/// What the operator asks for. Everything in it appears in the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    handle: String,
    display_name: Option<String>,
    publish_enabled: bool,
    generated_at: String,
    public_delay_s: u64,
    checkpoint: Option<PublicCheckpoint>,
}

/// The signed checkpoint of the events from which an export was computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PublicCheckpoint {
    events: u64,
    note: String,
}

impl Request {
    /// Checks a request. `generated_at` is a time in RFC 3339, `public_delay_s` the delay in
    /// seconds that the publisher promises; it is stated in the export and does not change its
    /// figures.
    ///
    /// # Errors
    /// The field at fault and what it must be.
    pub fn new(
        handle: &str,
        display_name: Option<&str>,
        publish_enabled: bool,
        generated_at: &str,
        public_delay_s: u64,
    ) -> Result<Self, String> {
        let is_handle = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !(3..=32).contains(&handle.chars().count()) || !handle.chars().all(is_handle) {
            return Err("handle: must be 3 to 32 characters from A-Z, a-z, 0-9, _ and -".to_owned());
        }
        if display_name.is_some_and(|name| name.chars().count() > 80 || name.chars().any(char::is_control)) {
            return Err("display name: must be at most 80 characters, without control characters".to_owned());
        }
        Ok(Self {
            handle: handle.to_owned(),
            display_name: display_name.map(str::to_owned),
            publish_enabled,
            generated_at: generated_at.to_owned(),
            public_delay_s,
            checkpoint: None,
        })
    }

    /// Has the export carry the signed checkpoint of the first events of the log, from which its
    /// figures are computed. `note` appears as it is.
    pub fn with_checkpoint(self, events: u64, note: String) -> Self {
        Self { checkpoint: Some(PublicCheckpoint { events, note }), ..self }
    }
}

/// The figures of a run. All that an export knows about it.
#[derive(Clone, Debug, Default)]
pub struct Aggregates {
    decisions: u64,
    accepted: u64,
    fills: u64,
    total_notional_usd: f64,
    book: Book,
}

impl Aggregates {
    /// The figures of the last run on a bus.
    ///
    /// # Errors
    /// What prevents reading the bus; a bus that lacks a decision of the run.
    pub fn of_bus(reader: &Reader) -> Result<Self, Error> {
        Self::of_first_events(reader, u64::MAX)
    }

    /// The figures as they were after the event with index `last`.
    ///
    /// # Errors
    /// As [`Aggregates::of_bus`].
    pub fn of_first_events(reader: &Reader, last: u64) -> Result<Self, Error> {
        if is_market_bus(reader, last)? {
            return Ok(Self::of_totals(Totals::of_first_events(reader, last)?));
        }
        let mut aggregates = Self::default();
        reconcile::read_decisions_up_to(reader, last)?.iter().for_each(|decision| aggregates.add(decision));
        Ok(aggregates)
    }

    /// The figures of a decision journal, which is neither locked nor changed.
    ///
    /// # Errors
    /// What prevents reading the journal, with the first line that is not a decision or, in the
    /// journal of a run on market data, not a cycle.
    pub fn of_journal(path: &Path) -> Result<Self, Error> {
        if first_line_is_market(path)? == Some(true) {
            return Ok(Self::of_totals(Totals::of_journal(path)?));
        }
        let mut aggregates = Self::default();
        for entry in Journal::File(LineFile::read_only(path)?).entries() {
            aggregates.add(&entry?.decision);
        }
        Ok(aggregates)
    }

    fn of_totals(totals: Totals) -> Self {
        let Totals { decisions, accepted, fills, notional_usd, book } = totals;
        Self { decisions, accepted, fills, total_notional_usd: notional_usd, book }
    }

    /// Counts the next decision of the run of a scenario.
    pub fn add(&mut self, decision: &Decision) {
        let order = decision.order();
        self.decisions += 1;
        self.total_notional_usd += order.notional_usd();
        if decision.allowed {
            self.accepted += 1;
            self.fills += 1;
            let position = self.book.position(&order.symbol).after(&order);
            self.book.set(&order.symbol, position);
        }
    }

    fn rejections(&self) -> u64 {
        self.decisions - self.accepted
    }

    /// A part of the decisions, to 4 places; 0 without decisions.
    fn rate(&self, count: u64) -> f64 {
        if self.decisions == 0 { 0.0 } else { rounded(count as f64 / self.decisions as f64, 4) }
    }

    fn figures(&self) -> Figures {
        Figures {
            acceptance_rate: self.rate(self.accepted),
            decisions: self.decisions,
            fills: self.fills,
            open_positions: self.book.open_positions(),
            rejection_rate: self.rate(self.rejections()),
            rejections: self.rejections(),
            total_notional_usd: to_cents(self.total_notional_usd),
        }
    }

    /// Decisions come from a journal or a bus only, and both are durable.
    fn metrics(&self) -> Metrics {
        Metrics { figures: self.figures(), journal_durable: true, live_execution_count: 0 }
    }

    /// min(100, decisions + 1.5 x rejections + 10 for a durable journal), to 2 places.
    fn verification_score(&self) -> f64 {
        to_cents((self.decisions as f64 + 1.5 * self.rejections() as f64 + 10.0).min(100.0))
    }

    fn status(&self) -> &'static str {
        if self.decisions == 0 { "empty" } else { "verified" }
    }

    fn activity_level(&self) -> &'static str {
        match self.decisions {
            0 => "none",
            1..10 => "low",
            10..100 => "moderate",
            _ => "high",
        }
    }

    fn rejection_discipline(&self) -> &'static str {
        match self.rate(self.rejections()) {
            rate if rate <= 0.0 => "none",
            rate if rate < 0.5 => "loose",
            rate if rate < 0.9 => "selective",
            _ => "strict",
        }
    }

    fn execution_pressure(&self) -> &'static str {
        match self.rate(self.accepted) {
            rate if rate <= 0.0 => "none",
            rate if rate < 0.1 => "very_low",
            rate if rate < 0.35 => "low",
            rate if rate < 0.65 => "balanced",
            _ => "high",
        }
    }

    fn proof_hash(&self, handle: &str) -> Result<Checksum, JsonError> {
        #[derive(Serialize)]
        struct Proof<'a> {
            deployment_claim_hash: (),
            deployment_heartbeat_hash: (),
            handle: &'a str,
            metrics: Metrics,
            mode: &'a str,
            schema_version: &'a str,
        }
        let proof = Proof {
            deployment_claim_hash: (),
            deployment_heartbeat_hash: (),
            handle,
            metrics: self.metrics(),
            mode: MODE,
            schema_version: PROOF_SCHEMA,
        };
        Ok(Checksum::of(Json::of(&proof)?.as_str().as_bytes()))
    }
}

#[derive(Serialize)]
struct Figures {
    acceptance_rate: f64,
    decisions: u64,
    fills: u64,
    open_positions: u64,
    rejection_rate: f64,
    rejections: u64,
    total_notional_usd: f64,
}

#[derive(Serialize)]
struct Metrics {
    #[serde(flatten)]
    figures: Figures,
    journal_durable: bool,
    live_execution_count: u64,
}

#[derive(Serialize)]
struct Privacy {
    default: &'static str,
    excluded: [&'static str; 8],
    included: [&'static str; 7],
    publication: &'static str,
}

const PRIVACY: Privacy =
    Privacy { default: "private", excluded: EXCLUDED, included: INCLUDED, publication: "opt-in" };

/// The profile, `zero.network.profile.v1`.
///
/// # Errors
/// [`JsonError`] if the total notional exceeds the range of a double.
pub fn profile(aggregates: &Aggregates, request: &Request) -> Result<Json, JsonError> {
    #[derive(Serialize)]
    struct Profile<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        checkpoint: Option<&'a PublicCheckpoint>,
        deployment_claim: (),
        deployment_heartbeat: (),
        generated_at: &'a str,
        leaderboard_row: LeaderboardRow<'a>,
        metrics: Metrics,
        mode: &'a str,
        privacy: Privacy,
        profile: Identity<'a>,
        schema_version: &'a str,
        verification: Verification<'a>,
    }
    #[derive(Serialize)]
    struct LeaderboardRow<'a> {
        decisions: u64,
        deployment_claim_hash: (),
        deployment_heartbeat_hash: (),
        handle: &'a str,
        mode: &'a str,
        open_positions: u64,
        proof_hash: &'a str,
        rejection_rate: f64,
        verification_score: f64,
    }
    #[derive(Serialize)]
    struct Identity<'a> {
        display_name: &'a str,
        handle: &'a str,
        publish_enabled: bool,
    }
    #[derive(Serialize)]
    struct Verification<'a> {
        badges: Vec<Badge<'a>>,
        deployment_claim_hash: (),
        deployment_heartbeat_hash: (),
        proof_hash: &'a str,
        status: &'a str,
    }
    #[derive(Serialize)]
    struct Badge<'a> {
        evidence: &'a str,
        name: &'a str,
        status: &'a str,
    }
    let (handle, proof_hash) = (request.handle.as_str(), aggregates.proof_hash(&request.handle)?.to_string());
    let status = aggregates.status();
    let badges = [("paper_verified", status), ("durable_journal", "verified")];
    let figures = aggregates.figures();
    Json::of(&Profile {
        checkpoint: request.checkpoint.as_ref(),
        deployment_claim: (),
        deployment_heartbeat: (),
        generated_at: &request.generated_at,
        leaderboard_row: LeaderboardRow {
            decisions: figures.decisions,
            deployment_claim_hash: (),
            deployment_heartbeat_hash: (),
            handle,
            mode: MODE,
            open_positions: figures.open_positions,
            proof_hash: &proof_hash,
            rejection_rate: figures.rejection_rate,
            verification_score: aggregates.verification_score(),
        },
        metrics: aggregates.metrics(),
        mode: MODE,
        privacy: PRIVACY,
        profile: Identity {
            display_name: request.display_name.as_deref().unwrap_or(handle),
            handle,
            publish_enabled: request.publish_enabled,
        },
        schema_version: PROFILE_SCHEMA,
        verification: Verification {
            badges: badges.map(|(name, status)| Badge { evidence: &proof_hash, name, status }).into(),
            deployment_claim_hash: (),
            deployment_heartbeat_hash: (),
            proof_hash: &proof_hash,
            status,
        },
    })
}

/// The intelligence snapshot, `zero.intelligence.snapshot.v1`.
///
/// # Errors
/// [`JsonError`] if the total notional exceeds the range of a double.
pub fn intelligence(aggregates: &Aggregates, request: &Request) -> Result<Json, JsonError> {
    #[derive(Serialize)]
    struct Intelligence<'a> {
        access: Access<'a>,
        aggregates: Figures,
        #[serde(skip_serializing_if = "Option::is_none")]
        checkpoint: Option<&'a PublicCheckpoint>,
        commercial_unlocks: [&'a str; 8],
        generated_at: &'a str,
        privacy: AggregatePrivacy<'a>,
        schema_version: &'a str,
        signals: Signals<'a>,
        source: Source<'a>,
    }
    #[derive(Serialize)]
    struct Access<'a> {
        class: &'a str,
        commercial_history: bool,
        commercial_realtime: bool,
        commercial_redistribution: bool,
        delay_s: u64,
    }
    #[derive(Serialize)]
    struct AggregatePrivacy<'a> {
        contains_exchange_credentials: bool,
        contains_private_notes: bool,
        decision_records_included: bool,
        default: &'a str,
        inherits: Privacy,
    }
    #[derive(Serialize)]
    struct Signals<'a> {
        activity_level: &'a str,
        execution_pressure: &'a str,
        journal_quality: &'a str,
        live_observed: bool,
        rejection_discipline: &'a str,
    }
    #[derive(Serialize)]
    struct Source<'a> {
        deployment_claim_hash: (),
        deployment_heartbeat_hash: (),
        mode: &'a str,
        proof_hash: String,
        schema_version: &'a str,
        verification_status: &'a str,
    }
    Json::of(&Intelligence {
        access: Access {
            class: "public_delayed",
            commercial_history: true,
            commercial_realtime: true,
            commercial_redistribution: true,
            delay_s: request.public_delay_s,
        },
        aggregates: aggregates.figures(),
        checkpoint: request.checkpoint.as_ref(),
        commercial_unlocks: COMMERCIAL_UNLOCKS,
        generated_at: &request.generated_at,
        privacy: AggregatePrivacy {
            contains_exchange_credentials: false,
            contains_private_notes: false,
            decision_records_included: false,
            default: "aggregate-only",
            inherits: PRIVACY,
        },
        schema_version: INTELLIGENCE_SCHEMA,
        signals: Signals {
            activity_level: aggregates.activity_level(),
            execution_pressure: aggregates.execution_pressure(),
            journal_quality: "durable",
            live_observed: false,
            rejection_discipline: aggregates.rejection_discipline(),
        },
        source: Source {
            deployment_claim_hash: (),
            deployment_heartbeat_hash: (),
            mode: MODE,
            proof_hash: aggregates.proof_hash(&request.handle)?.to_string(),
            schema_version: PROFILE_SCHEMA,
            verification_status: aggregates.status(),
        },
    })
}
