//! Takes the values of a table's columns from events.

use zero_bus::Event;

use crate::batch::{Batch, Value};
use crate::json_text::{boolean, integer, items, members, number, text};
use crate::table::{ColumnDefinition, Kind, Source, Table};

/// Adds the rows of events to a batch.
pub(crate) struct Extractor {
    table: &'static Table,
    /// The fields of the payload, or of an item, that are wanted.
    fields: Vec<Field>,
}

/// A wanted member of an object.
struct Field {
    key: &'static str,
    /// The column that its value belongs to.
    column: Option<usize>,
    /// The wanted members of its value.
    fields: Vec<Field>,
}

impl Extractor {
    pub(crate) fn new(table: &'static Table) -> Self {
        let mut fields = Vec::new();
        for (position, column) in table.columns.iter().enumerate() {
            if let Source::Field(path) = column.source {
                insert(&mut fields, path, position);
            }
        }
        Self { table, fields }
    }

    /// Adds the rows that an event brings. It must be of the table's type.
    pub(crate) fn push(&self, event: &Event, batch: &mut Batch) {
        let payload = event.payload.as_str();
        let Some(name) = self.table.items else { return self.push_row(event, payload, batch) };
        let array = members(payload).find(|(key, _)| *key == name).map_or("", |(_, array)| array);
        for item in items(array).filter(|item| item.starts_with('{')) {
            self.push_row(event, item, batch);
        }
    }

    fn push_row(&self, event: &Event, object: &str, batch: &mut Batch) {
        for (position, column) in self.table.columns.iter().enumerate() {
            push_header(event, column, position, batch);
        }
        self.push_fields(object, &self.fields, batch);
        batch.end_row();
    }

    fn push_fields(&self, object: &str, fields: &[Field], batch: &mut Batch) {
        for (key, value) in members(object) {
            let Some(field) = fields.iter().find(|field| field.key == key) else { continue };
            if let Some(position) = field.column {
                push_value(value, self.table.columns[position].kind, position, batch);
            }
            if !field.fields.is_empty() {
                self.push_fields(value, &field.fields, batch);
            }
        }
    }
}

fn insert(fields: &mut Vec<Field>, path: &'static str, column: usize) {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let at = fields.iter().position(|field| field.key == key).unwrap_or_else(|| {
        fields.push(Field { key, column: None, fields: Vec::new() });
        fields.len() - 1
    });
    match rest {
        Some(rest) => insert(&mut fields[at].fields, rest, column),
        None => fields[at].column = Some(column),
    }
}

/// Sets a column that does not come from a field of the payload.
fn push_header(event: &Event, column: &ColumnDefinition, position: usize, batch: &mut Batch) {
    let mut set = |value: Value<'_>| batch.set(position, value);
    match column.source {
        Source::Index => set(Value::Integer(i64::try_from(event.index).unwrap_or(i64::MAX))),
        Source::Id => set(Value::Text(&event.id())),
        Source::Type => set(Value::Text(&event.event_type)),
        Source::AsOf if column.kind == Kind::Time => {
            if let Some(time) = microseconds(event.as_of) {
                set(Value::Integer(time));
            }
        }
        Source::AsOf => set(Value::Number(event.as_of)),
        Source::TraceId => {
            if let Some(trace_id) = &event.trace_id {
                set(Value::Text(trace_id));
            }
        }
        Source::Payload => set(Value::Text(event.payload.as_str())),
        Source::PreviousChecksum => {
            if let Some(checksum) = event.previous_checksum {
                set(Value::Text(&checksum.to_string()));
            }
        }
        Source::Checksum => set(Value::Text(&event.checksum.to_string())),
        Source::Field(_) => {}
    }
}

fn push_value(json: &str, kind: Kind, column: usize, batch: &mut Batch) {
    match kind {
        Kind::Integer => integer(json).map(|value| batch.set(column, Value::Integer(value))),
        Kind::Number => number(json).map(|value| batch.set(column, Value::Number(value))),
        Kind::Boolean => boolean(json).map(|value| batch.set(column, Value::Boolean(value))),
        Kind::Text => text(json).map(|value| batch.set(column, Value::Text(&value))),
        Kind::Time => {
            number(json).and_then(microseconds).map(|value| batch.set(column, Value::Integer(value)))
        }
    };
}

/// Seconds since the Unix epoch as microseconds. `None` before the year 1 or after 9999.
fn microseconds(seconds: f64) -> Option<i64> {
    const YEAR_1: f64 = -62_135_596_800.0;
    const YEAR_10000: f64 = 253_402_300_800.0;
    let micros = (seconds * 1e6).round();
    (seconds >= YEAR_1 && micros < YEAR_10000 * 1e6).then_some(micros as i64)
}
