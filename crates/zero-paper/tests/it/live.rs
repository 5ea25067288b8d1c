//! The disabled live path, its drills, the parity checks and the feedback. A test makes each check
//! fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use zero_bus::{Head, Json};
use zero_paper::drills::{self, Certification, Drill};
use zero_paper::feedback::Feedback;
use zero_paper::live::{
    ExchangeAdapter, ExchangeError, ExchangeOrder, LiveExecutor, LiveStatus, OperatorContext,
    RecordingAdapter, Refusal, client_order_id,
};
use zero_paper::parity::{self, Evidence};
use zero_paper::risk::ReduceOnlyRule;
use zero_paper::scenario::{Order, Side};
use zero_paper::{FixedClock, RecordPaths, Runtime, Scenario};

fn order(reduce_only: bool, price: f64) -> Order {
    Order { symbol: "X".to_owned(), side: Side::Buy, quantity: 1.0, price, confidence: 1.0, reduce_only }
}

fn dry_run() -> LiveExecutor<RecordingAdapter> {
    LiveExecutor::dry_run(RecordingAdapter::default(), OperatorContext::production_parity(), 100.0)
}

/// All refusals apply at first. Removing their causes one by one shows the order of the checks.
#[test]
fn refusals_are_checked_in_order() {
    let mut executor = dry_run();
    let mut key = 0;
    let mut submit = |executor: &mut LiveExecutor<RecordingAdapter>, order: &Order, at: f64| {
        key += 1;
        executor.submit(order, &key.to_string(), "t", at).reason
    };
    executor.pause();
    executor.add_loss(1000.0);
    let (entry, exit) = (order(false, 500.0), order(true, 500.0));
    assert_eq!(submit(&mut executor, &entry, 0.0), Refusal::Paused.reason());
    assert_eq!(submit(&mut executor, &exit, 0.0), Refusal::DeadMan.reason());
    executor.resume();
    assert_eq!(submit(&mut executor, &entry, 0.0), Refusal::DeadMan.reason());
    executor.heartbeat(0.0).unwrap();
    assert_eq!(submit(&mut executor, &entry, 0.0), Refusal::DailyLoss.reason());
    executor.begin_day();
    assert_eq!(submit(&mut executor, &entry, 0.0), Refusal::OrderNotional.reason());
    for _ in 0..6 {
        assert_eq!(submit(&mut executor, &order(false, 100.0), 1.0), "placed");
    }
    assert_eq!(submit(&mut executor, &entry, 1.0), Refusal::OrderNotional.reason());
    assert_eq!(submit(&mut executor, &order(false, 100.0), 1.0), Refusal::RateLimit.reason());
    assert_eq!(submit(&mut executor, &exit, 1.0), "placed");
    executor.kill().unwrap();
    assert_eq!(submit(&mut executor, &exit, 1.0), Refusal::Killed.reason());
    assert_eq!(executor.adapter().placed.len(), 7);
}

/// An adapter whose orders would move money. It counts the orders. Its executor cannot be enabled.
struct RealAdapter(u64);

impl ExchangeAdapter for RealAdapter {
    fn name(&self) -> &'static str {
        "real"
    }
    fn is_live(&self) -> bool {
        true
    }
    fn place(&mut self, _: &ExchangeOrder) -> Result<Json, ExchangeError> {
        self.0 += 1;
        Ok(Json::empty_object())
    }
    fn cancel_all(&mut self) -> Result<(), ExchangeError> {
        Ok(())
    }
    fn arm_dead_man(&mut self, _: f64) -> Result<(), ExchangeError> {
        Ok(())
    }
}

#[test]
fn an_executor_of_a_live_adapter_refuses_every_order() {
    let mut executor = LiveExecutor::disabled(RealAdapter(0), OperatorContext::production_parity(), f64::MAX);
    executor.heartbeat(0.0).unwrap();
    for (n, order) in [order(false, 1.0), order(true, 1.0)].iter().enumerate() {
        let record = executor.submit(order, &n.to_string(), "t", 0.0);
        assert_eq!((record.status, record.reason.as_str()), (LiveStatus::Refused, "live executor disabled"));
    }
    assert_eq!(executor.adapter().0, 0);
}

#[test]
fn the_client_order_id_is_a_prefix_of_the_keys_hash() {
    // SHA-256("abc"), FIPS 180-2 appendix B.1.
    assert_eq!(client_order_id("abc"), "0xba7816bf8f01cfea414140de5dae2223");
}

