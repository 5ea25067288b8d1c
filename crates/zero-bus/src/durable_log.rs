//! Opens a log for reading up to an end that no power cut takes back, and checks that the log is
//! not shorter than the files next to it record.

use std::io;
use std::sync::Arc;

use crate::chain::Head;
use crate::error::{Error, Result};
use crate::lock_wait::{self, LOCK_TIMEOUT};
use crate::log_file::{LOCK, LOG, LogFile};
use crate::recover;
use crate::snapshot::{SNAPSHOT, Snapshot, missing_events};
use crate::storage::{Access, Lock, Storage, StorageFile};
use crate::sync_mark::SyncMark;

/// An open log, up to an end before which everything is durable.
pub(crate) struct DurableLog {
    pub(crate) file: LogFile,
    pub(crate) end: u64,
    pub(crate) sync_mark: Option<SyncMark>,
}

/// The log of a bus, or its sync mark if there is no log.
pub(crate) enum OpenedLog {
    Present(DurableLog),
    Missing(Option<SyncMark>),
}

impl OpenedLog {
    pub(crate) fn open(storage: &Arc<dyn Storage>) -> Result<Self> {
        if let Some(log) = DurableLog::open(storage)? {
            return Ok(Self::Present(log));
        }
        let path = storage.path(LOCK);
        let lock_file = open_lock_file(&**storage)?;
        let sync_mark = lock_file.map_or(Ok(None), |lock_file| SyncMark::read(&*lock_file));
        let sync_mark = sync_mark.map_err(Error::io("read it", &path))?;
        if sync_mark.is_some_and(|mark| mark.head.index > 0)
            // An appender may have created the log since it was looked up above.
            && let Some(log) = DurableLog::open(storage)?
        {
            return Ok(Self::Present(log));
        }
        Ok(Self::Missing(sync_mark))
    }
}

impl DurableLog {
    fn open(storage: &Arc<dyn Storage>) -> Result<Option<Self>> {
        let path = storage.path(LOG);
        let mut file = match LogFile::open(storage, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open it for reading", &path)(error)),
        };
        let (end, sync_mark) = durable_end(&**storage, &mut file)?;
        Ok(Some(Self { file, end, sync_mark }))
    }
}

/// Opens the lock file. Returns `None` if this library never appended here: the log was copied from
/// elsewhere, or there is none.
pub(crate) fn open_lock_file(storage: &dyn Storage) -> Result<Option<Arc<dyn StorageFile>>> {
    match storage.open(LOCK, Access::Read) {
        Ok(lock_file) => Ok(Some(Arc::from(lock_file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open it for reading", &storage.path(LOCK))(error)),
    }
}

/// Refuses a log of `events` events if its sync mark records more.
pub(crate) fn check_sync_mark_not_ahead(
    storage: &dyn Storage,
    events: u64,
    sync_mark: Option<SyncMark>,
) -> Result<()> {
    match sync_mark {
        Some(SyncMark { head: Head { index: recorded, .. }, .. }) if recorded > events => {
            Err(missing_events(storage, events, recorded, LOCK))
        }
        _ => Ok(()),
    }
}

/// Refuses a log of `events` events if its snapshot records more. A snapshot that cannot be read
/// records nothing.
pub(crate) fn check_snapshot_not_ahead(storage: &Arc<dyn Storage>, events: u64) -> Result<()> {
    let recorded = Snapshot::read(&**storage).map_or(0, |snapshot| snapshot.event_count());
    if recorded <= events {
        return Ok(());
    }
    // The snapshot may be newer than the end that the caller has read up to.
    let events = match OpenedLog::open(storage)? {
        OpenedLog::Missing(_) => 0,
        OpenedLog::Present(DurableLog { file, end, sync_mark }) => {
            let head = recover::head(&file, sync_mark, end);
            head.map_err(Error::io("read its tail", &storage.path(LOG)))?.map_or(events, |head| head.index)
        }
    };
    if recorded <= events {
        return Ok(());
    }
    Err(missing_events(&**storage, events, recorded, SNAPSHOT))
}

/// Returns the present end of the log and its sync mark, after making everything before the end
/// durable.
///
/// The end is sampled under the shared lock of the lock file. An appender holds the exclusive lock
/// until its batch is synced, so no reader sees part of a batch. If an appender died before its
/// sync, the sync mark does not cover the end; then the log is synced here. A reader thus never
/// returns an event that a power cut could still take back.
///
/// If a seal has replaced the active file since `file` was opened, and appenders have continued in
/// the new one, `file` becomes that.
pub(crate) fn durable_end(storage: &dyn Storage, file: &mut LogFile) -> Result<(u64, Option<SyncMark>)> {
    let path = storage.path(LOCK);
    let lock_file = open_lock_file(storage)?;
    if let Some(lock_file) = &lock_file {
        lock_wait::lock(lock_file, Lock::Shared, &path, LOCK_TIMEOUT)?;
    }
    let sampled = sample_end(file, lock_file.as_deref());
    if let Some(lock_file) = &lock_file {
        lock_file.unlock().map_err(Error::io("unlock it", &path))?;
    }
    let (end, sync_mark) = sampled.map_err(Error::io("read the end of it", &storage.path(LOG)))?;
    if sync_mark.is_none_or(|mark| mark.bytes < end) {
        match file.sync() {
            // A file that cannot be written has nothing to sync.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::ReadOnlyFilesystem
                ) => {}
            synced => synced.map_err(Error::io("sync it", &storage.path(LOG)))?,
        }
    }
    Ok((end, sync_mark))
}

/// Returns the size of the log and the sync mark. Called under the shared lock, so no seal and no
/// append comes between.
fn sample_end(
    file: &mut LogFile,
    lock_file: Option<&dyn StorageFile>,
) -> io::Result<(u64, Option<SyncMark>)> {
    let sync_mark = lock_file.map_or(Ok(None), SyncMark::read)?;
    let end = file.size()?;
    if sync_mark.is_some_and(|mark| mark.bytes > end)
        && let Some(reopened) = file.reopen_sealed(Access::Read)?
    {
        *file = reopened;
        return Ok((file.size()?, sync_mark));
    }
    Ok((end, sync_mark))
}
