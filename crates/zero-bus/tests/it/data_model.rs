//! Checksums, heads, JSON values, drafts and events in the formats of serde, and payloads as types.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use serde::de::value::{Error as ValueError, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_test::{Configure, Token, assert_tokens};
use zero_bus::{Checksum, ChecksumError, Draft, Event, Head, Json, MAX_DEPTH, Reader, Value};

use crate::canonical;
use crate::support::{bus_of, directory};

const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// An event with this payload, in no chain.
fn event_with_payload(payload: &str) -> Event {
    Event {
        index: 1,
        event_type: "t".to_owned(),
        as_of: 0.0,
        payload: Json::parse(payload).unwrap(),
        previous_checksum: None,
        checksum: ZEROS.parse().unwrap(),
        trace_id: None,
    }
}

fn conformance_events(log: &str) -> Vec<Event> {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/logs");
    Reader::open(logs.join(log)).unwrap().events(1).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_checksum_parses_or_says_what_is_wrong() {
    let checksum = Checksum::of(b"x");
    assert_eq!(checksum.to_string().parse(), Ok(checksum));
    let error = |text: &str| text.parse::<Checksum>().unwrap_err();
    assert_eq!(error(&ZEROS.replace("sha256:", "SHA256:")), ChecksumError::MissingPrefix);
    assert_eq!(error(""), ChecksumError::MissingPrefix);
    assert_eq!(error("sha256:"), ChecksumError::WrongLength(0));
    assert_eq!(error(&format!("{ZEROS}0")), ChecksumError::WrongLength(65));
    assert_eq!(error(&ZEROS.replace("0000", "000A")), ChecksumError::NotHex('A'));
    assert_eq!(error(&ZEROS.replacen("000", "00\u{e9}", 1)), ChecksumError::NotHex('\u{e9}'));
    assert_eq!(
        error("sha256:00").to_string(),
        "a checksum has 64 hex digits after `sha256:`, this one has 2 characters"
    );
}

#[test]
fn a_checksum_is_its_text_in_every_format() {
    let zeros: Checksum = ZEROS.parse().unwrap();
    assert_tokens(&zeros.readable(), &[Token::BorrowedStr(ZEROS)]);
    assert_tokens(&zeros.compact(), &[Token::BorrowedStr(ZEROS)]);
    let error = serde_json::from_str::<Checksum>("\"sha256:00\"").unwrap_err();
    assert!(error.to_string().contains("64 hex digits"), "{error}");
}

#[test]
fn a_head_has_a_checksum_exactly_if_it_has_events() {
    let head = bus_of(directory().path(), 3).last().unwrap().head();
    for head in [head, Head::default()] {
        let text = serde_json::to_string(&head).unwrap();
        assert_eq!(serde_json::from_str::<Head>(&text).unwrap(), head, "{text}");
    }
    for text in [
        r#"{"index":1,"checksum":null}"#.to_owned(),
        format!(r#"{{"index":0,"checksum":"{ZEROS}"}}"#),
        r#"{"index":0}"#.to_owned(),
        r#"{"index":0,"checksum":null,"bytes":0}"#.to_owned(),
    ] {
        assert!(serde_json::from_str::<Head>(&text).is_err(), "{text}");
    }
}

/// Whether a value contains a number that serde_json may round when it reads it.
fn has_ambiguous_number(value: &Value) -> bool {
    match value {
        Value::Integer(integer) => {
            integer.as_str().parse::<u64>().is_err() && integer.as_str().parse::<i64>().is_err()
        }
        Value::Float(number) => *number >= 2_f64.powi(64) || *number <= -2_f64.powi(63),
        Value::Array(items) => items.iter().any(has_ambiguous_number),
        Value::Object(members) => members.values().any(has_ambiguous_number),
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_value_survives_serde_json_or_is_refused(value in canonical::value()) {
        let json = Json::try_from(&value).unwrap();
        if let Ok(text) = serde_json::to_string(&json) {
            prop_assert_eq!(&Json::parse(&text).unwrap(), &json);
            match serde_json::from_str::<Json>(&text) {
                Ok(read) => prop_assert_eq!(read, json),
                Err(error) => prop_assert!(has_ambiguous_number(&value), "{}: {}", text, error),
            }
        }
    }

    #[test]
    fn a_double_in_a_payload_is_read_exactly(number in canonical::finite()) {
        let json = Json::of(&BTreeMap::from([("number", number)])).unwrap();
        let event = event_with_payload(json.as_str());
        let read: BTreeMap<String, f64> = event.payload_as().unwrap();
        prop_assert_eq!(read["number"].to_bits(), number.to_bits());
    }
}

#[test]
fn integers_are_carried_exactly_or_refused() {
    let (max, min) = (u64::MAX.to_string(), i64::MIN.to_string());
    for exact in ["0", "-1", max.as_str(), min.as_str(), "[1,1.0,-0.0]"] {
        let json = Json::parse(exact).unwrap();
        let text = serde_json::to_string(&json).unwrap();
        assert_eq!(text, exact);
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), json);
    }
    // Written exactly, but serde_json reads them as rounded doubles.
    let (over, under) = (u128::from(u64::MAX) + 1, i128::from(i64::MIN) - 1);
    for number in [over.to_string(), under.to_string(), u128::MAX.to_string(), i128::MIN.to_string()] {
        let json = Json::parse(&number).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), number);
        let error = serde_json::from_str::<Json>(&number).unwrap_err();
        assert!(error.to_string().contains("may be a rounded integer"), "{error}");
    }
    let beyond_serde = Json::parse(&format!("-1{}", "0".repeat(39))).unwrap();
    let error = serde_json::to_string(&beyond_serde).unwrap_err();
    assert!(error.to_string().starts_with("an integer of 40 digits exceeds 128 bits"), "{error}");
    assert!(serde_json::from_str::<Json>("1e300").is_err());
}

