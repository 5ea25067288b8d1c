//! Programs that append events durably. All of them write the same lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::stats::rate;

pub mod bare;
pub mod embedded;
pub mod nats;
pub mod ours;
pub mod postgres;
pub mod sqlite;

/// A store that appends events durably.
pub trait Appender {
    fn name(&self) -> String;

    /// The system call that an acknowledgement waits for.
    fn waits_for(&self) -> &'static str;

    /// Appends events for this time. Returns events per second.
    fn run(&mut self, budget: Duration) -> Result<f64>;
}

/// The number of different events. They are written repeatedly.
pub const LINES: u64 = 1024;

/// The lines of the events, used in rotation.
pub type Lines = Arc<Vec<String>>;

/// The line of the event with this number.
pub fn line(lines: &Lines, number: u64) -> &str {
    &lines[number as usize % lines.len()]
}

/// Runs producers, each in its own thread. A producer appends one event at a time and waits for its
/// acknowledgement, until the time is over. Returns events per second.
///
/// A lone producer runs in the thread of the caller, as the bare appender does: the time of a sync
/// depends on the processor.
pub fn produce<P: Send>(
    producers: &mut [P],
    numbers: &AtomicU64,
    budget: Duration,
    append: impl Fn(&mut P, u64) -> Result<()> + Sync,
) -> Result<f64> {
    let append = &append;
    if let [producer] = producers {
        return rate(budget, || append(producer, numbers.fetch_add(1, Ordering::Relaxed)).map(|()| 1));
    }
    let begin = Instant::now();
    let total = thread::scope(|scope| {
        let mut threads = Vec::new();
        for producer in producers {
            threads.push(scope.spawn(move || {
                let mut done = 0;
                while begin.elapsed() < budget {
                    append(producer, numbers.fetch_add(1, Ordering::Relaxed))?;
                    done += 1;
                }
                anyhow::Ok(done)
            }));
        }
        let mut total: u64 = 0;
        for thread in threads {
            total += thread.join().map_err(|_| anyhow!("a producer panicked"))??;
        }
        anyhow::Ok(total)
    })?;
    Ok(total as f64 / begin.elapsed().as_secs_f64())
}
