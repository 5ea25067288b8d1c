//! Runs the cycles of a scenario again: one recorded order each.

use std::path::PathBuf;

use zero_bus::{Event, Json, Value};

use crate::cycle::{self, CycleRecord, RunLabels};
use crate::cycle_events::CycleStart;
use crate::decision::Decision;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::field::{Field, Problem};
use crate::operator::CommandsInForce;
use crate::order_source::SCENARIO_ORDERS;
use crate::publish::payloads;
use crate::risk::{ReduceOnlyRule, RiskDecision, TradingMode};
use crate::scenario::{Limits, Order};

use super::commands::PossibleCommands;
use super::comparison::{Comparison, CycleFields};
use super::limits::LimitOverrides;
use super::results::{ChangedDecision, DecisionChanges, Outcome, Tally, WhatIf};

/// Runs the recorded cycles again under their recorded conditions.
pub(super) struct ScenarioReplay {
    engine: Engine,
    /// Number of recorded decisions that follow from [`ReduceOnlyRule::Trust`] only.
    pub(super) trusted_reduce_only: u64,
}

impl ScenarioReplay {
    pub(super) fn new() -> Self {
        Self { engine: new_engine(), trusted_reduce_only: 0 }
    }

    /// Runs the next cycle.
    pub(super) fn run(&mut self, recorded: &RecordedOrderCycle) -> Result<Comparison> {
        if recorded.starts_run {
            self.engine = new_engine();
        }
        self.engine.set_limits(recorded.limits);
        let conditions = recorded.conditions(&self.engine);
        self.trusted_reduce_only += u64::from(conditions.is_trusted());
        recorded.replay(&mut self.engine, conditions)
    }
}

/// Runs the recorded orders under other limits.
pub(super) struct ScenarioWhatIf {
    limits: LimitOverrides,
    recorded: Engine,
    recorded_tally: Tally,
    /// Only the end of the run tells which reduce-only rule it needs, so it runs under both.
    runs: [WhatIfRun; 2],
    cycles: u64,
    trusted_reduce_only: u64,
}

struct WhatIfRun {
    rule: ReduceOnlyRule,
    engine: Engine,
    tally: Tally,
    changes: DecisionChanges,
}

impl WhatIfRun {
    fn new(rule: ReduceOnlyRule) -> Self {
        Self { rule, engine: new_engine(), tally: Tally::default(), changes: DecisionChanges::default() }
    }
}

impl ScenarioWhatIf {
    pub(super) fn new(limits: LimitOverrides) -> Self {
        Self {
            limits,
            recorded: new_engine(),
            recorded_tally: Tally::default(),
            runs: [ReduceOnlyRule::Enforce, ReduceOnlyRule::Trust].map(WhatIfRun::new),
            cycles: 0,
            trusted_reduce_only: 0,
        }
    }