#[test]
fn all_drills_pass_and_one_failed_drill_fails_the_certification() {
    let drills = drills::run();
    assert_eq!(drills.len(), 10);
    for drill in &drills {
        assert_eq!(drill.failure, None, "{}", drill.name);
    }
    assert!(Certification::of(&drills).passed);
    assert!(!Certification::of(&[]).passed, "an empty list of drills does not pass");
    for failed in [
        Drill { failure: Some("x".to_owned()), ..drills[3].clone() },
        Drill { orders_placed_live: 1, ..drills[3].clone() },
    ] {
        let mut drills = drills.clone();
        drills[3] = failed;
        assert!(!Certification::of(&drills).passed);
    }
}

const SCENARIO: &str = r#"{"orders":[
    {"symbol":"A","side":"buy","quantity":1,"price":2,"confidence":1},
    {"symbol":"B","side":"buy","quantity":1000,"price":2,"confidence":1},
    {"symbol":"B","side":"buy","quantity":1,"price":2,"confidence":0.1}]}"#;

/// The evidence of a sound run of three cycles.
fn sound_evidence(directory: &std::path::Path) -> Evidence {
    let scenario = Scenario::parse(SCENARIO).unwrap();
    let records = RecordPaths { runtime_bus: Some(directory.join("bus")), ..RecordPaths::default() };
    let mut runtime = Runtime::start(scenario, &records, Arc::new(FixedClock(1.0))).unwrap();
    let mut executor =
        LiveExecutor::disabled(RecordingAdapter::default(), OperatorContext::production_parity(), 1000.0);
    let reader = runtime.bus().unwrap().reader();
    let cycles: Vec<_> = (0..3).map(|_| runtime.run_cycle().unwrap()).collect();
    let shadow = cycles
        .iter()
        .map(|cycle| executor.submit(&cycle.act.decision.order(), &cycle.decide.idempotency_key, "t", 1.0));
    Evidence {
        certification: Certification::of(&drills::run()),
        cycles_requested: 3,
        recorded: parity::read_back(&reader).unwrap(),
        shadow: shadow.collect(),
        adapter_orders_placed: 0,
        adapter_is_live: false,
        verdict: reader.verify().unwrap(),
        snapshot_events: reader.snapshot().unwrap().map(|snapshot| snapshot.event_count),
    }
}

fn failed_checks(evidence: &Evidence) -> Vec<&'static str> {
    evidence.checks().into_iter().filter(|(_, passed)| !passed).map(|(check, _)| check).collect()
}

#[test]
fn every_check_of_the_report_can_fail() {
    let directory = tempfile::tempdir().unwrap();
    let sound = sound_evidence(directory.path());
    assert!(sound.checks().values().all(|passed| *passed));
    let mut has_failed: BTreeMap<&str, bool> = sound.checks().keys().map(|check| (*check, false)).collect();
    assert_eq!(has_failed.len(), 10);
    let mut fails = |expected: &[&'static str], corrupt: &dyn Fn(&mut Evidence)| {
        let mut evidence = sound.clone();
        corrupt(&mut evidence);
        assert_eq!(failed_checks(&evidence), expected);
        has_failed.extend(expected.iter().map(|check| (*check, true)));
    };
    let accepted = |evidence: &Evidence| {
        let mut executor = dry_run();
        executor.heartbeat(1.0).unwrap();
        executor.submit(&order(true, 1.0), &evidence.shadow[0].idempotency_key, "t", 1.0)
    };
    fails(&["dry_run_live_certification"], &|e| e.certification = Certification::of(&[]));
    fails(&["live_adapter_no_orders"], &|e| e.adapter_orders_placed = 1);
    fails(&["live_shadow_fail_closed"], &|e| e.shadow[0] = accepted(e));
    fails(&["live_shadow_fail_closed"], &|e| e.shadow[0].reason = Refusal::DeadMan.reason().to_owned());
    fails(&["live_shadow_count", "shared_idempotency_keys"], &|e| drop(e.shadow.pop()));
    fails(&["shared_idempotency_keys"], &|e| e.shadow.swap(0, 1));
    fails(&["paper_boundary"], &|e| e.recorded[1].mode = Some("live".to_owned()));
    fails(&["paper_boundary"], &|e| e.adapter_is_live = true);
    fails(&["paper_cycle_count"], &|e| e.cycles_requested = 4);
    fails(&["runtime_bus_integrity", "runtime_snapshot_consistent"], &|e| {
        e.verdict.integrity.head = Head { index: 14, ..e.verdict.integrity.head }
    });
    fails(&["runtime_bus_integrity"], &|e| {
        e.verdict.integrity.finding = zero_bus::Finding::Torn { byte_offset: 0, bytes: 1 };
    });
    fails(&["runtime_snapshot_consistent"], &|e| e.verdict.snapshot_integrity.consistent = false);
    fails(&["runtime_snapshot_consistent"], &|e| e.verdict.snapshot_integrity.present = false);
    fails(&["runtime_snapshot_consistent"], &|e| e.snapshot_events = Some(10));
    fails(&["phase_order"], &|e| e.recorded[2].phases.swap(1, 2));
    fails(&["phase_order"], &|e| e.recorded[0].phases[4] = None);
    assert!(has_failed.values().all(|failed| *failed), "{has_failed:?}");
}

