//! A feed and a strategy for tests of runs on market data.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zero_bus::{Event, RECOVERED_TYPE, Reader};
use zero_paper::candle::{Bar, Candle};
use zero_paper::feed::{Feed, FeedError, Next};
use zero_paper::market::cycle::Rules;
use zero_paper::market::record::{MarketCycle, OnFailure};
use zero_paper::market::run_file::RunFile;
use zero_paper::market::trading::{CycleTime, MarketRun, RunEnd, RunObserver, Trading};
use zero_paper::risk::ReduceOnlyRule;
use zero_paper::scenario::Side;
use zero_paper::strategy::{
    Answer, Failure, FailureKind, Intent, Observation, Start, Strategy, StrategyIdentity,
};
use zero_paper::{Error, FixedClock, RecordPaths};

/// The start of the first bar.
pub(crate) const T0: f64 = 1777593600.0;

/// A bar of one minute, `n` minutes after [`T0`], with candles (symbol, [open, high, low, close]).
pub(crate) fn bar(n: u32, candles: &[(&str, [f64; 4])]) -> Bar {
    let ts = T0 + 60.0 * f64::from(n);
    let candle = |(symbol, [open, high, low, close]): &(&str, [f64; 4])| Candle {
        close: *close,
        high: *high,
        low: *low,
        open: *open,
        symbol: (*symbol).to_owned(),
        ts,
        volume: 1.0,
    };
    Bar { ts, interval_s: 60.0, candles: candles.iter().map(candle).collect() }
}

/// Bars of the symbol A that open and close at these prices.
pub(crate) fn bars(prices: &[[f64; 2]]) -> Vec<Bar> {
    let candle = |[open, close]: &[f64; 2]| [*open, open.max(*close), open.min(*close), *close];
    (0..).zip(prices).map(|(n, prices)| bar(n, &[("A", candle(prices))])).collect()
}

/// Delivers these bars.
pub(crate) struct TestFeed {
    pub(crate) bars: VecDeque<Bar>,
    pub(crate) live: bool,
}

impl TestFeed {
    pub(crate) fn recorded(bars: &[Bar]) -> Box<dyn Feed> {
        Box::new(Self { bars: bars.iter().cloned().collect(), live: false })
    }
}

impl Feed for TestFeed {
    fn source(&self) -> &str {
        "test.jsonl"
    }

    fn next(&mut self, _: Duration) -> Result<Next, FeedError> {
        Ok(self.bars.pop_front().map_or(Next::End, Next::Bar))
    }

