//! How long to wait between two tries.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The wait after a number of consecutive failures: a random part of a time that doubles with every
/// failure (full jitter), so that many mirrors that lost the same destination do not return to it
/// at the same moment.
pub(crate) fn random_wait(wait_min: Duration, wait_max: Duration, failures: u32) -> Duration {
    let doubled = wait_min.saturating_mul(1 << failures.saturating_sub(1).min(20));
    // The keys of a hash map are the only source of randomness in the standard library.
    let fraction = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    doubled.min(wait_max).mul_f64(fraction)
}
