//! Mirrors of a bus: the same truth, exactly once and checkable, wherever its operator needs it.
//!
//! A [`Mirror`] is a destination; one loop brings any of them up to the log and keeps them there. The log is the truth: what a mirror
//! holds can be made again from it, and the log from any mirror, byte for byte.

#![forbid(unsafe_code)]

mod error;

pub use error::{Error, Result, Source};
use zero_bus::{Checksum, Event, Head};

/// An event on its way, and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The event, checked.
    pub event: Event,
    /// Its line exactly as the log has it, without the line break.
    pub line: String,
}

/// A destination, which holds any number of buses. A bus is known by the checksum of its first event.
///
/// Every call may block for as long as the destination's own time limits allow.
pub trait Mirror: Send {
    /// The destination for messages: its address without any secret.
    fn name(&self) -> String;

    /// The buses that it holds, in the order of their checksums.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Refused`].
    fn buses(&mut self) -> Result<Vec<Checksum>>;

    /// Where it stands for a bus: the last event it holds durably. [`Head::default`] where it holds none.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Refused`].
    fn head(&mut self, bus: Checksum) -> Result<Head>;

    /// Takes the events behind `behind`, in their order. When this returns, they are durable there.
    ///
    /// # Errors
    /// [`Error::Moved`] where it does not stand at `behind`: nothing was taken then. [`Error::Away`]: some of the first of them,
    /// or all, may have been taken; [`Mirror::head`] tells.
    fn take(&mut self, bus: Checksum, behind: Head, batch: &[Record]) -> Result<()>;

    /// The exact lines of the events from an index on, as many as fit the destination's page, each with its index; none
    /// where there are no more.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Refused`].
    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>>;
}
