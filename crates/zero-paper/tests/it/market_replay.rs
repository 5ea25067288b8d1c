//! Replays of runs on market data: the recorded cycles run again give the recorded events, and any
//! change of a record is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft, Event, Json, Reader};
use zero_paper::FixedClock;
use zero_paper::candle::Bar;
use zero_paper::market::cycle::Rules;
use zero_paper::market::orders::{OrderDesk, OrderInput};
use zero_paper::market::record::OnFailure;
use zero_paper::market::runtime::MarketRuntime;
use zero_paper::market::trading::{CycleTime, MarketRun, Trading};
use zero_paper::operator::{Action, command};
use zero_paper::replay::{LimitOverrides, Replay, WhatIf, replay, what_if};
use zero_paper::risk::ReduceOnlyRule;
use zero_paper::scenario::Side;
use zero_paper::strategy::{Answer, Intent, Strategy};

use crate::market_bus::write_run;
use crate::market_support::{
    T0, TestFeed, TestStrategy, WIDE, bar, bars, buy, failure, order, records, reduce, rules, sell, start,
};

/// Two symbols over two days, with gaps and a fall.
fn market() -> Vec<Bar> {
    let price = |n: u32, base: f64| {
        let open = base + f64::from(n % 5);
        let close = base + f64::from((n * 3) % 7);
        [open, open.max(close) + 1.0, open.min(close) - 1.0, close]
    };
    (0..16)
        .map(|n| {
            let minutes = if n < 10 { n } else { n + 1440 };
            let (a, b) = (("A", price(n, 100.0)), ("B", price(n, 40.0)));
            if n % 4 == 3 { bar(minutes, &[b]) } else { bar(minutes, &[a, b]) }
        })
        .collect()
}

/// Fills, limit orders that fill and expire, rejections by most rules, repeated keys, holds.
fn intents(cycle_id: u64) -> Vec<Intent> {
    let limit = |intent: Intent, price| Intent { limit_price: Some(price), ..intent };
    let keyed = |intent: Intent, key: &str| Intent { key: Some(key.to_owned()), ..intent };
    match cycle_id {
        1 => vec![buy(2.0), keyed(buy(1.0), "mine"), Intent { symbol: "C".to_owned(), ..buy(1.0) }],
        2 => vec![keyed(buy(1.0), "mine"), limit(buy(1.0), 103.0), limit(sell(1.0), 500.0)],
        4 => vec![Intent { symbol: "B".to_owned(), ..order(Side::Sell, 3.0) }, buy(1e9), buy(6.0)],
        6 => vec![reduce(sell(1.5)), reduce(buy(1.0)), sell(0.5)],
        7 | 8 => vec![buy(0.5)],
        11 => vec![buy(1.0), Intent { confidence: 0.1, ..buy(1.0) }],
        13 => vec![buy(1.0), buy(1.0), buy(1.0), buy(1.0)],
        _ => Vec::new(),
    }
}

fn strategy() -> Box<dyn Strategy> {
    Box::new(TestStrategy::new(|observation| {
        let cycle_id = observation.cycle_id;
        if cycle_id == 5 {
            return Err(failure("no answer"));
        }
        let state = (cycle_id % 3 == 0).then(|| Json::of(&BTreeMap::from([("cycle", cycle_id)])).unwrap());
        let hold_reason = (cycle_id == 10).then(|| "nothing to do".to_owned());
        Ok(Answer { intents: intents(cycle_id), state, hold_reason })
    }))
}

fn run_rules(fill: &str) -> Rules {
    let limits = r#""limits":{"max_notional_usd":2000,"max_position_notional_usd":1000,"min_confidence":0.5,
        "max_gross_exposure_usd":700,"max_daily_loss_usd":1000,"max_drawdown_pct":50,"max_orders_per_minute":3}"#;
    let costs = r#""costs":{"fee_bps":4,"half_spread_bps":1,"slippage_bps":2}"#;
    let file = format!(r#"{{"name":"t",{limits},{costs},"limit_bars":2,"fill":"{fill}"}}"#);
    Rules { on_failure: OnFailure::Hold, ..rules(&file) }
}

