//! A model checker's locks in the place of `zero_bus::sync`: `queue.rs` is compiled over them in `queue_model.rs`.

#![allow(dead_code)]

pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread::yield_now;

pub(crate) const PATIENCE: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Open,
    Called,
}

/// What the gate is to do, of the model checker's parts. The real one is a futex; that it sleeps only while nothing
/// has changed is the system's promise.
pub(crate) struct Gate {
    /// Whether it is open, and whether it calls somebody.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new((false, false)), changed: Condvar::new() }
    }

    pub(crate) fn wait(&self) -> Passed {
        let mut state = lock(&self.state);
        loop {
            if state.0 {
                return Passed::Open;
            }
            if std::mem::take(&mut state.1) {
                return Passed::Called;
            }
            state = wait(&self.changed, state);
        }
    }

    pub(crate) fn call_one(&self) {
        lock(&self.state).1 = true;
        self.changed.notify_one();
    }

    pub(crate) fn open(&self) {
        lock(&self.state).0 = true;
        self.changed.notify_all();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner)
}
