//! Copies a bus, even while it is written to.
//!
//! A backup is a bus itself: a prefix of the log, byte for byte, and the snapshot if it matches
//! that prefix. A backup is brought up to date by copying only what is new. Before that the copy is
//! compared with the bus, and afterwards the whole copy is verified.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::bisect::find_event;
use crate::chain::{Head, Line};
use crate::chunk;
use crate::durable_log::{DurableLog, OpenedLog, check_sync_mark_not_ahead};
use crate::error::{Error, Result};
use crate::fault::{Fault, FaultKind};
use crate::integrity::{self, Finding, Progress};
use crate::lines::{Lines, after_last_newline, last_line_before};
use crate::log_file::{LOCK, LOG, LogFile, VerifiedEnd};
use crate::reader::Reader;
use crate::retired::{RETIRED, Retired};
use crate::seal::first_checksum;
use crate::segment::SEGMENTS;
use crate::snapshot::{LogAtSnapshot, SNAPSHOT, Snapshot, StoredSnapshot, missing_events};
use crate::storage::{self, Access, Lock, Storage, StorageFile, read_exact_at};
use crate::sync_mark::SyncMark;

const BLOCK_BYTES: u64 = 1 << 20;

/// Times that a backup begins again because events were retired before it had copied them.
const MAX_ATTEMPTS: usize = 8;

/// What a backup holds after [`Reader::backup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Length of its log in bytes.
    pub bytes: u64,
    /// Bytes that this call added to it.
    pub bytes_new: u64,
    /// Number of its events.
    pub events: u64,
    /// Whether the snapshot of the bus matches its log. If not, the snapshot was not copied.
    pub snapshot_fits: bool,
}

/// Why a backup was not made or not brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The bus cannot be read, or is damaged.
    #[error(transparent)]
    Bus(#[from] Error),
    /// The system refused an operation on the target.
    #[error("{}: cannot {action}: {source}", path.display())]
    Target {
        /// The operation, as in "open it".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another program writes to the target.
    #[error("{}: is in use; name a target that no other program writes to", path.display())]
    InUse {
        /// The target's log.
        path: PathBuf,
    },
    /// The target holds another bus.
    #[error("{}: is the log of another bus; name another target", path.display())]
    AnotherBus {
        /// The target's log.
        path: PathBuf,
    },
    /// The target holds another history of this bus.
    #[error("{}: differs from the bus from event {index} on, though both are sound: one of them was \
             rewritten; name another target to keep both", path.display())]
    Fork {
        /// The target's log.
        path: PathBuf,
        /// The first event that differs.
        index: u64,
    },
    /// The target ends before the first event that the log still has.
    #[error("{}: ends at event {events}, but {retired}; copy the events between from there, or name another \
             target", path.display())]
    BehindRetired {
        /// The target's log.
        path: PathBuf,
        /// The last event that it holds.
        events: u64,
        /// What the log of the bus no longer has.
        retired: Arc<Retired>,
    },
    /// The target holds more events than the bus.
    #[error("{}: is longer than the log of the bus, which lost its end or was restored from an older copy; \
             restore the missing events from this target, or name another one", path.display())]
    Ahead {
        /// The target's log.
        path: PathBuf,
    },
    /// The target holds files that are not a backup.
    #[error("{}: {problem}; name another target", path.display())]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// Why it cannot be part of a backup.
        problem: &'static str,
    },
    /// The log in the target is damaged.
    #[error("{}: {fault} (byte {} of the log), but the bus is sound there; name another target", path.display(), fault.byte_offset)]
    Damaged {
        /// The target's log.
        path: PathBuf,
        /// The first fault.
        fault: Fault,
    },
}

