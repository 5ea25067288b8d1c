//! Restarts of runs on market data: after a crash at any byte, the run has the events of an
//! undisturbed one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use zero_bus::{Bus, Json};
use zero_paper::candle::Bar;
use zero_paper::market::record::OnFailure;
use zero_paper::market::trading::{RunEnd, Trading};
use zero_paper::operator::{Action, command};
use zero_paper::scenario::Side;
use zero_paper::strategy::{Answer, Intent, Strategy};
use zero_paper::{Error, RecordPaths};

use crate::market_support::{
    Cycles, T0, TestStrategy, WIDE, bar, buy, events, failure, order, records, reduce, rules, sell, start,
    wide,
};
use crate::soak::{is_soak, rounds};

/// Two symbols over two days, with gaps and a fall.
fn market() -> Vec<Bar> {
    let price = |n: u32, base: f64| {
        let open = base + f64::from(n % 5);
        let close = base + f64::from((n * 3) % 7);
        [open, open.max(close) + 1.0, open.min(close) - 1.0, close]
    };
    (0..12)
        .map(|n| {
            let minutes = if n < 8 { n } else { n + 1440 };
            let a = ("A", price(n, 100.0));
            let b = ("B", price(n, 40.0));
            if n % 4 == 3 { bar(minutes, &[b]) } else { bar(minutes, &[a, b]) }
        })
        .collect()
}

/// Fills, limit orders that fill and expire, rejections, repeated keys, holds, a state.
fn intents(cycle_id: u64) -> Vec<Intent> {
    let limit = |intent: Intent, price| Intent { limit_price: Some(price), ..intent };
    let keyed = |intent: Intent, key: &str| Intent { key: Some(key.to_owned()), ..intent };
    match cycle_id {
        1 => vec![buy(2.0), keyed(buy(1.0), "mine"), Intent { symbol: "C".to_owned(), ..buy(1.0) }],
        2 => vec![keyed(buy(1.0), "mine"), limit(buy(1.0), 103.0), limit(sell(1.0), 500.0)],
        4 => vec![Intent { symbol: "B".to_owned(), ..order(Side::Sell, 3.0) }, buy(1e9)],
        6 => vec![reduce(sell(1.5)), reduce(buy(1.0)), sell(0.5)],
        9 => vec![buy(1.0), Intent { confidence: 0.1, ..buy(1.0) }],
        _ => Vec::new(),
    }
}

fn strategy() -> Box<dyn Strategy> {
    Box::new(TestStrategy::new(|observation| {
        let cycle_id = observation.cycle_id;
        let state = (cycle_id % 3 == 0).then(|| Json::of(&BTreeMap::from([("cycle", cycle_id)])).unwrap());
        let hold_reason = (cycle_id == 5).then(|| "nothing to do".to_owned());
        Ok(Answer { intents: intents(cycle_id), state, hold_reason })
    }))
}

fn file() -> String {
    wide(r#""limit_bars":2,"costs":{"fee_bps":4,"half_spread_bps":1,"slippage_bps":2}"#)
}

fn run_on(bars: &[Bar], records: &RecordPaths, max_cycles: Option<u64>) -> Result<RunEnd, Error> {
    start(rules(&file()), bars, strategy(), records)?.run(max_cycles, || false, &mut ())
}

/// The files of a run: `bus/events.jsonl` and `cycles.jsonl`.
struct Files {
    log: Vec<u8>,
    journal: Vec<u8>,
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("bus/events.jsonl")
}

impl Files {
    fn read(directory: &Path) -> Self {
        let read = |path: PathBuf| fs::read(path).unwrap_or_default();
        Self { log: read(log_path(directory)), journal: read(directory.join("cycles.jsonl")) }
    }

    /// Writes files that are cut to these lengths into a new directory.
    fn cut(&self, log_bytes: usize, journal_bytes: Option<usize>) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bus")).unwrap();
        fs::write(log_path(directory.path()), &self.log[..log_bytes]).unwrap();
        if let Some(bytes) = journal_bytes {
            fs::write(directory.path().join("cycles.jsonl"), &self.journal[..bytes]).unwrap();
        }
        directory
    }
}

