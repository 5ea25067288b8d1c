//! Following a log.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use zero_bus::{CancelHandle, Event};

use crate::error::to_python;
use crate::event::RuntimeBusEvent;
use crate::handle::Handle;
use crate::type_filter::TypeFilter;
use crate::wait::{SIGNAL_INTERVAL, interruptible};

/// Most events that one wait makes ready.
const MAX_READY: usize = 256;

/// Events as they become durable: an iterator, and an asynchronous one.
///
/// It ends after a `cancel()`, which any thread may call, and after an error.
#[pyclass(frozen, weakref, module = "zero_bus")]
pub(crate) struct Follow {
    handle: Handle<State>,
    cancel: CancelHandle,
}

struct State {
    follow: Mutex<zero_bus::Follow>,
    types: TypeFilter,
    /// Events that a wait has read. A wait that was interrupted leaves its events here, so that
    /// none is lost.
    ready: Mutex<VecDeque<Event>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Waits until an event is ready. Returns false if the timeout ended or the follower was
    /// cancelled.
    fn wait(&self, timeout: Duration) -> zero_bus::Result<bool> {
        let deadline = Instant::now() + timeout;
        let mut follow = lock(&self.follow);
        if !lock(&self.ready).is_empty() {
            return Ok(true);
        }
        loop {
            let Some(event) = follow.next_timeout(deadline.saturating_duration_since(Instant::now()))? else {
                return Ok(false);
            };
            if !self.types.matches(&event.event_type) {
                continue;
            }
            let mut ready = lock(&self.ready);
            ready.push_back(event);
            // What else is there costs no wait.
            while ready.len() < MAX_READY {
                // An error comes again at the next wait.
                let Ok(Some(event)) = follow.next_timeout(Duration::ZERO) else { break };
                if self.types.matches(&event.event_type) {
                    ready.push_back(event);
                }
            }
            return Ok(true);
        }
    }
}

impl Follow {
    pub(crate) fn new(path: PathBuf, follow: zero_bus::Follow, types: TypeFilter) -> Self {
        let cancel = follow.cancel_handle();
        let state = State { follow: Mutex::new(follow), types, ready: Mutex::default() };
        Self { handle: Handle::new("follower", path, state), cancel }
    }

    fn take_ready(&self, py: Python<'_>) -> PyResult<Option<RuntimeBusEvent>> {
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let event = lock(&self.handle.get(py)?.ready).pop_front();
        Ok(event.map(RuntimeBusEvent::recorded))
    }
}

#[pymethods]
impl Follow {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<RuntimeBusEvent>> {
        self.next(py, None)
    }

    /// Returns the next event, and waits for it for at most `timeout` seconds. None if the timeout
    /// ended, or if the follower was cancelled.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<RuntimeBusEvent>> {
        let timeout = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.take_ready(py)? {
                return Ok(Some(event));
            }
            if self.cancel.is_cancelled() {
                return Ok(None);
            }
            let remaining =
                deadline.map_or(SIGNAL_INTERVAL, |at| at.saturating_duration_since(Instant::now()));
            let (state, wait) = (self.handle.get(py)?, remaining.min(SIGNAL_INTERVAL));
            let is_ready =
                interruptible(py, move || state.wait(wait))?.map_err(|error| to_python(py, error))?;
            if !is_ready {
                py.check_signals()?;
                if deadline.is_some_and(|at| at <= Instant::now()) {
                    return Ok(None);
                }
            }
        }
    }

    /// Waits for at most `timeout` seconds until an event is ready. For threads other than the main
    /// one.
    fn _wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let state = self.handle.get(py)?;
        let wait = Duration::try_from_secs_f64(timeout).unwrap_or(SIGNAL_INTERVAL);
        interruptible(py, move || state.wait(wait))?.map_err(|error| to_python(py, error))
    }

    /// Returns an event that is ready.
    fn _take(&self, py: Python<'_>) -> PyResult<Option<RuntimeBusEvent>> {
        self.take_ready(py)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("zero_bus._awaiting")?.call_method1("next_event", (slf,))
    }

    /// Ends the follower, for good, from any thread.
    fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Whether the follower was cancelled.
    #[getter]
    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// A warning if the follower has to poll, because the system has no inotify watch left.
    fn warning(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let state = self.handle.get(py)?;
        let warning = lock(&state.follow).warning().map(str::to_owned);
        Ok(warning)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) {
        self.cancel();
    }
}