/// The checks read the bus, not the runtime's memory.
#[test]
fn a_damaged_bus_fails_the_checks() {
    let directory = tempfile::tempdir().unwrap();
    let mut evidence = sound_evidence(directory.path());
    let log = directory.path().join("bus/events.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("\"cycle_id\":3", "\"cycle_id\":4", 1)).unwrap();
    let reader = zero_bus::Reader::open(directory.path().join("bus")).unwrap();
    evidence.recorded = parity::read_back(&reader).unwrap();
    evidence.verdict = reader.verify().unwrap();
    let expected = [
        "live_shadow_count",
        "paper_cycle_count",
        "runtime_bus_integrity",
        "runtime_snapshot_consistent",
        "shared_idempotency_keys",
    ];
    assert_eq!(failed_checks(&evidence), expected);
}

#[test]
fn a_report_is_ok_if_all_checks_pass_and_its_hash_ignores_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = Scenario::parse(SCENARIO).unwrap();
    let report = parity::run(
        &scenario,
        ReduceOnlyRule::Enforce,
        &directory.path().join("out"),
        None,
        Arc::new(FixedClock(1777593600.0)),
    )
    .unwrap();
    assert!(report.ok);
    assert_eq!(report.checks.len(), 10);
    let hash = report.parity_hash;
    let again = parity::run(
        &scenario,
        ReduceOnlyRule::Enforce,
        &directory.path().join("out"),
        None,
        Arc::new(FixedClock(1777593700.0)),
    )
    .unwrap();
    assert_eq!(again.parity_hash, hash, "the hash does not include the time");
    let shorter = parity::run(
        &scenario,
        ReduceOnlyRule::Enforce,
        &directory.path().join("out"),
        Some(2),
        Arc::new(FixedClock(1777593600.0)),
    )
    .unwrap();
    assert_ne!(shorter.parity_hash, hash);
}

#[test]
fn feedback_lists_the_most_frequent_reason_first() {
    let scenario = Scenario::parse(
        r#"{"limits":{"max_position_notional_usd":3},"orders":[
        {"symbol":"A","side":"buy","quantity":1,"price":2,"confidence":1},
        {"symbol":"A","side":"buy","quantity":1,"price":2,"confidence":1},
        {"symbol":"B","side":"buy","quantity":1,"price":2,"confidence":0.1},
        {"symbol":"A","side":"buy","quantity":1000,"price":2,"confidence":1},
        {"symbol":"A","side":"buy","quantity":1000,"price":2,"confidence":1},
        {"symbol":"C","side":"buy","quantity":1,"price":2,"confidence":1}]}"#,
    )
    .unwrap();
    let mut runtime = Runtime::start(scenario, &RecordPaths::default(), Arc::new(FixedClock(1.0))).unwrap();
    let decisions: Vec<_> = (0..6).map(|_| runtime.run_cycle().unwrap().act.decision).collect();
    let feedback = Json::of(&Feedback::of(&decisions)).unwrap().value();
    let items = Json::try_from(feedback.get("items").unwrap()).unwrap();
    let reasons: Vec<_> = items
        .as_str()
        .match_indices("\"reason\":\"")
        .map(|(at, _)| &items.as_str()[at + 10..at + 16])
        .collect();
    assert_eq!(reasons, ["order ", "confid", "projec"]);
    assert_eq!(feedback.get("rejection_rate").unwrap().as_f64(), Some(0.6667));
    assert_eq!(
        Json::try_from(feedback.get("by_rejection_symbol").unwrap()).unwrap().as_str(),
        r#"{"A":3,"B":1}"#
    );
    let empty = Json::of(&Feedback::of([])).unwrap();
    assert!(empty.as_str().contains(r#""rejection_rate":0.0"#), "{empty}");
}