/// An undisturbed run with both records.
fn undisturbed() -> (tempfile::TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    run_on(&market(), &records(directory.path(), true, true), None).unwrap();
    let events = events(&directory.path().join("bus"));
    (directory, events)
}

/// The lengths of a file after each of its lines, and 0.
fn line_ends(bytes: &[u8]) -> Vec<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).collect()
}

#[test]
fn all_records_of_a_run_tell_the_same_story() {
    let (directory, expected) = undisturbed();
    assert!(expected.len() > 70, "{}", expected.len());
    for (journal, bus) in [(false, true), (true, false)] {
        let other = tempfile::tempdir().unwrap();
        run_on(&market(), &records(other.path(), journal, bus), None).unwrap();
        let (files, own) = (Files::read(directory.path()), Files::read(other.path()));
        assert!(!bus || own.log == files.log);
        assert!(!journal || own.journal == files.journal);
    }
}

#[test]
fn a_run_in_parts_has_the_events_of_a_run_in_one() {
    let (_directory, expected) = undisturbed();
    for (journal, bus) in [(true, true), (false, true)] {
        let directory = tempfile::tempdir().unwrap();
        let records = records(directory.path(), journal, bus);
        for _ in 0..12 {
            assert_eq!(run_on(&market(), &records, Some(1)).unwrap(), RunEnd::CyclesDone);
        }
        assert_eq!(run_on(&market(), &records, None).unwrap(), RunEnd::FeedEnded);
        assert_eq!(events(&directory.path().join("bus")), expected);
    }
}

/// Without a journal the bus alone is cut, at every line and at bytes inside of each.
#[test]
fn a_bus_that_is_cut_anywhere_is_continued_as_if_undisturbed() {
    let (directory, expected) = undisturbed();
    let files = Files::read(directory.path());
    let mut cuts = 0u64;
    for (number, end) in line_ends(&files.log).into_iter().enumerate() {
        let line = files.log[end..].iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let inside = [end + 1, end + line / 2, end + line];
        // Between any two lines, and at one of three places inside of each; in the soak, at all.
        let inside = if is_soak() { &inside[..] } else { &inside[number % 3..][..1] };
        for &cut in [&[end], inside].concat().iter() {
            let cut_directory = files.cut(cut.min(files.log.len()), None);
            run_on(&market(), &records(cut_directory.path(), false, true), None)
                .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            assert_eq!(events(&cut_directory.path().join("bus")), expected, "cut at {cut}");
            cuts += 1;
        }
    }
    assert!(cuts > rounds(140, 280), "{cuts}");
}

/// A crash leaves the journal ahead of the bus by at most one cycle. The bus may end anywhere in
/// that cycle, and the journal's last line may be torn.
#[test]
fn journal_and_bus_that_are_cut_anywhere_are_continued_as_if_undisturbed() {
    let (directory, expected) = undisturbed();
    let files = Files::read(directory.path());
    let journal_ends = line_ends(&files.journal);
    let log_ends = line_ends(&files.log);
    // The number of events after each cycle.
    let cycle_ends: Vec<usize> = std::iter::once(0)
        .chain((1..).zip(&expected).filter(|(_, event)| event.starts_with("runtime.health")).map(|(n, _)| n))
        .collect();
    let mut cuts = 0u64;
    let mut check = |journal_bytes: usize, log_bytes: usize| {
        let cut = files.cut(log_bytes, Some(journal_bytes));
        run_on(&market(), &records(cut.path(), true, true), None)
            .unwrap_or_else(|error| panic!("journal cut at {journal_bytes}, bus at {log_bytes}: {error}"));
        let context = format!("journal cut at {journal_bytes}, bus at {log_bytes}");
        assert_eq!(events(&cut.path().join("bus")), expected, "{context}");
        assert_eq!(fs::read(cut.path().join("cycles.jsonl")).unwrap(), files.journal, "{context}");
        cuts += 1;
    };
    for cycle in 0..journal_ends.len() - 1 {
        // The journal line of the next cycle is torn, and nothing of it is on the bus.
        let (start, end) = (journal_ends[cycle], journal_ends[cycle + 1]);
        let torn = [start, start + 1, (start + end) / 2, end - 1];
        // At one of four places; in the soak, at all.
        let step = rounds(4, 1) as usize;
        for &torn in torn.iter().skip(cycle % step).step_by(step) {
            check(torn, log_ends[cycle_ends[cycle]]);
        }
        // The journal has the cycle, and the bus a part of it.
        for &at in &log_ends[cycle_ends[cycle]..=cycle_ends[cycle + 1]] {
            let line = files.log[at..].iter().position(|byte| *byte == b'\n').unwrap_or(0);
            check(end, at);
            if is_soak() || at % 4 == 0 {
                check(end, at + line / 3);
            }
        }
    }
    assert!(cuts > rounds(95, 180), "{cuts}");
}

