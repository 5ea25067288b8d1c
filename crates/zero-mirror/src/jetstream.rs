//! A mirror on NATS JetStream: each bus is a replicated stream, and an event's index is its
//! sequence in the stream.
//!
//! Every event is published with the header `Nats-Expected-Last-Sequence`, set to its index minus
//! one. The server therefore stores it in its place or not at all, however often and by however
//! many mirrors it is sent. Messages are sent ahead of their acknowledgements. The protocol is
//! <https://docs.nats.io/reference/reference-protocols/nats_api_reference>.
//!
//! Message ids and `Nats-Expected-Last-Msg-Id` are not used. Up to server 2.9 each replica checks
//! them against its own memory, which differs between replicas after a restart. The sequence is
//! part of what the replicas agree on.

mod address;
mod connection;
mod publisher;
mod settings;

use tokio::runtime::{Builder, Runtime};
use zero_bus::{Checksum, Event, Head};

use crate::error::{Error, Result};
use crate::mirror::{Mirror, Record};
use address::Address;
use connection::Connection;

/// A JetStream server or cluster as a destination: `nats://HOST[:PORT][,HOST...]/STREAM`.
///
/// Each bus is a stream named `STREAM-` and the bus in 64 hex digits, with subjects
/// `zero.runtime.<bus>.<event type>`. An acknowledged event is stored by a majority of the stream's
/// replicas. Whether it is on their disks depends on the server's settings, see `docs/MIRRORS.md`.
pub struct JetStream {
    address: Address,
    runtime: Runtime,
    connection: Option<Connection>,
}

impl JetStream {
    /// A mirror at an address. The first call connects.
    ///
    /// The login is in the address (`USER:PASSWORD@` or `TOKEN@`) or in the environment:
    /// `NATS_USER` and `NATS_PASSWORD`, `NATS_CREDS`, `NATS_NKEY`. With `tls://` or `?tls=true` the
    /// connection is encrypted; `NATS_CA` names a file of certificate authorities to trust instead
    /// of the system's. `?replicas=N` sets the number of replicas; the default is three in a
    /// cluster, and one on a single server.
    ///
    /// # Errors
    /// [`Error::Refused`] if the address is invalid.
    pub fn new(address: &str) -> Result<Self> {
        let address = Address::parse(address, |name| std::env::var(name).ok())?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Error::unavailable(&address.name, "start a thread", error))?;
        Ok(Self { address, runtime, connection: None })
    }

    /// Makes a call over the connection. After an error the connection is dropped, so the next call
    /// opens a new one and checks the stream again.
    fn call<T>(&mut self, call: impl AsyncFnOnce(&Address, &mut Connection) -> Result<T>) -> Result<T> {
        let Self { address, runtime, connection } = self;
        let result = runtime.block_on(async {
            let connection = match connection {
                Some(connection) => connection,
                None => connection.insert(Connection::open(address).await?),
            };
            call(address, connection).await
        });
        if !matches!(result, Ok(_) | Err(Error::CursorMoved { .. })) {
            *connection = None;
        }
        result
    }
}

impl Mirror for JetStream {
    fn name(&self) -> String {
        self.address.name.clone()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        self.call(async |address, connection| connection.buses(address).await)
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        self.call(async |address, connection| connection.head(address, bus).await)
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        self.call(async |address, connection| connection.append(address, bus, after, batch).await)
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.call(async |address, connection| connection.lines(address, bus, from.max(1)).await)
    }

    fn first_mismatch(&mut self, bus: Checksum, events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        self.call(async |address, connection| connection.first_mismatch(address, bus, events).await)
    }
}
