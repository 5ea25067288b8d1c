//! Writes the record of retired events again if it was lost. Each of its parts is also an event of
//! the chain.

use std::io;
use std::sync::Arc;

use crate::chain::{Head, Line};
use crate::chunk;
use crate::durable_log::durable_end;
use crate::error::{Error, Result};
use crate::event::RETIRED_TYPE;
use crate::integrity::{self, Progress, find_false_record};
use crate::lines::Lines;
use crate::log_file::{LOG, LogFile};
use crate::reader::Reader;
use crate::retired::{RETIRED, Retired, RetiredPart};
use crate::seal::SealLock;
use crate::segment::{FrameReader, SEGMENTS, Segment, Span};
use crate::storage::{Access, Storage, StorageFile};
use crate::writer::io_error;

/// A record of retired events that the log needs and does not have, see [`Reader::lost_record`].
pub struct LostRecord {
    storage: Arc<dyn Storage>,
    record: Retired,
}

impl Reader {
    /// Looks for the [record of retired events](crate::RETIRED) of a log that lacks its beginning.
    /// Returns `None` if the log does not need one, or if no event tells what was retired.
    ///
    /// The record is built from the events [`bus.retired`](crate::RETIRED_TYPE) that the log holds,
    /// and the log is verified from there up to the last of these events. Parts whose events were
    /// retired themselves are not in it. Costs a pass over the log, and one more for the
    /// verification.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lost_record(&self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Option<LostRecord>> {
        let storage = self.shared_storage();
        let path = storage.path(LOG);
        let reading = || Error::io("read it", &path);
        let log = match LogFile::open(storage, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            log => log.map_err(reading())?,
        };
        let Some(first) = first_in_active(&log).map_err(reading())? else { return Ok(None) };
        // `LogFile::open` answers this only if the directory of the segments holds a file.
        let lacks_its_beginning =
            log.lacks_its_beginning() || (log.spans().is_empty() && log.retired().is_none());
        if first == 1 || !lacks_its_beginning {
            return Ok(None);
        }
        let names = storage.list(SEGMENTS).map_err(reading())?;
        let mut spans: Vec<Span> = names.iter().filter_map(|name| Span::parse(name)).collect();
        spans.sort_by_key(|span| span.first);
        let parts = read_parts(&**storage, &log, &spans).map_err(reading())?;
        // The log starts where a file of it starts: at the earliest such event.
        for start in spans.iter().map(|span| span.first).chain([first]) {
            let record = start.checked_sub(1).and_then(|last| Retired::of_parts(parts.clone(), last));
            let Some(record) = record.filter(Retired::is_valid) else { continue };
            if is_of_log(storage, &record, progress)? {
                return Ok(Some(LostRecord { storage: Arc::clone(storage), record }));
            }
        }
        Ok(None)
    }
}

impl LostRecord {
    /// What the record says.
    pub fn retired(&self) -> &Retired {
        &self.record
    }

    /// Writes the record. The log can then be used again.
    ///
    /// # Errors
    /// [`Error::Sealing`] if another process seals the bus or retires events, [`Error::Io`].
    pub fn write(&self) -> Result<()> {
        let storage = &*self.storage;
        let failed = |action| io_error(storage, RETIRED, action);
        storage.create_directory(SEGMENTS).map_err(failed("create the directory of"))?;
        storage.copy_permissions(".", SEGMENTS).map_err(failed("set the permissions of the directory of"))?;
        storage.sync().map_err(failed("sync the directory of"))?;
        let _lock = SealLock::take(storage)?;
        self.record.write(storage, RETIRED).map_err(failed("write"))?;
        storage.sync_directory(SEGMENTS).map_err(failed("sync the directory of"))
    }
}

/// Returns the index of the first event of the active file.
fn first_in_active(log: &LogFile) -> io::Result<Option<u64>> {
    let mut lines = Lines::new(log.clone(), log.base(), log.size()?);
    let line = lines.next()?.and_then(|raw| raw.bytes).and_then(|bytes| Line::read(bytes).ok());
    Ok(line.and_then(|line| line.index()))
}

/// Reads what events of the segments and of the active file say about retired events. Segments that
/// cannot be read are left out.
fn read_parts(storage: &dyn Storage, log: &LogFile, spans: &[Span]) -> io::Result<Vec<RetiredPart>> {
    let mut parts = Vec::new();
    let (mut frame, mut reader) = (Vec::new(), FrameReader::default());
    for span in spans {
        let Ok(segment) = Segment::open(storage, span) else { continue };
        for number in 0..segment.frames.len() {
            if segment.read_frame(number, &mut reader, &mut frame).is_err() {
                continue;
            }
            parts.extend(frame.split(|byte| *byte == b'\n').filter_map(read_part));
        }
    }
    let mut lines = Lines::new(log.clone(), log.base(), log.size()?);
    while let Some(raw) = lines.next()? {
        parts.extend(raw.bytes.and_then(read_part));
    }
    Ok(parts)
}

fn read_part(line: &[u8]) -> Option<RetiredPart> {
    // Most lines need not be parsed.
    memchr::memmem::find(line, RETIRED_TYPE.as_bytes())?;
    let line = Line::read(line).ok()?;
    let index = line.index()?;
    let checksum = line.verify_alone(index).ok()?;
    RetiredPart::of(&line.event(Head { index, checksum: Some(checksum) })?)
}

/// Whether the log is valid from the end of the retired events up to the event that records the
/// last of them.
fn is_of_log(
    storage: &Arc<dyn Storage>,
    record: &Retired,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<bool> {
    let path = storage.path(LOG);
    let reading = || Error::io("read it", &path);
    let mut log = LogFile::open_with_record(storage, record).map_err(reading())?;
    let (end, sync_mark) = durable_end(&**storage, &mut log)?;
    let (threads, visit) = (chunk::available_threads(), |(): &mut (), _, _: &Line<'_>, _| {});
    let integrity = integrity::scan(&log, end, sync_mark, threads, visit, |_, _| Ok(()), progress);
    let head = integrity.map_err(reading())?.head;
    let is_recorded = record.parts().last().is_some_and(|part| part.event.index <= head.index);
    Ok(is_recorded && find_false_record(&log, end, head).map_err(reading())?.is_none())
}
