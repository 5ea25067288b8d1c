//! A connection to the servers: creates and checks the streams of buses, appends to them and reads
//! them.

use std::collections::{HashMap, HashSet};
use std::ops::{Range, RangeInclusive};

use async_nats::Client;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Info, RawMessageErrorKind};
use async_nats::jetstream::{Error as ApiError, ErrorCode};
use futures_util::{Stream, StreamExt as _, stream};
use zero_bus::{Checksum, Event, Head, MAX_LINE_BYTES};

use super::address::Address;
use super::publisher::{AckSubscription, Publisher, WINDOW_MESSAGES};
use super::settings;
use crate::error::{Error, Result};
use crate::mirror::{PAGE_BYTES, Record};

/// Maximum number of events in a page.
const MAX_PAGE_EVENTS: u64 = 1024;
/// Messages that are requested at the same time.
const CONCURRENT_READS: usize = 64;

/// Replicas of a stream in a cluster, unless the address sets the number.
const DEFAULT_CLUSTER_REPLICAS: usize = 3;

pub(super) struct Connection {
    client: Client,
    context: Context,
    /// The subscription to acknowledgements; opened with the first batch.
    acks: Option<AckSubscription>,
    is_cluster: bool,
    /// Buses whose stream's settings were checked over this connection.
    checked: HashSet<Checksum>,
    /// The end of the last batch, if all of it was acknowledged over this connection.
    last_appended: Option<(Checksum, Head)>,
}

impl Connection {
    pub(super) async fn open(address: &Address) -> Result<Self> {
        let client = address.connect().await?;
        let is_cluster = client.server_info().cluster.is_some();
        let context = async_nats::jetstream::new(client.clone());
        Ok(Self { client, context, acks: None, is_cluster, checked: HashSet::new(), last_appended: None })
    }

    pub(super) async fn buses(&self, address: &Address) -> Result<Vec<Checksum>> {
        let mut names = self.context.stream_names();
        let mut streams = Vec::new();
        while let Some(name) = names.next().await {
            let name = name.map_err(|error| Error::unavailable(&address.name, "list its streams", error))?;
            streams.extend(settings::bus_of_stream(&address.prefix, &name));
        }
        let mut buses = Vec::with_capacity(streams.len());
        for bus in streams {
            if self.last_sequence(address, bus).await? > 0 {
                buses.push(bus);
            }
        }
        buses.sort_by_key(|bus| *bus.as_bytes());
        Ok(buses)
    }

    /// The last event of the stream. The first call over a connection also verifies the links of
    /// the last [`WINDOW_MESSAGES`] events: if mirrors of two different chains of one bus raced and
    /// died, they can have mixed that many.
    pub(super) async fn head(&mut self, address: &Address, bus: Checksum) -> Result<Head> {
        let Some(info) = self.stream_info(address, bus).await? else { return Ok(Head::default()) };
        let was_checked = self.checked.contains(&bus);
        self.check_settings(address, bus, &info)?;
        let last = info.state.last_sequence;
        if let Some(missing) = self.first_missing(address, &info).await? {
            return Err(corrupt(address, bus, missing, format!("event {missing} is missing")));
        }
        let first = if was_checked { last } else { last.saturating_sub(WINDOW_MESSAGES as u64).max(1) };
        let mut lines = self.read_lines(address, bus, first..=last);
        let mut head = Head::default();
        while let Some(line) = lines.next().await {
            let (index, line) = line?;
            let event = match head.checksum {
                None => Event::read_alone(line.as_bytes(), index),
                Some(_) => Event::read(line.as_bytes(), head),
            };
            head = event.map_err(|fault| corrupt(address, bus, index, fault.to_string()))?.head();
        }
        Ok(head)
    }

    pub(super) async fn append(
        &mut self,
        address: &Address,
        bus: Checksum,
        after: Head,
        batch: &[Record],
    ) -> Result<()> {
        let Some(last) = batch.last() else { return Ok(()) };
        self.prepare_stream(address, bus, after).await?;
        let acks = match self.acks.take() {
            Some(acks) => acks,
            None => AckSubscription::open(&self.client, address).await?,
        };
        // If another mirror may have appended last, the first event is sent alone. If the server
        // refuses it, no later event of the batch is on its way, which could otherwise be stored
        // after the other mirror's event.
        let first_alone = self.last_appended.take() != Some((bus, after));
        let publisher = Publisher::new(&self.client, acks, address, bus, after.index.saturating_add(1));
        let messages = publisher.messages(batch);
        let published = tokio::spawn(publisher.publish(messages, first_alone)).await;
        let (publisher, result) =
            published.map_err(|error| Error::unavailable(&address.name, "publish events", error))?;
        result?;
        self.acks = Some(publisher.acks);
        if let Some(first_refused) = publisher.first_refused {
            let refused = first_refused..publisher.end;
            return Err(self.explain_refusal(address, bus, batch, refused).await?);
        }
        self.last_appended = Some((bus, last.event.head()));
        Ok(())
    }

