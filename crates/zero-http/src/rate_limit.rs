//! A rate limit per key: the generic cell rate algorithm (ITU-T I.371), which stores one time per
//! key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keys are forgotten lazily, once at least this many are stored.
const CLEANUP_THRESHOLD: usize = 1024;

/// Limits how many requests each key may make.
pub struct RateLimiter<K> {
    /// Time that one request accounts for.
    interval: Duration,
    /// How far ahead of the clock the requests of a key may run: the burst.
    tolerance: Duration,
    /// The time up to which the past requests of each key account. A key whose time has passed
    /// needs no entry.
    busy_until: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq> RateLimiter<K> {
    /// Allows this many requests a second on average, and bursts of twice as many.
    pub fn new(requests_per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / requests_per_second.max(1);
        Self { interval, tolerance: Duration::from_secs(2), busy_until: Mutex::new(HashMap::new()) }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// How long the key has to wait.
    pub fn admit(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        if busy_until.len() >= CLEANUP_THRESHOLD {
            busy_until.retain(|_, time| *time > now);
        }
        let time = busy_until.entry(key).or_insert(now);
        let next = (*time).max(now) + self.interval;
        let wait = next.saturating_duration_since(now).saturating_sub(self.tolerance);
        if wait.is_zero() {
            *time = next;
            Ok(())
        } else {
            Err(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_gets_its_burst_and_then_its_rate() {
        let limiter = RateLimiter::new(10);
        let start = Instant::now();
        let admitted =
            |key, after: Duration| (0..100).filter(|_| limiter.admit(key, start + after).is_ok()).count();
        assert_eq!(admitted("a", Duration::ZERO), 20);
        assert_eq!(limiter.admit("a", start), Err(Duration::from_millis(100)));
        assert_eq!(admitted("b", Duration::ZERO), 20);
        assert_eq!(admitted("a", Duration::from_secs(1)), 10);
        assert_eq!(admitted("a", Duration::from_secs(100)), 20);
    }

    #[test]
    fn idle_keys_are_forgotten() {
        let limiter = RateLimiter::new(10);
        let start = Instant::now();
        for key in 0..10_000 {
            limiter.admit(key, start + Duration::from_secs(key)).unwrap();
        }
        assert!(limiter.busy_until.lock().unwrap().len() <= CLEANUP_THRESHOLD);
    }
}