#[test]
fn numbers_of_arbitrary_precision_are_refused() {
    // What serde_json hands over for each number if that feature is on.
    let error = serde_json::from_str::<Json>(r#"[{"$serde_json::private::Number":"1"}]"#).unwrap_err();
    assert!(error.to_string().contains("arbitrary_precision"), "{error}");
}

#[test]
fn this_crate_s_serializer_copies_every_json() {
    let huge = Json::parse(&format!(r#"{{"integer":1{},"float":1e300}}"#, "0".repeat(60))).unwrap();
    assert_eq!(Json::of(&huge).unwrap(), huge);
    assert_eq!(Json::of(&[&huge]).unwrap().as_str(), format!("[{huge}]"));
}

#[test]
fn a_json_can_be_flattened_into_a_struct() {
    #[derive(Serialize)]
    struct Outer {
        b: u8,
        #[serde(flatten)]
        rest: Json,
    }
    let outer = Outer { b: 1, rest: Json::parse(r#"{"a":0,"c":[2.0]}"#).unwrap() };
    assert_eq!(Json::of(&outer).unwrap().as_str(), r#"{"a":0,"b":1,"c":[2.0]}"#);
}

#[test]
fn a_binary_format_carries_the_canonical_text() {
    let text = "{\"a\":[1,123456789012345678901234567890],\"b\":1e+300}";
    let json = Json::parse(text).unwrap();
    let name = "\0zero_bus::Json";
    assert_tokens(&json.clone().compact(), &[Token::NewtypeStruct { name }, Token::BorrowedStr(text)]);

    let object = Json::parse(r#"{"a":null}"#).unwrap();
    assert_tokens(
        &object.readable(),
        &[
            Token::NewtypeStruct { name },
            Token::Map { len: Some(1) },
            Token::Str("a"),
            Token::Unit,
            Token::MapEnd,
        ],
    );
}

#[test]
fn a_draft_and_an_event_have_a_fixed_number_of_fields_in_a_binary_format() {
    let payload = [Token::NewtypeStruct { name: "\0zero_bus::Json" }, Token::BorrowedStr("{}")];
    let draft =
        Draft { event_type: "t".to_owned(), as_of: 0.0, payload: Json::empty_object(), trace_id: None };
    let mut tokens = vec![Token::Struct { name: "Draft", len: 4 }, Token::Str("event_type"), Token::Str("t")];
    tokens.extend([Token::Str("as_of"), Token::F64(0.0), Token::Str("payload")]);
    tokens.extend(payload);
    tokens.extend([Token::Str("trace_id"), Token::None, Token::StructEnd]);
    assert_tokens(&draft.compact(), &tokens);

    let event = event_with_payload("{}");
    let mut tokens = vec![Token::Struct { name: "Event", len: 9 }];
    tokens.extend([Token::Str("as_of"), Token::F64(0.0), Token::Str("checksum"), Token::BorrowedStr(ZEROS)]);
    tokens.extend([Token::Str("event_id"), Token::Str("evt-000000000001")]);
    tokens.extend([Token::Str("event_index"), Token::U64(1), Token::Str("event_type"), Token::Str("t")]);
    tokens.push(Token::Str("payload"));
    tokens.extend(payload);
    tokens.extend([Token::Str("previous_checksum"), Token::None]);
    tokens.extend([Token::Str("schema_version"), Token::Str("zero.runtime.event.v1")]);
    tokens.extend([Token::Str("trace_id"), Token::None, Token::StructEnd]);
    assert_tokens(&event.compact(), &tokens);
}

/// Arrays in arrays, as deep as this number.
struct Nested(usize);

impl<'de> Deserializer<'de> for Nested {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let inner = (self.0 > 1).then(|| Nested(self.0 - 1));
        visitor.visit_seq(SeqDeserializer::new(inner.into_iter()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, ValueError> for Nested {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[test]
fn nesting_has_the_same_limit_in_every_format() {
    let deepest = Json::deserialize(Nested(MAX_DEPTH)).unwrap();
    assert_eq!(deepest.as_str().len(), 2 * MAX_DEPTH);
    let error = Json::deserialize(Nested(100_000)).unwrap_err();
    assert_eq!(error.to_string(), "nested deeper than 1000 levels");
}

#[test]
fn an_event_serializes_as_the_object_of_its_line() {
    for log in ["valid-40", "reformatted", "reordered-keys"] {
        for event in conformance_events(log) {
            assert_eq!(Json::of(&event).unwrap(), event.to_json());
            let text = serde_json::to_string(&event).unwrap();
            match serde_json::from_str::<Event>(&text) {
                Ok(read) => assert_eq!(read, event),
                // Some recorded payloads contain an integer beyond 64 bits.
                Err(error) => assert!(has_ambiguous_number(&event.payload.value()), "{text}: {error}"),
            }
            assert_eq!(Event::read_alone(text.as_bytes(), event.index), Ok(event));
        }
    }
}

#[test]
fn deserializing_an_event_checks_its_shape_and_not_its_chain() {
    let event = bus_of(directory().path(), 2).remove(1);
    let line = event.line();
    let read = |line: &str| serde_json::from_str::<Event>(line);
    assert_eq!(read(&line).unwrap(), event);

    let edited = line.replace(r#"{"number":2}"#, r#"{"number":3}"#);
    assert_eq!(read(&edited).unwrap().checksum, event.checksum);
    assert!(Event::read_alone(edited.as_bytes(), 2).is_err());

    let previous = format!(r#""previous_checksum":"{}","#, event.previous_checksum.unwrap());
    for (from, to, problem) in [
        ("event.v1", "event.v2", "schema_version: should be `zero.runtime.event.v1`"),
        ("evt-000000000002", "evt-000000000003", "event_id: should be `evt-000000000002`"),
        (r#""event_index":2"#, r#""event_index":0"#, "event_index: should be positive"),
        (r#""event_index":2"#, r#""event_index":2.0"#, "invalid type"),
        ("test.event", r"test\nevent", "event_type: contains a control character"),
        ("test.event", "", "event_type: must not be empty"),
        (r#"{"number":2}"#, "[2]", "payload: must be an object"),
        (r#""payload""#, r#""trace_id":"","payload""#, "trace_id: should be absent rather than empty"),
        (r#""payload""#, r#""note":1,"payload""#, "unknown field `note`"),
        ("sha256:", "sha1:", "a checksum begins with `sha256:`"),
        (previous.as_str(), "", "missing field `previous_checksum`"),
        (
            r#""schema_version":"zero.runtime.event.v1""#,
            r#""trace_id":"t""#,
            "missing field `schema_version`",
        ),
    ] {
        let edited = line.replace(from, to);
        assert_ne!(edited, line);
        let error = read(&edited).unwrap_err().to_string();
        assert!(error.starts_with(problem), "{edited}: {error}");
    }
}

#[test]
fn a_draft_survives_serde_json() {
    let draft = Draft::new("door.opened", 0.1, &BTreeMap::from([("by", "\u{e9}")])).unwrap();
    for draft in [draft.clone(), draft.traced("t")] {
        let text = serde_json::to_string(&draft).unwrap();
        assert_eq!(text.contains("trace_id"), draft.trace_id.is_some());
        assert_eq!(serde_json::from_str::<Draft>(&text).unwrap(), draft, "{text}");
    }
    let extra = r#"{"event_type":"t","as_of":0,"payload":{},"trace":"t"}"#;
    assert!(serde_json::from_str::<Draft>(extra).is_err());
    let without_time = r#"{"event_type":"t","payload":{}}"#;
    assert!(serde_json::from_str::<Draft>(without_time).is_err());
}

#[test]
fn a_time_that_is_not_finite_is_not_serialized() {
    let draft = Draft::new("t", f64::NAN, &BTreeMap::<&str, u8>::new()).unwrap();
    assert_eq!(serde_json::to_string(&draft).unwrap_err().to_string(), "as_of: NaN is not a time");
    let event = Event { as_of: f64::INFINITY, ..bus_of(directory().path(), 1).remove(0) };
    assert!(serde_json::to_string(&event).is_err());
}

#[test]
fn a_draft_of_now_has_the_time_of_the_system_clock() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    let draft = Draft::now("t", &BTreeMap::from([("a", 1)])).unwrap();
    assert!((before..=now()).contains(&draft.as_of));
    assert_eq!((draft.event_type.as_str(), draft.payload.as_str()), ("t", r#"{"a":1}"#));
}

#[test]
fn a_payload_is_read_as_a_type() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        symbol: String,
        quantity: f64,
        nonce: i128,
        rest: Option<Json>,
    }
    let event = event_with_payload(&format!(
        r#"{{"symbol":"\u00e9","quantity":1,"nonce":{},"rest":[1.0]}}"#,
        i128::MIN
    ));
    let order: Order = event.payload_as().unwrap();
    let rest = Some(Json::parse("[1.0]").unwrap());
    assert_eq!(order, Order { symbol: "\u{e9}".to_owned(), quantity: 1.0, nonce: i128::MIN, rest });
}

#[test]
fn a_payload_of_another_type_is_an_error_with_its_position() {
    let error = event_with_payload(r#"{"a":"x"}"#).payload_as::<BTreeMap<String, u8>>().unwrap_err();
    assert_eq!(error.to_string(), "invalid type: string \"x\", expected u8 (line 1, column 8)");
    assert_eq!(error.offset(), Some(7));
}

#[test]
fn integers_in_a_payload_must_fit_the_type_they_are_read_into() {
    let event = event_with_payload(&format!(r#"{{"a":{}}}"#, u128::MAX));
    assert_eq!(event.payload_as::<BTreeMap<String, u128>>().unwrap()["a"], u128::MAX);
    assert!(event.payload_as::<BTreeMap<String, u64>>().is_err());
    assert_eq!(event.payload_as::<BTreeMap<String, f64>>().unwrap()["a"], u128::MAX as f64);
    assert!(event.payload_as::<BTreeMap<String, Json>>().is_err());
    let untyped: serde_json::Value = event.payload_as().unwrap();
    assert_eq!(untyped["a"].as_f64(), Some(u128::MAX as f64));

    let beyond = event_with_payload(&format!(r#"{{"a":{}0}}"#, u128::MAX));
    assert!(beyond.payload_as::<BTreeMap<String, u128>>().is_err());
}

#[test]
fn a_payload_that_is_read_as_a_type_nests_at_most_127_deep() {
    let nested = |depth: usize| {
        let (opening, closing) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        event_with_payload(&format!(r#"{{"a":{opening}{closing}}}"#))
    };
    assert!(nested(127).payload_as::<serde_json::Value>().is_ok());
    let error = nested(128).payload_as::<serde_json::Value>().unwrap_err();
    assert!(error.problem().contains("recursion limit"), "{error}");
}

#[test]
fn a_log_is_read_as_events_by_serde_json() {
    let place = directory();
    let events = bus_of(place.path(), 5);
    let log = fs::read_to_string(place.path().join("events.jsonl")).unwrap();
    let read: Vec<Event> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, events);
}
