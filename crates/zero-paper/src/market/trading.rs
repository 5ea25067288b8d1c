//! The loop of a run: the next bar from the feed, one cycle, until the feed ends.

use std::sync::Arc;
use std::time::Duration;

use zero_bus::Json;

use crate::candle::Bar;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::feed::{Feed, FeedError, Next};
use crate::operator::Command;
use crate::order_record::OrderDecision;
use crate::record_paths::RecordPaths;
use crate::risk::TradingMode;
use crate::strategy::{Answer, Failure, FailureKind, Observation, Start, Strategy, StrategyIdentity};

use super::cycle::{Decided, Rules};
use super::notices::Notices;
use super::reader::PendingObservation;
use super::record::{MarketCycle, OnFailure};
use super::runtime::{MarketRuntime, NewCycle};

/// How long a live feed may wait for a bar before the loop looks after signals and commands.
const FEED_WAIT: Duration = Duration::from_millis(100);

/// A live bar that comes earlier than this is reported, in seconds before its close.
const EARLY_BAR_S: f64 = 5.0;

/// Most intents of one answer.
pub const MAX_INTENTS: usize = 1_000;

/// Longest state of a strategy, in bytes of its canonical form.
pub const MAX_STATE_BYTES: usize = 1 << 20;

/// What the time of a cycle is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CycleTime {
    /// The end of its bar.
    #[default]
    Bar,
    /// The clock, read once per cycle.
    Wall,
}

/// What a run consists of.
pub struct MarketRun {
    /// What stays the same.
    pub rules: Rules,
    /// Where the bars come from.
    pub feed: Box<dyn Feed>,
    /// What decides.
    pub strategy: Box<dyn Strategy>,
    /// What the time of a cycle is.
    pub cycle_time: CycleTime,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The feed has no more bars.
    FeedEnded,
    /// As many cycles as were asked for have run.
    CyclesDone,
    /// The caller stopped it.
    Stopped,
    /// The operator's kill stopped it.
    Killed,
}

/// Is told what happens during a run.
pub trait RunObserver {
    /// A cycle was recorded.
    fn cycle(&mut self, cycle: &MarketCycle);

    /// Something that the operator should know.
    fn warning(&mut self, text: &str);
}

/// Ignores everything.
impl RunObserver for () {
    fn cycle(&mut self, _: &MarketCycle) {}

    fn warning(&mut self, _: &str) {}
}

/// A started run.
pub struct Trading {
    runtime: MarketRuntime,
    feed: Box<dyn Feed>,
    strategy: Box<dyn Strategy>,
    cycle_time: CycleTime,
    status: StrategyStatus,
    identity: StrategyIdentity,
    /// The symbols of the first bar of the run.
    symbols: Vec<String>,
    resumption: Resumption,
    /// The last bar that a cycle ran on.
    last_ts: Option<f64>,
    pending: Option<PendingObservation>,
    last_cycle: Option<MarketCycle>,
    notices: Notices,
}

/// Whether the strategy can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StrategyStatus {
    /// The run has no bar yet.
    NotStarted,
    Running,
    /// It failed in this cycle and was stopped.
    Failed(u64),
}

/// What the feed has delivered of the bars that are already recorded.
#[derive(Default)]
struct Resumption {
    /// The last recorded bar, until the feed is past it.
    last_bar: Option<Bar>,
    skipped: bool,
    matched: bool,
}

impl Trading {
    /// Starts a run: recovers its state, and brings the strategy to where the records end.
    ///
    /// # Errors
    /// As [`MarketRuntime::start`]; [`Error::StrategyNotStarted`].
    pub fn start(
        run: MarketRun,
        records: &RecordPaths,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let MarketRun { rules, feed, strategy, cycle_time } = run;
        let runtime = MarketRuntime::start(rules, records, clock, warnings)?;
        Self::on(runtime, feed, strategy, cycle_time, warnings)
    }

