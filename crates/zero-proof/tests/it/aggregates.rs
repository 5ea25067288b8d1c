//! Aggregates over disclosed fields.

use zero_bus::Json;
use zero_proof::aggregates::{Aggregates, FieldAggregates, MAX_TEXTS};
use zero_proof::decimal::Decimal;

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
fn sums_are_exact() {
    for (values, sum, double) in [
        (&["100000000000000000", "-900", "-100000000000000000"][..], "-900", -900.0),
        (&["1e+22", "-900.0", "-1e+22"], "-900", -900.0),
        (&["0.1", "0.2", "-0.3"], "0", 0.0),
        (&["0.1", "0.2"], "0.3", 0.3),
        (&["123456789012.75", "0.5"], "123456789013.25", 123456789013.25),
        (&["-1e-05", "1e-12"], "-0.000009999999", -0.000009999999),
        (&["12345678901234567890", "0.25"], "12345678901234567890.25", 1.2345678901234567e19),
        (&["-0.0"], "0", 0.0),
        (&[], "0", 0.0),
    ] {
        let field = over(&[&["null"], values].concat());
        assert_eq!(
            (field.sum_exact.unwrap().to_string().as_str(), field.sum),
            (sum, Some(double)),
            "{values:?}"
        );
    }
    assert!(Json::of(&over(&["0.1", "0.2"])).unwrap().as_str().contains(r#""sum":0.3,"sum_exact":"0.3""#));
    // One that does not fit is a sum of doubles from there on.
    for values in [["1e+30", "1e-12", "-1e+30"], ["1e-60", "1.0", "2.0"], ["1e+40", "1.0", "2.0"]] {
        let field = over(&values);
        assert!(field.sum_exact.is_none() && field.sum.is_some(), "{values:?}");
    }
    for text in [
        "",
        "-",
        "1e",
        "true",
        "1.-5",
        "1e+99999999999999999999",
        "1e-9223372036854775808",
        "1e9223372036854775807",
    ] {
        assert!(Decimal::parse(text).is_none(), "{text}");
    }
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
