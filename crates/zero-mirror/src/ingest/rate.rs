//! How often each token may ask: the generic cell rate algorithm (ITU-T I.371), one time a token.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts requests by key.
pub(super) struct Rate<K> {
    /// The time of one request.
    each: Duration,
    /// How far ahead of time a key may be.
    ahead: Duration,
    /// When each key would be on time again.
    times: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq> Rate<K> {
    /// So many a second, and twice as many at once.
    pub(super) fn new(per_second: u32) -> Self {
        let each = Duration::from_secs(1) / per_second.max(1);
        Self { each, ahead: Duration::from_secs(2), times: Mutex::new(HashMap::new()) }
    }

    /// Whether one more is taken now; otherwise how long to wait.
    pub(super) fn admit(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        // Who is on time needs no note: there are never more of them than asked lately.
        if times.len() >= 1024 {
            times.retain(|_, time| *time > now);
        }
        let time = times.entry(key).or_insert(now);
        let next = (*time).max(now) + self.each;
        let early = next.saturating_duration_since(now).saturating_sub(self.ahead);
        if early.is_zero() {
            *time = next;
            Ok(())
        } else {
            Err(early)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_gets_its_burst_and_then_its_rate() {
        let rate = Rate::new(10);
        let start = Instant::now();
        let taken =
            |key, after: Duration| (0..100).filter(|_| rate.admit(key, start + after).is_ok()).count();
        assert_eq!(taken("a", Duration::ZERO), 20);
        assert_eq!(rate.admit("a", start), Err(Duration::from_millis(100)));
        assert_eq!(taken("b", Duration::ZERO), 20);
        assert_eq!(taken("a", Duration::from_secs(1)), 10);
        assert_eq!(taken("a", Duration::from_secs(100)), 20);
    }

    #[test]
    fn keys_that_are_on_time_are_forgotten() {
        let rate = Rate::new(10);
        let start = Instant::now();
        for key in 0..10_000 {
            rate.admit(key, start + Duration::from_secs(key)).unwrap();
        }
        assert!(rate.times.lock().unwrap().len() <= 1024);
    }
}
