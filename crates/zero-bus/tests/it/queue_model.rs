//! The group commit under a model checker. Loom runs each test in every order in which the threads
//! can take their steps, up to the given number of preemptions, and reports a lost wake-up as a
//! deadlock.

#[path = "../../src/queue.rs"]
#[allow(dead_code)]
mod queue;

use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::sync::{Arc, Mutex};
use loom::thread;
use queue::Queue;

/// A bound that no test reaches, for tests without back-pressure.
const UNREACHED_PENDING_BYTES: usize = 100;

/// A log that commits one batch at a time: it writes the jobs, then it syncs.
#[derive(Default)]
struct Log {
    written: Mutex<Vec<u32>>,
    synced: AtomicUsize,
    leaders: AtomicUsize,
    syncs: AtomicUsize,
}

impl Log {
    fn new() -> Self {
        Self {
            written: Mutex::new(Vec::new()),
            synced: AtomicUsize::new(0),
            leaders: AtomicUsize::new(0),
            syncs: AtomicUsize::new(0),
        }
    }

    /// Commits a batch. Returns each job's position in the log.
    fn commit(&self, jobs: &mut impl Iterator<Item = u32>) -> Vec<usize> {
        assert_eq!(self.leaders.fetch_add(1, SeqCst), 0, "two threads commit at once");
        let jobs: Vec<_> = jobs.collect();
        let mut written = self.written.lock().unwrap();
        let positions = (written.len()..).take(jobs.len()).collect();
        written.extend(jobs);
        let length = written.len();
        drop(written);
        self.synced.store(length, SeqCst);
        self.syncs.fetch_add(1, SeqCst);
        self.leaders.fetch_sub(1, SeqCst);
        positions
    }
}

fn check_all_orders(max_preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(max_preemptions);
    builder.check(check);
}

#[test]
fn every_job_gets_its_own_result_after_its_sync() {
    check_all_orders(3, || {
        let queue = Arc::new(Queue::new(UNREACHED_PENDING_BYTES));
        let log = Arc::new(Log::new());
        let append = |queue: &Queue<u32, usize>, log: &Log, job: u32| {
            let position = queue.submit_and_wait(job, |jobs| log.commit(jobs)).unwrap();
            assert!(log.synced.load(SeqCst) > position, "acknowledged before its sync");
            assert_eq!(log.written.lock().unwrap()[position], job);
        };
        let threads: Vec<_> = [1, 2]
            .map(|job| {
                let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
                thread::spawn(move || append(&queue, &log, job))
            })
            .into();
        append(&queue, &log, 3);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(log.written.lock().unwrap().len(), 3);
        assert!((1..=3).contains(&log.syncs.load(SeqCst)));
    });
}

#[test]
fn a_threads_jobs_keep_their_order_whichever_thread_leads() {
    check_all_orders(3, || {
        let queue = Arc::new(Queue::new(UNREACHED_PENDING_BYTES));
        let log = Arc::new(Log::new());
        let other = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || {
                let slot = queue.submit(9, 1, |jobs| log.commit(jobs));
                queue.wait(&slot, |jobs| log.commit(jobs)).unwrap();
            })
        };
        let first = queue.submit(1, 1, |jobs| log.commit(jobs));
        let second = queue.submit(2, 1, |jobs| log.commit(jobs));
        let second = queue.wait(&second, |jobs| log.commit(jobs)).unwrap();
        let first = queue.wait(&first, |jobs| log.commit(jobs)).unwrap();
        assert!(first < second);
        other.join().unwrap();
    });
}

/// One thread submits a job and then waits for another one, while a second thread commits its job
/// alone and a committer runs.
#[test]
fn a_submitted_job_stays_before_its_threads_next_one() {
    check_all_orders(2, || {
        let queue = Arc::new(Queue::new(UNREACHED_PENDING_BYTES));
        let log = Arc::new(Log::new());
        let committer = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.run_committer(|jobs| log.commit(jobs)))
        };
        let other = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || {
                let position = queue.submit_and_wait(9, |jobs| log.commit(jobs)).unwrap();
                assert_eq!(log.written.lock().unwrap()[position], 9);
            })
        };
        let first = queue.submit(1, 1, |jobs| log.commit(jobs));
        queue.wake();
        let second = queue.submit_and_wait(2, |jobs| log.commit(jobs)).unwrap();
        let first = queue.wait(&first, |jobs| log.commit(jobs)).unwrap();
        assert!(first < second);
        assert_eq!(log.written.lock().unwrap()[second], 2);
        other.join().unwrap();
        queue.close();
        committer.join().unwrap();
    });
}

#[test]
fn the_committer_commits_jobs_without_a_waiter_even_if_the_queue_closes_at_once() {
    check_all_orders(3, || {
        let queue = Arc::new(Queue::new(UNREACHED_PENDING_BYTES));
        let log = Arc::new(Log::new());
        let committer = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.run_committer(|jobs| log.commit(jobs)))
        };
        let without_waiter = queue.submit(1, 1, |jobs| log.commit(jobs));
        queue.wake();
        let slot = queue.submit(2, 1, |jobs| log.commit(jobs));
        queue.wait(&slot, |jobs| log.commit(jobs)).unwrap();
        queue.close();
        committer.join().unwrap();
        assert_eq!(log.written.lock().unwrap().len(), 2);
        assert_eq!(queue.wait(&without_waiter, |jobs| log.commit(jobs)), Some(0));
    });
}

