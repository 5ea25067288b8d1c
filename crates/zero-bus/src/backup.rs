//! A copy of a bus that is being written to: a prefix of its log, byte for byte, checked after it was written, and its
//! snapshot. The copy is a bus itself.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::chain::{Head, Line};
use crate::chunk;
use crate::error::{Error, Result};
use crate::fault::{Fault, FaultKind};
use crate::integrity::{self, Finding, Progress};
use crate::lines::{LOCK, LOG, Lines, start_of_rest};
use crate::reader::{Log, Reader};
use crate::snapshot::{Found, Located, SNAPSHOT, Snapshot};
use crate::storage::{self, Access, Storage, StorageFile, read_exact_at};
use crate::sync_mark::SyncMark;

/// Bytes read at a time.
const BLOCK: u64 = 1 << 20;

/// What a backup holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Bytes of its log.
    pub bytes: u64,
    /// Bytes of them that were not there before.
    pub bytes_new: u64,
    /// Its events.
    pub events: u64,
    /// Whether the snapshot of the bus fits its log. One that does not was not copied.
    pub snapshot_fits: bool,
}

/// Why there is no backup, or no newer one. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The bus cannot be read, or is damaged.
    #[error(transparent)]
    Bus(#[from] Error),
    /// The system refused something at the target.
    #[error("{}: cannot {action}: {source}", path.display())]
    Target {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Somebody is writing to the target.
    #[error("{}: is in use; a backup goes to a directory that nobody else writes to", path.display())]
    InUse {
        /// The target's log.
        path: std::path::PathBuf,
    },
    /// The target holds another bus.
    #[error("{}: is the log of another bus; name another target", path.display())]
    AnotherBus {
        /// The target's log.
        path: std::path::PathBuf,
    },
    /// The target holds another history of this bus.
    #[error("{}: differs from the bus from event {index} on, though both are sound: one of the two was written anew; \
             name another target to keep both", path.display())]
    Fork {
        /// The target's log.
        path: std::path::PathBuf,
        /// The first event that differs.
        index: u64,
    },
    /// The target holds more than the bus.
    #[error("{}: is longer than the log of the bus, which lost its end or was restored from an older copy; the \
             missing events are here", path.display())]
    Ahead {
        /// The target's log.
        path: std::path::PathBuf,
    },
    /// The target holds something that is no backup.
    #[error("{}: {problem}; name another target", path.display())]
    NoBackup {
        /// What is there.
        path: std::path::PathBuf,
        /// Why it is none.
        problem: &'static str,
    },
    /// What the target holds is damaged.
    #[error("{}: {fault} (byte {} of the log), and the bus has it right; name another target", path.display(), fault.byte_offset)]
    Damaged {
        /// The target's log.
        path: std::path::PathBuf,
        /// The first fault.
        fault: Fault,
    },
}

impl Reader {
    /// Brings a copy of the bus up to what is durable now, also while it is being written to. Where an earlier backup is
    /// there, only what is new is copied; where one was interrupted, it goes on. All of it is held against the bus, and
    /// checked after it was written; then the snapshot follows.
    ///
    /// Costs a pass over both logs; memory for a few blocks.
    ///
    /// # Errors
    /// [`BackupError`]. The target is as it was then, except for what an interrupted backup left behind.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::sync::Arc;
    /// use zero_bus::storage::{Directory, Storage};
    /// use zero_bus::{Bus, Draft, Json, Reader};
    ///
    /// let bus = Bus::open(dir.path().join("bus"))?;
    /// let draft = || Draft { event_type: "a".into(), as_of: 0.0, payload: Json::empty_object(), trace_id: None };
    /// bus.append(draft())?;
    /// let target: Arc<dyn Storage> = Arc::new(Directory::create(&dir.path().join("copy"))?);
    /// assert_eq!(bus.reader().backup(&target, &mut |_| {})?.events, 1);
    /// bus.append(draft())?;
    /// assert_eq!(bus.reader().backup(&target, &mut |_| {})?.events, 2);
    /// assert!(Reader::open(dir.path().join("copy"))?.verify(&mut |_| {})?.ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup(
        &self,
        target: &Arc<dyn Storage>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Backup, BackupError> {
        // Before the end of the log is looked at, so that it is not ahead of that.
        let snapshot = Snapshot::read(self.storage())?;
        let Some(log) = self.log()? else {
            return Ok(Backup { bytes: 0, bytes_new: 0, events: 0, snapshot_fits: true });
        };
        let source = Arc::clone(&log.file);
        let source_path = self.log_path();
        let reading = || Error::io("read it", &source_path);
        let end = self.sound_end(log, progress)?;

        let mut copy = Copy::open(&**target, &*source)?;
        let held = copy.held.min(end);
        let mut here = [vec![0; BLOCK as usize], vec![0; BLOCK as usize]];
        let mut at = 0;
        let mut differs = None;
        while at < held && differs.is_none() {
            let wanted = (held - at).min(BLOCK) as usize;
            let [ours, theirs] = &mut here;
            read_exact_at(&*source, &mut ours[..wanted], at).map_err(reading())?;
            read_exact_at(&*copy.file, &mut theirs[..wanted], at).map_err(copy.io("read it"))?;
            let same = ours[..wanted].iter().zip(&theirs[..wanted]).position(|(ours, theirs)| ours != theirs);
            differs = same.map(|same| at + same as u64);
            at += wanted as u64;
            progress(Progress { bytes: at, bytes_total: end });
        }
        if let Some(byte_offset) = differs {
            // Behind the note is what an interrupted backup did not live to sync: nothing that is sound and differs.
            let unsynced = copy.note.filter(|note| note.bytes <= byte_offset);
            let sound = match judge(&copy.file, copy.held, 0, &mut |_| {}).map_err(copy.io("read it"))? {
                Judged::Sound(..) => copy.held,
                Judged::Fault(fault) => fault.byte_offset,
            };
            let Some(note) = unsynced.filter(|_| sound <= byte_offset) else {
                return Err(self.why_it_differs(&source, &copy, byte_offset)?);
            };
            copy.cut(note.bytes)?;
        } else if copy.held > end {
            return Err(BackupError::Ahead { path: copy.path });
        }

        let before = copy.held;
        copy.note_where_there_is_none()?;
        let [block, _] = &mut here;
        while copy.held < end {
            let wanted = (end - copy.held).min(BLOCK) as usize;
            read_exact_at(&*source, &mut block[..wanted], copy.held).map_err(reading())?;
            copy.append(&block[..wanted])?;
            progress(Progress { bytes: copy.held, bytes_total: end });
        }
        copy.file.sync().map_err(copy.io("sync it"))?;
        target.sync().map_err(copy.io("sync the directory of"))?;
        let wanted = snapshot.event_count();
        let (head, at_snapshot) =
            match judge(&copy.file, end, wanted, progress).map_err(copy.io("read it"))? {
                Judged::Sound(head, at_snapshot) => (head, at_snapshot),
                Judged::Fault(fault) => {
                    copy.cut(before)?;
                    return Err(BackupError::Damaged { path: copy.path, fault });
                }
            };
        copy.write_note(SyncMark { head, bytes: end })?;
        // One that the log does not bear out would take the place of one that it does.
        let fits = snapshot.integrity(&at_snapshot).consistent;
        if let (Found::Snapshot(_, json), true) = (&snapshot, fits) {
            let path = target.path(SNAPSHOT);
            let replaced = storage::replace(&**target, SNAPSHOT, format!("{json}\n").as_bytes());
            replaced.map_err(|source| BackupError::Target { action: "replace it", path, source })?;
        }
        Ok(Backup { bytes: end, bytes_new: end - before, events: head.index, snapshot_fits: fits })
    }

    /// Where the last whole line of the log ends, all of which is sound.
    fn sound_end(&self, log: Log, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<u64> {
        let path = self.log_path();
        let Log { file, end, note } = log;
        let reading = || Error::io("read it", &path);
        let walked = integrity::walk(
            &file,
            end,
            note,
            chunk::all_threads(),
            |(): &mut (), _, _, _| {},
            |_, _| Ok(()),
            progress,
        );
        let walked = walked.map_err(reading())?;
        match walked.finding {
            // A last event without its line break will have one in time.
            Finding::Sound => start_of_rest(&*file, end).map_err(reading()),
            Finding::Torn { byte_offset, .. } | Finding::Truncated { byte_offset, .. } => Ok(byte_offset),
            Finding::Fault(fault) => Err(Error::Damaged { path, fault }),
            Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
            Finding::Missing(remembered) => Err(Error::Missing {
                path,
                events: walked.head.index,
                recorded: remembered,
                recorded_in: LOCK,
            }),
        }
    }

    fn why_it_differs(
        &self,
        source: &Arc<dyn StorageFile>,
        copy: &Copy<'_>,
        byte_offset: u64,
    ) -> Result<BackupError> {
        let path = self.log_path();
        let reading = || Error::io("read it", &path);
        let at = start_of_rest(&**source, byte_offset).map_err(reading())?;
        let mut lines = Lines::new(Arc::clone(source), at, source.size().map_err(reading())?);
        let found = lines.next().map_err(reading())?;
        let line = found.and_then(|found| found.bytes).and_then(|bytes| Line::read(bytes).ok());
        let index = line.and_then(|line| line.index()).unwrap_or_default();
        let path = copy.path.clone();
        // The first event is what a bus is known by.
        if index <= 1 {
            return Ok(BackupError::AnotherBus { path });
        }
        Ok(match judge(&copy.file, copy.held, 0, &mut |_| {}) {
            Ok(Judged::Sound(..)) => BackupError::Fork { path, index },
            Ok(Judged::Fault(fault)) => BackupError::Damaged { path, fault },
            Err(source) => BackupError::Target { action: "read it", path, source },
        })
    }
}

enum Judged {
    /// With what stands at the event that was wanted.
    Sound(Head, Located),
    Fault(Fault),
}

/// Goes through a log up to a place, and looks at one event on the way.
fn judge(
    file: &Arc<dyn StorageFile>,
    end: u64,
    wanted: u64,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> io::Result<Judged> {
    let mut located = Located::default();
    let walked = integrity::walk(
        file,
        end,
        None,
        chunk::all_threads(),
        |located: &mut Located, nth, line, _| located.see(wanted, nth, line),
        |part, _| {
            located.add(std::mem::take(part));
            Ok(())
        },
        progress,
    )?;
    Ok(match walked.finding {
        Finding::Fault(fault) | Finding::Ambiguous(fault) => Judged::Fault(fault),
        Finding::Sound | Finding::Missing(_) => Judged::Sound(walked.head, located),
        Finding::Torn { byte_offset, .. } | Finding::Truncated { byte_offset, .. } => Judged::Fault(Fault {
            event: walked.head.index + 1,
            kind: FaultKind::NotJson("it is cut short".to_owned(), 0),
            byte_offset,
        }),
    })
}

/// The target's log, locked.
struct Copy<'a> {
    storage: &'a dyn Storage,
    file: Arc<dyn StorageFile>,
    lock_file: Box<dyn StorageFile>,
    note: Option<SyncMark>,
    /// Bytes it has.
    held: u64,
    path: std::path::PathBuf,
}

impl<'a> Copy<'a> {
    fn open(storage: &'a dyn Storage, source: &dyn StorageFile) -> Result<Self, BackupError> {
        let path = storage.path(LOG);
        let of = |name| {
            let path = storage.path(name);
            move |action| {
                let path = path.clone();
                move |source| BackupError::Target { action, path, source }
            }
        };
        let (lock, log) = (of(LOCK), of(LOG));
        let no_backup = |name, problem| BackupError::NoBackup { path: storage.path(name), problem };
        let there = storage.open(LOG, Access::Read);
        let is_new = there.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        // Beside a log that is yet to be written stands nothing that speaks of one.
        if is_new && storage.open(SNAPSHOT, Access::Read).is_ok() {
            return Err(no_backup(SNAPSHOT, "belongs to a log that is not there"));
        }
        let lock_file = storage.open(LOCK, Access::ReadWrite).map_err(lock("open it"))?;
        if !lock_file.try_lock().map_err(lock("lock it"))? {
            return Err(BackupError::InUse { path });
        }
        let note = SyncMark::read(&*lock_file).map_err(lock("read it"))?;
        if there.is_ok_and(|there| there.identity().ok() == source.identity().ok()) {
            return Err(no_backup(LOG, "is the log of the bus itself under another name"));
        }
        if is_new {
            let size = lock_file.size().map_err(lock("look at it"))?;
            if note.map_or(size > 0, |note| note.bytes > 0) {
                return Err(no_backup(LOCK, "remembers a log that is not there, or is no file of a bus"));
            }
        }
        let file: Arc<dyn StorageFile> =
            Arc::from(storage.open(LOG, Access::Append).map_err(log("open it for appending"))?);
        let held = file.size().map_err(log("look at it"))?;
        Ok(Self { storage, file, lock_file, note, held, path })
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> BackupError + use<> {
        let path = self.path.clone();
        move |source| BackupError::Target { action, path, source }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        if !self.storage.is_current(LOG, &*self.file).map_err(self.io("look at it"))? {
            let replaced = io::Error::other("it was replaced while it was written");
            return Err(self.io("go on")(replaced));
        }
        if let Err(error) = self.file.append(bytes) {
            // A part of it may be there, which the next attempt would find as well.
            let _ = self.file.truncate(self.held);
            return Err(self.io("append to it")(error));
        }
        self.held += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self, to: u64) -> Result<(), BackupError> {
        self.file.truncate(to).and_then(|()| self.file.sync()).map_err(self.io("cut it"))?;
        self.held = to;
        Ok(())
    }

    /// Lets the next attempt know that nothing was synced yet.
    fn note_where_there_is_none(&mut self) -> Result<(), BackupError> {
        if self.note.is_none() && self.held == 0 { self.write_note(SyncMark::default()) } else { Ok(()) }
    }

    fn write_note(&mut self, note: SyncMark) -> Result<(), BackupError> {
        let written = note.write(&*self.lock_file, &mut String::new()).and_then(|()| self.lock_file.sync());
        written.map_err(self.io("write the note beside"))?;
        self.note = Some(note);
        Ok(())
    }
}