    /// Starts a run on a runtime that has recovered its state.
    ///
    /// # Errors
    /// [`Error::StrategyNotStarted`]; any error of reading the records.
    pub fn on(
        mut runtime: MarketRuntime,
        feed: Box<dyn Feed>,
        strategy: Box<dyn Strategy>,
        cycle_time: CycleTime,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let history = runtime.history();
        let (mut last_bar, symbols) = (history.last_bar.clone(), history.symbols.clone());
        let pending = runtime.take_pending();
        if let Some(pending) = &pending {
            last_bar = Some(pending.bar.bar.clone());
        }
        let identity = strategy.identity().clone();
        if let Some(last) = runtime.state().strategy().filter(|last| **last != identity) {
            warnings.push(format!(
                "the strategy changed from {} to {}; it is shown the recorded bars, and continues with the account. \
                 No replay with one strategy reproduces both parts of the run: for a run that can be certified, \
                 start new records (another journal and another bus)",
                describe(last),
                describe(&identity)
            ));
        }
        let is_resumed = symbols.is_some();
        let mut trading = Self {
            runtime,
            feed,
            strategy,
            cycle_time,
            status: StrategyStatus::NotStarted,
            identity,
            symbols: symbols.unwrap_or_default(),
            last_ts: last_bar.as_ref().map(|bar| bar.ts),
            resumption: Resumption { last_bar, ..Resumption::default() },
            pending,
            last_cycle: None,
            notices: Notices::default(),
        };
        if is_resumed {
            trading.start_on_records()?;
        }
        Ok(trading)
    }

    /// Starts the strategy where the records end: with its last state, or else by showing it the
    /// recorded bars.
    fn start_on_records(&mut self) -> Result<()> {
        let state = self.recorded_state();
        let started = self.start_strategy(state.as_ref());
        started.map_err(|failure| self.not_started(failure))?;
        if state.is_some() {
            return Ok(());
        }
        let Self { runtime, strategy, identity, .. } = self;
        // A strategy that remembers the bars before the checkpoint needs only those after it.
        let remembers = runtime.take_memory(identity).is_some_and(|memory| strategy.remember(&memory));
        let mut last: Vec<OrderDecision> = Vec::new();
        runtime.for_each_recorded(remembers, |recorded, cycle| {
            let decisions = cycle.act.decisions;
            // A bar without candles is an order that did not come from a strategy.
            if !recorded.bar.candles.is_empty() {
                let observation = Observation {
                    as_of: cycle.as_of,
                    cycle_id: cycle.cycle_id,
                    bar: &recorded.bar,
                    positions: &cycle.open_positions,
                    equity_usd: cycle.equity_usd,
                    last: &last,
                };
                strategy.observe(&observation).map_err(|Failure { reason, .. }| {
                    let strategy = identity.name.clone();
                    Error::StrategyNotStarted { strategy, reason }
                })?;
            }
            last = decisions;
            Ok(())
        })
    }

    /// Returns the last state of the strategy, if it is the one that has sent it.
    fn recorded_state(&self) -> Option<Json> {
        let state = self.runtime.state();
        let is_sender = state.strategy() == Some(&self.identity);
        state.strategy_state().filter(|_| is_sender).cloned()
    }

    fn start_strategy(&mut self, state: Option<&Json>) -> Result<(), Failure> {
        let run = &self.runtime.rules().run;
        let symbols = &self.symbols;
        self.strategy.start(&Start { limits: &run.limits, symbols, costs: &run.costs, state })?;
        self.status = StrategyStatus::Running;
        Ok(())
    }

    fn not_started(&self, failure: Failure) -> Error {
        let strategy = self.identity.name.clone();
        Error::StrategyNotStarted { strategy, reason: failure.reason }
    }

    /// Runs cycles until the feed ends, until `max_cycles` have run, until `stop` returns true, or
    /// until the operator's kill. May be called again. [`Trading::finish`] ends the strategy.
    ///
    /// `stop` is called before every bar, and while a live feed has none.
    ///
    /// # Errors
    /// [`Error::StrategyFailed`], [`Error::StrategyNotStarted`], [`Error::Feed`]; as
    /// [`MarketRuntime::run_cycle`] and [`MarketRuntime::apply_commands`].
    pub fn run(
        &mut self,
        max_cycles: Option<u64>,
        mut stop: impl FnMut() -> bool,
        observer: &mut dyn RunObserver,
    ) -> Result<RunEnd> {
        let end = self.run_until_stopped(max_cycles, &mut stop, observer);
        self.runtime.write_checkpoint_if_due(self.memory(), true);
        end
    }

    /// Returns what the strategy remembers of the bars, if it runs.
    fn memory(&self) -> Option<Json> {
        self.strategy.memory().filter(|_| self.status == StrategyStatus::Running)
    }

