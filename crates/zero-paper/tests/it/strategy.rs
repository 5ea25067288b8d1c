//! The built-in strategies.

use std::fs;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use zero_bus::Checksum;
use zero_paper::candle::Bar;
use zero_paper::scenario::Side;
use zero_paper::strategy::{self, Intent, Strategy, StrategyError};

use crate::market::{bar, decide, observe, start};
use crate::soak::rounds;

fn open(spec: &str) -> Result<Box<dyn Strategy>, StrategyError> {
    strategy::open(spec, Duration::from_secs(5))
}

fn error(spec: &str) -> String {
    open(spec).err().unwrap().to_string()
}

/// The orders of a strategy whose market orders fill at once.
fn orders(strategy: &mut dyn Strategy, closes: &[f64]) -> Vec<(u64, Side, f64)> {
    start(strategy, None).unwrap();
    let (mut held, mut orders) = (0.0, Vec::new());
    for (cycle_id, close) in (1..).zip(closes) {
        let answer = decide(strategy, cycle_id, &bar(cycle_id, *close, *close), held).unwrap();
        assert_eq!(answer.hold_reason.is_some(), answer.intents.is_empty());
        for intent in answer.intents {
            intent.check().unwrap();
            assert_eq!((intent.confidence, intent.reduce_only), (1.0, intent.side == Side::Sell));
            held += if intent.side == Side::Buy { intent.quantity } else { -intent.quantity };
            orders.push((cycle_id, intent.side, intent.quantity));
        }
    }
    orders
}

#[test]
fn sma_cross_buys_above_and_sells_below() {
    let mut strategy = open("sma-cross:fast=2,slow=3,quantity=0.5").unwrap();
    // The averages of the last two and three closes: (10.5, 10.33), (11.5, 11), (10.5, 11),
    // (8, 9.33), (8, 8.33), (9.5, 9).
    let closes = [10.0, 10.0, 11.0, 12.0, 9.0, 7.0, 9.0, 10.0];
    let expected = [(3, Side::Buy, 0.5), (5, Side::Sell, 0.5), (8, Side::Buy, 0.5)];
    assert_eq!(orders(&mut *strategy, &closes), expected);
    // Started anew, it knows nothing of the closes before.
    assert_eq!(orders(&mut *strategy, &closes), expected);
}

#[test]
fn sma_cross_waits_for_the_slow_average() {
    let mut strategy = open("sma-cross:fast=1,slow=4,quantity=1").unwrap();
    assert_eq!(orders(&mut *strategy, &[1.0, 2.0, 3.0]), []);
    assert_eq!(orders(&mut *strategy, &[1.0, 2.0, 3.0, 4.0]), [(4, Side::Buy, 1.0)]);
}

#[test]
fn sma_cross_places_no_order_in_a_market_that_does_not_move() {
    for price in [0.1, 0.3, 1.0 / 3.0, 64123.45, 1e-9, 1e13] {
        let mut strategy = open("sma-cross:fast=3,slow=7,quantity=1").unwrap();
        // Large closes before must leave no trace in the sums.
        let closes: Vec<f64> = std::iter::repeat_n(1e12, 7).chain(std::iter::repeat_n(price, 50)).collect();
        let after_change: Vec<_> =
            orders(&mut *strategy, &closes).into_iter().filter(|(cycle_id, ..)| *cycle_id > 14).collect();
        assert_eq!(after_change, [], "{price}");
    }
}

#[test]
fn sma_cross_keeps_symbols_apart_and_ignores_those_without_a_candle() {
    let mut strategy = open("sma-cross:fast=1,slow=2,quantity=1").unwrap();
    start(&mut *strategy, None).unwrap();
    let two = |number: u64, btc: f64, eth: f64| {
        let mut both = bar(number, btc, btc);
        let mut candle = bar(number, eth, eth).candles.remove(0);
        candle.symbol = "ETH".to_owned();
        both.candles.push(candle);
        both
    };
    let mut symbols = |bar: &Bar| {
        let answer = decide(&mut *strategy, 1, bar, 0.0).unwrap();
        answer.intents.into_iter().map(|intent| intent.symbol).collect::<Vec<_>>()
    };
    assert_eq!(symbols(&two(1, 100.0, 10.0)), [""; 0]);
    assert_eq!(symbols(&two(2, 90.0, 11.0)), ["ETH"]);
    assert_eq!(symbols(&bar(3, 95.0, 95.0)), ["BTC"]);
}