/// A run in which the operator gives commands between the cycles. Other programs append as well.
fn write(directory: &Path, rules: &Rules, strategy: impl Fn() -> Box<dyn Strategy>) {
    let commands = [
        (6, vec![Action::Pause]),
        (7, vec![Action::Resume, Action::ReduceOnly]),
        (8, vec![Action::Resume]),
        (11, vec![Action::Flatten]),
        (13, vec![Action::Resume]),
    ];
    let run = |cycles| {
        let mut trading =
            start(rules.clone(), &market(), strategy(), &records(directory, true, true)).unwrap();
        trading.run(Some(cycles), || false, &mut ()).unwrap();
    };
    let mut done = 0;
    for (cycle, actions) in commands {
        run(cycle - done);
        done = cycle;
        let bus = Bus::open(directory.join("bus")).unwrap();
        for action in actions {
            bus.append(command(action, "ops", "", T0).unwrap()).unwrap();
        }
        let note = Json::parse(r#"{"text":"of another program"}"#).unwrap();
        let trace_id = Some("runtime-cycle-3".to_owned());
        bus.append(Draft { event_type: "note.added".to_owned(), as_of: T0, payload: note, trace_id })
            .unwrap();
    }
    run(16 - done);
}

fn events(bus: &Path) -> Vec<Event> {
    Reader::open(bus).unwrap().events(1).unwrap().map(Result::unwrap).collect()
}

fn draft(event: &Event) -> Draft {
    Draft {
        event_type: event.event_type.clone(),
        as_of: event.as_of,
        payload: event.payload.clone(),
        trace_id: event.trace_id.clone(),
    }
}

/// Replays a bus with these events.
fn replay_drafts(drafts: Vec<Draft>) -> Replay {
    let storage = SimDisk::new().storage();
    Bus::open_in(storage.clone()).unwrap().append_batch(drafts).unwrap();
    replay(&Reader::open_in(storage), &mut |_| {}).unwrap()
}

fn replay_dir(bus: &Path) -> Replay {
    replay(&Reader::open(bus).unwrap(), &mut |_| {}).unwrap()
}

fn is_of_cycle(event: &Event) -> bool {
    event.trace_id.is_some() && event.event_type != "note.added"
}

#[test]
fn every_recorded_event_is_reproduced() {
    for fill in ["next_open", "close"] {
        for reduce_only_rule in [ReduceOnlyRule::Enforce, ReduceOnlyRule::Trust] {
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), &Rules { reduce_only_rule, ..run_rules(fill) }, strategy);
            let bus = directory.path().join("bus");
            let events = events(&bus);
            let reasons: BTreeSet<String> = events
                .iter()
                .filter(|event| event.event_type == "decision.record")
                .map(|event| event.payload_as::<Value>().unwrap()["reason"].as_str().unwrap().to_owned())
                .collect();
            assert!(reasons.len() >= 9, "{reasons:?}");
            let replay = replay_dir(&bus);
            assert_eq!(replay.difference, None);
            assert_eq!((replay.cycles, replay.events_missing), (16, 0));
            assert_eq!(replay.events, events.iter().filter(|event| is_of_cycle(event)).count() as u64);
            assert_eq!(replay.trusted_reduce_only, u64::from(reduce_only_rule == ReduceOnlyRule::Trust));
        }
    }
}

/// The paths of all values in a document that are no containers.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, member)| leaves(member, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => {
            (0..).zip(items).for_each(|(n, item): (usize, _)| leaves(item, &format!("{path}/{n}"), found));
        }
        _ => found.push(path.to_owned()),
    }
}

/// Another value of the same kind.
fn changed(value: &Value) -> Value {
    match value {
        Value::Bool(value) => Value::from(!value),
        Value::Number(number) if number.is_u64() => Value::from(number.as_u64().unwrap() + 1),
        Value::Number(number) => Value::from(number.as_f64().unwrap() + 0.25),
        Value::String(text) => Value::from(format!("{text}x")),
        _ => Value::from(1.5),
    }
}

