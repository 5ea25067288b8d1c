//! The newest state of the producer, bound to an event of the log, so that a start need not read
//! the whole log. A snapshot can be rebuilt from the log, so it is never evidence about the log.

use std::io;

use serde::Serialize;

use crate::canonical::{self, Json};
use crate::chain::Line;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::event::MAX_LINE_BYTES;
use crate::head::Head;
use crate::log_file::LOG;
use crate::storage::{self, Access, Storage};

/// The name of the snapshot file in a bus directory.
pub const SNAPSHOT: &str = "state-snapshot.json";

/// The `schema_version` of every snapshot.
pub const SNAPSHOT_SCHEMA: &str = "zero.runtime.snapshot.v1";

/// A snapshot of the producer's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When it was taken, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Events in the log when it was taken.
    pub event_count: u64,
    /// The checksum of the last of those events; `None` for an empty log.
    pub last_checksum: Option<Checksum>,
    /// The state.
    pub payload: Json,
    /// The id of the event that led to this state.
    pub source_event_id: Option<String>,
}

/// The snapshot verdict: whether the log contains the event that the snapshot refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotIntegrity {
    /// Whether the snapshot matches the log. True if there is no snapshot.
    pub consistent: bool,
    /// Whether there is a snapshot.
    pub present: bool,
    /// `ok`, `no snapshot`, or what is wrong. Other programs read these texts.
    pub reason: String,
}

/// The content of the snapshot file.
#[derive(Debug)]
pub(crate) enum StoredSnapshot {
    Missing,
    /// A valid snapshot, and its whole canonical form.
    Snapshot(Snapshot, Json),
    /// Not a snapshot, and why.
    Unreadable(String),
}

impl Snapshot {
    /// The canonical form, as it is written, without its line break.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `as_of` is not finite.
    pub fn to_json(&self) -> Result<Json> {
        #[derive(Serialize)]
        struct Form<'a> {
            as_of: f64,
            event_count: u64,
            last_checksum: Option<Checksum>,
            payload: &'a Json,
            schema_version: &'a str,
            source_event_id: Option<&'a str>,
        }
        if !self.as_of.is_finite() {
            return Err(Error::invalid("as_of", format!("{} is not a time", self.as_of)));
        }
        Ok(Json::of(&Form {
            as_of: self.as_of,
            event_count: self.event_count,
            last_checksum: self.last_checksum,
            payload: &self.payload,
            schema_version: SNAPSHOT_SCHEMA,
            source_event_id: self.source_event_id.as_deref(),
        })?)
    }

    /// Reads the snapshot file.
    pub(crate) fn read(storage: &dyn Storage) -> Result<StoredSnapshot> {
        let path = storage.path(SNAPSHOT);
        let file = match storage.open(SNAPSHOT, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StoredSnapshot::Missing),
            Err(error) => return Err(Error::io("open it for reading", &path)(error)),
        };
        let length = file.size().map_err(Error::io("get its size", &path))?;
        if length > MAX_LINE_BYTES as u64 {
            let problem = format!("it is longer than {MAX_LINE_BYTES} bytes");
            return Ok(StoredSnapshot::Unreadable(problem));
        }
        let mut bytes = vec![0; length as usize];
        storage::read_exact_at(&*file, &mut bytes, 0).map_err(Error::io("read it", &path))?;
        Ok(parse(&bytes).unwrap_or_else(StoredSnapshot::Unreadable))
    }
}

impl StoredSnapshot {
    /// The snapshot, if the file holds a valid one.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Snapshot(snapshot, _) => Some(snapshot),
            _ => None,
        }
    }

    /// The snapshot's `event_count`; 0 without a valid snapshot.
    pub(crate) fn event_count(&self) -> u64 {
        self.snapshot().map_or(0, |snapshot| snapshot.event_count)
    }

    /// The canonical form with all members of the file; `null` without a valid snapshot.
    pub(crate) fn canonical(&self) -> &str {
        match self {
            Self::Snapshot(_, json) => json.as_str(),
            _ => "null",
        }
    }

    /// Compares the snapshot with the log at the snapshot's `event_count`.
    pub(crate) fn integrity(&self, log: &LogAtSnapshot) -> SnapshotIntegrity {
        let (present, consistent, reason) = match self {
            Self::Missing => (false, true, "no snapshot".to_owned()),
            Self::Unreadable(problem) => (true, false, format!("snapshot cannot be read: {problem}")),
            Self::Snapshot(snapshot, _) if snapshot.event_count > log.events.max(log.start.index) => {
                (true, false, "snapshot references missing tail events".to_owned())
            }
            Self::Snapshot(snapshot, _) if snapshot.event_count < log.start.index => {
                (true, true, "snapshot references retired events".to_owned())
            }
            // Every event has a checksum. So null only matches an empty log, and not a line whose
            // checksum is invalid.
            Self::Snapshot(snapshot, _)
                if snapshot.last_checksum != log.checksum_at(snapshot.event_count)
                    || (snapshot.event_count > 0 && snapshot.last_checksum.is_none()) =>
            {
                (true, false, "snapshot checksum does not match event log".to_owned())
            }
            Self::Snapshot(..) => (true, true, "ok".to_owned()),
        };
        SnapshotIntegrity { consistent, present, reason }
    }
}

