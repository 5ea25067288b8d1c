//! Replays a recorded run with the current engine.
//!
//! [`replay`] re-runs each recorded cycle under its recorded conditions and compares every event
//! with the log: it shows that the engine still decides the same. [`what_if`] submits the recorded
//! orders under other limits and compares the results of the two runs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use zero_bus::{Event, Json, Progress, Reader, Value};

use crate::cycle::{self, RunLabels, cycle_of_trace};
use crate::cycle_events::{CycleClassifier, CycleStart, EventClass};
use crate::decision::Decision;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event_types;
use crate::field::{Field, Problem};
use crate::operator::CommandsInForce;
use crate::order_source::SCENARIO_ORDERS;
use crate::position::PositionRecord;
use crate::publish::payloads;
use crate::risk::{ReduceOnlyRule, RiskDecision, TradingMode};
use crate::scenario::{Limits, Order};
use crate::state::{Change, compare};

/// The result of a replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replay {
    /// Number of replayed cycles.
    pub cycles: u64,
    /// The first event that differs. The replay ends there.
    pub difference: Option<Difference>,
    /// Number of events that equal the recorded ones.
    pub events: u64,
    /// Number of events missing from the last cycle: it is still running, or a crash interrupted
    /// it.
    pub events_missing: u64,
    /// Number of recorded decisions that accepted a reduce-only order although it did not reduce
    /// the position. They were replayed under [`ReduceOnlyRule::Trust`].
    pub trusted_reduce_only: u64,
}

/// A recorded event that differs from the replayed one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Cycle of the event.
    pub cycle_id: u64,
    /// Id of the recorded event.
    pub event_id: String,
    /// Type of the recorded event.
    pub event_type: String,
    /// The fields that differ: `before` is recorded, `after` is replayed. `null` stands for a
    /// missing value.
    pub fields: Vec<Change>,
}

/// The recorded run compared with the same orders under other limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// Number of cycles. If the bus holds several runs, only the last one is counted.
    pub cycles: u64,
    /// Results of the recorded run.
    pub recorded: Tally,
    /// Number of recorded decisions that accepted a reduce-only order although it did not reduce
    /// the position. If there are any, both runs are under [`ReduceOnlyRule::Trust`].
    pub trusted_reduce_only: u64,
    /// Results under the other limits.
    pub what_if: Tally,
}

/// Results of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Sum of the position notionals after the last cycle, in USD.
    pub exposure_last_usd: f64,
    /// Largest sum of the position notionals after any cycle, in USD.
    pub exposure_max_usd: f64,
    /// Number of filled orders.
    pub fills: u64,
    /// Open positions after the last cycle.
    pub positions: Vec<PositionRecord>,
    /// Number of rejected orders by reason.
    pub rejections: BTreeMap<String, u64>,
}

/// Limits that replace the recorded ones. A limit of `None` keeps the recorded value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitOverrides {
    max_notional_usd: Option<f64>,
    max_position_notional_usd: Option<f64>,
    min_confidence: Option<f64>,
}

impl LimitOverrides {
    /// Parses limits from JSON text: either an object of limits, or a scenario with `limits`.
    ///
    /// # Errors
    /// The path of the invalid or unknown field and the problem with it.
    ///
    /// ```
    /// use zero_paper::replay::LimitOverrides;
    /// assert!(LimitOverrides::parse(r#"{"max_notional_usd": 5000}"#).is_ok());
    /// let error = LimitOverrides::parse(r#"{"max_notonal_usd": 5000}"#).unwrap_err();
    /// assert!(error.starts_with("max_notonal_usd: is not a limit"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        let root = Field::root(&document);
        let given = match root.optional("orders") {
            Some(_) => root.required("limits")?,
            None => root.optional("limits").unwrap_or(root),
        };
        // `max_leverage` is accepted as in scenarios; no risk check uses it.
        let known = ["max_notional_usd", "max_position_notional_usd", "max_leverage", "min_confidence"];
        if let Some(unknown) = given.object()?.find(|member| !member.is_one_of(&known)) {
            return Err(unknown.problem(&format!("is not a limit; the limits are {}", known.join(", "))));
        }
        let limit = |key| given.optional(key).map(|field| field.positive()).transpose();
        let min_confidence = limit("min_confidence")?;
        if min_confidence.is_some_and(|min_confidence| min_confidence > 1.0) {
            return Err(given.required("min_confidence")?.problem("must be at most 1"));
        }
        Ok(Self {
            max_notional_usd: limit("max_notional_usd")?,
            max_position_notional_usd: limit("max_position_notional_usd")?,
            min_confidence,
        })
    }

    /// Returns the recorded limits with these overrides.
    fn apply(self, recorded: Limits) -> Limits {
        Limits {
            max_notional_usd: self.max_notional_usd.unwrap_or(recorded.max_notional_usd),
            max_position_notional_usd: self
                .max_position_notional_usd
                .unwrap_or(recorded.max_position_notional_usd),
            min_confidence: self.min_confidence.unwrap_or(recorded.min_confidence),
            ..recorded
        }
    }
}