/// Every value of every event is changed, one after the other. What the replay does not notice is
/// what a cycle starts from: other such values give other events only if they matter.
#[test]
fn a_change_of_any_value_that_follows_from_others_is_a_difference() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &run_rules("next_open"), strategy);
    let events = events(&directory.path().join("bus"));
    let mut unnoticed: BTreeMap<String, u64> = BTreeMap::new();
    let mut changes = 0;
    // Fills, limit orders, a failure and rejections are in these cycles.
    let cycles = [2, 3, 4, 5].map(|cycle_id| Some(format!("runtime-cycle-{cycle_id}")));
    let chosen = |event: &Event| is_of_cycle(event) && cycles.contains(&event.trace_id);
    for (n, event) in events.iter().enumerate().filter(|(_, event)| chosen(event)) {
        let payload: Value = event.payload_as().unwrap();
        let mut paths = Vec::new();
        leaves(&payload, "", &mut paths);
        for path in paths {
            let mut other = payload.clone();
            let leaf = other.pointer_mut(&path).unwrap();
            *leaf = changed(leaf);
            let mut drafts: Vec<Draft> = events.iter().take(n + 20).map(draft).collect();
            drafts[n].payload = Json::of(&other).unwrap();
            let storage = SimDisk::new().storage();
            Bus::open_in(storage.clone()).unwrap().append_batch(drafts).unwrap();
            changes += 1;
            let noticed = match replay(&Reader::open_in(storage), &mut |_| {}) {
                Ok(replay) => replay.difference.is_some_and(|difference| {
                    // An observation that is changed shows in its cycle at the latest.
                    assert!(difference.event_id >= event.id(), "{path}: {difference:?}");
                    true
                }),
                // A value that no record can have.
                Err(error) => error.to_string().contains(&format!("events.jsonl: {}", event.id())),
            };
            if !noticed {
                let path: String =
                    path.split('/').filter(|key| key.parse::<u64>().is_err()).collect::<Vec<_>>().join(".");
                *unnoticed.entry(format!("{}{path}", event.event_type)).or_default() += 1;
            }
        }
    }
    assert!(changes > 400, "{changes}");
    let unnoticed: Vec<&String> = unnoticed.keys().collect();
    let inputs = [
        // Candles of a symbol without a position or an order.
        "market.observation.candles.close",
        "market.observation.candles.high",
        "market.observation.candles.low",
        "market.observation.candles.open",
        "market.observation.candles.symbol",
        "market.observation.candles.ts",
        "market.observation.candles.volume",
        // What the strategy is and says, and settings that do not matter in their cycle.
        "runtime.cycle.decide.state.cycle",
        "runtime.cycle.decide.strategy.name",
        "runtime.cycle.decide.strategy.sha256",
        "runtime.cycle.decide.strategy.version",
        "runtime.cycle.orient.costs.fee_bps",
        "runtime.cycle.orient.costs.half_spread_bps",
        "runtime.cycle.orient.costs.slippage_bps",
        "runtime.cycle.orient.data_age_s",
        "runtime.cycle.orient.limit_bars",
        "runtime.cycle.orient.limits.max_daily_loss_usd",
        "runtime.cycle.orient.limits.max_drawdown_pct",
        "runtime.cycle.orient.limits.max_gross_exposure_usd",
        "runtime.cycle.orient.limits.max_notional_usd",
        "runtime.cycle.orient.limits.max_orders_per_minute",
        "runtime.cycle.orient.limits.max_position_notional_usd",
        "runtime.cycle.orient.limits.min_confidence",
    ];
    assert_eq!(unnoticed, inputs, "{unnoticed:#?}");
}

