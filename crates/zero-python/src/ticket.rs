//! Submitted events: the future of each, and the thread that resolves them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use zero_bus::Event;

use crate::error::to_python;
use crate::event::RuntimeBusEvent;
use crate::wait::SIGNAL_INTERVAL;

/// What the tickets and the resolver thread of one handle share.
pub(crate) struct Pending {
    process_id: u32,
    max_bytes: usize,
    state: Mutex<PendingState>,
    /// Signalled when bytes are released, and for the resolver when a submission arrives.
    changed: Condvar,
    arrived: Condvar,
}

#[derive(Default)]
struct PendingState {
    /// Bytes of submitted events that are not resolved.
    bytes: usize,
    /// Submitted events that are not resolved.
    count: usize,
    queue: VecDeque<Submission>,
    /// Exists while there is something to resolve.
    has_resolver: bool,
    was_used: bool,
}

struct Submission {
    ticket: zero_bus::Ticket,
    outcome: Arc<Outcome>,
    size_bytes: usize,
}

/// How a submission ended, once that is known.
struct Outcome {
    state: Mutex<OutcomeState>,
    resolved: Condvar,
    /// The exception of a failed submission, created when somebody asks for it.
    exception: PyOnceLock<PyErr>,
}

#[derive(Default)]
struct OutcomeState {
    /// The event; `None` after a failure.
    result: Option<Option<Event>>,
    /// The reason of a failure, until `Outcome::exception` has it.
    error: Option<zero_bus::Error>,
    callbacks: Vec<(Py<PyAny>, Py<PyAny>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pending {
    pub(crate) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            process_id: std::process::id(),
            max_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
            arrived: Condvar::new(),
        })
    }

    /// Waits until there is room for an event, and takes it.
    pub(crate) fn reserve(&self, py: Python<'_>, size_bytes: usize) -> PyResult<()> {
        let has_room = |state: &PendingState| state.bytes == 0 || state.bytes + size_bytes <= self.max_bytes;
        {
            let mut state = lock(&self.state);
            if has_room(&state) {
                state.bytes += size_bytes;
                return Ok(());
            }
        }
        loop {
            let reserved = py.detach(|| {
                let state = lock(&self.state);
                let waited =
                    self.changed.wait_timeout_while(state, SIGNAL_INTERVAL, |state| !has_room(state));
                let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                let reserved = has_room(&state);
                if reserved {
                    state.bytes += size_bytes;
                }
                reserved
            });
            if reserved {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// Gives back the room of an event that was not submitted.
    pub(crate) fn release(&self, size_bytes: usize) {
        lock(&self.state).bytes -= size_bytes;
        self.changed.notify_all();
    }

    /// Hands a submission to the resolver. Also returns whether it is the first one.
    pub(crate) fn add(
        self: &Arc<Self>,
        py: Python<'_>,
        ticket: zero_bus::Ticket,
        size_bytes: usize,
    ) -> PyResult<(Ticket, bool)> {
        let outcome = Arc::new(Outcome {
            state: Mutex::default(),
            resolved: Condvar::new(),
            exception: PyOnceLock::new(),
        });
        let mut state = lock(&self.state);
        state.queue.push_back(Submission { ticket, outcome: Arc::clone(&outcome), size_bytes });
        state.count += 1;
        let is_first = !std::mem::replace(&mut state.was_used, true);
        let starts = !std::mem::replace(&mut state.has_resolver, true);
        drop(state);
        if starts {
            let pending = Arc::clone(self);
            let resolver = thread::Builder::new().name("zero-bus resolve".to_owned());
            if resolver.spawn(move || pending.resolve()).is_err() {
                lock(&self.state).has_resolver = false;
                // The event is submitted, so its outcome must become known: this thread finds out.
                py.detach(|| self.resolve_queued());
            }
        } else {
            self.arrived.notify_one();
        }
        Ok((Ticket { outcome, process_id: self.process_id }, is_first))
    }

    /// Resolves submissions in order. Ends after it was idle for a while.
    fn resolve(&self) {
        const IDLE: Duration = Duration::from_secs(1);
        loop {
            self.resolve_queued();
            let state = lock(&self.state);
            let waited = self.arrived.wait_timeout_while(state, IDLE, |state| state.queue.is_empty());
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.queue.is_empty() {
                state.has_resolver = false;
                return;
            }
        }
    }

    fn resolve_queued(&self) {
        loop {
            let batch = std::mem::take(&mut lock(&self.state).queue);
            if batch.is_empty() {
                return;
            }
            for Submission { ticket, outcome, size_bytes } in batch {
                outcome.resolve(ticket.wait());
                let mut state = lock(&self.state);
                state.bytes -= size_bytes;
                state.count -= 1;
                drop(state);
                self.changed.notify_all();
            }
        }
    }

    /// Waits until every submission is resolved.
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        // A child has no resolver.
        while self.process_id == std::process::id() {
            let is_empty = py.detach(|| {
                let state = lock(&self.state);
                let waited = self.changed.wait_timeout_while(state, SIGNAL_INTERVAL, |state| state.count > 0);
                waited.unwrap_or_else(PoisonError::into_inner).0.count == 0
            });
            if is_empty {
                break;
            }
            py.check_signals()?;
        }
        Ok(())
    }
}

impl Outcome {
    fn resolve(&self, result: Result<Event, zero_bus::Error>) {
        let mut state = lock(&self.state);
        match result {
            Ok(event) => state.result = Some(Some(event)),
            Err(error) => {
                state.result = Some(None);
                state.error = Some(error);
            }
        }
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        self.resolved.notify_all();
        if !callbacks.is_empty() {
            // Fails when the interpreter has ended; nobody is left to be called then.
            let _ = Python::try_attach(|py| {
                callbacks.into_iter().for_each(|(callback, ticket)| call(py, &callback, &ticket));
            });
        }
    }
}

impl Outcome {
    /// The exception of a failed submission. Always the same one, as of any future.
    fn exception(&self, py: Python<'_>) -> PyErr {
        let create = || {
            let error = lock(&self.state).error.take();
            error.map_or_else(|| PyRuntimeError::new_err("the event failed"), |error| to_python(py, error))
        };
        self.exception.get_or_init(py, create).clone_ref(py)
    }
}

/// Calls back, and reports an exception as unraisable: nobody waits for it.
fn call(py: Python<'_>, callback: &Py<PyAny>, ticket: &Py<PyAny>) {
    if let Err(error) = callback.call1(py, (ticket,)) {
        error.write_unraisable(py, Some(callback.bind(py)));
    }
}

/// The future of a submitted event.
///
/// It has the methods of `concurrent.futures.Future`, and can be awaited. It cannot be cancelled:
/// the event is on its way to the disk.
#[pyclass(frozen, weakref, module = "zero_bus")]
pub(crate) struct Ticket {
    outcome: Arc<Outcome>,
    process_id: u32,
}

impl Ticket {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// A timeout, and what a signal handler raised.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Result<Event, PyErr>> {
        // A timeout beyond the range of the clock has no deadline.
        let timeout = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout?));
        loop {
            let result = lock(&self.outcome.state).result.clone();
            match result {
                Some(Some(event)) => return Ok(Ok(event)),
                Some(None) => return Ok(Err(self.outcome.exception(py))),
                None => {}
            }
            if std::process::id() != self.process_id {
                return Err(PyRuntimeError::new_err("the event was submitted by the parent of this process"));
            }
            let remaining =
                deadline.map_or(SIGNAL_INTERVAL, |at| at.saturating_duration_since(Instant::now()));
            if remaining.is_zero() {
                return Err(PyTimeoutError::new_err("the event is not durable yet"));
            }
            py.detach(|| {
                let state = lock(&self.outcome.state);
                let wait = remaining.min(SIGNAL_INTERVAL);
                drop(self.outcome.resolved.wait_timeout_while(state, wait, |state| state.result.is_none()));
            });
            py.check_signals()?;
        }
    }
}

