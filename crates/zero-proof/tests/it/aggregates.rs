//! Aggregates over disclosed fields.

use zero_bus::Json;
use zero_proof::aggregates::{Aggregates, FieldAggregates, MAX_TEXTS};

fn over(values: &[&str]) -> FieldAggregates {
    let mut aggregates = Aggregates::default();
    for value in values {
        aggregates.add("t", [("/payload/a", &Json::parse(value).unwrap())]);
    }
    aggregates.event_types["t"].fields["/payload/a"].clone()
}

#[test]
fn each_value_counts_as_one_kind() {
    let field = over(&["1", "-2.5", "true", "false", "false", "\"a\"", "\"a\"", "null", "[1]", "{}"]);
    assert_eq!(field.events, 10);
    assert_eq!((field.numbers, field.sum, field.min, field.max), (2, Some(-1.5), Some(-2.5), Some(1.0)));
    assert_eq!((field.trues, field.falses, field.texts["a"], field.others), (1, 2, 2, 3));
}

#[test]
fn a_sum_beyond_the_largest_double_is_none() {
    let field = over(&["1.7e308", "1.7e308", "-1.7e308"]);
    assert_eq!((field.numbers, field.sum, field.max), (3, None, Some(1.7e308)));
    let huge = "9".repeat(400);
    assert_eq!(over(&[&huge]).others, 1);
    assert_eq!(over(&["null"]).sum, Some(0.0));
    assert!(Json::of(&field).unwrap().as_str().contains(r#""sum":null"#));
}

#[test]
fn different_texts_are_bounded() {
    let texts: Vec<String> = (0..MAX_TEXTS + 5).map(|number| format!("\"{number}\"")).collect();
    let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    texts.push("\"0\"");
    let field = over(&texts);
    assert_eq!((field.texts.len(), field.texts["0"], field.others), (MAX_TEXTS, 2, 5));
}