#[test]
fn the_committer_returns_only_when_every_job_is_committed_even_by_another_leader() {
    check_all_orders(2, || {
        let queue = Arc::new(Queue::new(UNREACHED_PENDING_BYTES));
        let log = Arc::new(Log::new());
        let committer = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || {
                queue.run_committer(|jobs| log.commit(jobs));
                assert!(log.written.lock().unwrap().contains(&1));
            })
        };
        drop(queue.submit(1, 1, |jobs| log.commit(jobs)));
        let other = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.submit_and_wait(2, |jobs| log.commit(jobs)).unwrap())
        };
        queue.close();
        committer.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn the_committer_returns_if_the_queue_closes_while_others_commit_and_wait() {
    check_all_orders(2, || {
        let queue = Arc::new(Queue::new(UNREACHED_PENDING_BYTES));
        let log = Arc::new(Log::new());
        let committer = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.run_committer(|jobs| log.commit(jobs)))
        };
        let slots =
            [queue.submit(1, 1, |jobs| log.commit(jobs)), queue.submit(2, 1, |jobs| log.commit(jobs))];
        let waiters = slots.map(|slot| {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.wait(&slot, |jobs| log.commit(jobs)).unwrap())
        });
        queue.close();
        committer.join().unwrap();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(log.written.lock().unwrap().len(), 2);
    });
}

/// Back-pressure delays a submitter, never deadlocks it, and bounds the batch.
#[test]
fn submitters_over_the_bound_wait_and_then_continue() {
    const MAX_PENDING_BYTES: usize = 2;
    check_all_orders(2, || {
        let queue = Arc::new(Queue::new(MAX_PENDING_BYTES));
        let log = Arc::new(Log::new());
        let max_batch_len = Arc::new(AtomicUsize::new(0));
        let commit = |log: &Log, max_batch_len: &AtomicUsize, jobs: &mut queue::Batch<'_, u32, usize>| {
            let positions = log.commit(jobs);
            max_batch_len.fetch_max(positions.len(), SeqCst);
            positions
        };
        let committer = {
            let (queue, log, max_batch_len) =
                (Arc::clone(&queue), Arc::clone(&log), Arc::clone(&max_batch_len));
            thread::spawn(move || queue.run_committer(|jobs| commit(&log, &max_batch_len, jobs)))
        };
        let other = {
            let (queue, log, max_batch_len) =
                (Arc::clone(&queue), Arc::clone(&log), Arc::clone(&max_batch_len));
            thread::spawn(move || {
                drop(queue.submit(11, 1, |jobs| commit(&log, &max_batch_len, jobs)));
                queue.wake();
                queue.submit_and_wait(12, |jobs| commit(&log, &max_batch_len, jobs)).unwrap();
            })
        };
        for job in [1, 2, 3, 4] {
            drop(queue.submit(job, 1, |jobs| commit(&log, &max_batch_len, jobs)));
            queue.wake();
        }
        other.join().unwrap();
        queue.close();
        committer.join().unwrap();
        let written = log.written.lock().unwrap();
        for own in [vec![1, 2, 3, 4], vec![11, 12]] {
            assert!(written.iter().filter(|job| own.contains(job)).eq(&own), "{written:?}");
        }
        assert_eq!(written.len(), 6);
        // One job more than the bound: the one with a waiter.
        assert!(max_batch_len.load(SeqCst) <= MAX_PENDING_BYTES + 1);
    });
}

#[test]
fn a_failed_commit_reaches_its_waiters_and_the_next_batch_commits() {
    check_all_orders(3, || {
        let queue: Arc<Queue<u32, Result<usize, ()>>> = Arc::new(Queue::new(UNREACHED_PENDING_BYTES));
        let commits = Arc::new(AtomicUsize::new(0));
        let append = |queue: &Queue<u32, Result<usize, ()>>, commits: &AtomicUsize, job| {
            let commit = |jobs: &mut queue::Batch<'_, _, _>| -> Vec<Result<usize, ()>> {
                let fails = commits.fetch_add(1, SeqCst) == 0;
                jobs.map(|_| if fails { Err(()) } else { Ok(0) }).collect()
            };
            let slot = queue.submit(job, 1, commit);
            queue.wait(&slot, commit)
        };
        let other = {
            let (queue, commits) = (Arc::clone(&queue), Arc::clone(&commits));
            thread::spawn(move || append(&queue, &commits, 1))
        };
        let own = append(&queue, &commits, 2).unwrap();
        let others = other.join().unwrap().unwrap();
        assert!(own.is_err() || others.is_err());
        if commits.load(SeqCst) == 2 {
            assert!(own.is_ok() || others.is_ok());
        }
    });
}
