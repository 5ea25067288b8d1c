//! Events on their way to a stream, ahead of their acknowledgements.

use std::collections::VecDeque;

use async_nats::jetstream::context::traits::Publisher as _;
use async_nats::jetstream::context::{Context, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use zero_bus::Checksum;

use super::address::Address;
use super::{WINDOW_BYTES, WINDOW_MESSAGES, away, refused, settings};
use crate::Record;
use crate::error::Result;

/// A batch on its way.
pub(super) struct Sending<'a> {
    context: &'a Context,
    address: &'a Address,
    stream: String,
    subjects: String,
    /// Each event's index, the bytes of its line, and what will come back.
    pub(super) on_the_way: VecDeque<(u64, usize, PublishAckFuture)>,
    bytes: usize,
    /// The first event that was not stored in its place, since there is another message.
    pub(super) refused: Option<u64>,
    pub(super) sent_last: u64,
}

impl<'a> Sending<'a> {
    pub(super) fn new(context: &'a Context, address: &'a Address, bus: Checksum) -> Self {
        Self {
            context,
            address,
            stream: settings::stream_name(&address.prefix, bus),
            subjects: settings::subjects_of(bus),
            on_the_way: VecDeque::with_capacity(WINDOW_MESSAGES),
            bytes: 0,
            refused: None,
            sent_last: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.on_the_way.len() >= WINDOW_MESSAGES || self.bytes >= WINDOW_BYTES
    }

    pub(super) async fn send(&mut self, record: &Record) -> Result<()> {
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
    pub(super) async fn settle(&mut self) -> Result<()> {
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

    pub(super) async fn settle_all(&mut self) -> Result<()> {
        while !self.on_the_way.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }
}