#[test]
fn sma_cross_continues_after_recorded_bars() {
    let mut strategy = open("sma-cross:fast=1,slow=3,quantity=1").unwrap();
    start(&mut *strategy, None).unwrap();
    for number in 1..=2 {
        observe(&mut *strategy, number, &bar(number, 100.0, 100.0)).unwrap();
    }
    let answer = decide(&mut *strategy, 3, &bar(3, 101.0, 101.0), 0.0).unwrap();
    assert_eq!(answer.intents[0].reason, "fast average 101 is above slow average 100.333333333");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However long the run, the decisions are those of averages that are computed anew.
    #[test]
    fn sma_cross_decides_as_averages_of_whole_numbers_do(
        closes in prop::collection::vec(1_u32..40, 1..200), fast in 1_usize..6, more in 1_usize..6
    ) {
        let slow = fast + more;
        let mut strategy = open(&format!("sma-cross:fast={fast},slow={slow},quantity=1")).unwrap();
        let floats: Vec<f64> = closes.iter().copied().map(f64::from).collect();
        let found = orders(&mut *strategy, &floats);
        let (mut held, mut expected) = (false, Vec::new());
        for end in slow..=closes.len() {
            let sum = |count: usize| closes[end - count..end].iter().map(|close| *close as usize).sum::<usize>();
            let (fast_average, slow_average) = (sum(fast) * slow, sum(slow) * fast);
            if !held && fast_average > slow_average || held && fast_average < slow_average {
                expected.push((end as u64, if held { Side::Sell } else { Side::Buy }, 1.0));
                held = !held;
            }
        }
        prop_assert_eq!(found, expected);
    }

    /// Files come from anywhere.
    #[test]
    fn any_text_is_a_strategy_or_refused(lines in prop::collection::vec("[ \t]{0,2}[a-z_]{0,9}[:]?[ ]?[ -~\u{e9}]{0,12}", 0..12)) {
        let text = lines.join("\n");
        if let Err(error) = from_file(&text) {
            prop_assert!(error.starts_with("FILE: "), "{}", error);
        }
    }
}

#[test]
fn sma_cross_refuses_invalid_parameters() {
    for (parameters, expected) in [
        ("", "unknown parameter ``; write fast=N,slow=M,quantity=Q"),
        ("fast=2,slow=3", "quantity: is missing; write fast=N,slow=M,quantity=Q"),
        ("fast=3,slow=3,quantity=1", "fast: must be below slow 3, is 3"),
        ("fast=0,slow=3,quantity=1", "fast: must be a whole number from 1 to 10000, is `0`"),
        ("fast=1,slow=1e9,quantity=1", "slow: must be a whole number from 1 to 10000, is `1e9`"),
        ("fast=1,slow=2,quantity=inf", "quantity: must be above 0, is `inf`"),
        ("fast=1,slow=2,quantity=1,fast=1", "fast: is given twice"),
        ("fast=1,slow=2,quantity=1,size=1", "unknown parameter `size`; write fast=N,slow=M,quantity=Q"),
    ] {
        let spec = format!("sma-cross:{parameters}");
        assert_eq!(error(&spec), format!("{spec}: {expected}"));
    }
    assert!(error("momentum").starts_with("momentum: is not a strategy; write close-above-open:FILE"));
}

#[test]
fn sma_cross_is_named_by_its_spec() {
    let spec = "sma-cross:fast=1,slow=2,quantity=1";
    let strategy = open(spec).unwrap();
    let identity = strategy.identity();
    assert_eq!((identity.name.as_str(), identity.version.as_str()), ("sma-cross", "1"));
    assert_eq!(identity.sha256, Checksum::of(spec.as_bytes()).to_string());
}

const JSON: &str = r#"{
  "name": "breakout", "version": "1.2", "description": "Buys strength.", "paper_only": true,
  "symbol": "btc", "side": "buy", "quantity": 0.25, "confidence": 0.8,
  "condition": {"type": "close_above_open", "min_move_pct": 0.5}
}"#;

