//! Reads verified events of a log, from any index to the end.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bisect::find_event;
use crate::chain::{Head, Line};
use crate::durable_log::{
    DurableLog, OpenedLog, check_snapshot_not_ahead, check_sync_mark_not_ahead, durable_end, open_lock_file,
};
use crate::error::{Error, Result};
use crate::event::{Event, index_of_id};
use crate::fault::FaultKind;
use crate::integrity::{self, Finding, Integrity, Progress};
use crate::lines::{Lines, last_line_before};
use crate::lock_wait::{self, LOCK_TIMEOUT};
use crate::log::Bus;
use crate::log_file::{LOCK, LOG};
use crate::recover::{self, locate_damage};
use crate::retired::Retired;
use crate::snapshot::{Snapshot, StoredSnapshot, missing_events};
use crate::storage::{Access, Directory, Lock, Storage, StorageFile, read_up_to};
use crate::sync_mark::{StoredSyncMark, SyncMark};

/// A bus opened for reading. Needs only the right to read, and changes nothing.
#[derive(Clone)]
pub struct Reader {
    storage: Arc<dyn Storage>,
}

impl Reader {
    /// Opens the bus in a directory for reading. A directory without a log is an empty bus.
    ///
    /// # Errors
    /// [`Error::NotABus`] if the path is not a directory, [`Error::Io`] for what the system
    /// refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let not_a_bus = |reason: &str| Error::NotABus { path: path.to_owned(), reason: reason.to_owned() };
        let directory = Directory::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_a_bus("there is no such directory"),
            io::ErrorKind::NotADirectory => not_a_bus("it is a file, not a directory"),
            _ => Error::io("open the directory", path)(error),
        })?;
        let reader = Self::open_in(Arc::new(directory));
        // Fails here rather than on the first read, if the log or the lock file cannot be opened.
        reader.durable_log()?;
        Ok(reader)
    }

    /// Opens the bus in any storage for reading.
    pub fn open_in(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// Returns the events from an index on, in order, up to the present end of the log. Each event
    /// is verified: its checksum and its link to the event before.
    ///
    /// Finds the first event by bisection, which reads about twenty lines of a log of a million.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Retired`] if the log starts after that index, see
    /// [`Reader::first_index`]. The iterator returns the first fault of the log as an error in
    /// place of the faulty event, and ends. At the end of a log that is shorter than its sync mark
    /// or its snapshot records, it returns [`Error::Missing`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Reader};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for celsius in [21.5, 22.0, 22.5] {
    ///     let reading = BTreeMap::from([("celsius", celsius)]);
    ///     bus.append(Draft::new("sensor.reading", 1777593600.0, &reading)?)?;
    /// }
    /// for event in Reader::open(dir.path())?.events(2)? {
    ///     let event = event?;
    ///     println!("{} {} {}", event.id(), event.event_type, event.payload);
    /// }
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn events(&self, from: u64) -> Result<Events> {
        Events::open(Arc::clone(&self.storage), from.max(1))
    }

    /// Returns the event at an index; `None` beyond the end.
    ///
    /// # Errors
    /// [`Error::Damaged`] if that event or the one before it is not valid, [`Error::Retired`] if it
    /// was retired, [`Error::Missing`] if the index is beyond the end of a log that lost its end,
    /// [`Error::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let door = BTreeMap::from([("by", "cat")]);
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &door)?)?;
    /// assert_eq!(bus.reader().event(1)?, Some(event.clone()));
    /// assert_eq!(bus.reader().event_by_id("evt-000000000001")?, Some(event));
    /// assert_eq!(bus.reader().event(2)?, None);
    /// assert_eq!(bus.reader().head()?, bus.head());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn event(&self, index: u64) -> Result<Option<Event>> {
        if index == 0 {
            return Ok(None);
        }
        match self.events(index)?.next() {
            Some(event) => event.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the event with an id; `None` if the log does not hold it.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn event_by_id(&self, id: &str) -> Result<Option<Event>> {
        index_of_id(id).map_or(Ok(None), |index| self.event(index))
    }

    /// Returns whether the log holds the event that a head names: this index with this checksum.
    /// The empty head is the start of every log.
    ///
    /// This is the check for a checksum that was kept elsewhere. If [`Reader::verify`] passes too,
    /// no event up to `head` was changed or removed since that head was recorded, and the log was
    /// not rewritten. By itself, this method verifies only that one event.
    ///
    /// # Errors
    /// As [`Reader::event`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Checksum, Draft, Head};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let door = BTreeMap::from([("by", "cat")]);
    /// let recorded = bus.append(Draft::new("door.opened", 1777593600.0, &door)?)?.head();
    /// bus.append(Draft::new("door.closed", 1777593601.0, &door)?)?;
    ///
    /// assert!(bus.reader().contains(recorded)?);
    /// let other = Head { checksum: Some(Checksum::of(b"another event")), ..recorded };
    /// assert!(!bus.reader().contains(other)?);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn contains(&self, head: Head) -> Result<bool> {
        if head.index == 0 {
            return Ok(head == Head::default());
        }
        match self.event(head.index) {
            // The log still tells the checksum of the last event before its start.
            Err(Error::Retired { retired, .. }) if retired.head().index == head.index => {
                Ok(retired.head() == head)
            }
            event => Ok(event?.is_some_and(|event| event.head() == head)),
        }
    }

    /// Returns the last valid event of the log. Reads only the tail.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the tail is not valid, [`Error::Missing`] if the log is shorter than
    /// its sync mark or its snapshot records, [`Error::Io`].
    pub fn head(&self) -> Result<Head> {
        let (head, sync_mark) = match self.durable_log()? {
            OpenedLog::Missing(sync_mark) => (Head::default(), sync_mark),
            OpenedLog::Present(DurableLog { file, end, sync_mark }) => {
                let head = recover::head(&file, sync_mark, end);
                match head.map_err(Error::io("read its tail", &self.log_path()))? {
                    Some(head) => (head, sync_mark),
                    None => return Err(locate_damage(&*self.storage, &file, sync_mark, end)),
                }
            }
        };
        check_sync_mark_not_ahead(&*self.storage, head.index, sync_mark)?;
        check_snapshot_not_ahead(&self.storage, head.index)?;
        Ok(head)
    }

    /// Returns what the lock file records about how far the log is synced, without checking it
    /// against the log; [`Reader::verify`] does that. For a diagnosis: a mark that cannot be read
    /// counts as missing everywhere else, so the next append writes a new one.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::{Bus, LOCK, StoredSyncMark};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// assert!(matches!(bus.reader().sync_mark()?, StoredSyncMark::Valid { .. }));
    /// std::fs::write(dir.path().join(LOCK), [0; 256]).unwrap();
    /// assert!(matches!(bus.reader().sync_mark()?, StoredSyncMark::Unreadable { .. }));
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn sync_mark(&self) -> Result<StoredSyncMark> {
        let path = self.storage.path(LOCK);
        let Some(lock_file) = open_lock_file(&*self.storage)? else { return Ok(StoredSyncMark::NoLockFile) };
        // A writer replaces the mark under the exclusive lock.
        lock_wait::lock(&lock_file, Lock::Shared, &path, LOCK_TIMEOUT)?;
        let stored = StoredSyncMark::read(&*lock_file);
        lock_file.unlock().map_err(Error::io("unlock it", &path))?;
        stored.map_err(Error::io("read it", &path))
    }

    /// Returns the path of the log, which need not exist.
    pub fn log_path(&self) -> PathBuf {
        self.storage.path(LOG)
    }

    /// Returns the snapshot; `None` if it is missing or unreadable. [`Reader::verify`] checks
    /// whether it matches the log.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn snapshot(&self) -> Result<Option<Snapshot>> {
        Ok(match Snapshot::read(&*self.storage)? {
            StoredSnapshot::Snapshot(snapshot, _) => Some(snapshot),
            StoredSnapshot::Missing | StoredSnapshot::Unreadable(_) => None,
        })
    }

    /// Returns the length of the log in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn size_bytes(&self) -> Result<u64> {
        Ok(match self.durable_log()? {
            OpenedLog::Present(log) => log.end,
            OpenedLog::Missing(_) => 0,
        })
    }

    /// Scans the log up to its present end, see [`integrity::scan`]. Also returns which events were
    /// retired.
    pub(crate) fn scan<T: Default>(
        &self,
        threads: NonZeroUsize,
        visit: impl Fn(&mut T, u64, &Line<'_>, Option<usize>) + Sync,
        merge: impl FnMut(&mut T, &mut [u8]) -> io::Result<()> + Send,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Integrity, Option<Arc<Retired>>)> {
        match self.durable_log()? {
            OpenedLog::Present(DurableLog { file, end, sync_mark }) => {
                let scanned = integrity::scan(&file, end, sync_mark, threads, visit, merge, progress);
                let integrity = scanned.map_err(Error::io("read it", &self.log_path()))?;
                Ok((integrity, file.retired().cloned()))
            }
            OpenedLog::Missing(sync_mark) => {
                let recorded = sync_mark.map(|mark| mark.head.index).filter(|events| *events > 0);
                let finding = recorded.map_or(Finding::Sound, Finding::Missing);
                Ok((Integrity { head: Head::default(), finding }, None))
            }
        }
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(crate) fn shared_storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn durable_log(&self) -> Result<OpenedLog> {
        OpenedLog::open(&self.storage)
    }
}

impl Bus {
    /// Returns a reader of the same bus.
    pub fn reader(&self) -> Reader {
        Reader::open_in(Arc::clone(self.storage()))
    }
}

/// Verified events in order, see [`Reader::events`]. Ends at the end that the log had at the start,
/// at a torn tail, or after the first error.
pub struct Events {
    storage: Arc<dyn Storage>,
    /// `None` if there was no log at the start.
    pub(crate) lines: Option<Lines>,
    /// The last verified event, or the event that reading started after.
    pub(crate) head: Head,
    /// Index of the first event to return. If bisection failed, reading starts at the first event
    /// and verifies those before `from` without returning them.
    pub(crate) from: u64,
    torn_bytes: u64,
    /// Offset of an invalid line that was read again once, see [`Events::read`].
    retry_offset: Option<u64>,
    failed: bool,
    /// The sync mark at the moment when the end was sampled.
    sync_mark: Option<SyncMark>,
    /// The log was compared with the snapshot once. Later snapshots are bound to later events.
    snapshot_checked: bool,
    /// Where the last verified event lies, once that is known.
    last_line: Option<LineStart>,
}

/// The first bytes of a verified line. They include the checksum of a canonical line, so they
/// reveal a log that was rewritten in place.
struct LineStart {
    offset: u64,
    length: usize,
    bytes: [u8; LINE_START_BYTES],
}

/// Covers the members `as_of` and `checksum`, which come first.
const LINE_START_BYTES: usize = 128;

impl LineStart {
    fn of(offset: u64, line: &[u8]) -> Self {
        let length = line.len().min(LINE_START_BYTES);
        let mut bytes = [0; LINE_START_BYTES];
        bytes[..length].copy_from_slice(&line[..length]);
        Self { offset, length, bytes }
    }

    fn is_in(&self, file: &dyn StorageFile) -> io::Result<bool> {
        let mut bytes = [0; LINE_START_BYTES];
        let read = read_up_to(file, &mut bytes[..self.length], self.offset)?;
        Ok(bytes[..read] == self.bytes[..self.length])
    }
}

impl Events {
    fn open(storage: Arc<dyn Storage>, from: u64) -> Result<Self> {
        let log = OpenedLog::open(&storage)?;
        let mut events = Self {
            storage,
            lines: None,
            head: Head::default(),
            from,
            torn_bytes: 0,
            retry_offset: None,
            failed: false,
            sync_mark: None,
            snapshot_checked: false,
            last_line: None,
        };
        events.start(log)?;
        Ok(events)
    }

    fn start(&mut self, log: OpenedLog) -> Result<()> {
        let DurableLog { file, end, sync_mark } = match log {
            OpenedLog::Present(log) => log,
            OpenedLog::Missing(sync_mark) => {
                self.sync_mark = sync_mark;
                return Ok(());
            }
        };
        self.sync_mark = sync_mark;
        let start = find_event(&file, end, self.from - 1).map_err(Error::io("read it", &self.log_path()))?;
        // If an invalid line stopped the bisection, reading starts with the log and reports the
        // first fault.
        let (offset, head) = start.unwrap_or((file.start().offset, file.start().head));
        self.head = head;
        self.lines = Some(Lines::new(file, offset, end));
        Ok(())
    }

    /// Returns the length of the torn tail in bytes once reading has met it; 0 otherwise.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Returns the byte offset of the next event and of the end.
    pub fn position(&self) -> Progress {
        let (bytes, bytes_total) = self.lines.as_ref().map_or((0, 0), |lines| (lines.offset(), lines.end()));
        Progress { bytes, bytes_total }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.storage.path(LOG)
    }

    /// Returns the next event as the iterator does, with its line exactly as the log holds it:
    /// without the line break, canonical or not. `None` at the end, and after the first error.
    ///
    /// # Errors
    /// As the items of [`Reader::events`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// bus.append(Draft::new("door.opened", 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    /// let (event, line) = bus.reader().events(1)?.next_with_line()?.unwrap();
    /// assert_eq!(line, event.line());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn next_with_line(&mut self) -> Result<Option<(Event, String)>> {
        if self.failed {
            return Ok(None);
        }
        let next = self.read(with_line);
        self.failed = next.is_err();
        next
    }

    /// Reads the next event and converts it and its line with `convert`. After an error, another
    /// call returns the same error, never an event after the fault.
    pub(crate) fn read<T>(&mut self, convert: fn(Event, &[u8]) -> T) -> Result<Option<T>> {
        let Some(lines) = &mut self.lines else { return self.end_of_log() };
        let path = self.storage.path(LOG);
        loop {
            let Some(raw) = lines.next().map_err(Error::io("read it", &path))? else {
                return self.end_of_log();
            };
            let byte_offset = raw.offset;
            let verified = raw.bytes.ok_or(FaultKind::LineTooLong).and_then(Line::read).and_then(|line| {
                let head = line.verify_after(self.head)?;
                Ok((head, if head.index < self.from { None } else { line.event(head) }))
            });
            if let Ok((head, event)) = verified {
                self.head = head;
                self.last_line = raw.bytes.map(|line| LineStart::of(byte_offset, line));
                if let Some(event) = event {
                    return Ok(Some(convert(event, raw.bytes.unwrap_or_default())));
                }
                continue;
            }
            lines.seek(byte_offset);
            self.sync_mark = sample_end(&*self.storage, lines)?;
            // While this reader reads a torn tail, an appender may quarantine it and write an event
            // in its place. So an invalid line is read once more before it counts.
            if self.retry_offset.replace(byte_offset) != Some(byte_offset) {
                continue;
            }
            check_not_rewritten(&path, self.head, lines, &mut self.last_line)?;
            let tail = Lines::new(lines.file().clone(), byte_offset, lines.end());
            let scanned = integrity::scan_tail(tail, self.head, self.sync_mark);
            let integrity = scanned.map_err(Error::io("read it", &path))?;
            return match integrity.finding {
                Finding::Sound => continue,
                Finding::Torn { bytes, .. } | Finding::Truncated { bytes, .. } => {
                    self.torn_bytes = bytes;
                    lines.set_end(byte_offset);
                    self.end_of_log()
                }
                Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
                Finding::Fault(fault) => Err(Error::Damaged { path, fault }),
                Finding::Missing(recorded) => {
                    Err(missing_events(&*self.storage, self.head.index, recorded, LOCK))
                }
            };
        }
    }

    /// Returns `None` at the end of the log, or an error if the log once held more events.
    fn end_of_log<T>(&mut self) -> Result<Option<T>> {
        check_sync_mark_not_ahead(&*self.storage, self.head.index, self.sync_mark)?;
        if !self.snapshot_checked {
            check_snapshot_not_ahead(&self.storage, self.head.index)?;
            self.snapshot_checked = true;
        }
        Ok(None)
    }

    /// Makes the next read visit a torn tail again, because an event may be in its place by now.
    pub(crate) fn revisit_torn_tail(&mut self) -> Result<()> {
        if let Some(lines) = &mut self.lines
            && std::mem::take(&mut self.torn_bytes) > 0
        {
            self.sync_mark = sample_end(&*self.storage, lines)?;
        }
        Ok(())
    }

    /// Moves the end to the present end of the log. Returns whether there is more to read.
    pub(crate) fn refresh_end(&mut self) -> Result<bool> {
        let Some(lines) = &mut self.lines else {
            self.start(OpenedLog::open(&self.storage)?)?;
            return Ok(self.lines.is_some());
        };
        let path = self.storage.path(LOG);
        let is_current = self.storage.is_current(LOG, lines.file());
        if !is_current.map_err(Error::io("look it up", &path))? {
            let reopened = lines.file().reopen_sealed(Access::Read);
            let Some(file) = reopened.map_err(Error::io("open it again", &path))? else {
                return Err(Error::Changed {
                    path,
                    reason: "was moved away or replaced; open the bus again to read the log that is there now",
                });
            };
            // That the last event is in its place is checked below.
            lines.set_file(file);
        }
        let mut file = lines.file().clone();
        let (end, sync_mark) = durable_end(&*self.storage, &mut file)?;
        lines.set_file(file);
        if end < lines.offset() {
            return Err(Error::Changed {
                path,
                reason: "is shorter than it was; open the bus again to read what is left of it",
            });
        }
        check_not_rewritten(&path, self.head, lines, &mut self.last_line)?;
        self.sync_mark = sync_mark;
        // A torn tail that was read already is not more to read, unless the log has grown past it.
        let has_grown = end > lines.end().max(lines.offset() + self.torn_bytes);
        if has_grown {
            lines.set_end(end);
            self.torn_bytes = 0;
        }
        Ok(has_grown)
    }
}

