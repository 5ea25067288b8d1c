//! The newest state of the producer, bound to a place in the chain, so that a start need not read the whole
//! log. Never evidence about the log: it can be made again from it.

use std::io;

use serde::Serialize;

use crate::canonical::{self, Json};
use crate::chain::Line;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::event::MAX_LINE_BYTES;
use crate::storage::{self, Access, Storage};

/// The snapshot's file name in a bus directory.
pub const SNAPSHOT: &str = "state-snapshot.json";

/// The `schema_version` of every snapshot.
pub const SNAPSHOT_SCHEMA: &str = "zero.runtime.snapshot.v1";

/// A snapshot as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When it was taken, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Events in the log when it was taken.
    pub event_count: u64,
    /// The checksum of the last of them; `None` for an empty log.
    pub last_checksum: Option<Checksum>,
    /// The state.
    pub payload: Json,
    /// The event that the state is the state after.
    pub source_event_id: Option<String>,
}

/// The snapshot verdict: whether the log holds what the snapshot refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotIntegrity {
    /// Whether the log bears the snapshot out, or there is none.
    pub consistent: bool,
    /// Whether there is one.
    pub present: bool,
    /// `ok`, `no snapshot`, or what is wrong, in the words that other programs read.
    pub reason: String,
}

/// What was found in the snapshot's place.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    Snapshot(Snapshot, Json),
    /// Something that is no snapshot, and why.
    Unreadable(String),
}

impl Snapshot {
    /// The canonical form, as it is written, without its line break.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a time that is none.
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

    /// What is in the snapshot's place.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Found> {
        let path = storage.path(SNAPSHOT);
        let file = match storage.open(SNAPSHOT, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(Error::io("open it for reading", &path)(error)),
        };
        let length = file.size().map_err(Error::io("look at it", &path))?;
        if length > MAX_LINE_BYTES as u64 {
            return Ok(Found::Unreadable(format!("it is longer than {MAX_LINE_BYTES} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        storage::read_exact_at(&*file, &mut bytes, 0).map_err(Error::io("read it", &path))?;
        Ok(parse(&bytes).unwrap_or_else(Found::Unreadable))
    }
}

impl Found {
    /// The snapshot, where it can be read.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Snapshot(snapshot, _) => Some(snapshot),
            _ => None,
        }
    }

    /// Events in the log when it was taken; 0 where there is none.
    pub(crate) fn event_count(&self) -> u64 {
        self.snapshot().map_or(0, |snapshot| snapshot.event_count)
    }

    /// The snapshot's canonical form, whatever else it holds; `null` where there is none.
    pub(crate) fn canonical(&self) -> &str {
        match self {
            Self::Snapshot(_, json) => json.as_str(),
            _ => "null",
        }
    }

    /// Judges what was found by what the log has in the place it refers to.
    pub(crate) fn integrity(&self, log: &Located) -> SnapshotIntegrity {
        let (present, consistent, reason) = match self {
            Self::Nothing => (false, true, "no snapshot".to_owned()),
            Self::Unreadable(problem) => (true, false, format!("snapshot cannot be read: {problem}")),
            Self::Snapshot(snapshot, _) if snapshot.event_count > log.events => {
                (true, false, "snapshot references missing tail events".to_owned())
            }
            // None is the checksum of no event, also where a line has something else in the place of one.
            Self::Snapshot(snapshot, _)
                if snapshot.last_checksum != log.found
                    || (snapshot.event_count > 0 && snapshot.last_checksum.is_none()) =>
            {
                (true, false, "snapshot checksum does not match event log".to_owned())
            }
            Self::Snapshot(..) => (true, true, "ok".to_owned()),
        };
        SnapshotIntegrity { consistent, present, reason }
    }
}

/// Puts a new snapshot in place of the old one. The caller holds the exclusive lock.
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

fn parse(bytes: &[u8]) -> Result<Found, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let text = canonical::respelled_line(text).map_err(|error| error.to_string())?;
    let field = |name: &str| {
        let found = canonical::members(&text).find(|(key, _)| *key == name);
        found.map(|(_, value)| value).ok_or_else(|| format!("`{name}` is missing"))
    };
    let wrong = |name: &str, should: &str| format!("`{name}` should be {should}");
    if canonical::as_text(field("schema_version")?).is_none_or(|schema| schema != SNAPSHOT_SCHEMA) {
        return Err(wrong("schema_version", SNAPSHOT_SCHEMA));
    }
    let last_checksum = match field("last_checksum")? {
        "null" => None,
        checksum => {
            let parsed = canonical::as_text(checksum).and_then(|checksum| Checksum::parse(&checksum));
            Some(parsed.ok_or_else(|| wrong("last_checksum", "a checksum or null"))?)
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
    Ok(Found::Snapshot(snapshot, Json::from_canonical_line(text)))
}

/// Remembers the checksum that stands at one place of the log, and how many events there are.
#[derive(Debug, Default)]
pub(crate) struct Located {
    pub(crate) found: Option<Checksum>,
    pub(crate) events: u64,
}

impl Located {
    pub(crate) fn see(&mut self, wanted: u64, nth: u64, line: &Line<'_>) {
        self.events = nth;
        if nth == wanted {
            self.found = line.checksum();
        }
    }

    /// Adds what was seen further on.
    pub(crate) fn add(&mut self, further: Self) {
        self.events = further.events;
        self.found = self.found.or(further.found);
    }
}
