//! One OODA cycle (observe, orient, decide, act, learn) and its record, `zero.runtime.cycle.v1`.
//!
//! A cycle takes exactly one order through the risk checks. [`run`] decides about a new order;
//! `rerun_recorded` rebuilds the record of a decision that is already in the journal.

use std::path::Path;

use serde::{Serialize, Serializer};
use zero_bus::Json;

use crate::decision::{Decision, Submission};
use crate::engine::Engine;
use crate::error::{Error, Mismatch, Result};
use crate::position::{PositionRecord, to_cents};
use crate::risk::{RiskDecision, TradingMode};
use crate::scenario::{Limits, Order, Side};

/// The `schema_version` of every cycle record.
pub const CYCLE_SCHEMA: &str = "zero.runtime.cycle.v1";

/// The `schema_version` of the cycles of a run on market data. A scenario run cannot continue them.
pub(crate) const MARKET_CYCLE_SCHEMA: &str = "zero.runtime.cycle.v2";

/// The five phases of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Read positions and counts.
    Observe,
    /// Compare the exposure with the limits.
    Orient,
    /// Choose the order.
    Decide,
    /// Check the order against the rules; fill or reject it.
    Act,
    /// Count the results.
    Learn,
}

impl Phase {
    /// All phases in the order of a cycle.
    pub const ORDER: [Self; 5] = [Self::Observe, Self::Orient, Self::Decide, Self::Act, Self::Learn];

    /// Returns the phase's name in the records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Orient => "orient",
            Self::Decide => "decide",
            Self::Act => "act",
            Self::Learn => "learn",
        }
    }
}

/// A cycle record: what the cycle saw, decided and did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CycleRecord {
    /// The act phase.
    pub act: Act,
    /// Time of the cycle, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Number of the cycle: decisions before it plus one.
    pub cycle_id: u64,
    /// The decide phase.
    pub decide: Decide,
    /// The learn phase.
    pub learn: Learn,
    /// Always `paper`.
    pub mode: &'static str,
    /// The observe phase.
    pub observe: Observe,
    /// The orient phase.
    pub orient: Orient,
    /// [`CYCLE_SCHEMA`].
    pub schema_version: &'static str,
}

/// The observe phase: the state before the cycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observe {
    cycle_id: u64,
    decisions_seen: u64,
    fills_seen: u64,
    market_source: String,
    open_positions: Vec<PositionRecord>,
    phase: Phase,
    recovery: Json,
    rejections_seen: u64,
    scenario: String,
}

/// The orient phase: the exposure against the limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Orient {
    limits: LimitsRecord,
    phase: Phase,
    risk_posture: RiskPosture,
    stale_data: bool,
    total_position_notional_usd: Total,
}

/// The decide phase: the order to submit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decide {
    #[serde(skip)]
    cycle_id: u64,
    /// The order's idempotency key.
    pub idempotency_key: String,
    intent: IntentRecord,
    phase: Phase,
    risk_posture: RiskPosture,
    source: String,
}

/// The act phase: the decision about the order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Act {
    accepted: bool,
    /// The decision about the order.
    pub decision: Decision,
    phase: Phase,
    reason: String,
}

/// The learn phase: counts over the whole journal, this cycle included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learn {
    decisions: u64,
    fills: u64,
    open_positions: u64,
    phase: Phase,
    rejections: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LimitsRecord {
    max_notional_usd: f64,
    max_position_notional_usd: f64,
    min_confidence: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct IntentRecord {
    confidence: f64,
    notional_usd: f64,
    price: f64,
    quantity: f64,
    reduce_only: bool,
    side: Side,
    symbol: String,
}

/// How much exposure the limits still allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskPosture {
    /// No position is open.
    Flat,
    /// Positions are open, and the sum of their notionals is below the limit of one position.
    Exposed,
    /// The sum of the notionals is at or above the limit of one position.
    CapacityReached,
}

/// A sum of notionals. Without positions it is written as the integer 0, as the recorded sessions
/// have it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Total(Option<f64>);

impl Serialize for Total {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_u64(0),
            Some(sum) => serializer.serialize_f64(sum),
        }
    }
}

/// Where the process got its initial state from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recovery {
    decisions_recovered: u64,
    durable: bool,
    fills_recovered: u64,
    journal_path: Option<String>,
    last_decision_ts: Option<f64>,
    positions_recovered: u64,
    rejections_recovered: u64,
    source: &'static str,
    status: &'static str,
}

impl Recovery {
    /// Describes a process that started without any decisions.
    pub fn ephemeral() -> Self {
        Self {
            decisions_recovered: 0,
            durable: false,
            fills_recovered: 0,
            journal_path: None,
            last_decision_ts: None,
            positions_recovered: 0,
            rejections_recovered: 0,
            source: "memory",
            status: "ephemeral",
        }
    }

