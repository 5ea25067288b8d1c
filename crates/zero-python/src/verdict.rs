//! The verdict of a verification, as a dictionary of Python.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use zero_bus::{Finding, Verdict};

/// Returns `ok`, `events`, `last_checksum`, `reason`, `byte_offset`, `torn_bytes`, and the verdict
/// of the snapshot.
pub(crate) fn to_python<'py>(py: Python<'py>, verdict: &Verdict) -> PyResult<Bound<'py, PyDict>> {
    let integrity = &verdict.integrity;
    let (byte_offset, torn_bytes) = match &integrity.finding {
        Finding::Sound | Finding::Missing(_) => (None, None),
        Finding::Torn { byte_offset, bytes } | Finding::Truncated { byte_offset, bytes } => {
            (Some(*byte_offset), Some(*bytes))
        }
        Finding::Fault(fault) | Finding::Ambiguous(fault) => (Some(fault.byte_offset), None),
    };
    let snapshot = PyDict::new(py);
    snapshot.set_item("present", verdict.snapshot_integrity.present)?;
    snapshot.set_item("consistent", verdict.snapshot_integrity.consistent)?;
    snapshot.set_item("reason", &verdict.snapshot_integrity.reason)?;
    let members = PyDict::new(py);
    members.set_item("ok", integrity.ok())?;
    members.set_item("events", integrity.head.index)?;
    members.set_item("last_checksum", integrity.head.checksum.map(|checksum| checksum.to_string()))?;
    members.set_item("reason", integrity.reason())?;
    members.set_item("byte_offset", byte_offset)?;
    members.set_item("torn_bytes", torn_bytes)?;
    members.set_item("snapshot", snapshot)?;
    Ok(members)
}