impl Reader {
    /// Makes a backup of everything that is durable now, or brings an earlier one up to date. An
    /// interrupted backup is continued. The bus may be written to meanwhile. If events are retired
    /// before they are copied, a new backup begins again where the log then starts.
    ///
    /// Costs a pass over the log of the bus and one over that of the target; memory as for
    /// [`Reader::verify`].
    ///
    /// # Errors
    /// [`BackupError`]. An earlier backup in the target stays as it was, except that bytes which an
    /// interrupted backup did not sync may be cut off.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use std::sync::Arc;
    /// use zero_bus::storage::{Directory, Storage};
    /// use zero_bus::{Bus, Draft, Reader};
    ///
    /// let bus = Bus::open(dir.path().join("bus"))?;
    /// let draft = || Draft::new("step.done", 1777593600.0, &BTreeMap::from([("step", 1)]));
    /// bus.append(draft()?)?;
    /// let target: Arc<dyn Storage> = Arc::new(Directory::create(&dir.path().join("copy"))?);
    /// assert_eq!(bus.reader().backup(&target, &mut |_| {})?.events, 1);
    /// bus.append(draft()?)?;
    /// assert_eq!(bus.reader().backup(&target, &mut |_| {})?.events, 2);
    /// assert!(Reader::open(dir.path().join("copy"))?.verify()?.ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup(
        &self,
        target: &Arc<dyn Storage>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Backup, BackupError> {
        for _ in 1..MAX_ATTEMPTS {
            match self.try_backup(target, progress) {
                Err(BackupError::Bus(Error::Retired { .. })) => {}
                done => return done,
            }
        }
        self.try_backup(target, progress)
    }

