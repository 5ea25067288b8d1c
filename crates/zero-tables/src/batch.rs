//! Rows of one table, column by column.

use crate::table::{Kind, Table};

/// Most rows of a batch, unless one event brings more.
const MAX_ROWS: usize = 1 << 16;

/// Most bytes of text in a batch, apart from what the last event brings: an event has at most 16
/// MiB, so that 32 bits address all text of a batch.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// Rows of one table: a column for each of its definitions, all of the same length.
#[derive(Debug)]
pub struct Batch {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: usize,
    text_bytes: usize,
}

/// The values of a column.
#[derive(Debug, PartialEq)]
pub struct Column {
    /// Whether each row has a value.
    pub valid: Vec<bool>,
    /// One value per row. A row without a value has 0, false, or an empty text here.
    pub values: Values,
}

/// Values of one type, see [`Kind`].
#[derive(Debug, PartialEq)]
pub enum Values {
    /// Integers, and times in microseconds.
    Integers(Vec<i64>),
    /// Doubles.
    Numbers(Vec<f64>),
    /// Booleans.
    Booleans(Vec<bool>),
    /// Texts one after the other.
    Texts {
        /// All texts without a separator, in UTF-8.
        bytes: Vec<u8>,
        /// Where each text ends, after a leading 0.
        offsets: Vec<i32>,
    },
}

/// One value that is not null.
pub(crate) enum Value<'a> {
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Text(&'a str),
}

impl Batch {
    /// Creates a batch without rows.
    pub(crate) fn new(table: &Table) -> Self {
        let columns = table.columns.iter().map(|column| Column::new(column.kind)).collect();
        Self { columns, rows: 0, text_bytes: 0 }
    }

    /// The columns, in the order of the table.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.text_bytes >= MAX_TEXT_BYTES
    }

    /// Sets a value of the row that is being added. Of two values, the first one counts.
    pub(crate) fn set(&mut self, column: usize, value: Value<'_>) {
        if let Value::Text(text) = value {
            self.text_bytes += text.len();
        }
        if let Some(column) = self.columns.get_mut(column).filter(|column| column.valid.len() == self.rows) {
            column.push(Some(value));
        }
    }

    /// Completes the row: columns without a value get a null.
    pub(crate) fn end_row(&mut self) {
        for column in self.columns.iter_mut().filter(|column| column.valid.len() == self.rows) {
            column.push(None);
        }
        self.rows += 1;
    }
}

impl Column {
    fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Integer | Kind::Time => Values::Integers(Vec::new()),
            Kind::Number => Values::Numbers(Vec::new()),
            Kind::Boolean => Values::Booleans(Vec::new()),
            Kind::Text => Values::Texts { bytes: Vec::new(), offsets: vec![0] },
        };
        Self { valid: Vec::new(), values }
    }

    /// Appends a value. One of another type than the column counts as null.
    fn push(&mut self, value: Option<Value<'_>>) {
        let is_valid = match (&mut self.values, value) {
            (Values::Integers(values), Some(Value::Integer(value))) => append(values, value),
            (Values::Numbers(values), Some(Value::Number(value))) => append(values, value),
            (Values::Booleans(values), Some(Value::Boolean(value))) => append(values, value),
            (Values::Texts { bytes, offsets }, Some(Value::Text(text))) => {
                bytes.extend_from_slice(text.as_bytes());
                append(offsets, end_of(bytes))
            }
            (Values::Integers(values), _) => !append(values, 0),
            (Values::Numbers(values), _) => !append(values, 0.0),
            (Values::Booleans(values), _) => !append(values, false),
            (Values::Texts { bytes, offsets }, _) => !append(offsets, end_of(bytes)),
        };
        self.valid.push(is_valid);
    }
}

fn append<T>(values: &mut Vec<T>, value: T) -> bool {
    values.push(value);
    true
}

/// The limits of a batch keep its text far below 2 GiB.
fn end_of(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}