/// A run that was without its bus for a while, or from the start, gets a complete bus.
#[test]
fn a_bus_gets_every_cycle_that_the_journal_has() {
    let (directory, expected) = undisturbed();
    let files = Files::read(directory.path());
    let ends = line_ends(&files.log);
    for events_on_bus in [0, 1, 20] {
        let cut = files.cut(ends[events_on_bus], Some(files.journal.len()));
        run_on(&market(), &records(cut.path(), true, true), None).unwrap();
        assert_eq!(events(&cut.path().join("bus")), expected);
    }
}

#[test]
fn a_missing_journal_is_rebuilt_from_the_bus() {
    let (directory, expected) = undisturbed();
    let files = Files::read(directory.path());
    let ends = line_ends(&files.log);
    for events_on_bus in [expected.len(), 40, 37] {
        let cut = files.cut(ends[events_on_bus], None);
        run_on(&market(), &records(cut.path(), true, true), None).unwrap();
        assert_eq!(events(&cut.path().join("bus")), expected);
        assert_eq!(fs::read(cut.path().join("cycles.jsonl")).unwrap(), files.journal);
    }
}

#[track_caller]
fn refused(result: Result<RunEnd, Error>, texts: &[&str]) {
    let error = result.unwrap_err().to_string();
    assert!(texts.iter().all(|text| error.contains(text)), "{error}");
}

#[test]
fn records_that_contradict_each_other_are_refused_with_both_places() {
    let (directory, _) = undisturbed();
    let files = Files::read(directory.path());
    let journal_ends = line_ends(&files.journal);

    let ahead = files.cut(files.log.len(), Some(journal_ends[3]));
    let result = run_on(&market(), &records(ahead.path(), true, true), None);
    refused(result, &["belongs to cycle 4", "ends with cycle 3", "the bus is ahead", "--rebuild-journal"]);
    assert_eq!(Files::read(ahead.path()).log, files.log, "a refused start changes nothing");

    let other = tempfile::tempdir().unwrap();
    let mut bars = market();
    bars[0].candles[0].close += 0.5;
    run_on(&bars, &records(other.path(), true, false), None).unwrap();
    let mixed = files.cut(files.log.len(), None);
    fs::copy(other.path().join("cycles.jsonl"), mixed.path().join("cycles.jsonl")).unwrap();
    let result = run_on(&market(), &records(mixed.path(), true, true), None);
    refused(result, &["evt-000000000001 is not the observation", "cycles.jsonl has for cycle 1"]);
}

#[test]
fn a_feed_that_differs_from_the_record_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path(), true, true);
    run_on(&market(), &records, Some(3)).unwrap();
    let mut bars = market();
    bars[2].candles[1].close = 41.25;
    refused(run_on(&bars, &records, None), &["B close 41.25", "are not those that were recorded"]);
    bars.remove(2);
    refused(run_on(&bars, &records, None), &["there is no bar at 1777593720", "name the feed of this run"]);
    // A feed that begins later continues the run.
    run_on(&market()[3..], &records, None).unwrap();
}

