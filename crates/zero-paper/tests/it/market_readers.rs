//! Summaries, explanations and states of runs on market data.

use std::path::Path;

use serde_json::Value;
use zero_bus::{Event, Json, Reader};
use zero_paper::explain::Explanation;
use zero_paper::reached_limit::LimitNumbers;
use zero_paper::state::State;
use zero_paper::summary::summarize;

use crate::market_bus::write_run;

fn events(dir: &Path) -> Vec<Event> {
    Reader::open(dir).unwrap().events(1).unwrap().map(Result::unwrap).collect()
}

#[test]
fn every_event_of_a_run_has_a_summary_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 5, 60);
    let mut kinds: Vec<String> = Vec::new();
    for event in events(dir.path()) {
        let summary = summarize(&event);
        // The type stands for the kind only if the event is not understood.
        assert!(summary.kind != event.event_type && !summary.text.contains('{'), "{summary:?}");
        kinds.push(summary.kind);
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "cycle",
            "decision",
            "expired",
            "failed",
            "fill",
            "health",
            "market",
            "order",
            "positions",
            "rejection"
        ]
    );
}

#[test]
fn a_rejection_shows_the_numbers_of_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 5, 60);
    let events = events(dir.path());
    let rejections = events.iter().filter(|event| event.event_type == "rejection.record");
    let texts: Vec<String> = rejections.map(|event| summarize(event).text).collect();
    for expected in
        ["(order notional 9", "> limit 900.00 USD)", "(confidence 0.", "< minimum 0.25)", "(gross exposure "]
    {
        assert!(texts.iter().any(|text| text.contains(expected)), "{expected}: {texts:?}");
    }
}

#[test]
fn a_limit_shows_value_and_bound_in_its_unit() {
    for (limit, expected) in [
        (
            r#"{"name":"max_daily_loss_usd","bound":100.0,"value":100.0}"#,
            "loss of the day 100.00 = limit 100.00 USD",
        ),
        (r#"{"name":"max_drawdown_pct","bound":5.0,"value":7.5}"#, "drawdown 7.5 > limit 5 %"),
        (
            r#"{"name":"max_orders_per_minute","bound":3.0,"value":3.0}"#,
            "accepted orders in the last minute 3 = limit 3",
        ),
        (r#"{"name":"max_data_age_s","bound":60.0,"value":61.5}"#, "age of the data 61.5 > limit 60 s"),
        (
            r#"{"name":"max_notional_usd","bound":7.0,"value":7.000000000000001}"#,
            "order notional 7.000000000000001 > limit 7.00 USD",
        ),
        (r#"{"name":"max_\u001bother","bound":1.0,"value":2.0}"#, r"max_\u{1b}other 2 > limit 1"),
    ] {
        let decision = Json::parse(&format!(r#"{{"limit":{limit}}}"#)).unwrap();
        assert_eq!(LimitNumbers::of(&decision.value()).unwrap().to_string(), expected);
    }
}

#[test]
fn an_explanation_names_what_was_seen_decided_and_done() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 5, 60);
    let events = events(dir.path());
    let cycle = |cycle_id: u64| {
        let trace = format!("runtime-cycle-{cycle_id}");
        let events: Vec<Event> =
            events.iter().filter(|event| event.trace_id.as_deref() == Some(&trace)).cloned().collect();
        Explanation::of(&events).unwrap()
    };
    let mut seen = Vec::new();
    for cycle_id in 1..=60 {
        let explanation = cycle(cycle_id);
        let text = explanation.to_string();
        assert!(text.starts_with(&format!("cycle {cycle_id} of drift, 2026-05-01T")), "{text}");
        for phase in [
            "observe  BTC ",
            "\norient   ",
            "\ndecide   drift 1",
            "\nact      ",
            "\nlearn    ",
            "\nevents   evt-",
        ] {
            assert!(text.contains(phase), "{phase}: {text}");
        }
        for part in [
            "holds: no signal",
            "failed: no answer within 5 s (timeout)",
            "> limit 900.00 USD)",
            "(limit 1,500.00)",
            "of an earlier cycle filled @ ",
            "waits for its fill: allowed",
            "expired: not filled within 2 bars",
        ] {
            if text.contains(part) && !seen.contains(&part) {
                seen.push(part);
            }
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    let with_limit = (1..=60).find(|id| cycle(*id).to_string().contains("> limit 900.00 USD)")).unwrap();
    let document: Value = serde_json::from_str(Json::of(&cycle(with_limit)).unwrap().as_str()).unwrap();
    let decisions = document["decisions"].as_array().unwrap();
    let recorded = document["cycle"]["act"]["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), recorded.len());
    let limits = |decisions: &[Value]| decisions.iter().map(|d| d["limit"].clone()).collect::<Vec<_>>();
    assert_eq!(limits(decisions), limits(recorded));
    assert!(limits(decisions).iter().any(|limit| limit["name"] == "max_notional_usd"));
    assert_eq!(document["market"][0]["symbol"], "BTC");
}

#[test]
fn a_state_has_the_account_and_a_difference_names_its_changes() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), 5, 60);
    let reader = Reader::open(dir.path()).unwrap();
    let last = State::at(&reader, None).unwrap();
    let account = last.account.clone().unwrap().value();
    assert!(account.get("equity_usd").is_some() && account.get("positions").is_none());
    let earlier = State::at(&reader, Some(100)).unwrap();
    let paths: Vec<String> = earlier.difference(&last).into_iter().map(|change| change.path).collect();
    for path in ["account.equity_usd", "health.fills", "cycle.cycle_id"] {
        assert!(paths.iter().any(|found| found == path), "{path}: {paths:?}");
    }
    assert!(earlier.difference(&earlier).is_empty());
}
