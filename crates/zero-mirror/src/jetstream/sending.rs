//! Events on their way to a stream, ahead of their acknowledgements.

use std::collections::VecDeque;

use async_nats::client::PublishErrorKind;
use async_nats::jetstream::{Error as ApiError, ErrorCode};
use async_nats::{Client, HeaderMap, HeaderValue, StatusCode, Subscriber, header};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::time::timeout;
use zero_bus::Checksum;

use super::address::Address;
use super::{PATIENCE, WINDOW_BYTES, WINDOW_MESSAGES, away, refused, settings};
use crate::error::Result;
use crate::mirror::Record;

const ACTION: &str = "publish an event";

/// Where what is published over a connection is answered. One subscription for all, as one for each event would cost more
/// than the event.
pub(super) struct Answers {
    inbox: String,
    coming: Subscriber,
}

/// What JetStream says to a message.
#[derive(Deserialize)]
struct Answer<'a> {
    stream: Option<&'a str>,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

impl Answers {
    pub(super) async fn open(client: &Client, address: &Address) -> Result<Self> {
        let inbox = client.new_inbox();
        let coming = client.subscribe(format!("{inbox}.*")).await;
        Ok(Self { inbox, coming: coming.map_err(|error| away(&address.name, ACTION, error))? })
    }
}

/// A batch on its way. It owns what it needs, so that it can run on the thread that serves the connection: handing over
/// every message from another one would cost more than the message.
pub(super) struct Sending {
    client: Client,
    pub(super) answers: Answers,
    destination: String,
    stream: String,
    subjects: String,
    /// From the first event on that is not settled: the bytes of its line, and whether it is settled.
    window: VecDeque<(usize, bool)>,
    first: u64,
    /// Behind the last event that was sent.
    pub(super) end: u64,
    bytes: usize,
    /// The first event that was not stored in its place, since there is another message.
    pub(super) refused: Option<u64>,
}

impl Sending {
    /// For a batch that begins at an index.
    pub(super) fn new(
        client: &Client,
        answers: Answers,
        address: &Address,
        bus: Checksum,
        first: u64,
    ) -> Self {
        Self {
            client: client.clone(),
            answers,
            destination: address.name.clone(),
            stream: settings::stream_name(&address.prefix, bus),
            subjects: settings::subjects_of(bus),
            window: VecDeque::with_capacity(WINDOW_MESSAGES),
            first,
            end: first,
            bytes: 0,
            refused: None,
        }
    }

    /// What the events' messages will be, each its subject and its line.
    pub(super) fn messages(&self, batch: &[Record]) -> Vec<(String, Bytes)> {
        let message = |record: &Record| {
            let mut subject = self.subjects.clone();
            settings::write_event_type(&record.event.event_type, &mut subject);
            (subject, Bytes::from(record.line.clone()))
        };
        batch.iter().map(message).collect()
    }

    /// Sends them all and waits for all answers, or until one is refused. `alone`: the first is sent by itself.
    pub(super) async fn run(mut self, messages: Vec<(String, Bytes)>, alone: bool) -> (Self, Result<()>) {
        let done = self.send_all(messages, alone).await;
        (self, done)
    }

    async fn send_all(&mut self, messages: Vec<(String, Bytes)>, mut alone: bool) -> Result<()> {
        for (subject, line) in messages {
            if let Err(error) = self.send(subject, line).await {
                self.settle_all().await?;
                return Err(error);
            }
            while self.is_full() || (alone && !self.window.is_empty()) {
                self.settle().await?;
            }
            alone = false;
            if self.refused.is_some() {
                break;
            }
        }
        self.settle_all().await
    }

    fn is_full(&self) -> bool {
        self.window.len() >= WINDOW_MESSAGES || self.bytes >= WINDOW_BYTES
    }

    async fn send(&mut self, subject: String, line: Bytes) -> Result<()> {
        let (index, bytes) = (self.end, line.len());
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(index - 1));
        let reply = format!("{}.{index}", self.answers.inbox);
        let sent = self.client.publish_with_reply_and_headers(subject, reply, headers, line).await;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                let problem = format!(
                    "event {index} has {} bytes, more than its `max_payload` lets through; raise that in the servers' settings",
                    bytes
                );
                refused(&self.destination, problem)
            }
            _ => away(&self.destination, ACTION, error),
        })?;
        self.window.push_back((bytes, false));
        self.bytes += bytes;
        self.end += 1;
        Ok(())
    }

    /// Waits for an answer, to whichever event it is.
    async fn settle(&mut self) -> Result<()> {
        let away = |source: &str| away(&self.destination, ACTION, source);
        let answer = match self.answers.coming.next().now_or_never() {
            Some(answer) => answer,
            None => timeout(PATIENCE, self.answers.coming.next())
                .await
                .map_err(|_| away("no acknowledgement came in time"))?,
        };
        let answer = answer.ok_or_else(|| away("the connection is closed"))?;
        let index = answer.subject.rsplit('.').next().and_then(|index| index.parse::<u64>().ok());
        let place = index.and_then(|index| usize::try_from(index.checked_sub(self.first)?).ok());
        let (Some(index), Some((_, settled))) = (index, place.and_then(|place| self.window.get_mut(place)))
        else {
            return Ok(());
        };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(away("its stream has no leader now"));
        }
        let said: Answer<'_> =
            serde_json::from_slice(&answer.payload).map_err(|_| away("its acknowledgement can't be read"))?;
        match said {
            Answer { error: Some(error), .. }
                if error.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE =>
            {
                self.refused = Some(self.refused.map_or(index, |refused| refused.min(index)));
            }
            Answer { error: Some(error), .. } => return Err(super::away(&self.destination, ACTION, error)),
            Answer { stream: Some(stream), seq: Some(seq), duplicate: false, .. }
                if stream == self.stream && seq == index => {}
            Answer { stream, seq, .. } => {
                let problem = format!(
                    "event {index} was to be message {index} of stream {}, but is message {} of stream {}; something \
                     between publisher and stream changes what is published",
                    self.stream,
                    seq.unwrap_or_default(),
                    stream.unwrap_or_default()
                );
                return Err(refused(&self.destination, problem));
            }
        }
        *settled = true;
        while let Some((bytes, true)) = self.window.front() {
            self.bytes -= bytes;
            self.window.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    async fn settle_all(&mut self) -> Result<()> {
        while !self.window.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }
}