/// Events of a sound chain are missing, moved, repeated, renamed, or have another time or trace.
#[test]
fn every_event_of_a_cycle_is_compared() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &run_rules("next_open"), strategy);
    let drafts: Vec<Draft> = events(&directory.path().join("bus")).iter().map(draft).take(60).collect();
    // What a crash can leave: the end is missing.
    for length in 1..drafts.len() {
        let replay = replay_drafts(drafts[..length].to_vec());
        assert_eq!(replay.difference, None, "{length}");
    }
    let incomplete = drafts.iter().position(|draft| draft.event_type == "runtime.health").unwrap();
    assert_eq!(replay_drafts(drafts[..incomplete].to_vec()).events_missing, 1);
    assert_eq!(replay_drafts(drafts[..1].to_vec()).events_missing, 1);
    let differs = |drafts: Vec<Draft>, what: &str| {
        // Without a beginning there is nothing to replay.
        let storage = SimDisk::new().storage();
        Bus::open_in(storage.clone()).unwrap().append_batch(drafts).unwrap();
        match replay(&Reader::open_in(storage), &mut |_| {}) {
            Ok(replay) => assert!(replay.difference.is_some(), "{what}"),
            Err(error) => assert!(error.to_string().contains("cannot be replayed"), "{error}"),
        }
    };
    let of_cycle = |draft: &Draft| draft.trace_id.is_some() && draft.event_type != "note.added";
    let last = drafts.iter().rposition(|draft| draft.event_type == "runtime.health").unwrap();
    for at in (0..last).filter(|at| of_cycle(&drafts[*at])) {
        let event_type = &drafts[at].event_type;
        let mut missing = drafts.clone();
        missing.remove(at);
        differs(missing, &format!("{event_type} missing"));
        let mut renamed = drafts.clone();
        renamed[at].event_type = "another.kind".into();
        differs(renamed, &format!("{event_type} renamed"));
        let mut moved = drafts.clone();
        moved[at].trace_id = Some("runtime-cycle-1000".into());
        differs(moved, &format!("{event_type} of another trace"));
        let mut later = drafts.clone();
        later[at].as_of += 1.0;
        differs(later, &format!("{event_type} at another time"));
        let mut repeated = drafts.clone();
        repeated.insert(at, drafts[at].clone());
        differs(repeated, &format!("{event_type} twice"));
    }
}

