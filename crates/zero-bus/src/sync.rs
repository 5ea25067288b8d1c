//! The locks that threads of one process share.
//!
//! [`lock`] and [`wait`] ignore poisoning: a lock whose holder panicked is taken over. Every value
//! behind such a lock is therefore kept valid after each step, or carries a flag that says it is
//! not.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::yield_now;

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

/// A leader of [`crate::queue`] closes its batch after more than this many yields in a row without
/// receiving a job.
pub(crate) const MAX_IDLE_SPINS: usize = 30;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// A futex on which any number of threads sleep until it is opened. It never closes again.
///
/// While it is closed, one sleeping thread at a time can be nominated: it wakes, the others sleep
/// on.
pub(crate) struct Gate(AtomicU32);

/// Why [`Gate::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The gate is open.
    Opened,
    /// The gate is still closed, and this thread was nominated.
    Nominated,
}

const CLOSED: u32 = 0;
/// Closed, with a nomination that no thread has accepted yet.
const NOMINATING: u32 = 1;
const OPEN: u32 = 2;

impl Gate {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(CLOSED))
    }

    /// Sleeps until the gate is open or this thread is nominated. Returns at once from an open
    /// gate.
    pub(crate) fn wait(&self) -> Wake {
        loop {
            match self.0.load(Ordering::Acquire) {
                OPEN => return Wake::Opened,
                NOMINATING => {
                    if self.change(NOMINATING, CLOSED) {
                        return Wake::Nominated;
                    }
                }
                // Sleeps only while the value is still CLOSED, so no wake-up is lost in between.
                _ => atomic_wait::wait(&self.0, CLOSED),
            }
        }
    }

    /// Nominates one sleeping thread. If none sleeps yet, the next call of [`Gate::wait`] accepts
    /// the nomination. Has no effect on an open gate.
    pub(crate) fn nominate_one(&self) {
        if self.change(CLOSED, NOMINATING) {
            atomic_wait::wake_one(&self.0);
        }
    }

    /// Changes the state atomically. Returns whether the state was `from`.
    fn change(&self, from: u32, to: u32) -> bool {
        let changed = |state| (state == from).then_some(to);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed).is_ok()
    }

    /// Opens the gate for good and wakes all sleeping threads with one system call.
    pub(crate) fn open(&self) {
        self.0.store(OPEN, Ordering::Release);
        atomic_wait::wake_all(&self.0);
    }
}
