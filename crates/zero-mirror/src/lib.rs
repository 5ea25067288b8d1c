//! Mirrors of a bus: the same truth, exactly once and checkable, wherever its operator needs it.
//!
//! A [`Mirror`] is a destination; one loop brings any of them up to the log and keeps them there. The log is the truth: what a mirror
//! holds can be made again from it, and the log from any mirror, byte for byte.

#![forbid(unsafe_code)]

mod catch_up;
mod error;
mod http;
pub mod ingest;
mod jetstream;
mod postgres;
mod restore;
mod sqlite;
mod token;
mod verify;
mod wire;

pub use catch_up::{Plan, Report, Stop, catch_up};
pub use error::{Error, Result, Source};
pub use http::Http;
pub use jetstream::JetStream;
pub use postgres::Postgres;
pub use restore::restore;
pub use sqlite::Sqlite;
pub use token::Token;
pub use verify::{ScanProgress, scan, select_bus, verify};

use zero_bus::{Checksum, Event, Head};

/// What a page of [`Mirror::lines`] is about: it ends with the line that reaches this many bytes.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

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
    /// [`Error::Unavailable`], [`Error::Refused`].
    fn buses(&mut self) -> Result<Vec<Checksum>>;

    /// Where it stands for a bus: the last event it holds durably. [`Head::default`] where it holds none.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    fn head(&mut self, bus: Checksum) -> Result<Head>;

    /// Takes the events behind `behind`, in their order. When this returns, they are durable there.
    ///
    /// # Errors
    /// [`Error::CursorMoved`] where it does not stand at `behind`: nothing was taken then. [`Error::Unavailable`]: some of the first of them,
    /// or all, may have been taken; [`Mirror::head`] tells.
    fn take(&mut self, bus: Checksum, behind: Head, batch: &[Record]) -> Result<()>;

    /// The exact lines of the events from an index on, as many as fit the destination's page of some MiB, each with the
    /// index that it is kept at; none where there are no more. Nobody has judged them.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>>;

    /// Holds what the destination keeps beside the lines of these events, so that questions can be asked, against them: the
    /// first that differs, and in what. One that keeps nothing but lines has nothing to compare.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    fn differs(&mut self, _bus: Checksum, _events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        Ok(None)
    }
}

/// The destination at an address. It is first asked when something is asked of it.
///
/// - `sqlite:PATH`
/// - `postgres://USER@HOST:PORT/DATABASE`, see [`Postgres`]
/// - `nats://HOST[:PORT][,HOST...]/STREAM`, see [`JetStream::new`]
/// - `http(s)://HOST[:PORT][/PREFIX][?OPTIONS]`, see [`Http::open`]
///
/// # Errors
/// [`Error::Refused`] for an address that is none.
pub fn open(url: &str) -> Result<Box<dyn Mirror>> {
    address(url, false)
}

/// The same for looking at what is there: nothing is made, and nothing is written.
///
/// # Errors
/// As [`open`].
pub fn open_to_read(url: &str) -> Result<Box<dyn Mirror>> {
    address(url, true)
}

fn address(url: &str, to_read: bool) -> Result<Box<dyn Mirror>> {
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    // The rest may hold a password.
    let refused =
        |problem: &str| Error::Refused { destination: format!("{scheme}:"), problem: problem.to_owned() };
    match scheme {
        "sqlite" => match rest.strip_prefix("//").unwrap_or(rest) {
            "" => Err(refused("names no file; write sqlite:PATH")),
            path if to_read => Ok(Box::new(Sqlite::to_read(path))),
            path => Ok(Box::new(Sqlite::new(path))),
        },
        "postgres" | "postgresql" => Ok(Box::new(Postgres::new(url, to_read)?)),
        "nats" | "tls" => Ok(Box::new(JetStream::new(url)?)),
        "http" | "https" => Ok(Box::new(Http::open(url)?)),
        _ => Err(Error::Refused {
            destination: "the address".to_owned(),
            problem: "begins with none of sqlite:, postgres:, nats:, http: and https:".to_owned(),
        }),
    }
}
