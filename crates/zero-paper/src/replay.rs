//! The recorded run gone through again: by today's engine as it was, to show that it is what the engine would do; or with
//! other limits, to see what would have been.

use std::collections::BTreeMap;

use serde::Serialize;
use zero_bus::{Event, Json, Progress, Reader, Value};

use crate::cycle::{self, RunLabels, cycle_of_trace};
use crate::cycle_events::{CycleClassifier, CycleStart, EventClass};
use crate::decision::Decision;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event_types::{OPERATOR_APPLIED as APPLIED, OPERATOR_COMMAND as COMMAND};
use crate::field::{Field, Problem};
use crate::operator::CommandsInForce;
use crate::order_source::SCENARIO_ORDERS;
use crate::position::PositionRecord;
use crate::publish::payloads;
use crate::risk::TradingMode;
use crate::scenario::{Limits, Order};
use crate::state::{Change, compare};

/// What going through a run again came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replay {
    /// Cycles that were gone through.
    pub cycles: u64,
    /// The first event that comes out differently; nothing behind it was looked at.
    pub difference: Option<Difference>,
    /// Events that came out as they are on record.
    pub events: u64,
    /// Events that the last cycle lacks: the runtime is in the middle of it, or a crash cut it short.
    pub events_missing: u64,
}

/// An event that comes out differently today.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The cycle it belongs to.
    pub cycle_id: u64,
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Field by field: `before` is what is on record, `after` what comes out today; `null` where there is nothing.
    pub fields: Vec<Change>,
}

/// The recorded run beside the same intents under other limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// Cycles of the run, which is the last one where several are on the bus.
    pub cycles: u64,
    /// As it was.
    pub recorded: Tally,
    /// As it would have been.
    pub what_if: Tally,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// What was held together in the end, in USD.
    pub exposure_last_usd: f64,
    /// The most that was held together after any cycle, in USD.
    pub exposure_max_usd: f64,
    /// Orders let through.
    pub fills: u64,
    /// What was held in the end.
    pub positions: Vec<PositionRecord>,
    /// Orders not let through, by reason.
    pub rejections: BTreeMap<String, u64>,
}

/// Limits to put in the place of the recorded ones; what is `None` stays as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitOverrides {
    max_notional_usd: Option<f64>,
    max_position_notional_usd: Option<f64>,
    min_confidence: Option<f64>,
}