const YAML: &str = "\
---
# A comment
name: breakout
version: '1.2'
description: \"Buys strength.\"  # another comment
paper_only: true
symbol: btc
side: buy
quantity: 0.25
confidence: 0.8

condition:
  type: close_above_open
  min_move_pct: 0.5
";

fn from_file(text: &str) -> Result<Box<dyn Strategy>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strategy");
    fs::write(&path, text).unwrap();
    let opened = open(&format!("close-above-open:{}", path.display()));
    opened.map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
}

#[test]
fn close_above_open_reads_json_and_flat_yaml() {
    let flow = YAML.replace(
        "condition:\n  type: close_above_open\n  min_move_pct: 0.5\n",
        "condition: {type: close_above_open, min_move_pct: 0.5}\n",
    );
    for text in [JSON, YAML, &YAML.replace('\n', "\r\n"), &flow] {
        let mut strategy = from_file(text).unwrap();
        let identity = strategy.identity().clone();
        assert_eq!((identity.name.as_str(), identity.version.as_str()), ("breakout", "1.2"));
        assert_eq!(identity.sha256, Checksum::of(text.as_bytes()).to_string());
        start(&mut *strategy, None).unwrap();
        let answer = decide(&mut *strategy, 1, &bar(1, 100.0, 100.5), 0.0).unwrap();
        let intent = Intent {
            symbol: "BTC".to_owned(),
            side: Side::Buy,
            quantity: 0.25,
            confidence: 0.8,
            reason: "the close is 0.5 % above the open".to_owned(),
            reduce_only: false,
            limit_price: None,
            key: None,
        };
        assert_eq!((answer.intents, answer.hold_reason), (vec![intent], None));
    }
}

#[test]
fn close_above_open_holds_below_its_move() {
    let mut strategy = from_file(JSON).unwrap();
    start(&mut *strategy, None).unwrap();
    for (open, close) in [(100.0, 100.4), (100.0, 100.0), (100.0, 90.0)] {
        let answer = decide(&mut *strategy, 1, &bar(1, open, close), 0.0).unwrap();
        assert_eq!(answer.hold_reason.unwrap(), "the close is not far enough above the open");
    }
    let mut other = bar(1, 100.0, 110.0);
    other.candles[0].symbol = "ETH".to_owned();
    let answer = decide(&mut *strategy, 1, &other, 0.0).unwrap();
    assert_eq!(answer.hold_reason.unwrap(), "the bar has no candle of the symbol");
    // Without a move, a close equal to the open is still not above it.
    let mut strategy = from_file(&JSON.replace(", \"min_move_pct\": 0.5", "")).unwrap();
    start(&mut *strategy, None).unwrap();
    assert!(decide(&mut *strategy, 1, &bar(1, 100.0, 100.0), 0.0).unwrap().intents.is_empty());
    assert_eq!(decide(&mut *strategy, 1, &bar(1, 100.0, 100.001), 0.0).unwrap().intents.len(), 1);
}

#[test]
fn close_above_open_refuses_what_it_does_not_understand() {
    for (from, to, expected) in [
        ("\"buy\"", "\"long\"", "FILE: side: must be `buy` or `sell`, is `long`"),
        ("0.25", "0", "FILE: quantity: must be above 0, is 0"),
        ("0.8", "1.5", "FILE: confidence: must be between 0 and 1, is 1.5"),
        ("0.5", "-1", "FILE: condition.min_move_pct: must be 0 or more, is -1"),
        ("\"close_above_open\"", "\"rsi\"", "FILE: condition.type: must be `close_above_open`, is `rsi`"),
        ("true", "\"yes\"", "FILE: paper_only: expected true or false, found a string"),
        ("\"version\"", "\"stop_loss\"", "FILE: stop_loss: is not known; the fields are name, version, "),
        ("\"symbol\": \"btc\", ", "", "FILE: symbol: is missing"),
        ("0.25", "0.25,", "FILE: "),
    ] {
        let error = from_file(&JSON.replacen(from, to, 1)).err().unwrap();
        assert!(error.starts_with(expected), "{to}: {error}");
    }
    assert!(error("close-above-open:missing.json").starts_with("missing.json: cannot open it: "));
}

