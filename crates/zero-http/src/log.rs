//! Messages to the operator of a server.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Prints a message to the operator.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Shortest time between two messages on one topic.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// A log that prints at most one message a second per topic, because clients can cause messages as
/// often as they like.
pub struct ThrottledLog<T> {
    log: Log,
    last_printed: Mutex<HashMap<T, Instant>>,
}

impl<T: Hash + Eq> ThrottledLog<T> {
    /// A throttled log over another.
    pub fn new(log: Log) -> Self {
        Self { log, last_printed: Mutex::default() }
    }

    /// Prints a message, or drops it if the topic had one within the last second.
    pub fn print(&self, topic: T, message: &str) {
        let mut last_printed = self.last_printed.lock().unwrap_or_else(PoisonError::into_inner);
        if last_printed.get(&topic).is_none_or(|time| time.elapsed() >= MIN_INTERVAL) {
            last_printed.insert(topic, Instant::now());
            (self.log)(message);
        }
    }
}