/// Samples the durable end and moves the end of `lines` there. Returns the sync mark.
fn sample_end(storage: &dyn Storage, lines: &mut Lines) -> Result<Option<SyncMark>> {
    let mut file = lines.file().clone();
    let (end, sync_mark) = durable_end(storage, &mut file)?;
    lines.set_file(file);
    lines.set_end(end);
    Ok(sync_mark)
}

/// Checks that the last verified event is still in its place, so that a log that was rewritten in
/// place is not taken for one that has grown. Finds that event first if reading started after it.
fn check_not_rewritten(
    path: &Path,
    head: Head,
    lines: &Lines,
    last_line: &mut Option<LineStart>,
) -> Result<()> {
    let reading = || Error::io("read it", path);
    let rewritten = || Error::Changed {
        path: path.to_owned(),
        reason: "was rewritten while it was read; open the bus again to read what is there now",
    };
    if head.index == 0 {
        return Ok(());
    }
    if let Some(last_line) = last_line {
        return if last_line.is_in(lines.file()).map_err(reading())? { Ok(()) } else { Err(rewritten()) };
    }
    let found = last_line_before(lines.file(), lines.offset()).map_err(reading())?;
    let bytes = found.as_ref().and_then(|line| line.bytes.as_deref()).unwrap_or_default();
    let is_head = Line::read(bytes).is_ok_and(|line| {
        line.index() == Some(head.index) && line.verify_alone(head.index).ok() == head.checksum
    });
    *last_line = found.as_ref().filter(|_| is_head).map(|line| LineStart::of(line.offset, bytes));
    if is_head { Ok(()) } else { Err(rewritten()) }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.read(event_only);
        self.failed = event.is_err();
        event.transpose()
    }
}

/// A conversion for [`Events::read`] that drops the line.
pub(crate) fn event_only(event: Event, _: &[u8]) -> Event {
    event
}

/// A conversion for [`Events::read`] that keeps the line. It is UTF-8, since it was parsed as an
/// event.
pub(crate) fn with_line(event: Event, line: &[u8]) -> (Event, String) {
    (event, String::from_utf8_lossy(line).into_owned())
}