/// Replays every recorded cycle and compares its events with the log: cycle record, decision, fill
/// or rejection, positions, health. Ends at the first difference.
///
/// Each cycle runs under its recorded limits, and under the trading mode that the operator's
/// commands had set. A recorded decision that accepted a reduce-only order which did not reduce the
/// position is replayed under [`ReduceOnlyRule::Trust`] and counted. The decisions of a run are
/// kept in memory.
///
/// # Errors
/// The bus cannot be read. [`Error::Refused`] if the beginning of the run is missing or a cycle
/// record lacks a field that the replay needs.
pub fn replay(reader: &Reader, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Replay> {
    let mut replay = Replay::default();
    let mut engine = new_engine();
    let mut current = ReplayedCycle::default();
    for_each_event(reader, progress, |item| {
        let (event, fields) = match &item {
            Item::Cycle(recorded) => {
                // If another cycle follows, the current one must be complete.
                let missing = current.missing();
                if !missing.is_empty() {
                    (&recorded.event, missing)
                } else {
                    if recorded.starts_run {
                        engine = new_engine();
                    }
                    replay.cycles += 1;
                    engine.set_limits(recorded.limits);
                    let conditions = recorded.conditions(&engine);
                    replay.trusted_reduce_only += u64::from(conditions.is_trusted());
                    current = recorded.replay(&mut engine, conditions)?;
                    (&recorded.event, current.compare_next(&recorded.event))
                }
            }
            Item::Other(event) if belongs_to_cycle(event) => (event, current.compare_next(event)),
            Item::Other(_) => return Ok(ControlFlow::Continue(())),
        };
        if fields.is_empty() {
            replay.events += 1;
            return Ok(ControlFlow::Continue(()));
        }
        replay.difference = Some(Difference {
            cycle_id: current.cycle.as_ref().map_or(0, |cycle| cycle.cycle_id),
            event_id: event.id(),
            event_type: event.event_type.clone(),
            fields,
        });
        Ok(ControlFlow::Break(()))
    })?;
    replay.events_missing = current.missing().len() as u64;
    Ok(replay)
}

/// The cycle that the replay has produced last. Before the first cycle, it is empty.
#[derive(Default)]
struct ReplayedCycle {
    /// Types and payloads of its events, in log order.
    events: Vec<(&'static str, Json)>,
    /// Number of events that were compared.
    compared: usize,
    cycle: Option<CycleFields>,
}

/// Fields that all events of a cycle share.
struct CycleFields {
    cycle_id: u64,
    as_of: f64,
    trace_id: Option<String>,
}

impl ReplayedCycle {
    /// Compares a recorded event with the next replayed one, and returns the differences.
    fn compare_next(&mut self, event: &Event) -> Vec<Change> {
        let replayed = self.events.get(self.compared).zip(self.cycle.as_ref());
        let Some(((event_type, payload), CycleFields { as_of, trace_id, .. })) = replayed else {
            return vec![Change {
                after: null(),
                before: event.payload.clone(),
                path: event.event_type.clone(),
            }];
        };
        let mut fields = Vec::new();
        let mut compare_field =
            |path: &str, before: &Value, after: &Value| compare(path, before, after, &mut fields);
        let text = |text: &str| Value::String(text.to_owned());
        compare_field("event_type", &text(&event.event_type), &text(event_type));
        let trace = |trace: &Option<String>| trace.as_deref().map_or(Value::Null, text);
        compare_field("trace_id", &trace(&event.trace_id), &trace(trace_id));
        compare_field("as_of", &Value::Float(event.as_of), &Value::Float(*as_of));
        compare_field("payload", &event.payload.value(), &payload.value());
        self.compared += 1;
        fields
    }

    /// Returns the replayed events that the log has not shown yet.
    fn missing(&self) -> Vec<Change> {
        let missing = self.events.get(self.compared..).unwrap_or_default();
        let field = |(event_type, payload): &(&'static str, Json)| Change {
            after: payload.clone(),
            before: null(),
            path: format!("missing before it: {event_type}"),
        };
        missing.iter().map(field).collect()
    }
}

fn null() -> Json {
    Json::try_from(&Value::Null).unwrap_or_else(|_| Json::empty_object())
}

/// Returns whether an event has the type and the trace of a cycle's event.
fn belongs_to_cycle(event: &Event) -> bool {
    const TYPES: [&str; 6] = [
        event_types::CYCLE,
        event_types::DECISION,
        event_types::FILL,
        event_types::REJECTION,
        event_types::POSITIONS,
        event_types::HEALTH,
    ];
    TYPES.contains(&event.event_type.as_str()) && cycle_of_trace(event.trace_id.as_deref()).is_some()
}

/// Submits the recorded orders under other limits and returns the results of both runs. A
/// reduce-only order keeps its recorded quantity, even if the position differs under the other
/// limits.
///
/// If the run accepted a reduce-only order that did not reduce its position, the other run is under
/// [`ReduceOnlyRule::Trust`] as well, except where the record shows a rejection by the other rule.
///
/// # Errors
/// As [`replay`]; [`Error::Order`] if a position becomes too large for a double.
pub fn what_if(
    reader: &Reader,
    limits: LimitOverrides,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<WhatIf> {
    let new_run = || (new_engine(), Tally::default());
    let (mut recorded_engine, mut recorded_tally) = new_run();
    // Only the end of the run tells which reduce-only rule it needs, so it runs under both.
    let mut what_ifs = [ReduceOnlyRule::Enforce, ReduceOnlyRule::Trust].map(|rule| (rule, new_run()));
    let mut cycles = 0;
    let mut trusted_reduce_only = 0;
    for_each_event(reader, progress, |item| {
        let Item::Cycle(recorded) = item else { return Ok(ControlFlow::Continue(())) };
        if recorded.starts_run {
            (recorded_engine, recorded_tally) = new_run();
            what_ifs.iter_mut().for_each(|(_, what_if)| *what_if = new_run());
            cycles = 0;
            trusted_reduce_only = 0;
        }
        cycles += 1;
        recorded_engine.set_limits(recorded.limits);
        let conditions = recorded.conditions(&recorded_engine);
        trusted_reduce_only += u64::from(conditions.is_trusted());
        recorded_engine
            .apply_recorded(0, &recorded.decision)
            .map_err(|problem| recorded.refused(&problem))?;
        recorded_tally.add(&recorded_engine, &recorded.decision);
        let rejected_by_rule = recorded.decision.reason == RiskDecision::NotReducing.reason();
        for (rule, (engine, tally)) in &mut what_ifs {
            engine.set_limits(limits.apply(recorded.limits));
            engine.set_trading_mode(conditions.trading_mode);
            engine.set_reduce_only_rule(if rejected_by_rule { ReduceOnlyRule::Enforce } else { *rule });
            let cycle = recorded.run(engine)?;
            tally.add(engine, &cycle.act.decision);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let [(_, (_, enforced)), (_, (_, trusted))] = what_ifs;
    let what_if = if trusted_reduce_only == 0 { enforced } else { trusted };
    Ok(WhatIf { cycles, recorded: recorded_tally, trusted_reduce_only, what_if })
}

impl Tally {
    /// Counts a decision. `engine` has applied it.
    fn add(&mut self, engine: &Engine, decision: &Decision) {
        if decision.allowed {
            self.fills += 1;
        } else {
            *self.rejections.entry(decision.reason.clone()).or_default() += 1;
        }
        self.positions = engine.book().records();
        // A fold from 0.0, because the sum of no floats is -0.0.
        self.exposure_last_usd = self.positions.iter().fold(0.0, |sum, position| sum + position.notional_usd);
        self.exposure_max_usd = self.exposure_max_usd.max(self.exposure_last_usd);
    }
}

fn new_engine() -> Engine {
    Engine::in_memory(Limits::default())
}

/// An event of the log.
enum Item {
    /// A cycle record, with what it takes to replay the cycle.
    Cycle(Box<RecordedCycle>),
    Other(Event),
}

/// A recorded cycle.
struct RecordedCycle {
    /// Event of the cycle record.
    event: Event,
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

impl RecordedCycle {
    fn read(event: Event, start: CycleStart, commands: &PossibleCommands, log: PathBuf) -> Result<Self> {
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
        let (order, trading_modes) = (decision.order(), commands.trading_modes());
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
    fn run(&self, engine: &mut Engine) -> Result<cycle::CycleRecord> {
        let labels = RunLabels { name: &self.name, market_source: &self.market_source };
        cycle::run(engine, labels, &self.order, &self.recovery, self.as_of).map_err(|error| match error {
            Error::Reconcile { mismatch, .. } => self.refused(&mismatch.to_string()),
            Error::Refused { problem, .. } | Error::Order { problem, .. } => self.refused(&problem),
            error => error,
        })
    }

    /// Runs the cycle under its recorded conditions, on an engine whose limits are set.
    fn replay(&self, engine: &mut Engine, conditions: Conditions) -> Result<ReplayedCycle> {
        engine.set_trading_mode(conditions.trading_mode);
        engine.set_reduce_only_rule(conditions.reduce_only_rule);
        let cycle = self.run(engine)?;
        let fields =
            CycleFields { cycle_id: self.cycle_id, as_of: self.as_of, trace_id: self.event.trace_id.clone() };
        Ok(ReplayedCycle { events: payloads(engine, &cycle)?.into(), compared: 0, cycle: Some(fields) })
    }

    fn refused(&self, problem: &str) -> Error {
        Error::Refused { path: self.log.clone(), problem: format!("{}: {problem}", self.event.id()) }
    }
}

/// Events between two progress reports.
const PROGRESS_INTERVAL: u64 = 4096;

/// Calls `visit` with each event of a log until it breaks.
fn for_each_event(
    reader: &Reader,
    progress: &mut (dyn FnMut(Progress) + Send),
    mut visit: impl FnMut(Item) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut commands = PossibleCommands::default();
    let mut cycles = CycleClassifier::default();
    let mut last_cycle_id = 0;
    let mut events = reader.events(1)?;
    while let Some(event) = events.next() {
        let event = event?;
        if event.index % PROGRESS_INTERVAL == 0 {
            progress(events.position());
        }
        commands.apply(&event);
        let item = match cycles.classify(&event) {
            EventClass::Unrelated | EventClass::Foreign(_) | EventClass::CycleContinuation => {
                Item::Other(event)
            }
            EventClass::CycleStart(start) => {
                let cycle_id = start.cycle_id;
                if cycle_id != if start.new_run { 1 } else { last_cycle_id + 1 } {
                    let problem = format!(
                        "{} is cycle {cycle_id}, and the cycle before it is not on the bus, so it cannot be replayed; \
                         name a bus that holds the run from its first cycle on",
                        event.id()
                    );
                    return Err(Error::Refused { path: reader.log_path(), problem });
                }
                last_cycle_id = cycle_id;
                Item::Cycle(Box::new(RecordedCycle::read(event, *start, &commands, reader.log_path())?))
            }
        };
        if visit(item)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Largest number of possible sets of commands.
const MAX_POSSIBLE_SETS: usize = 32;

/// The sets of commands that the runtime may have read at one point of the log.
///
/// A command that is appended while a cycle runs precedes that cycle's events in the log, although
/// the runtime has not read it yet. Every command therefore adds a set that includes it. The
/// runtime's confirmation that it applied a command removes the sets without that command.
struct PossibleCommands {
    /// Never empty. Each set includes the commands of the sets before it; the last one includes all
    /// commands.
    sets: Vec<CommandsInForce>,
}

impl Default for PossibleCommands {
    fn default() -> Self {
        Self { sets: vec![CommandsInForce::default()] }
    }
}

impl PossibleCommands {
    fn apply(&mut self, event: &Event) {
        match event.event_type.as_str() {
            event_types::OPERATOR_COMMAND => {
                if self.sets.len() < MAX_POSSIBLE_SETS {
                    self.sets.push(self.sets.last().cloned().unwrap_or_default());
                }
                // At the maximum, the last set gains the command without a copy. After that many
                // commands, the runtime has read them, or it is not running.
                self.sets.last_mut().into_iter().for_each(|all| all.apply(event));
            }
            event_types::OPERATOR_APPLIED => {
                let index = event.payload.value().get("command_index").and_then(Value::as_u64);
                if let Some(first) = self.sets.iter().position(|commands| commands.has_pending(index)) {
                    self.sets.drain(..first);
                }
                self.sets.iter_mut().for_each(|commands| commands.apply(event));
            }
            _ => {}
        }
    }

    /// Returns the possible trading modes, most likely first: the runtime has usually read all
    /// commands.
    fn trading_modes(&self) -> Vec<TradingMode> {
        self.sets.iter().rev().map(CommandsInForce::trading_mode).collect()
    }
}
