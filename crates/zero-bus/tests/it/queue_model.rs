//! The group commit under a model checker: loom tries every order in which the threads can take their steps (up to the
//! number of preemptions given) and finds a lost wake-up as a deadlock.

#[path = "../../src/queue.rs"]
#[allow(dead_code)]
mod queue;

use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::sync::{Arc, Mutex};
use loom::thread;
use queue::Queue;

/// More than is handed in.
const ENOUGH: usize = 100;

/// A log that is written and then synced, one batch at a time.
#[derive(Default)]
struct Log {
    written: Mutex<Vec<u32>>,
    synced: AtomicUsize,
    inside: AtomicUsize,
    syncs: AtomicUsize,
}

impl Log {
    fn new() -> Self {
        Self {
            written: Mutex::new(Vec::new()),
            synced: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            syncs: AtomicUsize::new(0),
        }
    }

    /// Gives each job its place in the log.
    fn commit(&self, jobs: &mut impl Iterator<Item = u32>) -> Vec<usize> {
        assert_eq!(self.inside.fetch_add(1, SeqCst), 0, "two commit at once");
        let jobs: Vec<_> = jobs.collect();
        let mut written = self.written.lock().unwrap();
        let places = (written.len()..).take(jobs.len()).collect();
        written.extend(jobs);
        let length = written.len();
        drop(written);
        self.synced.store(length, SeqCst);
        self.syncs.fetch_add(1, SeqCst);
        self.inside.fetch_sub(1, SeqCst);
        places
    }
}

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

