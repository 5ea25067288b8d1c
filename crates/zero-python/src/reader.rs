//! Reading verified events.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyInt, PyList, PySlice, PyString, PyType};
use zero_bus::{Event, Events, Json, Progress, index_of_id};
use zero_cli::proofs;

use crate::directory::{absolute, open_reader};
use crate::draft::expected_head;
use crate::error::to_python;
use crate::event::{RuntimeBusEvent, from_canonical};
use crate::follow::Follow;
use crate::head::Head;
use crate::paper::{self, Problem};
use crate::payload::{Keys, to_json};
use crate::proof::{self, FieldNames};
use crate::tables::{Table, table_named};
use crate::type_filter::TypeFilter;
use crate::verdict;
use crate::wait::{interruptible, on_worker};

/// Most events that an iterator reads ahead.
const MAX_READ_AHEAD: usize = 1_024;

/// A bus opened for reading: a sequence of verified events. It changes nothing, and stays usable in
/// a child after a fork.
#[pyclass(frozen, weakref, module = "zero_bus")]
pub(crate) struct Reader {
    path: PathBuf,
    reader: zero_bus::Reader,
}

impl Reader {
    pub(crate) fn of(path: PathBuf, reader: zero_bus::Reader) -> Self {
        Self { path, reader }
    }

    /// Runs a call of the library on a copy of the reader.
    fn call<T: Send + 'static>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(zero_bus::Reader) -> zero_bus::Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let reader = self.reader.clone();
        interruptible(py, move || call(reader))?.map_err(|error| to_python(py, error))
    }

    /// Runs a question to the paper runtime's library, and returns its answer as a dictionary.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        question: impl FnOnce(zero_bus::Reader) -> Result<Json, Problem> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.reader.clone();
        match interruptible(py, move || question(reader))? {
            Ok(answer) => from_canonical(py, answer.as_str()),
            Err(Problem::Bus(error)) => Err(to_python(py, error)),
            Err(Problem::Other(problem)) => Err(PyValueError::new_err(problem)),
        }
    }

    /// Reads an argument that names an event: by its index, backwards from -1, by `last`, by its
    /// id, or by itself. Returns its index, which may be beyond the end of the log.
    fn index_of(&self, py: Python<'_>, argument: &str, event: &Bound<'_, PyAny>) -> PyResult<u64> {
        let from_end = match event.cast::<PyString>() {
            Ok(text) => (text.to_cow()? == "last").then_some(1),
            Err(_) => event.extract::<i64>().ok().filter(|index| *index < 0).map(i64::unsigned_abs),
        };
        let Some(offset) = from_end else { return index_named(argument, event) };
        let last = self.head(py)?.index();
        last.checked_sub(offset - 1).filter(|index| *index > 0).ok_or_else(|| {
            PyValueError::new_err(format!("{argument}: there is no event -{offset}; the log has {last}"))
        })
    }

    /// Returns the events at these positions, counted from 0.
    fn range(&self, py: Python<'_>, start: u64, count: u64) -> PyResult<Vec<Event>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.call(py, move |reader| reader.events(start + 1)?.take(count).collect())
    }
}

#[pymethods]
impl Reader {
    /// Opens a bus for reading. A directory without a log is no bus.
    #[classmethod]
    #[pyo3(signature = (path, *, _without_log = false))]
    fn open(_class: &Bound<'_, PyType>, py: Python<'_>, path: PathBuf, _without_log: bool) -> PyResult<Self> {
        let path = absolute(path);
        let opened_path = path.clone();
        let open = move || match _without_log {
            true => zero_bus::Reader::open(&opened_path),
            false => open_reader(&opened_path),
        };
        let opened = interruptible(py, open)?;
        Ok(Self::of(path, opened.map_err(|error| to_python(py, error))?))
    }

