//! Verifies what is new: remembers up to which event a log was verified, and checks only what came
//! after it.
//!
//! The mark is a companion of the log: a small file in the bus directory, sealed by a checksum and
//! bound to the event that it names. Deleting it costs one full verification.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::canonical::{Json, Value};
use crate::checksum::Checksum;
use crate::durable_log::OpenedLog;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::integrity::{Finding, Integrity, Progress, find_false_record};
use crate::reader::Reader;
use crate::storage::{self, Access};
use crate::sync_mark::StoredSyncMark;
use crate::verify::Verdict;

/// The name of the mark in a bus directory.
pub const VERIFIED: &str = "verified.json";

/// The `schema_version` of a mark.
pub const VERIFIED_SCHEMA: &str = "zero.bus.verified.v1";

/// A mark is shorter than this.
const MAX_MARK_BYTES: u64 = 4096;

/// The result of [`Reader::verify_since_last`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinceLast {
    /// The verdict. If `not_read_again` is not empty, it assumes that the events up to there are as
    /// they were when they were verified.
    pub verdict: Verdict,
    /// The last event that was verified before and was not read again; the empty head if the whole
    /// log was read.
    pub not_read_again: Head,
    /// Why the whole log was read, if it was.
    pub full_because: Option<String>,
}

impl Reader {
    /// Verifies the events after those that [`Reader::remember_verified`] remembers, and the
    /// snapshot. Verifies the whole log if nothing is remembered, if the log does not have the
    /// remembered event, or if anything after it is not valid.
    ///
    /// A change to the events before the remembered one is not found; [`Reader::verify`] finds it.
    ///
    /// Costs about twenty reads, and one pass over what is new on as many threads as
    /// [`Reader::verify`].
    ///
    /// # Errors
    /// As [`Reader::verify`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let draft = || Draft::new("step.done", 0.0, &BTreeMap::from([("step", 1)]));
    /// let first = bus.append(draft()?)?;
    /// let reader = bus.reader();
    /// let verified = reader.verify_since_last(&mut |_| {})?;
    /// reader.remember_verified(verified.verdict.integrity.head)?;
    ///
    /// bus.append(draft()?)?;
    /// let verified = reader.verify_since_last(&mut |_| {})?;
    /// assert!(verified.verdict.ok());
    /// assert_eq!(verified.not_read_again, first.head());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn verify_since_last(&self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<SinceLast> {
        let problem = match self.read_verified_mark()? {
            Ok(head) => match self.verify_after(head) {
                Ok(Ok(verdict)) => {
                    return Ok(SinceLast { verdict, not_read_again: head, full_because: None });
                }
                Ok(Err(problem)) => problem,
                Err(error @ Error::Io { .. }) => return Err(error),
                // The full verification says what is wrong, and where.
                Err(_) => "what came after the last verification is not valid".to_owned(),
            },
            Err(problem) => problem,
        };
        let verdict = self.verify_with_progress(progress)?;
        Ok(SinceLast { verdict, not_read_again: Head::default(), full_because: Some(problem) })
    }

    /// Remembers in the bus directory that the log was verified up to this event. Needs the right
    /// to write there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remember_verified(&self, head: Head) -> Result<()> {
        let content = Json::of(&Content { head, schema_version: VERIFIED_SCHEMA })?;
        let seal = Checksum::of(content.as_str().as_bytes());
        let text = format!("{{\"seal\":\"{seal}\",\"verified\":{content}}}\n");
        storage::replace(self.storage(), VERIFIED, text.as_bytes())
            .map_err(Error::io("replace it", &self.storage().path(VERIFIED)))
    }

    /// Reads the mark. The inner error states why the mark is missing or cannot be used.
    fn read_verified_mark(&self) -> Result<Result<Head, String>> {
        let path = self.storage().path(VERIFIED);
        let file = match self.storage().open(VERIFIED, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err("no earlier verification is remembered".to_owned()));
            }
            Err(error) => return Err(Error::io("open it for reading", &path)(error)),
        };
        let reading = || Error::io("read it", &path);
        let size = file.size().map_err(reading())?.min(MAX_MARK_BYTES);
        let mut bytes = vec![0; size as usize];
        let filled = storage::read_up_to(&*file, &mut bytes, 0).map_err(reading())?;
        Ok(parse(&bytes[..filled]).ok_or_else(|| format!("{VERIFIED} is not a valid mark")))
    }

    /// Verifies the events after `head`, and the snapshot. The inner error is why that is not
    /// enough.
    fn verify_after(&self, head: Head) -> Result<Result<Verdict, String>> {
        if head.index + 1 < self.first_index()? {
            return Ok(Err("the event up to which the log was verified is retired".to_owned()));
        }
        if !self.contains(head)? {
            return Ok(Err("the log does not have the event up to which it was verified".to_owned()));
        }
        let selected = self.select(head.index + 1, |_, _| false, |_| Ok::<(), Error>(()))?;
        if selected.torn_bytes > 0 {
            return Ok(Err("the log has a torn tail".to_owned()));
        }
        let OpenedLog::Present(log) = self.durable_log()? else {
            return Ok(Err("there is no log any more".to_owned()));
        };
        let retired = log.file.retired().cloned();
        if retired.is_none() && !matches!(self.event(1), Ok(Some(_))) {
            return Ok(Err("the log does not start with event 1".to_owned()));
        }
        let last = match &retired {
            Some(retired) if retired.head().index == selected.last => retired.head(),
            _ => self.event(selected.last)?.map(|event| event.head()).unwrap_or_default(),
        };
        let false_record = find_false_record(&log.file, log.end, last);
        if false_record.map_err(Error::io("read it", &self.log_path()))?.is_some() {
            return Ok(Err("the record of retired events does not match the log".to_owned()));
        }
        if let StoredSyncMark::Valid { head: synced, .. } = self.sync_mark()?
            && synced.index <= last.index
            && !self.contains(synced)?
        {
            return Ok(Err("the log does not have the event of its sync mark".to_owned()));
        }
        let integrity = Integrity { head: last, finding: Finding::Sound };
        Ok(Ok(Verdict {
            integrity,
            snapshot_integrity: self.verify_snapshot()?,
            retired: retired.map(Arc::unwrap_or_clone),
        }))
    }
}

#[derive(Serialize)]
struct Content {
    head: Head,
    schema_version: &'static str,
}

fn parse(bytes: &[u8]) -> Option<Head> {
    let document = Value::parse(std::str::from_utf8(bytes).ok()?).ok()?;
    let content = document.get("verified")?;
    let seal = Checksum::of(Json::try_from(content).ok()?.as_str().as_bytes());
    if document.get("seal")?.as_str()? != seal.to_string()
        || content.get("schema_version")?.as_str()? != VERIFIED_SCHEMA
    {
        return None;
    }
    let head = content.get("head")?;
    let checksum = head.get("checksum")?.as_str().and_then(Checksum::parse);
    Some(Head { index: head.get("index")?.as_u64()?, checksum })
}
