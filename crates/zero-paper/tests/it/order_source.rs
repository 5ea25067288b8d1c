//! The seam for strategies: hand-written order sources and clocks drive a runtime.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, LOG, Reader, SNAPSHOT};
use zero_paper::event_types::{CYCLE, DECISION, FILL, HEALTH, OPERATOR_APPLIED, OPERATOR_COMMAND, POSITIONS};
use zero_paper::operator::{Action, command};
use zero_paper::order_source::{CycleContext, SourceError};
use zero_paper::replay::{LimitOverrides, replay, what_if};
use zero_paper::risk::ReduceOnlyRule;
use zero_paper::scenario::{Limits, Order, Side};
use zero_paper::{Clock, Error, FixedClock, Intent, OrderSource, PauseEnd, Run, Runtime, UnsupportedIntent};

/// A clock whose time advances by one second per reading.
struct SteppingClock(AtomicU64);

impl Clock for SteppingClock {
    fn now(&self) -> f64 {
        self.0.fetch_add(1, Ordering::Relaxed) as f64
    }
}

fn order(side: Side, quantity: f64, reduce_only: bool) -> Order {
    Order { symbol: "X".to_owned(), side, quantity, price: 10.0, confidence: 1.0, reduce_only }
}

fn buy() -> Order {
    order(Side::Buy, 1.0, false)
}

fn run(orders: impl OrderSource + 'static) -> Run {
    Run {
        name: "seam".to_owned(),
        limits: Limits::default(),
        reduce_only_rule: ReduceOnlyRule::Enforce,
        orders: Box::new(orders),
    }
}

fn start(disk: &SimDisk, orders: impl OrderSource + 'static) -> Runtime {
    Runtime::start_in(run(orders), &disk.storage(), Arc::new(FixedClock(1.0))).unwrap()
}

/// Buys one unit per cycle up to two, then sells everything. Checks that it sees the state before
/// the cycle.
struct BuyTwoThenSell;

impl OrderSource for BuyTwoThenSell {
    fn market_source(&self) -> &str {
        "test:constant"
    }

    fn intent(&mut self, cycle: &CycleContext<'_>) -> Result<Intent, SourceError> {
        assert_eq!(cycle.cycle_id, cycle.engine.counts().decisions + 1);
        assert_eq!(cycle.as_of, cycle.cycle_id as f64);
        let quantity = cycle.engine.book().position("X").quantity;
        let order = if quantity < 2.0 { buy() } else { order(Side::Sell, quantity, true) };
        Ok(Intent::Orders(vec![order]))
    }
}

/// Returns these intents in turn, and fails after the last one.
struct Script(VecDeque<Result<Intent, SourceError>>);

impl Script {
    fn new(intents: impl IntoIterator<Item = Result<Intent, SourceError>>) -> Self {
        Self(intents.into_iter().collect())
    }
}

impl OrderSource for Script {
    fn market_source(&self) -> &str {
        "test:script"
    }

    fn intent(&mut self, _: &CycleContext<'_>) -> Result<Intent, SourceError> {
        self.0.pop_front().unwrap_or_else(|| Err("the script is over".into()))
    }
}

fn events(disk: &SimDisk) -> Vec<zero_bus::Event> {
    Reader::open_in(disk.storage()).events(1).unwrap().map(Result::unwrap).collect()
}

fn record_files(disk: &SimDisk) -> [Option<Vec<u8>>; 4] {
    [LOG, SNAPSHOT, "decisions.jsonl", "cycles.jsonl"].map(|name| disk.content(name))
}

