//! Group commit: jobs that come while one batch is being committed make up the next one. No timer, no delay: a job that
//! comes alone is committed alone, at once, by the thread that brought it.
//!
//! Whoever waits for its job and finds nobody committing takes everything that is waiting, commits it, and hands on to one
//! who is waiting for the next batch. All who wait for a batch sleep at one gate, which one system call opens: with one
//! for each, waking them costs more than the sync.
//!
//! This file names nothing but `crate::sync`, so that a test can put a model checker's locks beneath it.

use std::collections::VecDeque;

use crate::sync::{Arc, Condvar, Gate, Mutex, MutexGuard, PATIENCE, Passed, lock, wait, yield_now};

/// Jobs `J` that wait to be committed, and their results `R`.
pub(crate) struct Queue<J, R> {
    state: Mutex<State<J, R>>,
    /// Told when there is something to commit that nobody waits for.
    unattended: Condvar,
}

struct State<J, R> {
    waiting: Line<J, R>,
    /// Where those sleep who wait for what is in `waiting`.
    gate: Arc<Gate>,
    /// How many do, or are about to.
    asleep: usize,
    /// Somebody is committing, and will look at what is waiting when it is done.
    committing: bool,
    closed: bool,
    /// How many there were around the last batch: in it, and in line when it was done.
    company: usize,
}

/// Jobs in line, each with where its result is put.
type Line<J, R> = VecDeque<(J, Arc<Slot<R>>)>;

/// Where the result of a job is put.
pub(crate) struct Slot<R> {
    gate: Arc<Gate>,
    result: Mutex<Option<Outcome<R>>>,
}

/// What became of a job.
enum Outcome<R> {
    Done(R),
    /// Who committed it panicked.
    Lost,
}

impl<J, R> Queue<J, R> {
    pub(crate) fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            gate: Arc::new(Gate::new()),
            asleep: 0,
            committing: false,
            closed: false,
            company: 0,
        };
        Self { state: Mutex::new(state), unattended: Condvar::new() }
    }

    /// Puts a job in line.
    pub(crate) fn submit(&self, job: J) -> Arc<Slot<R>> {
        let mut state = self.state();
        let slot = Arc::new(Slot { gate: Arc::clone(&state.gate), result: Mutex::new(None) });
        state.waiting.push_back((job, Arc::clone(&slot)));
        slot
    }

    /// Has somebody in [`Queue::attend`] see to what is waiting, if there is one and nobody else does.
    pub(crate) fn nudge(&self) {
        self.unattended.notify_one();
    }

    /// Waits until a job is committed, committing it and what else is waiting where nobody does. `None` where who
    /// committed it panicked.
    pub(crate) fn wait(&self, slot: &Slot<R>, commit: impl Fn(Vec<J>) -> Vec<R>) -> Option<R> {
        let mut called = false;
        loop {
            let mut state = self.state();
            if let Some(outcome) = lock(&slot.result).take() {
                return match outcome {
                    Outcome::Done(result) => Some(result),
                    Outcome::Lost => None,
                };
            }
            // What is no longer waiting, and has no result, is being committed.
            let in_line = Arc::ptr_eq(&state.gate, &slot.gate);
            if called && in_line {
                state.asleep -= 1;
            }
            if in_line && state.begin() {
                drop(state);
                self.commit(&commit);
                called = false;
            } else {
                state.asleep += usize::from(in_line);
                drop(state);
                called = slot.gate.wait() == Passed::Called;
            }
        }
    }

    /// Commits what nobody waits for, until the queue is closed and empty.
    pub(crate) fn attend(&self, commit: impl Fn(Vec<J>) -> Vec<R>) {
        let mut state = self.state();
        loop {
            if !state.waiting.is_empty() && state.begin() {
                drop(state);
                self.commit(&commit);
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

    /// What is waiting, and what those are about to bring who were just told of their last: as long as there are fewer
    /// than there were, others are let run, and asked for again. That is no delay: where nobody wants to run, or nobody
    /// brings anything, it ends at once.
    fn gather(&self) -> (Line<J, R>, Arc<Gate>) {
        let (mut seen, mut in_vain) = (0, 0);
        loop {
            let mut state = self.state();
            let there = state.waiting.len();
            in_vain = if there > seen { 0 } else { in_vain + 1 };
            seen = there;
            if there >= state.company || in_vain > PATIENCE {
                state.asleep = 0;
                let gate = std::mem::replace(&mut state.gate, Arc::new(Gate::new()));
                return (std::mem::take(&mut state.waiting), gate);
            }
            drop(state);
            yield_now();
        }
    }

    /// Commits what is waiting, for whoever has [begun](State::begin).
    fn commit(&self, commit: &impl Fn(Vec<J>) -> Vec<R>) {
        let (batch, gate) = self.gather();
        let company = batch.len();
        let (jobs, slots): (Vec<J>, Vec<Arc<Slot<R>>>) = batch.into_iter().unzip();
        // Also if `commit` panics, everybody is told and somebody goes on.
        let mut turn = Turn { queue: self, gate, slots: slots.into_iter(), company };
        let results = commit(jobs);
        for (result, slot) in results.into_iter().zip(&mut turn.slots) {
            slot.put(Outcome::Done(result));
        }
    }

    fn state(&self) -> MutexGuard<'_, State<J, R>> {
        lock(&self.state)
    }
}

impl<J, R> State<J, R> {
    /// Makes it the caller's turn to commit, unless it is somebody else's.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.committing, true)
    }
}

/// Somebody's turn to commit; its end hands on.
struct Turn<'a, J, R> {
    queue: &'a Queue<J, R>,
    /// Where those sleep whose jobs these are.
    gate: Arc<Gate>,
    /// Who was not told yet.
    slots: std::vec::IntoIter<Arc<Slot<R>>>,
    company: usize,
}

impl<J, R> Drop for Turn<'_, J, R> {
    fn drop(&mut self) {
        self.slots.by_ref().for_each(|slot| slot.put(Outcome::Lost));
        let mut state = self.queue.state();
        state.committing = false;
        state.company = self.company + state.waiting.len();
        // Under the queue's lock: who is not asleep yet will find that nobody commits.
        if !state.waiting.is_empty() && state.asleep > 0 {
            state.gate.call_one();
        } else if state.closed || !state.waiting.is_empty() {
            // Who attends ends only when nothing is waiting, so it wants to know of that too.
            self.queue.unattended.notify_one();
        }
        drop(state);
        self.gate.open();
    }
}

impl<R> Slot<R> {
    fn put(&self, outcome: Outcome<R>) {
        *lock(&self.result) = Some(outcome);
    }
}
