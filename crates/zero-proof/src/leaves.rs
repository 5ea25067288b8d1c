//! The leaves of many events.

use std::thread;

use zero_bus::Event;

use crate::disclosure::DisclosureSecret;
use crate::entry::Entry;
use crate::hash::Hash;

/// Events whose leaves are computed at a time.
pub(crate) const BATCH_EVENTS: usize = 8 << 10;

/// The hashes of the leaves of some events, computed on all processors if there are many.
pub(crate) fn leaf_hashes(events: &[Event], secret: &DisclosureSecret) -> Vec<Hash> {
    let hash = |events: &[Event]| -> Vec<Hash> {
        events.iter().map(|event| Entry::of(event, secret).leaf_hash()).collect()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    if threads == 1 || events.len() < 256 {
        return hash(events);
    }
    let parts: Vec<&[Event]> = events.chunks(events.len().div_ceil(threads)).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = parts.iter().map(|part| scope.spawn(|| hash(part))).collect();
        // A worker that panicked has its part computed here, which panics again.
        let joined = workers.into_iter().zip(&parts);
        joined.flat_map(|(worker, part)| worker.join().unwrap_or_else(|_| hash(part))).collect()
    })
}
