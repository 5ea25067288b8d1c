//! Calls that wait: without the GIL, and so that Ctrl-C ends them.
//!
//! Python runs signal handlers on the main thread only, and only while that thread holds the GIL.
//! So the main thread hands the work to a worker thread and looks for signals while it waits. Any
//! other thread does its work itself. So does the main thread if the work waits for nothing but one
//! sync of the disk: handing it over would cost a part of that.
//!
//! An interrupted call has not undone its work: the worker completes it in the background.

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// How often a wait on the main thread lets Python run its signal handlers. Ctrl-C should end every
/// wait within 200 ms, and a call can wait twice in a row.
pub(crate) const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Turns of a loop between two looks at signals. A turn takes some microseconds.
const TURNS_PER_CHECK: usize = 1_024;

/// How long a worker stays awake after a job. A program that appends in a loop has the next one
/// within some microseconds, and waking a thread takes several times as long.
const AWAKE: Duration = Duration::from_micros(50);

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does what the main thread waits for. It ends when it is dropped and idle.
struct Worker {
    /// The process that started the thread. After a fork, the child has no such thread.
    process_id: u32,
    jobs: mpsc::Sender<Job>,
}

thread_local! {
    /// The idle worker of this thread. Taken out while it works, because a signal handler may wait,
    /// too.
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    /// The process in which this thread is, or is not, Python's main thread.
    static IS_MAIN: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

/// Does `work` without the GIL. On the main thread, a signal handler that raises ends the wait.
///
/// # Errors
/// What a signal handler raised. The work is then completed in the background, and its result
/// dropped.
pub(crate) fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    if is_main_thread(py)? { on_worker(py, work, |_| Ok(())) } else { Ok(py.detach(work)) }
}

/// As [`interruptible`], but the main thread does the work itself if `is_prompt` returns true: if
/// the work takes so little time that a signal can wait for its end. Both run without the GIL.
///
/// # Errors
/// As [`interruptible`].
pub(crate) fn interruptible_unless<T: Send + 'static>(
    py: Python<'_>,
    is_prompt: impl FnOnce() -> bool + Send,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    if !is_main_thread(py)? {
        return Ok(py.detach(work));
    }
    match py.detach(|| if is_prompt() { Ok(work()) } else { Err(work) }) {
        Ok(result) => Ok(result),
        Err(work) => on_worker(py, work, |_| Ok(())),
    }
}

/// Does `work` on a worker thread and calls `tick` about every [`SIGNAL_INTERVAL`].
///
/// # Errors
/// As [`interruptible`], and what `tick` raised.
pub(crate) fn on_worker<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
    mut tick: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    let process_id = std::process::id();
    let idle = WORKER.with_borrow_mut(Option::take);
    let worker = match idle {
        Some(worker) if worker.process_id == process_id => worker,
        other => {
            // The channel of a worker of the parent process may be locked forever.
            std::mem::forget(other);
            match start_worker(process_id) {
                Some(worker) => worker,
                // No thread is left in this process or system.
                None => return Ok(py.detach(work)),
            }
        }
    };
    let (sender, mut receiver) = mpsc::sync_channel(1);
    let job = move || drop(sender.send(work()));
    if worker.jobs.send(Box::new(job)).is_err() {
        return Err(PyRuntimeError::new_err("a thread of zero_bus has ended unexpectedly"));
    }
    loop {
        let received;
        (received, receiver) = py.detach(move || (receiver.recv_timeout(SIGNAL_INTERVAL), receiver));
        match received {
            Ok(result) => {
                WORKER.set(Some(worker));
                return Ok(result);
            }
            Err(RecvTimeoutError::Timeout) => {
                py.check_signals()?;
                tick(py)?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("a thread of zero_bus has panicked; see standard error"));
            }
        }
    }
}

/// Lets Python run its signal handlers, once in a while. For a loop that holds the GIL, with the
/// number of its turn.
///
/// # Errors
/// What a signal handler raised.
pub(crate) fn check_signals_at(py: Python<'_>, turn: usize) -> PyResult<()> {
    if turn.is_multiple_of(TURNS_PER_CHECK) { py.check_signals() } else { Ok(()) }
}

fn start_worker(process_id: u32) -> Option<Worker> {
    let (jobs, receiver) = mpsc::channel::<Job>();
    let work = move || {
        while let Some(job) = next_job(&receiver) {
            job();
        }
    };
    thread::Builder::new().name("zero-bus worker".to_owned()).spawn(work).ok()?;
    Some(Worker { process_id, jobs })
}

/// Waits for the next job; `None` once no more can come.
fn next_job(jobs: &mpsc::Receiver<Job>) -> Option<Job> {
    let begin = Instant::now();
    while begin.elapsed() < AWAKE {
        match jobs.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
    jobs.recv().ok()
}

/// Returns whether Python runs signal handlers on this thread.
pub(crate) fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static THREADING: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let process_id = std::process::id();
    if let Some((_, is_main)) = IS_MAIN.get().filter(|(known_in, _)| *known_in == process_id) {
        return Ok(is_main);
    }
    let threading =
        THREADING.get_or_try_init(py, || PyResult::Ok(py.import("threading")?.unbind()))?.bind(py);
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    let is_main = main.eq(threading.call_method0("get_ident")?)?;
    IS_MAIN.set(Some((process_id, is_main)));
    Ok(is_main)
}
