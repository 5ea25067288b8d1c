//! The start-up checkpoint of runs on market data.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use zero_bus::sim::Rng;
use zero_bus::{Bus, Reader};
use zero_paper::candle::Bar;
use zero_paper::market::orders::{LineAnswer, OrderDesk, OrderInput};
use zero_paper::market::runtime::MarketRuntime;
use zero_paper::market::trading::{CycleTime, MarketRun, Trading};
use zero_paper::operator::{Action, command};
use zero_paper::start_checkpoint::{CHECKPOINT, CheckpointOptions, KEY_INDEX};
use zero_paper::strategy::{self, Strategy};
use zero_paper::{Error, FixedClock, RecordPaths};

use crate::market_support::{T0, TestFeed, TestStrategy, bar, buy, events, reduce, rules, sell, wide};

const EVERY: u64 = 4;

fn records(dir: &Path, journal: bool, full_check: bool) -> RecordPaths {
    RecordPaths {
        checkpoint: CheckpointOptions { full_check, every_cycles: EVERY },
        ..crate::market_support::records(dir, journal, true)
    }
}

/// Prices that rise and fall over three days, so that days begin and limit orders fill and expire.
fn market() -> Vec<Bar> {
    (0..60_u32)
        .map(|n| {
            let price = 100.0 + f64::from((n * 37) % 23);
            let candle = [price, price + 2.0, price - 2.0, price + f64::from(n % 3) - 1.0];
            let mut bar = bar(n * 70, &[("A", candle)]);
            if n % 2 == 0 {
                let mut other = bar.candles[0].clone();
                other.symbol = "B".to_owned();
                bar.candles.push(other);
            }
            bar
        })
        .collect()
}

