//! Retries of reading calls, and the waits between tries.

use std::thread;

use zero_bus::{Checksum, Event, Head};

use crate::backoff::random_wait;
use crate::catch_up::CatchUpOptions;
use crate::error::{Error, Result};
use crate::mirror::{Mirror, Record};

/// A destination whose reading calls are repeated while it is unavailable, as
/// [`catch_up`](crate::catch_up()) does without `follow`.
pub struct RetryReads<F> {
    mirror: Box<dyn Mirror>,
    options: CatchUpOptions,
    on_away: F,
}

impl<F: FnMut(&Error) + Send> RetryReads<F> {
    /// Repeats the reading calls of a destination, as often as [`CatchUpOptions::tries`] says.
    /// Calls `on_away` before the first wait of a call.
    pub fn new(mirror: Box<dyn Mirror>, options: CatchUpOptions, on_away: F) -> Self {
        Self { mirror, options, on_away }
    }

    fn retry<T>(&mut self, mut call: impl FnMut(&mut dyn Mirror) -> Result<T>) -> Result<T> {
        let mut failures = 0;
        loop {
            match call(&mut *self.mirror) {
                Err(error @ Error::Unavailable { .. }) if failures + 1 < self.options.tries => {
                    if failures == 0 {
                        (self.on_away)(&error);
                    }
                    failures += 1;
                    thread::sleep(random_wait(self.options.wait_min, self.options.wait_max, failures));
                }
                result => return result,
            }
        }
    }
}

impl<F: FnMut(&Error) + Send> Mirror for RetryReads<F> {
    fn name(&self) -> String {
        self.mirror.name()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        self.retry(|mirror| mirror.buses())
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        self.retry(|mirror| mirror.head(bus))
    }

    /// Not repeated: after a failure only the cursor tells what was stored.
    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        self.mirror.append(bus, after, batch)
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.retry(|mirror| mirror.lines(bus, from))
    }

    fn first_mismatch(&mut self, bus: Checksum, events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        self.retry(|mirror| mirror.first_mismatch(bus, events))
    }
}
