//! The interface of every destination: append a batch after a cursor, report the cursor, read lines
//! back.

use zero_bus::{Checksum, Event, Head};

use crate::error::Result;

/// Target size of a page of [`Mirror::lines`]: a page ends with the line that reaches it.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// A verified event together with its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The event.
    pub event: Event,
    /// The exact line of the log, without its line break.
    pub line: String,
}

/// A destination. It holds any number of buses; a bus is identified by the checksum of its first
/// event.
///
/// Every call may block until the destination answers or its own timeout expires.
///
/// A destination must keep three promises, which the loop in [`catch_up`](crate::catch_up()) relies
/// on:
///
/// - [`Mirror::append`] stores events only directly after `after`. The comparison and the write are
///   one atomic step, so that racing mirrors cannot store an event twice or out of order.
/// - When `append` returns `Ok`, the events are durable at the destination.
/// - [`Mirror::head`] never reports an event that is not durable there.
pub trait Mirror: Send {
    /// The destination's address for messages. It contains no secret.
    fn name(&self) -> String;

    /// The buses that the destination holds, sorted by id.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable),
    /// [`Error::Refused`](crate::Error::Refused).
    fn buses(&mut self) -> Result<Vec<Checksum>>;

    /// The destination's cursor for a bus: its last durable event, or [`Head::default`] if it holds
    /// no event.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable),
    /// [`Error::Refused`](crate::Error::Refused).
    fn head(&mut self, bus: Checksum) -> Result<Head>;

    /// Appends a batch of consecutive events directly after `after`. They are durable when this
    /// returns `Ok`.
    ///
    /// # Errors
    /// [`Error::CursorMoved`](crate::Error::CursorMoved) if the cursor is not `after`; nothing was
    /// stored then. [`Error::Unavailable`](crate::Error::Unavailable) if the outcome is unknown:
    /// any prefix of the batch may have been stored, and [`Mirror::head`] reports which.
    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()>;

    /// One page of exact lines, from the event with index `from` on, each with the index it is
    /// stored under. The page is empty if there are no more events. The lines are not verified.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable),
    /// [`Error::Refused`](crate::Error::Refused).
    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>>;

    /// Compares these events with the copies that the destination keeps next to their lines for
    /// queries: columns, a subject. Returns the index and the field of the first mismatch. A
    /// destination that stores lines only has nothing to compare.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable),
    /// [`Error::Refused`](crate::Error::Refused).
    fn first_mismatch(&mut self, _bus: Checksum, _events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        Ok(None)
    }
}
