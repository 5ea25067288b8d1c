//! NATS JetStream: a replicated stream for each bus, whose sequence is the event's index.
//!
//! An event is published with the header `Nats-Expected-Last-Sequence`, one less than its index, so that the server stores
//! it in its place or not at all, however often and by however many mirrors it is sent. Messages are sent ahead of their
//! acknowledgements. The protocol is <https://docs.nats.io/reference/reference-protocols/nats_api_reference>.
//!
//! Neither message ids nor the expected last message id are used: up to server 2.9 each replica judges those by what it has in
//! memory, which after a restart differs from replica to replica. The sequence is in what they agree on.

mod address;
mod settings;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use async_nats::jetstream::context::traits::Publisher as _;
use async_nats::jetstream::context::{Context, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Info, RawMessageError, RawMessageErrorKind};
use async_nats::jetstream::{Error as ApiError, ErrorCode};
use futures_util::{StreamExt as _, stream};
use tokio::runtime::{Builder, Runtime};
use zero_bus::{Checksum, Fault, FaultKind, Head, MAX_LINE_BYTES, Value};

use crate::error::{Error, Result, Source};
use crate::{Mirror, Record};
use address::Address;

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages that may be on their way, and bytes of their lines: enough to keep a replicated stream busy.
const WINDOW_MESSAGES: usize = 512;
const WINDOW_BYTES: usize = 4 << 20;

/// Events in a page, bytes after which one ends, and messages that are asked for at once.
const PAGE_EVENTS: u64 = 1024;
const PAGE_BYTES: usize = 4 << 20;
const ASKED_FOR_AT_ONCE: usize = 64;

/// Replicas in a cluster, where the address does not say.
const REPLICAS: usize = 3;

/// A JetStream server or cluster as a destination: `nats://HOST[:PORT][,HOST...]/STREAM`.
///
/// Each bus is a stream of its own, `STREAM-` and the bus in 64 hex digits, on subjects `zero.runtime.<bus>.<event type>`. What is
/// taken is held by a majority of the stream's replicas; whether on their disks depends on the server's settings, see
/// `docs/MIRRORS.md`.
pub struct JetStream {
    address: Address,
    runtime: Runtime,
    connection: Option<Connection>,
}

impl JetStream {
    /// Reads the address. The servers are asked when something is wanted of them.
    ///
    /// A login stands in the address (`USER:PASSWORD@` or `TOKEN@`) or in the environment: `NATS_USER` and `NATS_PASSWORD`,
    /// `NATS_CREDS`, `NATS_NKEY`. With `tls://` or `?tls=true` the connection is encrypted; `NATS_CA` names a file of
    /// certificates to trust in the place of the system's. `?replicas=N` asks for as many replicas; without it a cluster
    /// keeps three, and a single server one.
    ///
    /// # Errors
    /// [`Error::Refused`] where this is no such address.
    pub fn open(address: &str) -> Result<Self> {
        let address = Address::parse(address, |name| std::env::var(name).ok())?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| away(&address.name, "start a thread", error))?;
        Ok(Self { address, runtime, connection: None })
    }

    /// Does one thing over a connection, which is not used again where that failed on the way.
    fn over_connection<T>(
        &mut self,
        action: impl AsyncFnOnce(&Address, &mut Connection) -> Result<T>,
    ) -> Result<T> {
        let Self { address, runtime, connection } = self;
        let done = runtime.block_on(async {
            let connection = match connection {
                Some(connection) => connection,
                None => connection.insert(Connection::open(address).await?),
            };
            action(address, connection).await
        });
        if let Err(Error::Away { .. } | Error::Moved { .. }) = done {
            *connection = None;
        }
        done
    }
}

impl Mirror for JetStream {
    fn name(&self) -> String {
        self.address.name.clone()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        self.over_connection(async |address, connection| connection.buses(address).await)
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        self.over_connection(async |address, connection| connection.head(address, bus).await)
    }

    fn take(&mut self, bus: Checksum, behind: Head, batch: &[Record]) -> Result<()> {
        self.over_connection(async |address, connection| connection.take(address, bus, behind, batch).await)
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.over_connection(async |address, connection| connection.lines(address, bus, from.max(1)).await)
    }
}

struct Connection {
    context: Context,
    /// Whether its servers are a cluster.
    cluster: bool,
    /// The buses whose streams were found set as they must be.
    ready: HashSet<Checksum>,
    /// Where the last batch ended that was acknowledged here as a whole.
    written: Option<(Checksum, Head)>,
}

