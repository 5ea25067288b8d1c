//! The model checker's locks in place of `zero_bus::sync`: `queue_model.rs` compiles `queue.rs`
//! over them.

#![allow(dead_code)]

pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread::yield_now;

pub(crate) const MAX_IDLE_SPINS: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Opened,
    Nominated,
}

/// The contract of the real gate, built from a mutex and a condition variable. The real one is a
/// futex; the kernel guarantees that a thread falls asleep only while the value is unchanged.
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: bool,
    nominating: bool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    pub(crate) fn wait(&self) -> Wake {
        let mut state = lock(&self.state);
        loop {
            if state.open {
                return Wake::Opened;
            }
            if std::mem::take(&mut state.nominating) {
                return Wake::Nominated;
            }
            state = wait(&self.changed, state);
        }
    }

    pub(crate) fn nominate_one(&self) {
        lock(&self.state).nominating = true;
        self.changed.notify_one();
    }

    pub(crate) fn open(&self) {
        lock(&self.state).open = true;
        self.changed.notify_all();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner)
}
