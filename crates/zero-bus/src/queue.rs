//! Group commit: jobs that come while one batch is being committed make up the next one. No timer, no delay: a job that
//! comes alone is committed alone, at once, by the thread that brought it.
//!
//! Whoever waits for its job and finds nobody committing does it: it takes jobs one by one as they come, works on them
//! while others are still bringing theirs, commits them all, and hands on to one who is waiting for the next batch. All who
//! wait for a batch sleep at one gate, which one system call opens: with one for each, waking them costs more than the sync.
//!
//! Those who wait bring one job each to a batch. Those who hand in and go on would make it grow without end, so they wait
//! once there is [enough](Queue::new) in it.
//!
//! This file names nothing but `crate::sync`, so that a test can put a model checker's locks beneath it.

use std::collections::VecDeque;

use crate::sync::{Arc, Condvar, Gate, Mutex, MutexGuard, PATIENCE, Passed, lock, wait, yield_now};

/// Jobs `J` that wait to be committed, and their results `R`.
pub(crate) struct Queue<J, R> {
    state: Mutex<State<J, R>>,
    /// Told when there is something to commit that nobody waits for.
    unattended: Condvar,
    /// How much may be handed in for one batch before others wait for the next.
    enough: usize,
}

struct State<J, R> {
    waiting: Line<J, R>,
    /// Where those sleep who wait for what is in `waiting`.
    gate: Arc<Gate>,
    /// How many do, or are about to.
    asleep: usize,
    /// How much was handed in of what they wait for, and of what is in its batch already.
    handed_in: usize,
    /// Somebody is committing, and will look at what is waiting when it is done.
    committing: bool,
    closed: bool,
    /// How many there were around the last batch: in it, and in line when it was done.
    last_batch_len: usize,
}

/// Jobs in line, each with where its result is put.
type Line<J, R> = VecDeque<(J, Arc<Slot<R>>)>;

/// Where the result of a job is put, before the gate is opened. Where there is none then, who committed it panicked.
pub(crate) struct Slot<R> {
    gate: Arc<Gate>,
    result: Mutex<Option<R>>,
}

impl<J, R> Queue<J, R> {
    /// A queue whose batches are complete when as much as `enough` was [handed in](Queue::submit).
    pub(crate) fn new(enough: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            gate: Arc::new(Gate::new()),
            asleep: 0,
            handed_in: 0,
            committing: false,
            closed: false,
            last_batch_len: 0,
        };
        Self { state: Mutex::new(state), unattended: Condvar::new(), enough }
    }

    /// Puts a job of some size in line, at once unless there is enough in it: then waits for that, as in [`Queue::wait`].
    pub(crate) fn submit(
        &self,
        job: J,
        size: usize,
        commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>,
    ) -> Arc<Slot<R>> {
        let mut state = self.state();
        while state.handed_in >= self.enough {
            let gate = Arc::clone(&state.gate);
            self.pass(state, &gate, &commit);
            state = self.state();
        }
        state.handed_in += size;
        state.enter(job)
    }

    /// Has somebody in [`Queue::run_committer`] see to what is waiting, if there is one and nobody else does.
    pub(crate) fn wake(&self) {
        self.unattended.notify_one();
    }

    /// Puts a job in line and waits for it, see [`Queue::wait`].
    pub(crate) fn submit_and_wait(
        &self,
        job: J,
        commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>,
    ) -> Option<R> {
        let mut state = self.state();
        if state.waiting.is_empty() && state.begin() {
            // Nobody is before it, so it need not wait in line for itself.
            drop(state);
            return self.commit(Some(job), &commit);
        }
        let slot = state.enter(job);
        self.pass(state, &slot.gate, &commit);
        lock(&slot.result).take()
    }

    /// Waits until a job is committed, committing it and what else comes where nobody does. `None` where who committed it
    /// panicked.
    pub(crate) fn wait(&self, slot: &Slot<R>, commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>) -> Option<R> {
        self.pass(self.state(), &slot.gate, &commit);
        lock(&slot.result).take()
    }

    /// Waits at a gate until it is open, committing what is behind it where nobody does.
    fn pass<'q>(
        &'q self,
        mut state: MutexGuard<'q, State<J, R>>,
        gate: &Arc<Gate>,
        commit: &impl Fn(&mut Batch<'_, J, R>) -> Vec<R>,
    ) {
        loop {
            // Otherwise its batch is complete, and who commits it opens the gate.
            if Arc::ptr_eq(&state.gate, gate) {
                if state.begin() {
                    drop(state);
                    self.commit(None, commit);
                } else {
                    state.asleep += 1;
                    drop(state);
                }
            } else {
                drop(state);
            }
            if gate.wait() == Passed::Open {
                return;
            }
            state = self.state();
            if Arc::ptr_eq(&state.gate, gate) {
                state.asleep -= 1;
            }
        }
    }

    /// Commits what nobody waits for, until the queue is closed and empty, and what was in it is committed.
    pub(crate) fn run_committer(&self, commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>) {
        let mut state = self.state();
        loop {
            if !state.waiting.is_empty() && state.begin() {
                drop(state);
                self.commit(None, &commit);
                state = self.state();
            } else if state.closed && state.waiting.is_empty() && !state.committing {
                // Nor is anything being committed that somebody else took.
                return;
            } else {
                state = wait(&self.unattended, state);
            }
        }
    }

    /// Ends [`Queue::run_committer`] once nothing is waiting.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.unattended.notify_all();
    }

    /// Commits a job that was brought, what is waiting and what comes, for whoever has [begun](State::begin). Gives what
    /// became of the job that was brought.
    fn commit(&self, brought: Option<J>, commit: &impl Fn(&mut Batch<'_, J, R>) -> Vec<R>) -> Option<R> {
        let alone = usize::from(brought.is_some());
        // Also if `commit` panics, everybody is woken and somebody goes on.
        let mut batch = Batch {
            queue: self,
            brought,
            alone,
            complete: false,
            gate: None,
            slots: Vec::new(),
            idle_spins: 0,
        };
        let mut results = commit(&mut batch).into_iter();
        let of_brought = if alone > 0 { results.next() } else { None };
        for (result, slot) in results.zip(&batch.slots) {
            *lock(&slot.result) = Some(result);
        }
        of_brought
    }

    fn state(&self) -> MutexGuard<'_, State<J, R>> {
        lock(&self.state)
    }
}

