//! The locks that threads of one process share. A lock whose holder panicked is taken over: what it guards is kept
//! right at every step, or says itself that it is not.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::yield_now;

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often others are let run in vain.
pub(crate) const PATIENCE: usize = 30;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Many sleep at it until it is opened for good; before that, one of them can be called.
pub(crate) struct Gate(AtomicU32);

/// How somebody came past a [`Gate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// It is open.
    Open,
    /// This one was called.
    Called,
}

const SHUT: u32 = 0;
const CALLS: u32 = 1;
const OPEN: u32 = 2;

impl Gate {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(SHUT))
    }

    pub(crate) fn wait(&self) -> Passed {
        loop {
            match self.0.load(Ordering::Acquire) {
                OPEN => return Passed::Open,
                CALLS => {
                    if self.turn(CALLS, SHUT) {
                        return Passed::Called;
                    }
                }
                _ => atomic_wait::wait(&self.0, SHUT),
            }
        }
    }

    /// Calls one of those who sleep here, or who next comes to.
    pub(crate) fn call_one(&self) {
        if self.turn(SHUT, CALLS) {
            atomic_wait::wake_one(&self.0);
        }
    }

    /// Turns it from one position to another, unless somebody was faster.
    fn turn(&self, from: u32, to: u32) -> bool {
        let turned = |position| (position == from).then_some(to);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, turned).is_ok()
    }

    pub(crate) fn open(&self) {
        self.0.store(OPEN, Ordering::Release);
        atomic_wait::wake_all(&self.0);
    }
}