    fn try_backup(
        &self,
        target: &Arc<dyn Storage>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Backup, BackupError> {
        // Read before the log, so that the log holds every event that the snapshot refers to.
        let snapshot = Snapshot::read(self.storage())?;
        let recorded = snapshot.event_count();
        let missing = |events| missing_events(self.storage(), events, recorded, SNAPSHOT);
        let log = match self.durable_log()? {
            OpenedLog::Present(log) => log,
            OpenedLog::Missing(sync_mark) => {
                check_sync_mark_not_ahead(self.storage(), 0, sync_mark)?;
                if recorded > 0 {
                    return Err(missing(0).into());
                }
                return Ok(Backup { bytes: 0, bytes_new: 0, events: 0, snapshot_fits: true });
            }
        };
        let source = log.file.clone();
        let (end, events) = self.verified_end(log, progress)?;
        if recorded > events {
            return Err(missing(events).into());
        }

        let mut copy = TargetLog::open(target, &source)?;
        if copy.is_unfinished(&source)? {
            copy.discard()?;
            copy = TargetLog::open(target, &source)?;
        }
        self.check_start(&source, &copy)?;
        let mut buffers = [vec![0; BLOCK_BYTES as usize], vec![0; BLOCK_BYTES as usize]];
        if let Some(byte_offset) = self.first_difference(&source, &copy, end, &mut buffers, progress)? {
            let Some(sync_mark) = copy.sync_mark_of_interrupted_backup(byte_offset)? else {
                return Err(self.explain_difference(&source, &copy, byte_offset)?);
            };
            copy.truncate(sync_mark.bytes)?;
        } else if copy.size > end {
            return Err(BackupError::Ahead { path: copy.path });
        }

        let size_before = copy.size;
        copy.write_first_sync_mark()?;
        let [buffer, _] = &mut buffers;
        while copy.size < end {
            let block = &mut buffer[..(end - copy.size).min(BLOCK_BYTES) as usize];
            read_exact_at(&source, block, copy.size).map_err(Error::io("read it", &self.log_path()))?;
            copy.append(block)?;
            progress(Progress { bytes: copy.size, bytes_total: end });
        }
        copy.file.sync().map_err(copy.io("sync it"))?;
        target.sync().map_err(copy.io("sync its directory"))?;
        // The sync mark is written only after the whole copy was verified.
        let verified = verify_copy(&copy.file, end, snapshot.event_count(), progress);
        let (head, at_snapshot) = match verified.map_err(copy.io("read it"))? {
            CopyVerdict::Sound(head, at_snapshot) => (head, at_snapshot),
            CopyVerdict::Fault(fault) => {
                copy.truncate(size_before)?;
                return Err(BackupError::Damaged { path: copy.path, fault });
            }
        };
        copy.write_sync_mark(SyncMark { head, bytes: end })?;
        // A snapshot that does not match must not replace an earlier one that does.
        let fits = snapshot.integrity(&at_snapshot).consistent;
        if let (StoredSnapshot::Snapshot(_, json), true) = (&snapshot, fits) {
            let path = target.path(SNAPSHOT);
            let replaced = storage::replace(&**target, SNAPSHOT, format!("{json}\n").as_bytes());
            replaced.map_err(|source| BackupError::Target { action: "replace it", path, source })?;
        }
        Ok(Backup { bytes: end, bytes_new: end - size_before, events: head.index, snapshot_fits: fits })
    }

    /// Verifies the log of the bus. Returns the end of its last terminated line, to which the
    /// backup extends, and the number of all its events.
    fn verified_end(
        &self,
        log: DurableLog,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(u64, u64)> {
        let path = self.log_path();
        let DurableLog { file, end, sync_mark } = log;
        let scanned = integrity::scan(
            &file,
            end,
            sync_mark,
            chunk::available_threads(),
            |(): &mut (), _, _, _| {},
            |_, _| Ok(()),
            progress,
        );
        let integrity = scanned.map_err(Error::io("read it", &path))?;
        let events = integrity.head.index;
        match integrity.finding {
            // A complete last event without a line break is left for the next backup: the next
            // append terminates it.
            Finding::Sound => {
                let end = after_last_newline(&file, end).map_err(Error::io("read it", &path))?;
                Ok((end, events))
            }
            Finding::Torn { byte_offset, .. } => Ok((byte_offset, events)),
            // The log is shorter than its sync mark records.
            Finding::Truncated { .. } => Err(missing_events(self.storage(), events, events + 1, LOCK)),
            Finding::Fault(fault) => Err(Error::Damaged { path, fault }),
            Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
            Finding::Missing(recorded) => Err(missing_events(self.storage(), events, recorded, LOCK)),
        }
    }

    /// Checks that log and copy agree about the last event before the part that both have.
    fn check_start(&self, source: &LogFile, copy: &TargetLog<'_>) -> Result<(), BackupError> {
        let (ours, theirs) = (source.start(), copy.file.start());
        let path = copy.path.clone();
        if ours == theirs {
            return Ok(());
        }
        let (later, other, end) = if ours.offset > theirs.offset {
            (ours, &copy.file, copy.size)
        } else {
            (theirs, source, source.size().map_err(Error::io("read it", &self.log_path()))?)
        };
        match source.retired() {
            Some(retired) if later == ours && ours.offset > end => {
                let events = copy.last_index().map_err(copy.io("read it"))?;
                return Err(BackupError::BehindRetired { path, events, retired: Arc::clone(retired) });
            }
            _ if later.offset > end => return Err(BackupError::Ahead { path }),
            _ => {}
        }
        let found = find_event(other, end, later.head.index).map_err(copy.io("read it"))?;
        if found.map(|(_, head)| head) == Some(later.head) {
            return Ok(());
        }
        Err(BackupError::Fork { path, index: later.head.index })
    }

    /// Compares the copy with the log up to `end`. Returns the offset of the first byte that
    /// differs.
    fn first_difference(
        &self,
        source: &LogFile,
        copy: &TargetLog<'_>,
        end: u64,
        buffers: &mut [Vec<u8>; 2],
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<u64>, BackupError> {
        let common_end = copy.size.min(end);
        // The copy may hold events that the log no longer has, or the other way round.
        let mut offset = source.start().offset.max(copy.file.start().offset);
        while offset < common_end {
            let length = (common_end - offset).min(BLOCK_BYTES) as usize;
            let [source_block, copy_block] = buffers.each_mut().map(|buffer| &mut buffer[..length]);
            read_exact_at(source, source_block, offset).map_err(Error::io("read it", &self.log_path()))?;
            read_exact_at(&copy.file, copy_block, offset).map_err(copy.io("read it"))?;
            let mut pairs = source_block.iter().zip(copy_block.iter());
            if let Some(position) = pairs.position(|(source, copy)| source != copy) {
                return Ok(Some(offset + position as u64));
            }
            offset += length as u64;
            progress(Progress { bytes: offset, bytes_total: end });
        }
        Ok(None)
    }

    /// Returns the error for a copy that differs from the log at an offset.
    fn explain_difference(
        &self,
        source: &LogFile,
        copy: &TargetLog<'_>,
        byte_offset: u64,
    ) -> Result<BackupError> {
        let path = self.log_path();
        let reading = || Error::io("read it", &path);
        let line_start = after_last_newline(source, byte_offset).map_err(reading())?;
        let mut lines = Lines::new(source.clone(), line_start, source.size().map_err(reading())?);
        let raw = lines.next().map_err(reading())?;
        let line = raw.and_then(|raw| raw.bytes).and_then(|bytes| Line::read(bytes).ok());
        let index = line.and_then(|line| line.index()).unwrap_or_default();
        let path = copy.path.clone();
        // The checksum of the first event is the id of a bus.
        if index <= 1 {
            return Ok(BackupError::AnotherBus { path });
        }
        Ok(match verify_copy(&copy.file, copy.size, 0, &mut |_| {}) {
            Ok(CopyVerdict::Sound(..)) => BackupError::Fork { path, index },
            Ok(CopyVerdict::Fault(fault)) => BackupError::Damaged { path, fault },
            Err(source) => BackupError::Target { action: "read it", path, source },
        })
    }
}

enum CopyVerdict {
    /// The last event, and what the log holds where the snapshot refers to.
    Sound(Head, LogAtSnapshot),
    Fault(Fault),
}

/// Verifies a copy up to `end`, and locates the event that the snapshot refers to.
fn verify_copy(
    file: &LogFile,
    end: u64,
    snapshot_events: u64,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> io::Result<CopyVerdict> {
    let mut at_snapshot = LogAtSnapshot { start: file.start().head, ..LogAtSnapshot::default() };
    let integrity = integrity::scan(
        file,
        end,
        None,
        chunk::available_threads(),
        |located: &mut LogAtSnapshot, number, line, _| located.observe(snapshot_events, number, line),
        |located, _| {
            at_snapshot.merge(std::mem::take(located));
            Ok(())
        },
        progress,
    )?;
    Ok(match integrity.finding {
        Finding::Fault(fault) | Finding::Ambiguous(fault) => CopyVerdict::Fault(fault),
        Finding::Sound | Finding::Missing(_) => CopyVerdict::Sound(integrity.head, at_snapshot),
        Finding::Torn { byte_offset, .. } | Finding::Truncated { byte_offset, .. } => {
            CopyVerdict::Fault(Fault {
                event: integrity.head.index + 1,
                kind: FaultKind::NotJson("it is cut short".to_owned(), 0),
                byte_offset,
            })
        }
    })
}

/// The log in the target. Holds the exclusive lock of the target's lock file while it exists.
struct TargetLog<'a> {
    storage: &'a dyn Storage,
    file: LogFile,
    lock_file: Box<dyn StorageFile>,
    sync_mark: Option<SyncMark>,
    size: u64,
    path: PathBuf,
}

impl<'a> TargetLog<'a> {
    /// Opens and locks the target's log. Refuses a directory with files that are not part of a
    /// backup, before it creates or changes anything of a backup.
    fn open(storage: &'a Arc<dyn Storage>, source: &LogFile) -> Result<Self, BackupError> {
        let path = storage.path(LOG);
        let error_for = |name| {
            let path = storage.path(name);
            move |action| {
                let path = path.clone();
                move |source| BackupError::Target { action, path, source }
            }
        };
        let (lock_error, log_error) = (error_for(LOCK), error_for(LOG));
        let no_backup = |name, problem| BackupError::NoBackup { path: storage.path(name), problem };
        let existing = storage.open(LOG, Access::Read);
        let is_new = existing.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if is_new && storage.open(SNAPSHOT, Access::Read).is_ok() {
            return Err(no_backup(SNAPSHOT, "is a snapshot without its log"));
        }
        let lock_file = storage.open(LOCK, Access::ReadWrite).map_err(lock_error("open it"))?;
        if !lock_file.try_lock(Lock::Exclusive).map_err(lock_error("lock it"))? {
            return Err(BackupError::InUse { path });
        }
        let sync_mark = SyncMark::read(&*lock_file).map_err(lock_error("read it"))?;
        if existing.is_ok_and(|existing| existing.identity().ok() == source.identity().ok()) {
            return Err(no_backup(LOG, "is the log of the bus itself under another name"));
        }
        if is_new && source.retired().is_none() && storage.open(RETIRED, Access::Read).is_ok() {
            return Err(no_backup(RETIRED, "is a record of retired events without its log"));
        }
        if let (Some(retired), true) = (source.retired(), is_new) {
            // The copy starts where the log starts.
            let written = storage.create_directory(SEGMENTS).and_then(|()| {
                retired.write(&**storage, RETIRED)?;
                storage.sync_directory(SEGMENTS)
            });
            written.map_err(error_for(RETIRED)("write it"))?;
        }
        if is_new {
            let size = lock_file.size().map_err(lock_error("read the size of it"))?;
            if sync_mark.map_or(size > 0, |mark| mark.bytes > source.start().offset) {
                return Err(no_backup(LOCK, "belongs to a log that is missing, or is not a file of a bus"));
            }
        }
        let file = LogFile::open(storage, Access::Append).map_err(log_error("open it for appending"))?;
        let size = file.size().map_err(log_error("read the size of it"))?;
        Ok(Self { storage: &**storage, file, lock_file, sync_mark, size, path })
    }

    /// Whether this is the beginning of a backup of the same bus that never was complete, and ends
    /// before the log of the bus starts by now.
    fn is_unfinished(&self, source: &LogFile) -> Result<bool, BackupError> {
        let start = self.file.start();
        let is_complete = match self.sync_mark {
            Some(mark) => mark.bytes > start.offset,
            None => self.size > start.offset,
        };
        let Some(retired) = source.retired() else { return Ok(false) };
        if is_complete || self.size >= source.start().offset {
            return Ok(false);
        }
        let bus = match self.file.retired() {
            Some(retired) => retired.bus(),
            None => first_checksum(&self.file, self.size).map_err(self.io("read it"))?,
        };
        Ok(bus.is_none() || bus == retired.bus())
    }

    /// Removes the log of an unfinished backup.
    fn discard(self) -> Result<(), BackupError> {
        self.storage.remove(LOG).map_err(self.io("remove it"))?;
        // Before a new record says where the log starts.
        self.storage.sync().map_err(self.io("sync its directory"))
    }

    fn last_index(&self) -> io::Result<u64> {
        let last = last_line_before(&self.file, self.size)?;
        let line = last.as_ref().and_then(|last| Line::read(last.bytes.as_deref()?).ok());
        Ok(line.and_then(|line| line.index()).unwrap_or(self.file.start().head.index))
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> BackupError + use<> {
        let path = self.path.clone();
        move |source| BackupError::Target { action, path, source }
    }

    /// Returns the sync mark if an interrupted backup can explain that the copy differs from the
    /// log at `byte_offset`: the offset is after the mark, and the copy is not valid beyond it. A
    /// copy that is valid beyond the difference holds events of its own, which must not be cut off.
    fn sync_mark_of_interrupted_backup(&self, byte_offset: u64) -> Result<Option<SyncMark>, BackupError> {
        let verified = verify_copy(&self.file, self.size, 0, &mut |_| {}).map_err(self.io("read it"))?;
        let valid_end = match verified {
            CopyVerdict::Sound(..) => self.size,
            CopyVerdict::Fault(fault) => fault.byte_offset,
        };
        Ok(self.sync_mark.filter(|mark| mark.bytes <= byte_offset && valid_end <= byte_offset))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        if !self.storage.is_current(LOG, &self.file).map_err(self.io("look it up"))? {
            return Err(self.io("append to it")(io::Error::other("it was replaced during the backup")));
        }
        if let Err(error) = self.file.append(bytes) {
            // Part of the bytes may be written. Best effort: the next backup detects them too.
            let _ = self.file.truncate(self.size);
            return Err(self.io("append to it")(error));
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> Result<(), BackupError> {
        self.file.truncate(size).and_then(|()| self.file.sync()).map_err(self.io("truncate it"))?;
        self.size = size;
        Ok(())
    }

    /// Records in a new target that nothing is synced yet. If this backup is interrupted, the next
    /// one can tell unsynced bytes from a damaged copy.
    fn write_first_sync_mark(&mut self) -> Result<(), BackupError> {
        let VerifiedEnd { head, offset: bytes } = self.file.start();
        if self.sync_mark.is_none_or(|mark| mark.bytes < bytes) && self.size == bytes {
            self.write_sync_mark(SyncMark { head, bytes })
        } else {
            Ok(())
        }
    }

    fn write_sync_mark(&mut self, sync_mark: SyncMark) -> Result<(), BackupError> {
        let written =
            sync_mark.write(&*self.lock_file, &mut String::new()).and_then(|()| self.lock_file.sync());
        written.map_err(self.io("write its sync mark"))?;
        self.sync_mark = Some(sync_mark);
        Ok(())
    }
}