/// Everybody gets a result, it is that of its own job, and no sooner than the sync.
#[test]
fn nobody_waits_for_ever_and_nobody_is_told_too_early() {
    model(3, || {
        let queue = Arc::new(Queue::new(ENOUGH));
        let log = Arc::new(Log::new());
        let append = |queue: &Queue<u32, usize>, log: &Log, job: u32| {
            let place = queue.submit_and_wait(job, |jobs| log.commit(jobs)).unwrap();
            assert!(log.synced.load(SeqCst) > place, "acknowledged before its sync");
            assert_eq!(log.written.lock().unwrap()[place], job);
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

/// One thread's jobs keep their order, whoever commits them.
#[test]
fn a_threads_order_is_kept() {
    model(3, || {
        let queue = Arc::new(Queue::new(ENOUGH));
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

/// The same where one is only handed in and the next is waited for, beside one that comes alone, with somebody attending.
#[test]
fn what_was_handed_in_stays_before_what_is_put_through() {
    model(2, || {
        let queue = Arc::new(Queue::new(ENOUGH));
        let log = Arc::new(Log::new());
        let attending = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.run_committer(|jobs| log.commit(jobs)))
        };
        let other = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || {
                let place = queue.submit_and_wait(9, |jobs| log.commit(jobs)).unwrap();
                assert_eq!(log.written.lock().unwrap()[place], 9);
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
        attending.join().unwrap();
    });
}

/// What nobody waits for is committed by who attends, also when the queue is closed at once.
#[test]
fn what_nobody_waits_for_is_committed() {
    model(3, || {
        let queue = Arc::new(Queue::new(ENOUGH));
        let log = Arc::new(Log::new());
        let attending = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.run_committer(|jobs| log.commit(jobs)))
        };
        let unattended = queue.submit(1, 1, |jobs| log.commit(jobs));
        queue.wake();
        let slot = queue.submit(2, 1, |jobs| log.commit(jobs));
        queue.wait(&slot, |jobs| log.commit(jobs)).unwrap();
        queue.close();
        attending.join().unwrap();
        assert_eq!(log.written.lock().unwrap().len(), 2);
        assert_eq!(queue.wait(&unattended, |jobs| log.commit(jobs)), Some(0));
    });
}

/// Who attends does not end before what was handed in is committed, also where another one took it.
#[test]
fn attending_ends_when_all_is_committed() {
    model(2, || {
        let queue = Arc::new(Queue::new(ENOUGH));
        let log = Arc::new(Log::new());
        let attending = {
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
        attending.join().unwrap();
        other.join().unwrap();
    });
}

/// Closing while others commit and wait: who attends ends all the same.
#[test]
fn closing_while_others_commit_ends() {
    model(2, || {
        let queue = Arc::new(Queue::new(ENOUGH));
        let log = Arc::new(Log::new());
        let attending = {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.run_committer(|jobs| log.commit(jobs)))
        };
        let slots =
            [queue.submit(1, 1, |jobs| log.commit(jobs)), queue.submit(2, 1, |jobs| log.commit(jobs))];
        let waiting = slots.map(|slot| {
            let (queue, log) = (Arc::clone(&queue), Arc::clone(&log));
            thread::spawn(move || queue.wait(&slot, |jobs| log.commit(jobs)).unwrap())
        });
        queue.close();
        attending.join().unwrap();
        for thread in waiting {
            thread.join().unwrap();
        }
        assert_eq!(log.written.lock().unwrap().len(), 2);
    });
}

/// Who hands in what is too much for one batch waits, and is not held up; no batch is more than it may be.
#[test]
fn who_hands_in_too_much_waits_and_goes_on() {
    const MOST: usize = 2;
    model(2, || {
        let queue = Arc::new(Queue::new(MOST));
        let log = Arc::new(Log::new());
        let largest = Arc::new(AtomicUsize::new(0));
        let commit = |log: &Log, largest: &AtomicUsize, jobs: &mut queue::Batch<'_, u32, usize>| {
            let places = log.commit(jobs);
            largest.fetch_max(places.len(), SeqCst);
            places
        };
        let attending = {
            let (queue, log, largest) = (Arc::clone(&queue), Arc::clone(&log), Arc::clone(&largest));
            thread::spawn(move || queue.run_committer(|jobs| commit(&log, &largest, jobs)))
        };
        let other = {
            let (queue, log, largest) = (Arc::clone(&queue), Arc::clone(&log), Arc::clone(&largest));
            thread::spawn(move || {
                drop(queue.submit(11, 1, |jobs| commit(&log, &largest, jobs)));
                queue.wake();
                queue.submit_and_wait(12, |jobs| commit(&log, &largest, jobs)).unwrap();
            })
        };
        for job in [1, 2, 3, 4] {
            drop(queue.submit(job, 1, |jobs| commit(&log, &largest, jobs)));
            queue.wake();
        }
        other.join().unwrap();
        queue.close();
        attending.join().unwrap();
        let written = log.written.lock().unwrap();
        for own in [vec![1, 2, 3, 4], vec![11, 12]] {
            assert!(written.iter().filter(|job| own.contains(job)).eq(&own), "{written:?}");
        }
        assert_eq!(written.len(), 6);
        // And one that is waited for.
        assert!(largest.load(SeqCst) <= MOST + 1);
    });
}

/// A commit that fails tells everybody, and the next one is not held up.
#[test]
fn a_failed_commit_holds_nobody_up() {
    model(3, || {
        let queue: Arc<Queue<u32, Result<usize, ()>>> = Arc::new(Queue::new(ENOUGH));
        let tries = Arc::new(AtomicUsize::new(0));
        let append = |queue: &Queue<u32, Result<usize, ()>>, tries: &AtomicUsize, job| {
            let commit = |jobs: &mut queue::Batch<'_, _, _>| -> Vec<Result<usize, ()>> {
                let failed = tries.fetch_add(1, SeqCst) == 0;
                jobs.map(|_| if failed { Err(()) } else { Ok(0) }).collect()
            };
            let slot = queue.submit(job, 1, commit);
            queue.wait(&slot, commit)
        };
        let other = {
            let (queue, tries) = (Arc::clone(&queue), Arc::clone(&tries));
            thread::spawn(move || append(&queue, &tries, 1))
        };
        let mine = append(&queue, &tries, 2).unwrap();
        let theirs = other.join().unwrap().unwrap();
        assert!(mine.is_err() || theirs.is_err());
        if tries.load(SeqCst) == 2 {
            assert!(mine.is_ok() || theirs.is_ok());
        }
    });
}