#[test]
fn a_strategy_and_a_clock_of_the_caller_drive_the_cycles() {
    let disk = SimDisk::new();
    let clock = Arc::new(SteppingClock(AtomicU64::new(1)));
    let mut runtime = Runtime::start_in(run(BuyTwoThenSell), &disk.storage(), clock).unwrap();
    let last = runtime.run(Some(3), Duration::ZERO, |_| PauseEnd::Elapsed).unwrap().unwrap();
    assert_eq!((last.cycle_id, last.as_of), (3, 3.0), "the clock is read once per cycle");
    assert_eq!(last.decide.idempotency_key, "runtime-seam-3");
    assert_eq!(last.act.decision.side, Side::Sell);
    assert_eq!(runtime.engine().book().open_positions(), 0);
    drop(runtime);

    let events = events(&disk);
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, [CYCLE, DECISION, FILL, POSITIONS, HEALTH].repeat(3));
    assert!(events[0].payload.as_str().contains(r#""market_source":"test:constant""#));
    let replay = replay(&Reader::open_in(disk.storage()), &mut |_| {}).unwrap();
    assert_eq!((replay.cycles, replay.difference), (3, None));

    // Another process continues the same run.
    let clock = Arc::new(SteppingClock(AtomicU64::new(4)));
    let mut runtime = Runtime::start_in(run(BuyTwoThenSell), &disk.storage(), clock).unwrap();
    assert!(runtime.warnings().is_empty(), "{:?}", runtime.warnings());
    assert_eq!(runtime.run_cycle().unwrap().cycle_id, 4);
}

#[test]
fn a_hold_or_several_orders_are_refused_and_nothing_is_recorded() {
    let hold = || Intent::Hold { reason: "spread too wide".to_owned() };
    let orders = |count| Intent::Orders(vec![buy(); count]);
    let cases = [
        (
            hold(),
            UnsupportedIntent::Hold { reason: "spread too wide".to_owned() },
            "a hold (spread too wide)",
        ),
        (orders(2), UnsupportedIntent::Orders { count: 2 }, "2 orders"),
        (orders(0), UnsupportedIntent::Orders { count: 0 }, "0 orders"),
    ];
    for (unsupported, expected, description) in cases {
        let disk = SimDisk::new();
        let script = Script::new([Ok(orders(1)), Ok(unsupported.clone()), Ok(unsupported), Ok(orders(1))]);
        let mut runtime = start(&disk, script);
        runtime.run_cycle().unwrap();
        let before = record_files(&disk);
        let state = (runtime.engine().counts(), runtime.engine().book().clone());
        // Both entry points refuse it.
        let single = runtime.run_cycle().unwrap_err();
        let looped = runtime.run(Some(1), Duration::ZERO, |_| PauseEnd::Elapsed).unwrap_err();
        for error in [single, looped] {
            let message = error.to_string();
            assert!(message.contains(description), "{message}");
            assert!(message.contains("cycle records v1"), "{message}");
            let Error::UnsupportedIntent { cycle_id, intent } = error else { panic!("{error:?}") };
            assert_eq!((cycle_id, intent), (2, expected.clone()));
        }
        assert_eq!(record_files(&disk), before);
        assert_eq!((runtime.engine().counts(), runtime.engine().book().clone()), state);
        // The refusal does not stop the runtime: the next order is cycle 2.
        assert_eq!(runtime.run_cycle().unwrap().cycle_id, 2);
    }
}

#[test]
fn a_failing_order_source_is_reported_and_nothing_is_recorded() {
    let disk = SimDisk::new();
    let orders = || Ok(Intent::Orders(vec![buy()]));
    let mut runtime = start(&disk, Script::new([orders(), Err("no candle".into()), orders()]));
    runtime.run_cycle().unwrap();
    let before = record_files(&disk);
    let error = runtime.run_cycle().unwrap_err();
    assert!(matches!(error, Error::OrderSource { cycle_id: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("no candle"), "{error}");
    assert_eq!(record_files(&disk), before);
    assert_eq!(runtime.run_cycle().unwrap().cycle_id, 2);
}

#[test]
fn a_flatten_command_closes_positions_without_the_order_source() {
    let disk = SimDisk::new();
    let mut runtime = start(&disk, Script::new([Ok(Intent::Orders(vec![buy()]))]));
    runtime.run_cycle().unwrap();
    let bus = Bus::open_in(disk.storage()).unwrap();
    bus.append(command(Action::Flatten, "ops", "", 1.0).unwrap()).unwrap();
    // The script is over, so only the flatten command can have closed the position.
    let error = runtime.run_cycle().unwrap_err();
    assert!(matches!(error, Error::OrderSource { cycle_id: 3, .. }), "{error:?}");
    assert_eq!(runtime.engine().book().open_positions(), 0);
    let types: Vec<String> = events(&disk).into_iter().map(|event| event.event_type).collect();
    let cycle = [CYCLE, DECISION, FILL, POSITIONS, HEALTH];
    assert_eq!(types, [&cycle[..], &[OPERATOR_COMMAND], &cycle, &[OPERATOR_APPLIED]].concat());
}

#[test]
fn a_runtime_can_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Runtime>();
}

/// The session `many` has 17 reduce-only orders that do not reduce a position.
#[test]
fn recorded_sessions_are_replayed_under_the_reduce_only_rule_of_their_run() {
    let sessions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/sessions");
    for (session, trusted) in [("many", 17), ("flips", 0), ("first-steps", 0)] {
        let reader = Reader::open(sessions.join(session).join("one-run/runtime-bus")).unwrap();
        let replayed = replay(&reader, &mut |_| {}).unwrap();
        assert_eq!((replayed.difference, replayed.trusted_reduce_only), (None, trusted), "{session}");
        let other = what_if(&reader, LimitOverrides::default(), &mut |_| {}).unwrap();
        assert_eq!((other.what_if, other.trusted_reduce_only), (other.recorded, trusted), "{session}");
    }
}
