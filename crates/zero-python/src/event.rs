//! An event, as both interfaces of the package show it.

use std::fmt::Write;

use pyo3::BoundObject;
use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use zero_bus::{Checksum, EVENT_SCHEMA, Event};

use crate::payload::{Keys, to_json};
use crate::wait::check_signals_at;

/// One event. Immutable; equal to an event with the same fields.
#[pyclass(frozen, subclass, weakref, module = "zero_bus")]
pub(crate) struct RuntimeBusEvent {
    fields: Fields,
    /// The payload as an object of Python. That of a recorded event is created at the first use.
    payload: PyOnceLock<Py<PyAny>>,
}

enum Fields {
    /// From a log: every field is valid.
    Recorded(Event),
    /// From a program, which may pass anything.
    Constructed(Box<Constructed>),
}

struct Constructed {
    schema_version: Py<PyAny>,
    event_id: Py<PyAny>,
    event_index: Py<PyAny>,
    event_type: Py<PyAny>,
    as_of: Py<PyAny>,
    previous_checksum: Py<PyAny>,
    checksum: Py<PyAny>,
    trace_id: Py<PyAny>,
}

/// The fields in the order of the constructor.
const FIELDS: [&str; 9] = [
    "schema_version",
    "event_id",
    "event_index",
    "event_type",
    "as_of",
    "payload",
    "previous_checksum",
    "checksum",
    "trace_id",
];

impl RuntimeBusEvent {
    pub(crate) fn recorded(event: Event) -> Self {
        Self { fields: Fields::Recorded(event), payload: PyOnceLock::new() }
    }

    /// Creates a list of recorded events.
    pub(crate) fn list<'py>(
        py: Python<'py>,
        events: impl Iterator<Item = Event>,
    ) -> PyResult<Bound<'py, PyList>> {
        let events = events.enumerate().map(|(position, event)| {
            check_signals_at(py, position)?;
            Py::new(py, Self::recorded(event))
        });
        PyList::new(py, events.collect::<PyResult<Vec<_>>>()?)
    }

    /// The head of a log that ends with this event.
    pub(crate) fn head(&self, py: Python<'_>) -> PyResult<zero_bus::Head> {
        match &self.fields {
            Fields::Recorded(event) => Ok(event.head()),
            Fields::Constructed(fields) => {
                let checksum: String = fields.checksum.extract(py)?;
                let checksum: Checksum =
                    checksum.parse().map_err(|error| PyValueError::new_err(format!("checksum: {error}")))?;
                Ok(zero_bus::Head { index: fields.event_index.extract(py)?, checksum: Some(checksum) })
            }
        }
    }

    fn field<'py, T>(
        &self,
        py: Python<'py>,
        recorded: impl FnOnce(&Event) -> T,
        constructed: impl FnOnce(&Constructed) -> &Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        T: IntoPyObject<'py>,
        PyErr: From<T::Error>,
    {
        match &self.fields {
            Fields::Recorded(event) => Ok(recorded(event).into_pyobject(py)?.into_bound().into_any()),
            Fields::Constructed(fields) => Ok(constructed(fields).bind(py).clone()),
        }
    }

    /// The members of `to_dict`; without the checksum those that it covers.
    fn members<'py>(&self, py: Python<'py>, with_checksum: bool) -> PyResult<Bound<'py, PyDict>> {
        let members = PyDict::new(py);
        members.set_item("schema_version", self.schema_version(py)?)?;
        members.set_item("event_id", self.event_id(py)?)?;
        members.set_item("event_index", self.event_index(py)?)?;
        members.set_item("event_type", self.event_type(py)?)?;
        members.set_item("as_of", self.as_of(py)?)?;
        members.set_item("payload", self.payload(py)?)?;
        members.set_item("previous_checksum", self.previous_checksum(py)?)?;
        if with_checksum {
            members.set_item("checksum", self.checksum(py)?)?;
        }
        let trace_id = self.trace_id(py)?;
        if trace_id.is_truthy()? {
            members.set_item("trace_id", trace_id)?;
        }
        Ok(members)
    }
}

