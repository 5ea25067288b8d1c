//! Runs a strategy again on the recorded observations.

use std::ops::ControlFlow;

use serde::Serialize;
use zero_bus::{Event, Head, Json, Progress, Reader};

use crate::account::Costs;
use crate::error::{Error, Result};
use crate::market::cycle::Decided;
use crate::market::reader::{CycleReader, EventClass};
use crate::market::run_file::FillRule;
use crate::market::trading::{check_answer, describe};
use crate::order_record::OrderDecision;
use crate::scenario::Limits;
use crate::strategy::{Failure, FailureKind, Observation, Start, Strategy, StrategyIdentity};

use super::as_recorded::{Compared, compare_item};
use super::certificate::{
    CERTIFICATE_SCHEMA, Certificate, EngineIdentity, Reproduced, Sequence, TakenFromRecord,
};
use super::comparison::Comparison;
use super::market::{Decider, MarketReplay, RecordedMarketCycle};
use super::reading::{Item, for_each_item};
use super::results::Difference;

/// The result of a replay with a strategy.
#[derive(Clone, Debug, PartialEq)]
pub struct StrategyReplay {
    /// The result.
    pub certificate: Certificate,
    /// What was noticed about the strategy, one line each.
    pub warnings: Vec<String>,
}

/// Runs a strategy again on the observations of a run on market data: in each cycle it sees what it
/// saw, and its answer takes the place of the recorded one. Every event is compared with the log up
/// to the first difference. A strategy whose answers depend on anything else, such as the clock or
/// random numbers, differs as soon as that changes an answer.
///
/// The strategy is not asked in two kinds of cycles, whose outcome is taken from the record: those
/// in which it failed, and those about an order of another program. After a failure, and where
/// limits or costs changed, it is started again as the runtime did: with its last recorded state,
/// or else by showing it the recorded bars.
///
/// # Errors
/// As for a replay; [`Error::Refused`] if the bus has the run of a scenario, or no
/// cycle in which a strategy decided; [`Error::StrategyNotStarted`] if the strategy has never
/// answered.
pub fn replay_strategy(
    reader: &Reader,
    strategy: &mut dyn Strategy,
    engine: EngineIdentity,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<StrategyReplay> {
    let mut rerun = Rerun::new(reader, strategy);
    let mut summary = Summary::default();
    let (mut market, mut current) = (MarketReplay::new(), Comparison::default());
    let mut difference: Option<Difference> = None;
    let result = for_each_item(reader, progress, |item| {
        if let Item::Scenario(cycle) = &item {
            let problem = format!(
                "{} is a cycle of a scenario, and no strategy decided it; leave out --strategy",
                cycle.event.id()
            );
            return Err(Error::Refused { path: reader.log_path(), problem });
        }
        summary.add(&item)?;
        if difference.is_none() {
            difference = match compare_item(&item, &mut current, None, &mut market, &mut rerun)? {
                Compared::Different(difference) => Some(difference),
                Compared::Same | Compared::Unrelated => None,
            };
            summary.count_reproduced(&item, difference.is_none());
        }
        Ok(ControlFlow::Continue(()))
    });
    let Rerun { mut warnings, taken, asked, error, .. } = rerun.finish();
    result?;
    warnings.extend(summary.other_strategies());
    if let Some(error) = error {
        return Err(error);
    }
    if !asked {
        let problem =
            "has no cycle on market data in which a strategy decided; leave out --strategy".to_owned();
        return Err(Error::Refused { path: reader.log_path(), problem });
    }
    let certificate = Certificate {
        bus_id: summary.bus_id,
        configuration: summary.configuration,
        cycles: summary.cycles,
        decisions: summary.decisions,
        events_missing: if difference.is_none() { current.missing().len() as u64 } else { 0 },
        difference,
        engine,
        head: summary.head,
        observations: summary.observations,
        run: summary.run,
        schema_version: CERTIFICATE_SCHEMA,
        strategy: strategy.identity().clone(),
        taken_from_record: taken,
    };
    Ok(StrategyReplay { certificate, warnings })
}

/// What the certificate says about the records.
#[derive(Default)]
struct Summary {
    bus_id: Option<zero_bus::Checksum>,
    head: Head,
    run: String,
    observations: Sequence,
    configuration: Sequence,
    /// The last configuration, without the cycle it begins with.
    last: Option<(Limits, Costs, FillRule, u64, &'static str)>,
    start_cash_usd: Option<f64>,
    cycles: Reproduced,
    decisions: Reproduced,
    /// The strategy of the first cycle, and that of the first cycle with another one.
    strategies: [Option<(StrategyIdentity, u64)>; 2],
}

/// The settings of the cycles from one on.
#[derive(Serialize)]
struct Configuration<'a> {
    costs: &'a Costs,
    cycle_id: u64,
    fill: FillRule,
    limit_bars: u64,
    limits: &'a Limits,
    name: &'a str,
    reduce_only_rule: &'a str,
    start_cash_usd: f64,
}

impl Summary {
    fn add(&mut self, item: &Item) -> Result<()> {
        let event = match item {
            Item::Scenario(cycle) => &cycle.event,
            Item::Market(cycle) => &cycle.event,
            Item::Observation(event, _) | Item::Other(event) => event,
        };
        self.bus_id.get_or_insert(event.checksum);
        self.head = Head { index: event.index, checksum: Some(event.checksum) };
        match item {
            Item::Observation(Event { payload, .. }, _) => self.observations.add(payload.as_str()),
            Item::Market(recorded) => {
                self.cycles.recorded += 1;
                self.decisions.recorded += recorded.cycle.act.decisions.len() as u64;
                self.add_configuration(recorded)?;
                self.add_strategy(recorded);
            }
            Item::Scenario(_) | Item::Other(_) => {}
        }
        Ok(())
    }

    fn add_configuration(&mut self, recorded: &RecordedMarketCycle) -> Result<()> {
        let settings = &recorded.settings;
        let (costs, fill, limit_bars) = (&settings.costs, settings.fill, settings.limit_bars);
        let reduce_only_rule = settings.reduce_only_rule.name();
        let current = Some((settings.limits, *costs, fill, limit_bars, reduce_only_rule));
        let start_cash_usd = *self.start_cash_usd.get_or_insert(recorded.cycle.cash_usd);
        if self.last == current {
            return Ok(());
        }
        self.last = current;
        self.run.clone_from(&recorded.cycle.scenario);
        let configuration = Configuration {
            costs,
            cycle_id: recorded.cycle.cycle_id,
            fill,
            limit_bars,
            limits: &settings.limits,
            name: &self.run,
            reduce_only_rule,
            start_cash_usd,
        };
        self.configuration.add(Json::of(&configuration)?.as_str());
        Ok(())
    }

    fn add_strategy(&mut self, recorded: &RecordedMarketCycle) {
        // An order of another program is no decision of a strategy.
        if recorded.bar.bar.candles.is_empty() {
            return;
        }
        let new = || Some((recorded.cycle.strategy.clone(), recorded.cycle.cycle_id));
        match &mut self.strategies {
            [first @ None, _] => *first = new(),
            [Some((first, _)), second @ None] if *first != recorded.cycle.strategy => *second = new(),
            _ => {}
        }
    }

    /// Says that the run cannot be reproduced with one strategy, if it had several.
    fn other_strategies(&self) -> Option<String> {
        let [Some((first, _)), Some((second, cycle_id))] = &self.strategies else { return None };
        Some(format!(
            "the run was continued in cycle {cycle_id} with another strategy ({}, before it {}), so none reproduces \
             all of it; for a run that can be certified, start new records (another journal and another bus)",
            describe(second),
            describe(first)
        ))
    }

    fn count_reproduced(&mut self, item: &Item, is_same: bool) {
        if let Item::Market(recorded) = item
            && is_same
        {
            self.cycles.reproduced += 1;
            self.decisions.reproduced += recorded.cycle.act.decisions.len() as u64;
        }
    }
}

/// A strategy that runs again.
struct Rerun<'a> {
    reader: &'a Reader,
    strategy: &'a mut dyn Strategy,
    is_running: bool,
    /// The symbols of the first bar.
    symbols: Vec<String>,
    /// What the strategy was started with.
    started_with: Option<(Limits, Costs)>,
    /// The last recorded state of this strategy.
    state: Option<Json>,
    asked: bool,
    has_answered: bool,
    taken: TakenFromRecord,
    warnings: Vec<String>,
    /// The records could not be read while the strategy was brought back to its state.
    error: Option<Error>,
}

