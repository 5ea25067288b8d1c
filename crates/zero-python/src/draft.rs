//! What a caller passes to an append: drafts, and the head that it expects.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};
use zero_bus::Draft;

use crate::event::RuntimeBusEvent;
use crate::head::Head;
use crate::payload::{Keys, to_json};

/// Reads the argument `expect_head`: a `Head`, an event, or an index.
pub(crate) fn expected_head(value: &Bound<'_, PyAny>) -> PyResult<zero_bus::Head> {
    if let Ok(head) = value.cast::<Head>() {
        return Ok((*head.get()).into());
    }
    if let Ok(event) = value.cast::<RuntimeBusEvent>() {
        return event.get().head(value.py());
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(zero_bus::Head { index: value.extract()?, checksum: None });
    }
    Err(PyTypeError::new_err("expect_head: should be a Head, an event, or the index of the last event"))
}

/// Creates a draft. `prefix` precedes the fields in errors, as in `events[2].`.
pub(crate) fn draft(
    prefix: &str,
    event_type: String,
    payload: &Bound<'_, PyAny>,
    as_of: Option<f64>,
    trace_id: Option<String>,
    keys: Keys,
) -> PyResult<Draft> {
    let payload = to_json(payload, &format!("{prefix}payload"), keys)?;
    let mut draft = match as_of {
        Some(as_of) => Draft::new(event_type, as_of, &zero_bus::Json::empty_object()),
        None => Draft::now(event_type, &zero_bus::Json::empty_object()),
    }
    .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
    draft.payload = payload;
    draft.trace_id = trace_id;
    Ok(draft)
}

/// Reads one item of `append_many`: `(event_type, payload)`, or a dictionary with the names of
/// the parameters of `append`.
pub(crate) fn draft_of_item(
    position: usize,
    item: &Bound<'_, PyAny>,
    as_of: Option<f64>,
    trace_id: Option<&str>,
) -> PyResult<Draft> {
    let prefix = format!("events[{position}].");
    let default_trace = || trace_id.map(str::to_owned);
    if let Ok(pair) = item.cast::<PyTuple>()
        && pair.len() == 2
    {
        let event_type = pair.get_item(0)?.extract()?;
        return draft(&prefix, event_type, &pair.get_item(1)?, as_of, default_trace(), Keys::Strings);
    }
    let Ok(members) = item.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "events[{position}]: should be (event_type, payload), or a dict with event_type and payload"
        )));
    };
    for key in members.keys() {
        let key = key.extract::<String>()?;
        if !["event_type", "payload", "as_of", "trace_id"].contains(&key.as_str()) {
            return Err(PyTypeError::new_err(format!("events[{position}]: unknown member '{key}'")));
        }
    }
    let member = |name: &str| {
        members.get_item(name)?.ok_or_else(|| PyTypeError::new_err(format!("{prefix}{name}: is missing")))
    };
    let as_of = match members.get_item("as_of")? {
        Some(own) => own.extract::<Option<f64>>()?.or(as_of),
        None => as_of,
    };
    let trace_id = match members.get_item("trace_id")? {
        Some(own) => own.extract()?,
        None => default_trace(),
    };
    draft(&prefix, member("event_type")?.extract()?, &member("payload")?, as_of, trace_id, Keys::Strings)
}
