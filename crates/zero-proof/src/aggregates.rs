//! Aggregates over disclosed fields, by type of event.

use std::collections::BTreeMap;

use serde::Serialize;
use zero_bus::{Json, Value};

use crate::decimal::Decimal;

/// Different texts that a field's aggregate counts one by one.
pub const MAX_TEXTS: usize = 100;

/// Aggregates over events.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Aggregates {
    /// Number of events.
    pub events: u64,
    /// By event type.
    pub event_types: BTreeMap<String, TypeAggregates>,
}

/// Aggregates over the events of one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TypeAggregates {
    /// Number of events.
    pub events: u64,
    /// By name of the field.
    pub fields: BTreeMap<String, FieldAggregates>,
}

/// Aggregates over one field. Each value counts as one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FieldAggregates {
    /// Number of events that disclose the field.
    pub events: u64,
    /// Number of values that are numbers.
    pub numbers: u64,
    /// The double nearest to their sum; 0 without numbers, `None` beyond the largest double. If the
    /// exact sum is not known, it is a sum of doubles in the order of the log.
    pub sum: Option<f64>,
    /// Their exact sum. `None` if it, or a sum on the way to it, needs more than 38 digits.
    pub sum_exact: Option<Decimal>,
    /// The smallest number.
    pub min: Option<f64>,
    /// The largest number.
    pub max: Option<f64>,
    /// Number of values that are true.
    pub trues: u64,
    /// Number of values that are false.
    pub falses: u64,
    /// How often each text occurs. Texts after the first [`MAX_TEXTS`] different ones are not
    /// counted one by one.
    pub texts: BTreeMap<String, u64>,
    /// Number of all other values: other types, and texts that are not counted one by one.
    pub others: u64,
}

impl Aggregates {
    /// Adds an event with some of its fields.
    pub fn add<'a>(&mut self, event_type: &str, fields: impl IntoIterator<Item = (&'a str, &'a Json)>) {
        self.events += 1;
        let of_type = self.event_types.entry(event_type.to_owned()).or_default();
        of_type.events += 1;
        for (name, value) in fields {
            let first = FieldAggregates {
                sum: Some(0.0),
                sum_exact: Some(Decimal::ZERO),
                ..FieldAggregates::default()
            };
            of_type.fields.entry(name.to_owned()).or_insert(first).add(value);
        }
    }
}

impl FieldAggregates {
    fn add(&mut self, json: &Json) {
        self.events += 1;
        match json.value() {
            Value::Bool(true) => self.trues += 1,
            Value::Bool(false) => self.falses += 1,
            Value::String(text) if self.texts.len() < MAX_TEXTS || self.texts.contains_key(&text) => {
                *self.texts.entry(text).or_default() += 1;
            }
            value => match value.as_f64() {
                Some(number) => self.add_number(number, Decimal::parse(json.as_str())),
                None => self.others += 1,
            },
        }
    }

    fn add_number(&mut self, number: f64, exact: Option<Decimal>) {
        self.numbers += 1;
        self.sum_exact = self.sum_exact.zip(exact).and_then(|(sum, number)| sum.checked_add(number));
        self.sum = match self.sum_exact {
            Some(sum) => Some(sum.as_f64()),
            None => self.sum.map(|sum| sum + number).filter(|sum| sum.is_finite()),
        };
        self.min = Some(self.min.map_or(number, |min| min.min(number)));
        self.max = Some(self.max.map_or(number, |max| max.max(number)));
    }
}