fn run_file() -> String {
    wide(r#""costs":{"fee_bps":5,"slippage_bps":3},"limit_bars":3"#)
}

/// Orders of every kind, some with keys of their own, one key used twice.
fn orders() -> Box<dyn Strategy> {
    TestStrategy::of(|cycle_id| {
        let mut limit = buy(2.0);
        limit.limit_price = Some(99.0 + (cycle_id % 9) as f64);
        let mut keyed = sell(1.0);
        keyed.key = Some(format!("mine-{}", cycle_id / 2));
        match cycle_id % 5 {
            0 => vec![buy(1.0), limit],
            1 => vec![keyed],
            2 => vec![reduce(sell(0.5)), keyed],
            3 => vec![limit],
            _ => Vec::new(),
        }
    })
}

fn sma() -> Box<dyn Strategy> {
    strategy::open("sma-cross:fast=2,slow=5,quantity=1", std::time::Duration::from_secs(5)).unwrap()
}

fn start(dir: &Path, journal: bool, full_check: bool, strategy: Box<dyn Strategy>) -> Result<Trading, Error> {
    let feed = TestFeed::recorded(&market());
    let run = MarketRun { rules: rules(&run_file()), feed, strategy, cycle_time: CycleTime::Bar };
    let clock = Arc::new(FixedClock(T0));
    Trading::start(run, &records(dir, journal, full_check), clock, &mut Vec::new())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn state(trading: &Trading) -> String {
    let state = trading.runtime().state();
    let keys: Vec<_> = (0..40).map(|n| state.cycle_of_key(&format!("mine-{n}"))).collect();
    let account = state.account();
    format!(
        "{account:?} {:?} {} {} {:?} {:?} {keys:?} {:?}",
        state.counts(),
        state.worst_daily_loss_usd(),
        state.day_start_equity_usd(),
        state.orders_last_minute(),
        state.last_decisions(),
        trading.runtime().last_bar_ts(),
    )
}

#[test]
fn a_start_from_the_checkpoint_continues_as_one_that_reads_all_records() {
    let mut fast_starts = 0;
    let strategies: [fn() -> Box<dyn Strategy>; 2] = [orders, sma];
    for (seed, journal, strategy) in [
        (1, true, strategies[0]),
        (2, false, strategies[0]),
        (3, true, strategies[1]),
        (4, false, strategies[1]),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        fs::create_dir(&dir).unwrap();
        let mut rng = Rng::new(seed);
        for process in 0..5 {
            let mut trading = start(&dir, journal, false, strategy()).unwrap();
            trading.run(Some(1 + rng.below(9) as u64), || false, &mut ()).unwrap();
            drop(trading);
            let action = [Action::Pause, Action::Resume, Action::Resume][rng.below(3)];
            Bus::open(dir.join("bus")).unwrap().append(command(action, "o", "", 1.0).unwrap()).unwrap();
            let [fast_dir, full_dir] =
                ["fast", "full"].map(|name| temp.path().join(format!("{name}{process}")));
            copy(&dir, &fast_dir);
            copy(&dir, &full_dir);
            let mut fast = start(&fast_dir, journal, false, strategy()).unwrap();
            let mut full = start(&full_dir, journal, true, strategy()).unwrap();
            fast_starts += u64::from(fast.runtime().started_after() > 0);
            assert_eq!(full.runtime().started_after(), 0);
            assert_eq!(state(&fast), state(&full), "seed {seed}, process {process}");
            for trading in [&mut fast, &mut full] {
                trading.run(Some(6), || false, &mut ()).unwrap();
            }
            assert_eq!(state(&fast), state(&full), "seed {seed}, process {process}");
            assert_eq!(events(&fast_dir.join("bus")), events(&full_dir.join("bus")), "seed {seed}");
            if journal {
                let [fast, full] =
                    [fast_dir, full_dir].map(|dir| fs::read(dir.join("cycles.jsonl")).unwrap());
                assert!(fast == full, "seed {seed}, process {process}");
            }
        }
    }
    assert!(fast_starts >= 16, "{fast_starts}");
}

#[test]
fn a_run_that_cannot_use_its_checkpoint_says_so_and_reads_all_records() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    start(dir, true, false, orders()).unwrap().run(Some(9), || false, &mut ()).unwrap();
    let warnings = |rules| {
        let mut warnings = Vec::new();
        let clock = Arc::new(FixedClock(T0));
        let runtime = MarketRuntime::start(rules, &records(dir, true, false), clock, &mut warnings).unwrap();
        (runtime.started_after(), warnings.join("\n"))
    };
    assert_eq!(warnings(rules(&run_file())), (9, String::new()));
    let other_costs = wide(r#""costs":{"fee_bps":6,"slippage_bps":3},"limit_bars":3"#);
    let (after, text) = warnings(rules(&other_costs));
    assert!(after == 0 && text.contains("another kind, name, limits or rules"), "{text}");
    // Changed before the checkpoint: only a full start finds it.
    let journal = dir.join("cycles.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replacen("\"volume\":1.0", "\"volume\":2.0", 1)).unwrap();
    assert_eq!(warnings(rules(&run_file())).0, 9, "what a fast start does not check");
    let mut ignored = Vec::new();
    let clock = Arc::new(FixedClock(T0));
    let full = MarketRuntime::start(rules(&run_file()), &records(dir, true, true), clock, &mut ignored);
    assert!(matches!(full, Err(Error::Reconcile { .. })));
    fs::write(&journal, text).unwrap();
    fs::write(dir.join("bus").join(CHECKPOINT), "{}").unwrap();
    let (after, text) = warnings(rules(&run_file()));
    assert!(after == 0 && text.contains("the start compared all 9 cycles"), "{text}");
}

/// Answers one order line per key. Returns (repeated, cycle) of each answer.
fn answers(dir: &Path, journal: bool, keys: &[String]) -> (u64, Vec<(bool, u64)>) {
    let line = |key: &String| {
        format!(
            "{{\"symbol\":\"A\",\"side\":\"buy\",\"quantity\":1,\"price\":5,\"confidence\":1,\"key\":\"{key}\"}}\n"
        )
    };
    let input = dir.join("orders.jsonl");
    fs::write(&input, keys.iter().map(line).collect::<String>()).unwrap();
    let clock = Arc::new(FixedClock(T0));
    let runtime =
        MarketRuntime::start(rules(&run_file()), &records(dir, journal, false), clock, &mut Vec::new())
            .unwrap();
    let after = runtime.started_after();
    let mut desk = OrderDesk::new(runtime, OrderInput::open(input.to_str().unwrap()).unwrap());
    let mut answers = Vec::new();
    desk.run(
        None,
        || false,
        |answer, _| {
            let LineAnswer::Decided(answer) = answer else { panic!("{answer:?}") };
            answers.push((answer.repeated, answer.result.cycle_id));
            Ok(())
        },
    )
    .unwrap();
    (after, answers)
}

#[test]
fn a_key_that_was_used_long_ago_is_refused_after_a_fast_start_and_after_the_loss_of_the_companions() {
    for journal in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let keys: Vec<String> = (1..=50).map(|n| format!("order-{n}")).collect();
        let (_, first) = answers(dir, journal, &keys);
        assert_eq!(first, (1..=50).map(|cycle| (false, cycle)).collect::<Vec<_>>());
        let again = ["order-3", "order-50", "new", "order-1", "new"].map(str::to_owned);
        let (after, second) = answers(dir, journal, &again);
        assert_eq!(after, 50);
        assert_eq!(second, [(true, 3), (true, 50), (false, 51), (true, 1), (true, 51)]);
        for name in [CHECKPOINT, KEY_INDEX] {
            fs::remove_file(dir.join("bus").join(name)).unwrap();
        }
        let (after, third) = answers(dir, journal, &["order-3", "new"].map(str::to_owned));
        assert_eq!((after, third), (0, vec![(true, 3), (true, 51)]));
        assert!(Reader::open(dir.join("bus")).unwrap().verify().unwrap().ok());
    }
}