    /// The directory of the bus, as an absolute path.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The end of the log. Reads only the tail.
    fn head(&self, py: Python<'_>) -> PyResult<Head> {
        self.call(py, |reader| reader.head()).map(Head::from)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(usize::try_from(self.head(py)?.index()).unwrap_or(usize::MAX))
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<EventIterator> {
        self.events(py, None, None)
    }

    /// An event by its position, counted from 0 or backwards from -1; or a list of events.
    fn __getitem__<'py>(&self, py: Python<'py>, position: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = position.cast::<PySlice>() {
            let length = isize::try_from(self.head(py)?.index()).unwrap_or(isize::MAX);
            let indices = slice.indices(length)?;
            let (lowest, highest) = match indices.slicelength {
                0 => return Ok(PyList::empty(py).into_any()),
                length => {
                    let last = indices.start + (length as isize - 1) * indices.step;
                    (indices.start.min(last), indices.start.max(last))
                }
            };
            let mut events = self.range(py, lowest as u64, (highest - lowest) as u64 + 1)?;
            if indices.step < 0 {
                events.reverse();
            }
            let selected = events.into_iter().step_by(indices.step.unsigned_abs());
            return Ok(RuntimeBusEvent::list(py, selected)?.into_any());
        }
        if !position.is_instance_of::<PyInt>() {
            return Err(PyTypeError::new_err("the position of an event should be an integer or a slice"));
        }
        let position = position.extract::<i64>()?;
        let beyond = || PyIndexError::new_err("there is no event at this position");
        let position = match u64::try_from(position) {
            Ok(position) => position,
            Err(_) => self.head(py)?.index().checked_sub(position.unsigned_abs()).ok_or_else(beyond)?,
        };
        let event = self.range(py, position, 1)?.pop().ok_or_else(beyond)?;
        Ok(Bound::new(py, RuntimeBusEvent::recorded(event))?.into_any())
    }

    /// The event with an id such as `evt-000000000001`; None if the log does not hold it.
    fn event(&self, py: Python<'_>, event_id: String) -> PyResult<Option<RuntimeBusEvent>> {
        let event = self.call(py, move |reader| reader.event_by_id(&event_id))?;
        Ok(event.map(RuntimeBusEvent::recorded))
    }

    /// Iterates over the verified events after `since`, up to the present end of the log.
    #[pyo3(signature = (*, since = None, types = None))]
    fn events(
        &self,
        py: Python<'_>,
        since: Option<&Bound<'_, PyAny>>,
        types: Option<TypeFilter>,
    ) -> PyResult<EventIterator> {
        let from = first_after(since)?;
        let events = self.call(py, move |reader| reader.events(from))?;
        Ok(EventIterator {
            state: Arc::new(Mutex::new(IteratorState::new(events, types.unwrap_or_default()))),
        })
    }