    /// Describes a process that rebuilt its state from the bus, because it has no journal.
    pub fn from_bus(engine: &Engine) -> Self {
        Self { journal_path: None, source: "bus", ..Self::recovered(engine, String::new()) }
    }

    /// Describes a process that rebuilt its state from a journal. `journal_path` is the path as the
    /// operator typed it.
    pub fn recovered(engine: &Engine, journal_path: String) -> Self {
        let counts = engine.counts();
        Self {
            decisions_recovered: counts.decisions,
            durable: true,
            fills_recovered: counts.fills,
            journal_path: Some(journal_path),
            last_decision_ts: engine.last_decision_as_of(),
            positions_recovered: engine.book().open_positions(),
            rejections_recovered: counts.rejections,
            source: "journal",
            status: "recovered",
        }
    }
}

impl CycleRecord {
    /// Returns where the process that ran this cycle got its initial state from.
    pub(crate) fn recovery(&self) -> &Json {
        &self.observe.recovery
    }
}

/// What the records call a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLabels<'a> {
    /// The name of the run, part of every idempotency key.
    pub name: &'a str,
    /// Where the prices come from.
    pub market_source: &'a str,
}

impl RunLabels<'_> {
    /// Returns the idempotency key of a cycle's order.
    fn idempotency_key(&self, cycle_id: u64) -> String {
        format!("runtime-{}-{cycle_id}", self.name)
    }
}

/// Runs one cycle with this order.
///
/// # Errors
/// As [`Engine::submit`]; [`Mismatch::KeyAlreadyUsed`] if the engine already has a decision with
/// the cycle's key, which means that the journal lost decisions.
pub fn run(
    engine: &mut Engine,
    labels: RunLabels<'_>,
    order: &Order,
    recovery: &Json,
    as_of: f64,
) -> Result<CycleRecord> {
    run_phases(engine, labels, order, recovery, as_of, |engine, decide| act(engine, order, decide, as_of))
}

/// Rebuilds the record of a cycle whose decision is already in the journal at `journal`.
///
/// # Errors
/// [`Error::Reconcile`] if the decision belongs to another run, or cannot be applied to the
/// engine's state.
pub(crate) fn rerun_recorded(
    engine: &mut Engine,
    labels: RunLabels<'_>,
    recovery: &Json,
    decision: Decision,
    journal: &Path,
) -> Result<CycleRecord> {
    let (order, as_of) = (decision.order(), decision.as_of);
    run_phases(engine, labels, &order, recovery, as_of, |engine, decide| {
        let mismatch = |mismatch| Error::reconcile(journal.to_owned(), mismatch);
        let cycle_id = decide.cycle_id;
        if decision.idempotency_key.as_ref() != Some(&decide.idempotency_key) {
            let expected_key = decide.idempotency_key.clone();
            return Err(mismatch(Mismatch::OtherRun { cycle_id, expected_key }));
        }
        engine
            .apply_recorded(0, &decision)
            .map_err(|problem| mismatch(Mismatch::NotApplicable { cycle_id, problem }))?;
        Ok(decision)
    })
}

/// Checks that the current limits give a recorded decision the same reason. Decisions that the
/// limits did not make, such as an operator pause or a decision about a reduce-only order, always
/// pass.
///
/// Only a record that is made now needs this check: it states the current limits, and they must
/// explain the decision.
///
/// # Errors
/// [`Mismatch::LimitsChanged`], with `journal` as the path.
pub(crate) fn check_current_limits(engine: &Engine, decision: &Decision, journal: &Path) -> Result<()> {
    let by_limits = [
        RiskDecision::Allowed,
        RiskDecision::LowConfidence,
        RiskDecision::OrderNotional,
        RiskDecision::ProjectedPosition,
    ];
    if !by_limits.iter().any(|risk_decision| risk_decision.reason() == decision.reason) {
        return Ok(());
    }
    let current = engine.risk_decision(TradingMode::Open, engine.reduce_only_rule(), &decision.order())?;
    if current.reason() == decision.reason {
        return Ok(());
    }
    let mismatch = Mismatch::LimitsChanged {
        cycle_id: engine.counts().decisions + 1,
        recorded_reason: decision.reason.clone(),
        current_reason: current.reason(),
    };
    Err(Error::reconcile(journal.to_owned(), mismatch))
}

