//! Reading a table in batches.

use std::collections::BTreeMap;
use std::fs;

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type, types::TimestampMicrosecondType};
use zero_bus::{Bus, Draft, Error, Json};
use zero_tables::arrow::RecordBatches;
use zero_tables::{Batch, Batches, Table, Values};

fn draft(event_type: &str, number: u64) -> Draft {
    Draft::new(event_type, number as f64, &BTreeMap::from([("symbol", number.to_string())])).unwrap()
}

fn read(bus: &Bus, table: &str, first: u64, last: u64) -> Vec<Batch> {
    let batches = Batches::read(&bus.reader(), Table::named(table).unwrap(), first, last).unwrap();
    batches.map(Result::unwrap).collect()
}

fn indexes(batches: &[Batch]) -> Vec<i64> {
    let of_batch = |batch: &Batch| match &batch.columns()[0].values {
        Values::Integers(indexes) => indexes.clone(),
        other => panic!("{other:?}"),
    };
    batches.iter().flat_map(of_batch).collect()
}

#[test]
fn a_table_has_the_events_of_its_type_in_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    let types = ["fill.record", "decision.record", "other"];
    bus.append_batch((1..=30).map(|number| draft(types[number as usize % 3], number)).collect()).unwrap();
    assert_eq!(indexes(&read(&bus, "fills", 1, 30)), (3..=30).step_by(3).collect::<Vec<_>>());
    assert_eq!(indexes(&read(&bus, "decisions", 5, 20)), (7..=20).step_by(3).collect::<Vec<_>>());
    assert_eq!(indexes(&read(&bus, "events", 29, 30)), [29, 30]);
    assert_eq!(indexes(&read(&bus, "candles", 1, 30)), [] as [i64; 0]);
    assert_eq!(indexes(&read(&bus, "events", 31, 30)), [] as [i64; 0]);
}

#[test]
fn batches_are_bounded_by_rows_and_by_text() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    let large = BTreeMap::from([("text", "x".repeat(6 << 20))]);
    for _ in 0..7 {
        bus.append(Draft::new("large", 1.0, &large).unwrap()).unwrap();
    }
    let rows: Vec<_> = read(&bus, "events", 1, 7).iter().map(Batch::rows).collect();
    assert_eq!(rows, [3, 3, 1]);

    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    let items = (0..40_000).map(|_| BTreeMap::from([("symbol", "A")])).collect::<Vec<_>>();
    for _ in 0..3 {
        let payload = BTreeMap::from([("candles", &items)]);
        bus.append(Draft::new("market.observation", 1.0, &payload).unwrap()).unwrap();
    }
    let rows: Vec<_> = read(&bus, "candles", 1, 3).iter().map(Batch::rows).collect();
    assert_eq!(rows, [80_000, 40_000]);
}

#[test]
fn the_rows_before_a_fault_come_first_and_then_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    bus.append_batch((1..=9).map(|number| draft("fill.record", number)).collect()).unwrap();
    drop(bus);
    let log = dir.path().join("events.jsonl");
    let text = fs::read_to_string(&log).unwrap().replace("\"symbol\":\"6\"", "\"symbol\":\"7\"");
    fs::write(&log, text).unwrap();
    let reader = zero_bus::Reader::open(dir.path()).unwrap();
    let fills = Table::named("fills").unwrap();
    let mut batches = Batches::read(&reader, fills, 1, 9).unwrap();
    assert_eq!(indexes(&[batches.next().unwrap().unwrap()]), [1, 2, 3, 4, 5]);
    assert!(matches!(batches.next(), Some(Err(Error::Damaged { .. }))));
    assert!(batches.next().is_none());
}

#[test]
fn a_reader_that_stops_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    let large = BTreeMap::from([("text", "x".repeat(15 << 20))]);
    for _ in 0..9 {
        bus.append(Draft::new("large", 1.0, &large).unwrap()).unwrap();
    }
    let mut batches = Batches::read(&bus.reader(), Table::named("events").unwrap(), 1, 9).unwrap();
    assert_eq!(batches.next().unwrap().unwrap().rows(), 2);
    drop(batches);
    let is_reading = || {
        let threads =
            fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path().join("comm"));
        threads.filter_map(|name| fs::read_to_string(name).ok()).any(|name| name.trim() == "zero-tables")
    };
    // The threads of other tests have the same name, and end, too.
    while is_reading() {
        std::thread::yield_now();
    }
}

#[test]
fn arrays_hold_the_values_and_the_nulls() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    let payloads = [
        r#"{"cycle_id":1,"act":{"accepted":true,"reason":"a \"b\" é"},"learn":{"fills":9223372036854775807}}"#,
        r#"{"cycle_id":2.0,"act":{"accepted":1},"learn":{"fills":9223372036854775808},"observe":{"cash_usd":7}}"#,
        r#"{"cycle_id":-3,"act":[],"observe":{"cash_usd":1e300,"equity_usd":1}}"#,
    ];
    for (payload, as_of) in payloads.into_iter().zip([1777593600.123456, -62135596800.5, 253402300799.999999])
    {
        let payload = Json::parse(payload).unwrap();
        bus.append(Draft::new("runtime.cycle", as_of, &payload).unwrap()).unwrap();
    }
    let batches = Batches::read(&bus.reader(), Table::named("cycles").unwrap(), 1, 3).unwrap();
    let batches: Vec<RecordBatch> = RecordBatches::new(batches).map(Result::unwrap).collect();
    let [batch] = &batches[..] else { panic!("{batches:?}") };
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let numbers = |name: &str| column(name).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
    assert_eq!(numbers("cycle_id"), [Some(1), None, Some(-3)]);
    assert_eq!(numbers("fills"), [Some(i64::MAX), None, None]);
    let reasons: Vec<_> = column("reason").as_string::<i32>().iter().collect();
    assert_eq!(reasons, [Some("a \"b\" é"), None, None]);
    let accepted: Vec<_> = column("accepted").as_boolean().iter().collect();
    assert_eq!(accepted, [Some(true), None, None]);
    let times: Vec<_> = column("as_of").as_primitive::<TimestampMicrosecondType>().iter().collect();
    // The years 0 and 10000, to which the last time is rounded, are null.
    assert_eq!(times, [Some(1_777_593_600_123_456), None, None]);
    assert_eq!(column("event_index").null_count(), 0);
}