    fn is_live(&self) -> bool {
        self.live
    }

    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

pub(crate) fn order(side: Side, quantity: f64) -> Intent {
    Intent {
        symbol: "A".to_owned(),
        side,
        quantity,
        confidence: 0.9,
        reason: "test".to_owned(),
        reduce_only: false,
        limit_price: None,
        key: None,
    }
}

pub(crate) fn buy(quantity: f64) -> Intent {
    order(Side::Buy, quantity)
}

pub(crate) fn sell(quantity: f64) -> Intent {
    order(Side::Sell, quantity)
}

pub(crate) fn reduce(intent: Intent) -> Intent {
    Intent { reduce_only: true, ..intent }
}

type Decide = dyn FnMut(&Observation<'_>) -> Result<Answer, Failure> + Send;

/// Decides with a closure, and notes what the runtime did with it.
pub(crate) struct TestStrategy {
    identity: StrategyIdentity,
    decide: Box<Decide>,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
}

impl TestStrategy {
    pub(crate) fn new(
        decide: impl FnMut(&Observation<'_>) -> Result<Answer, Failure> + Send + 'static,
    ) -> Self {
        let identity = StrategyIdentity {
            name: "test".to_owned(),
            sha256: "sha256:00".to_owned(),
            version: "1".to_owned(),
        };
        Self { identity, decide: Box::new(decide), log: Arc::default() }
    }

    /// Asks for the intents of each cycle.
    pub(crate) fn of(intents: impl Fn(u64) -> Vec<Intent> + Send + 'static) -> Box<dyn Strategy> {
        Box::new(Self::new(move |observation| {
            Ok(Answer { intents: intents(observation.cycle_id), ..Answer::default() })
        }))
    }

    fn note(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }
}

pub(crate) fn failure(reason: &str) -> Failure {
    Failure { kind: FailureKind::Timeout, reason: reason.to_owned() }
}

impl Strategy for TestStrategy {
    fn identity(&self) -> &StrategyIdentity {
        &self.identity
    }

    fn start(&mut self, start: &Start<'_>) -> Result<(), Failure> {
        let state = start.state.map_or("no state".to_owned(), ToString::to_string);
        self.note(format!("start {} {state}", start.symbols.join(",")));
        Ok(())
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), Failure> {
        self.note(format!("observe {}", seen(observation)));
        Ok(())
    }

    fn decide(&mut self, observation: &Observation<'_>) -> Result<Answer, Failure> {
        self.note(format!("decide {}", seen(observation)));
        (self.decide)(observation)
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.note("stop".to_owned());
        Ok(())
    }

    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// All that a strategy sees, in one line.
pub(crate) fn seen(observation: &Observation<'_>) -> String {
    let Observation { as_of, cycle_id, bar, positions, equity_usd, last } = observation;
    let close = bar.candles.first().map_or(0.0, |candle| candle.close);
    let positions: Vec<String> =
        positions.iter().map(|p| format!("{}@{}", p.quantity, p.avg_price)).collect();
    let last: Vec<&str> = last.iter().map(|decision| decision.reason.as_str()).collect();
    format!("{cycle_id} at {as_of}: {close} {positions:?} {equity_usd} {last:?}")
}

pub(crate) fn rules(file: &str) -> Rules {
    Rules {
        run: RunFile::parse(file).unwrap(),
        reduce_only_rule: ReduceOnlyRule::Enforce,
        on_failure: OnFailure::Stop,
    }
}

/// A run file that limits nothing much.
pub(crate) const WIDE: &str =
    r#"{"name":"t","limits":{"max_notional_usd":1e9,"max_position_notional_usd":1e9,"min_confidence":0.5}}"#;

/// [`WIDE`] with more members.
pub(crate) fn wide(members: &str) -> String {
    format!("{},{members}}}", &WIDE[..WIDE.len() - 1])
}

/// Collects the cycles.
#[derive(Default)]
pub(crate) struct Cycles(pub(crate) Vec<MarketCycle>);

impl RunObserver for Cycles {
    fn cycle(&mut self, cycle: &MarketCycle) {
        self.0.push(cycle.clone());
    }

    fn warning(&mut self, _: &str) {}
}

pub(crate) fn start(
    rules: Rules,
    bars: &[Bar],
    strategy: Box<dyn Strategy>,
    records: &RecordPaths,
) -> Result<Trading, Error> {
    let run = MarketRun { rules, feed: TestFeed::recorded(bars), strategy, cycle_time: CycleTime::Bar };
    Trading::start(run, records, Arc::new(FixedClock(T0)), &mut Vec::new())
}

/// Runs without records until the feed ends.
pub(crate) fn run(file: &str, bars: &[Bar], strategy: Box<dyn Strategy>) -> Vec<MarketCycle> {
    run_with(rules(file), bars, strategy)
}

pub(crate) fn run_with(rules: Rules, bars: &[Bar], strategy: Box<dyn Strategy>) -> Vec<MarketCycle> {
    let mut cycles = Cycles::default();
    let mut trading = start(rules, bars, strategy, &RecordPaths::default()).unwrap();
    assert_eq!(trading.run(None, || false, &mut cycles).unwrap(), RunEnd::FeedEnded);
    cycles.0
}

/// The records of a run in a directory.
pub(crate) fn records(directory: &Path, journal: bool, bus: bool) -> RecordPaths {
    RecordPaths {
        journal: journal.then(|| directory.join("cycles.jsonl")),
        runtime_bus: bus.then(|| directory.join("bus")),
        ..RecordPaths::default()
    }
}

/// All events of a bus, without index and checksum.
pub(crate) fn events(bus: &Path) -> Vec<String> {
    let text = |event: Event| {
        let trace = event.trace_id.unwrap_or_default();
        format!("{} {} {trace} {}", event.event_type, event.as_of, event.payload)
    };
    let events = Reader::open(bus).unwrap().events(1).unwrap().map(Result::unwrap);
    // Recovery records what it quarantined; an undisturbed run has no such event.
    events.filter(|event| event.event_type != RECOVERED_TYPE).map(text).collect()
}