impl Connection {
    async fn open(address: &Address) -> Result<Self> {
        let client = address.connect().await?;
        let cluster = client.server_info().cluster.is_some();
        let context = async_nats::jetstream::new(client);
        Ok(Self { context, cluster, ready: HashSet::new(), written: None })
    }

    async fn buses(&self, address: &Address) -> Result<Vec<Checksum>> {
        let mut names = self.context.stream_names();
        let mut buses = Vec::new();
        while let Some(name) = names.next().await {
            let name = name.map_err(|error| away(&address.name, "list its streams", error))?;
            buses.extend(settings::bus_of(&address.prefix, &name));
        }
        let mut held = Vec::with_capacity(buses.len());
        for bus in buses {
            if self.events(address, bus).await? > 0 {
                held.push(bus);
            }
        }
        held.sort_by_key(|bus| *bus.as_bytes());
        Ok(held)
    }

    async fn head(&mut self, address: &Address, bus: Checksum) -> Result<Head> {
        let Some(info) = self.info(address, bus).await? else { return Ok(Head::default()) };
        self.check(address, bus, &info)?;
        let state = &info.state;
        let index = state.last_sequence;
        if state.messages != index || (index > 0 && state.first_sequence != 1) {
            let problem = format!(
                "{} of the {index} events of stream {} are gone, the first that is left is {}; remove the stream to have it \
                 filled anew",
                index.saturating_sub(state.messages),
                info.config.name,
                state.first_sequence
            );
            return Err(refused(&address.name, problem));
        }
        if index == 0 {
            return Ok(Head::default());
        }
        let line = self.line(address, bus, index).await?;
        let fault = |kind| unsound(address, bus, index, kind);
        let value = Value::parse(&line).map_err(|error| fault(FaultKind::NotJson(error.to_string(), 0)))?;
        if value.get("event_index").and_then(Value::as_u64) != Some(index) {
            return Err(fault(FaultKind::NonSequentialIndex));
        }
        let checksum = value.get("checksum").and_then(Value::as_str).and_then(Checksum::parse);
        let checksum = checksum.ok_or_else(|| fault(FaultKind::MissingField("checksum")))?;
        Ok(Head { index, checksum: Some(checksum) })
    }

    async fn take(&mut self, address: &Address, bus: Checksum, behind: Head, batch: &[Record]) -> Result<()> {
        let Some(last) = batch.last() else { return Ok(()) };
        self.prepare(address, bus, behind).await?;
        let mut sending = Sending::new(self, address, bus);
        // Where the last writer may have been another one, the first event is sent alone: where it is refused, nothing is
        // on its way that could slip in behind what somebody else puts in its place.
        let mut alone = self.written != Some((bus, behind));
        for record in batch {
            if let Err(error) = sending.send(record).await {
                sending.settle_all().await?;
                return Err(error);
            }
            while sending.is_full() || (alone && !sending.on_the_way.is_empty()) {
                sending.settle().await?;
            }
            alone = false;
            if sending.refused.is_some() {
                break;
            }
        }
        sending.settle_all().await?;
        let Sending { refused, sent_last, .. } = sending;
        if let Some(refused) = refused {
            return Err(self.who_else(address, bus, batch, refused, sent_last).await?);
        }
        self.written = Some((bus, Head { index: last.event.index, checksum: Some(last.event.checksum) }));
        Ok(())
    }

