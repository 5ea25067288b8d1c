//! Canonical JSON beyond the recorded cases: properties of every value, limits, and errors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Serialize;
use zero_bus::sim::Rng;
use zero_bus::{Draft, Event, Integer, Json, MAX_DEPTH, Value, canonical::is_canonical};

pub(crate) fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |float| float.is_finite()),
        (any::<i32>(), 0..6u8).prop_map(|(digits, places)| f64::from(digits) / 10f64.powi(places.into())),
        (-330..=308i32).prop_map(|exponent| 10f64.powi(exponent)),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(|number| Value::Integer(Integer::from(number))),
        any::<[u8; 24]>().prop_map(|digits| {
            let digits: String = digits.iter().map(u8::to_string).collect();
            Value::parse(&format!("-1{digits}")).unwrap()
        }),
        finite().prop_map(Value::Float),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 48, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..8).prop_map(Value::Object),
        ]
    })
}

/// Serializes a value with the members of each object in reverse order.
struct Reversed<'a>(&'a Value);

impl Serialize for Reversed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Integer(integer) => Json::parse(integer.as_str()).unwrap().serialize(serializer),
            Value::Float(float) => serializer.serialize_f64(*float),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Reversed)),
            Value::Object(members) => {
                serializer.collect_map(members.iter().rev().map(|(key, member)| (key, Reversed(member))))
            }
        }
    }
}

/// Writes a value in a random spelling: white space, escapes, members in any order, repeated keys.
struct RandomSpelling(Rng);

impl RandomSpelling {
    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\t", "\r\n"][self.0.below(6)]
    }

    fn string(&mut self, text: &str) -> String {
        let mut out = "\"".to_owned();
        for character in text.chars() {
            match (self.0.below(4), character) {
                (0, _) | (_, '\0'..='\u{1f}' | '"' | '\\') => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let (lower, upper) = (format!("\\u{unit:04x}"), format!("\\u{unit:04X}"));
                        out += if self.0.below(2) == 0 { &lower } else { &upper };
                    }
                }
                (1, '/') => out += "\\/",
                _ => out.push(character),
            }
        }
        out + "\""
    }

    fn value(&mut self, value: &Value) -> String {
        let text = match value {
            Value::String(text) => self.string(text),
            Value::Float(float) => match self.0.below(4) {
                0 => format!("{float:e}").replace('e', "E+").replace("+-", "-0"),
                1 => format!("{float:e}").replace('e', "e+0000").replace("+0000-", "-00000"),
                2 => {
                    let digits = float.to_string();
                    let point = if digits.contains('.') { "" } else { "." };
                    format!("{digits}{point}00")
                }
                _ => Json::try_from(value).unwrap().to_string(),
            },
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.value(item)).collect();
                format!("[{}{}]", self.space(), items.join(","))
            }
            Value::Object(members) => {
                let mut spellings = Vec::new();
                for (key, member) in members {
                    let member = format!("{}{}:{}", self.string(key), self.space(), self.value(member));
                    let at = self.0.below(spellings.len() + 1);
                    spellings.insert(at, member);
                    if self.0.below(3) == 0 {
                        // An earlier member with the same key, which must not count.
                        let overridden = Value::Array(vec![value.clone(); self.0.below(2)]);
                        let at = self.0.below(at + 1);
                        let member = format!("{}:{}", self.string(key), Json::try_from(&overridden).unwrap());
                        spellings.insert(at, member);
                    }
                }
                format!("{{{}{}}}", self.space(), spellings.join(&format!("{},", self.space())))
            }
            other => Json::try_from(other).unwrap().to_string(),
        };
        format!("{}{text}{}", self.space(), self.space())
    }
}

