//! Appending.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};
use zero_bus::OpenOptions;

use crate::directory::{LockProbe, absolute, check_not_foreign};
use crate::draft::{draft, draft_of_item, expected_head};
use crate::error::to_python;
use crate::event::{RuntimeBusEvent, from_canonical};
use crate::handle::Handle;
use crate::head::Head;
use crate::payload::{Keys, to_json};
use crate::reader::Reader;
use crate::ticket::{Pending, Ticket};
use crate::wait::{check_signals_at, interruptible, interruptible_unless};

/// Bytes of submitted events that may be pending before the next `submit` blocks.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// A bus opened for appending.
///
/// Any number of threads can share one handle, and any number of processes can append to one bus.
#[pyclass(frozen, weakref, module = "zero_bus")]
pub(crate) struct Bus {
    handle: Handle<zero_bus::Bus>,
    /// Used by the main thread only.
    lock_probe: LockProbe,
    pending: Arc<Pending>,
}

/// What is to be waited for at the end of the process: the events of these were submitted.
static OPEN: Mutex<Vec<Weak<Pending>>> = Mutex::new(Vec::new());

#[pymethods]
impl Bus {
    /// Opens a bus for appending. Creates it if it is missing, unless `create` is false. A
    /// directory with other files and no bus is refused.
    #[classmethod]
    #[pyo3(signature = (path, *, create = true, lock_timeout = 30.0, _anywhere = false))]
    fn open(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        path: PathBuf,
        create: bool,
        lock_timeout: f64,
        _anywhere: bool,
    ) -> PyResult<Self> {
        let lock_timeout = Duration::try_from_secs_f64(lock_timeout)
            .map_err(|error| PyValueError::new_err(format!("lock_timeout: {error}")))?;
        let path = absolute(path);
        let opened_path = path.clone();
        let open = move || {
            if create && !_anywhere {
                check_not_foreign(&opened_path)?;
            }
            let mut options = OpenOptions::new();
            // `Pending` blocks before this limit does, and lets signals through.
            options.create(create).lock_timeout(lock_timeout).max_pending_bytes(4 * MAX_PENDING_BYTES);
            let bus = options.open(&opened_path)?;
            Ok((bus, LockProbe::open(&opened_path)))
        };
        let (bus, lock_probe) = interruptible(py, open)?.map_err(|error| to_python(py, error))?;
        let (handle, pending) = (Handle::new("bus", path, bus), Pending::new(MAX_PENDING_BYTES));
        Ok(Self { handle, lock_probe, pending })
    }

    /// The directory of the bus, as an absolute path.
    #[getter]
    fn path(&self) -> PathBuf {
        self.handle.path().to_owned()
    }

    /// Appends one event. When this returns, the event has been synced.
    #[pyo3(signature = (event_type, payload, *, as_of = None, trace_id = None, expect_head = None,
                        _keys_as_text = false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn append(
        &self,
        py: Python<'_>,
        event_type: String,
        payload: &Bound<'_, PyAny>,
        as_of: Option<f64>,
        trace_id: Option<String>,
        expect_head: Option<&Bound<'_, PyAny>>,
        _keys_as_text: bool,
    ) -> PyResult<RuntimeBusEvent> {
        let bus = self.handle.get(py)?;
        let expected = expect_head.map(expected_head).transpose()?;
        let draft = draft("", event_type, payload, as_of, trace_id, _keys_as_text.into())?;
        let size_bytes = draft.payload.as_str().len();
        // If the lock is free, the append takes as long as one sync; a signal can wait for that.
        // Another process can still take the lock in between. Then a signal also waits for its
        // batch or, if that process is stopped at this very moment, for the timeout of the lock.
        let is_prompt = || size_bytes <= MAX_PENDING_BYTES && self.lock_probe.is_free();
        let append = move || match expected {
            Some(expected) => bus.append_expecting(expected, draft),
            None => bus.append(draft),
        };
        let event = interruptible_unless(py, is_prompt, append)?.map_err(|error| to_python(py, error))?;
        Ok(RuntimeBusEvent::recorded(event))
    }