    async fn lines(&self, address: &Address, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let end = self.events(address, bus).await?.min(from.saturating_add(PAGE_EVENTS - 1));
        let mut coming = stream::iter(from..=end)
            .map(async |index| Ok::<_, Error>((index, self.line(address, bus, index).await?)))
            .buffered(ASKED_FOR_AT_ONCE);
        let mut lines = Vec::new();
        let mut bytes = 0;
        while let Some(line) = coming.next().await {
            match line {
                Ok((index, line)) => {
                    bytes += line.len();
                    lines.push((index, line));
                }
                // What stands before a fault is given out first; who goes on from there meets it again.
                Err(Error::Unsound { .. }) if !lines.is_empty() => break,
                Err(error) => return Err(error),
            }
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(lines)
    }

    /// Sees to it that the bus has a stream, set as it must be.
    async fn prepare(&mut self, address: &Address, bus: Checksum, behind: Head) -> Result<()> {
        if self.ready.contains(&bus) {
            return Ok(());
        }
        if behind.index == 0 {
            self.create(address, bus).await?;
        }
        match self.info(address, bus).await? {
            Some(info) => self.check(address, bus, &info),
            None => Err(Error::Moved { destination: address.name.clone() }),
        }
    }

    async fn create(&self, address: &Address, bus: Checksum) -> Result<()> {
        let config = settings::config(&address.prefix, bus, self.replicas(address));
        let created: Response<Info> =
            self.ask(address, "create a stream", format!("STREAM.CREATE.{}", config.name), &config).await?;
        let Response::Err { error } = created else { return Ok(()) };
        Err(match error.error_code() {
            // It is there: whether it will do is looked at next.
            ErrorCode::STREAM_NAME_EXIST => return Ok(()),
            ErrorCode::STREAM_SUBJECT_OVERLAP => {
                let problem = format!(
                    "cannot create stream {}: another stream takes some of its subjects {}; remove that, or name a \
                     destination in another account",
                    config.name, config.subjects[0]
                );
                refused(&address.name, problem)
            }
            ErrorCode::CLUSTER_NO_PEERS => {
                let action = "place as many replicas as are wanted (start the servers that are down, or ask for fewer with \
                              ?replicas=)";
                away(&address.name, action, error)
            }
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => {
                refused(&address.name, "it is no cluster and keeps one replica; ask for ?replicas=1")
            }
            _ => self.told(address, "create a stream", error),
        })
    }

    /// Looks at the settings of a bus's stream, once in a connection.
    fn check(&mut self, address: &Address, bus: Checksum, info: &Info) -> Result<()> {
        let wanted = settings::config(&address.prefix, bus, self.replicas(address));
        if !self.ready.contains(&bus) {
            if let Some(objection) = settings::objection(&info.config, &wanted) {
                let problem = format!(
                    "stream {} does not keep what it is given: {objection}; mend it, or remove it to have it created anew",
                    wanted.name
                );
                return Err(refused(&address.name, problem));
            }
            self.ready.insert(bus);
        }
        Ok(())
    }

    fn replicas(&self, address: &Address) -> usize {
        address.replicas.unwrap_or(if self.cluster { REPLICAS } else { 1 })
    }

    /// What the stream's leader says of it; `None` where there is no stream.
    async fn info(&self, address: &Address, bus: Checksum) -> Result<Option<Info>> {
        let subject = format!("STREAM.INFO.{}", settings::stream_name(&address.prefix, bus));
        match self.ask(address, "look at its stream", subject, &()).await? {
            Response::Ok(info) => Ok(Some(info)),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Response::Err { error } => Err(self.told(address, "look at its stream", error)),
        }
    }

    /// Events up to the last one of a bus.
    async fn events(&self, address: &Address, bus: Checksum) -> Result<u64> {
        Ok(self.info(address, bus).await?.map_or(0, |info| info.state.last_sequence))
    }

    /// The line of an event that was there, from the stream's leader.
    async fn line(&self, address: &Address, bus: Checksum, index: u64) -> Result<String> {
        let fault = |kind| unsound(address, bus, index, kind);
        let name = settings::stream_name(&address.prefix, bus);
        let stream = self.context.get_stream_no_info(name).await;
        let stream = stream.map_err(|error| away(&address.name, "read an event", error))?;
        let message =
            stream.get_raw_message(index).await.map_err(|error: RawMessageError| match error.kind() {
                RawMessageErrorKind::NoMessageFound => fault(FaultKind::NonSequentialIndex),
                RawMessageErrorKind::JetStream(error) => self.told(address, "read an event", error),
                _ => away(&address.name, "read an event", error),
            })?;
        if message.sequence != index {
            return Err(fault(FaultKind::NonSequentialIndex));
        }
        if message.payload.len() > MAX_LINE_BYTES {
            return Err(fault(FaultKind::LineTooLong));
        }
        String::from_utf8(message.payload.into())
            .map_err(|error| fault(FaultKind::NotUtf8(error.utf8_error().valid_up_to())))
    }

    /// Says who stands in the place of an event that was refused: another chain, or another mirror of this one.
    async fn who_else(
        &self,
        address: &Address,
        bus: Checksum,
        batch: &[Record],
        refused: u64,
        sent_last: u64,
    ) -> Result<Error> {
        let end = self.events(address, bus).await?.min(sent_last);
        for record in batch {
            let index = record.event.index;
            if (refused..=end).contains(&index) && self.line(address, bus, index).await? != record.line {
                return Ok(Error::Fork { destination: address.name.clone(), bus, index });
            }
        }
        Ok(Error::Moved { destination: address.name.clone() })
    }

    async fn ask<T: serde::Serialize + ?Sized, A: serde::de::DeserializeOwned>(
        &self,
        address: &Address,
        action: &'static str,
        subject: String,
        question: &T,
    ) -> Result<A> {
        let answer = self.context.request(subject, question).await;
        answer.map_err(|error| away(&address.name, action, error))
    }

    /// Sorts what JetStream says: its codes from 500 on are about now, the others about what was asked.
    fn told(&self, address: &Address, action: &'static str, error: ApiError) -> Error {
        if error.code() >= 500 {
            away(&address.name, action, error)
        } else {
            refused(&address.name, format!("cannot {action}: {error}"))
        }
    }
}

/// A batch on its way.
struct Sending<'a> {
    context: &'a Context,
    address: &'a Address,
    stream: String,
    subjects: String,
    /// Each event's index, the bytes of its line, and what will come back.
    on_the_way: VecDeque<(u64, usize, PublishAckFuture)>,
    bytes: usize,
    /// The first event that was not stored in its place, since there is another message.
    refused: Option<u64>,
    sent_last: u64,
}

