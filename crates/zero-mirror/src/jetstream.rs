//! NATS JetStream: a replicated stream for each bus, whose sequence is the event's index.
//!
//! An event is published with the header `Nats-Expected-Last-Sequence`, one less than its index, so that the server stores
//! it in its place or not at all, however often and by however many mirrors it is sent. Messages are sent ahead of their
//! acknowledgements. The protocol is <https://docs.nats.io/reference/reference-protocols/nats_api_reference>.
//!
//! Neither message ids nor the expected last message id are used: up to server 2.9 each replica judges those by what it has in
//! memory, which after a restart differs from replica to replica. The sequence is in what they agree on.

mod address;
mod sending;
mod settings;

use std::collections::{HashMap, HashSet};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Info, RawMessageErrorKind};
use async_nats::jetstream::{Error as ApiError, ErrorCode};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::runtime::{Builder, Runtime};
use zero_bus::{Checksum, Event, Head, MAX_LINE_BYTES};

use crate::error::{Error, Result, Source};
use crate::mirror::{Mirror, PAGE_BYTES, Record};
use address::Address;
use sending::{Answers, Sending};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages that may be on their way, and bytes of their lines: enough to keep a replicated stream busy.
const WINDOW_MESSAGES: usize = 512;
const WINDOW_BYTES: usize = 4 << 20;

/// Most events in a page, and messages that are asked for at once.
const PAGE_EVENTS: u64 = 1024;
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
    pub fn new(address: &str) -> Result<Self> {
        let address = Address::parse(address, |name| std::env::var(name).ok())?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| away(&address.name, "start a thread", error))?;
        Ok(Self { address, runtime, connection: None })
    }

    /// Does one thing over a connection. Where that failed, the next one looks at everything anew over another.
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
        if !matches!(done, Ok(_) | Err(Error::CursorMoved { .. })) {
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

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        self.over_connection(async |address, connection| connection.append(address, bus, after, batch).await)
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.over_connection(async |address, connection| connection.lines(address, bus, from.max(1)).await)
    }

    fn first_mismatch(&mut self, bus: Checksum, events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        self.over_connection(async |address, connection| {
            connection.first_mismatch(address, bus, events).await
        })
    }
}

struct Connection {
    client: Client,
    context: Context,
    /// Once something was published.
    answers: Option<Answers>,
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
        let context = async_nats::jetstream::new(client.clone());
        Ok(Self { client, context, answers: None, cluster, ready: HashSet::new(), written: None })
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

    /// Where the stream ends. The first time over a connection, the links of as many events as can have been on their way
    /// at once are looked at too: mirrors of two chains of one bus that raced and died can have mixed them there.
    async fn head(&mut self, address: &Address, bus: Checksum) -> Result<Head> {
        let Some(info) = self.info(address, bus).await? else { return Ok(Head::default()) };
        let seen = self.ready.contains(&bus);
        self.check(address, bus, &info)?;
        let index = info.state.last_sequence;
        if let Some(missing) = self.missing(address, &info).await? {
            return Err(unsound(address, bus, missing, format!("event {missing} is missing")));
        }
        let first = if seen { index } else { index.saturating_sub(WINDOW_MESSAGES as u64).max(1) };
        let mut coming = self.coming(address, bus, first..=index);
        let mut head = Head::default();
        while let Some(line) = coming.next().await {
            let (index, line) = line?;
            let event = match head.checksum {
                None => Event::read_alone(line.as_bytes(), index),
                Some(_) => Event::read(line.as_bytes(), head),
            };
            head = event.map_err(|fault| unsound(address, bus, index, fault.to_string()))?.head();
        }
        Ok(head)
    }

    async fn append(
        &mut self,
        address: &Address,
        bus: Checksum,
        after: Head,
        batch: &[Record],
    ) -> Result<()> {
        let Some(last) = batch.last() else { return Ok(()) };
        self.prepare(address, bus, after).await?;
        let answers = match self.answers.take() {
            Some(answers) => answers,
            None => Answers::open(&self.client, address).await?,
        };
        // Where the last writer may have been another one, the first event is sent alone: where it is refused, nothing is
        // on its way that could slip in behind what somebody else puts in its place.
        let alone = self.written.take() != Some((bus, after));
        let sending = Sending::new(&self.client, answers, address, bus, after.index.saturating_add(1));
        let messages = sending.messages(batch);
        let run = tokio::spawn(sending.run(messages, alone)).await;
        let (sending, done) = run.map_err(|error| away(&address.name, "publish events", error))?;
        done?;
        self.answers = Some(sending.answers);
        if let Some(refused) = sending.refused {
            return Err(self.who_else(address, bus, batch, refused..sending.end).await?);
        }
        self.written = Some((bus, last.event.head()));
        Ok(())
    }