proptest! {
    #[test]
    fn every_spelling_has_the_same_canonical_form(value in value(), seed in any::<u64>()) {
        let text = RandomSpelling(Rng::new(seed)).value(&value);
        prop_assert_eq!(Json::parse(&text), Ok(Json::try_from(&value).unwrap()), "{}", text);
        prop_assert_eq!(Value::parse(&text), Ok(value));
    }

    #[test]
    fn the_canonical_form_parses_to_itself(value in value()) {
        let json = Json::try_from(&value).unwrap();
        prop_assert!(json.as_str().is_ascii());
        prop_assert_eq!(&Json::parse(json.as_str()).unwrap(), &json);
        prop_assert_eq!(&json.value(), &value);
    }

    #[test]
    fn serializing_a_value_gives_the_form_of_its_tree(value in value()) {
        prop_assert_eq!(Json::of(&Reversed(&value)).unwrap(), Json::try_from(&value).unwrap());
    }

    #[test]
    fn the_pretty_layout_parses_to_the_same_value(value in value()) {
        let json = Json::try_from(&value).unwrap();
        prop_assert_eq!(Json::parse(&json.pretty()).unwrap(), json);
    }

    /// The alphabet makes both valid and invalid texts likely.
    #[test]
    fn the_check_accepts_exactly_what_the_parser_returns_unchanged(text in r#"[\[\]{}:,"\\untrfb0-9a-f.eE+\- é]{0,12}"#) {
        let canonical = Json::parse(&text).is_ok_and(|json| json.as_str() == text);
        prop_assert_eq!(is_canonical(&text), canonical);
    }

    #[test]
    fn the_check_and_the_parser_agree_on_a_changed_byte(value in value(), at in any::<prop::sample::Index>(), byte in 0u8..128) {
        let mut text = Json::try_from(&value).unwrap().to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let text = String::from_utf8(text).unwrap();
        let canonical = Json::parse(&text).is_ok_and(|json| json.as_str() == text);
        prop_assert_eq!(is_canonical(&text), canonical);
    }

    #[test]
    fn parsing_never_panics(text in any::<String>()) {
        let _ = Json::parse(&text);
    }

    #[test]
    fn an_event_reads_back_as_it_was_appended(payload in prop::collection::btree_map(any::<String>(), value(), 0..5),
                                              event_type in "[^\\p{Cc}]{1,128}", trace in any::<String>(), as_of in finite()) {
        let directory = tempfile::tempdir().unwrap();
        let draft = Draft { event_type, as_of, payload: Json::try_from(&Value::Object(payload)).unwrap(), trace_id: Some(trace) };
        let bus = zero_bus::Bus::open(directory.path()).unwrap();
        let appended: Event = bus.append(draft).unwrap();
        let read = bus.reader().event(1).unwrap().unwrap();
        prop_assert_eq!(&read, &appended);
        prop_assert!(is_canonical(&read.line()));
    }
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn nesting_beyond_the_limit_is_refused_at_its_offset() {
    let deepest = nested(MAX_DEPTH);
    assert_eq!(Json::parse(&deepest).unwrap().as_str(), deepest);
    for depth in [MAX_DEPTH + 1, 100_000, 10_000_000] {
        let error = Json::parse(&nested(depth)).unwrap_err();
        assert_eq!(error.problem(), "nested deeper than 1000 levels");
        assert_eq!(error.offset(), Some(MAX_DEPTH));
    }
    let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    assert_eq!(Json::parse(&objects).unwrap_err().problem(), "nested deeper than 1000 levels");
    assert!(!is_canonical(&nested(100_000)));
}

#[test]
fn a_nested_json_counts_with_its_depth() {
    let deepest = Json::parse(&nested(MAX_DEPTH)).unwrap();
    assert_eq!(Json::of(&[&deepest]).unwrap_err().problem(), "nested deeper than 1000 levels");
    let fits = Json::parse(&nested(MAX_DEPTH - 1)).unwrap();
    assert_eq!(Json::of(&[&fits]).unwrap(), deepest);
}

#[test]
fn an_error_names_the_path_and_the_position() {
    let not_finite = BTreeMap::from([("orders", vec![1.0, f64::NAN])]);
    assert_eq!(Json::of(&not_finite).unwrap_err().to_string(), "orders[1]: NaN is not a finite number");
    assert!(Json::try_from(&Value::Float(f64::INFINITY)).is_err());
    assert!(Json::of(&BTreeMap::from([((1, 2), 3)])).is_err());

    let error = Json::parse("{\"orders\": [\n  {\"quantity\": 1},\n  {\"quantity\": NaN}\n]}").unwrap_err();
    assert_eq!(error.to_string(), "orders[1].quantity: NaN is not a finite number (line 3, column 16)");
    let error = Json::parse("{\"a\\nb\": 01}").unwrap_err();
    assert_eq!(error.to_string(), "a\\nb: a number must not begin with zeros (line 1, column 10)");
}

#[test]
fn every_type_of_serde_s_data_model_has_its_json_form() {
    #[derive(Serialize)]
    enum Variants {
        Unit,
        New(u8),
        Pair(u8, u8),
        Named { b: u8, a: u8 },
    }
    #[derive(Serialize)]
    struct All {
        z: Vec<Variants>,
        y: Option<u8>,
        x: (),
        w: char,
        v: BTreeMap<i32, bool>,
        u: i128,
        t: f32,
    }
    let all = All {
        z: vec![Variants::Unit, Variants::New(1), Variants::Pair(1, 2), Variants::Named { b: 1, a: 2 }],
        y: None,
        x: (),
        w: 'é',
        v: BTreeMap::from([(10, true), (9, false)]),
        u: i128::MIN,
        t: 0.5,
    };
    let text = r#"{"t":0.5,"u":-170141183460469231731687303715884105728,"v":{"10":true,"9":false},"w":"\u00e9","x":null,"y":null,"z":["Unit",{"New":1},{"Pair":[1,2]},{"Named":{"a":2,"b":1}}]}"#;
    assert_eq!(Json::of(&all).unwrap().as_str(), text);
}

#[test]
fn exponents_and_digits_may_have_any_length() {
    let zeros = "0".repeat(655_360);
    for (text, canonical) in [
        (format!("0.{zeros}1e655361"), "1.0"),
        (format!("-1{zeros}E-655360"), "-1.0"),
        (format!("-12.5{zeros}e0000001"), "-125.0"),
        ("0.0015e+000003".to_owned(), "1.5"),
        (format!("-0.{zeros}e999999"), "-0.0"),
        ("0e99999999999999999999999".to_owned(), "0.0"),
        ("17e-99999999999999999999999".to_owned(), "0.0"),
        ("5e-000000000324".to_owned(), "5e-324"),
        ("17976931348623157e+0000292".to_owned(), "1.7976931348623157e+308"),
    ] {
        assert_eq!(Json::parse(&text).unwrap().as_str(), canonical, "{}", &text[..text.len().min(40)]);
    }
    for text in ["1e+000309", "1e99999999999999999999999", &format!("0.{zeros}1e655670")] {
        assert_eq!(Json::parse(text).unwrap_err().problem(), "the number is beyond a double");
    }
}

#[test]
fn of_a_repeated_key_the_last_one_wins() {
    struct Twice;
    impl Serialize for Twice {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map([("a", 1), ("b", 2), ("a", 3)])
        }
    }
    assert_eq!(Json::of(&Twice).unwrap().as_str(), r#"{"a":3,"b":2}"#);
}
