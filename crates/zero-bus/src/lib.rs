//! A flight recorder for programs: a local, append-only event log in which checksums chain each
//! event to all earlier ones.
//!
//! A bus is a directory. It holds the log, `events.jsonl`, with one event per line, and the newest
//! snapshot of the producer's state. Appending returns once the event is synced. Verification fails
//! on any event that was changed, deleted, reordered or relinked. After a crash, the next open
//! repairs the log. The cost of opening and appending does not grow with the log.
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
//! // Append. The caller sets the time, so that a run can be repeated byte for byte.
//! let bus = Bus::open(&path)?;
//! let reading = BTreeMap::from([("celsius", 21.5)]);
//! let draft = Draft::new("sensor.reading", 1777593600.0, &reading)?.traced("morning");
//! let event = bus.append(draft)?;
//! assert_eq!(event.id(), "evt-000000000001");
//!
//! // Verify, here or in another process.
//! let reader = Reader::open(&path)?;
//! let verdict = reader.verify_with_progress(&mut |progress| {
//!     eprintln!("{} of {} bytes", progress.bytes, progress.bytes_total);
//! })?;
//! assert!(verdict.ok());
//!
//! // Follow: first the events in the log, then new ones.
//! let mut follower = reader.follow(1)?;
//! while let Some(event) = follower.next_timeout(Duration::ZERO)? {
//!     println!("{} {} {}", event.id(), event.event_type, event.payload);
//! }
//! # Ok::<(), zero_bus::Error>(())
//! ```
//!
//! # What a chain proves
//!
//! If you know the checksum of one event from another source, a valid chain proves that this event
//! and all earlier ones are unchanged and complete. Without such a checksum, a chain does not prove
//! that its end is there, or that nobody with write access has rewritten it. Keep a checksum where
//! such a person cannot change it. The [snapshot](Reader::snapshot) holds one, but lies in the same
//! directory as the log.
//!
//! # Modules, in reading order
//!
//! [`canonical`] defines the one byte form of a JSON value. [`Draft`] and [`Event`] are plain data;
//! the chain links and verifies them. [`storage`] holds the few file operations. Then follow
//! appending ([`Bus`]), recovery after a crash ([`QuarantinedTail`]), reading ([`Reader`],
//! [`Events`], [`Follow`]), verification ([`Verdict`]), snapshots ([`Snapshot`]), the
//! [audit](Reader::audit) document and the [backup](Reader::backup).
//!
//! # Features
//!
//! `seal` adds compression, to seal segments of a log and to read them; it compiles the C code of
//! zstd. `sim` adds a simulated disk that can lose power, for tests of programs that use a bus.

#![deny(unsafe_code)]

pub mod canonical;
mod chain;
mod checksum;
mod event;
mod fault;
mod head;
#[cfg(feature = "sim")]
pub mod sim;
pub mod storage;

mod audit;
mod backup;
mod bisect;
mod chunk;
mod durable_log;
mod follow;
mod integrity;
mod journal_tail;
mod lines;
mod lock_wait;
mod log;
mod log_file;
mod open;
mod quarantine;
mod queue;
mod reader;
mod rebuild;
mod recover;
mod retire;
mod retired;
mod seal;
mod segment;
mod select;
mod since;
mod snapshot;
mod sync;
mod sync_mark;
mod unseal;
mod verified_mark;
mod verify;
mod writer;

mod error;

pub use audit::{AUDIT_SCHEMA, AuditError, Summary};
pub use backup::{Backup, BackupError};
pub use canonical::{Integer, Json, JsonError, MAX_DEPTH, Value};
pub use checksum::{Checksum, ChecksumError};
pub use error::{Error, Result};
pub use event::{
    Draft, EVENT_SCHEMA, Event, MAX_LINE_BYTES, MAX_TYPE_CHARACTERS, RECOVERED_TYPE, RETIRED_TYPE, event_id,
    index_of_id,
};
pub use fault::{Fault, FaultKind};
pub use follow::{CancelHandle, Follow};
pub use head::Head;
pub use integrity::{Finding, Integrity, Progress};
pub use journal_tail::JournalTail;
pub use lock_wait::{LockWait, report_lock_waits};
pub use log::{Bus, Ticket};
pub use log_file::{LOCK, LOG};
pub use open::OpenOptions;
pub use quarantine::{QuarantineReason, QuarantinedTail, RECOVERED_SCHEMA};
pub use reader::{Events, Reader};
pub use rebuild::LostRecord;
pub use recover::AmbiguousTail;
pub use retire::{Retirable, RetireOptions, Retirement};
pub use retired::{RETIRED, RETIRED_SCHEMA, Retired, RetiredPart, RetiredPayload};
pub use seal::{SealOptions, Sealed};
pub use segment::SEGMENTS;
pub use select::Selected;
pub use snapshot::{SNAPSHOT, SNAPSHOT_SCHEMA, Snapshot, SnapshotIntegrity};
pub use sync_mark::StoredSyncMark;
pub use unseal::UnsealError;
pub use verified_mark::{SinceLast, VERIFIED, VERIFIED_SCHEMA};
pub use verify::Verdict;

// Threads may move every handle, and may share those whose methods take `&self`.
const _: () = {
    const fn assert_send<T: Send>() {}
    const fn assert_send_and_sync<T: Send + Sync>() {}
    assert_send_and_sync::<Bus>();
    assert_send_and_sync::<Reader>();
    assert_send_and_sync::<Ticket>();
    assert_send_and_sync::<CancelHandle>();
    assert_send_and_sync::<OpenOptions>();
    assert_send_and_sync::<Snapshot>();
    assert_send_and_sync::<Event>();
    assert_send_and_sync::<Error>();
    assert_send::<Events>();
    assert_send::<Follow>();
};

/// Compiles the Rust examples in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