    async fn lines(&self, address: &Address, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let end = self.events(address, bus).await?.min(from.saturating_add(PAGE_EVENTS - 1));
        let mut coming = self.coming(address, bus, from..=end);
        let mut lines = Vec::new();
        let mut bytes = 0;
        while let Some(line) = coming.next().await {
            match line {
                Ok((index, line)) => {
                    bytes += line.len();
                    lines.push((index, line));
                }
                // What stands before a fault is given out first; who goes on from there meets it again.
                Err(Error::Corrupt { .. }) if !lines.is_empty() => break,
                Err(error) => return Err(error),
            }
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(lines)
    }

    async fn first_mismatch(
        &self,
        address: &Address,
        bus: Checksum,
        events: &[Event],
    ) -> Result<Option<(u64, &'static str)>> {
        let look = |event: &Event| {
            let (index, mut subject) = (event.index, settings::subjects_of(bus));
            settings::write_event_type(&event.event_type, &mut subject);
            async move {
                Ok::<_, Error>((index, self.message(address, bus, index).await?.subject.as_str() == subject))
            }
        };
        let mut looked = Box::pin(stream::iter(events.iter().map(look)).buffered(ASKED_FOR_AT_ONCE));
        while let Some(looked) = looked.next().await {
            if let (index, false) = looked? {
                return Ok(Some((index, "subject")));
            }
        }
        Ok(None)
    }

    /// Sees to it that the bus has a stream, set as it must be.
    async fn prepare(&mut self, address: &Address, bus: Checksum, after: Head) -> Result<()> {
        if self.ready.contains(&bus) {
            return Ok(());
        }
        if after.index == 0 {
            self.create(address, bus).await?;
        }
        match self.info(address, bus).await? {
            Some(info) => self.check(address, bus, &info),
            None => Err(Error::CursorMoved { destination: address.name.clone() }),
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

    /// The first event that was removed from among those of a stream.
    async fn missing(&self, address: &Address, info: &Info) -> Result<Option<u64>> {
        if info.state.last_sequence == 0 || info.state.messages == info.state.last_sequence {
            return Ok(None);
        }
        if info.state.first_sequence != 1 {
            return Ok(Some(1));
        }
        let (action, subject) = ("look for what is missing", format!("STREAM.INFO.{}", info.config.name));
        match self.ask(address, action, subject, &HashMap::from([("deleted_details", true)])).await? {
            Response::Ok(Info { state, .. }) => Ok(state.deleted.unwrap_or_default().into_iter().min()),
            Response::Err { error } => Err(self.told(address, action, error)),
        }
    }

    /// Events up to the last one of a bus.
    async fn events(&self, address: &Address, bus: Checksum) -> Result<u64> {
        Ok(self.info(address, bus).await?.map_or(0, |info| info.state.last_sequence))
    }

    /// The lines of events that were there, in their order, several asked for at once.
    fn coming(
        &self,
        address: &Address,
        bus: Checksum,
        indexes: RangeInclusive<u64>,
    ) -> impl Stream<Item = Result<(u64, String)>> + Unpin {
        let line = move |index| async move { Ok((index, self.line(address, bus, index).await?)) };
        Box::pin(stream::iter(indexes).map(line).buffered(ASKED_FOR_AT_ONCE))
    }

    /// The line of an event that was there.
    async fn line(&self, address: &Address, bus: Checksum, index: u64) -> Result<String> {
        let wrong = |problem| unsound(address, bus, index, format!("event {index} is {problem}"));
        let message = self.message(address, bus, index).await?;
        if message.payload.len() > MAX_LINE_BYTES {
            return Err(wrong("longer than any event"));
        }
        String::from_utf8(message.payload.into()).map_err(|_| wrong("not UTF-8"))
    }

    /// The message of an event that was there, from the stream's leader.
    async fn message(&self, address: &Address, bus: Checksum, index: u64) -> Result<StreamMessage> {
        let stream = self.context.get_stream_no_info(settings::stream_name(&address.prefix, bus)).await;
        let stream = stream.map_err(|error| away(&address.name, "read an event", error))?;
        match stream.get_raw_message(index).await {
            Ok(message) if message.sequence == index => Ok(message),
            Ok(_) => Err(unsound(address, bus, index, format!("event {index} is answered with another"))),
            Err(error) => Err(match error.kind() {
                RawMessageErrorKind::NoMessageFound => {
                    unsound(address, bus, index, format!("event {index} is missing"))
                }
                RawMessageErrorKind::JetStream(error) => self.told(address, "read an event", error),
                _ => away(&address.name, "read an event", error),
            }),
        }
    }

    /// Says who stands in the place of an event that was refused: another chain, or another mirror of this one.
    async fn who_else(
        &self,
        address: &Address,
        bus: Checksum,
        batch: &[Record],
        refused: Range<u64>,
    ) -> Result<Error> {
        let last = self.events(address, bus).await?;
        for Record { event: Event { index, checksum, .. }, .. } in batch {
            let (index, in_question) = (*index, refused.contains(index) && *index <= last);
            if in_question {
                let line = self.line(address, bus, index).await?;
                if Event::read_alone(line.as_bytes(), index).map(|event| event.checksum) != Ok(*checksum) {
                    return Ok(Error::Fork { destination: address.name.clone(), bus, index });
                }
            }
        }
        Ok(Error::CursorMoved { destination: address.name.clone() })
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

fn away(destination: &str, action: &'static str, source: impl Into<Source>) -> Error {
    Error::Unavailable { destination: destination.to_owned(), action, source: source.into() }
}

fn refused(destination: &str, problem: impl Into<String>) -> Error {
    Error::Refused { destination: destination.to_owned(), problem: problem.into() }
}

fn unsound(address: &Address, bus: Checksum, index: u64, problem: String) -> Error {
    Error::Corrupt { destination: address.name.clone(), bus, index, problem }
}
