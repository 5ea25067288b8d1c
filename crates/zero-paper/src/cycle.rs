//! One OODA cycle: observe, orient, decide, act, learn. What it saw, decided and did is its record.

use serde::{Serialize, Serializer};
use zero_bus::Json;

use crate::decision::{Decision, Submission};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::position::{PositionRecord, to_cents};
use crate::risk::{RiskDecision, TradingMode};
use crate::scenario::{Limits, Order, Scenario, Side};

/// The `schema_version` of every cycle record.
pub const CYCLE_SCHEMA: &str = "zero.runtime.cycle.v1";

/// The five phases, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// What is there?
    Observe,
    /// What does it mean?
    Orient,
    /// What should be done?
    Decide,
    /// Do it.
    Act,
    /// What came of it?
    Learn,
}

impl Phase {
    /// All of them, in the order in which a cycle goes through them.
    pub const ORDER: [Self; 5] = [Self::Observe, Self::Orient, Self::Decide, Self::Act, Self::Learn];

    /// Its name in the records.
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

/// A cycle record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CycleRecord {
    /// What was done.
    pub act: Act,
    /// When, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Decisions before it, and one.
    pub cycle_id: u64,
    /// What should be done.
    pub decide: Decide,
    /// What came of it.
    pub learn: Learn,
    /// Always `paper`.
    pub mode: &'static str,
    /// What was there.
    pub observe: Observe,
    /// What it meant.
    pub orient: Orient,
    /// [`CYCLE_SCHEMA`].
    pub schema_version: &'static str,
}

/// What was there when the cycle began.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observe {
    cycle_id: u64,
    decisions_seen: u64,
    fills_seen: u64,
    market_source: &'static str,
    open_positions: Vec<PositionRecord>,
    phase: Phase,
    recovery: Json,
    rejections_seen: u64,
    scenario: String,
}

/// What it meant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Orient {
    limits: LimitsRecord,
    phase: Phase,
    risk_posture: RiskPosture,
    stale_data: bool,
    total_position_notional_usd: Total,
}

/// What should be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decide {
    #[serde(skip)]
    cycle_id: u64,
    /// The key under which the order is handed in.
    pub idempotency_key: String,
    intent: Intent,
    phase: Phase,
    risk_posture: RiskPosture,
    source: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Act {
    accepted: bool,
    /// The decision about the order.
    pub decision: Decision,
    phase: Phase,
    reason: String,
}

/// What came of it: counts over the whole journal.
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
struct Intent {
    confidence: f64,
    notional_usd: f64,
    price: f64,
    quantity: f64,
    reduce_only: bool,
    side: Side,
    symbol: String,
}

/// How much room there is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskPosture {
    /// Nothing is held.
    Flat,
    /// Something is held.
    Exposed,
    /// What is held together is worth as much as one position may be, or more.
    CapacityReached,
}

/// A sum of notionals, which is written as the integer 0 where there was nothing to sum up.
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

/// How the process came by its state.
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
    /// A process that began with nothing.
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

    /// A process that began with what its bus told, for want of a journal.
    pub fn from_bus(engine: &Engine) -> Self {
        Self { journal_path: None, source: "bus", ..Self::recovered(engine, String::new()) }
    }

    /// A process that began with what a journal told, named as the operator did.
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
    /// How its process came by its state.
    pub(crate) fn recovery(&self) -> &Json {
        &self.observe.recovery
    }
}

/// Takes the engine through one cycle.
///
/// # Errors
/// As [`Engine::submit`], and [`Error::Refused`] where the cycle's key was used already, which says that
/// the journal lost a decision.
pub fn run(engine: &mut Engine, scenario: &Scenario, recovery: &Json, as_of: f64) -> Result<CycleRecord> {
    go_through(engine, scenario, recovery, as_of, |engine, order, decide| act(engine, order, decide, as_of))
}