/// A command that would have changed a decision is removed from the bus, or added to it.
#[test]
fn a_decision_must_fit_the_commands_on_the_bus() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &run_rules("next_open"), strategy);
    let drafts: Vec<Draft> = events(&directory.path().join("bus")).iter().map(draft).collect();
    let command_at = drafts.iter().position(|draft| draft.event_type == "operator.command").unwrap();
    let mut without = drafts.clone();
    without.remove(command_at);
    let difference = replay_drafts(without).difference.unwrap();
    assert_eq!((difference.cycle_id, difference.event_type.as_str()), (7, "runtime.cycle"));
    let field = |path: &str| difference.fields.iter().find(|field| field.path == path).unwrap();
    let mode = field("payload.orient.trading_mode");
    assert_eq!((mode.before.as_str(), mode.after.as_str()), (r#""paused""#, r#""open""#));
    let mut killed = drafts[..command_at].to_vec();
    killed.insert(0, command(Action::Kill, "ops", "", T0).unwrap());
    // Not confirmed, so the runtime may not have read it.
    assert_eq!(replay_drafts(killed.clone()).difference, None);
    let applied = r#"{"action":"kill","command_event_id":"evt-000000000001","command_index":1}"#;
    let applied = Draft {
        payload: Json::parse(applied).unwrap(),
        event_type: "operator.applied".into(),
        ..killed[0].clone()
    };
    killed.insert(1, applied);
    assert_eq!(replay_drafts(killed).difference.unwrap().cycle_id, 1);
}

/// Orders of another program have their price from that program.
fn write_orders(directory: &Path, lines: &str, flatten: bool) {
    let orders = directory.join("orders.jsonl");
    std::fs::write(&orders, lines).unwrap();
    let records = records(directory, true, true);
    let clock = Arc::new(FixedClock(T0));
    let runtime = MarketRuntime::start(run_rules("close"), &records, clock, &mut Vec::new()).unwrap();
    if flatten {
        let bus = Bus::open(directory.join("bus")).unwrap();
        bus.append(command(Action::Flatten, "ops", "", T0).unwrap()).unwrap();
    }
    let mut desk = OrderDesk::new(runtime, OrderInput::open(orders.to_str().unwrap()).unwrap());
    desk.run(None, || false, |_, _| Ok(())).unwrap();
}

#[test]
fn orders_of_other_programs_are_reproduced() {
    let directory = tempfile::tempdir().unwrap();
    let order = |side: &str, price: f64, key: u32| {
        format!(
            "{{\"symbol\":\"A\",\"side\":\"{side}\",\"quantity\":1,\"price\":{price},\"confidence\":0.9,\"key\":\"k{key}\"}}\n"
        )
    };
    let lines = order("buy", 100.0, 1) + &order("buy", 900.0, 2) + &order("sell", 90.0, 1);
    write_orders(directory.path(), &(lines + &order("sell", 110.0, 3) + &order("buy", 105.0, 4)), false);
    write_orders(directory.path(), &order("buy", 100.0, 5), true);
    let replay = replay_dir(&directory.path().join("bus"));
    assert_eq!((replay.difference, replay.cycles), (None, 6));
}

/// A bus has the cycles of a scenario and, behind them, those of a run on market data.
#[test]
fn both_kinds_of_runs_on_one_bus_are_replayed() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &run_rules("next_open"), strategy);
    let session = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../conformance/sessions/first-steps/one-run/runtime-bus");
    let scenario: Vec<Draft> = events(&session).iter().map(draft).collect();
    // The commands name other events then.
    let events = events(&directory.path().join("bus"));
    let first_command = events.iter().position(|event| event.event_type == "operator.command").unwrap();
    let market: Vec<Draft> = events[..first_command].iter().map(draft).collect();
    let replay = replay_drafts([scenario.clone(), market.clone()].concat());
    assert_eq!(replay.difference, None);
    assert_eq!(replay.events, (scenario.len() + market.len()) as u64);
    let mut changed = [scenario, market].concat();
    let at = changed.iter().position(|draft| draft.event_type == "market.observation").unwrap() - 1;
    changed.remove(at);
    assert_eq!(replay_drafts(changed).difference.unwrap().event_type, "market.observation");
}

/// The format's own example run decides by other rules than the runtime's, and the replay says so.
#[test]
fn a_run_of_another_engine_differs() {
    let directory = tempfile::tempdir().unwrap();
    write_run(directory.path(), 5, 60);
    let difference = replay_dir(directory.path()).difference.unwrap();
    assert!(!difference.fields.is_empty());
}

fn what_if_of(bus: &Path, limits: &str) -> WhatIf {
    what_if(&Reader::open(bus).unwrap(), LimitOverrides::parse(limits).unwrap(), &mut |_| {}).unwrap()
}

/// A run that falls by a tenth in its middle, and buys A in every bar.
fn write_fall(directory: &Path, limits: &str, orders_per_bar: usize) {
    let prices: Vec<[f64; 2]> = (0..12).map(|n| if n < 6 { [100.0, 100.0] } else { [90.0, 90.0] }).collect();
    let run = format!(
        r#"{{"name":"t","limits":{{"max_notional_usd":1e6,"max_position_notional_usd":1e6,"min_confidence":0.5{limits}}}}}"#
    );
    let strategy = TestStrategy::of(move |_| vec![buy(1.0); orders_per_bar]);
    let mut trading = start(rules(&run), &bars(&prices), strategy, &records(directory, false, true)).unwrap();
    trading.run(None, || false, &mut ()).unwrap();
}

