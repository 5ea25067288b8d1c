//! Group commit without a timer.
//!
//! Threads enqueue jobs, and one thread at a time, the *leader*, commits them in *batches*:
//!
//! 1. It takes the pending jobs one by one. A job that arrives meanwhile joins the same batch.
//! 2. It closes the batch when no job is pending and none is expected soon. A job that arrives from
//!    then on joins the next batch.
//! 3. It writes and syncs the batch, and publishes one result per job.
//! 4. It gives up leadership. If the next batch has waiters, it nominates one of them as leader.
//! 5. It wakes the waiters of its own batch.
//!
//! A thread that waits for the result of its job is a *waiter* of the job's batch. A waiter that
//! finds no leader becomes the leader. A nomination wakes a waiter but reserves nothing: if another
//! thread becomes leader first, that thread commits the waiter's job as well. A thread that appends
//! alone leads at once and commits its own job without sleeping.
//!
//! All waiters of a batch sleep on one futex ([`Gate`]), so that waking them is a single system
//! call. One wake-up per waiter would cost more than the sync itself.
//!
//! Any leader also commits jobs that no thread waits for. If no thread leads, the *committer*, a
//! thread in [`Queue::run_committer`], does.
//!
//! Back-pressure: a waiting thread adds one job to a batch, but a thread that does not wait could
//! add any number. [`Queue::submit`] therefore blocks while the batch that new jobs join holds
//! `max_unwaited_bytes` of submitted jobs. A closed batch that is not committed yet does not count,
//! so up to twice that many bytes can be uncommitted.
//!
//! Locks: the mutex in `Queue` protects all of `State`, and the mutex in each `Slot` protects that
//! slot's result. No thread holds two of them, and no thread holds one while it writes, syncs,
//! sleeps or yields. `commit` is called without them, and may hold locks of its own when it takes
//! a job, which takes the mutex in `Queue` for a moment.
//!
//! The module depends only on `crate::sync`, so that a test can replace its locks with a model
//! checker's.

use std::collections::VecDeque;

use crate::sync::{Arc, Condvar, Gate, MAX_IDLE_SPINS, Mutex, MutexGuard, Wake, lock, wait, yield_now};

/// Jobs `J` to be committed in batches, and their results `R`.
///
/// Any thread may call any method, but only one at a time may be in [`Queue::run_committer`].
///
/// Each method that may lead takes a `commit` function. It must take every job of its [`Batch`] and
/// return one result for each, in the order in which it took them. A job without a result counts as
/// one whose leader panicked.
pub(crate) struct Queue<J, R> {
    state: Mutex<State<J, R>>,
    /// Wakes the committer. Signalled on close, and when there may be a pending job that no thread
    /// waits for.
    committer: Condvar,
    /// Bound on `State::unwaited_bytes`. The last job submitted may carry the sum past it.
    max_unwaited_bytes: usize,
}

/// The *forming batch* is the one that new jobs join. Its leader may already be taking jobs from
/// it.
struct State<J, R> {
    /// Jobs of the forming batch that its leader has not taken yet, in arrival order. The leader
    /// commits jobs and publishes their results in this order.
    pending: VecDeque<(J, Arc<Slot<R>>)>,
    /// Gate of the forming batch. Replaced by a new one when the batch closes, unless the batch has
    /// no slots and therefore no waiters.
    gate: Arc<Gate>,
    /// Threads that sleep on `gate` or are about to, and those that were nominated and have not
    /// taken the lock since. Includes threads that block in [`Queue::submit`].
    waiters: usize,
    /// Bytes submitted to the forming batch without waiting, taken by its leader or not. Bounded by
    /// `max_unwaited_bytes`.
    unwaited_bytes: usize,
    /// A leader exists. Only the thread that sets this flag may commit. [`Batch`] clears the flag
    /// when it is dropped, even if the leader panics.
    committing: bool,
    /// [`Queue::close`] was called: the committer returns once no job is left.
    closed: bool,
    /// Jobs that the next batch is likely to have: those that were pending when the last leader
    /// gave up leadership, and as many as its batch had, since the waiters that it woke are likely
    /// to enqueue again. A leader yields while its batch has fewer.
    expected_len: usize,
}

/// Where the leader publishes the result of one job.
pub(crate) struct Slot<R> {
    /// Gate of the job's batch.
    gate: Arc<Gate>,
    /// Set before the gate opens. If it is `None` once the gate is open, the leader panicked, or
    /// the result was already taken.
    result: Mutex<Option<R>>,
}