    /// The verified events after `since` as a list. Verifies on several threads.
    #[pyo3(signature = (*, since = None, types = None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        since: Option<&Bound<'py, PyAny>>,
        types: Option<TypeFilter>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (from, types) = (first_after(since)?, types.unwrap_or_default());
        let events = self.call(py, move |reader| {
            let mut events = Vec::new();
            reader.select(
                from,
                |event_type, _| types.matches(event_type),
                |event| {
                    events.push(event);
                    Ok::<(), zero_bus::Error>(())
                },
            )?;
            Ok(events)
        })?;
        RuntimeBusEvent::list(py, events.into_iter())
    }

    /// Returns the events after `since`, and then each new one as it becomes durable.
    #[pyo3(signature = (*, since = None, types = None))]
    fn follow(
        &self,
        py: Python<'_>,
        since: Option<&Bound<'_, PyAny>>,
        types: Option<TypeFilter>,
    ) -> PyResult<Follow> {
        let from = first_after(since)?;
        let follow = self.call(py, move |reader| reader.follow(from))?;
        Ok(Follow::new(self.path.clone(), follow, types.unwrap_or_default()))
    }

    /// Whether the log holds the event that a head names: this index with this checksum.
    fn contains(&self, py: Python<'_>, head: &Bound<'_, PyAny>) -> PyResult<bool> {
        let head = expected_head(head)?;
        self.call(py, move |reader| reader.contains(head))
    }

    /// The newest snapshot as a dictionary; None if there is no readable one.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let json = self.call(py, |reader| reader.snapshot()?.map(|found| found.to_json()).transpose())?;
        json.map(|json| from_canonical(py, json.as_str())).transpose()
    }

    /// Verifies the whole log and the snapshot. Calls `progress(bytes, bytes_total)` about twenty
    /// times a second on the calling thread.
    #[pyo3(signature = (progress = None))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (read, total) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (reader, counters) = (self.reader.clone(), (Arc::clone(&read), Arc::clone(&total)));
        let work = move || {
            reader.verify_with_progress(&mut |progress: Progress| {
                counters.0.store(progress.bytes, Ordering::Relaxed);
                counters.1.store(progress.bytes_total, Ordering::Relaxed);
            })
        };
        let report = |py: Python<'_>| match progress {
            Some(progress) => {
                let bytes = (read.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
                progress.call1((bytes.0, bytes.1)).map(|_| py).map(drop)
            }
            None => Ok(()),
        };
        let verdict = match progress {
            Some(_) => on_worker(py, work, report)?,
            None => interruptible(py, work)?,
        };
        let verdict = verdict.map_err(|error| to_python(py, error))?;
        report(py)?;
        verdict::to_python(py, &verdict)
    }

    /// The runtime's state after the event at an index, or after the last event.
    #[pyo3(signature = (*, at = None))]
    fn state<'py>(&self, py: Python<'py>, at: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let index = at.map(|at| self.index_of(py, "at", at)).transpose()?;
        self.ask(py, move |reader| paper::state(&reader, index))
    }

    /// Explains a cycle, by its number or its trace: what the runtime observed, which limit
    /// decided, and what changed.
    fn explain<'py>(&self, py: Python<'py>, cycle: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let subject = cycle.str()?.to_cow()?.into_owned();
        self.ask(py, move |reader| paper::explain(&reader, &subject))
    }

    /// Runs the recorded run again and compares it with the record; with `limits`, shows the run
    /// under them side by side.
    #[pyo3(signature = (*, limits = None))]
    fn replay<'py>(
        &self,
        py: Python<'py>,
        limits: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limits = limits.map(|limits| to_json(limits, "limits", Keys::Strings)).transpose()?;
        self.ask(py, move |reader| paper::replay_run(&reader, limits.as_ref()))
    }

    /// Profit and loss, costs, drawdown, trades and rejections of the last run.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, |reader| paper::report_run(&reader))
    }

    /// A table of the events after `since`, up to the present end of the log, for any library that
    /// reads Arrow.
    #[pyo3(signature = (table = "events", *, since = None))]
    fn to_arrow(&self, py: Python<'_>, table: &str, since: Option<&Bound<'_, PyAny>>) -> PyResult<Table> {
        let (table, first) = (table_named(table)?, first_after(since)?);
        Ok(Table::new(self.reader.clone(), table, first, self.head(py)?.index()))
    }

    /// The table of all events, as a capsule of Arrow's C stream interface.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        self.to_arrow(py, "events", None)?.__arrow_c_stream__(py, requested_schema)
    }

    /// Writes a proof of one event, which discloses only the fields in `reveal`.
    #[pyo3(signature = (event, *, secret, output, reveal = None, checkpoint = None, policy = None, state = None))]
    #[expect(clippy::too_many_arguments, reason = "they are the options of the command")]
    fn prove<'py>(
        &self,
        py: Python<'py>,
        event: &Bound<'py, PyAny>,
        secret: PathBuf,
        output: PathBuf,
        reveal: Option<FieldNames>,
        checkpoint: Option<PathBuf>,
        policy: Option<PathBuf>,
        state: Option<PathBuf>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let events = proofs::Events::One(self.index_of(py, "event", event)?);
        let (bus, is_named) = (self.path.clone(), reveal.is_some());
        let reveal = reveal.map_or_else(Vec::new, |FieldNames(names)| names);
        let request = proofs::Request { bus, events, secret, reveal, checkpoint, policy, state, output };
        let proven = proof::prove(py, request)?;
        if !is_named {
            proof::warn_without_reveal(py)?;
        }
        Ok(proven)
    }

    /// Writes a proof of all events, or of those from `first` to `last`: a track record.
    #[pyo3(signature = (
        *, secret, output, reveal, first = None, last = None, checkpoint = None, policy = None, state = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are the options of the command")]
    fn prove_all<'py>(
        &self,
        py: Python<'py>,
        secret: PathBuf,
        output: PathBuf,
        reveal: FieldNames,
        first: Option<&Bound<'py, PyAny>>,
        last: Option<&Bound<'py, PyAny>>,
        checkpoint: Option<PathBuf>,
        policy: Option<PathBuf>,
        state: Option<PathBuf>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let first = first.map(|first| self.index_of(py, "first", first)).transpose()?;
        let last = last.map(|last| self.index_of(py, "last", last)).transpose()?;
        let (bus, events) = (self.path.clone(), proofs::Events::Range(first, last));
        let FieldNames(reveal) = reveal;
        proof::prove(py, proofs::Request { bus, events, secret, reveal, checkpoint, policy, state, output })
    }

    /// The audit document as canonical JSON.
    fn audit_json(&self, py: Python<'_>) -> PyResult<String> {
        let reader = self.reader.clone();
        let audit = move || {
            let mut document = Vec::new();
            reader.audit(&mut document, &mut |_| {}).map(|_| document)
        };
        let document = interruptible(py, audit)?.map_err(|error| match error {
            zero_bus::AuditError::Bus(error) => to_python(py, error),
            other => PyValueError::new_err(other.to_string()),
        })?;
        String::from_utf8(document).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn __fspath__(&self) -> OsString {
        self.path.as_os_str().to_owned()
    }

    fn __repr__(&self) -> String {
        format!("Reader('{}')", self.path.display())
    }
}

