//! What texts for people say about a cycle: as many digits as its cause needs, and no more than its
//! record shows.

use std::sync::Arc;

use zero_bus::sim::SimDisk;
use zero_bus::{Event, Reader};
use zero_paper::explain::Explanation;
use zero_paper::state::State;
use zero_paper::summary::summarize;
use zero_paper::{FixedClock, Runtime, Scenario};

fn order(side: &str, quantity: &str, price: &str, reduce_only: bool) -> String {
    format!(
        r#"{{"symbol":"X","side":"{side}","quantity":{quantity},"price":{price},"confidence":0.9,"reduce_only":{reduce_only}}}"#
    )
}

/// Runs each order once. Returns the bus, and the explanation of the last cycle.
fn run(limits: &str, orders: &[String]) -> (Reader, Vec<Event>, String) {
    let scenario = format!(r#"{{"limits":{{{limits}}},"orders":[{}]}}"#, orders.join(","));
    let disk = SimDisk::new();
    let scenario = Scenario::parse(&scenario).unwrap();
    let mut runtime = Runtime::start_in(scenario, &disk.storage(), Arc::new(FixedClock(1.0))).unwrap();
    orders.iter().for_each(|_| drop(runtime.run_cycle().unwrap()));
    let reader = Reader::open_in(disk.storage());
    let events: Vec<Event> = reader.events(1).unwrap().map(|event| event.unwrap()).collect();
    let text = Explanation::of(&events[events.len() - 5..]).unwrap().to_string();
    (reader, events, text)
}

#[test]
fn a_violated_limit_is_shown_with_as_many_digits_as_show_the_violation() {
    for (limits, quantity, price, expected) in [
        (r#""max_notional_usd":7"#, "0.07", "100", "order notional 7.000000000000001 > limit 7.00"),
        (r#""max_notional_usd":1000"#, "1", "1000.004", "order notional 1,000.004 > limit 1,000.00"),
        (r#""max_notional_usd":0.0001"#, "1", "0.000101", "order notional 0.000101 > limit 0.0001"),
        (
            r#""max_position_notional_usd":7"#,
            "0.07",
            "100",
            "projected position 7.000000000000001 > limit 7.00",
        ),
        (r#""min_confidence":0.90000000000001"#, "1", "1", "confidence 0.9 < minimum 0.90000000000001"),
    ] {
        let (_, _, text) = run(limits, &[order("buy", quantity, price, false)]);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// The posture compares the sum of all positions with the limit of one.
#[test]
fn the_risk_posture_is_explained_with_both_amounts() {
    let limits = r#""max_position_notional_usd":1800"#;
    let buy = || order("buy", "1", "900", false);
    let (_, _, text) = run(limits, &[buy()]);
    assert!(
        text.contains("\norient   flat: no position is open; one position may hold up to 1,800.00 USD\n"),
        "{text}"
    );
    let (_, _, text) = run(limits, &[buy(), buy()]);
    assert!(
        text.contains(
            "\norient   exposed: all positions together hold 900.00 USD, less than the 1,800.00 USD that one \
             position may hold\n"
        ),
        "{text}"
    );
    let (_, _, text) = run(limits, &[buy(), buy(), buy()]);
    assert!(
        text.contains(
            "\norient   capacity reached: all positions together hold 1,800.00 USD, no less than the 1,800.00 USD \
             that one position may hold; this alone rejects no order\n"
        ),
        "{text}"
    );
}

/// The record of a first start says `"durable": false` of the state before the cycle.
#[test]
fn a_first_start_is_not_explained_as_a_cycle_that_is_not_durable() {
    let (_, _, text) = run("", &[order("buy", "1", "1", false)]);
    assert!(text.contains("0 rejections; a start without earlier decisions\n"), "{text}");
    assert!(!text.contains("durable") && !text.contains("memory"), "{text}");
}

/// 0.1 + 0.2 - 0.3 is not 0 in doubles.
#[test]
fn a_rounding_residue_is_told_apart_from_a_position() {
    let orders = [
        order("buy", "0.1", "100", false),
        order("buy", "0.2", "100", false),
        order("sell", "0.3", "100", true),
        order("buy", "1", "100", false),
    ];
    let (reader, events, text) = run("", &orders[..3]);
    assert!(
        text.contains("X changes from 0.3 @ 100.00 to 5.55111512313e-17 @ 100.00 (rounding residue)"),
        "{text}"
    );
    let summary = summarize(&events[13]).text;
    assert_eq!(summary, "X 5.55111512313e-17 @ 100.00 (rounding residue)");
    let state = State::at(&reader, None).unwrap();
    assert_eq!(state.rounding_residues(), [("X".to_owned(), 0.1 + 0.2 - 0.3)]);
    assert!(state.positions.as_str().contains(r#""quantity":5.551115123125783e-17"#), "recorded as it is");
    let (reader, _, text) = run("", &orders);
    assert!(text.contains("observe  X 5.55111512313e-17 @ 100.00 (rounding residue); 3 decisions"), "{text}");
    assert_eq!(State::at(&reader, None).unwrap().rounding_residues(), []);
}
