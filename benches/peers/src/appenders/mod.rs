//! Who appends events durably, one way or another. All write the same lines.

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

/// Something that events are appended to.
pub trait Appender {
    fn name(&self) -> String;

    /// The system call that an acknowledgement waits for.
    fn waits_for(&self) -> &'static str;

    /// Appends for a time. Gives events a second.
    fn run(&mut self, budget: Duration) -> Result<f64>;
}

/// How many different events there are, which are written again and again.
pub const LINES: u64 = 1024;

/// The lines, used in turn.
pub type Lines = Arc<Vec<String>>;

/// The line that an event with a number has.
pub fn line(lines: &Lines, number: u64) -> &str {
    &lines[number as usize % lines.len()]
}

/// Has producers, each in a thread of its own, append one event after the other and wait for each, until a time is over.
/// A lone one does it in the caller's thread, as those do who have no producers: what a sync takes depends on the processor.
/// Gives events a second.
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