impl<'a> Rerun<'a> {
    fn new(reader: &'a Reader, strategy: &'a mut dyn Strategy) -> Self {
        Self {
            reader,
            strategy,
            is_running: false,
            symbols: Vec::new(),
            started_with: None,
            state: None,
            asked: false,
            has_answered: false,
            taken: TakenFromRecord::default(),
            warnings: Vec::new(),
            error: None,
        }
    }

    fn ask(&mut self, recorded: &RecordedMarketCycle, seen: &Observation<'_>) -> Decided {
        let settings = Some((recorded.settings.limits, recorded.settings.costs));
        if !self.is_running || self.started_with != settings {
            self.start(recorded)?;
            self.is_running = true;
            self.started_with = settings;
        }
        let answer = self.strategy.decide(seen)?;
        self.has_answered = true;
        check_answer(answer)
    }

    /// Starts the strategy as it was before a cycle.
    fn start(&mut self, recorded: &RecordedMarketCycle) -> Result<(), Failure> {
        // What it printed after its end belongs to no cycle.
        let _ = self.strategy.stop();
        let (limits, costs) = (&recorded.settings.limits, &recorded.settings.costs);
        let state = self.state.as_ref();
        self.strategy.start(&Start { limits, symbols: &self.symbols, costs, state })?;
        if state.is_some() || recorded.cycle.cycle_id == 1 {
            return Ok(());
        }
        self.show_bars_before(recorded.cycle.cycle_id).map_err(|error| match error {
            Error::StrategyNotStarted { reason, .. } => Failure { kind: FailureKind::NotStarted, reason },
            error => {
                let reason = error.to_string();
                self.error = Some(error);
                Failure { kind: FailureKind::NotStarted, reason }
            }
        })
    }