#[test]
fn flat_yaml_refuses_everything_else_with_its_line() {
    for (from, to, expected) in [
        ("quantity: 0.25", "quantity: 0.25 BTC", "FILE: line 9: quantity: expected a number, found a string"),
        ("quantity: 0.25", "quantity:", "FILE: line 9: quantity: has no value"),
        ("quantity: 0.25", "quantity 0.25", "FILE: line 9: is not of the form `key: value`"),
        ("quantity: 0.25", "quantity: [0.25]", "FILE: line 9: `[0.25]` is a list, which is not supported"),
        ("quantity: 0.25", "- quantity: 0.25", "FILE: line 9: is an item of a list, which is not supported"),
        ("quantity: 0.25", "  quantity: 0.25", "FILE: line 9: is indented, but belongs to no mapping"),
        (
            "quantity: 0.25",
            "quantity: &q 0.25",
            "FILE: line 9: `&q 0.25` is an anchor or alias, which is not supported",
        ),
        (
            "quantity: 0.25",
            "quantity: !!float 0.25",
            "FILE: line 9: `!!float 0.25` is a tag, which is not supported",
        ),
        (
            "quantity: 0.25",
            "quantity: 0.25\nquantity: 1",
            "FILE: line 10: quantity: is given twice; the first is in line 9",
        ),
        ("  min_move_pct", "\tmin_move_pct", "FILE: line 14: is indented by a tab; use spaces"),
        (
            "  min_move_pct",
            "   min_move_pct",
            "FILE: line 14: is indented by 3 spaces, but the line before by 2",
        ),
        (
            "  min_move_pct: 0.5",
            "  min_move_pct: {a: 1}",
            "FILE: line 14: min_move_pct: must be a text, a number, true or false",
        ),
        (
            "min_move_pct: 0.5",
            "min_move_pct: x",
            "FILE: line 14: condition.min_move_pct: expected a number, found a string",
        ),
        (
            "\"Buys strength.\"",
            ">",
            "FILE: line 5: `>` begins a text over several lines; write it on one line",
        ),
        ("\"Buys strength.\"", "\"Buys", "FILE: line 5: has a quote that is not closed on the same line"),
        ("\"Buys strength.\"", "'Buys'' 'x", "FILE: line 5: has a quote that is not closed on the same line"),
        ("\"Buys strength.\"", "buys: more", "FILE: line 5: `buys: more` contains a colon; quote the text"),
        (
            "symbol: btc",
            "a b: btc",
            "FILE: line 7: `a b` is not a key; a key has letters, digits, `_` and `-`",
        ),
        ("symbol: btc", "stop_loss: 3", "FILE: line 7: stop_loss: is not known"),
    ] {
        assert!(YAML.contains(from), "{from}");
        let error = from_file(&YAML.replacen(from, to, 1)).err().unwrap();
        assert!(error.starts_with(expected), "{to}: {error}");
    }
}

#[test]
fn flat_yaml_reads_texts_with_quotes_and_marks() {
    let name = |text: &str| {
        from_file(&YAML.replace("name: breakout", &format!("name: {text}")))
            .map(|s| s.identity().name.clone())
    };
    assert_eq!(name("it's#1 #2").unwrap(), "it's#1");
    assert_eq!(name("'it''s' # x").unwrap(), "it's");
    assert_eq!(name("\"a # \\\"b\\\": c\"").unwrap(), "a # \"b\": c");
    assert_eq!(name("'12'").unwrap(), "12");
    assert_eq!(name("12").unwrap_err(), "FILE: line 3: name: expected a string, found an integer");
}

#[test]
fn built_in_strategies_decide_on_many_bars() {
    let mut strategy = open("sma-cross:fast=50,slow=200,quantity=1").unwrap();
    start(&mut *strategy, None).unwrap();
    let began = Instant::now();
    let mut bar = bar(0, 100.0, 100.0);
    let mut orders = 0;
    let bars = rounds(100_000, 1_000_000);
    for number in 1..=bars {
        bar.candles[0].close = 100.0 + (number % 997) as f64;
        orders += decide(&mut *strategy, number, &bar, 0.0).unwrap().intents.len();
    }
    eprintln!("{:.0} bars a second", bars as f64 / began.elapsed().as_secs_f64());
    assert!(orders > 0);
}
