//! Follows a log: returns its events, and then each new one as soon as it is durable.

use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::reader::{Events, Reader, event_only, with_line};
use crate::storage::Watch;

/// Some systems refuse longer timeouts, so a longer wait is split.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Longest wait on a storage that cannot wake a waiter: bounds how late a cancel is seen.
const MAX_WAIT_WITHOUT_WAKER: Duration = Duration::from_millis(10);

impl Reader {
    /// Returns the events from an index on, and then waits for new ones.
    ///
    /// # Errors
    /// As [`Reader::events`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use std::time::Duration;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let mut follower = bus.reader().follow(1)?;
    /// assert_eq!(follower.next_timeout(Duration::ZERO)?, None);
    ///
    /// let door = BTreeMap::from([("by", "cat")]);
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &door)?)?;
    /// assert_eq!(follower.next_timeout(Duration::from_secs(5))?, Some(event));
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn follow(&self, from: u64) -> Result<Follow> {
        // The watch starts before the first read, so that no event falls between the two.
        let watch = self.storage().watch().map_err(Error::io("watch its directory", &self.log_path()))?;
        let cancel = CancelHandle { cancelled: Arc::default(), waker: watch.waker() };
        Ok(Follow { events: self.events(from)?, watch, cancel, failed: false })
    }
}

/// Events as they become durable, see [`Reader::follow`].
///
/// As an iterator it blocks until the next event. It ends only after it was
/// [cancelled](CancelHandle) or after it returned an error. Waiting uses no processor time, unless
/// the system cannot report changes, see [`Follow::warning`].
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use std::collections::BTreeMap;
/// use zero_bus::{Bus, Draft};
///
/// let bus = Bus::open(dir.path())?;
/// bus.append(Draft::new("door.opened", 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
///
/// let follower = bus.reader().follow(1)?;
/// let cancel = follower.cancel_handle();
/// let consumer = std::thread::spawn(move || {
///     for event in follower {
///         let event = event?;
///         println!("{} {}", event.id(), event.event_type);
///     }
///     Ok::<(), zero_bus::Error>(())
/// });
/// // When the program stops:
/// cancel.cancel();
/// consumer.join().unwrap()?;
/// # Ok::<(), zero_bus::Error>(())
/// ```
pub struct Follow {
    events: Events,
    watch: Box<dyn Watch>,
    cancel: CancelHandle,
    /// The iterator has returned an error. The timed calls ignore this, so that a caller can retry.
    failed: bool,
}

impl Follow {
    /// Returns the next event, and waits for it until the timeout ends. With [`Duration::ZERO`] it
    /// returns only what is there already.
    ///
    /// `Ok(None)` means that the timeout ended or that the follower was cancelled;
    /// [`CancelHandle::is_cancelled`] tells which.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Ambiguous`] at the first fault, [`Error::Changed`] if the log
    /// was shortened, removed, replaced or rewritten, [`Error::Missing`] if it is shorter than its
    /// sync mark or its snapshot records, [`Error::Io`]. Another call tries again from the same
    /// event.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::time::Duration;
    ///
    /// let bus = zero_bus::Bus::open(dir.path())?;
    /// let mut follower = bus.reader().follow(1)?;
    /// let cancel = follower.cancel_handle();
    ///
    /// assert_eq!(follower.next_timeout(Duration::from_millis(1))?, None);
    /// assert!(!cancel.is_cancelled(), "the timeout ended");
    ///
    /// cancel.cancel();
    /// assert_eq!(follower.next_timeout(Duration::MAX)?, None);
    /// assert!(cancel.is_cancelled());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Event>> {
        self.wait_for_next(timeout, event_only)
    }

    /// Like [`Follow::next_timeout`], with the line of the event exactly as the log holds it, see
    /// [`Events::next_with_line`].
    ///
    /// # Errors
    /// As [`Follow::next_timeout`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use std::time::Duration;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// bus.append(Draft::new("door.opened", 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    /// let (event, line) = bus.reader().follow(1)?.next_line_timeout(Duration::ZERO)?.unwrap();
    /// assert_eq!(line, event.line());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn next_line_timeout(&mut self, timeout: Duration) -> Result<Option<(Event, String)>> {
        self.wait_for_next(timeout, with_line)
    }

    /// Returns a handle that cancels this follower from any thread.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Returns a warning if the follower has to poll for new events, because the system has no
    /// inotify instance or watch left. It names the sysctl to raise. Print it once; following works
    /// as usual.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let bus = zero_bus::Bus::open(dir.path())?;
    /// let follower = bus.reader().follow(1)?;
    /// if let Some(warning) = follower.warning() {
    ///     eprintln!("warning: {warning}");
    /// }
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn warning(&self) -> Option<&str> {
        self.watch.warning()
    }

    /// Returns the length of the torn tail in bytes once reading has met it; 0 otherwise.
    pub fn torn_bytes(&self) -> u64 {
        self.events.torn_bytes()
    }

    fn wait_for_next<T>(&mut self, timeout: Duration, convert: fn(Event, &[u8]) -> T) -> Result<Option<T>> {
        // A timeout beyond the range of `Instant` has no deadline.
        let deadline = Instant::now().checked_add(timeout);
        let max_wait = if self.cancel.waker.is_some() { MAX_WAIT } else { MAX_WAIT_WITHOUT_WAKER };
        while !self.cancel.is_cancelled() {
            self.events.revisit_torn_tail()?;
            if let Some(event) = self.events.read(convert)? {
                return Ok(Some(event));
            }
            if self.events.refresh_end()? {
                continue;
            }
            let remaining = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if remaining.is_zero() {
                return Ok(None);
            }
            let waited = self.watch.wait(remaining.min(max_wait));
            waited.map_err(Error::io("wait for changes to it", &self.events.log_path()))?;
        }
        Ok(None)
    }
}

impl Iterator for Follow {
    type Item = Result<Event>;

    /// Blocks until the next event. `None` after a cancel, and after the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.next_timeout(Duration::MAX);
        self.failed = event.is_err();
        event.transpose()
    }
}

impl FusedIterator for Follow {}

/// Cancels a [`Follow`] from any thread.
///
/// A cancelled follower that waits for events wakes at once. A read in progress is completed first.
/// The iterator then ends, and the timed calls return `Ok(None)`, even if there are more events. To
/// resume, follow again from the index after the last event.
#[derive(Clone, Debug)]
pub struct CancelHandle {
    cancelled: Arc<AtomicBool>,
    /// Ends a wait of the follower. `None` if its storage cannot; then its waits are short.
    waker: Option<Waker>,
}

impl CancelHandle {
    /// Cancels the follower, for good.
    pub fn cancel(&self) {
        // The flag is set before the wake, so the follower sees it when its wait ends. If the
        // follower has not begun to wait yet, the wake ends that wait.
        self.cancelled.store(true, Ordering::Release);
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Returns whether the follower was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}