    /// Shows the strategy the recorded bars before a cycle.
    fn show_bars_before(&mut self, cycle_id: u64) -> Result<()> {
        let mut cycles = CycleReader::default();
        let mut last: Vec<OrderDecision> = Vec::new();
        for event in self.reader.events(1)? {
            let EventClass::Record(start) = cycles.classify(&event?) else { continue };
            let (bar, cycle) = (&start.bar.bar, start.cycle);
            if cycle.cycle_id >= cycle_id {
                break;
            }
            if !bar.candles.is_empty() {
                let observation = Observation {
                    as_of: cycle.as_of,
                    cycle_id: cycle.cycle_id,
                    bar,
                    positions: &cycle.open_positions,
                    equity_usd: cycle.equity_usd,
                    last: &last,
                };
                self.strategy.observe(&observation).map_err(|failure| Error::StrategyNotStarted {
                    strategy: self.strategy.identity().name.clone(),
                    reason: failure.reason,
                })?;
            }
            last = cycle.act.decisions;
        }
        Ok(())
    }

    /// Ends the strategy.
    fn finish(mut self) -> Self {
        if let Err(failure) = self.strategy.stop() {
            self.warnings.push(format!("the strategy {}: {}", self.strategy.identity().name, failure.reason));
        }
        self.warnings.extend(self.strategy.warnings());
        self
    }
}

impl Decider for Rerun<'_> {
    fn identity<'a>(&'a self, recorded: &'a RecordedMarketCycle) -> &'a StrategyIdentity {
        // An order of another program is no decision of the strategy.
        if recorded.bar.bar.candles.is_empty() { &recorded.cycle.strategy } else { self.strategy.identity() }
    }

    fn decide(&mut self, recorded: &RecordedMarketCycle, seen: &Observation<'_>) -> Decided {
        let bar = &recorded.bar.bar;
        if bar.candles.is_empty() {
            self.taken.orders += 1;
            return recorded.answer();
        }
        self.asked = true;
        if self.symbols.is_empty() {
            self.symbols = bar.candles.iter().map(|candle| candle.symbol.clone()).collect();
        }
        let answer = if recorded.cycle.failure.is_some() {
            // The runtime stops a strategy that has failed.
            self.is_running = false;
            self.taken.failures += 1;
            recorded.answer()
        } else {
            let answer = self.ask(recorded, seen);
            if let Err(Failure { kind: FailureKind::NotStarted, reason }) = &answer
                && !self.has_answered
            {
                let strategy = self.strategy.identity().name.clone();
                let reason = reason.clone();
                self.error.get_or_insert(Error::StrategyNotStarted { strategy, reason });
            }
            answer
        };
        self.warnings.extend(self.strategy.warnings());
        if recorded.cycle.strategy != *self.strategy.identity() {
            self.state = None;
        } else if let Some(state) = &recorded.cycle.state {
            self.state = Some(state.clone());
        }
        answer
    }
}