    /// Runs the next cycle.
    pub(super) fn add(&mut self, recorded: &RecordedOrderCycle) -> Result<()> {
        if recorded.starts_run {
            *self = Self::new(self.limits);
        }
        self.cycles += 1;
        self.recorded.set_limits(recorded.limits);
        let conditions = recorded.conditions(&self.recorded);
        self.trusted_reduce_only += u64::from(conditions.is_trusted());
        self.recorded.apply_recorded(0, &recorded.decision).map_err(|problem| recorded.refused(&problem))?;
        self.recorded_tally.add(&self.recorded, &recorded.decision);
        let rejected_by_rule = recorded.decision.reason == RiskDecision::NotReducing.reason();
        for WhatIfRun { rule, engine, tally, changes } in &mut self.runs {
            engine.set_limits(self.limits.apply(recorded.limits));
            engine.set_trading_mode(conditions.trading_mode);
            engine.set_reduce_only_rule(if rejected_by_rule { ReduceOnlyRule::Enforce } else { *rule });
            let decision = recorded.run(engine)?.act.decision;
            tally.add(engine, &decision);
            changes.add(|| changed(recorded, &decision));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> WhatIf {
        let [enforced, trusted] = self.runs;
        let run = if self.trusted_reduce_only == 0 { enforced } else { trusted };
        WhatIf {
            changed_decisions: run.changes.count,
            changes: run.changes.first,
            cycles: self.cycles,
            recorded: self.recorded_tally,
            trusted_reduce_only: self.trusted_reduce_only,
            what_if: run.tally,
        }
    }
}

/// The decision of a cycle if it is another one under the other limits.
fn changed(recorded: &RecordedOrderCycle, decision: &Decision) -> Option<ChangedDecision> {
    let outcome = |decision: &Decision| {
        let (allowed, reason) = (decision.allowed, decision.reason.clone());
        Some(Outcome { allowed, limit: None, reason })
    };
    let order = &recorded.order;
    (outcome(&recorded.decision) != outcome(decision)).then(|| ChangedDecision {
        cycle_id: recorded.cycle_id,
        quantity: order.quantity,
        recorded: outcome(&recorded.decision),
        side: order.side,
        symbol: order.symbol.clone(),
        what_if: outcome(decision),
    })
}

impl Tally {
    /// Counts a decision. `engine` has applied it.
    fn add(&mut self, engine: &Engine, decision: &Decision) {
        if decision.allowed {
            self.fills += 1;
        } else {
            *self.rejections.entry(decision.reason.clone()).or_default() += 1;
        }
        self.set_positions(engine.book().records());
    }
}

fn new_engine() -> Engine {
    Engine::in_memory(Limits::default())
}

/// A recorded cycle.
pub(super) struct RecordedOrderCycle {
    /// Event of the cycle record.
    pub(super) event: Event,
    cycle_id: u64,
    decision: Decision,
    order: Order,
    limits: Limits,
    name: String,
    market_source: String,
    recovery: Json,
    as_of: f64,
    /// Whether the cycle is the first one of a run.
    starts_run: bool,
    /// The trading modes that may have been in force, most likely first.
    trading_modes: Vec<TradingMode>,
    log: PathBuf,
}

/// What a recorded cycle ran under, apart from its limits.
#[derive(Clone, Copy, Default)]
struct Conditions {
    trading_mode: TradingMode,
    reduce_only_rule: ReduceOnlyRule,
}

impl Conditions {
    /// Whether the decision follows from [`ReduceOnlyRule::Trust`] only.
    fn is_trusted(self) -> bool {
        self.reduce_only_rule == ReduceOnlyRule::Trust
    }
}

impl RecordedOrderCycle {
    pub(super) fn read(
        event: Event,
        start: CycleStart,
        commands: &PossibleCommands,
        log: PathBuf,
    ) -> Result<Self> {
        let CycleStart { cycle_id, decision, record, new_run: starts_run } = start;
        let read = || -> Result<(Limits, String, f64), Problem> {
            let root = Field::root(&record);
            let limits = root.required("orient")?.required("limits")?;
            let limit = |key| limits.required(key)?.number();
            let limits = Limits {
                max_notional_usd: limit("max_notional_usd")?,
                max_position_notional_usd: limit("max_position_notional_usd")?,
                min_confidence: limit("min_confidence")?,
                ..Limits::default()
            };
            let name = root.required("observe")?.required("scenario")?.text()?.to_owned();
            Ok((limits, name, root.required("as_of")?.number()?))
        };
        let (limits, name, as_of) = read().map_err(|problem| Error::Refused {
            path: log.clone(),
            problem: format!("{}: {problem}; the cycle cannot be replayed", event.id()),
        })?;
        let market_source = record.get("observe").and_then(|observe| observe.get("market_source"));
        let market_source = market_source.and_then(Value::as_str).unwrap_or(SCENARIO_ORDERS).to_owned();
        let recovery = record.get("observe").and_then(|observe| observe.get("recovery"));
        let recovery = recovery.map_or_else(|| Ok(Json::empty_object()), Json::try_from)?;
        let order = decision.order();
        let trading_modes = commands.sets().map(CommandsInForce::trading_mode).collect();
        Ok(Self {
            event,
            cycle_id,
            decision,
            order,
            limits,
            name,
            market_source,
            recovery,
            as_of,
            starts_run,
            trading_modes,
            log,
        })
    }

    /// Returns the conditions of the cycle: the first possible ones under which the risk checks
    /// give the recorded reason. If none do, the most likely ones.
    ///
    /// [`ReduceOnlyRule::Trust`] comes last, so it is returned only for a decision that no other
    /// condition explains.
    ///
    /// The engine's limits must be those of the cycle.
    fn conditions(&self, engine: &Engine) -> Conditions {
        let under = |reduce_only_rule| {
            let modes = self.trading_modes.iter();
            modes.map(move |trading_mode| Conditions { trading_mode: *trading_mode, reduce_only_rule })
        };
        let gives_recorded_reason = |conditions: &Conditions| {
            let Conditions { trading_mode, reduce_only_rule } = *conditions;
            let risk_decision = engine.risk_decision(trading_mode, reduce_only_rule, &self.order);
            risk_decision.is_ok_and(|risk_decision| risk_decision.reason() == self.decision.reason)
        };
        let mut possible = under(ReduceOnlyRule::Enforce).chain(under(ReduceOnlyRule::Trust));
        let most_likely = under(ReduceOnlyRule::Enforce).next().unwrap_or_default();
        possible.find(gives_recorded_reason).unwrap_or(most_likely)
    }

    /// Runs the cycle on an engine whose limits and trading mode are set.
    fn run(&self, engine: &mut Engine) -> Result<CycleRecord> {
        let labels = RunLabels { name: &self.name, market_source: &self.market_source };
        cycle::run(engine, labels, &self.order, &self.recovery, self.as_of).map_err(|error| match error {
            Error::Reconcile { mismatch, .. } => self.refused(&mismatch.to_string()),
            Error::Refused { problem, .. } | Error::Order { problem, .. } => self.refused(&problem),
            error => error,
        })
    }

    /// Runs the cycle under its recorded conditions, on an engine whose limits are set.
    fn replay(&self, engine: &mut Engine, conditions: Conditions) -> Result<Comparison> {
        engine.set_trading_mode(conditions.trading_mode);
        engine.set_reduce_only_rule(conditions.reduce_only_rule);
        let cycle = self.run(engine)?;
        let fields =
            CycleFields { cycle_id: self.cycle_id, as_of: self.as_of, trace_id: self.event.trace_id.clone() };
        Ok(Comparison::of_scenario(fields, payloads(engine, &cycle)?.into()))
    }

    fn refused(&self, problem: &str) -> Error {
        Error::Refused { path: self.log.clone(), problem: format!("{}: {problem}", self.event.id()) }
    }
}