#[pymethods]
impl RuntimeBusEvent {
    /// The fields that a pattern of `match` takes by position.
    #[classattr]
    fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, FIELDS)
    }

    #[new]
    #[pyo3(signature = (schema_version, event_id, event_index, event_type, as_of, payload, previous_checksum, checksum,
                        trace_id = None))]
    #[expect(clippy::too_many_arguments, reason = "the constructor of the old class")]
    fn new(
        py: Python<'_>,
        schema_version: Py<PyAny>,
        event_id: Py<PyAny>,
        event_index: Py<PyAny>,
        event_type: Py<PyAny>,
        as_of: Py<PyAny>,
        payload: Py<PyAny>,
        previous_checksum: Py<PyAny>,
        checksum: Py<PyAny>,
        trace_id: Option<Py<PyAny>>,
    ) -> Self {
        let trace_id = trace_id.unwrap_or_else(|| py.None());
        let fields = Constructed {
            schema_version,
            event_id,
            event_index,
            event_type,
            as_of,
            previous_checksum,
            checksum,
            trace_id,
        };
        let event = Self { fields: Fields::Constructed(Box::new(fields)), payload: PyOnceLock::new() };
        // It is empty, so this sets it.
        let _ = event.payload.set(py, payload);
        event
    }

    /// The format of the event: `zero.runtime.event.v1`.
    #[getter]
    fn schema_version<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.field(py, |_| PyString::intern(py, EVENT_SCHEMA), |fields| &fields.schema_version)
    }

    /// `evt-` and the index, zero-padded to at least twelve digits.
    #[getter]
    fn event_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.field(py, Event::id, |fields| &fields.event_id)
    }

    /// 1 for the first event of a bus, then one more for each event.
    #[getter]
    fn event_index<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.field(py, |event| event.index, |fields| &fields.event_index)
    }

    /// The kind of event, by convention a dotted name.
    #[getter]
    fn event_type<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.field(py, |event| PyString::new(py, &event.event_type), |fields| &fields.event_type)
    }

    /// When it happened, in seconds since the Unix epoch.
    #[getter]
    fn as_of<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.field(py, |event| event.as_of, |fields| &fields.as_of)
    }

    /// What happened. The dictionary is created at the first use, and is the same from then on.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let payload = self.payload.get_or_try_init(py, || match &self.fields {
            Fields::Recorded(event) => from_canonical(py, event.payload.as_str()).map(Bound::unbind),
            // The constructor has set it.
            Fields::Constructed(_) => Ok(py.None()),
        });
        payload.map(|payload| payload.bind(py).clone())
    }

    /// The payload as canonical JSON: the bytes that the log holds.
    #[getter]
    fn payload_json(&self, py: Python<'_>) -> PyResult<String> {
        match &self.fields {
            Fields::Recorded(event) => Ok(event.payload.as_str().to_owned()),
            Fields::Constructed(_) => {
                let payload = self.payload(py)?;
                to_json(&payload, "payload", Keys::AsText).map(|json| json.as_str().to_owned())
            }
        }
    }

    /// The checksum of the previous event; None for the first one.
    #[getter]
    fn previous_checksum<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let recorded = |event: &Event| event.previous_checksum.map(|checksum| checksum.to_string());
        self.field(py, recorded, |fields| &fields.previous_checksum)
    }

    /// `sha256:` and the SHA-256 of the canonical form of all other fields.
    #[getter]
    fn checksum<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.field(py, |event| event.checksum.to_string(), |fields| &fields.checksum)
    }

    /// Groups related events; None if the producer gave none.
    #[getter]
    fn trace_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.field(py, |event| event.trace_id.clone(), |fields| &fields.trace_id)
    }

    /// The event as a dictionary; `trace_id` only if there is one.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.members(py, true)
    }

    /// `to_dict` without the checksum: what the checksum covers.
    fn _core<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.members(py, false)
    }

    /// Creates an event from a dictionary. Ignores unknown members.
    #[classmethod]
    fn from_dict<'py>(
        class: &Bound<'py, PyType>,
        payload: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = class.py();
        let (text, int, float) =
            (py.get_type::<PyString>(), py.get_type::<PyInt>(), py.get_type::<PyFloat>());
        let arguments = PyDict::new(py);
        for name in FIELDS {
            if name == "previous_checksum" || name == "trace_id" {
                let given = match payload.get_item(name) {
                    Err(error) if error.is_instance_of::<PyKeyError>(py) => py.None().into_bound(py),
                    given => given?,
                };
                let value = if given.is_truthy()? { text.call1((given,))? } else { py.None().into_bound(py) };
                arguments.set_item(name, value)?;
                continue;
            }
            let convert = match name {
                "event_index" => &int,
                "as_of" => &float,
                "payload" => &py.get_type::<PyDict>(),
                _ => &text,
            };
            arguments.set_item(name, convert.call1((payload.get_item(name)?,))?)?;
        }
        class.call((), Some(&arguments))
    }

    fn __richcmp__<'py>(&self, other: &Bound<'py, PyAny>, op: CompareOp) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let not_implemented = || Ok(py.NotImplemented().into_bound(py));
        let Ok(other) = other.cast::<Self>() else { return not_implemented() };
        let other = other.get();
        let is_equal = match (&self.fields, &other.fields) {
            (Fields::Recorded(a), Fields::Recorded(b))
                if self.payload.get(py).is_none() && other.payload.get(py).is_none() =>
            {
                a == b
            }
            _ => self.members(py, true)?.eq(other.members(py, true)?)?,
        };
        match op {
            CompareOp::Eq => Ok(is_equal.into_pyobject(py)?.to_owned().into_any()),
            CompareOp::Ne => Ok((!is_equal).into_pyobject(py)?.to_owned().into_any()),
            _ => not_implemented(),
        }
    }

    /// Equal events have equal checksums.
    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.checksum(py)?.hash()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<String> {
        let mut text = format!("{}(", slf.get_type().qualname()?);
        for (position, name) in FIELDS.into_iter().enumerate() {
            let separator = if position > 0 { ", " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}{name}={}", slf.getattr(name)?.repr()?);
        }
        text.push(')');
        Ok(text)
    }

    /// Pickles the values of all fields.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let values = FIELDS.into_iter().map(|name| slf.getattr(name)).collect::<PyResult<Vec<_>>>()?;
        Ok((slf.get_type(), PyTuple::new(slf.py(), values)?))
    }
}

/// Reads canonical JSON as objects of Python.
pub(crate) fn from_canonical<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "json", "loads")?.call1((text,))
}