/// Runs the phases in their order. `act` returns the decision and must have applied it to the
/// engine.
fn run_phases(
    engine: &mut Engine,
    labels: RunLabels<'_>,
    order: &Order,
    recovery: &Json,
    as_of: f64,
    act: impl FnOnce(&mut Engine, &Decide) -> Result<Decision>,
) -> Result<CycleRecord> {
    let observe = observe(engine, labels, recovery);
    let orient = orient(&observe, engine.limits());
    let cycle_id = observe.cycle_id;
    let decide = decide(order, labels, cycle_id, orient.risk_posture);
    let decision = act(engine, &decide)?;
    let act =
        Act { accepted: decision.allowed, reason: decision.reason.clone(), decision, phase: Phase::Act };
    let learn = learn(engine);
    Ok(CycleRecord {
        act,
        as_of,
        cycle_id,
        decide,
        learn,
        mode: "paper",
        observe,
        orient,
        schema_version: CYCLE_SCHEMA,
    })
}

/// Returns the trace id that a cycle's decision and events carry.
pub fn trace_id(cycle_id: u64) -> String {
    format!("{TRACE_PREFIX}{cycle_id}")
}

/// Says that a start has completed cycles that a crash or a lost bus left incomplete.
pub(crate) fn describe_completed(first: u64, last: u64) -> String {
    match last.saturating_sub(first) {
        0 => format!("cycle {first} was completed"),
        more => format!("{} cycles ({first} to {last}) were completed", more + 1),
    }
}

/// Returns the cycle of a trace id; `None` if it is not exactly what [`trace_id`] returns for a
/// cycle.
pub(crate) fn cycle_of_trace(trace: Option<&str>) -> Option<u64> {
    let trace = trace?;
    let cycle_id = trace.strip_prefix(TRACE_PREFIX)?.parse().ok()?;
    (trace_id(cycle_id) == trace).then_some(cycle_id)
}

const TRACE_PREFIX: &str = "runtime-cycle-";

fn observe(engine: &Engine, labels: RunLabels<'_>, recovery: &Json) -> Observe {
    let counts = engine.counts();
    Observe {
        cycle_id: counts.decisions + 1,
        decisions_seen: counts.decisions,
        fills_seen: counts.fills,
        market_source: labels.market_source.to_owned(),
        open_positions: engine.book().records(),
        phase: Phase::Observe,
        recovery: recovery.clone(),
        rejections_seen: counts.rejections,
        scenario: labels.name.to_owned(),
    }
}

fn orient(observe: &Observe, limits: &Limits) -> Orient {
    let positions = &observe.open_positions;
    // Sums the rounded notionals that the record shows, so that a reader of the record gets the
    // same sum.
    let sum = to_cents(positions.iter().map(|position| position.notional_usd).sum());
    let risk_posture = if positions.is_empty() {
        RiskPosture::Flat
    } else if sum >= limits.max_position_notional_usd {
        RiskPosture::CapacityReached
    } else {
        RiskPosture::Exposed
    };
    Orient {
        limits: LimitsRecord {
            max_notional_usd: limits.max_notional_usd,
            max_position_notional_usd: limits.max_position_notional_usd,
            min_confidence: limits.min_confidence,
        },
        phase: Phase::Orient,
        risk_posture,
        stale_data: false,
        total_position_notional_usd: Total((!positions.is_empty()).then_some(sum)),
    }
}

fn decide(order: &Order, labels: RunLabels<'_>, cycle_id: u64, risk_posture: RiskPosture) -> Decide {
    Decide {
        cycle_id,
        idempotency_key: labels.idempotency_key(cycle_id),
        intent: IntentRecord {
            confidence: order.confidence,
            notional_usd: to_cents(order.notional_usd()),
            price: order.price,
            quantity: order.quantity,
            reduce_only: order.reduce_only,
            side: order.side,
            symbol: order.symbol.clone(),
        },
        phase: Phase::Decide,
        risk_posture,
        source: format!("runtime:{}", labels.name),
    }
}

fn act(engine: &mut Engine, order: &Order, decide: &Decide, as_of: f64) -> Result<Decision> {
    let cycle_id = decide.cycle_id;
    let submission = Submission {
        source: &decide.source,
        idempotency_key: Some(&decide.idempotency_key),
        trace_id: Some(&trace_id(cycle_id)),
        as_of,
    };
    let outcome = engine.submit(order, &submission)?;
    if !outcome.repeated {
        return Ok(outcome.decision);
    }
    let mismatch = Mismatch::KeyAlreadyUsed {
        cycle_id,
        key: decide.idempotency_key.clone(),
        decisions: engine.counts().decisions,
    };
    Err(Error::reconcile(engine.journal().path(), mismatch))
}

fn learn(engine: &Engine) -> Learn {
    let counts = engine.counts();
    Learn {
        decisions: counts.decisions,
        fills: counts.fills,
        open_positions: engine.book().open_positions(),
        phase: Phase::Learn,
        rejections: counts.rejections,
    }
}