/// Reads the argument `since`: an index, an event id, an event or a head. Returns the index of the
/// first event after it.
pub(crate) fn first_after(since: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let Some(since) = since.filter(|since| !since.is_none()) else { return Ok(1) };
    Ok(index_named("since", since)?.saturating_add(1))
}

/// Returns the index of the event that an argument names.
fn index_named(argument: &str, event: &Bound<'_, PyAny>) -> PyResult<u64> {
    if let Ok(id) = event.cast::<PyString>() {
        let id = id.to_cow()?;
        let no_id = || PyValueError::new_err(format!("{argument}: not an event id: {id}"));
        return index_of_id(&id).ok_or_else(no_id);
    }
    expected_head(event).map(|head| head.index).map_err(|_| {
        let problem = "should be an event, an event id, a Head, or the index of an event, from 1 on";
        PyTypeError::new_err(format!("{argument}: {problem}"))
    })
}

/// Verified events in order, up to the end that the log had at the start.
#[pyclass(frozen, module = "zero_bus")]
pub(crate) struct EventIterator {
    state: Arc<Mutex<IteratorState>>,
}

/// Reads ahead, because waking a thread for each event would cost more than reading it.
struct IteratorState {
    events: Events,
    types: TypeFilter,
    ready: VecDeque<Event>,
    /// Comes after the events that are ready.
    error: Option<zero_bus::Error>,
    /// Events to read ahead next time: few at first, so that the first event comes at once.
    read_ahead: usize,
}

impl IteratorState {
    fn new(events: Events, types: TypeFilter) -> Self {
        Self { events, types, ready: VecDeque::new(), error: None, read_ahead: 4 }
    }

    fn fill(&mut self) {
        while self.ready.len() < self.read_ahead && self.error.is_none() {
            match self.events.next() {
                Some(Ok(event)) if self.types.matches(&event.event_type) => self.ready.push_back(event),
                Some(Ok(_)) => {}
                Some(Err(error)) => self.error = Some(error),
                None => break,
            }
        }
        self.read_ahead = MAX_READ_AHEAD.min(self.read_ahead * 4);
    }
}

#[pymethods]
impl EventIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<RuntimeBusEvent>> {
        let lock = |state: &Arc<Mutex<IteratorState>>| match state.try_lock() {
            Ok(mut state) => state.ready.pop_front(),
            // Another thread reads ahead.
            Err(_) => None,
        };
        if let Some(event) = lock(&self.state) {
            return Ok(Some(RuntimeBusEvent::recorded(event)));
        }
        let state = Arc::clone(&self.state);
        let next = interruptible(py, move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.ready.is_empty() {
                state.fill();
            }
            let event = state.ready.pop_front();
            match event {
                Some(event) => Ok(Some(event)),
                None => state.error.take().map_or(Ok(None), Err),
            }
        })?;
        next.map(|event| event.map(RuntimeBusEvent::recorded)).map_err(|error| to_python(py, error))
    }
}