#[test]
fn another_name_or_start_cash_is_another_run() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path(), false, true);
    run_on(&market(), &records, Some(3)).unwrap();
    for (file, text) in [
        (file().replace(r#""name":"t""#, r#""name":"u""#), "belongs to the run `t`, but this run is `u`"),
        (wide(r#""start_cash_usd":5"#), "began with 10000 USD, but start_cash_usd is 5"),
    ] {
        let error = start(rules(&file), &market(), strategy(), &records).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
}

fn logged(
    bars: &[Bar],
    records: &RecordPaths,
    decide: impl Fn(u64) -> Answer + Send + 'static,
) -> Vec<String> {
    let strategy = TestStrategy::new(move |observation| Ok(decide(observation.cycle_id)));
    let log: Arc<Mutex<Vec<String>>> = Arc::clone(&strategy.log);
    let mut trading = start(rules(WIDE), bars, Box::new(strategy), records).unwrap();
    trading.run(None, || false, &mut ()).unwrap();
    drop(trading);
    Arc::into_inner(log).unwrap().into_inner().unwrap()
}

/// The strategy of a restarted run has seen what the strategy of an undisturbed run has seen.
#[test]
fn a_strategy_without_a_state_is_shown_the_recorded_bars() {
    let decide = |cycle_id| Answer {
        intents: if cycle_id % 2 == 1 { vec![buy(1.0)] } else { Vec::new() },
        ..Answer::default()
    };
    let undisturbed = logged(&market(), &RecordPaths::default(), decide);
    for (journal, bus) in [(true, true), (false, true), (true, false)] {
        let directory = tempfile::tempdir().unwrap();
        let records = records(directory.path(), journal, bus);
        logged(&market()[..7], &records, decide);
        let resumed: Vec<String> = logged(&market(), &records, decide)
            .iter()
            .map(|line| line.replace("observe", "decide"))
            .collect();
        assert_eq!(resumed, undisturbed);
    }
}

#[test]
fn a_strategy_that_has_sent_a_state_starts_with_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path(), true, true);
    let decide = |cycle_id| Answer {
        state: (cycle_id <= 2).then(|| Json::parse(&format!("{{\"n\":{cycle_id}}}")).unwrap()),
        ..Answer::default()
    };
    logged(&market()[..5], &records, decide);
    let resumed = logged(&market()[..6], &records, decide);
    assert_eq!(resumed[0], r#"start A,B {"n":2}"#);
    assert!(resumed[1].starts_with("decide 6 "), "{resumed:?}");
    assert_eq!(resumed.len(), 2);
}

#[test]
fn a_failure_is_recorded_and_ends_the_run_or_holds() {
    let failing = || {
        Box::new(TestStrategy::new(|observation| match observation.cycle_id {
            2 => Err(failure("no answer within 5 s")),
            _ => Ok(Answer { intents: vec![buy(1.0)], ..Answer::default() }),
        }))
    };
    let directory = tempfile::tempdir().unwrap();
    let records_of = |name: &str| records(&directory.path().join(name), true, true);
    let stop = records_of("stop");
    let error = start(rules(WIDE), &market(), failing(), &stop).unwrap().run(None, || false, &mut ());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("failed in cycle 2: no answer within 5 s"), "{error}");
    let recorded = events(stop.runtime_bus.as_deref().unwrap());
    let failed: Vec<&String> = recorded.iter().filter(|event| event.starts_with("strategy.failed")).collect();
    assert_eq!(failed.len(), 1);
    let payload = r#"{"cycle_id":2,"kind":"timeout","on_failure":"stop","reason":"no answer within 5 s","#;
    assert!(failed[0].contains(payload), "{}", failed[0]);
    // The next start continues after the failed cycle.
    let mut again = Cycles::default();
    start(rules(WIDE), &market(), strategy(), &stop).unwrap().run(None, || false, &mut again).unwrap();
    assert_eq!(again.0[0].cycle_id, 3);
    assert_eq!(again.0[0].learn.failures, 1);

    let mut hold = rules(WIDE);
    hold.on_failure = OnFailure::Hold;
    let mut cycles = Cycles::default();
    let mut trading = start(hold.clone(), &market(), failing(), &RecordPaths::default()).unwrap();
    assert_eq!(trading.run(None, || false, &mut cycles).unwrap(), RunEnd::FeedEnded);
    assert!(cycles.0[1..].iter().all(|cycle| cycle.act.decisions.is_empty()));
    assert_eq!(cycles.0[1].act.fills.len(), 1, "open orders still fill");
    let reason = cycles.0[2].decide.hold_reason.as_deref().unwrap();
    assert!(reason.starts_with("the strategy failed in cycle 2; without records"), "{reason}");

    // With records it is shown what it has missed, and continues.
    let mut cycles = Cycles::default();
    let strategy = failing();
    let log = Arc::clone(&strategy.log);
    let mut trading = start(hold, &market()[..3], strategy, &records_of("hold")).unwrap();
    trading.run(None, || false, &mut cycles).unwrap();
    assert_eq!(cycles.0[2].act.decisions.len(), 1);
    let calls: Vec<String> =
        log.lock().unwrap().iter().map(|line| line[..9.min(line.len())].to_owned()).collect();
    let expected =
        ["start A,B", "decide 1 ", "decide 2 ", "stop", "start A,B", "observe 1", "observe 2", "decide 3 "];
    assert_eq!(calls, expected);
}

#[test]
fn under_hold_a_strategy_with_a_state_is_started_again() {
    let strategy = TestStrategy::new(|observation| match observation.cycle_id {
        2 | 3 => Err(failure("crashed")),
        n => Ok(Answer { state: Some(Json::parse(&n.to_string()).unwrap()), ..Answer::default() }),
    });
    let log = Arc::clone(&strategy.log);
    let mut hold = rules(WIDE);
    hold.on_failure = OnFailure::Hold;
    let mut cycles = Cycles::default();
    let mut trading = start(hold, &market()[..5], Box::new(strategy), &RecordPaths::default()).unwrap();
    trading.run(None, || false, &mut cycles).unwrap();
    let failed: Vec<bool> = cycles.0.iter().map(|cycle| cycle.decide.failure.is_some()).collect();
    assert_eq!(failed, [false, true, true, false, false]);
    let starts: Vec<String> =
        log.lock().unwrap().iter().filter(|line| line.starts_with("start")).cloned().collect();
    assert_eq!(starts, ["start A,B no state", "start A,B 1", "start A,B 1"]);
}

#[test]
fn an_answer_that_is_not_valid_is_a_failure_and_places_nothing() {
    let intents = [
        vec![buy(1.0), Intent { quantity: f64::NAN, ..buy(1.0) }],
        vec![Intent { symbol: "a".to_owned(), ..buy(1.0) }],
        vec![buy(1.0); 1001],
    ];
    let texts =
        ["orders[1].quantity: must be above 0", "orders[0].symbol: must be in upper case", "1001 orders"];
    for (intents, text) in intents.into_iter().zip(texts) {
        let mut cycles = Cycles::default();
        let strategy = TestStrategy::of(move |_| intents.clone());
        let mut trading = start(rules(WIDE), &market(), strategy, &RecordPaths::default()).unwrap();
        assert!(trading.run(None, || false, &mut cycles).is_err());
        let failure = cycles.0[0].decide.failure.as_ref().unwrap();
        assert!(failure.reason.contains(text), "{}", failure.reason);
        assert!(cycles.0[0].act.decisions.is_empty());
    }
}

fn give(bus: &Path, action: Action) {
    Bus::open(bus).unwrap().append(command(action, "ops", "", T0).unwrap()).unwrap();
}

/// Runs one cycle.
fn step(trading: &mut Trading) -> Option<u64> {
    trading.run(Some(1), || false, &mut ()).unwrap();
    trading.last_cycle().map(|cycle| cycle.cycle_id)
}

#[test]
fn a_flatten_closes_positions_and_open_orders_and_is_confirmed_once_flat() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path(), true, true);
    let bus = directory.path().join("bus");
    let strategy = || {
        TestStrategy::of(|cycle_id| match cycle_id {
            1 => vec![buy(2.0), Intent { limit_price: Some(1.0), ..buy(1.0) }],
            _ => vec![buy(1.0)],
        })
    };
    let file = wide(r#""limit_bars":9"#);
    let bars = market();
    let mut trading = start(rules(&file), &bars, strategy(), &records).unwrap();
    step(&mut trading);
    give(&bus, Action::Flatten);
    let count = |kind: &str| events(&bus).iter().filter(|event| event.starts_with(kind)).count();
    step(&mut trading);
    assert_eq!(count("operator.applied"), 0, "the closing order waits for its fill");
    let cycle = trading.last_cycle().unwrap();
    assert_eq!(cycle.act.expired[0].reason, "operator flatten");
    let decisions: Vec<(&str, &str)> =
        cycle.act.decisions.iter().map(|d| (d.source.as_str(), d.reason.as_str())).collect();
    assert_eq!(
        decisions,
        [
            ("operator", "reduce-only orders bypass risk-increasing friction"),
            ("runtime:t", "operator reduce-only")
        ]
    );
    // A crash before the confirmation changes nothing.
    drop(trading);
    let mut trading = start(rules(&file), &bars, strategy(), &records).unwrap();
    step(&mut trading);
    assert_eq!(trading.runtime().state().account().book().open_positions(), 0);
    let recorded = events(&bus);
    assert!(recorded.last().unwrap().contains(r#""effect":"flat, reduce only""#), "{recorded:?}");
    assert_eq!(count("operator.applied"), 1);
}

#[test]
fn pause_resume_and_kill_govern_the_next_bar() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path(), true, true);
    let bus = directory.path().join("bus");
    let bars = market();
    let strategy = || TestStrategy::of(|_| vec![buy(1.0)]);
    let mut trading = start(rules(WIDE), &bars, strategy(), &records).unwrap();
    let reason = |trading: &Trading| trading.last_cycle().unwrap().act.decisions[0].reason.clone();
    step(&mut trading);
    give(&bus, Action::Pause);
    step(&mut trading);
    assert_eq!(reason(&trading), "operator pause");
    give(&bus, Action::Resume);
    step(&mut trading);
    assert_eq!(reason(&trading), "allowed");
    give(&bus, Action::Kill);
    assert_eq!(trading.run(None, || false, &mut ()).unwrap(), RunEnd::Killed);
    assert_eq!(trading.last_cycle().unwrap().cycle_id, 3);
    drop(trading);
    let killed = start(rules(WIDE), &bars, strategy(), &records).err().unwrap();
    assert!(matches!(killed, Error::Killed { .. }), "{killed}");
    give(&bus, Action::Resume);
    let mut trading = start(rules(WIDE), &bars, strategy(), &records).unwrap();
    assert_eq!(step(&mut trading), Some(4));
}

#[test]
fn a_resume_counts_the_loss_of_the_day_anew_also_after_a_restart() {
    let file = wide(
        r#""fill":"close","limits":{"max_notional_usd":1e9,"max_position_notional_usd":1e9,"min_confidence":0.5,"max_daily_loss_usd":50}"#,
    );
    let prices = [100.0, 40.0, 40.0, 39.0];
    let bars: Vec<Bar> = (0..).zip(prices).map(|(n, price)| bar(n, &[("A", [price; 4])])).collect();
    let strategy = || TestStrategy::of(|_| vec![buy(1.0)]);
    for restart in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let records = records(directory.path(), true, true);
        let bus = directory.path().join("bus");
        let mut trading = start(rules(&file), &bars, strategy(), &records).unwrap();
        let reason = |trading: &Trading| trading.last_cycle().unwrap().act.decisions[0].reason.clone();
        step(&mut trading);
        step(&mut trading);
        assert_eq!(reason(&trading), "daily loss limit reached");
        give(&bus, Action::Resume);
        // Applies the command.
        trading.run(Some(0), || false, &mut ()).unwrap();
        if restart {
            drop(trading);
            trading = start(rules(&file), &bars, strategy(), &records).unwrap();
        }
        step(&mut trading);
        let cycle = trading.last_cycle().unwrap();
        assert_eq!((cycle.cycle_id, cycle.orient.day_start_equity_usd), (3, 9_940.0));
        assert_eq!(reason(&trading), "allowed");
    }
}