    pub(super) async fn lines(
        &self,
        address: &Address,
        bus: Checksum,
        from: u64,
    ) -> Result<Vec<(u64, String)>> {
        let end = self.last_sequence(address, bus).await?.min(from.saturating_add(MAX_PAGE_EVENTS - 1));
        let mut coming = self.read_lines(address, bus, from..=end);
        let mut page = Vec::new();
        let mut page_bytes = 0;
        while let Some(line) = coming.next().await {
            match line {
                Ok((index, line)) => {
                    page_bytes += line.len();
                    page.push((index, line));
                }
                // The page ends before the fault. The next page starts with it, and returns the
                // error.
                Err(Error::Corrupt { .. }) if !page.is_empty() => break,
                Err(error) => return Err(error),
            }
            if page_bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(page)
    }

    pub(super) async fn first_mismatch(
        &self,
        address: &Address,
        bus: Checksum,
        events: &[Event],
    ) -> Result<Option<(u64, &'static str)>> {
        let compare = |event: &Event| {
            let (index, mut subject) = (event.index, settings::subject_prefix(bus));
            settings::write_event_type(&event.event_type, &mut subject);
            async move {
                let message = self.message(address, bus, index).await?;
                Ok::<_, Error>((index, message.subject.as_str() == subject))
            }
        };
        let mut compared = Box::pin(stream::iter(events.iter().map(compare)).buffered(CONCURRENT_READS));
        while let Some(result) = compared.next().await {
            if let (index, false) = result? {
                return Ok(Some((index, "subject")));
            }
        }
        Ok(None)
    }

    /// Ensures that the bus has a stream with the required settings. Creates it for the first
    /// event.
    async fn prepare_stream(&mut self, address: &Address, bus: Checksum, after: Head) -> Result<()> {
        if self.checked.contains(&bus) {
            return Ok(());
        }
        if after.index == 0 {
            self.create_stream(address, bus).await?;
        }
        match self.stream_info(address, bus).await? {
            Some(info) => self.check_settings(address, bus, &info),
            None => Err(Error::CursorMoved { destination: address.name.clone() }),
        }
    }

    async fn create_stream(&self, address: &Address, bus: Checksum) -> Result<()> {
        let config = settings::stream_config(&address.prefix, bus, self.replicas(address));
        let subject = format!("STREAM.CREATE.{}", config.name);
        let created: Response<Info> = self.request(address, "create a stream", subject, &config).await?;
        let Response::Err { error } = created else { return Ok(()) };
        Err(match error.error_code() {
            // The caller checks the settings of the existing stream next.
            ErrorCode::STREAM_NAME_EXIST => return Ok(()),
            ErrorCode::STREAM_SUBJECT_OVERLAP => {
                let problem = format!(
                    "cannot create stream {}: another stream has some of its subjects {}; remove that stream, or name \
                     a destination in another account",
                    config.name, config.subjects[0]
                );
                Error::refused(&address.name, problem)
            }
            ErrorCode::CLUSTER_NO_PEERS => {
                let action = "place the required number of replicas (start the servers that are down, or set fewer with \
                              ?replicas=)";
                Error::unavailable(&address.name, action, error)
            }
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => {
                let problem = "is not a cluster and supports one replica only; set ?replicas=1";
                Error::refused(&address.name, problem)
            }
            _ => classify(address, "create a stream", error),
        })
    }

    /// Checks the settings of a bus's stream, once per connection.
    fn check_settings(&mut self, address: &Address, bus: Checksum, info: &Info) -> Result<()> {
        if self.checked.contains(&bus) {
            return Ok(());
        }
        let required = settings::stream_config(&address.prefix, bus, self.replicas(address));
        if let Some(violation) = settings::find_violation(&info.config, &required) {
            let problem = format!(
                "stream {} could lose or reorder events: {violation}; correct the setting, or remove the stream to have \
                 it created again",
                required.name
            );
            return Err(Error::refused(&address.name, problem));
        }
        self.checked.insert(bus);
        Ok(())
    }

    fn replicas(&self, address: &Address) -> usize {
        address.replicas.unwrap_or(if self.is_cluster { DEFAULT_CLUSTER_REPLICAS } else { 1 })
    }

    /// The state of a bus's stream, from its leader; `None` if there is no stream.
    async fn stream_info(&self, address: &Address, bus: Checksum) -> Result<Option<Info>> {
        let action = "inspect its stream";
        let subject = format!("STREAM.INFO.{}", settings::stream_name(&address.prefix, bus));
        match self.request(address, action, subject, &()).await? {
            Response::Ok(info) => Ok(Some(info)),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Response::Err { error } => Err(classify(address, action, error)),
        }
    }

    /// The first event that was deleted from a stream.
    async fn first_missing(&self, address: &Address, info: &Info) -> Result<Option<u64>> {
        if info.state.last_sequence == 0 || info.state.messages == info.state.last_sequence {
            return Ok(None);
        }
        if info.state.first_sequence != 1 {
            return Ok(Some(1));
        }
        let (action, subject) = ("list deleted events", format!("STREAM.INFO.{}", info.config.name));
        match self.request(address, action, subject, &HashMap::from([("deleted_details", true)])).await? {
            Response::Ok(Info { state, .. }) => Ok(state.deleted.unwrap_or_default().into_iter().min()),
            Response::Err { error } => Err(classify(address, action, error)),
        }
    }

    /// The sequence of the last event of a bus; 0 if there is no stream.
    async fn last_sequence(&self, address: &Address, bus: Checksum) -> Result<u64> {
        Ok(self.stream_info(address, bus).await?.map_or(0, |info| info.state.last_sequence))
    }

    /// Reads the lines of a range of events, in order. Several are requested at the same time.
    fn read_lines(
        &self,
        address: &Address,
        bus: Checksum,
        indexes: RangeInclusive<u64>,
    ) -> impl Stream<Item = Result<(u64, String)>> + Unpin {
        let read = move |index| async move { Ok((index, self.line(address, bus, index).await?)) };
        Box::pin(stream::iter(indexes).map(read).buffered(CONCURRENT_READS))
    }

    /// The line of an event before the end of the stream.
    async fn line(&self, address: &Address, bus: Checksum, index: u64) -> Result<String> {
        let invalid = |problem| corrupt(address, bus, index, format!("event {index} is {problem}"));
        let message = self.message(address, bus, index).await?;
        if message.payload.len() > MAX_LINE_BYTES {
            return Err(invalid("longer than any valid event"));
        }
        String::from_utf8(message.payload.into()).map_err(|_| invalid("not UTF-8"))
    }

    /// The message of an event before the end of the stream, from the stream's leader.
    async fn message(&self, address: &Address, bus: Checksum, index: u64) -> Result<StreamMessage> {
        let action = "read an event";
        let stream = self.context.get_stream_no_info(settings::stream_name(&address.prefix, bus)).await;
        let stream = stream.map_err(|error| Error::unavailable(&address.name, action, error))?;
        match stream.get_raw_message(index).await {
            Ok(message) if message.sequence == index => Ok(message),
            Ok(_) => Err(corrupt(
                address,
                bus,
                index,
                format!("the server returned another event for event {index}"),
            )),
            Err(error) => Err(match error.kind() {
                RawMessageErrorKind::NoMessageFound => {
                    corrupt(address, bus, index, format!("event {index} is missing"))
                }
                RawMessageErrorKind::JetStream(error) => classify(address, action, error),
                _ => Error::unavailable(&address.name, action, error),
            }),
        }
    }

    /// Finds out why the server refused events: the stream has events of another chain in their
    /// place, or another mirror of the same chain was faster.
    async fn explain_refusal(
        &self,
        address: &Address,
        bus: Checksum,
        batch: &[Record],
        refused: Range<u64>,
    ) -> Result<Error> {
        let last = self.last_sequence(address, bus).await?;
        for Record { event: Event { index, checksum, .. }, .. } in batch {
            let index = *index;
            if refused.contains(&index) && index <= last {
                let line = self.line(address, bus, index).await?;
                if Event::read_alone(line.as_bytes(), index).map(|event| event.checksum) != Ok(*checksum) {
                    return Ok(Error::Fork { destination: address.name.clone(), bus, index });
                }
            }
        }
        Ok(Error::CursorMoved { destination: address.name.clone() })
    }

    async fn request<T: serde::Serialize + ?Sized, A: serde::de::DeserializeOwned>(
        &self,
        address: &Address,
        action: &'static str,
        subject: String,
        payload: &T,
    ) -> Result<A> {
        let answer = self.context.request(subject, payload).await;
        answer.map_err(|error| Error::unavailable(&address.name, action, error))
    }
}

/// Classifies an error of JetStream. Codes from 500 on are temporary; the others concern the
/// request.
fn classify(address: &Address, action: &'static str, error: ApiError) -> Error {
    if error.code() >= 500 {
        Error::unavailable(&address.name, action, error)
    } else {
        Error::refused(&address.name, format!("cannot {action}: {error}"))
    }
}

fn corrupt(address: &Address, bus: Checksum, index: u64, problem: String) -> Error {
    Error::Corrupt { destination: address.name.clone(), bus, index, problem }
}