    /// Appends events next to each other, with one write and one sync. Each is a pair
    /// `(event_type, payload)`, or a dictionary with the names of the parameters of `append`.
    #[pyo3(signature = (events, *, as_of = None, trace_id = None))]
    fn append_many<'py>(
        &self,
        py: Python<'py>,
        events: &Bound<'py, PyAny>,
        as_of: Option<f64>,
        trace_id: Option<String>,
    ) -> PyResult<Bound<'py, PyList>> {
        let bus = self.handle.get(py)?;
        let drafts = events.try_iter()?.enumerate().map(|(position, item)| {
            check_signals_at(py, position)?;
            draft_of_item(position, &item?, as_of, trace_id.as_deref())
        });
        let drafts = drafts.collect::<PyResult<Vec<_>>>()?;
        let appended =
            interruptible(py, move || bus.append_batch(drafts))?.map_err(|error| to_python(py, error))?;
        RuntimeBusEvent::list(py, appended.into_iter())
    }

    /// Enqueues one event and returns without waiting for its sync. The ticket is a future: its
    /// result is the event, once it is durable.
    #[pyo3(signature = (event_type, payload, *, as_of = None, trace_id = None))]
    fn submit(
        &self,
        py: Python<'_>,
        event_type: String,
        payload: &Bound<'_, PyAny>,
        as_of: Option<f64>,
        trace_id: Option<String>,
    ) -> PyResult<Ticket> {
        let bus = self.handle.get(py)?;
        let draft = draft("", event_type, payload, as_of, trace_id, Keys::Strings)?;
        let size_bytes = draft.payload.as_str().len() + draft.event_type.len();
        self.pending.reserve(py, size_bytes)?;
        let submitted = bus.submit(draft).map_err(|error| to_python(py, error));
        let ticket = match submitted {
            Ok(ticket) => ticket,
            Err(error) => {
                self.pending.release(size_bytes);
                return Err(error);
            }
        };
        let (ticket, is_first) = self.pending.add(py, ticket, size_bytes)?;
        if is_first {
            let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|pending| pending.strong_count() > 0);
            open.push(Arc::downgrade(&self.pending));
        }
        Ok(ticket)
    }

    /// Waits until every submitted event is durable, or has failed.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.get(py)?;
        self.pending.flush(py)
    }

    /// The end of the log when this handle last saw it.
    fn head(&self, py: Python<'_>) -> PyResult<Head> {
        let bus = self.handle.get(py)?;
        interruptible(py, move || bus.head()).map(Head::from)
    }

    /// Whether no other handle has appended since this handle last saw the end of the log.
    fn is_at_end(&self, py: Python<'_>) -> PyResult<bool> {
        let bus = self.handle.get(py)?;
        interruptible(py, move || bus.is_at_end())?.map_err(|error| to_python(py, error))
    }

    /// What the operator should know, one sentence each: quarantined tails, and permissions that
    /// let other users write to the bus.
    fn warnings(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let bus = self.handle.get(py)?;
        interruptible(py, move || bus.warnings())
    }

    /// A reader of the same bus.
    fn reader(&self, py: Python<'_>) -> PyResult<Reader> {
        Ok(Reader::of(self.handle.path().to_owned(), self.handle.get(py)?.reader()))
    }

    /// Replaces the snapshot with the producer's state, bound to the head that this handle last
    /// saw. Returns the snapshot as it was written.
    #[pyo3(signature = (payload, *, as_of, source_event_id = None, _keys_as_text = false))]
    fn write_snapshot<'py>(
        &self,
        py: Python<'py>,
        payload: &Bound<'py, PyAny>,
        as_of: f64,
        source_event_id: Option<String>,
        _keys_as_text: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bus = self.handle.get(py)?;
        let state = to_json(payload, "payload", _keys_as_text.into())?;
        let write = move || {
            let snapshot = bus.write_snapshot(as_of, source_event_id.as_deref(), &state)?;
            snapshot.to_json()
        };
        let json = interruptible(py, write)?.map_err(|error| to_python(py, error))?;
        from_canonical(py, json.as_str())
    }

    /// Waits until every submitted event is durable, and closes the handle. Closing it again does
    /// nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(bus) = self.handle.take(py)? else { return Ok(()) };
        self.pending.flush(py)?;
        interruptible(py, move || drop(bus))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __fspath__(&self) -> OsString {
        self.handle.path().as_os_str().to_owned()
    }

    fn __repr__(&self) -> String {
        format!("Bus('{}')", self.handle.path().display())
    }
}

/// Waits until the submitted events of all handles are durable. Called when the interpreter exits.
#[pyfunction]
#[pyo3(name = "_flush_open")]
pub(crate) fn flush_open(py: Python<'_>) -> PyResult<()> {
    let open: Vec<_> = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    open.iter().filter_map(Weak::upgrade).try_for_each(|pending| pending.flush(py))
}