/// Runs without limits are replayed with each limit, and must equal a run that had it.
#[test]
fn a_what_if_predicts_the_run_under_other_limits() {
    let [one, three] = [1, 3].map(|orders_per_bar| {
        let directory = tempfile::tempdir().unwrap();
        write_fall(directory.path(), "", orders_per_bar);
        let same = what_if_of(&directory.path().join("bus"), "{}");
        let fills = 11 * orders_per_bar as u64;
        assert_eq!((same.recorded.fills, same.changed_decisions, same.cycles), (fills, 0, 12));
        assert_eq!(same.recorded, same.what_if);
        (directory, same)
    });
    for (limit, reason, changed) in [
        (r#""max_notional_usd":95"#, "order notional exceeds limit", 6),
        (r#""max_position_notional_usd":350"#, "projected position exceeds limit", 9),
        (r#""min_confidence":0.95"#, "confidence below minimum", 12),
        (r#""max_gross_exposure_usd":350"#, "gross exposure exceeds limit", 9),
        (r#""max_daily_loss_usd":45"#, "daily loss limit reached", 6),
        (r#""max_drawdown_pct":0.4"#, "drawdown limit reached", 6),
        (r#""max_orders_per_minute":2"#, "order rate exceeds limit", 12),
    ] {
        let orders_per_bar = if limit.contains("per_minute") { 3 } else { 1 };
        let (open, same) = if orders_per_bar == 1 { &one } else { &three };
        let bus = open.path().join("bus");
        let what_if = what_if_of(&bus, &format!("{{{limit}}}"));
        let limited = tempfile::tempdir().unwrap();
        write_fall(limited.path(), &format!(",{limit}"), orders_per_bar);
        let actual = what_if_of(&limited.path().join("bus"), "{}");
        assert_eq!(what_if.what_if, actual.recorded, "{limit}");
        assert_eq!(what_if.recorded, same.recorded, "{limit}");
        assert_eq!(what_if.changed_decisions, changed, "{limit}");
        assert_eq!(what_if.what_if.rejections.keys().collect::<Vec<_>>(), [reason], "{limit}");
        let first = &what_if.changes[0];
        assert!(first.recorded.as_ref().unwrap().allowed);
        let outcome = first.what_if.as_ref().unwrap();
        assert_eq!((outcome.allowed, outcome.reason.as_str()), (false, reason));
        let reached = outcome.limit.as_ref().unwrap();
        assert!(limit.contains(&reached.name), "{reached:?}");
        // The other way round: without the limit.
        let name = limit.split(':').next().unwrap();
        let lifted = if name.contains("confidence") { 0.5 } else { 1e6 };
        let lifted = what_if_of(&limited.path().join("bus"), &format!("{{{name}:{lifted}}}"));
        assert_eq!(lifted.what_if, same.recorded, "{limit}");
    }
}

/// Only a run by the wall clock, or on a live feed, has an age of its data.
#[test]
fn the_age_of_the_data_is_replayed_and_limited() {
    let directory = tempfile::tempdir().unwrap();
    let runtime_records = records(directory.path(), false, true);
    // The clock is 100 s after the first bar has closed.
    let clock = Arc::new(FixedClock(T0 + 160.0));
    let strategy = TestStrategy::of(|_| vec![buy(1.0)]);
    let feed = TestFeed::recorded(&bars(&[[10.0, 11.0], [11.0, 12.0]]));
    let run = MarketRun { rules: rules(WIDE), feed, strategy, cycle_time: CycleTime::Wall };
    let mut trading = Trading::start(run, &runtime_records, clock, &mut Vec::new()).unwrap();
    trading.run(None, || false, &mut ()).unwrap();
    let bus = directory.path().join("bus");
    assert_eq!(replay_dir(&bus).difference, None);
    let what_if = what_if_of(&bus, r#"{"max_data_age_s":99}"#);
    assert_eq!(what_if.changed_decisions, 1);
    let limit = what_if.changes[0].what_if.as_ref().unwrap().limit.clone().unwrap();
    assert_eq!((limit.name.as_str(), limit.bound, limit.value), ("max_data_age_s", 99.0, 100.0));
    assert_eq!(what_if.changes[0].what_if.as_ref().unwrap().reason, "market data is stale");
}

#[test]
fn a_scenario_run_has_no_limits_of_market_runs() {
    let session = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../conformance/sessions/first-steps/one-run/runtime-bus");
    let limits = LimitOverrides::parse(r#"{"max_drawdown_pct":5}"#).unwrap();
    let error = what_if(&Reader::open(&session).unwrap(), limits, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("has no limit max_drawdown_pct; leave it out"), "{error}");
}