/// Returns the error of a log that holds fewer events than `recorded_in` records. Names every file
/// next to the log that records more, since each of them blocks appending.
pub(crate) fn missing_events(
    storage: &dyn Storage,
    events: u64,
    recorded: u64,
    recorded_in: &'static str,
) -> Error {
    let snapshot_events = Snapshot::read(storage).map_or(0, |snapshot| snapshot.event_count());
    let is_ahead = recorded_in != SNAPSHOT && snapshot_events > events;
    let also_in = is_ahead.then_some(SNAPSHOT);
    Error::Missing { path: storage.path(LOG), events, recorded, recorded_in, also_in }
}

/// Replaces the snapshot file. The caller holds the exclusive lock on the lock file.
pub(crate) fn write(storage: &dyn Storage, snapshot: &Snapshot) -> Result<()> {
    let line = format!("{}\n", snapshot.to_json()?);
    if line.len() > MAX_LINE_BYTES {
        return Err(Error::invalid(
            "payload",
            format!("makes a snapshot of more than {MAX_LINE_BYTES} bytes"),
        ));
    }
    storage::put_in_place(storage, SNAPSHOT, line.as_bytes())
        .map_err(Error::io("replace it", &storage.path(SNAPSHOT)))
}

fn parse(bytes: &[u8]) -> Result<StoredSnapshot, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let canonical = canonical::canonical_line(text).map_err(|error| error.to_string())?;
    let field = |name: &str| {
        let member = canonical::members(&canonical).find(|(key, _)| *key == name);
        member.map(|(_, value)| value).ok_or_else(|| format!("`{name}` is missing"))
    };
    let wrong = |name: &str, expected: &str| format!("`{name}` should be {expected}");
    if canonical::as_text(field("schema_version")?).is_none_or(|schema| schema != SNAPSHOT_SCHEMA) {
        return Err(wrong("schema_version", SNAPSHOT_SCHEMA));
    }
    let last_checksum = match field("last_checksum")? {
        "null" => None,
        checksum => {
            let checksum = canonical::as_text(checksum).and_then(|checksum| Checksum::parse(&checksum));
            Some(checksum.ok_or_else(|| wrong("last_checksum", "a checksum or null"))?)
        }
    };
    let source_event_id = match field("source_event_id")? {
        "null" => None,
        id => {
            let id = canonical::as_text(id).ok_or_else(|| wrong("source_event_id", "a string or null"))?;
            Some(id.into_owned())
        }
    };
    let snapshot = Snapshot {
        as_of: canonical::as_f64(field("as_of")?).ok_or_else(|| wrong("as_of", "a number"))?,
        event_count: field("event_count")?.parse().map_err(|_| wrong("event_count", "a count"))?,
        last_checksum,
        payload: Json::from_canonical(field("payload")?),
        source_event_id,
    };
    Ok(StoredSnapshot::Snapshot(snapshot, Json::from_canonical_line(canonical)))
}

/// What a scan has seen of the log at a snapshot's `event_count`.
#[derive(Debug, Default)]
pub(crate) struct LogAtSnapshot {
    /// The checksum of the event there, if the scan has passed it.
    pub(crate) checksum: Option<Checksum>,
    /// Number of the last event that the scan has passed, counted from 1.
    pub(crate) events: u64,
    /// The last event before the start of the log.
    pub(crate) start: Head,
}

impl LogAtSnapshot {
    /// Records the event with this number.
    pub(crate) fn observe(&mut self, event_count: u64, event: u64, line: &Line<'_>) {
        self.events = event;
        if event == event_count {
            self.checksum = line.checksum();
        }
    }

    fn checksum_at(&self, event_count: u64) -> Option<Checksum> {
        if event_count == self.start.index { self.start.checksum } else { self.checksum }
    }

    /// Adds what a scan of the next chunk has seen.
    pub(crate) fn merge(&mut self, next: Self) {
        self.events = next.events;
        self.checksum = self.checksum.or(next.checksum);
    }
}