    /// Ends the strategy. If it answers something that it was not asked, that is recorded on the
    /// bus, and no order comes of it.
    ///
    /// # Errors
    /// Any error of the bus.
    pub fn finish(&mut self, observer: &mut dyn RunObserver) -> Result<()> {
        self.notices.failures_not_shown().iter().for_each(|notice| observer.warning(notice));
        let stopped = self.strategy.stop();
        self.strategy.warnings().iter().for_each(|warning| observer.warning(warning));
        let Err(failure) = stopped else { return Ok(()) };
        observer.warning(&format!("the strategy {}: {}", self.identity.name, failure.reason));
        self.runtime.record_failure_at_end(&self.identity, &failure)
    }

    fn run_until_stopped(
        &mut self,
        max_cycles: Option<u64>,
        stop: &mut dyn FnMut() -> bool,
        observer: &mut dyn RunObserver,
    ) -> Result<RunEnd> {
        let mut cycles = 0;
        while max_cycles.is_none_or(|max| cycles < max) {
            if stop() {
                return Ok(RunEnd::Stopped);
            }
            if self.runtime.apply_commands()? == TradingMode::Killed {
                return Ok(RunEnd::Killed);
            }
            if let Some(PendingObservation { as_of, bar, .. }) = self.pending.take() {
                self.run_bar(&bar.bar, &bar.source, Some(as_of), observer)?;
                cycles += 1;
                continue;
            }
            let next = self.feed.next(FEED_WAIT);
            self.feed.warnings().iter().for_each(|warning| observer.warning(warning));
            match next.map_err(|FeedError { place, problem }| Error::Feed { place, problem })? {
                Next::Pending => {}
                Next::End => return Ok(RunEnd::FeedEnded),
                Next::Bar(bar) if self.is_recorded(&bar)? => {}
                Next::Bar(bar) => {
                    // A command may have arrived while the feed waited.
                    if self.feed.is_live()
                        && let Some(end) = self.wait_for_close(&bar, stop, observer)?
                    {
                        return Ok(end);
                    }
                    let source = self.feed.source().to_owned();
                    self.run_bar(&bar, &source, None, observer)?;
                    cycles += 1;
                }
            }
        }
        // A flatten command is confirmed once the last cycle has closed everything.
        Ok(match self.runtime.apply_commands()? {
            TradingMode::Killed => RunEnd::Killed,
            _ => RunEnd::CyclesDone,
        })
    }

    /// Waits until a live bar has closed, whatever its feed says. Applies commands meanwhile.
    fn wait_for_close(
        &mut self,
        bar: &Bar,
        stop: &mut dyn FnMut() -> bool,
        observer: &mut dyn RunObserver,
    ) -> Result<Option<RunEnd>> {
        let mut warned = false;
        loop {
            if self.runtime.apply_commands()? == TradingMode::Killed {
                return Ok(Some(RunEnd::Killed));
            }
            let clock = self.runtime.clock();
            let wait_s = bar.close_ts() - clock.now();
            if wait_s <= 0.0 || clock.is_fixed() {
                return Ok(None);
            }
            if stop() {
                return Ok(Some(RunEnd::Stopped));
            }
            if !warned && wait_s > EARLY_BAR_S {
                let source = self.feed.source();
                observer
                    .warning(&format!("{source}: the bar at {} closes in {wait_s:.0} s; waiting", bar.ts));
                warned = true;
            }
            std::thread::sleep(FEED_WAIT.min(Duration::try_from_secs_f64(wait_s).unwrap_or(FEED_WAIT)));
        }
    }

    /// Whether a bar is among those that the records have.
    ///
    /// # Errors
    /// The feed is another one than that of the records, or it is not in order.
    fn is_recorded(&mut self, bar: &Bar) -> Result<bool> {
        if let Some(last) = self.last_ts.filter(|last| bar.ts <= *last)
            && self.resumption.last_bar.is_none()
        {
            return Err(self.feed_error(format!("the bar at {} comes after the bar at {last}", bar.ts)));
        }
        let Some(last) = &self.resumption.last_bar else { return Ok(false) };
        let is_live = self.feed.is_live();
        if bar.ts < last.ts {
            self.resumption.skipped = true;
            return Ok(true);
        }
        if bar.ts == last.ts {
            if !is_live && let Some(difference) = difference(last, bar) {
                return Err(self.feed_error(format!(
                    "{difference}: the candles at {} are not those that were recorded; name the feed of this run, or \
                     other records",
                    bar.ts
                )));
            }
            self.resumption.matched = true;
            return Ok(true);
        }
        if self.resumption.skipped && !self.resumption.matched && !is_live {
            return Err(self.feed_error(format!(
                "there is no bar at {}, where the records end; name the feed of this run, or other records",
                last.ts
            )));
        }
        self.resumption.last_bar = None;
        Ok(false)
    }