impl<J, R> Queue<J, R> {
    /// Creates a queue in which [`Queue::submit`] blocks while the forming batch holds
    /// `max_unwaited_bytes` or more of submitted jobs. A bound of 0 would block every submission
    /// for ever.
    pub(crate) fn new(max_unwaited_bytes: usize) -> Self {
        let state = State {
            pending: VecDeque::new(),
            gate: Arc::new(Gate::new()),
            waiters: 0,
            unwaited_bytes: 0,
            committing: false,
            closed: false,
            expected_len: 0,
        };
        Self { state: Mutex::new(state), committer: Condvar::new(), max_unwaited_bytes }
    }

    /// Enqueues a job without waiting for its result, which [`Queue::wait`] returns.
    ///
    /// The caller must then call [`Queue::wake`], or the job may stay until another thread leads.
    ///
    /// Blocks while the forming batch holds `max_unwaited_bytes` of submitted jobs. The job then
    /// joins a later batch. A blocked thread leads the full batch itself if no other thread does,
    /// so that it makes progress without a committer.
    pub(crate) fn submit(
        &self,
        job: J,
        size_bytes: usize,
        commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>,
    ) -> Arc<Slot<R>> {
        let mut state = self.state();
        while state.unwaited_bytes >= self.max_unwaited_bytes {
            let gate = Arc::clone(&state.gate);
            self.wait_or_lead(state, &gate, &commit);
            state = self.state();
        }
        state.unwaited_bytes += size_bytes;
        state.enqueue(job)
    }

    /// Wakes the committer, if one runs, to commit submitted jobs.
    pub(crate) fn wake(&self) {
        self.committer.notify_one();
    }

    /// Enqueues a job and waits for its result. Returns `None` if the leader panicked.
    pub(crate) fn submit_and_wait(
        &self,
        job: J,
        commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>,
    ) -> Option<R> {
        let mut state = self.state();
        if state.pending.is_empty() && state.try_lead() {
            // No job is ahead of this one, so it needs neither a slot nor a place in `pending`.
            drop(state);
            return self.lead(Some(job), &commit);
        }
        let slot = state.enqueue(job);
        self.wait_or_lead(state, &slot.gate, &commit);
        lock(&slot.result).take()
    }

    /// Waits for the result of a submitted job and takes it. Returns `None` if the leader panicked.
    pub(crate) fn wait(&self, slot: &Slot<R>, commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>) -> Option<R> {
        self.wait_or_lead(self.state(), &slot.gate, &commit);
        lock(&slot.result).take()
    }

    /// Returns once `gate` is open. Leads the gate's batch if no other thread does; otherwise
    /// sleeps. `gate` must be that of a batch with a job, so that a leader opens it.
    fn wait_or_lead<'q>(
        &'q self,
        mut state: MutexGuard<'q, State<J, R>>,
        gate: &Arc<Gate>,
        commit: &impl Fn(&mut Batch<'_, J, R>) -> Vec<R>,
    ) {
        loop {
            if Arc::ptr_eq(&state.gate, gate) {
                if state.try_lead() {
                    drop(state);
                    self.lead(None, commit);
                } else {
                    state.waiters += 1;
                    drop(state);
                }
            } else {
                // The queue has a new gate: a leader has closed the batch of `gate`, and opens
                // `gate` once it has committed that batch.
                drop(state);
            }
            if gate.wait() == Wake::Opened {
                return;
            }
            state = self.state();
            if Arc::ptr_eq(&state.gate, gate) {
                state.waiters -= 1;
            }
        }
    }

    /// Commits jobs that no thread waits for. Returns once the queue is closed and every job is
    /// committed. At most one thread at a time runs this.
    pub(crate) fn run_committer(&self, commit: impl Fn(&mut Batch<'_, J, R>) -> Vec<R>) {
        let mut state = self.state();
        loop {
            if !state.pending.is_empty() && state.try_lead() {
                drop(state);
                self.lead(None, &commit);
                state = self.state();
            } else if state.closed && state.pending.is_empty() && !state.committing {
                // No other leader is committing the last jobs either.
                return;
            } else {
                state = wait(&self.committer, state);
            }
        }
    }

    /// Tells the committer to return once every job is committed.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.committer.notify_all();
    }

