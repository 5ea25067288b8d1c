//! Group commit: jobs that come while one batch is being committed make up the next one. No timer, no delay: a job that
//! comes alone is committed alone, at once, by the thread that brought it.
//!
//! Whoever waits for its job and finds nobody committing takes everything that is waiting, commits it, tells each job's
//! owner, and hands on to one who is still waiting. Each sleeps on a condition of its own, so that nobody is woken in vain.
//!
//! This file names nothing but `crate::sync`, so that a test can put a model checker's locks beneath it.

use std::collections::VecDeque;

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, lock, wait};

/// Jobs `J` that wait to be committed, and their results `R`.
pub(crate) struct Queue<J, R> {
    state: Mutex<State<J, R>>,
    /// Told when there is something to commit that nobody waits for.
    unattended: Condvar,
}

struct State<J, R> {
    waiting: VecDeque<(J, Arc<Slot<R>>)>,
    /// Somebody is committing, and will look at what is waiting when it is done.
    committing: bool,
    closed: bool,
}

/// Where the result of a job is put.
pub(crate) struct Slot<R> {
    told: Mutex<Told<R>>,
    changed: Condvar,
}

struct Told<R> {
    /// The owner sleeps on it.
    attended: bool,
    /// It is the owner's turn to commit.
    lead: bool,
    result: Option<Outcome<R>>,
}

/// What became of a job.
enum Outcome<R> {
    Done(R),
    /// Who committed it panicked.
    Lost,
}

impl<J, R> Queue<J, R> {
    pub(crate) fn new() -> Self {
        let state = State { waiting: VecDeque::new(), committing: false, closed: false };
        Self { state: Mutex::new(state), unattended: Condvar::new() }
    }

    /// Puts a job in line.
    pub(crate) fn submit(&self, job: J) -> Arc<Slot<R>> {
        let told = Told { attended: false, lead: false, result: None };
        let slot = Arc::new(Slot { told: Mutex::new(told), changed: Condvar::new() });
        self.state().waiting.push_back((job, Arc::clone(&slot)));
        slot
    }

    /// Has somebody in [`Queue::attend`] see to what is waiting, if there is one and nobody else does.
    pub(crate) fn nudge(&self) {
        self.unattended.notify_one();
    }

    /// Waits until a job is committed, committing it and what else is waiting where nobody does. `None` where who
    /// committed it panicked.
    pub(crate) fn wait(&self, slot: &Slot<R>, commit: impl Fn(Vec<J>) -> Vec<R>) -> Option<R> {
        loop {
            let batch = {
                let mut state = self.state();
                let mut told = lock(&slot.told);
                if let Some(outcome) = told.result.take() {
                    return match outcome {
                        Outcome::Done(result) => Some(result),
                        Outcome::Lost => None,
                    };
                }
                told.attended = state.committing;
                told.lead = false;
                state.take()
            };
            match batch {
                Some(batch) => self.commit(batch, &commit),
                None => slot.sleep(),
            }
        }
    }

    /// Commits what nobody waits for, until the queue is closed and empty.
    pub(crate) fn attend(&self, commit: impl Fn(Vec<J>) -> Vec<R>) {
        let mut state = self.state();
        loop {
            if !state.waiting.is_empty()
                && let Some(batch) = state.take()
            {
                drop(state);
                self.commit(batch, &commit);
                state = self.state();
            } else if state.closed && state.waiting.is_empty() {
                return;
            } else {
                state = wait(&self.unattended, state);
            }
        }
    }

    /// Ends [`Queue::attend`] once nothing is waiting.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.unattended.notify_all();
    }

    fn commit(&self, batch: VecDeque<(J, Arc<Slot<R>>)>, commit: &impl Fn(Vec<J>) -> Vec<R>) {
        let (jobs, slots): (Vec<J>, Vec<Arc<Slot<R>>>) = batch.into_iter().unzip();
        // Also if `commit` panics, everybody is told and somebody goes on.
        let mut turn = Turn { queue: self, slots: slots.into_iter() };
        let results = commit(jobs);
        for (result, slot) in results.into_iter().zip(&mut turn.slots) {
            slot.tell(Outcome::Done(result));
        }
    }

    fn state(&self) -> MutexGuard<'_, State<J, R>> {
        lock(&self.state)
    }
}

impl<J, R> State<J, R> {
    /// Everything that is waiting, for whoever asks to commit it; `None` while somebody else commits.
    fn take(&mut self) -> Option<VecDeque<(J, Arc<Slot<R>>)>> {
        if self.committing {
            return None;
        }
        self.committing = true;
        Some(std::mem::take(&mut self.waiting))
    }
}

/// Somebody's turn to commit; its end hands on.
struct Turn<'a, J, R> {
    queue: &'a Queue<J, R>,
    /// Who was not told yet.
    slots: std::vec::IntoIter<Arc<Slot<R>>>,
}

impl<J, R> Drop for Turn<'_, J, R> {
    fn drop(&mut self) {
        self.slots.by_ref().for_each(|slot| slot.tell(Outcome::Lost));
        let mut state = self.queue.state();
        state.committing = false;
        // Under the queue's lock: who is not attending yet will find that nobody commits.
        let next = state.waiting.iter().find(|(_, slot)| slot.call_upon());
        // Who attends ends only when nothing is waiting, so it wants to know of that too.
        if next.is_none() && (state.closed || !state.waiting.is_empty()) {
            self.queue.unattended.notify_one();
        }
    }
}

impl<R> Slot<R> {
    fn tell(&self, outcome: Outcome<R>) {
        lock(&self.told).result = Some(outcome);
        self.changed.notify_one();
    }

    /// Has the owner commit, if it sleeps.
    fn call_upon(&self) -> bool {
        let mut told = lock(&self.told);
        if told.attended {
            told.lead = true;
            self.changed.notify_one();
        }
        told.attended
    }

    /// Sleeps until there is a result, or it is this one's turn.
    fn sleep(&self) {
        let mut told = lock(&self.told);
        while told.result.is_none() && !told.lead {
            told = wait(&self.changed, told);
        }
        told.attended = false;
    }
}