    fn feed_error(&self, problem: String) -> Error {
        Error::Feed { place: self.feed.source().to_owned(), problem }
    }

    /// Runs the cycle of a bar. `recorded_as_of` is the time of its observation if the bus has it
    /// already.
    fn run_bar(
        &mut self,
        bar: &Bar,
        source: &str,
        recorded_as_of: Option<f64>,
        observer: &mut dyn RunObserver,
    ) -> Result<()> {
        if self.status == StrategyStatus::NotStarted {
            self.symbols = bar.candles.iter().map(|candle| candle.symbol.clone()).collect();
            self.start_strategy(None).map_err(|failure| self.not_started(failure))?;
        }
        let new = self.new_cycle(bar, source, recorded_as_of);
        let cycle_id = self.runtime.state().last_cycle_id() + 1;
        let restarted = self.restart_if_failed()?;
        let cannot_continue = matches!(restarted, Restarted::Impossible { .. });
        let Self { runtime, strategy, identity, notices, .. } = self;
        let cycle = runtime.run_cycle(&new, identity, |observation| match restarted {
            Restarted::Running => match strategy.decide(observation) {
                // It has never run, so there is nothing to record.
                Err(Failure { kind: FailureKind::NotStarted, reason }) if !notices.has_answered => {
                    Err(Error::StrategyNotStarted { strategy: identity.name.clone(), reason })
                }
                Err(failure) => Ok(Err(failure)),
                Ok(answer) => {
                    notices.has_answered = true;
                    Ok(check_answer(answer))
                }
            },
            Restarted::Failed(failure) => Ok(Err(failure)),
            Restarted::Impossible { failed_in } => Ok(Ok(held_after(failed_in))),
        })?;
        self.strategy.warnings().iter().for_each(|warning| observer.warning(warning));
        self.notices.of_cycle(&cycle).iter().for_each(|notice| observer.warning(notice));
        if let Some(reason) = cycle.decide.hold_reason.as_ref().filter(|_| cannot_continue) {
            self.notices.of_hold_to_the_end(reason).iter().for_each(|notice| observer.warning(notice));
        }
        if cycle.decide.failure.is_some() {
            // The failure is recorded already.
            let _ = self.strategy.stop();
            self.status = StrategyStatus::Failed(cycle_id);
        }
        self.runtime.write_checkpoint_if_due(self.memory(), false);
        self.last_ts = Some(bar.ts);
        observer.cycle(&cycle);
        let cycle = self.last_cycle.insert(cycle);
        match &cycle.decide.failure {
            Some(failure) if failure.on_failure == OnFailure::Stop => Err(Error::StrategyFailed {
                strategy: self.identity.name.clone(),
                cycle_id,
                reason: failure.reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Starts the strategy again if it has failed: as a restart of the run would, with its last
    /// state or by showing it the recorded bars.
    fn restart_if_failed(&mut self) -> Result<Restarted> {
        let StrategyStatus::Failed(failed_in) = self.status else { return Ok(Restarted::Running) };
        if self.recorded_state().is_none() && !self.runtime.has_records() {
            return Ok(Restarted::Impossible { failed_in });
        }
        match self.start_on_records() {
            Ok(()) => Ok(Restarted::Running),
            Err(Error::StrategyNotStarted { reason, .. }) => {
                Ok(Restarted::Failed(Failure { kind: FailureKind::NotStarted, reason }))
            }
            Err(error) => Err(error),
        }
    }

    fn new_cycle<'a>(&self, bar: &'a Bar, source: &'a str, recorded_as_of: Option<f64>) -> NewCycle<'a> {
        let close_ts = bar.close_ts();
        let is_live = self.feed.is_live();
        let wall = self.cycle_time == CycleTime::Wall;
        // Read once, so that a fixed or a real clock gives one time per cycle.
        let now = (is_live || wall).then(|| match recorded_as_of {
            Some(as_of) if wall => as_of,
            _ => self.runtime.clock().now(),
        });
        let as_of = now.filter(|_| wall).unwrap_or(close_ts);
        let max_data_age_s = self.runtime.rules().run.limits.max_data_age_s;
        NewCycle {
            source,
            bar,
            price: None,
            as_of,
            data_age_s: now.map(|now| now - close_ts),
            max_data_age_s: max_data_age_s.or(is_live.then_some(bar.interval_s)),
            observed: recorded_as_of.is_some(),
        }
    }

    /// Ends a run that has failed. A bus that was created for it is removed if it is still empty.
    pub fn discard_if_unused(self) {
        self.runtime.discard_if_unused();
    }

    /// Returns the runtime with its state.
    pub fn runtime(&self) -> &MarketRuntime {
        &self.runtime
    }

    /// Returns the last cycle of this process.
    pub fn last_cycle(&self) -> Option<&MarketCycle> {
        self.last_cycle.as_ref()
    }

    /// Returns the command that stopped the run, if there is one.
    pub fn killed_by(&self) -> Option<&Command> {
        self.runtime.killed_by()
    }
}

/// Whether a strategy that has failed runs again.
enum Restarted {
    Running,
    Failed(Failure),
    /// It has sent no state, and there are no records to show it.
    Impossible {
        failed_in: u64,
    },
}

/// The answer in place of a strategy that failed before and cannot be brought back to its state.
fn held_after(failed_in: u64) -> Answer {
    let reason = format!(
        "the strategy failed in cycle {failed_in}; without records and without a state it cannot continue"
    );
    Answer { hold_reason: Some(reason), ..Answer::default() }
}

/// Checks what a strategy asks for.
pub(crate) fn check_answer(answer: Answer) -> Decided {
    let invalid = |reason: String| Err(Failure { kind: FailureKind::InvalidOutput, reason });
    if answer.intents.len() > MAX_INTENTS {
        return invalid(format!("{} orders; one cycle takes at most {MAX_INTENTS}", answer.intents.len()));
    }
    for (index, intent) in answer.intents.iter().enumerate() {
        if let Err((field, problem)) = intent.check() {
            return invalid(format!("orders[{index}].{field}: {problem}"));
        }
    }
    if let Some(state) = &answer.state {
        if state.as_str().len() > MAX_STATE_BYTES {
            return invalid(format!("state: is longer than {MAX_STATE_BYTES} bytes"));
        }
        // The records hold the state that many levels deep.
        if Json::of(&[[[[[[[[state]]]]]]]]).is_err() {
            return invalid("state: is nested too deeply".to_owned());
        }
    }
    Ok(answer)
}

/// Name, version and the first digits of the checksum of a strategy.
pub(crate) fn describe(strategy: &StrategyIdentity) -> String {
    let StrategyIdentity { name, version, sha256 } = strategy;
    let digits = sha256.get(..19).unwrap_or(sha256);
    if version.is_empty() { format!("{name} ({digits})") } else { format!("{name} {version} ({digits})") }
}

/// Describes the first difference between two bars.
fn difference(recorded: &Bar, bar: &Bar) -> Option<String> {
    let symbols = |bar: &Bar| bar.candles.iter().map(|candle| candle.symbol.clone()).collect::<Vec<_>>();
    let (expected, found) = (symbols(recorded), symbols(bar));
    if expected != found {
        return Some(format!("symbols {}, recorded were {}", found.join(", "), expected.join(", ")));
    }
    let pairs = recorded.candles.iter().zip(&bar.candles);
    let fields = pairs.flat_map(|(a, b)| {
        [
            (&a.symbol, "open", a.open, b.open),
            (&a.symbol, "high", a.high, b.high),
            (&a.symbol, "low", a.low, b.low),
            (&a.symbol, "close", a.close, b.close),
            (&a.symbol, "volume", a.volume, b.volume),
        ]
    });
    let mut differing = fields.filter(|(_, _, recorded, found)| recorded != found);
    differing
        .next()
        .map(|(symbol, field, recorded, found)| format!("{symbol} {field} {found}, recorded was {recorded}"))
}
