//! A flight recorder for programs: a local, append-only log of events, each bound to all before it by a
//! checksum.
//!
//! A bus is a directory with a log, `events.jsonl`, one event a line, and the newest snapshot of the
//! producer's state. Appending returns once the event is synced; verifying fails on any event that was
//! changed, deleted, reordered or relinked; after a crash the log opens again by itself. Opening and appending
//! cost the same however long the log is.
//!
//! # In a minute
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("bus");
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//! use zero_bus::{Bus, Draft, Reader};
//!
//! // Append. The time comes from you, so that a run can be repeated to the byte.
//! let bus = Bus::open(&path)?;
//! let reading = BTreeMap::from([("celsius", 21.5)]);
//! let event = bus.append(Draft::new("sensor.reading", 1777593600.0, &reading)?.traced("morning"))?;
//! assert_eq!(event.id(), "evt-000000000001");
//!
//! // Verify, here or in another process.
//! let reader = Reader::open(&path)?;
//! let verdict = reader.verify_with_progress(&mut |progress| {
//!     eprintln!("{} of {} bytes", progress.bytes, progress.bytes_total);
//! })?;
//! assert!(verdict.ok());
//!
//! // Follow: what is there, then what comes.
//! let mut follower = reader.follow(1)?;
//! while let Some(event) = follower.next_timeout(Duration::ZERO)? {
//!     println!("{} {} {}", event.id(), event.event_type, event.payload);
//! }
//! # Ok::<(), zero_bus::Error>(())
//! ```
//!
//! # What a chain can prove
//!
//! That nothing in the log was changed since its last checksum was noted elsewhere, and that it is whole up to
//! there. By itself a log can't show that its end was cut off at an event, or that all of it was written anew
//! by somebody who may write to it: for that, keep a checksum where they can't reach it. The
//! [snapshot](Reader::snapshot) is such a note for the end, but lies beside the log.
//!
//! # Modules, in reading order
//!
//! [`canonical`] is the one byte form of a JSON value; events are plain data ([`Draft`], [`Event`]); the chain
//! links and checks them; [`storage`] is the few file operations there are; then appending ([`Bus`]), what the
//! tail of a log is ([`QuarantinedTail`]), reading ([`Reader`], [`Events`], [`Follow`]), verifying ([`Verdict`]),
//! snapshots ([`Snapshot`]), the [audit](Reader::audit) document, and a [backup](Reader::backup).

#![deny(unsafe_code)]

pub mod canonical;
mod chain;
mod checksum;
mod event;
mod fault;
pub mod sim;
pub mod storage;

mod audit;
mod backup;
mod bisect;
mod chunk;
mod follow;
mod integrity;
mod lines;
mod log;
mod queue;
mod reader;
mod recover;
mod snapshot;
mod sync;
mod sync_mark;
mod verify;

mod error;

pub use audit::{AUDIT_SCHEMA, AuditError, Summary};
pub use backup::{Backup, BackupError};
pub use canonical::{Integer, Json, JsonError, MAX_DEPTH, Value};
pub use chain::Head;
pub use checksum::Checksum;
pub use error::{Error, Result};
pub use event::{Draft, EVENT_SCHEMA, Event, MAX_LINE_BYTES, MAX_TYPE_CHARACTERS, event_id, index_of_id};
pub use fault::{Fault, FaultKind};
pub use follow::{CancelHandle, Follow};
pub use integrity::{Finding, Integrity, Progress};
pub use lines::{LOCK, LOG};
pub use log::{Bus, Ticket};
pub use reader::{Events, Reader, Selected};
pub use recover::{JournalTail, QuarantinedTail};
pub use snapshot::{SNAPSHOT, SNAPSHOT_SCHEMA, Snapshot, SnapshotIntegrity};
pub use verify::Verdict;

/// Holds the Rust in the README to what compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