impl<J, R> State<J, R> {
    fn enter(&mut self, job: J) -> Arc<Slot<R>> {
        let slot = Arc::new(Slot { gate: Arc::clone(&self.gate), result: Mutex::new(None) });
        self.waiting.push_back((job, Arc::clone(&slot)));
        slot
    }

    /// Makes it the caller's turn to commit, unless it is somebody else's.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.committing, true)
    }

    /// Ends the batch that is being gathered. Gives where those sleep who wait for it.
    fn close(&mut self) -> Arc<Gate> {
        (self.asleep, self.handed_in) = (0, 0);
        std::mem::replace(&mut self.gate, Arc::new(Gate::new()))
    }
}

/// Jobs that are committed together, handed out one by one, also while others are still bringing theirs. Its end hands on.
pub(crate) struct Batch<'a, J, R> {
    queue: &'a Queue<J, R>,
    /// The job that who commits has brought, to be handed out first.
    brought: Option<J>,
    /// How many jobs nobody sleeps for, since who commits has brought them: one at most.
    alone: usize,
    /// No more come.
    complete: bool,
    /// Where those sleep whose jobs these are; known once no more come.
    gate: Option<Arc<Gate>>,
    /// Where the results go of the others that were handed out.
    slots: Vec<Arc<Slot<R>>>,
    /// How often others were let run and brought nothing.
    idle_spins: usize,
}

impl<J, R> Batch<'_, J, R> {
    fn jobs(&self) -> usize {
        self.alone + self.slots.len()
    }
}

/// What is waiting, and what those are about to bring who were just told of their last: as long as there are fewer than
/// there were, others are let run, and asked for again. That is no delay: where nobody wants to run, or nobody brings
/// anything, it ends at once.
impl<J, R> Iterator for Batch<'_, J, R> {
    type Item = J;

    fn next(&mut self) -> Option<J> {
        if let Some(job) = self.brought.take() {
            return Some(job);
        }
        while !self.complete {
            let mut state = self.queue.state();
            if let Some((job, slot)) = state.waiting.pop_front() {
                drop(state);
                self.idle_spins = 0;
                self.slots.push(slot);
                return Some(job);
            }
            let enough = state.handed_in >= self.queue.enough;
            if enough || self.jobs() >= state.last_batch_len || self.idle_spins > PATIENCE {
                self.complete = true;
                // The next batch may sleep at the same one, where nobody does for this.
                if !self.slots.is_empty() {
                    self.gate = Some(state.close());
                }
            } else {
                drop(state);
                self.idle_spins += 1;
                yield_now();
            }
        }
        None
    }
}

impl<J, R> Drop for Batch<'_, J, R> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if !self.complete {
            // It was given up while jobs still came: those in line belong to it.
            state.waiting.clear();
            self.gate = Some(state.close());
        }
        state.committing = false;
        state.last_batch_len = self.jobs() + state.waiting.len();
        // Under the queue's lock: who is not asleep yet will find that nobody commits.
        if !state.waiting.is_empty() && state.asleep > 0 {
            state.gate.call_one();
        } else if state.closed || !state.waiting.is_empty() {
            // Who attends ends only when nothing is waiting, so it wants to know of that too.
            self.queue.unattended.notify_one();
        }
        drop(state);
        if let Some(gate) = &self.gate {
            gate.open();
        }
    }
}