impl<'a> Sending<'a> {
    fn new(connection: &'a Connection, address: &'a Address, bus: Checksum) -> Self {
        Self {
            context: &connection.context,
            address,
            stream: settings::stream_name(&address.prefix, bus),
            subjects: settings::subjects_of(bus),
            on_the_way: VecDeque::with_capacity(WINDOW_MESSAGES),
            bytes: 0,
            refused: None,
            sent_last: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.on_the_way.len() >= WINDOW_MESSAGES || self.bytes >= WINDOW_BYTES
    }

    async fn send(&mut self, record: &Record) -> Result<()> {
        let index = record.event.index;
        let mut subject = self.subjects.clone();
        settings::write_event_type(&record.event.event_type, &mut subject);
        let message = PublishMessage::build()
            .payload(record.line.clone().into())
            .expected_last_sequence(index.saturating_sub(1))
            .outbound_message(subject);
        let sent = self.context.publish_message(message).await.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                let problem = format!(
                    "event {index} has {} bytes, more than its `max_payload` lets through; raise that in the servers' settings",
                    record.line.len()
                );
                refused(&self.address.name, problem)
            }
            _ => away(&self.address.name, "publish an event", error),
        })?;
        self.on_the_way.push_back((index, record.line.len(), sent));
        self.bytes += record.line.len();
        self.sent_last = index;
        Ok(())
    }

    /// Waits for what comes back of the first that is on its way.
    async fn settle(&mut self) -> Result<()> {
        let Some((index, bytes, sent)) = self.on_the_way.pop_front() else { return Ok(()) };
        self.bytes -= bytes;
        match sent.await {
            Ok(stored) if stored.stream == self.stream && stored.sequence == index && !stored.duplicate => {
                Ok(())
            }
            Ok(stored) => {
                let problem = format!(
                    "event {index} was to be message {index} of stream {}, but became message {} of stream {}; something \
                     between publisher and stream changes what is published",
                    self.stream, stored.sequence, stored.stream
                );
                Err(refused(&self.address.name, problem))
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                self.refused.get_or_insert(index);
                Ok(())
            }
            Err(error) => Err(away(&self.address.name, "publish an event", error)),
        }
    }

    async fn settle_all(&mut self) -> Result<()> {
        while !self.on_the_way.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }
}

fn away(destination: &str, action: &'static str, source: impl Into<Source>) -> Error {
    Error::Away { destination: destination.to_owned(), action, source: source.into() }
}

fn refused(destination: &str, problem: impl Into<String>) -> Error {
    Error::Refused { destination: destination.to_owned(), problem: problem.into() }
}

fn unsound(address: &Address, bus: Checksum, event: u64, kind: FaultKind) -> Error {
    let destination = format!("{}, stream {}", address.name, settings::stream_name(&address.prefix, bus));
    Error::Unsound { destination, fault: Fault { event, byte_offset: 0, kind } }
}