#[pymethods]
impl Ticket {
    /// Waits until the event is durable, and returns it.
    #[pyo3(signature = (timeout = None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<RuntimeBusEvent> {
        self.wait(py, timeout)?.map(RuntimeBusEvent::recorded)
    }

    /// Waits until the event is durable or has failed, and returns the exception or None.
    #[pyo3(signature = (timeout = None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<PyErr>> {
        Ok(self.wait(py, timeout)?.err())
    }

    /// Whether the event is durable or has failed.
    fn done(&self) -> bool {
        lock(&self.outcome.state).result.is_some()
    }

    /// Always false: the event is on its way to the disk.
    fn cancel(&self) -> bool {
        false
    }

    /// Always false.
    fn cancelled(&self) -> bool {
        false
    }

    /// Whether the event is on its way to the disk.
    fn running(&self) -> bool {
        !self.done()
    }

    /// Calls `callback(ticket)` once the event is durable or has failed: at once, or on a thread of
    /// the bus.
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>) {
        let ticket = slf.clone().into_any().unbind();
        let mut state = lock(&slf.get().outcome.state);
        if state.result.is_none() {
            state.callbacks.push((callback, ticket));
            return;
        }
        drop(state);
        call(slf.py(), &callback, &ticket);
    }

    /// A `concurrent.futures.Future` with the same outcome, for the functions of that module that
    /// take no other class.
    fn future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("zero_bus._awaiting")?.call_method1("concurrent_future_of", (slf,))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let future = py.import("zero_bus._awaiting")?.call_method1("future_of", (slf,))?;
        future.call_method0("__await__")
    }
}