impl LimitOverrides {
    /// Reads limits from JSON text: an object of them, or a scenario, whose `limits` are taken.
    ///
    /// # Errors
    /// The field at fault, and why; also one that is no limit.
    ///
    /// ```
    /// use zero_paper::replay::LimitOverrides;
    /// assert!(LimitOverrides::parse(r#"{"max_notional_usd": 5000}"#).is_ok());
    /// assert!(LimitOverrides::parse(r#"{"max_notonal_usd": 5000}"#).unwrap_err().starts_with("max_notonal_usd: is no limit"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Value::parse(text).map_err(|error| error.to_string())?;
        let root = Field::root(&document);
        let given = match root.optional("orders") {
            Some(_) => root.required("limits")?,
            None => root.optional("limits").unwrap_or(root),
        };
        // `max_leverage` is accepted as everywhere, and no rule uses it.
        let known = ["max_notional_usd", "max_position_notional_usd", "max_leverage", "min_confidence"];
        if let Some(unknown) = given.object()?.find(|member| !member.is_one_of(&known)) {
            return Err(unknown.problem(&format!("is no limit; there are {}", known.join(", "))));
        }
        let limit = |key| given.optional(key).map(|field| field.positive()).transpose();
        let min_confidence = limit("min_confidence")?;
        if min_confidence.is_some_and(|least| least > 1.0) {
            return Err(given.required("min_confidence")?.problem("must be at most 1"));
        }
        Ok(Self {
            max_notional_usd: limit("max_notional_usd")?,
            max_position_notional_usd: limit("max_position_notional_usd")?,
            min_confidence,
        })
    }

    fn over(self, recorded: Limits) -> Limits {
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

/// Goes through every recorded cycle with today's engine, and holds each event against what comes out: cycle record,
/// decision, fill or rejection, positions, health. Ends at the first difference. The limits are those on record in each
/// cycle, and the operator's commands bind as they did.
///
/// Holds the decisions of a run in memory.
///
/// # Errors
/// Where the bus cannot be read; [`Error::Refused`] where it lacks the beginning of the run, or a cycle record lacks
/// what it was made from.
pub fn replay(reader: &Reader, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Replay> {
    let mut replay = Replay::default();
    let mut engine = fresh_engine();
    let mut current = Current::default();
    each_cycle(reader, progress, |step| {
        let (event, fields) = match &step {
            Step::Cycle(recorded) => {
                // A cycle that another one follows has all its events.
                let missing = current.missing();
                if !missing.is_empty() {
                    (&recorded.event, missing)
                } else {
                    if recorded.anew {
                        engine = fresh_engine();
                    }
                    replay.cycles += 1;
                    let expected = recorded.again(&mut engine)?;
                    current = Current { expected: expected.into(), met: 0, cycle: Some(recorded.place()) };
                    (&recorded.event, current.meet(&recorded.event))
                }
            }
            Step::Other(event) if is_of_a_cycle(event) => (event, current.meet(event)),
            Step::Other(_) => return Ok(true),
        };
        if fields.is_empty() {
            replay.events += 1;
            return Ok(true);
        }
        replay.difference = Some(Difference {
            cycle_id: current.cycle.as_ref().map_or(0, |cycle| cycle.cycle_id),
            event_id: event.id(),
            event_type: event.event_type.clone(),
            fields,
        });
        Ok(false)
    })?;
    replay.events_missing = current.missing().len() as u64;
    Ok(replay)
}

/// The cycle that is being gone through.
#[derive(Default)]
struct Current {
    /// What comes out of it.
    expected: Vec<(&'static str, Json)>,
    /// How many of them were met.
    met: usize,
    cycle: Option<Place>,
}

/// What all events of a cycle have in common.
struct Place {
    cycle_id: u64,
    as_of: f64,
    trace_id: Option<String>,
}

impl Current {
    /// Holds an event against the next that comes out. Nothing, where it is that one.
    fn meet(&mut self, event: &Event) -> Vec<Change> {
        let expected = self.expected.get(self.met).zip(self.cycle.as_ref());
        let Some(((event_type, payload), Place { as_of, trace_id, .. })) = expected else {
            return vec![Change {
                after: null(),
                before: event.payload.clone(),
                path: event.event_type.clone(),
            }];
        };
        let mut fields = Vec::new();
        let mut differs =
            |path: &str, before: &Value, after: &Value| compare(path, before, after, &mut fields);
        let text = |text: &str| Value::String(text.to_owned());
        differs("event_type", &text(&event.event_type), &text(event_type));
        let trace = |trace: &Option<String>| trace.as_deref().map_or(Value::Null, text);
        differs("trace_id", &trace(&event.trace_id), &trace(trace_id));
        differs("as_of", &Value::Float(event.as_of), &Value::Float(*as_of));
        differs("payload", &event.payload.value(), &payload.value());
        self.met += 1;
        fields
    }

    /// What comes out of it and was not met.
    fn missing(&self) -> Vec<Change> {
        let missing = self.expected.get(self.met..).unwrap_or_default();
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

/// Whether an event has the type and the trace of a cycle's.
fn is_of_a_cycle(event: &Event) -> bool {
    const TYPES: [&str; 6] = [
        "runtime.cycle",
        "decision.record",
        "fill.record",
        "rejection.record",
        "position.snapshot",
        "runtime.health",
    ];
    TYPES.contains(&event.event_type.as_str()) && cycle_of_trace(event.trace_id.as_deref()).is_some()
}

/// Hands the recorded intents in under other limits, and tells what both runs came to. Orders that closed what was held then
/// are handed in as they were, whatever is held in the other run.
///
/// # Errors
/// As [`replay`]; [`Error::Order`] where an order leaves what a double can hold.
pub fn what_if(
    reader: &Reader,
    limits: LimitOverrides,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<WhatIf> {
    let nothing = || (fresh_engine(), Tally::default());
    let ((mut as_it_was, mut recorded_tally), (mut other, mut other_tally)) = (nothing(), nothing());
    let mut cycles = 0;
    each_cycle(reader, progress, |step| {
        let Step::Cycle(recorded) = step else { return Ok(true) };
        if recorded.anew {
            ((as_it_was, recorded_tally), (other, other_tally)) = (nothing(), nothing());
            cycles = 0;
        }
        cycles += 1;
        as_it_was.set_limits(recorded.limits);
        let trading_mode = recorded.trading_mode(&as_it_was);
        as_it_was.apply_recorded(0, &recorded.decision).map_err(|problem| recorded.refused(&problem))?;
        recorded_tally.count(&as_it_was, &recorded.decision);
        other.set_limits(limits.over(recorded.limits));
        other.set_trading_mode(trading_mode);
        let cycle = recorded.run(&mut other)?;
        other_tally.count(&other, &cycle.act.decision);
        Ok(true)
    })?;
    Ok(WhatIf { cycles, recorded: recorded_tally, what_if: other_tally })
}

impl Tally {
    fn count(&mut self, engine: &Engine, decision: &Decision) {
        if decision.allowed {
            self.fills += 1;
        } else {
            *self.rejections.entry(decision.reason.clone()).or_default() += 1;
        }
        self.positions = engine.book().records();
        // From 0, since the sum of nothing is -0.
        self.exposure_last_usd = self.positions.iter().fold(0.0, |sum, position| sum + position.notional_usd);
        self.exposure_max_usd = self.exposure_max_usd.max(self.exposure_last_usd);
    }
}

fn fresh_engine() -> Engine {
    Engine::in_memory(Limits::default())
}

/// One recorded event on the way through a run.
enum Step {
    Cycle(Box<ReplayedCycle>),
    Other(Event),
}

/// A cycle as it is on record.
struct ReplayedCycle {
    cycle_id: u64,
    event: Event,
    decision: Decision,
    order: Order,
    limits: Limits,
    name: String,
    market_source: String,
    recovery: Json,
    as_of: f64,
    /// The cycles begin anew with it.
    anew: bool,
    /// How the operator may have bound the runtime then, the likeliest first.
    stances: Vec<TradingMode>,
    log: std::path::PathBuf,
}

impl ReplayedCycle {
    fn read(event: Event, begun: CycleStart, heard: &Heard, log: std::path::PathBuf) -> Result<Self> {
        let CycleStart { cycle_id, decision, record, new_run: anew } = begun;
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
            problem: format!("{}: {problem}; it cannot be gone through again", event.id()),
        })?;
        let market_source = record.get("observe").and_then(|observe| observe.get("market_source"));
        let market_source = market_source.and_then(Value::as_str).unwrap_or(SCENARIO_ORDERS).to_owned();
        let recovery = record.get("observe").and_then(|observe| observe.get("recovery"));
        let recovery = recovery.map_or_else(|| Ok(Json::empty_object()), Json::try_from)?;
        let (order, stances) = (decision.order(), heard.stances());
        Ok(Self {
            cycle_id,
            event,
            decision,
            order,
            limits,
            name,
            market_source,
            recovery,
            as_of,
            anew,
            stances,
            log,
        })
    }

    /// How the operator had bound the runtime: of the ways that the log leaves open, the one that the decision tells of.
    fn trading_mode(&self, engine: &Engine) -> TradingMode {
        let told = self.stances.iter().copied().find(|trading_mode| {
            engine
                .risk_decision(*trading_mode, &self.order)
                .is_ok_and(|risk_decision| risk_decision.reason() == self.decision.reason)
        });
        told.or_else(|| self.stances.first().copied()).unwrap_or_default()
    }

    fn run(&self, engine: &mut Engine) -> Result<cycle::CycleRecord> {
        let labels = RunLabels { name: &self.name, market_source: &self.market_source };
        cycle::run(engine, labels, &self.order, &self.recovery, self.as_of).map_err(|error| match error {
            Error::Reconcile { mismatch, .. } => self.refused(&mismatch.to_string()),
            Error::Refused { problem, .. } | Error::Order { problem, .. } => self.refused(&problem),
            error => error,
        })
    }

    fn place(&self) -> Place {
        Place { cycle_id: self.cycle_id, as_of: self.as_of, trace_id: self.event.trace_id.clone() }
    }

    /// What its events hold when it is gone through again.
    fn again(&self, engine: &mut Engine) -> Result<[(&'static str, Json); 5]> {
        engine.set_limits(self.limits);
        engine.set_trading_mode(self.trading_mode(engine));
        let cycle = self.run(engine)?;
        payloads(engine, &cycle)
    }

    fn refused(&self, problem: &str) -> Error {
        Error::Refused { path: self.log.clone(), problem: format!("{}: {problem}", self.event.id()) }
    }
}

/// Goes through a bus, until `each` says that it is enough.
fn each_cycle(
    reader: &Reader,
    progress: &mut (dyn FnMut(Progress) + Send),
    mut each: impl FnMut(Step) -> Result<bool>,
) -> Result<()> {
    let mut heard = Heard::default();
    let mut cycles = CycleClassifier::default();
    let mut last = 0;
    let mut events = reader.events(1)?;
    while let Some(event) = events.next() {
        let event = event?;
        if event.index % 4096 == 0 {
            progress(events.position());
        }
        heard.see(&event);
        let step = match cycles.classify(&event) {
            EventClass::Unrelated | EventClass::Foreign(_) | EventClass::CycleContinuation => {
                Step::Other(event)
            }
            EventClass::CycleStart(begun) => {
                let cycle_id = begun.cycle_id;
                if cycle_id != if begun.new_run { 1 } else { last + 1 } {
                    let problem = format!(
                        "{} is cycle {cycle_id}, and the cycle before it is not on the bus, so it cannot be gone through again; \
                         name a bus that holds the run from its first cycle on",
                        event.id()
                    );
                    return Err(Error::Refused { path: reader.log_path(), problem });
                }
                last = cycle_id;
                Step::Cycle(Box::new(ReplayedCycle::read(event, *begun, &heard, reader.log_path())?))
            }
        };
        if !each(step)? {
            break;
        }
    }
    Ok(())
}

/// Commands beyond which nobody asks which of them a runtime had heard.
const MOST_UNHEARD: usize = 32;

/// What a runtime may have heard from its operator at a place of the log. A command that was appended while a cycle was
/// on its way stands before that cycle's events, unapplied: so each of the last commands opens another way, until the
/// runtime says that it obeyed.
struct Heard(Vec<CommandsInForce>);

impl Default for Heard {
    fn default() -> Self {
        Self(vec![CommandsInForce::default()])
    }
}

impl Heard {
    fn see(&mut self, event: &Event) {
        match event.event_type.as_str() {
            COMMAND => {
                if self.0.len() < MOST_UNHEARD {
                    self.0.push(self.0.last().cloned().unwrap_or_default());
                }
                // Behind so many the runtime has heard all, or is not running.
                self.0.last_mut().into_iter().for_each(|latest| latest.apply(event));
            }
            APPLIED => {
                let index = event.payload.value().get("command_index").and_then(Value::as_u64);
                // Whoever obeys a command has heard it.
                if let Some(first) =
                    self.0.iter().position(|commands_in_force| commands_in_force.has_pending(index))
                {
                    self.0.drain(..first);
                }
                self.0.iter_mut().for_each(|commands_in_force| commands_in_force.apply(event));
            }
            _ => {}
        }
    }

    /// Most likely all was heard.
    fn stances(&self) -> Vec<TradingMode> {
        self.0.iter().rev().map(CommandsInForce::trading_mode).collect()
    }
}