/// Takes an engine through a cycle whose decision is on record already.
///
/// # Errors
/// [`Error::Refused`] where the decision does not fit the engine's state.
pub(crate) fn rerun_recorded(
    engine: &mut Engine,
    scenario: &Scenario,
    recovery: &Json,
    decision: Decision,
) -> Result<CycleRecord> {
    let order = decision.order();
    let scenario = scenario.with(order);
    go_through(engine, &scenario, recovery, decision.as_of, |engine, _, decide| {
        let refused = |problem| Error::Refused { path: engine.journal().path(), problem };
        if decision.idempotency_key.as_ref() != Some(&decide.idempotency_key) {
            return Err(refused(format!(
                "the decision after those on the bus is not that of cycle {}: was the scenario renamed? start once with the old name",
                decide.cycle_id
            )));
        }
        engine
            .adopt(0, &decision)
            .map_err(|problem| Error::Refused { path: engine.journal().path(), problem })?;
        Ok(decision.clone())
    })
}

/// Whether the limits of today come to a decision that was made before, where limits decided it.
///
/// # Errors
/// [`Error::Refused`] where they do not: a record of it made now would name limits that were not those.
pub(crate) fn check_current_limits(engine: &Engine, decision: &Decision) -> Result<()> {
    let by_limits = [
        RiskDecision::Allowed,
        RiskDecision::LowConfidence,
        RiskDecision::OrderNotional,
        RiskDecision::ProjectedPosition,
    ];
    if !by_limits.iter().any(|risk_decision| risk_decision.reason() == decision.reason) {
        return Ok(());
    }
    let today = engine.risk_decision(TradingMode::Open, &decision.order())?;
    if today.reason() == decision.reason {
        return Ok(());
    }
    let problem = format!(
        "decision {} is `{}`, and the limits of this scenario come to `{}`: were they changed since? start once with the old ones",
        engine.counts().decisions + 1,
        decision.reason,
        today.reason()
    );
    Err(Error::Refused { path: engine.journal().path(), problem })
}

/// The phases in their order; `acting` gives the decision.
fn go_through(
    engine: &mut Engine,
    scenario: &Scenario,
    recovery: &Json,
    as_of: f64,
    acting: impl FnOnce(&mut Engine, &Order, &Decide) -> Result<Decision>,
) -> Result<CycleRecord> {
    let observe = observe(engine, scenario, recovery);
    let orient = orient(&observe, engine.limits());
    let cycle_id = observe.cycle_id;
    let order = scenario.order(cycle_id);
    let decide = decide(order, &scenario.name, cycle_id, orient.risk_posture);
    let decision = acting(engine, order, &decide)?;
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

/// The trace of a cycle's decision and events.
pub fn trace_id(cycle_id: u64) -> String {
    format!("runtime-cycle-{cycle_id}")
}

fn observe(engine: &Engine, scenario: &Scenario, recovery: &Json) -> Observe {
    let counts = engine.counts();
    Observe {
        cycle_id: counts.decisions + 1,
        decisions_seen: counts.decisions,
        fills_seen: counts.fills,
        market_source: "scenario:orders",
        open_positions: engine.book().records(),
        phase: Phase::Observe,
        recovery: recovery.clone(),
        rejections_seen: counts.rejections,
        scenario: scenario.name.clone(),
    }
}

fn orient(observe: &Observe, limits: &Limits) -> Orient {
    let positions = &observe.open_positions;
    // The cents that the records show are what is summed up, and the sum is brought to cents again.
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

fn decide(order: &Order, name: &str, cycle_id: u64, risk_posture: RiskPosture) -> Decide {
    Decide {
        cycle_id,
        idempotency_key: format!("runtime-{name}-{cycle_id}"),
        intent: Intent {
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
        source: format!("runtime:{name}"),
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
    let problem = format!(
        "holds the key `{}` of cycle {cycle_id} already, but only {} decisions: it lost some, or belongs to another run; \
         restore it or name another journal",
        decide.idempotency_key,
        engine.counts().decisions
    );
    Err(Error::Refused { path: engine.journal().path(), problem })
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