    /// Commits one batch: `own_job`, then the pending jobs. Returns the result of `own_job`. Only
    /// the thread for which [`State::try_lead`] returned true may call this.
    fn lead(&self, own_job: Option<J>, commit: &impl Fn(&mut Batch<'_, J, R>) -> Vec<R>) -> Option<R> {
        let own_len = usize::from(own_job.is_some());
        // Dropped at the end, after the results are published, or when `commit` panics. The drop
        // gives up leadership and opens the gate.
        let mut batch = Batch {
            queue: self,
            own_job,
            own_len,
            closed: false,
            gate: None,
            slots: Vec::new(),
            idle_spins: 0,
        };
        let mut results = commit(&mut batch).into_iter();
        let own_result = if own_len > 0 { results.next() } else { None };
        for (result, slot) in results.zip(&batch.slots) {
            *lock(&slot.result) = Some(result);
        }
        own_result
    }

    fn state(&self) -> MutexGuard<'_, State<J, R>> {
        lock(&self.state)
    }
}

impl<J, R> State<J, R> {
    fn enqueue(&mut self, job: J) -> Arc<Slot<R>> {
        let slot = Arc::new(Slot { gate: Arc::clone(&self.gate), result: Mutex::new(None) });
        self.pending.push_back((job, Arc::clone(&slot)));
        slot
    }

    /// Makes the caller the leader. Returns `false` if another thread leads already.
    fn try_lead(&mut self) -> bool {
        !std::mem::replace(&mut self.committing, true)
    }

    /// Closes the forming batch: jobs that arrive from now on join the next one. Returns the closed
    /// batch's gate, which its leader must open.
    fn close_batch(&mut self) -> Arc<Gate> {
        (self.waiters, self.unwaited_bytes) = (0, 0);
        std::mem::replace(&mut self.gate, Arc::new(Gate::new()))
    }
}

/// The leader's batch, an iterator over its jobs. Exists as long as its thread leads.
pub(crate) struct Batch<'a, J, R> {
    queue: &'a Queue<J, R>,
    /// The leader's own job. Taken first.
    own_job: Option<J>,
    /// 1 if the leader has its own job, else 0. That job has no slot.
    own_len: usize,
    /// No more jobs join this batch.
    closed: bool,
    /// Gate of this batch. Set when the batch closes. Stays `None` if the batch then has no slots,
    /// that is, if it holds only the leader's own job.
    gate: Option<Arc<Gate>>,
    /// Slots of the jobs taken from `pending`, in the order in which they were taken.
    slots: Vec<Arc<Slot<R>>>,
    /// Times the leader has yielded since the last job.
    idle_spins: usize,
}

impl<J, R> Batch<'_, J, R> {
    /// Jobs taken so far, the leader's own job included.
    fn len(&self) -> usize {
        self.own_len + self.slots.len()
    }
}

impl<J, R> Iterator for Batch<'_, J, R> {
    type Item = J;

    /// Takes the next job, or closes the batch and returns `None`.
    ///
    /// While no job is pending and this batch has fewer than `expected_len` jobs, yields to the
    /// threads that the last leader woke, so that their next jobs join this batch. No timer is
    /// involved: yielding returns at once if no other thread is ready to run. After more than
    /// `MAX_IDLE_SPINS` yields in a row the batch closes. A batch with `max_unwaited_bytes` of
    /// submitted jobs does not wait for more.
    fn next(&mut self) -> Option<J> {
        if let Some(job) = self.own_job.take() {
            return Some(job);
        }
        while !self.closed {
            let mut state = self.queue.state();
            if let Some((job, slot)) = state.pending.pop_front() {
                drop(state);
                self.idle_spins = 0;
                self.slots.push(slot);
                return Some(job);
            }
            let full = state.unwaited_bytes >= self.queue.max_unwaited_bytes;
            if full || self.len() >= state.expected_len || self.idle_spins > MAX_IDLE_SPINS {
                self.closed = true;
                // Without slots, no thread waits for this batch: the next batch can keep the gate.
                if !self.slots.is_empty() {
                    self.gate = Some(state.close_batch());
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
    /// Gives up leadership, nominates the next leader and wakes the waiters of this batch.
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if !self.closed {
            // `commit` panicked before it had taken all jobs. The pending ones belong to this
            // batch and get no result.
            state.pending.clear();
            self.gate = Some(state.close_batch());
        }
        state.committing = false;
        state.expected_len = self.len() + state.pending.len();
        // The lock is held until the nomination is made, so no wake-up is lost: a thread that is
        // not in `waiters` yet takes the lock afterwards. It then leads, or another thread leads
        // already and finds it in `waiters` here.
        if !state.pending.is_empty() && state.waiters > 0 {
            state.gate.nominate_one();
        } else if state.closed || !state.pending.is_empty() {
            // No thread sleeps on the gate of the pending jobs, or the queue is closed and the
            // committer waits for this batch to finish.
            self.queue.committer.notify_one();
        }
        drop(state);
        if let Some(gate) = &self.gate {
            gate.open();
        }
    }
}
