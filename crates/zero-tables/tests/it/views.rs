//! The tables have the columns of the views in SQL, from the same fields and of the same types.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use zero_bus::{Bus, Draft, Json, Value};
use zero_tables::{Batch, Batches, Kind, TABLES, Table, Values};

/// A view of a mirror in PostgreSQL.
struct View {
    name: String,
    event_type: String,
    /// The member of the payload whose items are the rows.
    items: Option<String>,
    /// Name, type and path of each column that comes from the payload.
    columns: Vec<(String, String, Vec<String>)>,
}

fn views() -> Vec<View> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zero-mirror/src/postgres/views-3.sql");
    let text = fs::read_to_string(path).unwrap();
    let between = |text: &str, start: &str, end: &str| {
        let (_, rest) = text.split_once(start)?;
        Some(rest.split_once(end)?.0.to_owned())
    };
    let views = text.split("CREATE OR REPLACE VIEW zero.").skip(1).map(|view| View {
        name: view.split_once(' ').unwrap().0.to_owned(),
        event_type: between(view, "event_type = '", "'").unwrap(),
        items: between(view, "jsonb_array_elements(", "END")
            .map(|items| between(&items, "-> '", "'").unwrap()),
        columns: view
            .lines()
            .filter_map(|line| {
                let (source, name) = line.trim().strip_prefix("zero.")?.split_once(" AS ")?;
                let (kind, path) = source.split_once('(')?;
                let path = path.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
                Some((name.trim_end_matches(',').to_owned(), kind.to_owned(), path))
            })
            .collect(),
    });
    views.collect()
}

/// An object with a value at each path.
fn object(fields: &[(Vec<String>, Value)]) -> Value {
    let mut members: BTreeMap<String, Vec<(Vec<String>, Value)>> = BTreeMap::new();
    for (path, value) in fields {
        members.entry(path[0].clone()).or_default().push((path[1..].to_vec(), value.clone()));
    }
    let value = |(key, mut inner): (String, Vec<(Vec<String>, Value)>)| match inner[0].0.is_empty() {
        true => (key, inner.remove(0).1),
        false => (key, object(&inner)),
    };
    Value::Object(members.into_iter().map(value).collect())
}

/// Reads the table of a view from a log with one event whose fields have these values.
fn row(view: &View, value: impl Fn(usize, &str, &[String]) -> Value) -> Batch {
    let columns = view.columns.iter().enumerate();
    let fields: Vec<_> =
        columns.map(|(position, (_, kind, path))| (path.clone(), value(position, kind, path))).collect();
    let mut payload = object(&fields);
    if let Some(items) = &view.items {
        let not_objects = [Value::Null, Value::Integer(1.into()), Value::Array(vec![payload.clone()])];
        let all = [payload].into_iter().chain(not_objects).collect();
        payload = Value::Object([(items.clone(), Value::Array(all))].into());
    }
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::open(dir.path()).unwrap();
    bus.append(Draft::new(view.event_type.clone(), 1.5, &Json::try_from(&payload).unwrap()).unwrap())
        .unwrap();
    let other = Draft::new("other", 1.5, &Json::try_from(&payload).unwrap()).unwrap();
    bus.append(other.traced("trace")).unwrap();
    let table = Table::named(&view.name).unwrap();
    let mut batches: Vec<Batch> =
        Batches::read(&bus.reader(), table, 1, 2).unwrap().map(Result::unwrap).collect();
    assert_eq!((batches.len(), batches[0].rows()), (1, 1), "{}", view.name);
    batches.remove(0)
}

#[test]
fn tables_have_the_columns_of_the_views_from_the_same_fields() {
    let views = views();
    let names: Vec<_> = views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, TABLES.iter().skip(1).map(|table| table.name).collect::<Vec<_>>());
    for view in &views {
        let table = Table::named(&view.name).unwrap();
        let header = ["event_index", "trace_id", "as_of"];
        let expected = header.into_iter().chain(view.columns.iter().map(|(name, ..)| name.as_str()));
        assert!(table.columns.iter().map(|column| column.name).eq(expected), "{}", view.name);
        let filled = row(view, |position, kind, path| match kind {
            "string" => Value::String(path.join(".")),
            "number" => Value::Integer((position as u64).into()),
            _ => Value::Bool(true),
        });
        assert_eq!(filled.columns()[2].values, Values::Integers(vec![1_500_000]));
        let columns = view.columns.iter().zip(&table.columns[3..]).zip(&filled.columns()[3..]).enumerate();
        for (position, (((name, kind, path), definition), column)) in columns {
            let number = position as i64;
            let expected = match (kind.as_str(), definition.kind) {
                ("string", Kind::Text) => {
                    let text = path.join(".");
                    Values::Texts { offsets: vec![0, text.len() as i32], bytes: text.into_bytes() }
                }
                ("number", Kind::Number) => Values::Numbers(vec![number as f64]),
                ("number", Kind::Integer) => Values::Integers(vec![number]),
                ("number", Kind::Time) => Values::Integers(vec![number * 1_000_000]),
                ("truth", Kind::Boolean) => Values::Booleans(vec![true]),
                other => panic!("{}.{name} is {other:?}", view.name),
            };
            assert_eq!((&column.values, &*column.valid), (&expected, &[true][..]), "{}.{name}", view.name);
        }
    }
}

#[test]
fn fields_of_another_type_and_missing_fields_are_null() {
    for view in &views() {
        let array = |_, _: &str, _: &[String]| Value::Array(vec![Value::Bool(true)]);
        let opposite = |_, kind: &str, _: &[String]| match kind {
            "string" => Value::Integer(1.into()),
            "number" => Value::String("1".to_owned()),
            _ => Value::String("true".to_owned()),
        };
        let null = |_, _: &str, _: &[String]| Value::Null;
        for batch in [row(view, array), row(view, opposite), row(view, null)] {
            for column in &batch.columns()[3..] {
                assert_eq!(column.valid, [false], "{}", view.name);
            }
        }
    }
}
