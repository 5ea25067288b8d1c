//! Publishes a batch of events. Messages are sent ahead of their acknowledgements, within a window.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::jetstream::{Error as ApiError, ErrorCode};
use async_nats::{Client, HeaderMap, HeaderValue, StatusCode, Subscriber, header};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::time::timeout;
use zero_bus::Checksum;

use super::address::Address;
use super::settings;
use crate::error::{Error, Result, Source};
use crate::mirror::Record;

/// Maximum number of unacknowledged messages: enough to keep a replicated stream busy.
pub(super) const WINDOW_MESSAGES: usize = 512;
/// Maximum size of their lines.
const WINDOW_BYTES: usize = 4 << 20;

/// Maximum time between two acknowledgements.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

const ACTION: &str = "publish an event";

/// The subscription to all acknowledgements of a connection. One subscription per event would cost
/// more than the event.
pub(super) struct AckSubscription {
    /// Prefix of the reply subjects. The rest of a reply subject is the event's index.
    inbox: String,
    subscriber: Subscriber,
}

/// JetStream's answer to a message.
#[derive(Deserialize)]
struct PublishAck<'a> {
    stream: Option<&'a str>,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

impl AckSubscription {
    pub(super) async fn open(client: &Client, address: &Address) -> Result<Self> {
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(format!("{inbox}.*")).await;
        let subscriber = subscriber.map_err(|error| Error::unavailable(&address.name, ACTION, error))?;
        Ok(Self { inbox, subscriber })
    }
}

/// A batch in progress. It owns everything it needs, so that it can run on the connection's own
/// thread: passing each message between threads would cost more than the message.
pub(super) struct Publisher {
    client: Client,
    pub(super) acks: AckSubscription,
    destination: String,
    stream: String,
    subject_prefix: String,
    /// The sent events from `first` to `end`. The one at the front is not acknowledged.
    window: VecDeque<Sent>,
    /// Index of the first unacknowledged event.
    first: u64,
    /// Index of the next event to send.
    pub(super) end: u64,
    /// Size of the lines in the window.
    window_bytes: usize,
    /// The first event that the server refused because another message is in its place.
    pub(super) first_refused: Option<u64>,
}

struct Sent {
    bytes: usize,
    is_acked: bool,
}

impl Publisher {
    /// A publisher for a batch whose first event has the index `first`.
    pub(super) fn new(
        client: &Client,
        acks: AckSubscription,
        address: &Address,
        bus: Checksum,
        first: u64,
    ) -> Self {
        Self {
            client: client.clone(),
            acks,
            destination: address.name.clone(),
            stream: settings::stream_name(&address.prefix, bus),
            subject_prefix: settings::subject_prefix(bus),
            window: VecDeque::with_capacity(WINDOW_MESSAGES),
            first,
            end: first,
            window_bytes: 0,
            first_refused: None,
        }
    }

    /// The messages of a batch: subject and line of each event.
    pub(super) fn messages(&self, batch: &[Record]) -> Vec<(String, Bytes)> {
        let message = |record: &Record| {
            let mut subject = self.subject_prefix.clone();
            settings::write_event_type(&record.event.event_type, &mut subject);
            (subject, Bytes::from(record.line.clone()))
        };
        batch.iter().map(message).collect()
    }

    /// Publishes all messages and waits for all acknowledgements. Stops sending after the first
    /// refusal. With `first_alone` the second message is sent only after the first was
    /// acknowledged.
    pub(super) async fn publish(
        mut self,
        messages: Vec<(String, Bytes)>,
        first_alone: bool,
    ) -> (Self, Result<()>) {
        let result = self.publish_all(messages, first_alone).await;
        (self, result)
    }

    async fn publish_all(&mut self, messages: Vec<(String, Bytes)>, first_alone: bool) -> Result<()> {
        let mut must_drain = first_alone;
        for (subject, line) in messages {
            if let Err(error) = self.send(subject, line).await {
                self.await_all_acks().await?;
                return Err(error);
            }
            while self.is_full() || (must_drain && !self.window.is_empty()) {
                self.await_ack().await?;
            }
            must_drain = false;
            if self.first_refused.is_some() {
                break;
            }
        }
        self.await_all_acks().await
    }

    fn is_full(&self) -> bool {
        self.window.len() >= WINDOW_MESSAGES || self.window_bytes >= WINDOW_BYTES
    }

    async fn send(&mut self, subject: String, line: Bytes) -> Result<()> {
        let (index, bytes) = (self.end, line.len());
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(index - 1));
        let reply = format!("{}.{index}", self.acks.inbox);
        let sent = self.client.publish_with_reply_and_headers(subject, reply, headers, line).await;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                let problem = format!(
                    "event {index} has {bytes} bytes, more than the server's `max_payload` allows; raise it in the \
                     servers' settings"
                );
                Error::refused(&self.destination, problem)
            }
            _ => self.unavailable(error),
        })?;
        self.window.push_back(Sent { bytes, is_acked: false });
        self.window_bytes += bytes;
        self.end += 1;
        Ok(())
    }

    /// Waits for one acknowledgement, of any event in the window.
    async fn await_ack(&mut self) -> Result<()> {
        let message = match self.acks.subscriber.next().now_or_never() {
            Some(message) => message,
            None => timeout(ACK_TIMEOUT, self.acks.subscriber.next())
                .await
                .map_err(|_| self.unavailable("no acknowledgement within the time limit"))?,
        };
        let message = message.ok_or_else(|| self.unavailable("the connection is closed"))?;
        let index = message.subject.rsplit('.').next().and_then(|index| index.parse::<u64>().ok());
        let position = index.and_then(|index| usize::try_from(index.checked_sub(self.first)?).ok());
        let (Some(index), Some(position)) =
            (index, position.filter(|position| *position < self.window.len()))
        else {
            // An acknowledgement of an earlier batch.
            return Ok(());
        };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(self.unavailable("its stream has no leader for now"));
        }
        let ack: PublishAck<'_> = serde_json::from_slice(&message.payload)
            .map_err(|_| self.unavailable("its acknowledgement is invalid"))?;
        match ack {
            PublishAck { error: Some(error), .. }
                if error.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE =>
            {
                self.first_refused = Some(self.first_refused.map_or(index, |first| first.min(index)));
            }
            PublishAck { error: Some(error), .. } => return Err(self.unavailable(error)),
            PublishAck { stream: Some(stream), seq: Some(seq), duplicate: false, .. }
                if stream == self.stream && seq == index => {}
            PublishAck { stream, seq, .. } => {
                let problem = format!(
                    "event {index} must become message {index} of stream {}, but became message {} of stream {}; \
                     something between publisher and stream changes what is published",
                    self.stream,
                    seq.unwrap_or_default(),
                    stream.unwrap_or_default()
                );
                return Err(Error::refused(&self.destination, problem));
            }
        }
        self.window[position].is_acked = true;
        while let Some(Sent { bytes, is_acked: true }) = self.window.front() {
            self.window_bytes -= bytes;
            self.window.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    async fn await_all_acks(&mut self) -> Result<()> {
        while !self.window.is_empty() {
            self.await_ack().await?;
        }
        Ok(())
    }

    fn unavailable(&self, source: impl Into<Source>) -> Error {
        Error::unavailable(&self.destination, ACTION, source)
    }
}
